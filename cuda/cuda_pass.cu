#include "launch.h"

struct update_args {
    const float *delta, *gram_rows, *old;
    const uint8_t *ancestors;
    float *residual;
    size_t count, columns; /* lines of the residual: rows * beam * o */
    unsigned beam, lines, span;
};

constexpr unsigned update_threads = 128;
constexpr unsigned update_lines = 8; /* of the residual a block treats: they share the Gram rows */

/* The line of the old residual that line n of the new one comes from. */
static __device__ inline size_t source_line(const update_args &args, size_t n) {
    size_t hypothesis = n / args.lines, row = hypothesis / args.beam;
    return (row * args.beam + args.ancestors[hypothesis]) * args.lines + n % args.lines;
}

/* Adds delta's line to a sum over the group's Gram rows; a line that did not change adds nothing,
 * and in place there is then nothing to do. */
template <unsigned Span>
static __device__ void update_line(const update_args &args, size_t n, size_t column,
                                   const float *gram) {
    unsigned span = Span ? Span : args.span;
    const float *delta = args.delta + n * span;
    bool changed = args.old != args.residual;
    for (unsigned l = 0; l < span; l++) changed |= delta[l] != 0;
    if (!changed) return;
    float sum = args.old[source_line(args, n) * args.columns + column];
    for (unsigned l = 0; l < span; l++)
        sum = fmaf(delta[l], Span ? gram[l] : args.gram_rows[l * args.columns + column], sum);
    args.residual[n * args.columns + column] = sum;
}

/* One thread a column and a run of lines; Span 0: groups of any size, read where they lie. */
template <unsigned Span>
__global__ void __launch_bounds__(update_threads) update_kernel(update_args args) {
    size_t column = (size_t)blockIdx.y * update_threads + threadIdx.x;
    if (column >= args.columns) return;
    float gram[Span ? Span : 1];
    if constexpr (Span > 0)
        for (unsigned l = 0; l < Span; l++) gram[l] = args.gram_rows[l * args.columns + column];
    size_t first = (size_t)blockIdx.x * update_lines, last = first + update_lines;
    for (size_t n = first; n < last && n < args.count; n++)
        update_line<Span>(args, n, column, gram);
}

aq_status cuda_residual_update(const aq_tensor *delta, const aq_tensor *gram_rows,
                               const aq_tensor *ancestors, const aq_tensor *old_residual,
                               aq_tensor *residual) {
    const cuda_state *state = cuda_state_of(residual);
    update_args args = {};
    args.delta = cuda_floats(delta);
    args.gram_rows = cuda_floats(gram_rows);
    args.old = cuda_floats(old_residual);
    args.ancestors = static_cast<const uint8_t *>(ancestors->data);
    args.residual = cuda_floats(residual);
    args.columns = gram_rows->shape[1];
    args.beam = (unsigned)delta->shape[1];
    args.lines = (unsigned)delta->shape[2];
    args.span = (unsigned)delta->shape[3];
    args.count = delta->shape[0] * args.beam * args.lines;
    size_t runs = (args.count + update_lines - 1) / update_lines;
    size_t strips = (args.columns + update_threads - 1) / update_threads;
    AQ_REQUIRE(runs <= 0x7fffffff && strips <= 65535, AQ_UNSUPPORTED,
               "a residual of %zu lines of %zu columns", args.count, args.columns);
    dim3 grid((unsigned)runs, (unsigned)strips);
    if (args.span == 8)
        update_kernel<8><<<grid, update_threads, 0, state->stream>>>(args);
    else
        update_kernel<0><<<grid, update_threads, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

struct trace_args {
    const uint8_t *ancestors;
    const uint16_t *choices;
    const float *losses;
    const uint32_t *group_order;
    uint16_t *codes;
    size_t rows, groups, beam, books;
};

static __device__ void trace_row(const trace_args &args, size_t row) {
    const float *losses = args.losses + row * args.beam;
    size_t best = 0;
    for (size_t h = 1; h < args.beam; h++)
        if (losses[h] < losses[best] || isnan(losses[best])) best = h;
    for (size_t step = args.groups; step-- > 0;) {
        size_t at = (step * args.rows + row) * args.beam + best;
        size_t group = args.group_order[step];
        for (size_t m = 0; m < args.books; m++)
            args.codes[(row * args.groups + group) * args.books + m] =
                args.choices[at * args.books + m];
        best = args.ancestors[at];
    }
}

aq_status cuda_trace_back(const aq_tensor *ancestors, const aq_tensor *choices,
                          const aq_tensor *losses, const uint32_t *group_order, aq_tensor *codes) {
    const cuda_state *state = cuda_state_of(codes);
    trace_args args = {};
    args.ancestors = static_cast<const uint8_t *>(ancestors->data);
    args.choices = static_cast<const uint16_t *>(choices->data);
    args.losses = cuda_floats(losses);
    args.codes = static_cast<uint16_t *>(codes->data);
    args.rows = codes->shape[0];
    args.groups = codes->shape[1];
    args.books = codes->shape[2];
    args.beam = losses->shape[1];
    cuda_scratch scratch(state);
    uint32_t *order;
    AQ_TRY(scratch.take(args.groups, &order));
    args.group_order = order;
    /* The caller's array may go as soon as this returns. */
    CUDA_TRY(cudaMemcpyAsync(order, group_order, args.groups * sizeof *order,
                             cudaMemcpyHostToDevice, state->stream));
    CUDA_TRY(cudaStreamSynchronize(state->stream));
    return cuda_each(state, args.rows, [=] __device__(size_t row) { trace_row(args, row); });
}
