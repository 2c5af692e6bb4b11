/* The least score of every chunk of entries for every point. CUDA C++ only.
 *
 * Scores come from tensor cores, points and entries in two bfloat16 each: to 2^-16 |x| |e| they are
 * those of float32. Equal entries and norms have equal scores wherever they stand, so at ties the
 * first chunk is as good as the others. NaN is no score.
 */
#ifndef AQ_CUDA_SEARCH_MINIMA_H
#define AQ_CUDA_SEARCH_MINIMA_H

#include "launch.h"

constexpr unsigned minima_chunk = 256; /* entries */
constexpr unsigned minima_step = 8;    /* the number of chunks is a multiple */
constexpr unsigned minima_widest = 16;

/* minima[n * chunks + c] = the least norms[k] + points[n] . e_k over the chunk's entries k. */
struct minima_args {
    const float *points;   /* [count, width] */
    const uint32_t *table; /* of the entries: minima_table */
    const float *norms;    /* [chunks * minima_chunk] */
    float *minima;
    size_t count;
    unsigned chunks, width; /* up to minima_widest */
};

/* Words of the table of so many entries. */
size_t minima_table_words(size_t entries, unsigned width);

/* Lays out entries [count, width] for the search; count a multiple of minima_chunk. The part of
 * chunk c begins with word minima_table_words(c * minima_chunk, width). */
aq_status minima_table(const cuda_state *state, const float *entries, size_t count, unsigned width,
                       uint32_t *table);

aq_status minima_find(const cuda_state *state, const minima_args &args);

#endif
