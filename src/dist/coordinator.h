/* The coordinator: a thread of rank 0 that hands out blocks and keeps the ledger.
 *
 * It only polls and sleeps, so rank 0's main thread works like everybody else's. After a failure it
 * hands out nothing more; blocks that run may finish. It ends when every rank has been told to
 * stop.
 */
#ifndef AQ_DIST_COORDINATOR_H
#define AQ_DIST_COORDINATOR_H

#include "run/ledger.h"
#include "run/progress.h"

#include <pthread.h>

typedef struct aq_coordinator {
    aq_ledger *ledger;     /* borrowed; the thread's alone between start and join */
    aq_progress *progress; /* borrowed, or NULL: told of finished blocks */
    int ranks;             /* that will ask */
    bool in_order;         /* every block needs the one before it: rank 0 gets them all */
    pthread_t thread;
} aq_coordinator;

/* The caller has filled everything but the thread. */
aq_status aq_coordinator_start(aq_coordinator *coordinator);

/* Waits for the thread's end. */
void aq_coordinator_join(aq_coordinator *coordinator);

#endif
