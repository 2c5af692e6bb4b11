/* Stands in for CUDA's header of the same name, over OpenBLAS. Operands are checked:
 * AddressSanitizer does not see what OpenBLAS reads and writes. */
#ifndef AQ_TESTS_EMULATION_CUBLAS_V2_H
#define AQ_TESTS_EMULATION_CUBLAS_V2_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cublasStatus_t {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_ALLOC_FAILED = 3,
    CUBLAS_STATUS_INVALID_VALUE = 7
} cublasStatus_t;

typedef enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T } cublasOperation_t;
typedef enum cudaDataType { CUDA_R_32F, CUDA_R_16BF } cudaDataType;
typedef enum cublasComputeType_t {
    CUBLAS_COMPUTE_32F,
    CUBLAS_COMPUTE_32F_FAST_TF32
} cublasComputeType_t;
typedef enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT } cublasGemmAlgo_t;
typedef struct emulated_blas *cublasHandle_t;

const char *cublasGetStatusName(cublasStatus_t status);
cublasStatus_t cublasCreate(cublasHandle_t *handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes);

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t first,
                            cublasOperation_t second, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType type_a, int line_a, const void *b,
                            cudaDataType type_b, int line_b, const void *beta, void *c,
                            cudaDataType type_c, int line_c, cublasComputeType_t precision,
                            cublasGemmAlgo_t algorithm);
cublasStatus_t
cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t first, cublasOperation_t second,
                           int m, int n, int k, const void *alpha, const void *a,
                           cudaDataType type_a, int line_a, long long step_a, const void *b,
                           cudaDataType type_b, int line_b, long long step_b, const void *beta,
                           void *c, cudaDataType type_c, int line_c, long long step_c, int batch,
                           cublasComputeType_t precision, cublasGemmAlgo_t algorithm);

#ifdef __cplusplus
}
#endif
#endif
