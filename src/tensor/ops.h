/* The ops: everything that loops over elements, with the contract of each.
 *
 * These are the calls that algorithms use. Each one checks homes, types and shapes once (SHAPE with
 * both sides named) and dispatches to the backend of its tensors. All tensors of a call live in one
 * backend; arguments do not overlap unless said. Tensors are F32 unless said. "Overwritten" and
 * "added to" are said for every output.
 *
 * Sums have a fixed order that depends on shapes alone, never on threads, free memory or timing:
 * equal inputs give equal bits on the same backend. Where an op chooses a smallest value, ties go
 * to the lowest index and NaN never wins over a number.
 *
 * Letters in shapes: out, in = rows and columns of a weight; o = out_group, g = in_group; rows =
 * out / o (row groups, one scale each); groups = in / g; M codebooks of K = 2^bits entries, an
 * entry is [o, g], d = o * g; N = rows * groups vectors of a weight, vector n = row n / groups,
 * group n % groups; T = sequences * length tokens.
 */
#ifndef AQ_TENSOR_OPS_H
#define AQ_TENSOR_OPS_H

#include "base/random.h"
#include "tensor/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aq_backend aq_backend;

/* Opens a backend; *backend is freed with aq_backend_close (after all its tensors; NULL is fine).
 *
 * CPU: OpenMP over tiles, one OpenBLAS thread a call; `threads` 0 takes OpenMP's default.
 * CUDA: `device` counts from 0; DEVICE if it cannot be used, UNSUPPORTED in a build without CUDA.
 */
aq_status aq_cpu_open(int threads, aq_backend **backend);
aq_status aq_cuda_open(int device, aq_backend **backend);
void aq_backend_close(aq_backend *backend);

/* Opens another one on the same device, whose work is not ordered with this one's; closed like any.
 * What it takes of the device's memory counts as taken through either on CUDA. */
aq_status aq_backend_another(const aq_backend *backend, aq_backend **another);

/* Before a thread that did not open the backend computes with it (one thread at a time). */
aq_status aq_backend_enter(aq_backend *backend);

const char *aq_backend_name(const aq_backend *backend); /* "cpu" or "cuda" */

/* What, besides the program, the bits of its results depend on: "OpenBLAS 0.3.21 (Zen)", "compute
 * capability 9.0, 132 multiprocessors, CUDA 12.8". */
const char *aq_backend_kernels(const aq_backend *backend);

/* Whether its products with AQ_HALF read BF16; then ops whose contracts say "or BF16" do. */
bool aq_backend_halves(const aq_backend *backend);

/* Whether uploads ahead (aq_tensor_upload_ahead) go on beside its ops; elsewhere they are uploads.
 */
bool aq_backend_ahead(const aq_backend *backend);

/* What is queued afterwards comes behind all uploads ahead. */
aq_status aq_ahead_join(aq_backend *backend);

/* Its device's name as the vendor writes it ("NVIDIA H100 80GB HBM3", a processor's model), cut to
 * `size` bytes; "unknown" if it is not known. */
void aq_backend_device(const aq_backend *backend, char *name, size_t size);

/* How many CUDA devices can be used; 0 without a driver, a device or a build with CUDA. */
int aq_cuda_device_count(void);

/* What the driver calls one of them, on every process and whatever its number there (UUID). */
aq_status aq_cuda_device_id(int device, unsigned char id[16]);

/* Waits until all queued work is done and reports its errors. */
aq_status aq_finish(aq_backend *backend);

/* Free and total bytes of the memory that the backend's tensors live in. */
aq_status aq_backend_memory(aq_backend *backend, size_t *free_bytes, size_t *total_bytes);

/* The most bytes that were taken of that memory at a time since the backend was opened: tensors
 * and, on CUDA, scratch memory of ops and cuBLAS's workspace (not the driver's own). */
aq_status aq_backend_peak(aq_backend *backend, size_t *bytes);

/* Makes host memory (page-aligned, also shared with other processes) as fast for the backend's
 * transfers as can be; the contents stay. Unpinned memory is moved too, only slower: a failure may
 * be ignored. To be unpinned before it is unmapped; unpinning waits for what is queued. */
aq_status aq_host_pin(aq_backend *backend, void *data, size_t bytes);
void aq_host_unpin(aq_backend *backend, void *data);

