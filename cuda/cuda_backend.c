#include "cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE_BYTES = 32 << 20, MIN_CAPABILITY = 8 };

aq_status cuda_raise(cudaError_t code, const char *file, int line) {
    cudaGetLastError();
    return aq_raise(code == cudaErrorMemoryAllocation ? AQ_MEMORY : AQ_DEVICE, file, line,
                    "CUDA: %s (%s)", cudaGetErrorString(code), cudaGetErrorName(code));
}

aq_status cuda_raise_blas(cublasStatus_t code, const char *file, int line) {
    return aq_raise(code == CUBLAS_STATUS_ALLOC_FAILED ? AQ_MEMORY : AQ_DEVICE, file, line,
                    "cuBLAS: %s", cublasGetStatusName(code));
}

static cuda_state *state_of(const aq_backend *backend) {
    return backend->state;
}

static aq_status cuda_finish(aq_backend *backend) {
    CUDA_TRY(cudaStreamSynchronize(state_of(backend)->stream));
    return AQ_OK;
}

/* Memory that the pool holds but nobody uses is free for the next allocation. */
static aq_status free_memory(const cuda_state *state, size_t *free_bytes, size_t *total_bytes) {
    cudaMemPool_t pool;
    uint64_t reserved, used;
    CUDA_TRY(cudaMemGetInfo(free_bytes, total_bytes));
    CUDA_TRY(cudaDeviceGetDefaultMemPool(&pool, state->device));
    CUDA_TRY(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    CUDA_TRY(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
    *free_bytes += reserved > used ? (size_t)(reserved - used) : 0;
    return AQ_OK;
}

static aq_status cuda_memory(aq_backend *backend, size_t *free_bytes, size_t *total_bytes) {
    return free_memory(state_of(backend), free_bytes, total_bytes);
}

static aq_status cuda_peak(aq_backend *backend, size_t *bytes) {
    cudaMemPool_t pool;
    uint64_t most;
    CUDA_TRY(cudaDeviceGetDefaultMemPool(&pool, state_of(backend)->device));
    CUDA_TRY(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &most));
    *bytes = (size_t)most + WORKSPACE_BYTES;
    return AQ_OK;
}

static void cuda_device(const aq_backend *backend, char *name, size_t size) {
    struct cudaDeviceProp found;
    if (cudaGetDeviceProperties(&found, state_of(backend)->device) == cudaSuccess)
        snprintf(name, size, "%s", found.name);
    else
        cudaGetLastError();
}

aq_status cuda_take(const cuda_state *state, size_t bytes, void **data) {
    cudaError_t code = cudaMallocAsync(data, bytes, state->stream);
    if (code != cudaErrorMemoryAllocation) {
        CUDA_TRY(code);
        return AQ_OK;
    }
    cudaGetLastError();
    *data = NULL;
    size_t free_bytes = 0, total_bytes = 0;
    AQ_TRY(free_memory(state, &free_bytes, &total_bytes));
    return AQ_FAIL(AQ_MEMORY,
                   "%.3f GB of GPU memory were asked for, but only %.3f of %.3f GB are free",
                   1e-9 * (double)bytes, 1e-9 * (double)free_bytes, 1e-9 * (double)total_bytes);
}

static aq_status cuda_allocate(aq_backend *backend, size_t bytes, void **data) {
    return cuda_take(state_of(backend), bytes, data);
}

static void cuda_release(aq_backend *backend, void *data) {
    cudaFreeAsync(data, state_of(backend)->stream);
}

static aq_status cuda_pin_host(aq_backend *backend, void *data, size_t bytes) {
    (void)backend;
    CUDA_TRY(cudaHostRegister(data, bytes, cudaHostRegisterDefault));
    return AQ_OK;
}

static void cuda_unpin_host(aq_backend *backend, void *data) {
    cuda_finish(backend);
    if (cudaHostUnregister(data) != cudaSuccess) cudaGetLastError();
}

static aq_status cuda_copy(aq_backend *backend, const void *source, void *target, size_t bytes) {
    CUDA_TRY(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice,
                             state_of(backend)->stream));
    return AQ_OK;
}

static aq_status cuda_zero(aq_backend *backend, void *target, size_t bytes) {
    CUDA_TRY(cudaMemsetAsync(target, 0, bytes, state_of(backend)->stream));
    return AQ_OK;
}

static aq_status cuda_enter(aq_backend *backend) {
    CUDA_TRY(cudaSetDevice(state_of(backend)->device));
    return AQ_OK;
}

static aq_status cuda_another(const aq_backend *backend, aq_backend **another);

/* Also for a backend whose opening failed half-way. */
static void cuda_close(aq_backend *backend) {
    cuda_state *state = state_of(backend);
    if (state->stream) cudaStreamSynchronize(state->stream);
    if (state->blas) cublasDestroy(state->blas);
    if (state->workspace) cudaFree(state->workspace);
    cuda_transfer_close(state);
    if (state->stream) cudaStreamDestroy(state->stream);
    free(state);
    free(backend);
}

