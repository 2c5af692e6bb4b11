/* Several numbers of a thread at a time: loads and stores of 16 bytes keep memory busier than those
 * of 4. CUDA C++ only. */
#ifndef AQ_CUDA_FOURS_H
#define AQ_CUDA_FOURS_H

#include "mma.h"

/* Whether `count` numbers a row can be taken four at a time from these places on. */
static inline bool cuda_fours_fit(size_t count, const void *a, const void *b = nullptr,
                                  const void *c = nullptr, const void *d = nullptr) {
    return count % 4 == 0 && ((size_t)a | (size_t)b | (size_t)c | (size_t)d) % 16 == 0;
}

static __device__ inline void cuda_load(float (&numbers)[1], const float *from) {
    numbers[0] = *from;
}

static __device__ inline void cuda_load(float (&numbers)[4], const float *from) {
    const float4 four = *reinterpret_cast<const float4 *>(from);
    numbers[0] = four.x;
    numbers[1] = four.y;
    numbers[2] = four.z;
    numbers[3] = four.w;
}

template <class Number>
static __device__ inline void cuda_save(const float (&numbers)[1], Number *to) {
    cuda_store(numbers[0], to);
}

static __device__ inline void cuda_save(const float (&numbers)[4], float *to) {
    *reinterpret_cast<float4 *>(to) = {numbers[0], numbers[1], numbers[2], numbers[3]};
}

static __device__ inline void cuda_save(const float (&numbers)[4], __nv_bfloat16 *to) {
    struct alignas(8) words {
        uint32_t low, high;
    };
    *reinterpret_cast<words *>(to) = {cuda_pack_bfloats(numbers[0], numbers[1]),
                                      cuda_pack_bfloats(numbers[2], numbers[3])};
}

#endif
