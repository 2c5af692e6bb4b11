/* The CPU backend's inside, private to cpu_*.c: OpenMP loops over pieces of constant size.
 *
 * Every function named like a member of aq_ops implements it under the contract in ops.h; arguments
 * have been checked there. What an iteration of a parallel loop computes depends on shapes alone,
 * and sums over iterations are added in order by one thread: the number of threads never changes a
 * bit.
 */
#ifndef AQ_TENSOR_CPU_H
#define AQ_TENSOR_CPU_H

#include "tensor/backend.h"

/* How many threads the regions of x's backend use. */
int cpu_threads(const aq_tensor *x);

/* Scratch memory, 64-byte aligned, uninitialized; freed with free(). MEMORY with the bytes. */
aq_status cpu_scratch(size_t bytes, void *scratch);

/* `count` rounded up to a multiple of 16 floats, a cache line. */
static inline size_t cpu_padded(size_t count) {
    return (count + 15) / 16 * 16;
}

/* Loops over elements hand out runs of this many. A compiler's vector loop and the scalar loop for
 * its rest may round differently; with runs of constant size an element is always in the same. */
enum { CPU_RUN = 4096 };

/* Sums over listed vectors run in float64 over pieces of at most this many of their values. */
enum { CPU_PIECE = 8 };

/* sums += factor * piece; the usual width is a constant, so that it stays in one register. */
static inline void cpu_add_piece(float factor, const float *piece, size_t width, double *sums) {
    if (width == CPU_PIECE)
        for (size_t i = 0; i < CPU_PIECE; i++) sums[i] += (double)factor * (double)piece[i];
    else
        for (size_t i = 0; i < width; i++) sums[i] += (double)factor * (double)piece[i];
}

/* ---- cpu_elements.c ---- */
aq_status cpu_fill(float value, aq_tensor *x);
aq_status cpu_axpby(float alpha, const aq_tensor *x, float beta, aq_tensor *y);
aq_status cpu_dot_add(const aq_tensor *x, const aq_tensor *y, double factor, aq_tensor *sum);
aq_status cpu_bias_add(const aq_tensor *bias, aq_tensor *x);
aq_status cpu_bias_grad(const aq_tensor *dx, aq_tensor *dbias);
aq_status cpu_adam_step(const aq_adam_step *step, const aq_adam_tensors *list, size_t count);

/* ---- cpu_convert.c ---- */
aq_status cpu_convert(const aq_tensor *source, double factor, aq_tensor *target);
aq_status cpu_pick(const aq_tensor *source, const uint32_t *list, size_t count, aq_tensor *target);
aq_status cpu_count_nonfinite(const aq_tensor *x, aq_tensor *count);

/* ---- cpu_product.c ---- */
aq_status cpu_matmul(const aq_tensor *a, const aq_tensor *b, const aq_product *how, aq_tensor *c);
aq_status cpu_gram_add(const aq_tensor *x, aq_tensor *gram);

/* ---- cpu_table.c: entries laid out for scoring ---- */

/* K entries of d values by dimension, values[dim * stride + k], so that 16 entries are scored at
 * once. Stride is K padded; the padding has norm infinity and never wins. */
typedef struct cpu_table {
    size_t entries, dims, stride;
    float *values;
    float *norms;
} cpu_table;

aq_status cpu_table_new(const float *entries, const float *norms, size_t count, size_t dims,
                        cpu_table *table);
void cpu_table_free(cpu_table *table);

/* One vector to score entries against: the score of entry k is factor * norms[k] + query . k. */
enum { CPU_QUERIES = 4 };
typedef struct cpu_query {
    const float *vector; /* d values */
    float factor;
    size_t best; /* found: lowest index of the lowest score, 0 if no score is a number */
    float score; /* its score */
} cpu_query;

/* Fills in best and score of `count` <= CPU_QUERIES queries. */
void cpu_table_best(const cpu_table *table, cpu_query *queries, int count);

/* The score of one entry, the same bits as in the two others. */
float cpu_table_score(const cpu_table *table, const cpu_query *query, size_t entry);

/* All scores of one query into scores[stride]. */
void cpu_table_scores(const cpu_table *table, const cpu_query *query, float *scores);

/* ---- cpu_cluster.c ---- */
aq_status cpu_group_norms(const aq_tensor *weight, aq_tensor *scales);
aq_status cpu_scaled_vectors(const aq_tensor *weight, const aq_tensor *scales, int in_group,
                             aq_tensor *points);
