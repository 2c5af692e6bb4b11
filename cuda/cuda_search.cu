#include "search.h"

/* A block's shared memory: the hypotheses of one row group before (now) and after (next) a
 * codebook, and what their proposals are scored with. */
struct hypotheses {
    float *losses;
    uint16_t *codes; /* [beam, M] */
    uint8_t *ancestors;
};

struct search_memory {
    float *pulls;    /* [beam, width]: 2 s v */
    float *offsets;  /* [beam, width]: see search_offset */
    float *present;  /* [beam]: scores of the present entries */
    uint64_t *taken; /* [beam]: keys of the proposals that live on */
    uint16_t *first; /* [M]: codes before the pass */
    hypotheses now, next;

    static __host__ __device__ size_t bytes(size_t beam, size_t width, size_t books) {
        return beam * (sizeof(uint64_t) + (2 * width + 3) * sizeof(float)) +
               (2 * beam + 1) * books * sizeof(uint16_t) + 2 * beam;
    }

    /* Pulls come first: they are read four at a time. A pair of them keeps the keys aligned. */
    __device__ search_memory(float *start, size_t beam, size_t width, size_t books) {
        pulls = start;
        offsets = pulls + beam * width;
        taken = reinterpret_cast<uint64_t *>(offsets + beam * width);
        present = reinterpret_cast<float *>(taken + beam);
        now.losses = present + beam;
        next.losses = now.losses + beam;
        first = reinterpret_cast<uint16_t *>(next.losses + beam);
        now.codes = first + books;
        next.codes = now.codes + beam * books;
        now.ancestors = reinterpret_cast<uint8_t *>(next.codes + beam * books);
        next.ancestors = now.ancestors + beam;
    }
};

/* Every thread takes part; ends with all of it visible to all. */
static __device__ void load_hypotheses(const search_args &args, size_t row, search_memory &memory) {
    const uint16_t *codes = args.codes + (row * args.groups + args.group) * args.books;
    for (unsigned m = threadIdx.x; m < args.books; m += blockDim.x) memory.first[m] = codes[m];
    for (unsigned i = threadIdx.x; i < args.beam * args.books; i += blockDim.x)
        memory.now.codes[i] = codes[i % args.books];
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x) {
        memory.now.losses[h] = args.losses[row * args.beam + h];
        memory.now.ancestors[h] = (uint8_t)h;
    }
    __syncthreads();
}

/* Pulls and present scores of the living hypotheses for codebook m; the others' residuals may never
 * have been written. Ends with them visible to all. */
template <unsigned Width>
static __device__ void prepare_scores(const search_args &args, size_t row, unsigned m,
                                      search_memory &memory) {
    const hypotheses &now = memory.now;
    for (unsigned i = threadIdx.x; i < args.beam * args.width; i += blockDim.x) {
        const uint16_t *codes = now.codes + i / args.width * args.books;
        memory.offsets[i] = search_offset(args, row, m, codes, memory.first, i % args.width);
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < args.beam * args.width; i += blockDim.x) {
        unsigned h = i / args.width;
        if (now.losses[h] < INFINITY)
            memory.pulls[i] = search_pull(args, row * args.beam + now.ancestors[h], row,
                                          memory.offsets + h * args.width, i % args.width);
    }
    __syncthreads();
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x)
        if (now.losses[h] < INFINITY)
            memory.present[h] =
                search_score<Width>(args, row, m, memory.first[m], memory.pulls + h * args.width);
    __syncthreads();
}

