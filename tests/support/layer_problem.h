/* Layer problems for the suites of src/quant: a random weight and the Gram matrix of inputs whose
 * neighbouring columns are correlated.
 */
#ifndef AQ_TESTS_LAYER_PROBLEM_H
#define AQ_TESTS_LAYER_PROBLEM_H

#include "quant/coded_weight.h"

typedef struct aq_test_layer {
    aq_tensor weight, gram; /* [out, in], [in, in] in the suite's backend */
} aq_test_layer;

/* `samples` inputs: fewer than `in` make the Gram matrix singular. */
aq_test_layer aq_test_layer_new(size_t out, size_t in, size_t samples, uint64_t seed);
void aq_test_layer_free(aq_test_layer *layer);

/* tr(D H D') of every row group in naive double loops (malloc'd, `rows` entries), D = Q - W. */
double *aq_test_row_losses(const aq_test_layer *layer, const aq_coded *coded);

/* The sum of the above. */
double aq_test_loss(const aq_test_layer *layer, const aq_coded *coded);

/* Decoded by the formula on the host (malloc'd). */
float *aq_test_decode(const aq_coded *coded);

bool aq_test_same_bits(const aq_tensor *a, const aq_tensor *b);

#endif
