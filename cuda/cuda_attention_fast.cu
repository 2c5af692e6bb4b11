/* The forward pass of attention with TF32 operands, scores in registers only.
 *
 * Keys and values are rounded to TF32 once, before; queries and shares in registers. A tile of
 * shared memory has rows of Width + 4 floats, which the lanes of a warp read without meeting: as
 * pairs of 16-bit numbers they are what fragments.h loads.
 */
#include "attention_softmax.h"
#include "fours.h"
#include "fragments.h"

constexpr unsigned warps = 8, threads = 32 * warps;
constexpr unsigned block_rows = 16 * warps; /* queries of a block */
constexpr unsigned tile_keys = 32;

template <unsigned Width> constexpr unsigned stride = Width + 4;

struct fast_args {
    const float *q, *k, *v; /* [T, heads * head_dim]; k and v hold TF32 */
    float *out, *sums;
    size_t length, heads, shared_by, head_dim; /* shared_by: query heads of a key head */
    float scale;
};

/* One head's rows of one sequence. */
struct head_floats {
    const float *data;
    size_t across, length; /* from row to row; rows */
    unsigned head_dim;
};

static __device__ inline head_floats floats_of(const fast_args &args, const float *x, size_t heads,
                                               size_t sequence, size_t head) {
    size_t across = heads * args.head_dim;
    return {x + sequence * args.length * across + head * args.head_dim, across, args.length,
            (unsigned)args.head_dim};
}

/* Begins to fill a tile with the rows from `first` on, and zeros. */
template <unsigned Width, unsigned Rows>
static __device__ void fetch_floats(float *tile, const head_floats &rows, size_t first) {
    constexpr unsigned parts = Width / 4;
    for (unsigned i = threadIdx.x; i < Rows * parts; i += threads) {
        size_t row = first + i / parts;
        unsigned column = i % parts * 4;
        float *target = tile + i / parts * stride<Width> + column;
        if (row < rows.length && column < rows.head_dim)
            cuda_copy_ahead(target, rows.data + row * rows.across + column);
        else
            *reinterpret_cast<float4 *>(target) = {0, 0, 0, 0};
    }
}

static __device__ void wait_for_tiles() {
    cuda_copies_wait();
    __syncthreads();
}

static __device__ inline const uint16_t *pairs_of(const float *numbers) {
    return reinterpret_cast<const uint16_t *>(numbers);
}

/* The warp's 16 rows of a tile as the products' left sides, rounded. */
template <unsigned Width>
static __device__ void load_queries(uint32_t (&query)[Width / 8][4], const float *rows) {
#pragma unroll
    for (unsigned step = 0; step < Width / 8; step++) {
        cuda_load_rows(query[step], pairs_of(rows + step * 8), 2 * stride<Width>);
        for (unsigned i = 0; i < 4; i++)
            query[step][i] = cuda_to_tf32(__uint_as_float(query[step][i]));
    }
}

/* scores [16, keys] = query [16, Width] tile [keys, Width]' */
template <unsigned Width>
static __device__ void score_keys(float (&scores)[tile_keys / 8][4],
                                  const uint32_t (&query)[Width / 8][4], const float *tile) {
#pragma unroll
    for (unsigned j = 0; j < tile_keys / 8; j++)
        for (unsigned i = 0; i < 4; i++) scores[j][i] = 0;
#pragma unroll
    for (unsigned step = 0; step < Width / 8; step++)
#pragma unroll
        for (unsigned j = 0; j < tile_keys / 8; j += 2) {
            uint32_t first[2], second[2];
            cuda_load_columns(first, second, pairs_of(tile + j * 8 * stride<Width> + step * 8),
                              2 * stride<Width>);
            cuda_mma_tf32(scores[j], query[step], first, scores[j]);
            cuda_mma_tf32(scores[j + 1], query[step], second, scores[j + 1]);
        }
}

/* sums [16, Width] += shares [16, keys] tile [keys, Width]. A lane holds its shares of keys 2 pair
 * and 2 pair + 1: the products take these for k = pair and pair + 4, on both sides. */
template <unsigned Width>
static __device__ void add_values(float (&sums)[Width / 8][4],
                                  const float (&shares)[tile_keys / 8][4], const float *tile) {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned j = 0; j < tile_keys / 8; j++) {
        const uint32_t share[4] = {cuda_to_tf32(shares[j][0]), cuda_to_tf32(shares[j][2]),
                                   cuda_to_tf32(shares[j][1]), cuda_to_tf32(shares[j][3])};
        const float *row = tile + (j * 8 + lane % 4 * 2) * stride<Width> + lane / 4;
#pragma unroll
        for (unsigned i = 0; i < Width / 8; i++) {
            const uint32_t value[2] = {__float_as_uint(row[i * 8]),
                                       __float_as_uint(row[stride<Width> + i * 8])};
            cuda_mma_tf32(sums[i], share, value, sums[i]);
        }
    }
}

/* The warp's rows from query `first` on; `out` is the head's corner. */
template <unsigned Width>
static __device__ void store_out(const fast_args &args, const float (&sums)[Width / 8][4],
                                 const running_softmax &state, size_t first, float *out,
                                 float *log_sums) {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        float log_sum, factor = softmax_end(state, half, &log_sum);
        size_t query = first + lane / 4 + half * 8;
        if (query >= args.length) continue;
        if (lane % 4 == 0) log_sums[query] = log_sum;
        float *to = out + query * args.heads * args.head_dim;
#pragma unroll
        for (unsigned j = 0; j < Width / 8; j++) {
            unsigned column = j * 8 + lane % 4 * 2;
            if (column >= args.head_dim) continue;
            to[column] = sums[j][2 * half] * factor;
            to[column + 1] = sums[j][2 * half + 1] * factor;
        }
    }
}

