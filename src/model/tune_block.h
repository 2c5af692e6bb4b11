/* Tunes a whole quantized block against the dense block's outputs (METHOD section 3).
 *
 * Adam on codebooks, scales, norm weights and biases; codes stay. The loss of a sequence set is its
 * error: mean squared difference from the targets over the targets' mean square (over that set).
 */
#ifndef AQ_MODEL_TUNE_BLOCK_H
#define AQ_MODEL_TUNE_BLOCK_H

#include "base/watch.h"
#include "model/coded_block.h"
#include "model/comparison.h"
#include "tensor/team.h"

typedef struct aq_tune_settings {
    int epochs;           /* at most; 0: no tuning */
    int batch;            /* sequences an optimizer step: 32 */
    int patience;         /* stop after so many epochs without improvement: 3 */
    double learning_rate; /* betas 0.9 and 0.95 */
    size_t training; /* the first so many sequences train, the rest are held out (0 held out: the
                        training error decides) */
    uint64_t seed;   /* of this block: order of the sequences */
    const aq_watch *watch; /* borrowed or NULL */
} aq_tune_settings;

typedef struct aq_tune_report {
    int epochs, best_epoch; /* done; kept (0: the start) */
    double start_error, best_error;
    int retries; /* restarts with a lower rate after a loss that was not finite */
    double seconds;
} aq_tune_report;

/* Changes `coded` in place to the best epoch's values. `block` is the dense form's storage
 * (overwritten, holds the decoded result afterwards). Collective over `team`. A loss that is not
 * finite restores the best values and goes on with a tenth of the rate, at most 3 times, saying so
 * in the log; then NUMERIC. */
aq_status aq_tune_block(aq_coded_block *coded, aq_block *block, const aq_activations *inputs,
                        const aq_activations *targets, const aq_tune_settings *settings,
                        const aq_team *team, aq_tune_report *report);

#endif
