/* The backward pass of attention with bfloat16 operands: scores are made again from log_sums. */
#include "attention_half.h"

/* dq of block_rows queries: a walk over keys. */
template <unsigned Width>
static __global__ void __launch_bounds__(threads, 2) queries_kernel(half_args args) {
    extern __shared__ __align__(16) uint16_t shared[];
    constexpr unsigned size = tile_size<Width>;
    uint16_t *const own = first_tile(shared), *const walk = own + 2 * size;
    const block_place at = place_of(args.heads, true);
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    size_t head = at.sequence * args.heads + at.head;
    const size_t key_heads = args.heads / args.shared_by;
    const head_rows keys = rows_of(args, args.k, key_heads, at.sequence, at.head / args.shared_by);
    const head_rows values =
        rows_of(args, args.v, key_heads, at.sequence, at.head / args.shared_by);

    size_t first = head * args.padded + at.row;
    float log_sum[2], dot[2];
    for (unsigned half = 0; half < 2; half++) {
        log_sum[half] = args.log_sums[first + warp * 16 + lane / 4 + half * 8];
        dot[half] = args.dots[first + warp * 16 + lane / 4 + half * 8];
    }
    fetch_tile<Width>(own, rows_of(args, args.q, args.heads, at.sequence, at.head), at.row);
    fetch_tile<Width>(own + size, rows_of(args, args.dout, args.heads, at.sequence, at.head),
                      at.row);
    fetch_tile<Width>(walk, keys, 0);
    fetch_tile<Width>(walk + size, values, 0);

    float dq[Width / 8][4] = {};
    const unsigned tiles = (unsigned)(at.row / tile_rows) + 1;
    for (unsigned tile = 0; tile < tiles; tile++) {
        const uint16_t *key_tile = walk + tile % 2 * 2 * size;
        wait_for_tiles();
        if (tile + 1 < tiles) {
            uint16_t *next = walk + (tile + 1) % 2 * 2 * size;
            fetch_tile<Width>(next, keys, (tile + 1) * tile_rows);
            fetch_tile<Width>(next + size, values, (tile + 1) * tile_rows);
        }
        float shares[tile_rows / 8][4], grads[tile_rows / 8][4];
        cuda_group_begin_scores<Width>(shares, own, key_tile);
        cuda_group_begin_scores<Width>(grads, own + size, key_tile + size);
        cuda_group_finish(shares, grads);
#pragma unroll
        for (unsigned j = 0; j < tile_rows / 8; j++)
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                float share = cuda_exp2(fmaf(shares[j][i], args.scale * log2_e, -log_sum[i / 2]));
                grads[j][i] = share * (grads[j][i] - dot[i / 2]);
            }
        if (tile + 1 == tiles) hide_later_keys(grads, (int)warp * 16, 0);
        begin_weighted<Width>(dq, grads, key_tile);
        cuda_group_finish(dq);
    }
    const float factor[2] = {args.scale, args.scale};
    store_head<Width>(args, dq, factor, at, args.heads, args.dq, args.half_grads);
}

/* Queries' side of a walk over a key head's query heads. */
struct query_walk {
    uint16_t *tiles;                  /* twice: queries, gradients of outputs */
    float *log_sums;                  /* twice: log sums, dots */
    unsigned a_head;                  /* steps */
    size_t sequence, head, first_row; /* of the first step; rows of every head */
};

template <unsigned Width>
static __device__ void fetch_queries(const half_args &args, const query_walk &walk, unsigned step) {
    constexpr unsigned size = tile_size<Width>;
    size_t head = walk.head + step / walk.a_head;
    size_t row = walk.first_row + step % walk.a_head * tile_rows;
    size_t number = (walk.sequence * args.heads + head) * args.padded + row;
    uint16_t *tile = walk.tiles + step % 2 * 2 * size;
    float *numbers = walk.log_sums + step % 2 * 2 * tile_rows;
    fetch_tile<Width>(tile, rows_of(args, args.q, args.heads, walk.sequence, head), row);
    fetch_tile<Width>(tile + size, rows_of(args, args.dout, args.heads, walk.sequence, head), row);
    fetch_floats(numbers, args.log_sums + number);
    fetch_floats(numbers + tile_rows, args.dots + number);
}

/* From scores and products of gradients, both [16 keys, queries], to shares and score gradients. */
static __device__ void differentiate(float (&shares)[tile_rows / 8][4],
                                     float (&grads)[tile_rows / 8][4], const float *numbers,
                                     float scale) {
    unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned j = 0; j < tile_rows / 8; j++)
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            unsigned query = j * 8 + lane % 4 * 2 + i % 2;
            shares[j][i] = cuda_exp2(fmaf(shares[j][i], scale, -numbers[query]));
            grads[j][i] = shares[j][i] * (grads[j][i] - numbers[tile_rows + query]);
        }
}

/* Zeros where a query comes before its key; `ahead`: the warp's first key less the tile's first
 * query. */
static __device__ void drop_earlier_queries(float (&values)[tile_rows / 8][4], int ahead) {
    const int lane = (int)threadIdx.x % 32, key = ahead + lane / 4, query = lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < (int)tile_rows / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (j * 8 + query + i % 2 < key + i / 2 * 8) values[j][i] = 0;
}

