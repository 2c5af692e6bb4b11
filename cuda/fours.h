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

/* *operand: x's numbers in bfloat16, a copy in `room` if they are float32. */
static inline aq_status cuda_half_operand(const cuda_state *state, const aq_tensor *x,
                                          cuda_scratch *room, const uint16_t **operand) {
    uint16_t *rounded;
    *operand = static_cast<const uint16_t *>(x->data);
    if (x->dtype == AQ_BF16) return AQ_OK;
    AQ_TRY(room->take(aq_tensor_count(x), &rounded));
    *operand = rounded;
    return cuda_round_all(state, cuda_floats(x), aq_tensor_count(x), rounded);
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

static __device__ inline void cuda_load(float (&numbers)[1], const __nv_bfloat16 *from) {
    numbers[0] = __bfloat162float(*from);
}

/* Four bfloat16, the lower of each pair in the lower half. */
struct alignas(8) cuda_four_halves {
    uint32_t low, high;
};

static __device__ inline void cuda_load(float (&numbers)[4], const __nv_bfloat16 *from) {
    const cuda_four_halves four = *reinterpret_cast<const cuda_four_halves *>(from);
    numbers[0] = __uint_as_float(four.low << 16);
    numbers[1] = __uint_as_float(four.low & 0xffff0000u);
    numbers[2] = __uint_as_float(four.high << 16);
    numbers[3] = __uint_as_float(four.high & 0xffff0000u);
}

template <class Number>
static __device__ inline void cuda_save(const float (&numbers)[1], Number *to) {
    cuda_store(numbers[0], to);
}

static __device__ inline void cuda_save(const float (&numbers)[4], float *to) {
    *reinterpret_cast<float4 *>(to) = {numbers[0], numbers[1], numbers[2], numbers[3]};
}

static __device__ inline void cuda_save(const float (&numbers)[4], __nv_bfloat16 *to) {
    *reinterpret_cast<cuda_four_halves *>(to) = {cuda_pack_bfloats(numbers[0], numbers[1]),
                                                 cuda_pack_bfloats(numbers[2], numbers[3])};
}

#endif
