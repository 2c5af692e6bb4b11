/* What the two directions of attention with bfloat16 operands share: tiles in shared memory, their
 * products, padded copies of the operands. CUDA C++ only.
 *
 * The online softmax of FlashAttention-2 (arXiv 2307.08691): scores live in registers only. A warp
 * takes 16 queries (forward, dq) or 16 keys (dk, dv) and walks over tiles of the other side; dk and
 * dv sum over the query heads of a key head in their order, and nothing is added atomically: every
 * sum has one order. Tiles are filled up with zeros to their rows and to Width columns.
 */
#ifndef AQ_CUDA_ATTENTION_HALF_H
#define AQ_CUDA_ATTENTION_HALF_H

#include "attention_softmax.h"
#include "fours.h"
#include "warpgroup.h"

constexpr unsigned warps = 4, threads = 32 * warps;
constexpr unsigned block_rows = 16 * warps; /* queries or keys that a block owns */

struct half_args {
    const uint16_t *q, *k, *v, *dout; /* [T, heads * head_dim], bfloat16 */
    const float *log_sums, *dots;     /* [sequences, heads, padded]: times log2(e); dout . out */
    void *out, *dq, *dk, *dv;         /* float32 or bfloat16: */
    bool half_out, half_grads;
    float *sums;
    size_t length, padded, heads, shared_by, head_dim; /* shared_by: query heads of a key head */
    float scale;
};

/* ---- tiles ---- */

/* Rows of the walked side's tiles, and of the own side's. */
constexpr unsigned tile_rows = 64;
static_assert(tile_rows == block_rows, "both sides have the same tiles");

template <unsigned Width> constexpr unsigned tile_size = tile_rows *Width;

/* One head's rows of one sequence. */
struct head_rows {
    const uint16_t *data;
    size_t across, length; /* from row to row; rows */
    unsigned head_dim;
};

static __device__ inline head_rows rows_of(const half_args &args, const uint16_t *x, size_t heads,
                                           size_t sequence, size_t head) {
    size_t across = heads * args.head_dim;
    return {x + sequence * args.length * across + head * args.head_dim, across, args.length,
            (unsigned)args.head_dim};
}

/* Begins to fill a tile with the rows from `first` on. */
template <unsigned Width>
static __device__ void fetch_tile(uint16_t *tile, const head_rows &rows, size_t first) {
    constexpr unsigned parts = Width / 8;
    for (unsigned i = threadIdx.x; i < tile_rows * parts; i += threads) {
        size_t row = first + i / parts;
        unsigned column = i % parts * 8;
        uint16_t *target = tile + cuda_tile_place(i / parts, column);
        if (row < rows.length && column < rows.head_dim)
            cuda_copy_ahead(target, rows.data + row * rows.across + column);
        else
            *reinterpret_cast<uint4 *>(target) = {0, 0, 0, 0};
    }
}

/* Begins to fill a tile's rows of floats. */
static __device__ inline void fetch_floats(float *target, const float *source) {
    if (threadIdx.x < tile_rows / 4)
        cuda_copy_ahead(target + 4 * threadIdx.x, source + 4 * threadIdx.x);
}

static __device__ void wait_for_tiles() {
    cuda_copies_wait();
    cuda_group_publish();
    __syncthreads();
}

/* Begins sums [64, Width] += shares [64, 64] tile [64, Width]; shares rounded to bfloat16. */
template <unsigned Width>
static __device__ void begin_weighted(float (&sums)[Width / 8][4],
                                      const float (&shares)[tile_rows / 8][4],
                                      const uint16_t *tile) {
    uint32_t packed[tile_rows / 16][4];
#pragma unroll
    for (unsigned step = 0; step < tile_rows / 16; step++)
#pragma unroll
        for (unsigned i = 0; i < 4; i++)
            packed[step][i] = cuda_pack_bfloats(shares[2 * step + i / 2][i % 2 * 2],
                                                shares[2 * step + i / 2][i % 2 * 2 + 1]);
    cuda_group_begin_add<Width>(sums, packed, tile);
}

/* The first tile in a block's shared memory, which is 1,024 bytes larger than its tiles. */
static __device__ inline uint16_t *first_tile(uint16_t *shared) {
    return shared + (0 - reinterpret_cast<uintptr_t>(shared)) % 1024 / sizeof *shared;
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

/* store_rows to a head's rows of one sequence in x [T, heads * head_dim], of either type. */
template <unsigned Width>
static __device__ void store_head(const half_args &args, const float (&sums)[Width / 8][4],
                                  const float (&factor)[2], const block_place &at, size_t heads,
                                  void *x, bool half) {
    size_t across = heads * args.head_dim, row = at.row + threadIdx.x / 32 * 16;
    size_t corner = at.sequence * args.length * across + at.head * args.head_dim;
    if (half)
        store_rows<Width>(sums, factor, row, args.length, args.head_dim, across,
                          static_cast<__nv_bfloat16 *>(x) + corner);
    else
        store_rows<Width>(sums, factor, row, args.length, args.head_dim, across,
                          static_cast<float *>(x) + corner);
}

/* ---- the op's arguments ---- */

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

/* Copies in bfloat16 of what is float32. */
struct half_operands {
    cuda_scratch q, k, v, dout;
    explicit half_operands(const cuda_state *state) : q(state), k(state), v(state), dout(state) {
    }
};

static inline aq_status take_operands(const cuda_state *state, const aq_tensor *q,
                                      const aq_tensor *k, const aq_tensor *v, half_operands *room,
                                      half_args *args) {
    AQ_TRY(cuda_half_operand(state, q, &room->q, &args->q));
    AQ_TRY(cuda_half_operand(state, k, &room->k, &args->k));
    return cuda_half_operand(state, v, &room->v, &args->v);
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
