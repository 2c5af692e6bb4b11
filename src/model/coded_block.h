/* A quantized block: coded linears, norms and biases, and what was measured on them.
 */
#ifndef AQ_MODEL_CODED_BLOCK_H
#define AQ_MODEL_CODED_BLOCK_H

#include "model/block.h"
#include "quant/coded_weight.h"

typedef struct aq_coded_block {
    const aq_model_shape *shape; /* borrowed */
    size_t index;
    aq_coded linears[AQ_LINEAR_COUNT];
    aq_tensor norms[AQ_NORM_COUNT];    /* F32 [hidden] */
    aq_tensor biases[AQ_LINEAR_COUNT]; /* F32 [out] or empty */
    double
        layer_errors[AQ_LINEAR_COUNT]; /* tr(DHD') / tr(WHW') after the fit, codebooks in float16 */
    double fitted_error;               /* of the block's outputs before tuning */
    double error;                      /* of the block's outputs, everything rounded to float16 */
} aq_coded_block;

void aq_coded_block_free(aq_coded_block *block);

/* Codebooks, scales, norms and biases to float16 values (kept as F32); NUMERIC with the tensor's
 * name. */
aq_status aq_coded_block_round(aq_coded_block *block);

/* Decodes into the dense form `block`, made by aq_block_load (weights, norms, biases overwritten).
 */
aq_status aq_coded_block_decode(const aq_coded_block *coded, aq_block *block);

/* Bits a weight of the block's linears, weighted by their number of weights. */
double aq_coded_block_bits(const aq_coded_block *block);

#endif
