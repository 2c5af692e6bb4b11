/* Random numbers as a function of (seed, stream, index).
 *
 * No generator carries state: a draw does not depend on what was drawn before, by whom, or in which
 * order, so results do not depend on threads, ranks or an interruption. The mixing function is the
 * finalizer of SplitMix64 (Steele, Lea, Flood 2014), applied once for each argument. The functions
 * are inline because kernels draw too.
 */
#ifndef AQ_BASE_RANDOM_H
#define AQ_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define AQ_HOST_DEVICE __host__ __device__
#else
#define AQ_HOST_DEVICE
#endif

/* Who draws: one stream a purpose, so that no two purposes share numbers. */
typedef enum aq_stream {
    AQ_STREAM_JOB = 1,        /* seeds of blocks and layers from the job's seed */
    AQ_STREAM_KMEANS_START,   /* first entries of k-means */
    AQ_STREAM_KMEANS_EMPTY,   /* points that replace empty clusters */
    AQ_STREAM_GROUP_ORDER,    /* order of column groups in a code pass */
    AQ_STREAM_CODEBOOK_ORDER, /* order of codebooks inside a group */
    AQ_STREAM_BATCHES,        /* order of sequences in block tuning */
    AQ_STREAM_TEST,           /* data of tests and benchmarks */
    AQ_STREAM_NOISE           /* noise on codebooks */
} aq_stream;

static inline AQ_HOST_DEVICE uint64_t aq_mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* 64 uniform bits. */
static inline AQ_HOST_DEVICE uint64_t aq_random(uint64_t seed, uint64_t stream, uint64_t index) {
    return aq_mix(aq_mix(aq_mix(seed) ^ stream) ^ index);
}

/* A number in [0, bound), bound > 0. Its bias is below bound / 2^64. */
static inline AQ_HOST_DEVICE uint64_t aq_random_below(uint64_t bits, uint64_t bound) {
    return bits % bound;
}

/* A permutation of 0 .. count-1 into `order` (borrowed, count entries): Fisher-Yates, that is
 * places left - 1 and aq_random_pick(left) change their entries for left = count down to 2. */
void aq_random_order(uint64_t seed, uint64_t stream, uint32_t count, uint32_t *order);

static inline AQ_HOST_DEVICE uint32_t aq_random_pick(uint64_t seed, uint64_t stream,
                                                     uint32_t left) {
    return (uint32_t)aq_random_below(aq_random(seed, stream, left), left);
}

/* The changes from left = `left` on only. */
void aq_random_shuffle(uint64_t seed, uint64_t stream, uint32_t left, uint32_t *order);

/* A standard normal number (Box-Muller on two draws), for tests and benchmarks. */
double aq_random_normal(uint64_t seed, uint64_t stream, uint64_t index);

#endif