/* dk and dv of block_rows keys: a walk over the queries that see them, head by head. */
template <unsigned Width>
static __global__ void __launch_bounds__(threads, 2) keys_kernel(half_args args) {
    extern __shared__ __align__(16) uint16_t shared[];
    constexpr unsigned size = tile_size<Width>;
    uint16_t *const own = first_tile(shared);
    const size_t key_heads = args.heads / args.shared_by;
    const block_place at = place_of(key_heads, false);
    const unsigned warp = threadIdx.x / 32;
    query_walk walk = {own + 2 * size, nullptr, 0, at.sequence, at.head * args.shared_by, at.row};
    walk.log_sums = reinterpret_cast<float *>(walk.tiles + 4 * size);
    walk.a_head = (unsigned)((args.padded - at.row) / tile_rows);

    fetch_tile<Width>(own, rows_of(args, args.k, key_heads, at.sequence, at.head), at.row);
    fetch_tile<Width>(own + size, rows_of(args, args.v, key_heads, at.sequence, at.head), at.row);
    fetch_queries<Width>(args, walk, 0);
    float dk[Width / 8][4] = {}, dv[Width / 8][4] = {};
    const unsigned steps = walk.a_head * (unsigned)args.shared_by;
    for (unsigned step = 0; step < steps; step++) {
        const uint16_t *tile = walk.tiles + step % 2 * 2 * size;
        const float *numbers = walk.log_sums + step % 2 * 2 * tile_rows;
        wait_for_tiles();
        if (step + 1 < steps) fetch_queries<Width>(args, walk, step + 1);
        float shares[tile_rows / 8][4], grads[tile_rows / 8][4];
        cuda_group_begin_scores<Width>(shares, own, tile);
        cuda_group_begin_scores<Width>(grads, own + size, tile + size);
        cuda_group_finish(shares, grads);
        differentiate(shares, grads, numbers, args.scale * log2_e);
        if (step % walk.a_head == 0) {
            drop_earlier_queries(shares, (int)warp * 16);
            drop_earlier_queries(grads, (int)warp * 16);
        }
        begin_weighted<Width>(dv, shares, tile + size);
        begin_weighted<Width>(dk, grads, tile);
        cuda_group_finish(dv, dk);
    }
    const float scale[2] = {args.scale, args.scale}, one[2] = {1, 1};
    store_head<Width>(args, dk, scale, at, key_heads, args.dk, args.half_grads);
    store_head<Width>(args, dv, one, at, key_heads, args.dv, args.half_grads);
}

static __device__ float number_of(float value) {
    return value;
}

static __device__ float number_of(__nv_bfloat16 value) {
    return __bfloat162float(value);
}

/* log_sums and dots of each query, a warp a query. */
template <class Number>
static __global__ void prepare_kernel(half_args args, const Number *out, const float *log_sums,
                                      size_t queries, float *padded_sums, float *padded_dots) {
    size_t at = cuda_first() / 32, lane = threadIdx.x % 32;
    if (at >= queries) return;
    size_t row = at % args.padded, head = at / args.padded;
    float sum = 0, dot = 0;
    if (row < args.length) {
        size_t start = ((head / args.heads * args.length + row) * args.heads + head % args.heads) *
                       args.head_dim;
        for (size_t i = lane; i < args.head_dim; i += 32)
            dot = fmaf(__uint_as_float((uint32_t)args.dout[start + i] << 16),
                       number_of(out[start + i]), dot);
        sum = log_sums[head * args.length + row] * log2_e;
    }
    dot = cuda_warp_sum(dot);
    if (lane > 0) return;
    padded_sums[at] = sum;
    padded_dots[at] = dot;
}

template <unsigned Width>
static aq_status run_backward(const cuda_state *state, const aq_attention *shape,
                              const half_args *args) {
    constexpr unsigned bytes =
        6 * tile_size<Width> * sizeof(uint16_t) + 4 * tile_rows * sizeof(float) + 1024;
    CUDA_TRY(cudaFuncSetAttribute(queries_kernel<Width>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    CUDA_TRY(cudaFuncSetAttribute(keys_kernel<Width>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  bytes));
    dim3 queries = grid_of(shape, args, shape->heads), keys = grid_of(shape, args, shape->kv_heads);
    queries_kernel<Width><<<queries, threads, bytes, state->stream>>>(*args);
    CUDA_TRY(cudaGetLastError());
    keys_kernel<Width><<<keys, threads, bytes, state->stream>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_attention_half_grad(const aq_attention *shape, const aq_attention_tape *tape,
                                   const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk,
                                   aq_tensor *dv) {
    const cuda_state *state = cuda_state_of(dout);
    half_args args = args_of(shape);
    half_operands room(state);
    cuda_scratch numbers(state);
    AQ_TRY(check_grid(shape, &args));
    AQ_TRY(take_operands(state, tape->q, tape->k, tape->v, &room, &args));
    AQ_TRY(cuda_half_operand(state, dout, &room.dout, &args.dout));
    size_t queries = shape->sequences * shape->heads * args.padded;
    float *padded_sums;
    AQ_TRY(numbers.take(2 * queries, &padded_sums));
    size_t blocks = (queries * 32 + cuda_threads - 1) / cuda_threads;
    AQ_REQUIRE(blocks <= 0x7fffffff, AQ_UNSUPPORTED, "attention over %zu queries at once", queries);
    if (tape->out->dtype == AQ_BF16)
        prepare_kernel<<<(unsigned)blocks, cuda_threads, 0, state->stream>>>(
            args, cuda_halves(tape->out), cuda_floats(tape->log_sums), queries, padded_sums,
            padded_sums + queries);
    else
        prepare_kernel<<<(unsigned)blocks, cuda_threads, 0, state->stream>>>(
            args, cuda_floats(tape->out), cuda_floats(tape->log_sums), queries, padded_sums,
            padded_sums + queries);
    CUDA_TRY(cudaGetLastError());
    args.log_sums = padded_sums;
    args.dots = padded_sums + queries;
    args.dq = dq->data;
    args.dk = dk->data;
    args.dv = dv->data;
    args.half_grads = dq->dtype == AQ_BF16;
    return width_of(shape) == 64 ? run_backward<64>(state, shape, &args)
                                 : run_backward<128>(state, shape, &args);
}
