#include "fours.h"

#include <climits>

/* cuBLAS counts in columns: the transpose of a row-major c is op(b)' op(a)'. */
aq_status cuda_gemm_run(const cuda_state *state, const cuda_gemm *gemm) {
    const size_t largest[] = {gemm->m,     gemm->n,     gemm->k,    gemm->row_a,
                              gemm->row_b, gemm->row_c, gemm->batch};
    for (size_t size : largest)
        AQ_REQUIRE(size <= INT_MAX, AQ_UNSUPPORTED,
                   "a product with a dimension of %zu; cuBLAS takes at most %d", size, INT_MAX);
    const cublasOperation_t first = gemm->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = gemm->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasComputeType_t precision =
        gemm->precision == AQ_PRECISE ? CUBLAS_COMPUTE_32F : CUBLAS_COMPUTE_32F_FAST_TF32;
    const int m = (int)gemm->m, n = (int)gemm->n, k = (int)gemm->k, batch = (int)gemm->batch;
    const int row_a = (int)gemm->row_a, row_b = (int)gemm->row_b, row_c = (int)gemm->row_c;
    if (batch == 1) /* cuBLAS knows more ways to do one product than many */
        CUBLAS_TRY(cublasGemmEx(state->blas, first, second, n, m, k, &gemm->alpha, gemm->b,
                                CUDA_R_32F, row_b, gemm->a, CUDA_R_32F, row_a, &gemm->beta, gemm->c,
                                CUDA_R_32F, row_c, precision, CUBLAS_GEMM_DEFAULT));
    else
        CUBLAS_TRY(cublasGemmStridedBatchedEx(
            state->blas, first, second, n, m, k, &gemm->alpha, gemm->b, CUDA_R_32F, row_b,
            (long long)gemm->step_b, gemm->a, CUDA_R_32F, row_a, (long long)gemm->step_a,
            &gemm->beta, gemm->c, CUDA_R_32F, row_c, (long long)gemm->step_c, batch, precision,
            CUBLAS_GEMM_DEFAULT));
    return AQ_OK;
}

aq_status cuda_round_all(const cuda_state *state, const float *values, size_t count,
                         uint16_t *rounded) {
    size_t fours = count / 4;
    const float4 *from = reinterpret_cast<const float4 *>(values);
    uint32_t *to = reinterpret_cast<uint32_t *>(rounded);
    if (fours)
        AQ_TRY(cuda_each(state, fours, [=] __device__(size_t i) {
            const float4 four = from[i];
            to[2 * i] = cuda_pack_bfloats(four.x, four.y);
            to[2 * i + 1] = cuda_pack_bfloats(four.z, four.w);
        }));
    if (count == 4 * fours) return AQ_OK;
    return cuda_each(state, count - 4 * fours, [=] __device__(size_t i) {
        rounded[4 * fours + i] = (uint16_t)cuda_pack_bfloats(values[4 * fours + i], 0);
    });
}

static aq_status half_matmul(const aq_tensor *a, const aq_tensor *b, const aq_product *how,
                             aq_tensor *c) {
    const cuda_state *state = cuda_state_of(c);
    const cublasOperation_t first = how->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = how->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cuda_scratch room_a(state), room_b(state);
    const uint16_t *left, *right;
    AQ_TRY(cuda_half_operand(state, a, &room_a, &left));
    AQ_TRY(cuda_half_operand(state, b, &room_b, &right));
    CUBLAS_TRY(cublasGemmEx(state->blas, first, second, (int)c->shape[1], (int)c->shape[0],
                            (int)a->shape[how->transpose_a ? 0 : 1], &how->alpha, right,
                            CUDA_R_16BF, (int)b->shape[1], left, CUDA_R_16BF, (int)a->shape[1],
                            &how->beta, c->data, c->dtype == AQ_BF16 ? CUDA_R_16BF : CUDA_R_32F,
                            (int)c->shape[1], CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    return AQ_OK;
}

aq_status cuda_matmul(const aq_tensor *a, const aq_tensor *b, const aq_product *how, aq_tensor *c) {
    if (how->precision == AQ_HALF) return half_matmul(a, b, how, c);
    cuda_gemm gemm = {};
    gemm.transpose_a = how->transpose_a;
    gemm.transpose_b = how->transpose_b;
    gemm.m = c->shape[0];
    gemm.n = c->shape[1];
    gemm.k = a->shape[how->transpose_a ? 0 : 1];
    gemm.batch = 1;
    gemm.a = cuda_floats(a);
    gemm.b = cuda_floats(b);
    gemm.c = cuda_floats(c);
    gemm.row_a = a->shape[1];
    gemm.row_b = b->shape[1];
    gemm.row_c = c->shape[1];
    gemm.alpha = how->alpha;
    gemm.beta = how->beta;
    gemm.precision = how->precision;
    return cuda_gemm_run(cuda_state_of(c), &gemm);
}
