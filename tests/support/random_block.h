/* A small random transformer block without files, for tests of forward, backward and tuning.
 */
#ifndef AQ_TESTS_RANDOM_BLOCK_H
#define AQ_TESTS_RANDOM_BLOCK_H

#include "model/coded_block.h"

enum { AQ_TEST_LENGTH = 6 }; /* tokens a sequence */

/* Hidden 16, ffn 24, 4 heads of 8 that share 2 key heads, biases on q, k, v. Static. */
const aq_model_shape *aq_test_shape(void);

/* Normal weights of a trained block's size, norms around 1, on `backend`, AQ_PRECISE. */
aq_block aq_test_block(aq_backend *backend, uint64_t seed);

/* The block with every linear coded coarsely: scales are row norms, the codebook is the first
 * 16 vectors of the scaled weight, codes the nearest entries (1x4, groups of 4). */
aq_coded_block aq_test_coded_block(const aq_block *block);

#endif
