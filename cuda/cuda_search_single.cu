#include "search_minima.h"
#include "search_single.h"

constexpr unsigned single_warps = 4; /* rows of a block */

/* ---- a codebook ---- */

/* Pulls for codebook m, whose code is still the first one. */
template <unsigned Span>
static __device__ void find_codebook_pulls(const search_args &args, unsigned step, unsigned m,
                                           const single_row<Span> &row, float (&pulls)[Span]) {
    float present = args.entry(m, row.first_codes(args, step)[m])[row.element];
    find_pulls<Span>(args, step, row.scale * row.change - row.scale * present, row, pulls);
}

/* Entries first .. first + count - 1, shared out over the lanes. */
template <unsigned Span>
static __device__ void look_at(const search_args &args, unsigned step, unsigned m, float square,
                               const float (&pulls)[Span], unsigned first, unsigned count,
                               single_best &best) {
    const float *norms = args.norms_of(step, m);
#pragma unroll 4
    for (unsigned k = first + threadIdx.x % 32; k < first + count; k += 32) {
        float score = entry_values<Span>(args, m, k).dot(pulls, square * norms[k]);
        if (score < best.score) {
            best.score = score;
            best.entry = k;
        }
    }
}

/* The row's best chunk, for every lane; false if there is none. */
static __device__ bool best_chunk(const large_args &large, size_t row, unsigned &chunk) {
    const float *minima = large.minima + row * large.chunks;
    single_best best = {INFINITY, 0};
    for (unsigned c = threadIdx.x % 32; c < large.chunks; c += 32)
        if (minima[c] < best.score) {
            best.score = minima[c];
            best.entry = c;
        }
    bool found = warp_least(best);
    chunk = best.entry;
    return found;
}

/* Replaces the row's code of codebook m, which is still the first one. Of a large codebook only the
 * best chunk is looked at, and the first code, so that the loss never rises. */
template <unsigned Span, bool Large>
static __device__ void search_codebook(const search_args &args, const large_args &large,
                                       unsigned step, unsigned m, single_row<Span> &row) {
    if (!row.alive()) return;
    float pulls[Span], square = row.scale * row.scale;
    unsigned first = row.first_codes(args, step)[m], chunk = 0;
    find_codebook_pulls<Span>(args, step, m, row, pulls);
    entry_values<Span> old(args, m, first);
    float present = old.dot(pulls, square * args.norms_of(step, m)[first]);
    single_best best = {INFINITY, 0};
    if (!Large)
        look_at<Span>(args, step, m, square, pulls, 0, args.entries, best);
    else if (best_chunk(large, row.row, chunk))
        look_at<Span>(args, step, m, square, pulls, chunk * minima_chunk, minima_chunk, best);
    if (Large && row.lane == 0 && !(best.score < present)) {
        bool equal = best.score == present && best.entry < first;
        best.score = present;
        best.entry = equal ? best.entry : first;
    }
    if (!warp_least(best)) best.entry = first, best.score = INFINITY;
    row.loss = row.loss + best.score - present;
    if (best.entry != first)
        row.change += args.entry(m, best.entry)[row.element] - args.entry(m, first)[row.element];
    if (row.lane == 0) row.choices(args, step)[m] = (uint16_t)best.entry;
}

/* Goes on within a step. */
template <unsigned Span>
static __device__ void resume_step(const search_args &args, unsigned step, single_row<Span> &row) {
    const uint16_t *first = row.first_codes(args, step), *codes = row.choices(args, step);
    row.change = 0;
    for (unsigned m = 0; m < args.books; m++)
        row.change += args.entry(m, codes[m])[row.element] - args.entry(m, first[m])[row.element];
}

/* ---- kernels ---- */

template <unsigned Span>
__global__ void __launch_bounds__(single_warps * 32) single_kernel(search_args args) {
    size_t number = (size_t)blockIdx.x * single_warps + threadIdx.x / 32;
    if (number >= args.rows) return;
    single_row<Span> row(args, number);
    load_residual(args, row);
    for (unsigned step = 0; step < args.steps; step++) {
        begin_step(args, step, row);
        for (unsigned i = 0; i < args.books; i++)
            search_codebook<Span, false>(args, large_args(), step,
                                         args.order[step * args.books + i], row);
        end_step(args, step, row);
    }
    store_row(args, row);
}

template <unsigned Span>
static __device__ void make_point(const search_args &args, const large_args &large, unsigned step,
                                  unsigned m, const single_row<Span> &row) {
    float pulls[Span], square = row.scale * row.scale;
    find_codebook_pulls<Span>(args, step, m, row, pulls);
    for (unsigned i = 0; i < Span; i++)
        if (row.lane == i) {
            float point = pulls[i] / square;
            large.points[row.row * Span + i] = isfinite(point) ? point : 0;
        }
}

template <unsigned Span>
__global__ void __launch_bounds__(single_warps * 32)
    single_place_kernel(search_args args, large_args large, int place) {
    size_t number = (size_t)blockIdx.x * single_warps + threadIdx.x / 32;
    if (number >= args.rows) return;
    single_row<Span> row(args, number);
    float *window = large.window + number * args.columns + 4 * row.lane;
    bool holds = 4 * row.lane < args.columns;
    if (place < 0) {
        load_residual(args, row);
    } else {
        unsigned step = (unsigned)place / args.books;
        for (unsigned q = 0; q < 4; q++) row.residual[q] = 0;
        if (holds) load_four(window, row.residual);
        place % args.books == 0 ? begin_step(args, step, row) : resume_step(args, step, row);
        search_codebook<Span, true>(args, large, step, args.order[place], row);
        if ((place + 1) % args.books == 0) end_step(args, step, row);
    }
    unsigned next = (unsigned)(place + 1);
    if (next < args.steps * args.books) {
        if (next % args.books == 0) row.change = 0;
        make_point(args, large, next / args.books, args.order[next], row);
        if (holds) store_four(row.residual, window);
    }
    store_row(args, row);
}

/* ---- launches ---- */

static unsigned single_blocks(const search_args &args) {
    return (unsigned)((args.rows + single_warps - 1) / single_warps);
}

bool search_is_single(const search_args &args) {
    bool aligned =
        (reinterpret_cast<uintptr_t>(args.codebooks) | reinterpret_cast<uintptr_t>(args.residual)) %
            sizeof(float4) ==
        0;
    return aligned && args.beam == 1 && args.lines == 1 && args.columns <= single_columns &&
           (args.width == 8 || args.width == 16);
}

aq_status search_single(const cuda_state *state, const search_args &args) {
    constexpr unsigned threads = single_warps * 32;
    if (args.width == 8)
        single_kernel<8><<<single_blocks(args), threads, 0, state->stream>>>(args);
    else
        single_kernel<16><<<single_blocks(args), threads, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status search_single_place(const cuda_state *state, const search_args &args,
                              const large_args &large, int place) {
    constexpr unsigned threads = single_warps * 32;
    unsigned blocks = single_blocks(args);
    if (args.width == 8)
        single_place_kernel<8><<<blocks, threads, 0, state->stream>>>(args, large, place);
    else
        single_place_kernel<16><<<blocks, threads, 0, state->stream>>>(args, large, place);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}
