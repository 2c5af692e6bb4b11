#include "mma.h"
#include "search_row.h"
#include "search_single.h"

/* All pairs of entries. Pair (a, b) has, over s^2, the loss A[a] + B[b] + table[a, b] with A[k] and
 * B[k] = n(k) + 2 v.k / s of the row, v as it is without the present pair. */

static size_t search_pair_floats(const search_args &args) {
    unsigned rows = args.entries < search_pair_rows ? search_pair_rows : args.entries;
    return (size_t)args.steps * rows * search_pair_columns;
}

static __device__ inline const float *pair_table(const search_args &args, unsigned step) {
    unsigned rows = max(args.entries, search_pair_rows);
    return args.pairs + (size_t)step * rows * search_pair_columns;
}

static __device__ float pair_product(const search_args &args, unsigned step, const float *a,
                                     const float *b) {
    const float *gram = args.gram + (size_t)step * args.span * (args.columns + 1);
    float sum = 0;
    for (unsigned i = 0; i < args.width; i++) {
        const float *line = a + i / args.span * args.span;
        float product = 0;
        for (unsigned l = 0; l < args.span; l++)
            product = fmaf(gram[i % args.span * args.columns + l], line[l], product);
        sum = fmaf(product, b[i], sum);
    }
    return 2 * sum;
}

/* Zeros past the entries. */
static aq_status fill_pairs(const cuda_state *state, const search_args &args, float *pairs) {
    size_t each = search_pair_floats(args) / args.steps;
    return cuda_each(state, args.steps * each, [=] __device__(size_t i) {
        unsigned step = (unsigned)(i / each), a = (unsigned)(i % each / search_pair_columns);
        unsigned b = (unsigned)(i % search_pair_columns);
        bool real = a < args.entries && b < args.entries;
        pairs[i] = real ? pair_product(args, step, args.entry(0, a), args.entry(1, b)) : 0;
    });
}

/* ---- groups of any shape: one block a row group ---- */

static __device__ bool all_finite(const float *values, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

/* memory.pulls = 2 v / s. */
static __device__ void prepare_pair(const search_args &args, unsigned step, size_t row,
                                    search_memory &memory) {
    float scale = args.scales[row];
    for (unsigned i = threadIdx.x; i < args.width; i += blockDim.x)
        memory.offsets[i] =
            -scale * (args.entry(0, memory.first[0])[i] + args.entry(1, memory.first[1])[i]);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < args.width; i += blockDim.x)
        memory.pulls[i] =
            search_pull(args, step, row, memory.run.residual, memory.offsets, i) / (scale * scale);
    __syncthreads();
}

static __device__ void score_pair_entries(const search_args &args, unsigned step,
                                          const search_memory &memory, float *scores) {
    for (unsigned i = threadIdx.x; i < 2 * args.entries; i += blockDim.x) {
        unsigned m = i / args.entries, k = i % args.entries;
        const float *entry = args.entry(m, k);
        float score = args.norms_of(step, m)[k];
        for (unsigned j = 0; j < args.width; j++) score = fmaf(memory.pulls[j], entry[j], score);
        scores[m * search_pair_columns + k] = score;
    }
    __syncthreads();
}

static __device__ inline float pair_score(const search_args &args, unsigned step,
                                          const float *scores, unsigned a, unsigned b) {
    const float *table = pair_table(args, step) + a * search_pair_columns;
    return scores[a] + (scores[search_pair_columns + b] + table[b]);
}

static __device__ void search_pair(const search_args &args, unsigned step, size_t row,
                                   search_memory &memory) {
    __shared__ float scores[2 * search_pair_columns];
    prepare_pair(args, step, row, memory);
    score_pair_entries(args, step, memory, scores);
    uint64_t mine = no_proposal;
    for (unsigned pair = threadIdx.x; pair < args.entries * args.entries; pair += blockDim.x) {
        unsigned a = pair / args.entries, b = pair % args.entries;
        uint64_t key = proposal_key(pair_score(args, step, scores, a, b), 0, pair);
        mine = key < mine ? key : mine;
    }
    uint64_t best = block_least(mine);
    float present = pair_score(args, step, scores, memory.first[0], memory.first[1]);
    if (threadIdx.x == 0 && memory.now.losses[0] < INFINITY &&
        all_finite(memory.pulls, args.width) && proposal_loss(best) < present) {
        memory.now.losses[0] +=
            args.scales[row] * args.scales[row] * (proposal_loss(best) - present);
        memory.now.codes[0] = (uint16_t)(proposal_entry(best) / args.entries);
        memory.now.codes[1] = (uint16_t)(proposal_entry(best) % args.entries);
    }
    __syncthreads();
}

