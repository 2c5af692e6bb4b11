/* Stands in for cuda/ in builds without CUDA. */
#include "tensor/cuda_team.h"

aq_status aq_cuda_open(int device, aq_backend **backend) {
    *backend = NULL;
    return AQ_FAIL(AQ_UNSUPPORTED, "this build has no CUDA backend (device %d was asked for)",
                   device);
}

int aq_cuda_device_count(void) {
    return 0;
}

aq_status aq_cuda_device_id(int device, unsigned char id[16]) {
    (void)id;
    return AQ_FAIL(AQ_UNSUPPORTED, "this build has no CUDA backend (device %d was asked for)",
                   device);
}

static aq_status no_team(void) {
    return AQ_FAIL(AQ_UNSUPPORTED, "this build has no CUDA backend, and so no teams over NCCL");
}

aq_status aq_cuda_team_id(unsigned char id[AQ_CUDA_TEAM_ID]) {
    (void)id;
    return no_team();
}

aq_status aq_cuda_team_device(aq_backend *backend, unsigned char device[16]) {
    (void)backend, (void)device;
    return no_team();
}

aq_status aq_cuda_team_open(aq_backend *backend, const unsigned char id[AQ_CUDA_TEAM_ID],
                            const aq_team *place, const aq_patience *patience,
                            aq_cuda_team **team) {
    (void)backend, (void)id, (void)place, (void)patience;
    *team = NULL;
    return no_team();
}

void aq_cuda_team_close(aq_cuda_team *team) {
    (void)team;
}

aq_status aq_cuda_team_sum(aq_cuda_team *team, aq_tensor *x) {
    (void)team, (void)x;
    return no_team();
}

aq_status aq_cuda_team_gather_rows(aq_cuda_team *team, const aq_rows *rows, aq_tensor *x) {
    (void)team, (void)rows, (void)x;
    return no_team();
}

aq_status aq_cuda_team_share(aq_cuda_team *team, int root, aq_tensor *x) {
    (void)team, (void)root, (void)x;
    return no_team();
}
