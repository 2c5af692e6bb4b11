#include "launch.h"

#include <cmath>

aq_status cuda_scales_step(const aq_tensor *slopes, const aq_tensor *curvatures,
                           aq_tensor *scales) {
    const float *slope = cuda_floats(slopes), *curvature = cuda_floats(curvatures);
    float *scale = cuda_floats(scales);
    return cuda_each(cuda_state_of(scales), scales->shape[0], [=] __device__(size_t r) {
        if (!(scale[r] > AQ_ZERO_SCALE && curvature[r] > 0)) return;
        float stepped = scale[r] - scale[r] * (slope[r] / curvature[r]);
        if (stepped > AQ_ZERO_SCALE && isfinite(stepped)) scale[r] = stepped;
    });
}

/* One block a row group. */
static __global__ void rescale_kernel(const float *before, const float *after, size_t span,
                                      const float *fixed, float *gradient) {
    size_t row = blockIdx.x;
    if (before[row] == after[row]) return;
    float factor = after[row] / before[row];
    for (size_t i = row * span + threadIdx.x; i < (row + 1) * span; i += blockDim.x)
        gradient[i] = factor * gradient[i] + (factor - 1) * fixed[i];
}

aq_status cuda_gradient_rescale(const aq_tensor *before, const aq_tensor *after,
                                const aq_tensor *fixed, aq_tensor *gradient) {
    size_t rows = before->shape[0];
    AQ_REQUIRE(rows <= 0x7fffffff, AQ_UNSUPPORTED, "a gradient of %zu row groups", rows);
    rescale_kernel<<<(unsigned)rows, cuda_threads, 0, cuda_state_of(gradient)->stream>>>(
        cuda_floats(before), cuda_floats(after), aq_tensor_count(gradient) / rows,
        cuda_floats(fixed), cuda_floats(gradient));
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* ---- conjugate gradients ---- */

struct conjugate_view {
    size_t count;
    const float *diagonal, *product; /* product NULL: a start */
    float *solution, *residual, *direction;
    double *numbers;

    __device__ float conditioned(size_t i) const {
        return diagonal[i] > 0 ? residual[i] / diagonal[i] : 0;
    }
};

/* The sum of all blocks' partial sums, in every thread. */
static __device__ double total_of(const double *partials, unsigned count) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
    return cuda_block_sum(sum);
}

static __global__ void curvature_kernel(conjugate_view view, double *partials) {
    double sum = 0;
    for (size_t i = cuda_first(); i < view.count; i += cuda_stride())
        sum += view.product ? (double)view.direction[i] * (double)view.product[i] : 0;
    sum = cuda_block_sum(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/* Nobody writes numbers[0] here, which all blocks read. */
static __global__ void move_kernel(conjugate_view view, const double *curvatures,
                                   double *partials) {
    double curvature = total_of(curvatures, gridDim.x);
    double before = view.product ? view.numbers[0] : 0, sum = 0;
    float length = curvature > 0 ? (float)(before / curvature) : 0;
    for (size_t i = cuda_first(); i < view.count; i += cuda_stride()) {
        if (view.product) {
            view.solution[i] += length * view.direction[i];
            view.residual[i] -= length * view.product[i];
        }
        sum += (double)view.residual[i] * (double)view.conditioned(i);
    }
    sum = cuda_block_sum(sum);
    if (threadIdx.x > 0) return;
    partials[blockIdx.x] = sum;
    if (blockIdx.x == 0) {
        view.numbers[1] = before;
        view.numbers[2] = curvature;
    }
}

static __global__ void turn_kernel(conjugate_view view, const double *partials) {
    double now = total_of(partials, gridDim.x), before = view.numbers[1];
    float share = before > 0 ? (float)(now / before) : 0;
    for (size_t i = cuda_first(); i < view.count; i += cuda_stride())
        view.direction[i] = view.conditioned(i) + (share != 0 ? share * view.direction[i] : 0);
    if (blockIdx.x == 0 && threadIdx.x == 0) view.numbers[0] = now;
}

aq_status cuda_conjugate_step(const aq_conjugate *step, const aq_tensor *product) {
    constexpr size_t items_a_block = 4 * cuda_threads, most = 512;
    const cuda_state *state = cuda_state_of(step->numbers);
    conjugate_view view = {};
    view.count = aq_tensor_count(step->diagonal);
    view.diagonal = cuda_floats(step->diagonal);
    view.product = product ? cuda_floats(product) : nullptr;
    view.solution = cuda_floats(step->solution);
    view.residual = cuda_floats(step->residual);
    view.direction = cuda_floats(step->direction);
    view.numbers = static_cast<double *>(step->numbers->data);
    unsigned blocks = cuda_blocks(view.count, items_a_block);
    blocks = blocks < most ? blocks : most;
    cuda_scratch scratch(state);
    double *sums;
    AQ_TRY(scratch.take(2 * blocks, &sums));
    curvature_kernel<<<blocks, cuda_threads, 0, state->stream>>>(view, sums);
    CUDA_TRY(cudaGetLastError());
    move_kernel<<<blocks, cuda_threads, 0, state->stream>>>(view, sums, sums + blocks);
    CUDA_TRY(cudaGetLastError());
    turn_kernel<<<blocks, cuda_threads, 0, state->stream>>>(view, sums + blocks);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}
