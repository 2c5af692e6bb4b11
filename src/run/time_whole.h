/* What a whole block costs, as it is: a made-up one is quantized as a job would, nothing scaled.
 *
 * Activations lie in the backend's memory where there is room beside what the stages take, both or
 * only the inputs, otherwise in host memory. Nothing is written.
 */
#ifndef AQ_RUN_TIME_WHOLE_H
#define AQ_RUN_TIME_WHOLE_H

#include "run/lanes.h"
#include "run/progress.h"
#include "run/time_block.h"

typedef struct aq_whole_subject {
    aq_block_subject block; /* a dense one; `repeats` do not count */
    double learning_rate;   /* of tuning, which does all its epochs */
    size_t stage_bytes;     /* of the backend's memory, without activations (run/needs.h) */
    const aq_lanes *lanes;  /* borrowed, or NULL */
    aq_progress *progress;  /* borrowed, or NULL */
} aq_whole_subject;

typedef struct aq_whole_cost {
    aq_block_cost block; /* Gram matrices count as forward passes; times of layers are 0 */
    double layer_errors[AQ_LINEAR_COUNT];
    double fitted_error, error; /* of the block, before and after tuning */
    double seconds;             /* from start to end */
    double setup_seconds;       /* for making up the problem, besides */
    size_t activation_bytes;    /* at each of the two boundaries */
    bool inputs_resident, targets_resident;
} aq_whole_cost;

/* *cost overwritten. INVALID, naming the layer's shape, if the scheme does not fit, and for blocks
 * with experts; MEMORY, DEVICE, NUMERIC, STOPPED. */
aq_status aq_time_whole(aq_backend *backend, const aq_whole_subject *subject, aq_whole_cost *cost);

#endif
