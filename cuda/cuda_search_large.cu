#include "search_minima.h"
#include "search_row.h"

/* Large codebooks: a row cannot look at all entries alone, they would have to come from afar for
 * every row. Rows share them instead. For every hypothesis and chunk of entries the least score is
 * found first, points against entries; then the row looks at all entries of its best chunks, which
 * hold its best proposals, and takes these under the same rules as with small codebooks. */

constexpr unsigned least_entries = minima_chunk * minima_step; /* of a large codebook */
constexpr unsigned large_threads = 128;

/* ---- a row between two searches ---- */

static __device__ void load_window(const search_args &args, const large_args &large, size_t row,
                                   search_memory &memory) {
    size_t size = (size_t)args.beam * args.lines * args.columns;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
        memory.run.residual[i] = large.window[row * size + i];
        memory.run.change[i] = args.delta[row * size + i];
    }
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x) {
        memory.now.losses[h] = args.losses[row * args.beam + h];
        memory.run.origins[h] = args.origins[row * args.beam + h];
    }
    __syncthreads();
}

static __device__ void store_window(const search_args &args, const large_args &large, size_t row,
                                    const search_memory &memory) {
    size_t size = (size_t)args.beam * args.lines * args.columns;
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x)
        large.window[row * size + i] = memory.run.residual[i];
}

/* Goes on within a step. */
static __device__ void load_step(const search_args &args, unsigned step, size_t row,
                                 search_memory &memory) {
    const uint16_t *codes = args.codes + (row * args.groups + args.group[step]) * args.books;
    size_t place = (step * args.rows + row) * args.beam;
    for (unsigned m = threadIdx.x; m < args.books; m += blockDim.x) memory.first[m] = codes[m];
    for (unsigned i = threadIdx.x; i < args.beam * args.books; i += blockDim.x)
        memory.now.codes[i] = args.choices[place * args.books + i];
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x)
        memory.now.ancestors[h] = args.ancestors[place + h];
    __syncthreads();
}

/* 2 v / s: the least n(e) + e . point is that of s^2 n(e) + 2 s e . v. */
static __device__ void store_points(const search_args &args, const large_args &large, size_t row,
                                    const search_memory &memory) {
    float square = args.scales[row] * args.scales[row];
    for (unsigned i = threadIdx.x; i < args.beam * args.width; i += blockDim.x) {
        bool alive = memory.now.losses[i / args.width] < INFINITY;
        float point = alive ? memory.pulls[i] / square : 0;
        large.points[row * args.beam * args.width + i] = isfinite(point) ? point : 0;
    }
}

/* ---- the best proposals ---- */

/* The thread's best (hypothesis, chunk) that comes after `last`. */
static __device__ uint64_t next_chunk(const search_args &args, const large_args &large, size_t row,
                                      const search_memory &memory, uint64_t last) {
    float square = args.scales[row] * args.scales[row];
    uint64_t best = no_proposal;
    for (unsigned h = 0; h < args.beam; h++) {
        if (!(memory.now.losses[h] < INFINITY)) continue;
        float base = memory.now.losses[h] - memory.present[h];
        const float *minima = large.minima + (row * args.beam + h) * large.chunks;
        for (unsigned chunk = threadIdx.x; chunk < large.chunks; chunk += blockDim.x) {
            uint64_t key = proposal_key(fmaf(square, minima[chunk], base), h, chunk);
            if (key > last && key < best) best = key;
        }
    }
    return best;
}

/* The thread's best proposal after `last`: an entry of the chosen chunks, or to leave a hypothesis
 * as it is, so that nothing is lost where rounding chose another chunk. */
template <unsigned Width>
static __device__ uint64_t next_of_chunks(const search_args &args, unsigned step, size_t row,
                                          unsigned m, const search_memory &memory,
                                          const uint64_t *chosen, uint64_t last) {
    float square = args.scales[row] * args.scales[row];
    const float *norms = args.norms_of(step, m);
    uint64_t best = no_proposal;
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x) {
        uint64_t key = proposal_key(memory.now.losses[h], h, memory.first[m]);
        if (key > last && key < best) best = key;
    }
    for (unsigned rank = 0; rank < args.beam && chosen[rank] != no_proposal; rank++) {
        unsigned h = proposal_hypothesis(chosen[rank]);
        unsigned first = proposal_entry(chosen[rank]) * minima_chunk;
        for (unsigned k = first + threadIdx.x; k < first + minima_chunk; k += blockDim.x) {
            float score = entry_values<Width>(args, m, k)
                              .dot(memory.pulls + h * args.width, square * norms[k]);
            uint64_t key = proposal_key(memory.now.losses[h] + score - memory.present[h], h, k);
            if (key > last && key < best) best = key;
        }
    }
    return best;
}

