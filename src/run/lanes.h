/* Lanes: pieces of work that do not need each other, several at a time on one device.
 *
 * A small layer leaves most of a GPU idle and the rest waiting for the next launch. A lane is a
 * thread with a backend of its own on the same device, whose work is not ordered with the others';
 * what a piece computes does not depend on its lane. Several threads of the host's processor are
 * one lane: there is nothing to fill.
 */
#ifndef AQ_RUN_LANES_H
#define AQ_RUN_LANES_H

#include "tensor/ops.h"

enum { AQ_MAX_LANES = 8 };

typedef struct aq_lanes {
    aq_backend *main;                   /* borrowed: the calling thread's */
    aq_backend *backends[AQ_MAX_LANES]; /* owned; a lane each */
    int count;                          /* of these; 0: the calling thread does everything */
} aq_lanes;

/* `count` of 0 or 1: no lanes are made. DEVICE, MEMORY. */
aq_status aq_lanes_open(aq_backend *main, int count, aq_lanes *lanes);
void aq_lanes_close(aq_lanes *lanes);

/* The pieces have numbers from 0 on. `begin` and `end` are called by the calling thread, in the
 * order of the numbers: `begin` when all pieces before it have ended, `end` when it is done. `work`
 * is called by any lane, maybe before its `begin`, with the lane's backend; tensors of other
 * backends it may read through views (aq_tensor_seen_from). */
typedef struct aq_pieces {
    int count;
    aq_status (*begin)(void *state, int piece);
    aq_status (*work)(void *state, int piece, aq_backend *backend);
    aq_status (*end)(void *state, int piece);
    void *state;
} aq_pieces;

/* Waits for what is queued on the calling thread's backend, then for all pieces. After a failure no
 * further piece is begun, and of several failures the first piece's is told. */
aq_status aq_lanes_run(const aq_lanes *lanes, const aq_pieces *pieces);

#endif
