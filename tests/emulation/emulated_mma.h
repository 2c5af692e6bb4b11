/* What stands in for the PTX of cuda/mma.h: lanes show each other their pieces as float32. */
#ifndef AQ_TESTS_EMULATION_EMULATED_MMA_H
#define AQ_TESTS_EMULATION_EMULATED_MMA_H

#include "base/half.h"

#include <algorithm>

static inline uint32_t cuda_pack_halves(float low, float high) {
    return aq_half_from_float(low) | (uint32_t)aq_half_from_float(high) << 16;
}

static inline uint32_t cuda_pack_bfloats(float low, float high) {
    return aq_bfloat_from_float(low) | (uint32_t)aq_bfloat_from_float(high) << 16;
}

static inline uint32_t cuda_to_tf32(float value) {
    uint32_t bits = __float_as_uint(value);
    return std::isfinite(value) ? (bits + 0x1000) & ~0x1fffu : bits;
}

static inline float cuda_low_half(uint32_t halves) {
    return aq_half_to_float((uint16_t)halves);
}

static inline uint32_t cuda_max_halves(uint32_t a, uint32_t b) {
    return cuda_pack_halves(fmaxf(cuda_low_half(a), cuda_low_half(b)),
                            fmaxf(cuda_low_half(a >> 16), cuda_low_half(b >> 16)));
}

static inline uint32_t cuda_halves_above(uint32_t a, uint32_t b) {
    return (cuda_low_half(a) > cuda_low_half(b) ? 0xffffu : 0) |
           (cuda_low_half(a >> 16) > cuda_low_half(b >> 16) ? 0xffff0000u : 0);
}

static inline int cuda_min_of_three(int a, int b, int c) {
    return std::min(a, std::min(b, c));
}

static inline float cuda_exp2(float value) {
    return exp2f(value);
}

/* A lane's pieces: its elements of rows `row` and row + 8 of a and of column `row` of b, in any
 * order of k that is the same for both. */
struct emulated_pieces {
    float a[2][4], b[4];
};

/* d [4] = the warp's a b, plus c, as cuda/mma.h places them. */
static inline void emulated_product(const emulated_pieces &mine, unsigned elements, float (&d)[4],
                                    const float (&c)[4]) {
    emulated_pieces warp[32];
    emulated_show(&mine, warp, sizeof mine);
    unsigned row = emulated_lane() / 4, pair = emulated_lane() % 4;
    for (unsigned i = 0; i < 4; i++) {
        double sum = 0;
        for (unsigned lane = 0; lane < 4; lane++)
            for (unsigned k = 0; k < elements; k++)
                sum += (double)warp[4 * row + lane].a[i / 2][k] *
                       (double)warp[4 * (2 * pair + i % 2) + lane].b[k];
        d[i] = (float)(sum + c[i]);
    }
}

template <class Word, unsigned Registers>
static inline void emulated_unpack(Word number, const uint32_t (&a)[2 * Registers],
                                   const uint32_t (&b)[Registers], emulated_pieces *pieces) {
    for (unsigned i = 0; i < 2 * Registers; i++) {
        pieces->b[i] = number((uint16_t)(b[i / 2] >> i % 2 * 16));
        for (unsigned line = 0; line < 2; line++)
            pieces->a[line][i] = number((uint16_t)(a[i / 2 * 2 + line] >> i % 2 * 16));
    }
}

template <unsigned Registers>
static inline void cuda_mma(float (&d)[4], const uint32_t (&a)[2 * Registers],
                            const uint32_t (&b)[Registers], const float (&c)[4]) {
    emulated_pieces pieces = {};
    emulated_unpack<decltype(&aq_half_to_float), Registers>(aq_half_to_float, a, b, &pieces);
    emulated_product(pieces, 2 * Registers, d, c);
}

template <unsigned Registers>
static inline void cuda_mma(uint32_t (&d)[2], const uint32_t (&a)[2 * Registers],
                            const uint32_t (&b)[Registers], const uint32_t (&c)[2]) {
    const float before[4] = {cuda_low_half(c[0]), cuda_low_half(c[0] >> 16), cuda_low_half(c[1]),
                             cuda_low_half(c[1] >> 16)};
    float sums[4];
    cuda_mma<Registers>(sums, a, b, before);
    d[0] = cuda_pack_halves(sums[0], sums[1]);
    d[1] = cuda_pack_halves(sums[2], sums[3]);
}

static inline void cuda_mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                 const float (&c)[4]) {
    emulated_pieces pieces = {};
    emulated_unpack<decltype(&aq_bfloat_to_float), 2>(aq_bfloat_to_float, a, b, &pieces);
    emulated_product(pieces, 4, d, c);
}

/* The hardware does not read the last 13 bits. */
static inline void cuda_mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                 const float (&c)[4]) {
    emulated_pieces pieces = {};
    for (unsigned i = 0; i < 2; i++) {
        pieces.b[i] = __uint_as_float(b[i] & ~0x1fffu);
        for (unsigned line = 0; line < 2; line++)
            pieces.a[line][i] = __uint_as_float(a[2 * i + line] & ~0x1fffu);
    }
    emulated_product(pieces, 2, d, c);
}

static inline void cuda_copy_ahead(void *shared, const void *source) {
    memcpy(shared, source, 16);
}

static inline void cuda_copies_wait() {
}

#endif
