/* A team's data over NCCL. The communicator does not block (ncclConfig_t), so that every wait is a
 * loop of ours which can end in ncclCommAbort. */
#include "cuda.h"

#include "base/clock.h"
#include "tensor/cuda_team.h"

#include <nccl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct aq_cuda_team {
    aq_backend *backend;
    int rank, size;
    aq_patience patience;
    ncclComm_t comm;  /* NULL once aborted */
    cudaEvent_t done; /* of the last call's work */
};

_Static_assert(AQ_CUDA_TEAM_ID == NCCL_UNIQUE_ID_BYTES, "an id has NCCL's size");

static cudaStream_t stream_of(const aq_cuda_team *team) {
    return ((cuda_state *)team->backend->state)->stream;
}

static aq_status raise_nccl(ncclResult_t code, const char *what) {
    return AQ_FAIL(AQ_COMM, "NCCL: %s: %s", what, ncclGetErrorString(code));
}

aq_status aq_cuda_team_id(unsigned char id[AQ_CUDA_TEAM_ID]) {
    ncclUniqueId unique;
    ncclResult_t code = ncclGetUniqueId(&unique);
    if (code != ncclSuccess) return raise_nccl(code, "no id for a team");
    memcpy(id, &unique, sizeof unique);
    return AQ_OK;
}

aq_status aq_cuda_team_device(aq_backend *backend, unsigned char device[16]) {
    return aq_cuda_device_id(((cuda_state *)backend->state)->device, device);
}

/* ---- waiting ---- */

/* Ends what the GPU is waiting for, too. */
static void abandon(aq_cuda_team *team) {
    if (team->comm) ncclCommAbort(team->comm);
    team->comm = NULL;
}

static void pause_after(double waited) {
    if (waited < 2e-3) {
        sched_yield();
        return;
    }
    const struct timespec pause = {.tv_nsec = 100 * 1000};
    nanosleep(&pause, NULL);
}

/* `*pending`: what a wait is for is not there yet. */
static aq_status look(aq_cuda_team *team, bool queued, bool *pending) {
    ncclResult_t code = ncclSuccess, asked = ncclCommGetAsyncError(team->comm, &code);
    if (asked != ncclSuccess) return raise_nccl(asked, "a team's state cannot be had");
    if (code != ncclSuccess && code != ncclInProgress)
        return raise_nccl(code, "a member of the team was lost");
    *pending = code == ncclInProgress;
    if (*pending || !queued) return AQ_OK;
    cudaError_t event = cudaEventQuery(team->done);
    *pending = event == cudaErrorNotReady;
    if (!*pending) CUDA_TRY(event);
    return AQ_OK;
}

/* Waits until NCCL has taken the call, or (`queued`) until the GPU has done it. */
static aq_status wait_for(aq_cuda_team *team, bool queued) {
    double start = aq_seconds();
    bool pending = true;
    while (pending) {
        aq_status status = look(team, queued, &pending);
        double waited = aq_seconds() - start;
        if (status == AQ_OK && pending) status = team->patience.check(team->patience.state, waited);
        if (status != AQ_OK) {
            abandon(team);
            return status;
        }
        if (pending) pause_after(waited);
    }
    return AQ_OK;
}

/* `code` is what NCCL answered to the call. */
static aq_status finish(aq_cuda_team *team, ncclResult_t code, const char *what) {
    if (code != ncclSuccess && code != ncclInProgress) {
        abandon(team);
        return raise_nccl(code, what);
    }
    AQ_TRY(wait_for(team, false));
    CUDA_TRY(cudaEventRecord(team->done, stream_of(team)));
    return wait_for(team, true);
}

static aq_status check_open(const aq_cuda_team *team) {
    AQ_REQUIRE(team->comm, AQ_COMM, "NCCL: the team has lost a member");
    return AQ_OK;
}

/* ---- opening ---- */

static aq_status open_comm(aq_cuda_team *team, const unsigned char *id) {
    ncclUniqueId unique;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    memcpy(&unique, id, sizeof unique);
    CUDA_TRY(cudaSetDevice(((cuda_state *)team->backend->state)->device));
    CUDA_TRY(cudaEventCreateWithFlags(&team->done, cudaEventDisableTiming));
    ncclResult_t code =
        ncclCommInitRankConfig(&team->comm, team->size, unique, team->rank, &config);
    if (code != ncclSuccess && code != ncclInProgress)
        return raise_nccl(code, "a team cannot be made");
    return wait_for(team, false);
}

aq_status aq_cuda_team_open(aq_backend *backend, const unsigned char id[AQ_CUDA_TEAM_ID],
                            const aq_team *place, const aq_patience *patience,
                            aq_cuda_team **team) {
    aq_cuda_team *made = calloc(1, sizeof *made);
    *team = NULL;
    AQ_REQUIRE(made, AQ_MEMORY, "no memory for the state of a team");
    *made = (aq_cuda_team){
        .backend = backend, .rank = place->rank, .size = place->size, .patience = *patience};
    aq_status status = open_comm(made, id);
    if (status != AQ_OK)
        aq_cuda_team_close(made);
    else
        *team = made;
    return status;
}

/* Finalizing would wait for members that may be gone; all calls are over, so nothing is lost. */
void aq_cuda_team_close(aq_cuda_team *team) {
    if (!team) return;
    abandon(team);
    if (team->done) cudaEventDestroy(team->done);
    free(team);
}

/* ---- calls ---- */

static ncclDataType_t type_of(aq_dtype dtype) {
    return dtype == AQ_F32 ? ncclFloat32 : dtype == AQ_F64 ? ncclFloat64 : ncclUint32;
}

aq_status aq_cuda_team_sum(aq_cuda_team *team, aq_tensor *x) {
    AQ_TRY(check_open(team));
    return finish(team,
                  ncclAllReduce(x->data, x->data, aq_tensor_count(x), type_of(x->dtype), ncclSum,
                                team->comm, stream_of(team)),
                  "a sum failed");
}

aq_status aq_cuda_team_gather_rows(aq_cuda_team *team, const aq_rows *rows, aq_tensor *x) {
    AQ_TRY(check_open(team));
    size_t row = aq_tensor_bytes(x) / x->shape[0];
    ncclResult_t code = ncclGroupStart();
    for (int m = 0; m < team->size && code == ncclSuccess; m++) {
        char *part = (char *)x->data + rows[m].first * row;
        code = ncclBroadcast(part, part, rows[m].count * row, ncclUint8, m, team->comm,
                             stream_of(team));
        if (code == ncclInProgress) code = ncclSuccess;
    }
    ncclResult_t ended = ncclGroupEnd();
    return finish(team, code == ncclSuccess ? ended : code, "a gathering failed");
}

aq_status aq_cuda_team_share(aq_cuda_team *team, int root, aq_tensor *x) {
    AQ_TRY(check_open(team));
    return finish(team,
                  ncclBroadcast(x->data, x->data, aq_tensor_bytes(x), ncclUint8, root, team->comm,
                                stream_of(team)),
                  "a sharing failed");
}
