/* From float64 to 16 bits with one rounding, by way of float32. */
#ifndef AQ_TESTS_EMULATION_ROUND_TO_ODD_H
#define AQ_TESTS_EMULATION_ROUND_TO_ODD_H

#include "base/half.h"

#include <cmath>

/* The float32 towards zero, its last bit set if that lost anything: half-way cases between shorter
 * numbers stay half-way only if they were. */
static inline float emulated_round_to_odd(double value) {
    float rounded = (float)value;
    if (!std::isfinite(rounded) || (double)rounded == value) return rounded;
    uint32_t bits = aq_float_bits(rounded);
    if (std::fabs((double)rounded) > std::fabs(value)) bits--;
    return aq_float_from_bits(bits | 1u);
}

#endif