template <unsigned Width>
static __device__ void choose_proposals(const search_args &args, const large_args &large,
                                        unsigned step, size_t row, unsigned m,
                                        search_memory &memory) {
    __shared__ uint64_t chosen[AQ_MAX_BEAM];
    uint64_t mine = next_chunk(args, large, row, memory, 0);
    for (unsigned rank = 0; rank < args.beam; rank++) {
        uint64_t best = block_least(mine);
        if (threadIdx.x == 0) chosen[rank] = best;
        if (mine == best && best != no_proposal && rank + 1 < args.beam)
            mine = next_chunk(args, large, row, memory, best);
    }
    __syncthreads();
    mine = next_of_chunks<Width>(args, step, row, m, memory, chosen, 0);
    for (unsigned rank = 0; rank < args.beam; rank++) {
        uint64_t best = block_least(mine);
        if (threadIdx.x == 0) memory.taken[rank] = best;
        if (mine == best && best != no_proposal && rank + 1 < args.beam)
            mine = next_of_chunks<Width>(args, step, row, m, memory, chosen, best);
    }
    __syncthreads();
}

/* ---- a run ---- */

/* One block a row group; see search_single_place, which does the same for one hypothesis. */
template <unsigned Width>
__global__ void large_kernel(search_args args, large_args large, int place) {
    extern __shared__ __align__(16) float shared[];
    search_memory memory(args, shared);
    size_t row = blockIdx.x;
    if (place < 0) {
        load_row(args, row, memory);
    } else {
        unsigned step = (unsigned)place / args.books, m = args.order[place];
        bool first = place % args.books == 0, last = (place + 1) % args.books == 0;
        load_window(args, large, row, memory);
        first ? begin_step(args, step, row, memory) : load_step(args, step, row, memory);
        prepare_pulls(args, step, row, m, memory);
        prepare_present<Width>(args, step, row, m, memory);
        choose_proposals<Width>(args, large, step, row, m, memory);
        adopt_proposals(args, m, memory);
        store_step(args, step, row, memory);
        if (last) end_step(args, step, row, memory);
    }
    unsigned next = (unsigned)(place + 1);
    if (next < args.steps * args.books) {
        if (next % args.books == 0) begin_step(args, next / args.books, row, memory);
        prepare_pulls(args, next / args.books, row, args.order[next], memory);
        store_points(args, large, row, memory);
        store_window(args, large, row, memory);
    }
    store_row(args, row, memory);
}

static aq_status find_minima(const cuda_state *state, const search_args &args,
                             const large_args &large, unsigned place) {
    unsigned step = place / args.books, m = args.order[place];
    minima_args minima = {};
    minima.points = large.points;
    minima.table = large.table + minima_table_words((size_t)m * args.entries, args.width);
    minima.norms = args.norms + ((size_t)step * args.books + m) * args.entries;
    minima.minima = large.minima;
    minima.count = args.rows * args.beam;
    minima.chunks = large.chunks;
    minima.width = args.width;
    return minima_find(state, minima);
}

template <unsigned Width>
static aq_status run_large(const cuda_state *state, const search_args &args,
                           const large_args &large, int place) {
    size_t bytes = search_memory::bytes(args);
    if (bytes > search_granted)
        CUDA_TRY(cudaFuncSetAttribute(large_kernel<Width>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    large_kernel<Width>
        <<<(unsigned)args.rows, large_threads, bytes, state->stream>>>(args, large, place);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

static aq_status search_place(const cuda_state *state, const search_args &args,
                              const large_args &large, int place) {
    if (place >= 0) AQ_TRY(find_minima(state, args, large, (unsigned)place));
    if (search_is_single(args)) return search_single_place(state, args, large, place);
    bool aligned = reinterpret_cast<uintptr_t>(args.codebooks) % sizeof(float4) == 0;
    if (aligned && args.width == 8) return run_large<8>(state, args, large, place);
    if (aligned && args.width == 16) return run_large<16>(state, args, large, place);
    return run_large<0>(state, args, large, place);
}

bool search_is_large(const search_args &args) {
    return args.entries >= least_entries && args.width <= minima_widest;
}

aq_status search_large(const cuda_state *state, const search_args &args) {
    size_t hypotheses = args.rows * args.beam, entries = (size_t)args.books * args.entries;
    cuda_scratch window(state), points(state), minima(state), table(state);
    large_args large = {};
    large.chunks = args.entries / minima_chunk;
    AQ_TRY(window.take(hypotheses * args.lines * args.columns, &large.window));
    AQ_TRY(points.take(hypotheses * args.width, &large.points));
    AQ_TRY(minima.take(hypotheses * large.chunks, &large.minima));
    AQ_TRY(table.take(minima_table_words(entries, args.width), &large.table));
    AQ_TRY(minima_table(state, args.codebooks, entries, args.width, large.table));
    for (int place = -1; place < (int)(args.steps * args.books); place++)
        AQ_TRY(search_place(state, args, large, place));
    return AQ_OK;
}
