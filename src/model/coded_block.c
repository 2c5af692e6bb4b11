#include "model/coded_block.h"

void aq_coded_block_free(aq_coded_block *block) {
    for (int n = 0; n < AQ_NORM_COUNT; n++) aq_tensor_free(&block->norms[n]);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        aq_coded_free(&block->linears[l]);
        aq_tensor_free(&block->biases[l]);
    }
}

aq_status aq_coded_block_round(aq_coded_block *block) {
    char name[AQ_NAME_SIZE];
    for (int n = 0; n < AQ_NORM_COUNT; n++) {
        aq_norm_name(block->index, n, name);
        AQ_TRY(aq_round_to_half(&block->norms[n], name));
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        aq_linear_name(block->shape, block->index, l, "", name);
        aq_status status = aq_coded_round(&block->linears[l]);
        if (status != AQ_OK) return aq_error_at(status, "%s", name);
        if (!block->biases[l].data) continue;
        aq_linear_name(block->shape, block->index, l, ".bias", name);
        AQ_TRY(aq_round_to_half(&block->biases[l], name));
    }
    return AQ_OK;
}

aq_status aq_coded_block_decode(const aq_coded_block *coded, aq_block *block) {
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        AQ_TRY(aq_tensor_copy(&coded->norms[n], &block->norms[n]));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        AQ_TRY(aq_decode(&coded->linears[l], &block->weights[l]));
        if (coded->biases[l].data) AQ_TRY(aq_tensor_copy(&coded->biases[l], &block->biases[l]));
    }
    return AQ_OK;
}

double aq_coded_block_bits(const aq_coded_block *block) {
    double bits = 0, weights = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &block->shape->linears[l];
        double count = (double)linear->out * (double)linear->in;
        bits += count * aq_scheme_bits(&block->linears[l].scheme, linear->out, linear->in);
        weights += count;
    }
    return bits / weights;
}
