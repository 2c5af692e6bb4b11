/* Vectors in two bfloat16 parts each, laid out for tensor cores. CUDA C++ only.
 *
 * x = x1 + x2 to 2^-17 |x|. With a = (x1, x2) one product with (y1, y1) and one with (y2, y2) give
 * x.y to 2^-16 |x| |y|. Eight elements at a time ("eights"), entries in tiles of eight.
 */
#ifndef AQ_CUDA_SPLIT_TILES_H
#define AQ_CUDA_SPLIT_TILES_H

#include "mma.h"

constexpr unsigned split_widest = 16;     /* elements of a vector */
constexpr unsigned split_tile_words = 64; /* of 8 entries' 8 elements: first parts, then second */

static inline unsigned split_eights(unsigned width) {
    return width <= 8 ? 1 : 2;
}

static __device__ inline float split_first(float value) {
    return __uint_as_float(cuda_pack_bfloats(value, 0) << 16);
}

/* Elements i and i + 1 of a vector, zeros past its width. */
struct split_two {
    float low, high;

    __device__ split_two(const float *vector, unsigned width, unsigned i)
        : low(i < width ? vector[i] : 0), high(i + 1 < width ? vector[i + 1] : 0) {
    }

    __device__ uint32_t first_parts() const {
        return cuda_pack_bfloats(low, high);
    }

    __device__ uint32_t second_parts() const {
        return cuda_pack_bfloats(low - split_first(low), high - split_first(high));
    }
};

/* Word i of the first parts of entries' tiles, and of the second parts. Word `lane` of a tile has
 * elements 2 pair, 2 pair + 1 of entry lane / 4, pair = lane % 4: a lane's own piece of b. */
static __device__ inline void split_store(const float *entries, size_t count, unsigned width,
                                          unsigned eights, size_t i, uint32_t *table) {
    size_t tile = i / 32, entry = tile / eights * 8 + i % 32 / 4;
    unsigned element = (unsigned)(tile % eights * 8 + i % 4 * 2);
    split_two two(entries + entry * width, entry < count ? width : 0, element);
    uint32_t *words = table + tile * split_tile_words + i % 32;
    words[0] = two.first_parts();
    words[32] = two.second_parts();
}

/* d += a b for `together` tiles of points whose products do not wait for each other: the scores of
 * 8 entries, whose first and second parts are given, begun from `start`. */
template <unsigned Together, unsigned Eights>
static __device__ inline void split_products(const uint32_t (*points)[Eights][4],
                                             const uint32_t (&first)[Eights],
                                             const uint32_t (&second)[Eights],
                                             const float (&start)[4], float (&score)[Together][4]) {
    for (unsigned eight = 0; eight < Eights; eight++) {
        const uint32_t b1[2] = {first[eight], first[eight]};
        const uint32_t b2[2] = {second[eight], second[eight]};
#pragma unroll
        for (unsigned p = 0; p < Together; p++)
            if (eight == 0)
                cuda_mma_bf16(score[p], points[p][eight], b1, start);
            else
                cuda_mma_bf16(score[p], points[p][eight], b1, score[p]);
#pragma unroll
        for (unsigned p = 0; p < Together; p++)
            cuda_mma_bf16(score[p], points[p][eight], b2, score[p]);
    }
}

#endif
