#include <cublas_v2.h>

#include "base/half.h"

#include <cblas.h>
#include <cstdio>
#include <cstdlib>
#include <sanitizer/asan_interface.h>
#include <vector>

/* A matrix as BLAS sees it: columns one after the other, `line` elements apart. */
struct blas_matrix {
    const void *data;
    int rows, columns, line;
    cudaDataType type;
};

static size_t size_of(const blas_matrix &matrix) {
    return (size_t)(matrix.columns - 1) * matrix.line + matrix.rows;
}

static void check_memory(const blas_matrix &matrix, const char *name) {
    size_t bytes = matrix.type == CUDA_R_16BF ? sizeof(uint16_t) : sizeof(float);
    void *bad = __asan_region_is_poisoned(const_cast<void *>(matrix.data), size_of(matrix) * bytes);
    if (!bad) return;
    fprintf(stderr, "emulation: matrix %s of a product, [%d, %d] with lines of %d, leaves memory\n",
            name, matrix.rows, matrix.columns, matrix.line);
    __asan_report_error(__builtin_return_address(0), __builtin_frame_address(0),
                        __builtin_frame_address(0), bad, 1, 1);
    abort();
}

static blas_matrix operand(cublasOperation_t operation, const void *data, cudaDataType type,
                           int rows, int columns, int line) {
    return operation == CUBLAS_OP_N ? blas_matrix{data, rows, columns, line, type}
                                    : blas_matrix{data, columns, rows, line, type};
}

/* The matrix's numbers; `copy` holds them if they are not float32. */
static const float *floats_of(const blas_matrix &matrix, std::vector<float> &copy) {
    if (matrix.type == CUDA_R_32F) return static_cast<const float *>(matrix.data);
    const uint16_t *numbers = static_cast<const uint16_t *>(matrix.data);
    copy.resize(size_of(matrix));
    for (size_t i = 0; i < copy.size(); i++) copy[i] = aq_bfloat_to_float(numbers[i]);
    return copy.data();
}

static CBLAS_TRANSPOSE transposed(cublasOperation_t operation) {
    return operation == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}

extern "C" {

const char *cublasGetStatusName(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "an emulated error";
}

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    openblas_set_num_threads(1);
    *handle = reinterpret_cast<cublasHandle_t>(1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t) {
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t stream) {
    emulated_check_stream(stream, "cuBLAS");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t) {
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t first, cublasOperation_t second,
                            int m, int n, int k, const void *alpha, const void *a,
                            cudaDataType type_a, int line_a, const void *b, cudaDataType type_b,
                            int line_b, const void *beta, void *c, cudaDataType type_c, int line_c,
                            cublasComputeType_t, cublasGemmAlgo_t) {
    blas_matrix left = operand(first, a, type_a, m, k, line_a);
    blas_matrix right = operand(second, b, type_b, k, n, line_b);
    blas_matrix result = {c, m, n, line_c, type_c};
    if (m < 1 || n < 1 || k < 1 || left.line < left.rows || right.line < right.rows || line_c < m)
        return CUBLAS_STATUS_INVALID_VALUE;
    check_memory(left, "a");
    check_memory(right, "b");
    check_memory(result, "c");
    std::vector<float> left_copy, right_copy, sums;
    float *target = const_cast<float *>(floats_of(result, sums));
    cblas_sgemm(CblasColMajor, transposed(first), transposed(second), m, n, k,
                *static_cast<const float *>(alpha), floats_of(left, left_copy), line_a,
                floats_of(right, right_copy), line_b, *static_cast<const float *>(beta), target,
                line_c);
    for (size_t i = 0; i < sums.size(); i++)
        if (i % line_c < (size_t)m) static_cast<uint16_t *>(c)[i] = aq_bfloat_from_float(sums[i]);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t first, cublasOperation_t second,
                           int m, int n, int k, const void *alpha, const void *a,
                           cudaDataType type_a, int line_a, long long step_a, const void *b,
                           cudaDataType type_b, int line_b, long long step_b, const void *beta,
                           void *c, cudaDataType type_c, int line_c, long long step_c, int batch,
                           cublasComputeType_t precision, cublasGemmAlgo_t algorithm) {
    for (int i = 0; i < batch; i++) {
        cublasStatus_t status = cublasGemmEx(
            handle, first, second, m, n, k, alpha, static_cast<const float *>(a) + i * step_a,
            type_a, line_a, static_cast<const float *>(b) + i * step_b, type_b, line_b, beta,
            static_cast<float *>(c) + i * step_c, type_c, line_c, precision, algorithm);
        if (status != CUBLAS_STATUS_SUCCESS) return status;
    }
    return CUBLAS_STATUS_SUCCESS;
}

} /* extern "C" */
