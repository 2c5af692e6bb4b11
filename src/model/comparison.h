/* Compares a block's outputs with targets: the loss of block tuning, and a block's error.
 *
 * The error of a set of sequences is the squared difference over the targets' squares, sums over
 * the whole set in float64. Sums stay with the backend until somebody reads them. Of a team each
 * member compares its own sequences (tensor/team.h: those with index % size == rank).
 */
#ifndef AQ_MODEL_COMPARISON_H
#define AQ_MODEL_COMPARISON_H

#include "model/activations.h"
#include "tensor/team.h"

typedef struct aq_comparison {
    const aq_block *block;                  /* borrowed */
    const aq_activations *inputs, *targets; /* borrowed: of this member's sequences */
    const aq_team *team;                    /* borrowed */
    size_t sequences;                       /* of all members */
    size_t micro;                           /* sequences a micro-batch holds */
    uint32_t *all;                          /* 0 .. (own sequences) - 1 */
    aq_tape tape;
    aq_tensor target, y; /* [micro * length, hidden] */
    aq_tensor sums;      /* F64 [2]: squared differences, squared targets */
} aq_comparison;

/* What the sums hold. */
typedef struct aq_difference {
    double difference, target; /* sums of squares */
} aq_difference;

/* The fields above the tape are made from the arguments; sums are zero. Collective over the team.
 * SHAPE if inputs, targets and block do not fit, or members do not hold their share of the
 * sequences. */
aq_status aq_comparison_new(const aq_block *block, const aq_activations *inputs,
                            const aq_activations *targets, const aq_team *team,
                            aq_comparison *comparison);
void aq_comparison_free(aq_comparison *comparison);

/* One micro-batch: *y (a view) holds factor * (outputs - targets) of `count` own sequences, the
 * tape holds the pass, and the sums have grown by both squares (without the factor). `next`
 * sequences behind them in the list will come in the next calls (0: not known). */
aq_status aq_comparison_batch(aq_comparison *comparison, const uint32_t *list, size_t count,
                              size_t next, float factor, aq_tensor *y);

/* The sums over the team; back to zero. Waits. */
aq_status aq_comparison_read(aq_comparison *comparison, aq_difference *sums);

/* The sums over sequences first .. first + count - 1 of all members'. Collective. Waits. STOPPED
 * (base/stop.h) between micro-batches. */
aq_status aq_comparison_measure(aq_comparison *comparison, aq_rows range, aq_difference *sums);

/* difference / target; 0 / 0 is 0. NaN if a value was not finite. */
double aq_relative_error(const aq_difference *sums);

/* Error of sequences first .. first + count - 1 of all members': sum (y - t)^2 / sum t^2, in
 * float64 sums. Collective over the team. */
aq_status aq_block_error(const aq_block *block, const aq_activations *inputs,
                         const aq_activations *targets, aq_rows range, const aq_team *team,
                         double *error);

#endif