/* ---- elements ---- */

/* x[...] = value. F32 or F64. */
aq_status aq_fill(float value, aq_tensor *x);

/* target = source * factor, rounded to nearest even in target's type. Between any two of F32, F64,
 * F16, BF16, equal counts; target overwritten. factor 1 is exact where the type allows. A value
 * past float16's range becomes infinity (count_nonfinite finds it). */
aq_status aq_convert(const aq_tensor *source, double factor, aq_tensor *target);

/* target's rows i r .. i r + r - 1 = source[list[i]], exactly, for `count` numbers below n (host
 * memory, read before the call returns). source BF16 [n, r, c], target F32 [count r, c]. */
aq_status aq_pick(const aq_tensor *source, const uint32_t *list, size_t count, aq_tensor *target);

/* y = alpha x + beta y, equal counts; with beta 0, y's old contents are not read. */
aq_status aq_axpby(float alpha, const aq_tensor *x, float beta, aq_tensor *y);

/* sum[0] += factor * sum_i x[i] y[i], products and sum in float64. sum: F64 [1]; x may be y. */
aq_status aq_dot_add(const aq_tensor *x, const aq_tensor *y, double factor, aq_tensor *sum);

/* *result = sum_i x[i] y[i] in float64. Waits. */
aq_status aq_dot(const aq_tensor *x, const aq_tensor *y, double *result);

/* *count = how many elements of x (F32, F64, F16, BF16) are NaN or infinite. Waits. */
aq_status aq_count_nonfinite(const aq_tensor *x, size_t *count);

/* x[t, c] += bias[c]. x [T, C] (in place), F32 or BF16 (aq_backend_halves); bias [C]. */
aq_status aq_bias_add(const aq_tensor *bias, aq_tensor *x);

/* dbias[c] += sum_t dx[t, c]. dx F32 or BF16 (aq_backend_halves). */
aq_status aq_bias_grad(const aq_tensor *dx, aq_tensor *dbias);

/* ---- products ---- */

typedef enum aq_precision {
    AQ_PRECISE, /* float32 products and sums */
    AQ_FAST,    /* CUDA: TF32 products, float32 sums; CPU: the same as AQ_PRECISE */
    AQ_HALF     /* CUDA: operands rounded to bfloat16, float32 sums; CPU: the same as AQ_PRECISE */
} aq_precision;

typedef struct aq_product {
    bool transpose_a,
        transpose_b; /* op(a) [m, k] is stored [k, m], op(b) [k, n] is stored [n, k] */
    float alpha;
    float beta; /* 0: c's old contents are not read */
    aq_precision precision;
} aq_product;

/* c = alpha op(a) op(b) + beta c. a, b, c have 2 dimensions, each F32 or, with AQ_HALF, BF16
 * (aq_backend_halves). */
aq_status aq_matmul(const aq_tensor *a, const aq_tensor *b, const aq_product *how, aq_tensor *c);

/* gram += x' x. x [n, in], gram F64 [in, in], symmetric before and after. Sums of products in
 * float32 over runs of at most 1,024 rows, the runs' sums and everything past them in float64
 * (METHOD: Gram sums in float64). CUDA: of x rounded to TF32, so that what is made is the Gram
 * matrix of the rounded inputs, and as positive as theirs. */
aq_status aq_gram_add(const aq_tensor *x, aq_tensor *gram);

/* ---- clusters and codes ---- */

/* The number that scales of zero rows get; a scale at or below it has no gradient. */
#define AQ_ZERO_SCALE 1e-9f

/* scales[r] = norm of row group r of weight [out, in], or AQ_ZERO_SCALE where that is 0. scales
 * [rows]; o = out / rows. */
aq_status aq_group_norms(const aq_tensor *weight, aq_tensor *scales);

/* points[r * groups + j] = the [o, g] piece of weight at row group r, column group j, over
 * scales[r]. weight [out, in], scales [rows], points [N, d] overwritten. */
aq_status aq_scaled_vectors(const aq_tensor *weight, const aq_tensor *scales, int in_group,
                            aq_tensor *points);

