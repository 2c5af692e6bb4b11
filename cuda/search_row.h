/* One row group of a run, as a block of threads works it: its hypotheses and their residuals in the
 * run's columns lie in shared memory. CUDA C++ only.
 *
 * Every thread of the block calls these functions; what they change is visible to all when they
 * return.
 */
#ifndef AQ_CUDA_SEARCH_ROW_H
#define AQ_CUDA_SEARCH_ROW_H

#include "search.h"

/* Before (now) and after (next) a codebook's proposals. */
struct hypotheses {
    float *losses;
    uint16_t *codes; /* [beam, M] of the step's group */
    uint8_t *ancestors;
};

/* Before and after a step; the same memory for a beam of 1. */
struct run_state {
    float *residual; /* [beam, o, columns] */
    float *change;   /* the same: of the decoded weight */
    uint8_t *origins;
};

struct search_memory {
    float *pulls;    /* [beam, width]: 2 s v */
    float *offsets;  /* [beam, width]: see search_offset; what a step changed */
    float *present;  /* [beam]: scores of the present entries */
    uint64_t *taken; /* [beam]: keys of the proposals that live on */
    uint16_t *first; /* [M]: codes before the pass */
    hypotheses now, next;
    run_state run, later;

    static __host__ __device__ size_t bytes(const search_args &args) {
        size_t beam = args.beam, pairs = beam > 1 ? 2 : 1;
        size_t floats = 2 * args.width + 3 + 2 * pairs * args.lines * args.columns;
        return beam * (sizeof(uint64_t) + floats * sizeof(float)) +
               (2 * beam + 1) * args.books * sizeof(uint16_t) + 4 * beam;
    }

    /* Pulls come first: they are read four at a time. A pair of them keeps the keys aligned. */
    __device__ search_memory(const search_args &args, float *start) {
        size_t beam = args.beam, books = args.books, size = beam * args.lines * args.columns;
        pulls = start;
        offsets = pulls + beam * args.width;
        taken = reinterpret_cast<uint64_t *>(offsets + beam * args.width);
        present = reinterpret_cast<float *>(taken + beam);
        now.losses = present + beam;
        next.losses = now.losses + beam;
        run.residual = next.losses + beam;
        run.change = run.residual + size;
        later.residual = beam > 1 ? run.change + size : run.residual;
        later.change = beam > 1 ? later.residual + size : run.change;
        first = reinterpret_cast<uint16_t *>(later.change + size);
        now.codes = first + books;
        next.codes = now.codes + beam * books;
        now.ancestors = reinterpret_cast<uint8_t *>(next.codes + beam * books);
        next.ancestors = now.ancestors + beam;
        run.origins = next.ancestors + beam;
        later.origins = run.origins + beam;
    }
};

/* The row as it stands before the run. */
static __device__ inline void load_row(const search_args &args, size_t row, search_memory &memory) {
    for (unsigned i = threadIdx.x; i < args.beam * args.lines * args.columns; i += blockDim.x) {
        unsigned l = i % args.columns, line = i / args.columns % args.lines;
        unsigned h = i / args.columns / args.lines;
        size_t place = (row * args.held + h) * args.lines + line;
        memory.run.residual[i] =
            h < args.held ? args.residual[place * args.in + args.column(l)] : 0;
        memory.run.change[i] = 0;
    }
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x) {
        memory.now.losses[h] = args.losses[row * args.beam + h];
        memory.run.origins[h] = (uint8_t)(h < args.held ? h : 0);
    }
    __syncthreads();
}

/* All hypotheses have the codes of before the pass. */
static __device__ inline void begin_step(const search_args &args, unsigned step, size_t row,
                                         search_memory &memory) {
    const uint16_t *codes = args.codes + (row * args.groups + args.group[step]) * args.books;
    for (unsigned m = threadIdx.x; m < args.books; m += blockDim.x) memory.first[m] = codes[m];
    for (unsigned i = threadIdx.x; i < args.beam * args.books; i += blockDim.x)
        memory.now.codes[i] = codes[i % args.books];
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x)
        memory.now.ancestors[h] = (uint8_t)h;
    __syncthreads();
}

