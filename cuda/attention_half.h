/* What the two directions of attention with bfloat16 operands share: tiles in shared memory, their
 * products, padded copies of the operands. CUDA C++ only.
 *
 * The online softmax of FlashAttention-2 (arXiv 2307.08691): scores live in registers only. A warp
 * takes 16 queries (forward, dq) or 16 keys (dk, dv) and walks over tiles of the other side; dk and
 * dv sum over the query heads of a key head in their order, and nothing is added atomically: every
 * sum has one order. Operands are copied to [sequences, heads, padded length, Width] first, padded
 * with zeros to whole tiles.
 */
#ifndef AQ_CUDA_ATTENTION_HALF_H
#define AQ_CUDA_ATTENTION_HALF_H

#include "fragments.h"

constexpr unsigned warps = 4, threads = 32 * warps;
constexpr unsigned block_rows = 16 * warps; /* queries or keys that a block owns */
constexpr float log2_e = 1.44269504f;

struct half_args {
    const uint16_t *q, *k, *v, *dout; /* padded copies */
    const float *log_sums, *dots;     /* padded: times log2(e); dout . out */
    void *out;                        /* the op's own, */
    bool half_out;                    /* float32 or bfloat16 */
    float *sums;
    float *dq, *dk, *dv;
    size_t length, padded, heads, shared_by, head_dim; /* shared_by: query heads of a key head */
    float scale;
};

/* ---- tiles ---- */

template <unsigned Width> constexpr unsigned stride = Width + 8;
template <unsigned Width, unsigned Rows> constexpr unsigned tile_size = Rows *stride<Width>;

/* Begins to fill a tile with rows of a padded copy. */
template <unsigned Width, unsigned Rows>
static __device__ void fetch_tile(uint16_t *tile, const uint16_t *rows) {
    constexpr unsigned parts = Width / 8;
    for (unsigned i = threadIdx.x; i < Rows * parts; i += threads)
        cuda_copy_ahead(tile + i / parts * stride<Width> + i % parts * 8, rows + i * 8);
}

/* Begins to fill `Rows` floats. */
template <unsigned Rows> static __device__ void fetch_floats(float *target, const float *source) {
    if (threadIdx.x < Rows / 4) cuda_copy_ahead(target + 4 * threadIdx.x, source + 4 * threadIdx.x);
}

static __device__ void wait_for_tiles() {
    cuda_copies_wait();
    __syncthreads();
}

/* scores [16, Columns] = rows [16, Width] tile [Columns, Width]', rows' pieces in registers. */
template <unsigned Width, unsigned Columns>
static __device__ void score(float (&scores)[Columns / 8][4], const uint32_t (&rows)[Width / 16][4],
                             const uint16_t *tile) {
#pragma unroll
    for (unsigned j = 0; j < Columns / 8; j++)
        for (unsigned i = 0; i < 4; i++) scores[j][i] = 0;
#pragma unroll
    for (unsigned step = 0; step < Width / 16; step++)
#pragma unroll
        for (unsigned j = 0; j < Columns / 8; j += 2) {
            uint32_t first[2], second[2];
            cuda_load_columns(first, second, tile + j * 8 * stride<Width> + step * 16,
                              stride<Width>);
            cuda_mma_bf16(scores[j], rows[step], first, scores[j]);
            cuda_mma_bf16(scores[j + 1], rows[step], second, scores[j + 1]);
        }
}

/* The same with the rows' pieces read from their tile. */
template <unsigned Width, unsigned Columns>
static __device__ void score_tiles(float (&scores)[Columns / 8][4], const uint16_t *rows,
                                   const uint16_t *tile) {
#pragma unroll
    for (unsigned j = 0; j < Columns / 8; j++)
        for (unsigned i = 0; i < 4; i++) scores[j][i] = 0;
#pragma unroll
    for (unsigned step = 0; step < Width / 16; step++) {
        uint32_t row[4];
        cuda_load_rows(row, rows + step * 16, stride<Width>);
#pragma unroll
        for (unsigned j = 0; j < Columns / 8; j += 2) {
            uint32_t first[2], second[2];
            cuda_load_columns(first, second, tile + j * 8 * stride<Width> + step * 16,
                              stride<Width>);
            cuda_mma_bf16(scores[j], row, first, scores[j]);
            cuda_mma_bf16(scores[j + 1], row, second, scores[j + 1]);
        }
    }
}

/* sums [16, Width] += shares [16, Columns] tile [Columns, Width]; shares rounded to bfloat16. */
template <unsigned Width, unsigned Columns>
static __device__ void add_weighted(float (&sums)[Width / 8][4],
                                    const float (&shares)[Columns / 8][4], const uint16_t *tile) {
#pragma unroll
    for (unsigned step = 0; step < Columns / 16; step++) {
        const float(&low)[4] = shares[2 * step], (&high)[4] = shares[2 * step + 1];
        const uint32_t row[4] = {
            cuda_pack_bfloats(low[0], low[1]), cuda_pack_bfloats(low[2], low[3]),
            cuda_pack_bfloats(high[0], high[1]), cuda_pack_bfloats(high[2], high[3])};
#pragma unroll
        for (unsigned j = 0; j < Width / 8; j += 2) {
            uint32_t first[2], second[2];
            cuda_load_columns_across(first, second, tile + step * 16 * stride<Width> + j * 8,
                                     stride<Width>);
            cuda_mma_bf16(sums[j], row, first, sums[j]);
            cuda_mma_bf16(sums[j + 1], row, second, sums[j + 1]);
        }
    }
}

