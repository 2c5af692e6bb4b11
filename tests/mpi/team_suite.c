#include "team_suite.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static aq_team team;

const aq_team *aq_test_team(void) {
    return &team;
}

static int node_rank(int *ranks) {
    MPI_Comm node;
    int rank;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &rank);
    MPI_Comm_size(node, ranks);
    MPI_Comm_free(&node);
    return rank;
}

bool aq_test_shares_gpu(void) {
    return getenv("AQLM_TEST_SHARED_GPU") != NULL;
}

static int run(const char *suite, const aq_case *cases, int count, int argc, char **argv) {
    int ranks, rank = node_rank(&ranks);
    bool cuda = argc > 1 && strcmp(argv[1], "cuda") == 0;
    int wanted = aq_test_shares_gpu() ? 1 : ranks, gpus = cuda ? aq_cuda_device_count() : wanted;
    if (gpus < wanted) {
        printf("skipped: %d ranks need %d GPUs, there are %d\n", ranks, wanted, gpus);
        return 77;
    }
    aq_backend *backend;
    aq_status status = cuda ? aq_cuda_open(rank % gpus, &backend) : aq_cpu_open(1, &backend);
    if (status == AQ_OK) status = aq_team_open(MPI_COMM_WORLD, backend, &team);
    if (status != AQ_OK) {
        printf("no team: %s\n", aq_error_text());
        return 1;
    }
    aq_test_use_backend(backend);
    int result = aq_test_main(suite, cases, count, argc, argv);
    aq_team_close(&team);
    aq_backend_close(backend);
    return result;
}

int aq_test_team_main(const char *suite, const aq_case *cases, int count, int argc, char **argv) {
    int provided;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided);
    int mine = run(suite, cases, count, argc, argv), worst;
    MPI_Allreduce(&mine, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Finalize();
    return worst;
}
