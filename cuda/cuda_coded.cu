#include "lists.h"
#include "mma.h"

/* What kernels need of an aq_coded. */
struct coded_view {
    const uint16_t *codes;
    const float *codebooks, *scales;
    size_t groups, columns;
    unsigned books, entries, span, lines; /* M, K, g, o */

    /* Element (line, column) of row group `row`, without its scale. */
    __device__ float unscaled(size_t row, unsigned line, unsigned column) const {
        const uint16_t *code = codes + (row * groups + column / span) * books;
        size_t width = lines * span, element = line * span + column % span;
        float sum = 0;
        for (unsigned m = 0; m < books; m++)
            sum += codebooks[((size_t)m * entries + code[m]) * width + element];
        return sum;
    }
};

static coded_view view_of(const aq_coded *coded) {
    coded_view view = {};
    view.codes = static_cast<const uint16_t *>(coded->codes.data);
    view.codebooks = cuda_floats(&coded->codebooks);
    view.scales = cuda_floats(&coded->scales);
    view.groups = coded->codes.shape[1];
    view.books = (unsigned)coded->codebooks.shape[0];
    view.entries = (unsigned)coded->codebooks.shape[1];
    view.lines = (unsigned)coded->codebooks.shape[2];
    view.span = (unsigned)coded->codebooks.shape[3];
    view.columns = view.groups * view.span;
    return view;
}

/* One block a line of the weight. */
template <class Number> static __global__ void decode_kernel(coded_view view, Number *weight) {
    size_t row = blockIdx.x / view.lines;
    unsigned line = blockIdx.x % view.lines;
    float scale = view.scales[row];
    Number *target = weight + blockIdx.x * view.columns;
    for (unsigned column = threadIdx.x; column < view.columns; column += blockDim.x)
        cuda_store(scale * view.unscaled(row, line, column), &target[column]);
}

/* Groups of 8 columns in one line, a thread a group: 16 bytes of bfloat16. */
static aq_status decode_eights(const cuda_state *state, const coded_view &view, size_t vectors,
                               uint4 *weight) {
    return cuda_each(state, vectors, [=] __device__(size_t n) {
        const uint16_t *code = view.codes + n * view.books;
        float sums[8] = {};
        for (unsigned m = 0; m < view.books; m++) {
            const float *entry = view.codebooks + ((size_t)m * view.entries + code[m]) * 8;
            const float4 low = *reinterpret_cast<const float4 *>(entry);
            const float4 high = *reinterpret_cast<const float4 *>(entry + 4);
            const float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
            for (unsigned i = 0; i < 8; i++) sums[i] += values[i];
        }
        float scale = view.scales[n / view.groups];
        weight[n] = {cuda_pack_bfloats(scale * sums[0], scale * sums[1]),
                     cuda_pack_bfloats(scale * sums[2], scale * sums[3]),
                     cuda_pack_bfloats(scale * sums[4], scale * sums[5]),
                     cuda_pack_bfloats(scale * sums[6], scale * sums[7])};
    });
}

static aq_status check_lines(const aq_tensor *weight) {
    AQ_REQUIRE(weight->shape[0] <= 0x7fffffff && weight->shape[1] <= 0x7fffffff, AQ_UNSUPPORTED,
               "a coded weight of [%zu, %zu]", weight->shape[0], weight->shape[1]);
    return AQ_OK;
}

aq_status cuda_decode(const aq_coded *coded, aq_tensor *weight) {
    AQ_TRY(check_lines(weight));
    const cuda_state *state = cuda_state_of(weight);
    const coded_view view = view_of(coded);
    bool half = weight->dtype == AQ_BF16;
    if (half && view.span == 8 && view.lines == 1)
        return decode_eights(state, view, weight->shape[0] * view.groups,
                             static_cast<uint4 *>(weight->data));
    if (half)
        decode_kernel<<<(unsigned)weight->shape[0], cuda_threads, 0, state->stream>>>(
            view, cuda_halves(weight));
    else
        decode_kernel<<<(unsigned)weight->shape[0], cuda_threads, 0, state->stream>>>(
            view, cuda_floats(weight));
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* One block a row group. */
static __global__ void scales_grad_kernel(coded_view view, const float *weight_grad,
                                          float *scales_grad) {
    size_t row = blockIdx.x;
    float sum = 0;
    for (unsigned line = 0; line < view.lines; line++) {
        const float *grad = weight_grad + (row * view.lines + line) * view.columns;
        for (unsigned column = threadIdx.x; column < view.columns; column += blockDim.x)
            sum = fmaf(grad[column], view.unscaled(row, line, column), sum);
    }
    sum = cuda_block_sum(sum);
    if (threadIdx.x == 0) scales_grad[row] = view.scales[row] <= AQ_ZERO_SCALE ? 0 : sum;
}

static aq_status codebooks_gradient(const coded_view &view, const cuda_lists &lists,
                                    const aq_tensor *weight_grad, aq_tensor *codebooks_grad) {
    const float *grad = cuda_floats(weight_grad);
    float *target = cuda_floats(codebooks_grad);
    unsigned width = lists.width;
    return cuda_lists_sum(
        cuda_state_of(weight_grad), lists,
        [=] __device__(uint32_t n, unsigned i) {
            uint32_t groups = (uint32_t)view.groups, row = n / groups;
            size_t line = (size_t)row * view.lines + i / view.span;
            size_t column = (size_t)(n % groups) * view.span + i % view.span;
            return view.scales[row] * grad[line * view.columns + column];
        },
        [=] __device__(size_t list, size_t i, float sum, uint32_t) {
            target[list * width + i] = sum;
        });
}

aq_status cuda_coded_grad(const aq_coded *coded, const aq_tensor *orders, const aq_tensor *offsets,
                          const aq_tensor *weight_grad, aq_tensor *codebooks_grad,
                          aq_tensor *scales_grad) {
    coded_view view = view_of(coded);
    AQ_TRY(check_lines(weight_grad));
    if (codebooks_grad)
        AQ_TRY(codebooks_gradient(view, cuda_lists_of(orders, offsets, view.lines * view.span),
                                  weight_grad, codebooks_grad));
    if (!scales_grad) return AQ_OK;
    scales_grad_kernel<<<(unsigned)scales_grad->shape[0], cuda_threads, 0,
                         cuda_state_of(weight_grad)->stream>>>(view, cuda_floats(weight_grad),
                                                               cuda_floats(scales_grad));
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_coded_diagonal(const aq_coded *coded, const aq_tensor *orders,
                              const aq_tensor *offsets, const aq_tensor *gram,
                              aq_tensor *diagonal) {
    coded_view view = view_of(coded);
    const float *h = cuda_floats(gram);
    float *target = cuda_floats(diagonal);
    unsigned width = view.lines * view.span;
    return cuda_lists_sum(
        cuda_state_of(gram), cuda_lists_of(orders, offsets, width),
        [=] __device__(uint32_t n, unsigned i) {
            uint32_t groups = (uint32_t)view.groups;
            float scale = view.scales[n / groups];
            size_t column = (size_t)(n % groups) * view.span + i % view.span;
            return scale * scale * h[column * (view.columns + 1)];
        },
        [=] __device__(size_t list, size_t i, float sum, uint32_t) {
            target[list * width + i] = sum;
        });
}