/* norms[e] = sum over the entry's o lines l of l' G l, with G = gram[column : column+g, column :
 * column+g], or the identity if gram is NULL. entries [E, o, g] (E any, so M * K entries at once
 * are fine), gram [in, in], norms [E] overwritten. */
aq_status aq_entry_norms(const aq_tensor *entries, const aq_tensor *gram, size_t column,
                         aq_tensor *norms);

/* codes[n, codebook] = argmin over k of norms[k] - 2 points[n] . entries[k]. points [N, d], entries
 * [K, d], norms [K], codes U16 [N, M] of which one column is overwritten. Nothing of size [N, K] is
 * stored. With d <= 16 and other precisions than AQ_PRECISE CUDA may take another entry nearly as
 * near: the sum of all distances is within 1e-4 of the least. */
aq_status aq_nearest(const aq_tensor *points, const aq_tensor *entries, const aq_tensor *norms,
                     int codebook, aq_precision precision, aq_tensor *codes);

/* points[n] -= entries[codes[n, codebook]]. */
aq_status aq_subtract_entries(const aq_tensor *entries, const aq_tensor *codes, int codebook,
                              aq_tensor *points);

/* Vectors listed by their code, each code's in ascending order: order[offsets[k] .. offsets[k+1]-1]
 * are the n with codes[n, codebook] = k. codes U16 [N, M], order U32 [N], offsets U32 [K+1], both
 * overwritten. */
aq_status aq_sort_codes(const aq_tensor *codes, int codebook, aq_tensor *order, aq_tensor *offsets);

/* drawn[0 .. count-1] (host, borrowed) = the first `count` entries of the order that
 * aq_random_order(seed, stream, total, ...) makes. The backend does not build the rest of it:
 * scratch memory of 4 bytes for each of `total`. Waits. */
aq_status aq_random_head(aq_backend *backend, uint64_t seed, aq_stream stream, size_t total,
                         size_t count, uint32_t *drawn);

/* Which points a cluster without any may take: points[0] is number `first` of `total` (the rest are
 * others' of a team); cluster k draws number
 * aq_random_below(aq_random(seed, AQ_STREAM_KMEANS_EMPTY, k), total). */
typedef struct aq_cluster_draw {
    uint64_t seed;
    size_t first, total;
} aq_cluster_draw;

/* sums[k] = the sum of the points listed for k (d values), how many they are, and the point that k
 * draws (d values; zeros if it is not one of these). Sums of these over a team are those of all
 * points. points [N, d], sums F64 [K, 2 d + 1] overwritten. */
aq_status aq_cluster_sums(const aq_tensor *points, const aq_tensor *order, const aq_tensor *offsets,
                          const aq_cluster_draw *draw, aq_tensor *sums);

/* The same sums for the points n with codes[n, codebook] = k, in an order of their own; no lists
 * are needed. points [N, d], codes U16 [N, M], codes below K, sums F64 [K, 2 d + 1] overwritten. */
aq_status aq_code_sums(const aq_tensor *points, const aq_tensor *codes, int codebook,
                       const aq_cluster_draw *draw, aq_tensor *sums);

/* entries[k] = the mean of cluster k, or the point that it drew if it has none. sums as above,
 * entries [K, d] overwritten. */
aq_status aq_cluster_means(const aq_tensor *sums, aq_tensor *entries);

/* ---- coded weights ---- */

/* MxB with its group sizes: "2x8" over groups of 8 is {2, 8, 8, 1}. */
typedef struct aq_scheme {
    int codebooks; /* M >= 1 */
    int bits;      /* B, 1 to 16; K = 2^B */
    int in_group;  /* g, divides in */
    int out_group; /* o, divides out */
} aq_scheme;

/* The stored form of a linear's weight [out, in]:
 *     weight[r o + i, j g + l] = scales[r] * sum_m codebooks[m, codes[r, j, m], i, l] */
typedef struct aq_coded {
    aq_scheme scheme;
    aq_tensor codes;     /* U16 [rows, groups, M] */
    aq_tensor codebooks; /* F32 [M, K, o, g] */
    aq_tensor scales;    /* F32 [rows] */
} aq_coded;

/* weight [out, in] overwritten by the formula above: entries summed from m = 0 up, then scaled. A
 * code past the codebook cannot occur: readers of files check (K of 2^16 apart). weight F32 or BF16
 * (aq_backend_halves). */
