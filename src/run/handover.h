/* Handing activations over between teams, as run/ sees it: dist/relay implements it.
 *
 * Boundary b is what block b reads: the dense outputs of block b - 1. Whoever has forwarded block
 * b - 1 offers boundary b; whoever is to forward block b fetches it, unless it lies with him
 * already. So every block is forwarded once in the whole job. Member i of a team hands over to
 * member i of the other.
 */
#ifndef AQ_RUN_HANDOVER_H
#define AQ_RUN_HANDOVER_H

#include "model/segment.h"

/* Where the first activations of a task come from. */
typedef enum aq_task_source {
    AQ_SOURCE_EMBEDDINGS, /* boundary 0: the tokens' embeddings */
    AQ_SOURCE_SNAPSHOT,   /* a file of the run directory */
    AQ_SOURCE_TEAM        /* task.team holds it; which may be the one that gets the task */
} aq_task_source;

/* Block `block` is to be quantized: boundary `start` (<= block) is had from `source`, the finished
 * blocks start .. block - 1 are forwarded, then the block itself. */
typedef struct aq_task {
    size_t block, start;
    aq_task_source source;
    int team; /* of AQ_SOURCE_TEAM */
} aq_task;

/* All but `forwarded` concern this rank's sequences of a boundary. Called by the main thread. */
typedef struct aq_handover {
    void *state;
    int team; /* this rank's */

    /* The segment (borrowed until withdrawn) holds boundary `boundary` from now on, for whoever
     * asks. One offer at a time. */
    aq_status (*offer)(void *state, size_t boundary, const aq_segment *segment);

    /* Ends the offer, if there is one, after a transfer that is on its way. */
    aq_status (*withdraw)(void *state);

    /* Gets the boundary where the task starts, `bytes` of it, from the same member of its team:
     * mapped where both are on one node (then *segment is `shared`), else copied; into *spare's
     * memory if that is of this size (then *spare is empty afterwards). *segment is overwritten,
     * and empty after a failure. MISSING if that rank does not hold the boundary (any more). */
    aq_status (*fetch)(void *state, const aq_task *task, size_t bytes, aq_segment *spare,
                       aq_segment *segment);

    /* The dense outputs of `block` are complete, and offered: the coordinator may hand out the next
     * one. */
    aq_status (*forwarded)(void *state, size_t block);
} aq_handover;

#endif