aq_status cpu_entry_norms(const aq_tensor *entries, const aq_tensor *gram, size_t column,
                          aq_tensor *norms);
aq_status cpu_nearest(const aq_tensor *points, const aq_tensor *entries, const aq_tensor *norms,
                      int codebook, aq_precision precision, aq_tensor *codes);
aq_status cpu_subtract_entries(const aq_tensor *entries, const aq_tensor *codes, int codebook,
                               aq_tensor *points);
aq_status cpu_sort_codes(const aq_tensor *codes, int codebook, aq_tensor *order,
                         aq_tensor *offsets);
aq_status cpu_random_head(uint64_t seed, aq_stream stream, uint32_t total, aq_tensor *head);
aq_status cpu_cluster_sums(const aq_tensor *points, const aq_tensor *order,
                           const aq_tensor *offsets, const aq_cluster_draw *draw, aq_tensor *sums);
aq_status cpu_code_sums(const aq_tensor *points, const aq_tensor *codes, int codebook,
                        const aq_cluster_draw *draw, aq_tensor *sums);
aq_status cpu_cluster_means(const aq_tensor *sums, aq_tensor *entries);

/* ---- cpu_coded.c ---- */
aq_status cpu_decode(const aq_coded *coded, aq_tensor *weight);
aq_status cpu_coded_grad(const aq_coded *coded, const aq_tensor *orders, const aq_tensor *offsets,
                         const aq_tensor *weight_grad, aq_tensor *codebooks_grad,
                         aq_tensor *scales_grad);

aq_status cpu_coded_diagonal(const aq_coded *coded, const aq_tensor *orders,
                             const aq_tensor *offsets, const aq_tensor *gram, aq_tensor *diagonal);

/* ---- cpu_solve.c ---- */
aq_status cpu_scales_step(const aq_tensor *slopes, const aq_tensor *curvatures, aq_tensor *scales);
aq_status cpu_gradient_rescale(const aq_tensor *before, const aq_tensor *after,
                               const aq_tensor *fixed, aq_tensor *gradient);
aq_status cpu_conjugate_step(const aq_conjugate *state, const aq_tensor *product);

/* ---- cpu_search.c: one group of a run ---- */

typedef struct cpu_group_step {
    const aq_group_search *search; /* its losses, ancestors and choices are written */
    size_t index;                  /* of the step */
    const float *norms;            /* [M, K] of the step's group */
    const float *residual;         /* [rows, beam, o, steps * g]: the run's columns, up to date */
    float *delta;                  /* [rows, beam, o, g] overwritten; 0 where not alive */
} cpu_group_step;

aq_status cpu_search_step(const cpu_group_step *step);

/* ---- cpu_pairs.c: the same for pairs ---- */
aq_status cpu_search_pairs(const cpu_group_step *step);

/* ---- cpu_run.c ---- */
aq_status cpu_search_groups(const aq_group_search *search);

/* ---- cpu_pass.c ---- */
aq_status cpu_residual_update(const aq_tensor *delta, const aq_tensor *gram,
                              const aq_group_run *run, const aq_tensor *origins,
                              const aq_tensor *old_residual, aq_tensor *residual);
aq_status cpu_trace_back(const aq_tensor *ancestors, const aq_tensor *choices,
                         const aq_tensor *losses, const uint32_t *group_order, aq_tensor *codes);

/* ---- cpu_block.c ---- */
aq_status cpu_rms_norm(const aq_tensor *x, const aq_tensor *weight, float epsilon, aq_tensor *y,
                       aq_tensor *inverse);
aq_status cpu_rms_norm_grad(const aq_tensor *x, const aq_tensor *weight, const aq_tensor *inverse,
                            const aq_tensor *dy, aq_tensor *dx, aq_tensor *dweight);
aq_status cpu_rotate(const aq_tensor *cosines, const aq_tensor *sines, bool backward, aq_tensor *x);
aq_status cpu_silu_gate(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out);
aq_status cpu_silu_gate_grad(const aq_tensor *dout, const aq_tensor *gate, const aq_tensor *up,
                             aq_tensor *dgate, aq_tensor *dup);
aq_status cpu_cross_entropy_add(const aq_tensor *logits, const aq_tensor *targets, aq_tensor *sum);

/* ---- cpu_attention.c ---- */
aq_status cpu_attention(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                        const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums);
aq_status cpu_attention_grad(const aq_attention *shape, const aq_attention_tape *tape,
                             const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk, aq_tensor *dv);

#endif