aq_status aq_decode(const aq_coded *coded, aq_tensor *weight);

/* Gradients of a loss by codebooks and scales from its gradient by the decoded weight:
 *     codebooks_grad[m, k] = sum over vectors n listed for (m, k) of scales[row] * weight_grad
 * piece n
 *     scales_grad[r] = sum over row group r of weight_grad . (decoded weight / scales[r]); 0 where
 * scales[r] <= AQ_ZERO_SCALE
 * orders U32 [M, N] and offsets U32 [M, K+1] from aq_sort_codes; both gradients overwritten, either
 * may be NULL: not wanted. */
aq_status aq_coded_grad(const aq_coded *coded, const aq_tensor *orders, const aq_tensor *offsets,
                        const aq_tensor *weight_grad, aq_tensor *codebooks_grad,
                        aq_tensor *scales_grad);

/* Second derivatives of tr(Q H Q') / 2 by single codebook values, Q the decoded weight:
 *     diagonal[m, k, i, l] = sum over vectors n listed for (m, k) of scales[row]^2 * gram[c, c], c
 * the column of vector n's value l. gram [in, in]; orders, offsets as above; diagonal [M, K, o, g]
 * overwritten. */
aq_status aq_coded_diagonal(const aq_coded *coded, const aq_tensor *orders,
                            const aq_tensor *offsets, const aq_tensor *gram, aq_tensor *diagonal);

/* scales[r] -= scales[r] * slopes[r] / curvatures[r]: Newton's step for each scale, where slopes
 * are aq_coded_grad's of the loss and curvatures those of the loss of the decoded weight alone. A
 * scale at or below AQ_ZERO_SCALE stays, and so does one whose curvature is not positive or whose
 * step ends at or below AQ_ZERO_SCALE or is not finite. All F32 [rows]. */
aq_status aq_scales_step(const aq_tensor *slopes, const aq_tensor *curvatures, aq_tensor *scales);

/* The gradient 2 (Q - W) H / out after scales have changed from `before` to `after`, without a
 * product: with f = after[r] / before[r] a row becomes f gradient + (f - 1) fixed, fixed = 2 W H /
 * out. Rows whose scale stays keep their bits. gradient, fixed [out, in], scales [rows]. */
aq_status aq_gradient_rescale(const aq_tensor *before, const aq_tensor *after,
                              const aq_tensor *fixed, aq_tensor *gradient);

/* Conjugate gradients for A x = b (Hestenes and Stiefel 1952), A symmetric without negative
 * eigenvalues, preconditioned by its diagonal. All F32 of equal counts but numbers. */
typedef struct aq_conjugate {
    const aq_tensor *diagonal;                  /* values that are not positive count as infinite */
    aq_tensor *solution, *residual, *direction; /* x, r = b - A x, p */
    aq_tensor *numbers; /* F64 [3]: r . z now (z = r / diagonal) and before the step, p . A p */
} aq_conjugate;

/* product NULL: p = z and r . z, for a start. Otherwise product = A p, and one step: a = r . z / p
 * . A p, x += a p, r -= a A p, p = z + (r . z now / before) p. Where p . A p is not positive x and
 * r stay. Sums in float64. */
aq_status aq_conjugate_step(const aq_conjugate *state, const aq_tensor *product);

/* One Adam step (Kingma and Ba 2015; AMSGrad: Reddi et al. 2018, as PyTorch computes it). */
typedef struct aq_adam_step {
    float learning_rate, beta1, beta2, epsilon;
    int step; /* counts from 1: bias corrections 1 - beta^step */
} aq_adam_step;

/* first = beta1 first + (1-beta1) grad; second likewise with grad^2; largest = max(largest, second)
 * where given (NULL: plain Adam); parameter -= rate * (first / c1) / (sqrt((largest or second) /
 * c2) + epsilon). All of equal counts, all but grad updated in place. */
aq_status aq_adam(const aq_adam_step *step, const aq_tensor *grad, aq_tensor *parameter,
                  aq_tensor *first, aq_tensor *second, aq_tensor *largest);

/* aq_adam's tensors of one parameter. */
typedef struct aq_adam_tensors {
    const aq_tensor *grad;
    aq_tensor *parameter, *first, *second, *largest;
} aq_adam_tensors;

