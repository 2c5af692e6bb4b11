/* Attention by cuBLAS over tiles of scores.
 *
 * A tile holds the scores of some consecutive queries of one head, for as many sequences as the
 * budget allows: [sequences, queries, keys], where keys end with the tile's last query. Tiles are
 * taken head by head, so sums over the query heads of one key head have a fixed order.
 */
#include "launch.h"

constexpr size_t tile_bytes = (size_t)256 << 20;
constexpr size_t tile_queries = 1024;
constexpr unsigned softmax_warps = cuda_threads / 32; /* of a block; a warp takes a row of scores */

struct tile {
    size_t sequence, sequences; /* first and number */
    size_t query, queries;
    size_t head;
    size_t keys; /* query + queries */
};

/* The op's arrays and the tile's buffers. */
struct attention_args {
    aq_attention shape;
    const float *q, *k, *v, *dout, *dots; /* dots: dout . out, [tokens, heads] */
    float *out, *log_sums, *dq, *dk, *dv;
    float *scores, *scores_grad;
    float scale;
};

/* Rows between tokens, steps between sequences, the head's corner; for q's and for k's shape. */
static size_t query_row(const aq_attention *shape) {
    return shape->heads * shape->head_dim;
}

static size_t key_row(const aq_attention *shape) {
    return shape->kv_heads * shape->head_dim;
}

static size_t query_corner(const aq_attention *shape, const tile *at) {
    return (at->sequence * shape->length + at->query) * query_row(shape) +
           at->head * shape->head_dim;
}

static size_t key_corner(const aq_attention *shape, const tile *at) {
    size_t head = at->head / (shape->heads / shape->kv_heads);
    return at->sequence * shape->length * key_row(shape) + head * shape->head_dim;
}

/* tile [queries, keys] = alpha queries_side [queries, D] keys_side [keys, D]' */
static aq_status tile_from_pair(const cuda_state *state, const attention_args *args, const tile *at,
                                float alpha, const float *queries_side, const float *keys_side,
                                float *target) {
    const aq_attention *shape = &args->shape;
    cuda_gemm gemm = {};
    gemm.transpose_b = true;
    gemm.m = at->queries;
    gemm.n = at->keys;
    gemm.k = shape->head_dim;
    gemm.batch = at->sequences;
    gemm.a = queries_side + query_corner(shape, at);
    gemm.b = keys_side + key_corner(shape, at);
    gemm.c = target;
    gemm.row_a = query_row(shape);
    gemm.row_b = key_row(shape);
    gemm.row_c = at->keys;
    gemm.step_a = shape->length * gemm.row_a;
    gemm.step_b = shape->length * gemm.row_b;
    gemm.step_c = at->queries * at->keys;
    gemm.alpha = alpha;
    gemm.precision = shape->precision;
    return cuda_gemm_run(state, &gemm);
}

/* target [queries, D] = tile [queries, keys] keys_side [keys, D] */
static aq_status queries_from_tile(const cuda_state *state, const attention_args *args,
                                   const tile *at, const float *scores, const float *keys_side,
                                   float *target) {
    const aq_attention *shape = &args->shape;
    cuda_gemm gemm = {};
    gemm.m = at->queries;
    gemm.n = shape->head_dim;
    gemm.k = at->keys;
    gemm.batch = at->sequences;
    gemm.a = scores;
    gemm.b = keys_side + key_corner(shape, at);
    gemm.c = target + query_corner(shape, at);
    gemm.row_a = at->keys;
    gemm.row_b = key_row(shape);
    gemm.row_c = query_row(shape);
    gemm.step_a = at->queries * at->keys;
    gemm.step_b = shape->length * gemm.row_b;
    gemm.step_c = shape->length * gemm.row_c;
    gemm.alpha = 1;
    gemm.precision = shape->precision;
    return cuda_gemm_run(state, &gemm);
}

/* target [keys, D] += tile [queries, keys]' queries_side [queries, D] */
static aq_status add_keys_from_tile(const cuda_state *state, const attention_args *args,
                                    const tile *at, const float *scores, const float *queries_side,
                                    float *target) {
    const aq_attention *shape = &args->shape;
    cuda_gemm gemm = {};
    gemm.transpose_a = true;
    gemm.m = at->keys;
    gemm.n = shape->head_dim;
    gemm.k = at->queries;
    gemm.batch = at->sequences;
    gemm.a = scores;
    gemm.b = queries_side + query_corner(shape, at);
    gemm.c = target + key_corner(shape, at);
    gemm.row_a = at->keys;
    gemm.row_b = query_row(shape);
    gemm.row_c = key_row(shape);
    gemm.step_a = at->queries * at->keys;
    gemm.step_b = shape->length * gemm.row_b;
    gemm.step_c = shape->length * gemm.row_c;
    gemm.alpha = gemm.beta = 1;
    gemm.precision = shape->precision;
    return cuda_gemm_run(state, &gemm);
}

