/* Quantizes one transformer block: the method of the program, from top to bottom (METHOD sections 2
 * to 4).
 *
 * The dense block runs over all calibration sequences; its outputs become the targets, and what its
 * linears read on the way becomes their Gram matrices. Every linear is fitted against its Gram
 * matrix alone, then the whole block is tuned against the targets, rounded to what files hold, and
 * measured.
 */
#ifndef AQ_RUN_QUANTIZE_BLOCK_H
#define AQ_RUN_QUANTIZE_BLOCK_H

#include "model/tune_block.h"
#include "quant/fit_layer.h"
#include "run/block_keep.h"
#include "run/lanes.h"
#include "run/metrics.h"
#include "run/phase.h"
#include "run/progress.h"

typedef struct aq_quantize_settings {
    uint64_t seed;             /* of the job: every layer's and block's seed derives from it */
    size_t validation;         /* the last so many sequences are held out of Gram sums and tuning */
    aq_fit_settings fit;       /* `seed` and `watch` are set here */
    aq_tune_settings tune;     /* `seed`, `training`, `watch` and `keeper` likewise */
    aq_metrics *metrics;       /* borrowed, or NULL */
    aq_progress *progress;     /* borrowed, or NULL */
    const aq_block_keep *keep; /* borrowed, or NULL: nothing of the block is kept on disk */
    const aq_lanes *lanes;     /* borrowed, or NULL: linears are fitted one after the other */
} aq_quantize_settings;

/* One block to quantize, all borrowed. */
typedef struct aq_block_work {
    size_t index;                        /* of the block in the model */
    aq_block *block;                     /* the dense block; holds the decoded result afterwards */
    const aq_activations *inputs;        /* what the block reads */
    aq_activations *targets;             /* overwritten with the dense block's outputs */
    aq_status (*forwarded)(void *state); /* called when they are complete; NULL: nobody waits */
    void *state;                         /* of `forwarded` */
} aq_block_work;

typedef struct aq_quantize_report {
    aq_phases seconds;
    int epochs, best_epoch;               /* of tuning: done; kept */
    int retries;                          /* of tuning: restarts after a loss that was not finite */
    int layers_taken_up, epochs_taken_up; /* done by an earlier process */
} aq_quantize_report;

/* *coded is made here, rounded and measured, and the caller's to free. Collective over `team`,
 * whose members each bring the inputs of their own sequences (tensor/team.h). The block's error is
 * that of the held-out sequences, or of all if none are held out. INVALID if the scheme fits a
 * linear not or validation leaves no sequence; NUMERIC, naming the linear, where values are not
 * finite. Writes an event a stage; the team's first member also one a layer and an epoch. With
 * settings->keep it goes on from what is kept of the block, to the same bits, and keeps every layer
 * and epoch. */
aq_status aq_quantize_block(const aq_block_work *work, const aq_quantize_settings *settings,
                            const aq_team *team, aq_coded_block *coded, aq_quantize_report *report);

#endif