/* Pulls of the living hypotheses for codebook m. */
static __device__ inline void prepare_pulls(const search_args &args, unsigned step, size_t row,
                                            unsigned m, search_memory &memory) {
    const hypotheses &now = memory.now;
    for (unsigned i = threadIdx.x; i < args.beam * args.width; i += blockDim.x) {
        const uint16_t *codes = now.codes + i / args.width * args.books;
        memory.offsets[i] = search_offset(args, row, m, codes, memory.first, i % args.width);
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < args.beam * args.width; i += blockDim.x) {
        unsigned h = i / args.width;
        if (now.losses[h] < INFINITY)
            memory.pulls[i] = search_pull(args, step, row,
                                          memory.run.residual +
                                              (size_t)now.ancestors[h] * args.lines * args.columns,
                                          memory.offsets + h * args.width, i % args.width);
    }
    __syncthreads();
}

/* Scores of their present entries. */
template <unsigned Width>
static __device__ void prepare_present(const search_args &args, unsigned step, size_t row,
                                       unsigned m, search_memory &memory) {
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x)
        if (memory.now.losses[h] < INFINITY)
            memory.present[h] = search_score<Width>(args, step, row, m, memory.first[m],
                                                    memory.pulls + h * args.width);
    __syncthreads();
}

/* Makes the taken proposals the hypotheses. Ends with them visible to all. */
static __device__ inline void adopt_proposals(const search_args &args, unsigned m,
                                              search_memory &memory) {
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

/* The step's place of the history. */
static __device__ inline void store_step(const search_args &args, unsigned step, size_t row,
                                         const search_memory &memory) {
    size_t place = (step * args.rows + row) * args.beam;
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x)
        args.ancestors[place + h] = memory.now.ancestors[h];
    for (unsigned i = threadIdx.x; i < args.beam * args.books; i += blockDim.x)
        args.choices[place * args.books + i] = memory.now.codes[i];
}

/* Element l of a line of hypothesis h: what its ancestor changed before, what the step changed, and
 * what that does to the columns that the run has yet to come to. */
static __device__ inline void move_element(const search_args &args, unsigned step, unsigned h,
                                           unsigned line, unsigned l, search_memory &memory) {
    unsigned first = step * args.span, next = first + args.span;
    const float *delta = memory.offsets + h * args.width + line * args.span;
    size_t to = (h * args.lines + line) * args.columns + l;
    size_t from = (memory.now.ancestors[h] * args.lines + line) * args.columns + l;
    if (l < next) {
        memory.later.change[to] = l < first ? memory.run.change[from] : delta[l - first];
        return;
    }
    float sum = memory.run.residual[from];
    for (unsigned i = 0; i < args.span; i++)
        sum = fmaf(delta[i], args.gram[(first + i) * args.columns + l], sum);
    memory.later.residual[to] = sum;
}

/* The residuals and changes that go with the step's hypotheses. */
static __device__ inline void end_step(const search_args &args, unsigned step, size_t row,
                                       search_memory &memory) {
    for (unsigned i = threadIdx.x; i < args.beam * args.width; i += blockDim.x)
        memory.offsets[i] = search_change(args, row, memory.now.codes + i / args.width * args.books,
                                          memory.first, i % args.width);
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x) {
        uint8_t origin = memory.run.origins[memory.now.ancestors[h]];
        memory.later.origins[h] = memory.now.losses[h] < INFINITY ? origin : 0;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < args.beam * args.lines * args.columns; i += blockDim.x)
        move_element(args, step, i / args.columns / args.lines, i / args.columns % args.lines,
                     i % args.columns, memory);
    run_state old = memory.run;
    memory.run = memory.later;
    memory.later = old;
    __syncthreads();
}

/* What the run leaves. */
static __device__ inline void store_row(const search_args &args, size_t row,
                                        const search_memory &memory) {
    unsigned size = args.lines * args.columns;
    for (unsigned h = threadIdx.x; h < args.beam; h += blockDim.x) {
        args.losses[row * args.beam + h] = memory.now.losses[h];
        args.origins[row * args.beam + h] = memory.run.origins[h];
    }
    for (unsigned i = threadIdx.x; i < args.beam * size; i += blockDim.x)
        args.delta[row * args.beam * size + i] =
            memory.now.losses[i / size] < INFINITY ? memory.run.change[i] : 0;
}

#endif
