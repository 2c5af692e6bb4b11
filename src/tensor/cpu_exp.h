/* exp for loops: without a call, so that compilers make vectors of it.
 */
#ifndef AQ_TENSOR_CPU_EXP_H
#define AQ_TENSOR_CPU_EXP_H

#include "base/half.h"

/* condition ? a : b by bits: where both sides are constants behind a comparison, gcc makes a branch
 * of ?: and then no vectors. */
static inline float cpu_choose(int condition, float a, float b) {
    uint32_t mask = (uint32_t)-condition;
    return aq_float_from_bits((aq_float_bits(a) & mask) | (aq_float_bits(b) & ~mask));
}

/* e^x within 2 units in the last place for x in -87 .. 88; beyond, the value at the border (so an
 * underflow gives 1.6e-38, not 0). NaN stays NaN.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, the first short enough that n times it is
 * exact), e^r by its Taylor polynomial of degree 7, 2^n by its bits. Adding and taking away 1.5 *
 * 2^23 rounds to an integer, which then stands in the sum's lowest bits. */
static inline float cpu_exp(float x) {
    const float shift = 12582912.0f;
    x = cpu_choose(x < -87.0f, -87.0f, x);
    x = cpu_choose(x > 88.0f, 88.0f, x);
    float shifted = x * 1.44269504f + shift, n = shifted - shift;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * aq_float_from_bits((aq_float_bits(shifted) + 127u) << 23);
}

#endif
