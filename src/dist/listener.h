/* The listener: a thread of every rank that carries the request to stop between ranks.
 *
 * A signal may reach one rank alone: its listener tells the coordinator, and the coordinator all
 * listeners (base/stop.h). It polls and sleeps until the coordinator ends the run.
 */
#ifndef AQ_DIST_LISTENER_H
#define AQ_DIST_LISTENER_H

#include "base/status.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct aq_listener {
    pthread_t thread;
    bool started;
} aq_listener;

aq_status aq_listener_start(aq_listener *listener);

/* Waits until the coordinator has ended the run. Every rank calls it, also after its own start has
 * failed: the coordinator waits for all. */
void aq_listener_join(aq_listener *listener);

#endif