static const aq_ops cuda_ops = {
    .allocate = cuda_allocate,
    .release = cuda_release,
    .pin_host = cuda_pin_host,
    .unpin_host = cuda_unpin_host,
    .upload = cuda_upload,
    .upload_ahead = cuda_upload_ahead,
    .ahead_join = cuda_ahead_join,
    .download = cuda_download,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .finish = cuda_finish,
    .memory = cuda_memory,
    .peak = cuda_peak,
    .device = cuda_device,
    .another = cuda_another,
    .enter = cuda_enter,
    .close = cuda_close,
    .fill = cuda_fill,
    .convert = cuda_convert,
    .pick = cuda_pick,
    .axpby = cuda_axpby,
    .dot_add = cuda_dot_add,
    .count_nonfinite = cuda_count_nonfinite,
    .bias_add = cuda_bias_add,
    .bias_grad = cuda_bias_grad,
    .matmul = cuda_matmul,
    .gram_add = cuda_gram_add,
    .group_norms = cuda_group_norms,
    .scaled_vectors = cuda_scaled_vectors,
    .entry_norms = cuda_entry_norms,
    .nearest = cuda_nearest,
    .subtract_entries = cuda_subtract_entries,
    .sort_codes = cuda_sort_codes,
    .random_head = cuda_random_head,
    .cluster_sums = cuda_cluster_sums,
    .code_sums = cuda_code_sums,
    .cluster_means = cuda_cluster_means,
    .decode = cuda_decode,
    .coded_grad = cuda_coded_grad,
    .coded_diagonal = cuda_coded_diagonal,
    .scales_step = cuda_scales_step,
    .gradient_rescale = cuda_gradient_rescale,
    .conjugate_step = cuda_conjugate_step,
    .adam_step = cuda_adam_step,
    .search_groups = cuda_search_groups,
    .residual_update = cuda_residual_update,
    .trace_back = cuda_trace_back,
    .rms_norm = cuda_rms_norm,
    .rms_norm_grad = cuda_rms_norm_grad,
    .rotate = cuda_rotate,
    .attention = cuda_attention,
    .attention_grad = cuda_attention_grad,
    .silu_gate = cuda_silu_gate,
    .silu_gate_grad = cuda_silu_gate_grad,
    .cross_entropy_add = cuda_cross_entropy_add,
};

/* Without a driver cudaGetDeviceCount leaves its argument as it was. */
int aq_cuda_device_count(void) {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    cudaGetLastError();
    return 0;
}

aq_status aq_cuda_device_id(int device, unsigned char id[16]) {
    struct cudaDeviceProp properties;
    CUDA_TRY(cudaGetDeviceProperties(&properties, device));
    memcpy(id, properties.uuid.bytes, 16);
    return AQ_OK;
}

static aq_status check_device(int device) {
    int count = 0, major = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    cudaGetLastError();
    AQ_REQUIRE(code == cudaSuccess, AQ_DEVICE, "no CUDA device can be used: %s",
               cudaGetErrorString(code));
    AQ_REQUIRE(device >= 0 && device < count, AQ_DEVICE,
               "CUDA device %d was asked for, but this machine has %d (numbered from 0)", device,
               count);
    CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    AQ_REQUIRE(major >= MIN_CAPABILITY, AQ_DEVICE,
               "CUDA device %d has compute capability %d.x, but %d.0 or newer is needed", device,
               major, MIN_CAPABILITY);
    return AQ_OK;
}

/* Freed tensors' memory stays in the pool, so that allocating is cheap in the inner loops. */
static aq_status open_pool(const cuda_state *state) {
    cudaMemPool_t pool;
    uint64_t keep_all = UINT64_MAX, forget = 0;
    CUDA_TRY(cudaSetDevice(state->device));
    CUDA_TRY(cudaDeviceGetDefaultMemPool(&pool, state->device));
    CUDA_TRY(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_all));
    CUDA_TRY(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &forget));
    return AQ_OK;
}

/* Of the first backend the workspace lies outside of the pool: its peak counts it by itself. */
static aq_status open_state(cuda_state *state, bool first) {
    if (first) AQ_TRY(open_pool(state));
    CUDA_TRY(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking));
    AQ_TRY(cuda_transfer_open(state));
    if (first)
        CUDA_TRY(cudaMalloc(&state->workspace, WORKSPACE_BYTES));
    else
        CUDA_TRY(cudaMallocAsync(&state->workspace, WORKSPACE_BYTES, state->stream));
    CUBLAS_TRY(cublasCreate(&state->blas));
    CUBLAS_TRY(cublasSetStream(state->blas, state->stream));
    CUBLAS_TRY(cublasSetWorkspace(state->blas, state->workspace, WORKSPACE_BYTES));
    return AQ_OK;
}

static aq_status name_kernels(int device, aq_backend *backend) {
    int major, minor, processors;
    CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    CUDA_TRY(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    CUDA_TRY(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    snprintf(backend->kernels, sizeof backend->kernels,
             "compute capability %d.%d, %d multiprocessors, CUDA %d.%d", major, minor, processors,
             CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    return AQ_OK;
}

static aq_status open_backend(int device, bool first, aq_backend **backend) {
    *backend = NULL;
    aq_backend *made = calloc(1, sizeof *made);
    cuda_state *state = calloc(1, sizeof *state);
    if (!made || !state) {
        free(made);
        free(state);
        return AQ_FAIL(AQ_MEMORY, "no memory for the CUDA backend's state");
    }
    state->device = device;
    *made = (aq_backend){
        .name = "cuda", .halves = true, .ahead = true, .ops = &cuda_ops, .state = state};
    aq_status status = open_state(state, first);
    if (status == AQ_OK) status = name_kernels(device, made);
    if (status != AQ_OK) {
        cuda_close(made);
        return aq_error_at(status, "CUDA device %d", device);
    }
    *backend = made;
    return AQ_OK;
}

aq_status aq_cuda_open(int device, aq_backend **backend) {
    *backend = NULL;
    AQ_TRY(check_device(device));
    return open_backend(device, true, backend);
}

static aq_status cuda_another(const aq_backend *backend, aq_backend **another) {
    return open_backend(state_of(backend)->device, false, another);
}
