/* Fits the linears of one block, each against the Gram matrix of what it reads.
 *
 * Without lanes one after the other, and no more Gram matrices are held than needed. With lanes
 * (run/lanes.h) all Gram matrices are made first, then several linears are fitted at a time, to the
 * same bits. Files and events are the calling thread's, in the linears' order, either way.
 */
#ifndef AQ_RUN_FIT_LINEARS_H
#define AQ_RUN_FIT_LINEARS_H

#include "quant/gram.h"
#include "run/quantize_block.h"

/* All borrowed. */
typedef struct aq_linear_fits {
    const aq_block_work *work;
    const aq_quantize_settings *settings;
    const aq_team *team;
    const bool *taken_up;       /* [AQ_LINEAR_COUNT]: fitted already, in `coded` */
    double share;               /* of the block's time, for the progress line */
    aq_gram_sum *grams;         /* [AQ_TAP_COUNT]; those that are needed are freed here */
    aq_coded_block *coded;      /* gets the linears, rounded, and their errors */
    aq_quantize_report *report; /* seconds are added */
} aq_linear_fits;

/* Collective over the team. The errors of aq_fit_layer, naming the linear. */
aq_status aq_fit_linears(const aq_linear_fits *fits);

/* Whether a linear that reads this input is still to be fitted. */
bool aq_tap_is_needed(const aq_model_shape *shape, const bool *taken_up, aq_tap tap);

/* The seed of a layer of a block; layers count from 0, and the block's tuning draws as the layer
 * past the last. */
uint64_t aq_layer_seed(const aq_quantize_settings *settings, size_t block, int layer);

#endif
