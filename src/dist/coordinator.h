/* The coordinator: a thread of rank 0 that hands out blocks and keeps the ledger.
 *
 * It only polls and sleeps, so rank 0's main thread works like everybody else's. After a failure it
 * hands out nothing more; blocks that run may finish. A request to stop that reached one rank goes
 * to all; then too nothing more is handed out.
 */
#ifndef AQ_DIST_COORDINATOR_H
#define AQ_DIST_COORDINATOR_H

#include "run/ledger.h"
#include "run/progress.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct aq_coordinator {
    aq_ledger *ledger; /* borrowed; the thread's alone until every worker has been told to stop */
    aq_progress *progress; /* borrowed, or NULL: told of finished blocks */
    int ranks;             /* that will ask */
    bool in_order;         /* every block needs the one before it: rank 0 gets them all */
    pthread_t thread;
    bool started, stopping;
    atomic_bool over; /* the run is: time for the listeners' farewell */
} aq_coordinator;

/* The caller has filled everything above the thread. */
aq_status aq_coordinator_start(aq_coordinator *coordinator);

/* The run is over: all listeners (dist/listener.h) are told so, and have answered when this
 * returns. To be called although the start has failed. */
void aq_coordinator_join(aq_coordinator *coordinator);

#endif
