/* Causal attention by tiles of queries: a tile's scores over all keys up to its last query are one
 * matrix [ATTENTION_TILE, length] of a thread's scratch. */
#include "tensor/cpu.h"
#include "tensor/cpu_exp.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum { ATTENTION_TILE = 64 };

/* A tile of one sequence and query head. */
typedef struct query_tile {
    size_t first, count; /* queries in the sequence */
    size_t keys;         /* first + count: those that its last query sees */
    size_t query;        /* offset of the first query's row in q, out, dout, dq */
    size_t key;          /* offset of the sequence's first row in k, v, dk, dv */
    size_t sums;         /* offset of the first query in log_sums */
} query_tile;

static query_tile locate_tile(const aq_attention *shape, size_t sequence, size_t head,
                              size_t first) {
    size_t left = shape->length - first;
    size_t count = left < ATTENTION_TILE ? left : ATTENTION_TILE;
    size_t key_head = head / (shape->heads / shape->kv_heads);
    return (query_tile){
        .first = first,
        .count = count,
        .keys = first + count,
        .query = ((sequence * shape->length + first) * shape->heads + head) * shape->head_dim,
        .key = (sequence * shape->length * shape->kv_heads + key_head) * shape->head_dim,
        .sums = (sequence * shape->heads + head) * shape->length + first};
}

static float score_factor(const aq_attention *shape) {
    return 1.0f / sqrtf((float)shape->head_dim);
}

/* result [queries, keys] = factor * a [queries, D] b [keys, D]'. */
static void rows_by_rows(const aq_attention *shape, const query_tile *tile, float factor,
                         const float *a, const float *b, float *result) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tile->count, (int)tile->keys,
                (int)shape->head_dim, factor, a, (int)(shape->heads * shape->head_dim), b,
                (int)(shape->kv_heads * shape->head_dim), 0.0f, result, (int)tile->keys);
}

/* result [queries, D] = factor * weights [queries, keys] values [keys, D]. */
static void weighted_rows(const aq_attention *shape, const query_tile *tile, float factor,
                          const float *weights, const float *values, float *result) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)tile->count, (int)shape->head_dim,
                (int)tile->keys, factor, weights, (int)tile->keys, values,
                (int)(shape->kv_heads * shape->head_dim), 0.0f, result,
                (int)(shape->heads * shape->head_dim));
}

/* target [keys, D] += factor * weights [queries, keys]' rows [queries, D]. */
static void add_transposed(const aq_attention *shape, const query_tile *tile, float factor,
                           const float *weights, const float *rows, float *target) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)tile->keys, (int)shape->head_dim,
                (int)tile->count, factor, weights, (int)tile->keys, rows,
                (int)(shape->heads * shape->head_dim), 1.0f, target,
                (int)(shape->kv_heads * shape->head_dim));
}

/* Scores to probabilities, in place; returns the log of the sum of their exponentials. */
static float softmax_row(float *scores, size_t seen, size_t keys) {
    float highest = scores[0];
#pragma omp simd reduction(max : highest)
    for (size_t j = 1; j < seen; j++) highest = scores[j] > highest ? scores[j] : highest;
#pragma omp simd
    for (size_t j = 0; j < seen; j++) scores[j] = cpu_exp(scores[j] - highest);
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < seen; j++) sum += (double)scores[j];
    float inverse = (float)(1.0 / sum);
    for (size_t j = 0; j < seen; j++) scores[j] *= inverse;
    for (size_t j = seen; j < keys; j++) scores[j] = 0.0f;
    return highest + (float)log(sum);
}

static aq_status tile_scratch(const aq_attention *shape, int threads, size_t matrices,
                              float **scratch) {
    return cpu_scratch(
        (size_t)threads * matrices * ATTENTION_TILE * shape->length * sizeof **scratch, scratch);
}

