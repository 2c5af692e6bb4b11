/* Stands in for CUDA's header of the same name, so that the kernels run on the CPU under
 * AddressSanitizer and UBSan, where no GPU is.
 *
 * launches.py turns a kernel's launches into calls and its shared memory into the emulator's; what
 * is left is C++. Each thread of a block is a fiber: it runs until it waits at a barrier or in a
 * shuffle, then the next one runs. Blocks run one after the other. Device memory is host memory.
 *
 * Found are
 * - accesses outside of an allocation or of an array in shared memory (AddressSanitizer), and
 *   vectors read where they are not aligned (UBSan);
 * - reads of unwritten memory: new device memory and a new block's shared memory hold NaN patterns;
 * - barriers that not all threads reach, shuffles with missing lanes;
 * - missing barriers: AQLM_EMULATION_ORDER is `ascending` (or not set), `descending` or `shuffled`,
 *   and threads and blocks run in that order, far apart from each other;
 * - reads of what another stream copies without waiting for it: it copies only then;
 * - launches past the limits of block, grid or shared memory, launches on another stream than
 *   the backend's, launches whose error nobody asked for, memory that is never freed.
 *
 * Not found are true races, what cuBLAS rounds, and whatever needs time or a driver. Here stands
 * what the kernels use of CUDA, no more: what a new kernel uses is added.
 */
#ifndef AQ_TESTS_EMULATION_CUDA_RUNTIME_H
#define AQ_TESTS_EMULATION_CUDA_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9
} cudaError_t;

typedef enum cudaMemcpyKind {
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
} cudaMemcpyKind;

typedef enum cudaMemPoolAttr {
    cudaMemPoolAttrReleaseThreshold,
    cudaMemPoolAttrReservedMemCurrent,
    cudaMemPoolAttrUsedMemCurrent,
    cudaMemPoolAttrUsedMemHigh
} cudaMemPoolAttr;

typedef enum cudaDeviceAttr {
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor,
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrMaxSharedMemoryPerBlockOptin
} cudaDeviceAttr;

typedef enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize } cudaFuncAttribute;

enum { cudaHostAllocDefault = 0, cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };

/* Host memory's kind: pinned is what was registered. */
enum { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeHost = 1 };
struct cudaPointerAttributes {
    int type;
};

#define CUDART_VERSION 12000

typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_pool *cudaMemPool_t;
typedef struct emulated_event *cudaEvent_t;

cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t code);
const char *cudaGetErrorName(cudaError_t code);

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *data);

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device);
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value);

cudaError_t emulated_allocate(void **data, size_t bytes);
struct cudaDeviceProp {
    char name[256];
    struct {
        char bytes[16];
    } uuid;
};
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device);
cudaError_t emulated_allocate_pool(void **data, size_t bytes);
cudaError_t emulated_register(void *data, size_t bytes);
cudaError_t cudaHostUnregister(void *data);
cudaError_t cudaFree(void *data);
cudaError_t cudaFreeHost(void *data);
cudaError_t cudaFreeAsync(void *data, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream);

/* CUDA's take a pointer to any pointer in C++ and to void in C. */
#define cudaMalloc(data, bytes) emulated_allocate((void **)(data), bytes)
#define cudaMallocAsync(data, bytes, stream) emulated_allocate_pool((void **)(data), bytes)
#define cudaHostRegister(data, bytes, flags) emulated_register(data, bytes)
#define cudaHostAlloc(data, bytes, flags) emulated_allocate((void **)(data), bytes)

/* Ends the program: the stream is not the one that was made. */
void emulated_check_stream(cudaStream_t stream, const char *what);

#ifdef __cplusplus
}
#include "device_code.h"
#endif
#endif
