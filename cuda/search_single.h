/* A row with one hypothesis, whose groups have one line each, needs no memory that threads share: a
 * warp keeps it. Lane n has columns 4 n to 4 n + 3 of the run, and element n % Span of what belongs
 * to the group. All lanes of a warp call these functions together. CUDA C++ only.
 */
#ifndef AQ_CUDA_SEARCH_SINGLE_H
#define AQ_CUDA_SEARCH_SINGLE_H

#include "search.h"

constexpr unsigned single_columns = 128; /* of a run at most */

template <unsigned Span> struct single_row {
    size_t row;
    float scale, loss;
    float residual[4];
    float change; /* of the step's group: new entries less the first ones, not yet scaled */
    unsigned lane, element;

    single_row() = default;
    __device__ single_row(const search_args &args, size_t number)
        : row(number), scale(args.scales[number]), loss(args.losses[number]), change(0),
          lane(threadIdx.x % 32), element(threadIdx.x % Span) {
    }

    __device__ bool alive() const {
        return loss < INFINITY;
    }

    __device__ const uint16_t *first_codes(const search_args &args, unsigned step) const {
        return args.codes + (row * args.groups + args.group[step]) * args.books;
    }

    __device__ uint16_t *choices(const search_args &args, unsigned step) const {
        return args.choices + (step * args.rows + row) * args.books;
    }
};

static __device__ inline void load_four(const float *source, float (&four)[4]) {
    float4 values = *reinterpret_cast<const float4 *>(source);
    four[0] = values.x;
    four[1] = values.y;
    four[2] = values.z;
    four[3] = values.w;
}

static __device__ inline void store_four(const float (&four)[4], float *target) {
    float4 values;
    values.x = four[0];
    values.y = four[1];
    values.z = four[2];
    values.w = four[3];
    *reinterpret_cast<float4 *>(target) = values;
}

/* The lane's element of the row's residual in the step's columns. */
template <unsigned Span>
static __device__ float step_residual(const single_row<Span> &row, unsigned step) {
    unsigned column = step * Span + row.element;
    float value = 0;
    for (unsigned q = 0; q < 4; q++) {
        float other = __shfl_sync(cuda_whole_warp, row.residual[q], column / 4);
        if (q == column % 4) value = other;
    }
    return value;
}

/* All of 2 s (R_J + H_JJ offset), to every lane: see search_pull. */
template <unsigned Span>
static __device__ void find_pulls(const search_args &args, unsigned step, float offset,
                                  const single_row<Span> &row, float (&pulls)[Span]) {
    unsigned first = step * Span;
    const float *gram = args.gram + (size_t)(first + row.element) * args.columns + first;
    float v = step_residual(row, step);
    for (unsigned l = 0; l < Span; l += 4) {
        float four[4];
        load_four(gram + l, four);
        for (unsigned q = 0; q < 4; q++)
            v = fmaf(four[q], __shfl_sync(cuda_whole_warp, offset, l + q), v);
    }
    float pull = 2 * row.scale * v;
    for (unsigned l = 0; l < Span; l++) pulls[l] = __shfl_sync(cuda_whole_warp, pull, l);
}

/* A score and the entry that has it; a later one must be lower. */
struct single_best {
    float score;
    unsigned entry;
};

/* Every lane gets the least, the first one at ties; false if no score is a number. */
static __device__ bool warp_least(single_best &best) {
    uint64_t key = proposal_key(best.score, 0, best.entry);
    for (int step = 16; step > 0; step /= 2) {
        uint64_t other = __shfl_xor_sync(cuda_whole_warp, key, step);
        key = other < key ? other : key;
    }
    best.score = proposal_loss(key);
    best.entry = proposal_entry(key);
    return key != no_proposal;
}

/* ---- a step ---- */

template <unsigned Span>
static __device__ void begin_step(const search_args &args, unsigned step, single_row<Span> &row) {
    const uint16_t *first = row.first_codes(args, step);
    for (unsigned m = 0; m < args.books && row.lane == 0; m++)
        row.choices(args, step)[m] = first[m];
    row.change = 0;
}

/* Writes the change and moves on the columns that the run has yet to come to. */
template <unsigned Span>
static __device__ void end_step(const search_args &args, unsigned step, single_row<Span> &row) {
    unsigned first = step * Span;
    float delta = row.alive() ? row.scale * row.change : 0;
    if (row.lane < Span) args.delta[row.row * args.columns + first + row.element] = delta;
    if (row.lane == 0) args.ancestors[step * args.rows + row.row] = 0;
    bool later = 4 * row.lane >= first + Span && 4 * row.lane < args.columns;
    for (unsigned l = 0; l < Span; l++) {
        float factor = __shfl_sync(cuda_whole_warp, delta, l), four[4];
        if (factor == 0 || !later) continue;
        load_four(args.gram + (size_t)(first + l) * args.columns + 4 * row.lane, four);
        for (unsigned q = 0; q < 4; q++) row.residual[q] = fmaf(factor, four[q], row.residual[q]);
    }
}

template <unsigned Span>
static __device__ void load_residual(const search_args &args, single_row<Span> &row) {
    for (unsigned q = 0; q < 4; q++) row.residual[q] = 0;
    if (4 * row.lane < args.columns)
        load_four(args.residual + row.row * args.in + args.column(4 * row.lane), row.residual);
}

template <unsigned Span>
static __device__ void store_row(const search_args &args, const single_row<Span> &row) {
    if (row.lane > 0) return;
    args.losses[row.row] = row.loss;
    args.origins[row.row] = 0;
}

#endif
