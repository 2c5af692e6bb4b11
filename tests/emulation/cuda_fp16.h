/* Stands in for CUDA's header of the same name. */
#ifndef AQ_TESTS_EMULATION_CUDA_FP16_H
#define AQ_TESTS_EMULATION_CUDA_FP16_H

#include "base/half.h"
#include "round_to_odd.h"

struct __half {
    uint16_t bits;
};

static inline float __half2float(__half value) {
    return aq_half_to_float(value.bits);
}

static inline __half __double2half(double value) {
    return {aq_half_from_float(emulated_round_to_odd(value))};
}

#endif
