/* 16-bit floating-point values as bits: float16 (IEEE binary16) and bfloat16.
 *
 * Integer arithmetic only, because the compilers that build this program do not all have _Float16.
 * Rounding is to nearest, ties to even; NaN stays NaN; values past float16's range become infinity
 * (whoever must not write one checks with aq_half_fits).
 */
#ifndef AQ_BASE_HALF_H
#define AQ_BASE_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t aq_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float aq_float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float aq_bfloat_to_float(uint16_t bits) {
    return aq_float_from_bits((uint32_t)bits << 16);
}

static inline uint16_t aq_bfloat_from_float(float value) {
    uint32_t bits = aq_float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float aq_half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
    if (exponent == 0x1f) return aq_float_from_bits(sign | 0x7f800000u | (fraction << 13));
    if (exponent) return aq_float_from_bits(sign | ((exponent + 112) << 23) | (fraction << 13));
    float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

static inline uint16_t aq_half_from_float(float value) {
    uint32_t bits = aq_float_bits(value);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above */
    if (magnitude >= 0x38800000u) {                                  /* normal: 2^-14 and above */
        uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
        return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
    }
    /* Adding 0.5 leaves the subnormal's 2^-24 steps in the lowest bits, rounded to even. */
    float shifted = aq_float_from_bits(magnitude) + 0.5f;
    return (uint16_t)(sign | (aq_float_bits(shifted) - 0x3f000000u));
}

/* True if `value` is finite and stays finite as float16. */
static inline bool aq_half_fits(float value) {
    return (aq_float_bits(value) & 0x7fffffffu) < 0x477ff000u;
}

#endif
