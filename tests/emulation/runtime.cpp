#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <malloc.h>

static constexpr size_t device_bytes = (size_t)8 << 30;
static constexpr size_t allocation_alignment = 256;
static constexpr unsigned char unwritten = 0xff; /* NaN as float, and no valid code or index */

static cudaError_t last_error = cudaSuccess;
static bool launch_unchecked;
static cudaStream_t the_stream;
static uint64_t used, most_used; /* bytes of the pool */

/* Fiber stacks are not what AddressSanitizer's fake stacks expect, and an allocation that cannot be
 * had fails as it does on a GPU. */
extern "C" const char *__asan_default_options(void) {
    return "allocator_may_return_null=1:detect_stack_use_after_return=0:redzone=256";
}

void emulated_die(const char *what) {
    fprintf(stderr, "emulation: %s%s\n", what, emulated_place().c_str());
    abort();
}

void emulated_note_launch(cudaError_t code) {
    if (launch_unchecked) emulated_die("the launch before this one was not asked for its error");
    launch_unchecked = true;
    last_error = code;
}

extern "C" {

void emulated_check_stream(cudaStream_t stream, const char *what) {
    if (stream && stream == the_stream) return;
    fprintf(stderr, "emulation: %s is not on the backend's stream\n", what);
    abort();
}

cudaError_t cudaGetLastError(void) {
    cudaError_t code = last_error;
    last_error = cudaSuccess;
    launch_unchecked = false;
    return code;
}

const char *cudaGetErrorString(cudaError_t code) {
    return code == cudaErrorMemoryAllocation       ? "out of memory"
           : code == cudaErrorInvalidConfiguration ? "invalid configuration argument"
           : code == cudaErrorInvalidValue         ? "invalid argument"
                                                   : "no error";
}

const char *cudaGetErrorName(cudaError_t code) {
    return code == cudaErrorMemoryAllocation       ? "cudaErrorMemoryAllocation"
           : code == cudaErrorInvalidConfiguration ? "cudaErrorInvalidConfiguration"
           : code == cudaErrorInvalidValue         ? "cudaErrorInvalidValue"
                                                   : "cudaSuccess";
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int) {
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : (int)emulated_most_shared;
    return cudaSuccess;
}

/* The stream is an allocation, so that one which is not destroyed is a leak. */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = the_stream = static_cast<cudaStream_t>(malloc(1));
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    emulated_check_stream(stream, "what is waited for");
    if (launch_unchecked) emulated_die("a launch was not asked for its error");
    return cudaSuccess;
}

/* Whatever is queued is done by the time the call returns. */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = static_cast<cudaEvent_t>(malloc(1));
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t stream) {
    emulated_check_stream(stream, "an event");
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t) {
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *) {
    found->type = cudaMemoryTypeUnregistered;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    *free_bytes = *total_bytes = device_bytes;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int) {
    *pool = nullptr;
    return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void *value) {
    *static_cast<uint64_t *>(value) = attribute == cudaMemPoolAttrUsedMemHigh ? most_used : used;
    return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void *) {
    if (attribute == cudaMemPoolAttrUsedMemHigh) most_used = used;
    return cudaSuccess;
}

cudaError_t emulated_allocate(void **data, size_t bytes) {
    if (bytes == 0) emulated_die("0 bytes of device memory were asked for");
    *data = nullptr;
    if (bytes > device_bytes || posix_memalign(data, allocation_alignment, bytes) != 0)
        return last_error = cudaErrorMemoryAllocation;
    memset(*data, unwritten, bytes);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int) {
    memset(found, 0, sizeof *found);
    snprintf(found->name, sizeof found->name, "emulated");
    return cudaSuccess;
}

cudaError_t emulated_allocate_pool(void **data, size_t bytes) {
    cudaError_t code = emulated_allocate(data, bytes);
    if (code == cudaSuccess) used += malloc_usable_size(*data);
    if (used > most_used) most_used = used;
    return code;
}

cudaError_t cudaFree(void *data) {
    free(data);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *data) {
    free(data);
    return cudaSuccess;
}

cudaError_t cudaFreeAsync(void *data, cudaStream_t stream) {
    emulated_check_stream(stream, "memory that is freed");
    used -= malloc_usable_size(data);
    free(data);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
    emulated_check_stream(stream, "a copy");
    memmove(target, source, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) {
    emulated_check_stream(stream, "a fill");
    memset(target, value, bytes);
    return cudaSuccess;
}

} /* extern "C" */
