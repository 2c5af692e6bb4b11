#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <malloc.h>
#include <map>
#include <vector>

static constexpr size_t device_bytes = (size_t)8 << 30;
static constexpr size_t allocation_alignment = 256;
static constexpr unsigned char unwritten = 0xff; /* NaN as float, and no valid code or index */

static cudaError_t last_error = cudaSuccess;
static bool launch_unchecked;

struct emulated_copy {
    void *target;
    const void *source;
    size_t bytes;
};

struct emulated_stream {
    std::vector<emulated_copy> copies; /* not done yet */
};

struct emulated_event {
    cudaStream_t stream = nullptr;
};

static cudaStream_t the_stream;
static std::map<const char *, size_t> pinned; /* bytes from an address on */
static uint64_t used, most_used;              /* bytes of the pool */

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

static void do_copies(cudaStream_t stream) {
    for (const emulated_copy &copy : stream->copies) memmove(copy.target, copy.source, copy.bytes);
    stream->copies.clear();
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

/* Streams are allocations, so that one which is not destroyed is a leak. The first is the one that
 * kernels run on; others copy when somebody waits for them. */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = new emulated_stream;
    if (!the_stream) the_stream = *stream;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (!stream->copies.empty()) emulated_die("a stream is destroyed before it has copied");
    if (stream == the_stream) the_stream = nullptr;
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (launch_unchecked) emulated_die("a launch was not asked for its error");
    do_copies(stream);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new emulated_event;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    event->stream = stream;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->stream) do_copies(event->stream);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) {
    return cudaEventSynchronize(event);
}

cudaError_t emulated_register(void *data, size_t bytes) {
    pinned[static_cast<const char *>(data)] = bytes;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *data) {
    return pinned.erase(static_cast<const char *>(data)) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *data) {
    const char *host = static_cast<const char *>(data);
    auto above = pinned.upper_bound(host);
    bool inside = above != pinned.begin() &&
                  host - std::prev(above)->first < (ptrdiff_t)std::prev(above)->second;
    found->type = inside ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
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
    if (stream == the_stream)
        memmove(target, source, bytes);
    else
        stream->copies.push_back({target, source, bytes});
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) {
    emulated_check_stream(stream, "a fill");
    memset(target, value, bytes);
    return cudaSuccess;
}

} /* extern "C" */
