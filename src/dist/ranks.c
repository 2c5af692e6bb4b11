#include "dist/ranks.h"

#include "base/launch.h"
#include "dist/polling.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXT_SIZE = 1024 };

/* Ranks that may use the same cores share them evenly; cores that a launcher gave to one rank alone
 * are its own: mine * (cores of the node's ranks) / (cores of each, added up). */
static int share_cores(MPI_Comm node) {
    cpu_set_t mine, all;
    CPU_ZERO(&mine);
    sched_getaffinity(0, sizeof mine, &mine);
    int count = CPU_COUNT(&mine), sum;
    MPI_Allreduce(&mine, &all, sizeof mine, MPI_BYTE, MPI_BOR, node);
    MPI_Allreduce(&count, &sum, 1, MPI_INT, MPI_SUM, node);
    int share = sum > 0 ? count * CPU_COUNT(&all) / sum : 1;
    return share > 1 ? share : 1;
}

/* A process that nobody launched has nobody to talk to: without these Open MPI starts a daemon for
 * it and looks at networks and graphics cards, for 0.4 s. What the user has set counts. */
static void expect_nobody(void) {
    static const char *const settings[][2] = {{"OMPI_MCA_ess_singleton_isolated", "1"},
                                              {"OMPI_MCA_pml", "ob1"},
                                              {"OMPI_MCA_btl", "self"},
                                              {"HWLOC_COMPONENTS", "-opencl,-gl"}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        setenv(settings[i][0], settings[i][1], 0);
}

aq_status aq_ranks_open(aq_ranks *ranks) {
    int provided;
    MPI_Comm node;
    if (!aq_launched()) expect_nobody();
    MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &ranks->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks->size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &ranks->local_rank);
    MPI_Comm_size(node, &ranks->local_size);
    ranks->cores = share_cores(node);
    MPI_Comm_free(&node);
    AQ_REQUIRE(provided == MPI_THREAD_MULTIPLE, AQ_COMM,
               "this MPI does not let several threads communicate (MPI_THREAD_MULTIPLE), which the "
               "coordinator needs");
    return AQ_OK;
}

void aq_ranks_close(void) {
    MPI_Finalize();
}

static int least(int mine) {
    int result;
    MPI_Request request;
    MPI_Iallreduce(&mine, &result, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD, &request);
    aq_polling_wait(&request);
    return result;
}

typedef struct failure {
    aq_status code;
    char text[TEXT_SIZE];
} failure;

aq_status aq_ranks_agree(const aq_ranks *ranks, aq_status mine) {
    int first = least(mine == AQ_OK ? ranks->size : ranks->rank);
    if (first == ranks->size) return AQ_OK;
    failure told = {.code = mine};
    if (ranks->rank == first) snprintf(told.text, sizeof told.text, "%s", aq_error_text());
    MPI_Request request;
    MPI_Ibcast(&told, sizeof told, MPI_BYTE, first, MPI_COMM_WORLD, &request);
    aq_polling_wait(&request);
    AQ_FAIL(told.code, "%s", told.text);
    return first == 0 ? told.code : aq_error_at(told.code, "rank %d", first);
}

bool aq_ranks_all(const aq_ranks *ranks, bool mine) {
    return ranks->size == 1 ? mine : least(mine) != 0;
}

void aq_ranks_sum(const aq_ranks *ranks, double *values, int count) {
    MPI_Request request;
    if (ranks->size == 1) return;
    MPI_Iallreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, &request);
    aq_polling_wait(&request);
}

int aq_ranks_threads(const aq_ranks *ranks, long wanted) {
    const char *environment = getenv("OMP_NUM_THREADS");
    if (wanted == 0 && environment) wanted = strtol(environment, NULL, 10);
    return wanted > 0 ? (int)wanted : ranks->cores;
}
