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
#include "model/parameters.h"
#include "tensor/team.h"

/* Where tuning stands after an epoch, besides its parameters: what it needs to go on as if it had
 * never stopped. */
typedef struct aq_tune_state {
    int epochs, best_epoch, retries;
    int step;             /* of Adam, since its moments were zero */
    double learning_rate; /* now */
    double start_error, best_error;
    double target_square; /* mean square of all training targets */
} aq_tune_state;

/* Who keeps the state over the end of the process; run/ provides one. */
typedef struct aq_tune_keeper aq_tune_keeper;

struct aq_tune_keeper {
    /* *found: values, best values and moments of `parameters` and *state are those that were saved
     * last; otherwise all are as they were. Collective over the team. */
    aq_status (*load)(const aq_tune_keeper *, aq_parameters *parameters, aq_tune_state *state,
                      bool *found);
    /* Takes a copy and may keep it later, beside the work; it is not called again before it was
     * settled. */
    aq_status (*save)(const aq_tune_keeper *, const aq_parameters *parameters,
                      const aq_tune_state *state);
    /* Waits until what was saved is kept, or tells why it is not. */
    aq_status (*settle)(const aq_tune_keeper *);
    void *state;
};

typedef struct aq_tune_settings {
    int epochs;           /* at most; 0: no tuning */
    int batch;            /* sequences an optimizer step: 32; best a multiple of the team's size */
    int patience;         /* stop after so many epochs without improvement: 3 */
    double learning_rate; /* betas 0.9 and 0.95 */
    aq_precision precision; /* of all passes: of gradients and of the errors that decide */
    size_t training; /* of all members' sequences the first so many train, the rest are held out
                        (0 held out: the training error decides) */
    uint64_t seed;   /* of this block: order of the sequences */
    const aq_watch *watch;        /* borrowed or NULL */
    const aq_tune_keeper *keeper; /* borrowed or NULL: nothing is kept */
} aq_tune_settings;

typedef struct aq_tune_report {
    int epochs, best_epoch; /* done; kept (0: the start) */
    int taken_up;           /* of the epochs: done before this call, by the keeper's word */
    double start_error, best_error;
    int retries; /* restarts with a lower rate after a loss that was not finite */
    double seconds;
} aq_tune_report;

/* Changes `coded` in place to the best epoch's values. `block` is the dense form's storage
 * (overwritten, holds the decoded result afterwards; its own precision stays). Collective over
 * `team`: members bring the same `coded` and the activations of their own sequences, and get the
 * same result. With a keeper, tuning goes on behind the last epoch that was saved, to the same
 * bits; epochs are told when they are kept, and when tuning ends or is stopped its last epoch is. A
 * loss that is not finite restores the best values and goes on with a tenth of the rate, at most 3
 * times, saying so in the log; then NUMERIC. */
aq_status aq_tune_block(aq_coded_block *coded, aq_block *block, const aq_activations *inputs,
                        const aq_activations *targets, const aq_tune_settings *settings,
                        const aq_team *team, aq_tune_report *report);

#endif
