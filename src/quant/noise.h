/* Noise on codebooks while codes are searched, less of it from round to round, so that a fit leaves
 * local optima (LSQ++, Martinez et al., ECCV 2018; METHOD, "Beyond the published rounds").
 */
#ifndef AQ_QUANT_NOISE_H
#define AQ_QUANT_NOISE_H

#include "tensor/ops.h"

/* How many of `rounds` rounds are noisy: the first four fifths. */
int aq_noise_rounds(int rounds);

/* The share of a round, counted from 1: falls from `share` to 0 over the noisy ones, as a square
 * root. */
double aq_noise_share(double share, int round, int rounds);

/* Adds normal noise to codebooks [M, K, o, g], of `share` times the deviation of a codebook's
 * entries in each dimension. *kept: what they were, for aq_noise_remove. Waits. */
aq_status aq_noise_add(double share, uint64_t seed, aq_tensor *codebooks, float **kept);

/* Puts them back and frees `kept`. */
aq_status aq_noise_remove(float *kept, aq_tensor *codebooks);

#endif
