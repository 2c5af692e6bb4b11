/* What the kernels of the code search share: the loss of a proposal and the order of proposals.
 * CUDA C++ only. Letters as in tensor/ops.h; `width` is o * g, `columns` those of the run.
 */
#ifndef AQ_CUDA_SEARCH_H
#define AQ_CUDA_SEARCH_H

#include "launch.h"

constexpr unsigned search_most_books = 64;
/* Tables of pairs have room for whole tiles. */
constexpr unsigned search_pair_columns = AQ_MAX_PAIR_ENTRIES, search_pair_rows = 8;
constexpr size_t search_granted = 48 << 10; /* bytes of shared memory that need no asking */

/* aq_group_search without its tensors. */
struct search_args {
    const uint16_t *codes;
    const float *codebooks, *scales, *residual;
    const float *norms; /* [steps, M, K] */
    const float *gram;  /* H of the run's columns, [columns, columns] */
    const float *pairs; /* [steps, K or search_pair_rows, search_pair_columns]: 2 a H_JJ b of
                           codebooks 0 and 1; NULL: no pairs are searched */
    float *losses, *delta;
    uint8_t *ancestors, *origins;
    uint16_t *choices;
    size_t rows, groups, in;
    unsigned steps, books, entries, lines, span, width, columns, beam;
    unsigned held;                                 /* hypotheses that the residual has */
    uint32_t group[AQ_MAX_RUN];                    /* of a step */
    uint8_t order[AQ_MAX_RUN * search_most_books]; /* [steps, M] */

    __device__ const float *entry(unsigned m, unsigned k) const {
        return codebooks + ((size_t)m * entries + k) * width;
    }

    __device__ const float *norms_of(unsigned step, unsigned m) const {
        return norms + ((size_t)step * books + m) * entries;
    }

    /* Column l of the run, in the whole residual. */
    __device__ size_t column(unsigned l) const {
        return (size_t)group[l / span] * span + l % span;
    }
};

/* ---- the loss of a proposal ---- */

/* Element i of s * (codes - first): how the decoded group differs from the one before the pass. */
static __device__ inline float search_change(const search_args &args, size_t row,
                                             const uint16_t *codes, const uint16_t *first,
                                             unsigned i) {
    float change = 0;
    for (unsigned m = 0; m < args.books; m++)
        if (codes[m] != first[m]) change += args.entry(m, codes[m])[i] - args.entry(m, first[m])[i];
    return args.scales[row] * change;
}

/* The change less s * present entry of codebook m, whose code is still the first. */
static __device__ inline float search_offset(const search_args &args, size_t row, unsigned m,
                                             const uint16_t *codes, const uint16_t *first,
                                             unsigned i) {
    return search_change(args, row, codes, first, i) -
           args.scales[row] * args.entry(m, first[m])[i];
}

/* Element i of 2 s v = 2 s (R_J + H_JJ offset), R the residual [o, columns] in the run's columns.
 */
static __device__ inline float search_pull(const search_args &args, unsigned step, size_t row,
                                           const float *residual, const float *offset, unsigned i) {
    unsigned line = i / args.span, first = step * args.span, column = first + i % args.span;
    float v = residual[line * args.columns + column];
    for (unsigned l = 0; l < args.span; l++)
        v = fmaf(args.gram[column * args.columns + first + l], offset[line * args.span + l], v);
    return 2 * args.scales[row] * v;
}

/* An entry in registers, ready for products; Width 0 reads entries of any width where they lie.
 * With a Width, entries and pulls are aligned to 16 bytes. Sums are the same bits everywhere. */