/* Of a [16, ...] sum: rows `row` and row + 8 times their factors, to target's rows of `across`. */
template <unsigned Width, class Number>
static __device__ void store_rows(const float (&sums)[Width / 8][4], const float (&factor)[2],
                                  size_t row, size_t length, size_t head_dim, size_t across,
                                  Number *target) {
    unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        size_t at = row + lane / 4 + half * 8;
        if (at >= length) continue;
        Number *to = target + at * across;
#pragma unroll
        for (unsigned j = 0; j < Width / 8; j++) {
            unsigned column = j * 8 + lane % 4 * 2;
            if (column >= head_dim) continue;
            cuda_store(sums[j][2 * half] * factor[half], &to[column]);
            cuda_store(sums[j][2 * half + 1] * factor[half], &to[column + 1]);
        }
    }
}

/* ---- places ---- */

/* Where a block works: x counts heads of all sequences, y the blocks of rows, the longest first. */
struct block_place {
    size_t sequence, head, row;
};

static __device__ block_place place_of(size_t heads, bool last_first) {
    size_t y = last_first ? gridDim.y - 1 - blockIdx.y : blockIdx.y;
    return {blockIdx.x / heads, blockIdx.x % heads, y * block_rows};
}

/* ---- copies ---- */

/* Of x [sequences * length, heads * head_dim]. */
static inline aq_status pad_heads(const cuda_state *state, const aq_attention *shape, size_t heads,
                                  size_t padded, size_t width, const float *x, uint16_t *copy) {
    size_t length = shape->length, head_dim = shape->head_dim;
    uint32_t *pairs = reinterpret_cast<uint32_t *>(copy);
    size_t count = shape->sequences * heads * padded * width / 2;
    return cuda_each(state, count, [=] __device__(size_t i) {
        size_t column = i % (width / 2) * 2, row = i / (width / 2) % padded;
        size_t head = i / (width / 2) / padded;
        const float *from =
            x + ((head / heads * length + row) * heads + head % heads) * head_dim + column;
        bool inside = row < length && column < head_dim;
        pairs[i] = inside ? cuda_pack_bfloats(from[0], from[1]) : 0;
    });
}

static inline size_t width_of(const aq_attention *shape) {
    return shape->head_dim <= 64 ? 64 : 128;
}

static inline half_args args_of(const aq_attention *shape) {
    half_args args = {};
    args.length = shape->length;
    args.padded = (shape->length + block_rows - 1) / block_rows * block_rows;
    args.heads = shape->heads;
    args.shared_by = shape->heads / shape->kv_heads;
    args.head_dim = shape->head_dim;
    args.scale = 1 / sqrtf((float)shape->head_dim);
    return args;
}

/* The copies of one call. */
struct half_copies {
    cuda_scratch memory;
    uint16_t *q, *k, *v, *dout;
    explicit half_copies(const cuda_state *state) : memory(state) {
    }
};

static inline aq_status make_copies(const cuda_state *state, const aq_attention *shape,
                                    half_args *args, const float *q, const float *k, const float *v,
                                    const float *dout, half_copies *copies) {
    size_t width = width_of(shape), row = args->padded * width;
    size_t queries = shape->sequences * shape->heads * row;
    size_t keys = shape->sequences * shape->kv_heads * row;
    AQ_TRY(copies->memory.take((dout ? 2 : 1) * queries + 2 * keys, &copies->q));
    copies->k = copies->q + queries;
    copies->v = copies->k + keys;
    copies->dout = copies->v + keys;
    AQ_TRY(pad_heads(state, shape, shape->heads, args->padded, width, q, copies->q));
    AQ_TRY(pad_heads(state, shape, shape->kv_heads, args->padded, width, k, copies->k));
    AQ_TRY(pad_heads(state, shape, shape->kv_heads, args->padded, width, v, copies->v));
    if (dout)
        AQ_TRY(pad_heads(state, shape, shape->heads, args->padded, width, dout, copies->dout));
    args->q = copies->q;
    args->k = copies->k;
    args->v = copies->v;
    args->dout = copies->dout;
    return AQ_OK;
}

static inline dim3 grid_of(const aq_attention *shape, const half_args *args, size_t heads) {
    return dim3((unsigned)(shape->sequences * heads), (unsigned)(args->padded / block_rows));
}

static inline aq_status check_grid(const aq_attention *shape, const half_args *args) {
    AQ_REQUIRE(shape->sequences * shape->heads <= 0x7fffffff && args->padded / block_rows <= 0xffff,
               AQ_UNSUPPORTED, "attention over %zu sequences of %zu tokens at once",
               shape->sequences, shape->length);
    return AQ_OK;
}

#endif
