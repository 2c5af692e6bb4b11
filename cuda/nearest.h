/* Nearest entries for other files of the backend. CUDA C++ only. */
#ifndef AQ_CUDA_NEAREST_H
#define AQ_CUDA_NEAREST_H

#include "launch.h"

/* aq_nearest without its tensors: codes[n * books] = argmin over k of norms[k] - 2 points[n] .
 * entries[k]. points [count, width], entries [entry_count, width], norms [entry_count]; all
 * borrowed and on the device. */
struct nearest_args {
    const float *points, *entries, *norms;
    uint16_t *codes;
    size_t count, books;
    unsigned width, entry_count;
};

constexpr unsigned nearest_few = 511; /* entries at most */

/* What aq_nearest does. Scratch memory for more than nearest_few entries, unless all is precise: 32
 * bytes a point and split (one split from 2^19 points on; for fewer points 16 MB at most), and 24
 * or 40 bytes an entry. */
aq_status cuda_nearest_run(const cuda_state *state, const nearest_args &args,
                           aq_precision precision);

/* The parts for vectors of up to 16 elements on tensor cores: up to nearest_few entries
 * (cuda_nearest_few.cu), and more (cuda_nearest_many.cu). */
aq_status cuda_nearest_few(const cuda_state *state, const nearest_args &args);
aq_status cuda_nearest_many(const cuda_state *state, const nearest_args &args);

#endif