template <unsigned Width> struct entry_values {
    float values[Width];

    __device__ entry_values(const search_args &args, unsigned m, unsigned k) {
        const float4 *entry = reinterpret_cast<const float4 *>(args.entry(m, k));
        for (unsigned i = 0; i < Width / 4; i++) {
            float4 four = entry[i];
            values[4 * i] = four.x;
            values[4 * i + 1] = four.y;
            values[4 * i + 2] = four.z;
            values[4 * i + 3] = four.w;
        }
    }

    __device__ float dot(const float *pull, float sum) const {
        for (unsigned i = 0; i < Width; i++) sum = fmaf(pull[i], values[i], sum);
        return sum;
    }
};

template <> struct entry_values<0> {
    const float *values;
    unsigned width;

    __device__ entry_values(const search_args &args, unsigned m, unsigned k)
        : values(args.entry(m, k)), width(args.width) {
    }

    __device__ float dot(const float *pull, float sum) const {
        for (unsigned i = 0; i < width; i++) sum = fmaf(pull[i], values[i], sum);
        return sum;
    }
};

/* s^2 n(e) + 2 s e.v */
template <unsigned Width>
static __device__ float search_score(const search_args &args, unsigned step, size_t row, unsigned m,
                                     unsigned k, const float *pull) {
    float norm = args.scales[row] * args.scales[row] * args.norms_of(step, m)[k];
    return entry_values<Width>(args, m, k).dot(pull, norm);
}

/* ---- the order of proposals: loss, hypothesis, entry in one number ---- */

constexpr uint64_t no_proposal = ~0ull; /* NaN, infinity: after all others */

/* The bits of floats ascend with them once the negative ones are inverted; adding 0 turns -0 into
 * +0, which must tie. */
static __device__ inline uint64_t proposal_key(float loss, unsigned hypothesis, unsigned entry) {
    if (!(loss < INFINITY)) return no_proposal;
    uint32_t bits = __float_as_uint(loss + 0.0f);
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
    return (uint64_t)bits << 32 | hypothesis << 16 | entry;
}

static __device__ inline float proposal_loss(uint64_t key) {
    uint32_t bits = (uint32_t)(key >> 32);
    return __uint_as_float(bits ^ (bits >> 31 ? 0x80000000u : 0xffffffffu));
}

static __device__ inline unsigned proposal_hypothesis(uint64_t key) {
    return (unsigned)(key >> 16) & 0xffffu;
}

static __device__ inline unsigned proposal_entry(uint64_t key) {
    return (unsigned)key & 0xffffu;
}

/* The least key of the block, for every thread. All threads call it. */
static __device__ inline uint64_t block_least(uint64_t key) {
    __shared__ uint64_t warps[32];
    for (int step = 16; step > 0; step /= 2) {
        uint64_t other = __shfl_xor_sync(cuda_whole_warp, key, step);
        key = other < key ? other : key;
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = key;
    __syncthreads();
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++)
        key = warps[warp] < key ? warps[warp] : key;
    __syncthreads();
    return key;
}

/* ---- ways for some searches ---- */

/* What passes between the launches of a run over large codebooks (cuda_search_large.cu). A run has
 * steps * M places, in each of which one codebook of one group is searched. */
struct large_args {
    float *window;   /* [rows, beam, o, columns]: residuals in the run's columns */
    float *points;   /* [rows * beam, width]: 2 v / s of the hypotheses */
    float *minima;   /* [rows * beam, chunks]: least n(e) + e . point */
    uint32_t *table; /* of all codebooks' entries: minima_table */
    unsigned chunks; /* of a codebook */
};

bool search_is_large(const search_args &args);
aq_status search_large(const cuda_state *state, const search_args &args);

/* One hypothesis, lines of one group: a warp a row (cuda_search_single.cu). */
bool search_is_single(const search_args &args);
aq_status search_single(const cuda_state *state, const search_args &args);

/* The rows between two places of large codebooks: takes what place `place` found (-1: nothing yet)
 * and makes the points of the next one. */
aq_status search_single_place(const cuda_state *state, const search_args &args,
                              const large_args &large, int place);

/* All pairs at once (cuda_search_pairs.cu). */
aq_status search_pairs(const cuda_state *state, const search_args &args);

#endif
