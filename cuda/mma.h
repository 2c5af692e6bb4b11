/* Tensor cores: one warp's product of small tiles, and packed numbers to go with it. CUDA C++ only.
 *
 * d = a b + c with a [16, k], b [k, 8], c and d [16, 8]. Every lane holds a piece of each; with
 * row = lane / 4 and pair = lane % 4 (PTX ISA, "Matrix fragments for mma"):
 *     c[0], c[1]: row `row`, columns 2 pair, 2 pair + 1;  c[2], c[3]: the same of row + 8
 *     16 bits, k = 8:   a[0], a[1]: rows row, row + 8 at k = 2 pair, 2 pair + 1 (lower half first);
 *                       b[0]: column `row` at these k
 *     16 bits, k = 16:  the same, then a[2], a[3] and b[1] at k + 8
 *     TF32, k = 8:      a[0], a[1]: rows row, row + 8 at k = pair; a[2], a[3] at k = pair + 4;
 *                       b[0], b[1]: column `row` at k = pair, pair + 4
 * With sums in float16 c[0] holds what is c[0], c[1] above, and c[1] the rest. All lanes of the
 * warp take part. Products are exact, sums those of the hardware: the same bits for the same call.
 */
#ifndef AQ_CUDA_MMA_H
#define AQ_CUDA_MMA_H

#include "launch.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

/* ---- numbers in words ---- */

#ifdef __CUDACC__

/* Two float16, `low` in the lower half; rounded to nearest even, infinity past 65,504. */
static __device__ inline uint32_t cuda_pack_halves(float low, float high) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

static __device__ inline uint32_t cuda_pack_bfloats(float low, float high) {
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

/* The nearest TF32, ties away from zero. */
static __device__ inline uint32_t cuda_to_tf32(float value) {
    uint32_t word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(value));
    return word;
}

static __device__ inline float cuda_low_half(uint32_t halves) {
    float value;
    asm("{.reg .f16 low, high;\n mov.b32 {low, high}, %1;\n cvt.f32.f16 %0, low;}"
        : "=f"(value)
        : "r"(halves));
    return value;
}

/* The larger of each pair of float16; a number rather than NaN. */
static __device__ inline uint32_t cuda_max_halves(uint32_t a, uint32_t b) {
    uint32_t larger;
    asm("max.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
}

/* 0xffff in each half where a's float16 is greater than b's. */
static __device__ inline uint32_t cuda_halves_above(uint32_t a, uint32_t b) {
    uint32_t mask;
    asm("set.gt.u32.f16x2 %0, %1, %2;" : "=r"(mask) : "r"(a), "r"(b));
    return mask;
}

static __device__ inline int cuda_min_of_three(int a, int b, int c) {
    return __vimin3_s32(a, b, c);
}

/* 2 to the power of `value`, two last bits apart; 0 below the smallest normal number. */
static __device__ inline float cuda_exp2(float value) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(value));
    return power;
}

/* ---- products ---- */

static __device__ inline void cuda_mma(float (&d)[4], const uint32_t (&a)[2],
                                       const uint32_t (&b)[1], const float (&c)[4]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%7,%8,%9,%10};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

static __device__ inline void cuda_mma(float (&d)[4], const uint32_t (&a)[4],
                                       const uint32_t (&b)[2], const float (&c)[4]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
}

static __device__ inline void cuda_mma(uint32_t (&d)[2], const uint32_t (&a)[2],
                                       const uint32_t (&b)[1], const uint32_t (&c)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3}, {%4}, {%5,%6};"
        : "=r"(d[0]), "=r"(d[1])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(c[0]), "r"(c[1]));
}

static __device__ inline void cuda_mma(uint32_t (&d)[2], const uint32_t (&a)[4],
                                       const uint32_t (&b)[2], const uint32_t (&c)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, "
        "{%8,%9};"
        : "=r"(d[0]), "=r"(d[1])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]), "r"(c[1]));
}

static __device__ inline void cuda_mma_tf32(float (&d)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2], const float (&c)[4]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
}

static __device__ inline void cuda_mma_bf16(float (&d)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2], const float (&c)[4]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
}

/* ---- copies into shared memory that a thread need not wait for ---- */

/* 16 bytes, both ends aligned so. */
static __device__ inline void cuda_copy_ahead(void *shared, const void *source) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(source)
                 : "memory");
}

/* Waits for the thread's copies; those of others are there after a barrier. */
static __device__ inline void cuda_copies_wait() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

#else
#include "emulated_mma.h"
#endif
#endif