/* x counts heads of all sequences, y blocks of queries, the longest first. */
template <unsigned Width>
static __global__ void __launch_bounds__(threads, 1) fast_kernel(fast_args args) {
    extern __shared__ __align__(16) float tiles[];
    constexpr unsigned size = tile_keys * stride<Width>;
    const size_t sequence = blockIdx.x / args.heads, head = blockIdx.x % args.heads;
    const size_t row = (size_t)(gridDim.y - 1 - blockIdx.y) * block_rows;
    const size_t key_heads = args.heads / args.shared_by, key_head = head / args.shared_by;
    const head_floats keys = floats_of(args, args.k, key_heads, sequence, key_head);
    const head_floats values = floats_of(args, args.v, key_heads, sequence, key_head);
    const unsigned warp = threadIdx.x / 32;
    const long first_query = (long)row + warp * 16;

    uint32_t query[Width / 8][4];
    fetch_floats<Width, block_rows>(tiles, floats_of(args, args.q, args.heads, sequence, head),
                                    row);
    wait_for_tiles();
    load_queries<Width>(query, tiles + warp * 16 * stride<Width>);
    __syncthreads();

    running_softmax state = {{-INFINITY, -INFINITY}, {0, 0}};
    float out[Width / 8][4] = {};
    const unsigned steps = (unsigned)((row + block_rows) / tile_keys);
    fetch_floats<Width, tile_keys>(tiles, keys, 0);
    fetch_floats<Width, tile_keys>(tiles + size, values, 0);
    for (unsigned step = 0; step < steps; step++) {
        const float *key_tile = tiles + step % 2 * 2 * size;
        const long ahead = first_query - (long)step * tile_keys;
        wait_for_tiles();
        if (step + 1 < steps) {
            float *next = tiles + (step + 1) % 2 * 2 * size;
            fetch_floats<Width, tile_keys>(next, keys, (size_t)(step + 1) * tile_keys);
            fetch_floats<Width, tile_keys>(next + size, values, (size_t)(step + 1) * tile_keys);
        }
        if (ahead + 15 < 0) continue; /* the warp's queries see none of these keys */
        float scores[tile_keys / 8][4];
        score_keys<Width>(scores, query, key_tile);
        if (ahead < (long)tile_keys - 1) hide_later_keys(scores, (int)ahead, -INFINITY);
        soften(scores, args.scale * log2_e, &state, out);
        add_values<Width>(out, scores, key_tile + size);
    }
    store_out<Width>(args, out, state, (size_t)first_query,
                     args.out + (sequence * args.length * args.heads + head) * args.head_dim,
                     args.sums + (sequence * args.heads + head) * args.length);
}

template <unsigned Width>
static aq_status run_fast(const cuda_state *state, const aq_attention *shape,
                          const fast_args &args) {
    constexpr unsigned bytes = 4 * tile_keys * stride<Width> * sizeof(float);
    static_assert(block_rows <= 4 * tile_keys, "queries pass through the tiles' memory");
    size_t heads = shape->sequences * shape->heads;
    size_t blocks = (shape->length + block_rows - 1) / block_rows;
    AQ_REQUIRE(heads <= 0x7fffffff && blocks <= 0xffff, AQ_UNSUPPORTED,
               "attention over %zu sequences of %zu tokens at once", shape->sequences,
               shape->length);
    CUDA_TRY(cudaFuncSetAttribute(fast_kernel<Width>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  bytes));
    fast_kernel<Width>
        <<<dim3((unsigned)heads, (unsigned)blocks), threads, bytes, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* rounded[i] = x[i] in TF32, four at a time: heads are multiples of four wide. */
static aq_status round_to_tf32(const aq_tensor *x, float *rounded) {
    const float *from = cuda_floats(x);
    return cuda_each(cuda_state_of(x), aq_tensor_count(x) / 4, [=] __device__(size_t i) {
        float numbers[4];
        cuda_load(numbers, from + 4 * i);
        for (float &number : numbers) number = __uint_as_float(cuda_to_tf32(number));
        cuda_save(numbers, rounded + 4 * i);
    });
}

bool cuda_attention_fast_fits(const aq_attention *shape) {
    return shape->precision == AQ_FAST && shape->head_dim <= 128 && shape->head_dim % 4 == 0;
}

aq_status cuda_attention_fast(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                              const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums) {
    const cuda_state *state = cuda_state_of(q);
    cuda_scratch scratch(state);
    float *rounded;
    size_t count = aq_tensor_count(k);
    AQ_TRY(scratch.take(2 * count, &rounded));
    AQ_TRY(round_to_tf32(k, rounded));
    AQ_TRY(round_to_tf32(v, rounded + count));
    fast_args args = {};
    args.q = cuda_floats(q);
    args.k = rounded;
    args.v = rounded + count;
    args.out = cuda_floats(out);
    args.sums = cuda_floats(log_sums);
    args.length = shape->length;
    args.heads = shape->heads;
    args.shared_by = shape->heads / shape->kv_heads;
    args.head_dim = shape->head_dim;
    args.scale = 1 / sqrtf((float)shape->head_dim);
    return shape->head_dim <= 64 ? run_fast<64>(state, shape, args)
                                 : run_fast<128>(state, shape, args);
}