static __global__ void pair_kernel(search_args args) {
    extern __shared__ __align__(16) float shared[];
    search_memory memory(args, shared);
    size_t row = blockIdx.x;
    load_row(args, row, memory);
    for (unsigned step = 0; step < args.steps; step++) {
        begin_step(args, step, row, memory);
        search_pair(args, step, row, memory);
        store_step(args, step, row, memory);
        end_step(args, step, row, memory);
    }
    store_row(args, row, memory);
}

/* ---- one line of 8 or 16 elements: warps of a block share the table, a tile at a time ---- */

constexpr unsigned pair_warps = 8;
constexpr unsigned pair_lanes = search_pair_columns / 32; /* second entries of a lane */

/* What a warp knows of one of its rows: B of its lanes' second entries, and the best pair. */
struct pair_best {
    float second[pair_lanes], score;
    unsigned first;
    bool usable;
};

/* A goes to `firsts`, which only this warp uses. */
template <unsigned Span>
static __device__ void score_row(const search_args &args, unsigned step,
                                 const single_row<Span> &row, float *firsts, pair_best &best) {
    const uint16_t *codes = row.first_codes(args, step);
    float pulls[Span], square = row.scale * row.scale;
    float present = args.entry(0, codes[0])[row.element] + args.entry(1, codes[1])[row.element];
    find_pulls<Span>(args, step, -row.scale * present, row, pulls);
    best.usable = row.alive();
    for (unsigned i = 0; i < Span; i++) {
        pulls[i] /= square;
        best.usable &= isfinite(pulls[i]) != 0;
    }
    __syncwarp(); /* the last step's readers of `firsts` are through */
    for (unsigned j = 0; j < pair_lanes; j++) {
        unsigned k = row.lane + 32 * j;
        bool real = k < args.entries;
        firsts[k] =
            real ? entry_values<Span>(args, 0, k).dot(pulls, args.norms_of(step, 0)[k]) : INFINITY;
        best.second[j] =
            real ? entry_values<Span>(args, 1, k).dot(pulls, args.norms_of(step, 1)[k]) : INFINITY;
    }
    best.score = INFINITY;
    best.first = 0;
}

constexpr unsigned pair_tile = search_pair_rows * search_pair_columns;

static __device__ inline void load_pair_tile(const float *table, float *tile) {
    for (unsigned i = 4 * threadIdx.x; i < pair_tile; i += 4 * pair_warps * 32)
        cuda_copy_ahead(tile + i, table + i);
}

/* First entries first .. first + search_pair_rows - 1 for all rows of the warp. */
template <unsigned Rows>
static __device__ void search_tile(const float *tile, unsigned first, const float *firsts,
                                   pair_best (&best)[Rows]) {
    unsigned lane = threadIdx.x % 32;
    for (unsigned a = 0; a < search_pair_rows; a++) {
        float table[pair_lanes];
        for (unsigned j = 0; j < pair_lanes; j++)
            table[j] = tile[a * search_pair_columns + lane + 32 * j];
#pragma unroll
        for (unsigned r = 0; r < Rows; r++) {
            float least = best[r].second[0] + table[0];
            for (unsigned j = 1; j < pair_lanes; j++)
                least = fminf(least, best[r].second[j] + table[j]);
            float score = firsts[r * search_pair_columns + first + a] + least;
            if (score < best[r].score) {
                best[r].score = score;
                best[r].first = first + a;
            }
        }
    }
}

/* The row's best pair, if it is better than the present one. */
template <unsigned Span>
static __device__ void adopt_pair(const search_args &args, unsigned step, const float *firsts,
                                  const pair_best &found, single_row<Span> &row) {
    if (!found.usable) return;
    const uint16_t *codes = row.first_codes(args, step);
    const float *table = pair_table(args, step), square = row.scale * row.scale;
    single_best first = {found.score, found.first}, second = {INFINITY, 0};
    if (!warp_least(first)) return;
    for (unsigned j = 0; j < pair_lanes; j++) {
        unsigned k = row.lane + 32 * j;
        float score = found.second[j] + table[first.entry * search_pair_columns + k];
        if (score < second.score) second = {score, k};
    }
    warp_least(second);
    float old = 0;
    for (unsigned j = 0; j < pair_lanes; j++)
        if (j == codes[1] / 32) old = found.second[j];
    old = __shfl_sync(cuda_whole_warp, old, codes[1] % 32);
    float present = firsts[codes[0]] + (old + table[codes[0] * search_pair_columns + codes[1]]);
    if (!(first.score < present)) return;
    row.loss += square * (first.score - present);
    row.change = args.entry(0, first.entry)[row.element] - args.entry(0, codes[0])[row.element];
    row.change += args.entry(1, second.entry)[row.element] - args.entry(1, codes[1])[row.element];
    if (row.lane > 0) return;
    row.choices(args, step)[0] = (uint16_t)first.entry;
    row.choices(args, step)[1] = (uint16_t)second.entry;
}