/* The tile's row that this warp takes, as its sequence and query; false past the last. */
static __device__ bool warp_row(const tile &at, size_t *row, size_t *sequence, size_t *query) {
    *row = cuda_first() / 32;
    *sequence = at.sequence + *row / at.queries;
    *query = at.query + *row % at.queries;
    return *row < at.sequences * at.queries;
}

static unsigned softmax_blocks(const tile *at) {
    return (unsigned)((at->sequences * at->queries + softmax_warps - 1) / softmax_warps);
}

/* Softmax of the scores in place: a query sees the keys up to its own, the others get 0. */
static __global__ void softmax_kernel(attention_args args, tile at) {
    size_t row, sequence, query;
    if (!warp_row(at, &row, &sequence, &query)) return;
    unsigned lane = threadIdx.x % 32;
    float *scores = args.scores + row * at.keys, largest = -INFINITY, sum = 0;
    for (size_t key = lane; key <= query; key += 32) largest = fmaxf(largest, scores[key]);
    largest = cuda_warp_max(largest);
    for (size_t key = lane; key <= query; key += 32) sum += expf(scores[key] - largest);
    sum = cuda_warp_sum(sum);
    for (size_t key = lane; key < at.keys; key += 32)
        scores[key] = key <= query ? expf(scores[key] - largest) / sum : 0;
    if (lane == 0)
        args.log_sums[(sequence * args.shape.heads + at.head) * args.shape.length + query] =
            largest + logf(sum);
}

static aq_status forward_tile(const cuda_state *state, const attention_args *args, const tile *at) {
    AQ_TRY(tile_from_pair(state, args, at, args->scale, args->q, args->k, args->scores));
    softmax_kernel<<<softmax_blocks(at), cuda_threads, 0, state->stream>>>(*args, *at);
    CUDA_TRY(cudaGetLastError());
    return queries_from_tile(state, args, at, args->scores, args->v, args->out);
}

/* Scores become probabilities p, their gradients p (gradient - dot) scale. */
static __global__ void softmax_grad_kernel(attention_args args, tile at) {
    size_t row, sequence, query;
    if (!warp_row(at, &row, &sequence, &query)) return;
    const aq_attention &shape = args.shape;
    float *scores = args.scores + row * at.keys, *grads = args.scores_grad + row * at.keys;
    float log_sum = args.log_sums[(sequence * shape.heads + at.head) * shape.length + query];
    float dot = args.dots[(sequence * shape.length + query) * shape.heads + at.head];
    for (size_t key = threadIdx.x % 32; key < at.keys; key += 32) {
        float share = key <= query ? expf(scores[key] - log_sum) : 0;
        scores[key] = share;
        grads[key] = key <= query ? share * (grads[key] - dot) * args.scale : 0;
    }
}

static aq_status backward_tile(const cuda_state *state, const attention_args *args,
                               const tile *at) {
    AQ_TRY(tile_from_pair(state, args, at, args->scale, args->q, args->k, args->scores));
    AQ_TRY(tile_from_pair(state, args, at, 1, args->dout, args->v, args->scores_grad));
    softmax_grad_kernel<<<softmax_blocks(at), cuda_threads, 0, state->stream>>>(*args, *at);
    CUDA_TRY(cudaGetLastError());
    AQ_TRY(add_keys_from_tile(state, args, at, args->scores, args->dout, args->dv));
    AQ_TRY(add_keys_from_tile(state, args, at, args->scores_grad, args->q, args->dk));
    return queries_from_tile(state, args, at, args->scores_grad, args->k, args->dq);
}

/* Queries and sequences of the largest tile: functions of the shape alone. */
static tile largest_tile(const aq_attention *shape) {
    tile largest = {};
    largest.queries = shape->length < tile_queries ? shape->length : tile_queries;
    largest.keys = shape->length;
    size_t fitting = tile_bytes / (largest.queries * largest.keys * sizeof(float));
    fitting = fitting < 1 ? 1 : fitting;
    largest.sequences = fitting < shape->sequences ? fitting : shape->sequences;
    return largest;
}

typedef aq_status (*tile_step)(const cuda_state *, const attention_args *, const tile *);