aq_status cpu_attention(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                        const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums) {
    float *scratch;
    AQ_TRY(tile_scratch(shape, cpu_threads(q), 1, &scratch));
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(cpu_threads(q))
    for (size_t sequence = 0; sequence < shape->sequences; sequence++)
        for (size_t head = 0; head < shape->heads; head++)
            for (size_t first = 0; first < shape->length; first += ATTENTION_TILE) {
                query_tile tile = locate_tile(shape, sequence, head, first);
                float *p = scratch + (size_t)omp_get_thread_num() * ATTENTION_TILE * shape->length;
                float *sums = (float *)log_sums->data + tile.sums;
                rows_by_rows(shape, &tile, score_factor(shape), (const float *)q->data + tile.query,
                             (const float *)k->data + tile.key, p);
                for (size_t i = 0; i < tile.count; i++)
                    sums[i] = softmax_row(p + i * tile.keys, first + i + 1, tile.keys);
                weighted_rows(shape, &tile, 1.0f, p, (const float *)v->data + tile.key,
                              (float *)out->data + tile.query);
            }
    free(scratch);
    return AQ_OK;
}

/* p = softmax of one row of scores, ds = p (dp - out . dout), in place of scores and dp. */
static void softmax_grad_row(float *scores, float *dp, float log_sum, float inner, size_t seen,
                             size_t keys) {
#pragma omp simd
    for (size_t j = 0; j < seen; j++) {
        scores[j] = cpu_exp(scores[j] - log_sum);
        dp[j] = scores[j] * (dp[j] - inner);
    }
    for (size_t j = seen; j < keys; j++) scores[j] = dp[j] = 0.0f;
}

static float inner_product(const float *x, const float *y, size_t count) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < count; i++) sum += (double)x[i] * (double)y[i];
    return (float)sum;
}

/* What the tiles of a backward pass share. */
typedef struct attention_grad {
    const aq_attention *shape;
    const aq_attention_tape *tape;
    const float *dout;
    float *dq, *dk, *dv;
} attention_grad;

static void tile_grad(const attention_grad *grad, const query_tile *tile, float *scratch) {
    const aq_attention *shape = grad->shape;
    const float *q = (const float *)grad->tape->q->data + tile->query;
    const float *k = (const float *)grad->tape->k->data + tile->key;
    const float *v = (const float *)grad->tape->v->data + tile->key;
    const float *out = (const float *)grad->tape->out->data + tile->query;
    const float *sums = (const float *)grad->tape->log_sums->data + tile->sums;
    const float *dout = grad->dout + tile->query;
    float factor = score_factor(shape), *p = scratch;
    float *dp = scratch + ATTENTION_TILE * shape->length;
    rows_by_rows(shape, tile, factor, q, k, p);
    rows_by_rows(shape, tile, 1.0f, dout, v, dp);
    for (size_t i = 0; i < tile->count; i++) {
        size_t row = i * shape->heads * shape->head_dim;
        float inner = inner_product(out + row, dout + row, shape->head_dim);
        softmax_grad_row(p + i * tile->keys, dp + i * tile->keys, sums[i], inner,
                         tile->first + i + 1, tile->keys);
    }
    add_transposed(shape, tile, 1.0f, p, dout, grad->dv + tile->key);
    add_transposed(shape, tile, factor, dp, q, grad->dk + tile->key);
    weighted_rows(shape, tile, factor, dp, k, grad->dq + tile->query);
}

/* One thread adds all that flows into one key head of one sequence, in order. */
aq_status cpu_attention_grad(const aq_attention *shape, const aq_attention_tape *tape,
                             const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk, aq_tensor *dv) {
    const attention_grad grad = {shape, tape, dout->data, dq->data, dk->data, dv->data};
    size_t shared = shape->heads / shape->kv_heads;
    AQ_TRY(cpu_fill(0.0f, dk));
    AQ_TRY(cpu_fill(0.0f, dv));
    float *scratch;
    AQ_TRY(tile_scratch(shape, cpu_threads(dq), 2, &scratch));
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(cpu_threads(dq))
    for (size_t sequence = 0; sequence < shape->sequences; sequence++)
        for (size_t key_head = 0; key_head < shape->kv_heads; key_head++) {
            float *own =
                scratch + (size_t)omp_get_thread_num() * 2 * ATTENTION_TILE * shape->length;
            for (size_t head = key_head * shared; head < (key_head + 1) * shared; head++)
                for (size_t first = 0; first < shape->length; first += ATTENTION_TILE) {
                    query_tile tile = locate_tile(shape, sequence, head, first);
                    tile_grad(&grad, &tile, own);
                }
        }
    free(scratch);
    return AQ_OK;
}
