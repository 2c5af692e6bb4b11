/* A backend: memory and the table of ops over it.
 *
 * Algorithms are written once, over the checked calls of ops.h; they never call through this table
 * themselves. Every backend fills every entry. The contract of each op stands in ops.h and is
 * checked there, so an implementation may rely on it: right shapes, types, homes, no empty tensors.
 *
 * Ops of one backend run in the order of their calls (one stream); only `finish` has to wait.
 * Memory freed while work is queued stays valid for that work (stream-ordered allocation).
 */
#ifndef AQ_TENSOR_BACKEND_H
#define AQ_TENSOR_BACKEND_H

#include "tensor/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aq_ops {
    /* memory: */
    aq_status (*allocate)(aq_backend *, size_t bytes, void **data);
    void (*release)(aq_backend *, void *data);
    aq_status (*pin_host)(aq_backend *, void *data, size_t bytes);
    void (*unpin_host)(aq_backend *, void *data);
    /* queued: host memory is borrowed until `finish`, which comes after a download */
    aq_status (*upload)(aq_backend *, void *target, const void *host, size_t bytes);
    aq_status (*download)(aq_backend *, const void *source, void *host, size_t bytes);
    aq_status (*upload_ahead)(aq_backend *, void *target, const void *host, size_t bytes);
    aq_status (*ahead_join)(aq_backend *);
    aq_status (*copy)(aq_backend *, const void *source, void *target, size_t bytes);
    aq_status (*zero)(aq_backend *, void *target, size_t bytes);
    aq_status (*finish)(aq_backend *);
    aq_status (*memory)(aq_backend *, size_t *free_bytes, size_t *total_bytes);
    void (*device)(const aq_backend *, char *name, size_t size); /* left as it is: unknown */
    aq_status (*peak)(aq_backend *, size_t *bytes); /* most taken at a time since it was opened */
    aq_status (*another)(const aq_backend *, aq_backend **);
    aq_status (*enter)(aq_backend *); /* the calling thread computes with it from now on */
    void (*close)(aq_backend *);

    /* elements: */
    aq_status (*fill)(float value, aq_tensor *x);
    aq_status (*convert)(const aq_tensor *source, double factor, aq_tensor *target);
    aq_status (*pick)(const aq_tensor *source, const uint32_t *list, size_t count,
                      aq_tensor *target);
    aq_status (*axpby)(float alpha, const aq_tensor *x, float beta, aq_tensor *y);
    aq_status (*dot_add)(const aq_tensor *x, const aq_tensor *y, double factor, aq_tensor *sum);
    /* count: U32 [1], added to (ops.c zeroes and downloads it) */
    aq_status (*count_nonfinite)(const aq_tensor *x, aq_tensor *count);
    aq_status (*bias_add)(const aq_tensor *bias, aq_tensor *x);
    aq_status (*bias_grad)(const aq_tensor *dx, aq_tensor *dbias);

    /* products: */
    aq_status (*matmul)(const aq_tensor *a, const aq_tensor *b, const aq_product *how,
                        aq_tensor *c);
    aq_status (*gram_add)(const aq_tensor *x, aq_tensor *gram);

    /* clusters: */
    aq_status (*group_norms)(const aq_tensor *weight, aq_tensor *scales);
    aq_status (*scaled_vectors)(const aq_tensor *weight, const aq_tensor *scales, int in_group,
                                aq_tensor *points);
    aq_status (*entry_norms)(const aq_tensor *entries, const aq_tensor *gram, size_t column,
                             aq_tensor *norms);
    aq_status (*nearest)(const aq_tensor *points, const aq_tensor *entries, const aq_tensor *norms,
                         int codebook, aq_precision precision, aq_tensor *codes);
    aq_status (*subtract_entries)(const aq_tensor *entries, const aq_tensor *codes, int codebook,
                                  aq_tensor *points);
    aq_status (*sort_codes)(const aq_tensor *codes, int codebook, aq_tensor *order,
                            aq_tensor *offsets);
    /* head U32 [count]: what lies in places 0 .. count-1 after the changes of aq_random_order for
     * left = total down to count + 1 (ops.c makes the rest) */
    aq_status (*random_head)(uint64_t seed, aq_stream stream, uint32_t total, aq_tensor *head);
    aq_status (*cluster_sums)(const aq_tensor *points, const aq_tensor *order,
                              const aq_tensor *offsets, const aq_cluster_draw *draw,
                              aq_tensor *sums);
    aq_status (*code_sums)(const aq_tensor *points, const aq_tensor *codes, int codebook,
                           const aq_cluster_draw *draw, aq_tensor *sums);
    aq_status (*cluster_means)(const aq_tensor *sums, aq_tensor *entries);

    /* coded weights: */
    aq_status (*decode)(const aq_coded *coded, aq_tensor *weight);
    aq_status (*coded_grad)(const aq_coded *coded, const aq_tensor *orders,
                            const aq_tensor *offsets, const aq_tensor *weight_grad,
                            aq_tensor *codebooks_grad, aq_tensor *scales_grad);
    aq_status (*coded_diagonal)(const aq_coded *coded, const aq_tensor *orders,
                                const aq_tensor *offsets, const aq_tensor *gram,
                                aq_tensor *diagonal);
    aq_status (*scales_step)(const aq_tensor *slopes, const aq_tensor *curvatures,
                             aq_tensor *scales);
    aq_status (*gradient_rescale)(const aq_tensor *before, const aq_tensor *after,
                                  const aq_tensor *fixed, aq_tensor *gradient);
    aq_status (*conjugate_step)(const aq_conjugate *state, const aq_tensor *product);
    aq_status (*adam_step)(const aq_adam_step *step, const aq_adam_tensors *list, size_t count);

    /* code search: */
    aq_status (*search_groups)(const aq_group_search *search);
    aq_status (*residual_update)(const aq_tensor *delta, const aq_tensor *gram,
                                 const aq_group_run *run, const aq_tensor *origins,
                                 const aq_tensor *old_residual, aq_tensor *residual);
    aq_status (*trace_back)(const aq_tensor *ancestors, const aq_tensor *choices,
                            const aq_tensor *losses, const uint32_t *group_order, aq_tensor *codes);

    /* transformer blocks: */
    aq_status (*rms_norm)(const aq_tensor *x, const aq_tensor *weight, float epsilon, aq_tensor *y,
                          aq_tensor *inverse);
    aq_status (*rms_norm_grad)(const aq_tensor *x, const aq_tensor *weight,
                               const aq_tensor *inverse, const aq_tensor *dy, aq_tensor *dx,
                               aq_tensor *dweight);
    aq_status (*rotate)(const aq_tensor *cosines, const aq_tensor *sines, bool backward,
                        aq_tensor *x);
    aq_status (*attention)(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                           const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums);
    aq_status (*attention_grad)(const aq_attention *shape, const aq_attention_tape *tape,
                                const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk, aq_tensor *dv);
    aq_status (*silu_gate)(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out);
    aq_status (*silu_gate_grad)(const aq_tensor *dout, const aq_tensor *gate, const aq_tensor *up,
                                aq_tensor *dgate, aq_tensor *dup);
    aq_status (*cross_entropy_add)(const aq_tensor *logits, const aq_tensor *targets,
                                   aq_tensor *sum);
} aq_ops;

struct aq_backend {
    const char *name; /* "cpu" or "cuda" */
    char kernels[96]; /* aq_backend_kernels */
    bool halves;      /* aq_backend_halves */
    bool ahead;       /* aq_backend_ahead */
    const aq_ops *ops;
    void *state; /* the implementation's own */
};

#ifdef __cplusplus
}
#endif
#endif
