/* Kernels with planted faults: that the emulator finds each is what CMakeLists.txt asks of
 *
 *     emulator_faults FAULT
 *
 * which prints "right" or "wrong" where the fault shows in the result only. */
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

namespace {

enum { COUNT = 64 };

__global__ void store(int *data, int index) {
    if (threadIdx.x == 0) data[index] = 1;
}

__global__ void store_shared(int *data, int index) {
    __shared__ int tile[COUNT];
    if (threadIdx.x == 0) tile[index] = 1;
    __syncthreads();
    data[threadIdx.x] = tile[threadIdx.x];
}

/* Every thread takes what the one before it has put down. */
__global__ void shift(int *data, bool waits) {
    __shared__ int tile[COUNT];
    tile[threadIdx.x] = (int)threadIdx.x;
    if (waits) __syncthreads();
    data[threadIdx.x] = tile[(threadIdx.x + COUNT - 1) % COUNT];
}

/* The same without the step from the last thread to the first: right if they run in their order. */
__global__ void shift_up(int *data) {
    __shared__ int tile[COUNT];
    tile[threadIdx.x] = (int)threadIdx.x;
    data[threadIdx.x] = threadIdx.x ? tile[threadIdx.x - 1] : COUNT - 1;
}

__global__ void shuffle_in_a_branch(int *data) {
    int value = (int)threadIdx.x;
    if (threadIdx.x < 20) value = __shfl_xor_sync(~0u, value, 1);
    data[threadIdx.x] = value;
}

__global__ void sum_unwritten(const float *data, int *result) {
    if (threadIdx.x == 0) *result = data[7] == data[7];
}

cudaStream_t stream;
int *data;

bool shifted() {
    int host[COUNT];
    cudaMemcpyAsync(host, data, sizeof host, cudaMemcpyDeviceToHost, stream);
    for (int i = 0; i < COUNT; i++)
        if (host[i] != (i + COUNT - 1) % COUNT) return false;
    return true;
}

void launch(const char *fault) {
    if (!strcmp(fault, "store")) store<<<1, COUNT, 0, stream>>>(data, COUNT);
    if (!strcmp(fault, "store_below")) store<<<1, COUNT, 0, stream>>>(data, -1);
    if (!strcmp(fault, "store_shared")) store_shared<<<1, COUNT, 0, stream>>>(data, COUNT);
    if (!strcmp(fault, "no_fault")) shift<<<1, COUNT, 0, stream>>>(data, true);
    if (!strcmp(fault, "no_barrier")) shift<<<1, COUNT, 0, stream>>>(data, false);
    if (!strcmp(fault, "no_barrier_up")) shift_up<<<1, COUNT, 0, stream>>>(data);
    if (!strcmp(fault, "shuffle")) shuffle_in_a_branch<<<1, COUNT, 0, stream>>>(data);
    if (!strcmp(fault, "unasked")) shift<<<1, COUNT, 0, stream>>>(data, true);
    if (!strcmp(fault, "unwritten"))
        sum_unwritten<<<1, 1, 0, stream>>>(reinterpret_cast<float *>(data), data);
    if (!strcmp(fault, "too_many_threads")) shift<<<1, 2048, 0, stream>>>(data, true);
}

} // namespace

int main(int argc, char **argv) {
    const char *fault = argc > 1 ? argv[1] : "";
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMallocAsync(&data, COUNT * sizeof *data, stream);
    launch(fault);
    cudaError_t code = strcmp(fault, "unasked") ? cudaGetLastError() : cudaSuccess;
    if (code != cudaSuccess) puts(cudaGetErrorString(code));
    cudaStreamSynchronize(stream);
    if (!strcmp(fault, "unwritten"))
        puts(*data ? "a number" : "NaN");
    else
        puts(shifted() ? "right" : "wrong");
    if (strcmp(fault, "leak")) cudaFreeAsync(data, stream);
    data = nullptr;
    cudaStreamDestroy(stream);
    return 0;
}
