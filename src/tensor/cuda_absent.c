/* Stands in for cuda/ in builds without CUDA. */
#include "tensor/ops.h"

aq_status aq_cuda_open(int device, aq_backend **backend) {
    *backend = NULL;
    return AQ_FAIL(AQ_UNSUPPORTED, "this build has no CUDA backend (device %d was asked for)",
                   device);
}

int aq_cuda_device_count(void) {
    return 0;
}
