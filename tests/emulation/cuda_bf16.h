/* Stands in for CUDA's header of the same name. */
#ifndef AQ_TESTS_EMULATION_CUDA_BF16_H
#define AQ_TESTS_EMULATION_CUDA_BF16_H

#include "base/half.h"
#include "round_to_odd.h"

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline float __bfloat162float(__nv_bfloat16 value) {
    return aq_bfloat_to_float(value.bits);
}

static inline __nv_bfloat16 __float2bfloat16(float value) {
    return {aq_bfloat_from_float(value)};
}

static inline __nv_bfloat16 __double2bfloat16(double value) {
    return {aq_bfloat_from_float(emulated_round_to_odd(value))};
}

#endif