static aq_status for_each_tile(const cuda_state *state, const attention_args *args,
                               tile_step step) {
    const aq_attention *shape = &args->shape;
    const tile largest = largest_tile(shape);
    tile at = {};
    for (at.head = 0; at.head < shape->heads; at.head++)
        for (at.sequence = 0; at.sequence < shape->sequences; at.sequence += largest.sequences) {
            size_t left = shape->sequences - at.sequence;
            at.sequences = left < largest.sequences ? left : largest.sequences;
            for (at.query = 0; at.query < shape->length; at.query += largest.queries) {
                left = shape->length - at.query;
                at.queries = left < largest.queries ? left : largest.queries;
                at.keys = at.query + at.queries;
                AQ_TRY(step(state, args, &at));
            }
        }
    return AQ_OK;
}

static size_t tile_count(const aq_attention *shape) {
    tile largest = largest_tile(shape);
    return largest.sequences * largest.queries * largest.keys;
}

aq_status cuda_attention(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                         const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums) {
    if (aq_attention_halves(q->home, shape))
        return cuda_attention_half(shape, q, k, v, out, log_sums);
    if (cuda_attention_fast_fits(shape)) return cuda_attention_fast(shape, q, k, v, out, log_sums);
    const cuda_state *state = cuda_state_of(q);
    attention_args args = {};
    args.shape = *shape;
    args.q = cuda_floats(q);
    args.k = cuda_floats(k);
    args.v = cuda_floats(v);
    args.out = cuda_floats(out);
    args.log_sums = cuda_floats(log_sums);
    args.scale = 1 / sqrtf((float)shape->head_dim);
    cuda_scratch scratch(state);
    AQ_TRY(scratch.take(tile_count(shape), &args.scores));
    return for_each_tile(state, &args, forward_tile);
}

/* dots[token, head] = dout . out over the head; a warp a pair. */
static __global__ void head_dots_kernel(const float *dout, const float *out, size_t pairs,
                                        size_t width, float *dots) {
    size_t pair = cuda_first() / 32;
    if (pair >= pairs) return;
    float sum = 0;
    for (size_t i = threadIdx.x % 32; i < width; i += 32)
        sum = fmaf(dout[pair * width + i], out[pair * width + i], sum);
    sum = cuda_warp_sum(sum);
    if (threadIdx.x % 32 == 0) dots[pair] = sum;
}

/* Zeroes what the tiles add to, and finds the dots. */
static aq_status begin_backward(const cuda_state *state, const attention_args *args, float *dots) {
    const aq_attention *shape = &args->shape;
    size_t tokens = shape->sequences * shape->length, pairs = tokens * shape->heads;
    size_t key_bytes = tokens * key_row(shape) * sizeof(float);
    CUDA_TRY(cudaMemsetAsync(args->dk, 0, key_bytes, state->stream));
    CUDA_TRY(cudaMemsetAsync(args->dv, 0, key_bytes, state->stream));
    size_t blocks = (pairs + softmax_warps - 1) / softmax_warps;
    AQ_REQUIRE(blocks <= 0x7fffffff, AQ_UNSUPPORTED, "attention over %zu tokens at once", tokens);
    head_dots_kernel<<<(unsigned)blocks, cuda_threads, 0, state->stream>>>(
        args->dout, args->out, pairs, shape->head_dim, dots);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_attention_grad(const aq_attention *shape, const aq_attention_tape *tape,
                              const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk, aq_tensor *dv) {
    if (aq_attention_halves(dq->home, shape))
        return cuda_attention_half_grad(shape, tape, dout, dq, dk, dv);
    const cuda_state *state = cuda_state_of(dout);
    attention_args args = {};
    args.shape = *shape;
    args.q = cuda_floats(tape->q);
    args.k = cuda_floats(tape->k);
    args.v = cuda_floats(tape->v);
    args.out = cuda_floats(tape->out);
    args.log_sums = cuda_floats(tape->log_sums);
    args.dout = cuda_floats(dout);
    args.dq = cuda_floats(dq);
    args.dk = cuda_floats(dk);
    args.dv = cuda_floats(dv);
    args.scale = 1 / sqrtf((float)shape->head_dim);
    cuda_scratch scores(state), grads(state), sums(state);
    float *dots;
    AQ_TRY(scores.take(tile_count(shape), &args.scores));
    AQ_TRY(grads.take(tile_count(shape), &args.scores_grad));
    AQ_TRY(sums.take(shape->sequences * shape->length * shape->heads, &dots));
    AQ_TRY(begin_backward(state, &args, dots));
    args.dots = dots;
    return for_each_tile(state, &args, backward_tile);
}
