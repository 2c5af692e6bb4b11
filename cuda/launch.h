/* How the backend's kernels are launched and sum: one loop over elements, sums with a fixed order,
 * scratch memory. CUDA C++ only.
 *
 * No launch depends on the device: grids follow from shapes, so the order of every sum does too.
 */
#ifndef AQ_CUDA_LAUNCH_H
#define AQ_CUDA_LAUNCH_H

#include "cuda.h"

#include <cuda_bf16.h>

constexpr unsigned cuda_threads = 256; /* of a block, where nothing speaks for another number */

static inline float *cuda_floats(const aq_tensor *tensor) {
    return (float *)tensor->data;
}

static inline __nv_bfloat16 *cuda_halves(const aq_tensor *tensor) {
    return (__nv_bfloat16 *)tensor->data;
}

static __device__ inline void cuda_store(float value, float *target) {
    *target = value;
}

static __device__ inline void cuda_store(float value, __nv_bfloat16 *target) {
    *target = __float2bfloat16(value);
}

/* Blocks for `count` items: one thread an item, until loops have to stride. */
static inline unsigned cuda_blocks(size_t count, size_t items_a_block = cuda_threads) {
    constexpr size_t most = 1 << 16;
    size_t blocks = (count + items_a_block - 1) / items_a_block;
    return (unsigned)(blocks < most ? blocks : most);
}

/* The thread's first item of a grid-stride loop, and the way to its next. */
static __device__ inline size_t cuda_first() {
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ inline size_t cuda_stride() {
    return (size_t)gridDim.x * blockDim.x;
}

template <class Body> __global__ void cuda_each_kernel(size_t count, Body body) {
    for (size_t i = cuda_first(); i < count; i += cuda_stride()) body(i);
}

/* body(i) for every i < count, in no order. */
template <class Body> aq_status cuda_each(const cuda_state *state, size_t count, Body body) {
    cuda_each_kernel<<<cuda_blocks(count), cuda_threads, 0, state->stream>>>(count, body);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* Device memory of one call, freed in the stream's order at the end of the scope. */
class cuda_scratch {
  public:
    explicit cuda_scratch(const cuda_state *owner) : state(owner), data(nullptr) {
    }
    cuda_scratch(const cuda_scratch &) = delete;
    cuda_scratch &operator=(const cuda_scratch &) = delete;
    ~cuda_scratch() {
        if (data) cudaFreeAsync(data, state->stream);
    }

    /* At most once an object; contents undefined. */
    template <class Item> aq_status take(size_t count, Item **items) {
        *items = nullptr;
        AQ_TRY(cuda_take(state, count * sizeof(Item), &data));
        *items = static_cast<Item *>(data);
        return AQ_OK;
    }

  private:
    const cuda_state *state;
    void *data;
};

/* ---- sums ---- */

constexpr unsigned cuda_whole_warp = 0xffffffffu;

/* Every lane gets the sum of the warp's values: a + b is b + a, so the bits agree. */
template <class Number> __device__ Number cuda_warp_sum(Number value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(cuda_whole_warp, value, step);
    return value;
}

static __device__ inline float cuda_warp_max(float value) {
    for (int step = 16; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(cuda_whole_warp, value, step));
    return value;
}

/* Every thread gets the sum of the block's values: warps first, then they in their order. All
 * threads of the block call it; blockDim is a multiple of 32 in one dimension. */
template <class Number> __device__ Number cuda_block_sum(Number value) {
    __shared__ Number warps[32];
    value = cuda_warp_sum(value);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    Number sum = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) sum += warps[warp];
    __syncthreads();
    return sum;
}

template <class Value>
__global__ void cuda_sum_kernel(size_t count, Value value, double *partials) {
    double sum = 0;
    for (size_t i = cuda_first(); i < count; i += cuda_stride()) sum += value(i);
    sum = cuda_block_sum(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

static __global__ void cuda_sum_partials(const double *partials, unsigned count, double factor,
                                         double *sum) {
    double total = 0;
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) total += partials[i];
    total = cuda_block_sum(total);
    if (threadIdx.x == 0) *sum += factor * total;
}

/* *sum += factor * (value(0) + ... + value(count - 1)), in float64. */
template <class Value>
aq_status cuda_add_sum(const cuda_state *state, size_t count, Value value, double factor,
                       double *sum) {
    constexpr size_t items_a_block = 8 * cuda_threads, most = 1024;
    unsigned blocks = cuda_blocks(count, items_a_block);
    blocks = blocks < most ? blocks : most;
    cuda_scratch scratch(state);
    double *partials;
    AQ_TRY(scratch.take(blocks, &partials));
    cuda_sum_kernel<<<blocks, cuda_threads, 0, state->stream>>>(count, value, partials);
    CUDA_TRY(cudaGetLastError());
    cuda_sum_partials<<<1, cuda_threads, 0, state->stream>>>(partials, blocks, factor, sum);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* Sums of columns: blocks of 32 columns and a run of rows, eight rows at a time. */
constexpr unsigned cuda_column_lines = 8;

template <class Value>
__global__ void cuda_columns_kernel(size_t rows, size_t columns, size_t run, Value value,
                                    float *partials) {
    __shared__ float lines[cuda_column_lines][32];
    size_t column = (size_t)blockIdx.x * 32 + threadIdx.x;
    size_t first = blockIdx.y * run, last = first + run < rows ? first + run : rows;
    float sum = 0;
    if (column < columns)
        for (size_t row = first + threadIdx.y; row < last; row += cuda_column_lines)
            sum += value(row, column);
    lines[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= columns) return;
    for (unsigned line = 1; line < cuda_column_lines; line++) sum += lines[line][threadIdx.x];
    partials[blockIdx.y * columns + column] = sum;
}

/* sums[column] += sum over rows of value(row, column). */
template <class Value>
aq_status cuda_add_columns(const cuda_state *state, size_t rows, size_t columns, Value value,
                           float *sums) {
    constexpr size_t least_run = 256, most_runs = 1024;
    size_t run = (rows + most_runs - 1) / most_runs;
    run = run < least_run ? least_run : run;
    size_t runs = (rows + run - 1) / run;
    cuda_scratch scratch(state);
    float *partials;
    AQ_TRY(scratch.take(runs * columns, &partials));
    dim3 grid((unsigned)((columns + 31) / 32), (unsigned)runs), block(32, cuda_column_lines);
    cuda_columns_kernel<<<grid, block, 0, state->stream>>>(rows, columns, run, value, partials);
    CUDA_TRY(cudaGetLastError());
    return cuda_each(state, columns, [=] __device__(size_t column) {
        float sum = 0;
        for (size_t i = 0; i < runs; i++) sum += partials[i * columns + column];
        sums[column] += sum;
    });
}

#endif
