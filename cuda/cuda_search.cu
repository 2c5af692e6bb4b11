#include "search_row.h"

/* The thread's best proposal that comes after `last`; it looks at every blockDim-th entry. */
template <unsigned Width>
static __device__ uint64_t next_proposal(const search_args &args, unsigned step, size_t row,
                                         unsigned m, const search_memory &memory, uint64_t last) {
    float square = args.scales[row] * args.scales[row];
    const float *norms = args.norms_of(step, m);
    uint64_t best = no_proposal;
    for (unsigned k = threadIdx.x; k < args.entries; k += blockDim.x) {
        entry_values<Width> entry(args, m, k);
        float norm = square * norms[k];
        for (unsigned h = 0; h < args.beam; h++) {
            float loss = memory.now.losses[h];
            if (!(loss < INFINITY)) continue;
            loss += entry.dot(memory.pulls + h * args.width, norm) - memory.present[h];
            uint64_t key = proposal_key(loss, h, k);
            if (key > last && key < best) best = key;
        }
    }
    return best;
}

/* One block a row group. The proposals that live on are found one by one: all threads know their
 * best, the best of these is taken, and the thread that proposed it looks for its next one. No two
 * of them are equal (ops.h), so their keys order them strictly. */
template <unsigned Width>
static __device__ void search_codebook(const search_args &args, unsigned step, size_t row,
                                       unsigned m, search_memory &memory) {
    prepare_pulls(args, step, row, m, memory);
    prepare_present<Width>(args, step, row, m, memory);
    uint64_t mine = next_proposal<Width>(args, step, row, m, memory, 0);
    for (unsigned rank = 0; rank < args.beam; rank++) {
        uint64_t best = block_least(mine);
        if (threadIdx.x == 0) memory.taken[rank] = best;
        if (mine == best && best != no_proposal && rank + 1 < args.beam)
            mine = next_proposal<Width>(args, step, row, m, memory, best);
    }
    __syncthreads();
    adopt_proposals(args, m, memory);
}

template <unsigned Width> __global__ void search_kernel(search_args args) {
    extern __shared__ __align__(16) float shared[];
    search_memory memory(args, shared);
    size_t row = blockIdx.x;
    load_row(args, row, memory);
    for (unsigned step = 0; step < args.steps; step++) {
        begin_step(args, step, row, memory);
        for (unsigned i = 0; i < args.books; i++)
            search_codebook<Width>(args, step, row, args.order[step * args.books + i], memory);
        store_step(args, step, row, memory);
        end_step(args, step, row, memory);
    }
    store_row(args, row, memory);
}

static search_args args_of(const aq_group_search *search) {
    const aq_coded *coded = search->coded;
    search_args args = {};
    args.codes = static_cast<const uint16_t *>(coded->codes.data);
    args.codebooks = cuda_floats(&coded->codebooks);
    args.scales = cuda_floats(&coded->scales);
    args.residual = cuda_floats(search->residual);
    args.losses = cuda_floats(search->losses);
    args.delta = cuda_floats(search->delta);
    args.ancestors = static_cast<uint8_t *>(search->ancestors->data);
    args.origins = static_cast<uint8_t *>(search->origins->data);
    args.choices = static_cast<uint16_t *>(search->choices->data);
    args.rows = search->losses->shape[0];
    args.beam = (unsigned)search->losses->shape[1];
    args.held = (unsigned)search->residual->shape[1];
    args.in = search->gram->shape[1];
    args.groups = coded->codes.shape[1];
    args.steps = (unsigned)search->run.count;
    args.books = (unsigned)coded->codebooks.shape[0];
    args.entries = (unsigned)coded->codebooks.shape[1];
    args.lines = (unsigned)coded->codebooks.shape[2];
    args.span = (unsigned)coded->codebooks.shape[3];
    args.width = args.lines * args.span;
    args.columns = args.steps * args.span;
    for (unsigned t = 0; t < args.steps; t++) args.group[t] = search->run.groups[t];
    for (unsigned i = 0; search->codebook_orders && i < args.steps * args.books; i++)
        args.order[i] = search->codebook_orders[i];
    return args;
}

