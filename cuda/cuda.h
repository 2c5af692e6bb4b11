/* What all files of the CUDA backend share: its state, its translation of foreign errors, the row
 * major product over cuBLAS, and its half of every entry of the op table.
 *
 * C and CUDA C++ both include it. Names of the backend are cuda_noun; the runtime's are cudaNoun.
 * All work is queued on one stream; kernels' launches are checked by CUDA_TRY(cudaGetLastError()),
 * and a fault inside a kernel is reported by the next call that waits.
 */
#ifndef AQ_CUDA_CUDA_H
#define AQ_CUDA_CUDA_H

#include "tensor/backend.h"

#include <cublas_v2.h>
#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A piece of pinned memory through which transfers go (cuda_transfer.c). */
typedef struct cuda_staging {
    void *data;
    cudaEvent_t done; /* of the last transfer from or to it */
} cuda_staging;

enum { CUDA_STAGING = 2 };

typedef struct cuda_state {
    int device;
    cudaStream_t stream;
    cublasHandle_t blas;
    void *workspace; /* cuBLAS's: given once, so that equal products give equal bits */
    cuda_staging staging[CUDA_STAGING];
    cudaStream_t ahead;                    /* of uploads beside the stream's work */
    cudaEvent_t ahead_begins, ahead_ended; /* where either stream waits for the other */
} cuda_state;

static inline cuda_state *cuda_state_of(const aq_tensor *tensor) {
    return (cuda_state *)tensor->home->state;
}

/* Sets the error text of a foreign code (clearing the runtime's own) and returns MEMORY or DEVICE.
 */
aq_status cuda_raise(cudaError_t code, const char *file, int line);
aq_status cuda_raise_blas(cublasStatus_t code, const char *file, int line);

#define CUDA_TRY(call)                                                                             \
    do {                                                                                           \
        cudaError_t cuda_try_code = (call);                                                        \
        if (cuda_try_code != cudaSuccess) return cuda_raise(cuda_try_code, __FILE__, __LINE__);    \
    } while (0)

#define CUBLAS_TRY(call)                                                                           \
    do {                                                                                           \
        cublasStatus_t cublas_try_code = (call);                                                   \
        if (cublas_try_code != CUBLAS_STATUS_SUCCESS)                                              \
            return cuda_raise_blas(cublas_try_code, __FILE__, __LINE__);                           \
    } while (0)

/* Device memory, freed with cudaFreeAsync on the state's stream; contents undefined. MEMORY with
 * what was asked for and what is free. */
aq_status cuda_take(const cuda_state *state, size_t bytes, void **data);

/* c[i] = alpha op(a[i]) op(b[i]) + beta c[i] for i < batch, all row-major: op(a) [m, k],
 * op(b) [k, n], c [m, n]; a stored row begins `row` elements after the one before, a member of the
 * batch `step` elements after the one before. */
typedef struct cuda_gemm {
    bool transpose_a, transpose_b;
    size_t m, n, k, batch;
    const float *a, *b;
    float *c;
    size_t row_a, row_b, row_c;
    size_t step_a, step_b, step_c;
    float alpha, beta;
    aq_precision precision;
} cuda_gemm;

/* AQ_HALF counts as AQ_FAST: operands are float32. */
aq_status cuda_gemm_run(const cuda_state *state, const cuda_gemm *gemm);

/* rounded[i] = values[i] in bfloat16; both aligned to 16 bytes. */
aq_status cuda_round_all(const cuda_state *state, const float *values, size_t count,
                         uint16_t *rounded);

/* Attention with bfloat16 operands (cuda_attention_half*.cu), where aq_attention_halves. */
aq_status cuda_attention_half(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                              const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums);
aq_status cuda_attention_half_grad(const aq_attention *shape, const aq_attention_tape *tape,
                                   const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk,
                                   aq_tensor *dv);

/* The stream and the events of uploads ahead; pieces are made later. Closing frees all that was
 * made; nothing is on its way. */
aq_status cuda_transfer_open(cuda_state *state);
void cuda_transfer_close(cuda_state *state);

/* The forward pass with TF32 operands (cuda_attention_fast.cu), where it fits the shape. */
bool cuda_attention_fast_fits(const aq_attention *shape);
aq_status cuda_attention_fast(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                              const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums);

/* ---- the op table's entries; contracts in tensor/ops.h ---- */

aq_status cuda_upload(aq_backend *backend, void *target, const void *host, size_t bytes);
aq_status cuda_upload_ahead(aq_backend *backend, void *target, const void *host, size_t bytes);
aq_status cuda_ahead_join(aq_backend *backend);
aq_status cuda_download(aq_backend *backend, const void *source, void *host, size_t bytes);