/* All threads of a block; one tile is searched while the next one comes. */
template <unsigned Rows>
static __device__ void search_table(const search_args &args, unsigned step, const float *firsts,
                                    pair_best (&best)[Rows]) {
    __shared__ __align__(16) float tiles[2][pair_tile];
    const float *table = pair_table(args, step);
    unsigned count = (args.entries + search_pair_rows - 1) / search_pair_rows;
    __syncthreads();
    load_pair_tile(table, tiles[0]);
    for (unsigned i = 0; i < count; i++) {
        cuda_copies_wait();
        __syncthreads();
        if (i + 1 < count) load_pair_tile(table + (i + 1) * pair_tile, tiles[(i + 1) % 2]);
        search_tile<Rows>(tiles[i % 2], i * search_pair_rows, firsts, best);
    }
}

/* Rows past the last one only help to load tiles. */
template <unsigned Span, unsigned Rows>
__global__ void __launch_bounds__(pair_warps * 32) pairs_kernel(search_args args) {
    __shared__ float scores[pair_warps][Rows * search_pair_columns];
    size_t number = ((size_t)blockIdx.x * pair_warps + threadIdx.x / 32) * Rows;
    unsigned real = (unsigned)(number >= args.rows ? 0 : min((size_t)Rows, args.rows - number));
    float *firsts = scores[threadIdx.x / 32];
    single_row<Span> rows[Rows];
    pair_best best[Rows];
#pragma unroll
    for (unsigned r = 0; r < Rows; r++)
        if (r < real) {
            rows[r] = single_row<Span>(args, number + r);
            load_residual(args, rows[r]);
        }
    for (unsigned step = 0; step < args.steps; step++) {
#pragma unroll
        for (unsigned r = 0; r < Rows; r++)
            if (r < real) {
                begin_step(args, step, rows[r]);
                score_row(args, step, rows[r], firsts + r * search_pair_columns, best[r]);
            }
        search_table<Rows>(args, step, firsts, best);
#pragma unroll
        for (unsigned r = 0; r < Rows; r++)
            if (r < real) {
                adopt_pair(args, step, firsts + r * search_pair_columns, best[r], rows[r]);
                end_step(args, step, rows[r]);
            }
    }
#pragma unroll
    for (unsigned r = 0; r < Rows; r++)
        if (r < real) store_row(args, rows[r]);
}

/* ---- launches ---- */

template <unsigned Span, unsigned Rows>
static aq_status run_pairs(const cuda_state *state, const search_args &args) {
    size_t blocks = (args.rows + pair_warps * Rows - 1) / (pair_warps * Rows);
    pairs_kernel<Span, Rows><<<(unsigned)blocks, pair_warps * 32, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

static aq_status run_any_pairs(const cuda_state *state, const search_args &args) {
    size_t bytes = search_memory::bytes(args);
    if (bytes > search_granted / 2)
        CUDA_TRY(cudaFuncSetAttribute(pair_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      (int)bytes));
    pair_kernel<<<(unsigned)args.rows, cuda_threads, bytes, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* Few rows: one a warp, so that they fill the device. */
aq_status search_pairs(const cuda_state *state, const search_args &given) {
    constexpr size_t few = 2048;
    search_args args = given;
    cuda_scratch scratch(state);
    float *pairs;
    AQ_TRY(scratch.take(search_pair_floats(args), &pairs));
    AQ_TRY(fill_pairs(state, args, pairs));
    args.pairs = pairs;
    if (!search_is_single(args)) return run_any_pairs(state, args);
    if (args.width == 16) return run_pairs<16, 1>(state, args);
    return args.rows < few ? run_pairs<8, 1>(state, args) : run_pairs<8, 4>(state, args);
}