/* ---- what all rows share ---- */

static aq_status gather_gram(const cuda_state *state, const search_args &args, const float *gram,
                             float *target) {
    return cuda_each(state, (size_t)args.columns * args.columns, [=] __device__(size_t i) {
        size_t row = args.column((unsigned)(i / args.columns));
        target[i] = gram[row * args.in + args.column((unsigned)(i % args.columns))];
    });
}

/* line' H_JJ line, J the columns of a step. */
template <unsigned Span>
static __device__ float line_norm(const search_args &args, unsigned step, const float *line) {
    unsigned span = Span ? Span : args.span;
    const float *gram = args.gram + (size_t)step * span * (args.columns + 1);
    float values[Span ? Span : 1], norm = 0;
    if constexpr (Span > 0)
        for (unsigned i = 0; i < Span; i++) values[i] = line[i];
    for (unsigned i = 0; i < span; i++) {
        float product = 0;
        for (unsigned j = 0; j < span; j++)
            product = fmaf(gram[i * args.columns + j], Span ? values[j] : line[j], product);
        norm = fmaf(Span ? values[i] : line[i], product, norm);
    }
    return norm;
}

template <unsigned Span>
static aq_status find_norms(const cuda_state *state, const search_args &args, float *norms) {
    size_t count = (size_t)args.books * args.entries;
    return cuda_each(state, args.steps * count, [=] __device__(size_t i) {
        const float *entry = args.codebooks + i % count * args.width;
        float norm = 0;
        for (unsigned line = 0; line < args.lines; line++)
            norm += line_norm<Span>(args, (unsigned)(i / count), entry + line * args.span);
        norms[i] = norm;
    });
}

/* ---- the op ---- */

/* A thread an entry, within a block's limits. */
static unsigned search_threads(const search_args &args) {
    unsigned threads = args.entries < cuda_threads ? args.entries : cuda_threads;
    return (threads + 31) / 32 * 32;
}

template <unsigned Width>
static aq_status run_search(const cuda_state *state, const search_args &args) {
    size_t bytes = search_memory::bytes(args);
    if (bytes > search_granted)
        CUDA_TRY(cudaFuncSetAttribute(search_kernel<Width>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    search_kernel<Width><<<(unsigned)args.rows, search_threads(args), bytes, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

static aq_status check_limits(const cuda_state *state, const search_args &args) {
    AQ_REQUIRE(args.books <= search_most_books && args.rows <= 0x7fffffff, AQ_UNSUPPORTED,
               "a code search over %u codebooks and %zu row groups", args.books, args.rows);
    int most = 0;
    CUDA_TRY(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, state->device));
    AQ_REQUIRE(search_memory::bytes(args) + 1024 <= (size_t)most, AQ_UNSUPPORTED,
               "a code search with a beam of %u over groups of %u x %u does not fit into the GPU's "
               "shared memory",
               args.beam, args.lines, args.span);
    return AQ_OK;
}

aq_status cuda_search_groups(const aq_group_search *search) {
    const cuda_state *state = cuda_state_of(search->losses);
    search_args args = args_of(search);
    AQ_TRY(check_limits(state, args));
    cuda_scratch gram_scratch(state), norms_scratch(state);
    float *gram, *norms;
    AQ_TRY(gram_scratch.take((size_t)args.columns * args.columns, &gram));
    AQ_TRY(norms_scratch.take((size_t)args.steps * args.books * args.entries, &norms));
    AQ_TRY(gather_gram(state, args, cuda_floats(search->gram), gram));
    args.gram = gram;
    AQ_TRY(args.span == 8 ? find_norms<8>(state, args, norms) : find_norms<0>(state, args, norms));
    args.norms = norms;
    if (!search->codebook_orders) return search_pairs(state, args);
    if (!search->exact && search_is_large(args)) return search_large(state, args);
    if (search_is_single(args)) return search_single(state, args);
    bool aligned = reinterpret_cast<uintptr_t>(args.codebooks) % sizeof(float4) == 0;
    if (aligned && args.width == 8) return run_search<8>(state, args);
    if (aligned && args.width == 16) return run_search<16>(state, args);
    return run_search<0>(state, args);
}