/* The thread's best proposal that comes after `last`; it looks at every blockDim-th entry. */
template <unsigned Width>
static __device__ uint64_t next_proposal(const search_args &args, size_t row, unsigned m,
                                         const search_memory &memory, uint64_t last) {
    float square = args.scales[row] * args.scales[row];
    uint64_t best = no_proposal;
    for (unsigned k = threadIdx.x; k < args.entries; k += blockDim.x) {
        entry_values<Width> entry(args, m, k);
        float norm = square * args.norms[(size_t)m * args.entries + k];
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

/* Makes the taken proposals the hypotheses. Ends with them visible to all. */
static __device__ void adopt_proposals(const search_args &args, unsigned m, search_memory &memory) {
    for (unsigned i = threadIdx.x; i < args.beam * args.books; i += blockDim.x) {
        uint64_t key = memory.taken[i / args.books];
        unsigned book = i % args.books;
        uint16_t code = memory.first[book];
        if (key != no_proposal)
            code = book == m ? (uint16_t)proposal_entry(key)
                             : memory.now.codes[proposal_hypothesis(key) * args.books + book];
        memory.next.codes[i] = code;
    }
    for (unsigned rank = threadIdx.x; rank < args.beam; rank += blockDim.x) {
        uint64_t key = memory.taken[rank];
        bool alive = key != no_proposal;
        memory.next.losses[rank] = alive ? proposal_loss(key) : INFINITY;
        memory.next.ancestors[rank] = alive ? memory.now.ancestors[proposal_hypothesis(key)] : 0;
    }
    hypotheses old = memory.now;
    memory.now = memory.next;
    memory.next = old;
    __syncthreads();
}

static __device__ void store_hypotheses(const search_args &args, size_t row,
                                        const search_memory &memory) {
    const hypotheses &now = memory.now;
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x) {
        args.losses[row * args.beam + h] = now.losses[h];
        args.ancestors[row * args.beam + h] = now.ancestors[h];
    }
    for (unsigned i = threadIdx.x; i < args.beam * args.books; i += blockDim.x)
        args.choices[row * args.beam * args.books + i] = now.codes[i];
    for (unsigned i = threadIdx.x; i < args.beam * args.width; i += blockDim.x)
        args.delta[row * args.beam * args.width + i] = search_change(
            args, row, now.codes + i / args.width * args.books, memory.first, i % args.width);
}

/* One block a row group. The proposals that live on are found one by one: all threads know their
 * best, the best of these is taken, and the thread that proposed it looks for its next one. No two
 * of them are equal (ops.h), so their keys order them strictly. */
template <unsigned Width> __global__ void search_kernel(search_args args) {
    extern __shared__ __align__(16) float shared[];
    search_memory memory(shared, args.beam, args.width, args.books);
    size_t row = blockIdx.x;
    load_hypotheses(args, row, memory);
    for (unsigned step = 0; step < args.books; step++) {
        unsigned m = args.order[step];
        prepare_scores<Width>(args, row, m, memory);
        uint64_t mine = next_proposal<Width>(args, row, m, memory, 0);
        for (unsigned rank = 0; rank < args.beam; rank++) {
            uint64_t best = block_least(mine);
            if (threadIdx.x == 0) memory.taken[rank] = best;
            if (mine == best && best != no_proposal && rank + 1 < args.beam)
                mine = next_proposal<Width>(args, row, m, memory, best);
        }
        __syncthreads();
        adopt_proposals(args, m, memory);
    }
    store_hypotheses(args, row, memory);
}

static search_args args_of(const aq_group_search *search) {
    const aq_coded *coded = search->coded;
    search_args args = {};
    args.codes = static_cast<const uint16_t *>(coded->codes.data);
    args.codebooks = cuda_floats(&coded->codebooks);
    args.scales = cuda_floats(&coded->scales);
    args.norms = cuda_floats(search->norms);
    args.residual = cuda_floats(search->residual);
    args.losses = cuda_floats(search->losses);
    args.delta = cuda_floats(search->delta);
    args.ancestors = static_cast<uint8_t *>(search->ancestors->data);
    args.choices = static_cast<uint16_t *>(search->choices->data);
    args.rows = search->losses->shape[0];
    args.beam = (unsigned)search->losses->shape[1];
    args.columns = search->gram->shape[1];
    args.groups = coded->codes.shape[1];
    args.group = search->group;
    args.books = (unsigned)coded->codebooks.shape[0];
    args.entries = (unsigned)coded->codebooks.shape[1];
    args.lines = (unsigned)coded->codebooks.shape[2];
    args.span = (unsigned)coded->codebooks.shape[3];
    args.width = args.lines * args.span;
    args.gram = cuda_floats(search->gram) + args.group * args.span * (args.columns + 1);
    for (unsigned m = 0; m < args.books; m++) args.order[m] = (uint8_t)search->codebook_order[m];
    return args;
}

/* A thread an entry, within a block's limits. */
static unsigned search_threads(const search_args &args) {
    unsigned threads = args.entries < cuda_threads ? args.entries : cuda_threads;
    return (threads + 31) / 32 * 32;
}

template <unsigned Width>
static aq_status run_search(const cuda_state *state, const search_args &args) {
    constexpr size_t granted = 48 << 10; /* shared memory that needs no asking */
    size_t bytes = search_memory::bytes(args.beam, args.width, args.books);
    int most = 0;
    CUDA_TRY(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, state->device));
    AQ_REQUIRE(bytes + 1024 <= (size_t)most, AQ_UNSUPPORTED,
               "a code search with a beam of %u over groups of %u x %u does not fit into the GPU's "
               "shared memory",
               args.beam, args.lines, args.span);
    if (bytes > granted)
        CUDA_TRY(cudaFuncSetAttribute(search_kernel<Width>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    search_kernel<Width><<<(unsigned)args.rows, search_threads(args), bytes, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_search_group(const aq_group_search *search) {
    const cuda_state *state = cuda_state_of(search->losses);
    size_t rows = search->losses->shape[0], books = search->coded->codebooks.shape[0];
    AQ_REQUIRE(books <= search_most_books && rows <= 0x7fffffff, AQ_UNSUPPORTED,
               "a code search over %zu codebooks and %zu row groups", books, rows);
    search_args args = args_of(search);
    bool aligned = reinterpret_cast<uintptr_t>(args.codebooks) % sizeof(float4) == 0;
    if (aligned && args.width == 8) return run_search<8>(state, args);
    if (aligned && args.width == 16) return run_search<16>(state, args);
    return run_search<0>(state, args);
}