aq_status cuda_fill(float value, aq_tensor *x);
aq_status cuda_convert(const aq_tensor *source, double factor, aq_tensor *target);
aq_status cuda_pick(const aq_tensor *source, const uint32_t *list, size_t count, aq_tensor *target);
aq_status cuda_axpby(float alpha, const aq_tensor *x, float beta, aq_tensor *y);
aq_status cuda_dot_add(const aq_tensor *x, const aq_tensor *y, double factor, aq_tensor *sum);
aq_status cuda_count_nonfinite(const aq_tensor *x, aq_tensor *count);
aq_status cuda_bias_add(const aq_tensor *bias, aq_tensor *x);
aq_status cuda_bias_grad(const aq_tensor *dx, aq_tensor *dbias);

aq_status cuda_matmul(const aq_tensor *a, const aq_tensor *b, const aq_product *how, aq_tensor *c);
aq_status cuda_gram_add(const aq_tensor *x, aq_tensor *gram);

aq_status cuda_group_norms(const aq_tensor *weight, aq_tensor *scales);
aq_status cuda_scaled_vectors(const aq_tensor *weight, const aq_tensor *scales, int in_group,
                              aq_tensor *points);
aq_status cuda_entry_norms(const aq_tensor *entries, const aq_tensor *gram, size_t column,
                           aq_tensor *norms);
aq_status cuda_nearest(const aq_tensor *points, const aq_tensor *entries, const aq_tensor *norms,
                       int codebook, aq_precision precision, aq_tensor *codes);
aq_status cuda_subtract_entries(const aq_tensor *entries, const aq_tensor *codes, int codebook,
                                aq_tensor *points);
aq_status cuda_sort_codes(const aq_tensor *codes, int codebook, aq_tensor *order,
                          aq_tensor *offsets);
aq_status cuda_random_head(uint64_t seed, aq_stream stream, uint32_t total, aq_tensor *head);
aq_status cuda_cluster_sums(const aq_tensor *points, const aq_tensor *order,
                            const aq_tensor *offsets, const aq_cluster_draw *draw, aq_tensor *sums);
aq_status cuda_code_sums(const aq_tensor *points, const aq_tensor *codes, int codebook,
                         const aq_cluster_draw *draw, aq_tensor *sums);
aq_status cuda_cluster_means(const aq_tensor *sums, aq_tensor *entries);

aq_status cuda_decode(const aq_coded *coded, aq_tensor *weight);
aq_status cuda_coded_grad(const aq_coded *coded, const aq_tensor *orders, const aq_tensor *offsets,
                          const aq_tensor *weight_grad, aq_tensor *codebooks_grad,
                          aq_tensor *scales_grad);
aq_status cuda_coded_diagonal(const aq_coded *coded, const aq_tensor *orders,
                              const aq_tensor *offsets, const aq_tensor *gram, aq_tensor *diagonal);
aq_status cuda_scales_step(const aq_tensor *slopes, const aq_tensor *curvatures, aq_tensor *scales);
aq_status cuda_gradient_rescale(const aq_tensor *before, const aq_tensor *after,
                                const aq_tensor *fixed, aq_tensor *gradient);
aq_status cuda_conjugate_step(const aq_conjugate *state, const aq_tensor *product);
aq_status cuda_adam_step(const aq_adam_step *step, const aq_adam_tensors *list, size_t count);

aq_status cuda_search_groups(const aq_group_search *search);
aq_status cuda_residual_update(const aq_tensor *delta, const aq_tensor *gram,
                               const aq_group_run *run, const aq_tensor *origins,
                               const aq_tensor *old_residual, aq_tensor *residual);
aq_status cuda_trace_back(const aq_tensor *ancestors, const aq_tensor *choices,
                          const aq_tensor *losses, const uint32_t *group_order, aq_tensor *codes);

aq_status cuda_rms_norm(const aq_tensor *x, const aq_tensor *weight, float epsilon, aq_tensor *y,
                        aq_tensor *inverse);
aq_status cuda_rms_norm_grad(const aq_tensor *x, const aq_tensor *weight, const aq_tensor *inverse,
                             const aq_tensor *dy, aq_tensor *dx, aq_tensor *dweight);
aq_status cuda_rotate(const aq_tensor *cosines, const aq_tensor *sines, bool backward,
                      aq_tensor *x);
aq_status cuda_attention(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                         const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums);
aq_status cuda_attention_grad(const aq_attention *shape, const aq_attention_tape *tape,
                              const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk, aq_tensor *dv);
aq_status cuda_silu_gate(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out);
aq_status cuda_silu_gate_grad(const aq_tensor *dout, const aq_tensor *gate, const aq_tensor *up,
                              aq_tensor *dgate, aq_tensor *dup);
aq_status cuda_cross_entropy_add(const aq_tensor *logits, const aq_tensor *targets, aq_tensor *sum);

#ifdef __cplusplus
}
#endif
#endif