/* The step of `count` parameters, each with its own count of elements: one launch a few dozen. */
aq_status aq_adam_many(const aq_adam_step *step, const aq_adam_tensors *list, size_t count);

/* ---- code search ---- */

enum {
    AQ_MAX_BEAM = 16,
    AQ_MAX_RUN = 16,          /* column groups of a run */
    AQ_MAX_PAIR_ENTRIES = 256 /* of each codebook, where pairs are searched */
};

/* Different column groups in the order in which a code pass comes to them. */
typedef struct aq_group_run {
    const uint32_t *groups; /* host, `count` numbers */
    size_t count;           /* 1 .. AQ_MAX_RUN */
    size_t width;           /* g: group J has columns J * g to J * g + g - 1 */
} aq_group_run;

/* A run of column groups of a code pass, one after the other, for all rows and their hypotheses
 * (METHOD section 2.3). Step t treats J = groups[t].
 *
 * A row group has up to `beam` hypotheses; hypothesis b has its residual R = D H and its loss so
 * far (relative to the pass's start; infinite: not alive). All hypotheses still have the pass's
 * initial code in this group, since a pass visits every group once. For each codebook m in the
 * step's codebook order: every living hypothesis proposes to replace its code m by each entry e,
 * which changes the row's loss by s^2 n(e) + 2 s e.v - (the same for its present entry),   v = R_J
 * - H_JJ (s * present entry), with R_J its residual in the group's columns (updated after every
 * codebook by H_JJ times the change), s the scale, n(e) = sum over lines l of e of l' H_JJ l; with
 * o > 1 lines of the group add up. Of all proposals the `beam` best distinct ones live on, in
 * ascending order of loss; ties go to the lower (hypothesis, entry). Two proposals with the same
 * ancestor and the same M codes are the same: the first one counts (which cannot happen here: each
 * codebook is proposed once, so living hypotheses with one ancestor already differ in a codebook
 * that later proposals leave alone). After each step R is moved on by what it changed, inside the
 * run's columns; aq_residual_update brings all columns up to date. */
typedef struct aq_group_search {
    const aq_coded *coded;     /* before the pass */
    const aq_tensor *gram;     /* H [in, in] */
    const aq_tensor *residual; /* [rows, c, o, in] before the run: hypotheses from c on are dead */
    aq_group_run run;
    const uint8_t *codebook_orders; /* host, [steps, M]: a permutation for each step; NULL: pairs */
    bool exact;                     /* losses in float32 throughout; otherwise CUDA chooses the
                                       chunk of a large codebook's entries on tensor cores */
    aq_tensor *losses;              /* [rows, beam], updated in place */
    aq_tensor *ancestors;           /* U8 [steps, rows, beam] overwritten: hypothesis before t */
    aq_tensor *choices;             /* U16 [steps, rows, beam, M] overwritten: step t's codes */
    aq_tensor *origins;             /* U8 [rows, beam] overwritten: hypothesis before the run */
    aq_tensor *delta; /* [rows, beam, o, steps * g] overwritten: how the run changed the decoded
                         groups, in the run's order */
} aq_group_search;

/* Pairs (codebook_orders NULL; M = 2, K at most AQ_MAX_PAIR_ENTRIES, a beam of 1): a step weighs
 * all pairs of an entry a of codebook 0 and b of codebook 1 at once. They change the row's loss by
 *     s^2 (n(a) + n(b) + 2 a H_JJ b) + 2 s (a + b).v - (the same for the present pair),
 *     v = R_J - H_JJ (s * present pair);
 * the least wins, the present pair where none is lower, and of equal ones one of the lowest a.
 *
 * Hypotheses that are not alive after a step have loss infinity, ancestor 0 and choices as before
 * the pass; after the run origin 0 and delta 0. */
aq_status aq_search_groups(const aq_group_search *search);

/* residual[r, b, i, :] = old[r, origins[r, b], i, :] + sum_l delta[r, b, i, l] gram[c(l), :], c(l)
 * the run's l-th column. delta and origins as aq_search_groups leaves them, gram [in, in],
 * old [rows, c, o, in] with every origin below c; residual overwritten. With a beam of 1 residual
 * may be old (same data). */
