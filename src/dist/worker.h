/* The loop of a rank's main thread: the lead of a team asks for blocks and passes them on, all
 * members quantize them together.
 */
#ifndef AQ_DIST_WORKER_H
#define AQ_DIST_WORKER_H

#include "dist/comm.h"
#include "dist/relay.h"
#include "dist/teams.h"

/* Seconds of a rank from its first asking on. */
typedef struct aq_rank_seconds {
    double forwarding; /* getting a block's inputs, and the block's dense outputs */
    double waiting;    /* for a block, or for the others at the end */
    double quantizing; /* the rest of a block */
} aq_rank_seconds;

typedef struct aq_worker {
    aq_session *session;     /* borrowed, as all below */
    aq_comm *comm;           /* started */
    const aq_teams *teams;   /* whose part this rank is */
    aq_relay *relay;         /* NULL: nothing is handed over */
    aq_handover handover;    /* the session's */
    aq_rank_seconds seconds; /* so far */
    double changed;          /* when the rank went over to what it does now */
} aq_worker;

/* The caller has filled the part that is borrowed. Works until the coordinator says that there is
 * nothing more to do; a block that fails is his to judge. */
void aq_worker_run(aq_worker *worker);

/* From `worker->changed` on this rank waited. */
void aq_worker_waited(aq_worker *worker);

#endif