aq_status aq_residual_update(const aq_tensor *delta, const aq_tensor *gram, const aq_group_run *run,
                             const aq_tensor *origins, const aq_tensor *old_residual,
                             aq_tensor *residual);

/* Writes every row's best hypothesis (lowest loss, ties: lowest index) into codes [rows, groups,
 * M]. ancestors U8 [groups, rows, beam] and choices U16 [groups, rows, beam, M] hold the pass step
 * by step; step t treated group group_order[t] (host, groups entries). */
aq_status aq_trace_back(const aq_tensor *ancestors, const aq_tensor *choices,
                        const aq_tensor *losses, const uint32_t *group_order, aq_tensor *codes);

/* ---- transformer blocks ---- */

/* y[t] = x[t] * inverse[t] * weight, inverse[t] = 1 / sqrt(mean(x[t]^2) + epsilon). x, y [T, C],
 * weight [C], inverse [T]; y and inverse overwritten, y F32 or BF16 (aq_backend_halves). (RMSNorm:
 * arXiv 1910.07467.) */
aq_status aq_rms_norm(const aq_tensor *x, const aq_tensor *weight, float epsilon, aq_tensor *y,
                      aq_tensor *inverse);

/* dx and dweight added to (their shapes are x's and weight's). */
aq_status aq_rms_norm_grad(const aq_tensor *x, const aq_tensor *weight, const aq_tensor *inverse,
                           const aq_tensor *dy, aq_tensor *dx, aq_tensor *dweight);

/* Rotary position embedding in place (arXiv 2104.09864, halves as in Hugging Face's Llama): for i <
 * D/2 (x_i, x_{i+D/2}) -> (x_i c - x_{i+D/2} s, x_{i+D/2} c + x_i s). x [sequences, length, heads,
 * D], F32 or BF16 (aq_backend_halves); cosines, sines [at least length, D/2]. `backward` turns the
 * other way. */
aq_status aq_rotate(const aq_tensor *cosines, const aq_tensor *sines, bool backward, aq_tensor *x);

typedef struct aq_attention {
    size_t sequences, length, heads, kv_heads, head_dim; /* kv_heads divides heads */
    aq_precision precision;
} aq_attention;

/* Whether attention works on BF16: with AQ_HALF, aq_backend_halves, and head_dim a multiple of 8 up
 * to 128. */
bool aq_attention_halves(const aq_backend *backend, const aq_attention *shape);

/* Causal attention, scale 1 / sqrt(head_dim): query head h reads key head h / (heads / kv_heads).
 * q, out [T, heads * head_dim]; k, v [T, kv_heads * head_dim]; log_sums [sequences, heads, length]:
 * the log of each softmax's denominator, for the backward pass. out, log_sums overwritten. Never
 * stores [heads, length, length] for more sequences than a fixed amount of memory holds. q, k and v
 * alike, and out, F32 or, where aq_attention_halves, BF16. */
aq_status aq_causal_attention(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                              const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums);

/* What the forward pass leaves for the backward pass. */
typedef struct aq_attention_tape {
    const aq_tensor *q, *k, *v, *out, *log_sums;
} aq_attention_tape;

/* dq, dk, dv overwritten; dout F32 or, where aq_attention_halves, BF16, and they alike. */
aq_status aq_causal_attention_grad(const aq_attention *shape, const aq_attention_tape *tape,
                                   const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk,
                                   aq_tensor *dv);

/* out = gate * sigmoid(gate) * up, equal counts, overwritten. All F32 or all BF16
 * (aq_backend_halves). */
aq_status aq_silu_gate(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out);

/* dgate and dup overwritten; they may be gate and up. All F32 or all BF16 (aq_backend_halves). */
aq_status aq_silu_gate_grad(const aq_tensor *dout, const aq_tensor *gate, const aq_tensor *up,
                            aq_tensor *dgate, aq_tensor *dup);

/* sum[0] += sum_t (log sum_v exp logits[t, v] - logits[t, targets[t]]), sum in float64. logits [T,
 * V], targets I32 [T] in 0 .. V-1 (the caller has checked), sum F64 [1]. */
aq_status aq_cross_entropy_add(const aq_tensor *logits, const aq_tensor *targets, aq_tensor *sum);

#ifdef __cplusplus
}
#endif
#endif
