/* The coordinator: keeps the schedule, answers teams, spreads a request to stop, and watches that
 * everybody lives.
 *
 * It neither knows MPI nor has a thread: rank 0's communication thread (dist/comm.h) hands it what
 * it hears and calls it every turn; what it says goes through `say`.
 */
#ifndef AQ_DIST_COORDINATOR_H
#define AQ_DIST_COORDINATOR_H

#include "dist/heartbeats.h"
#include "dist/messages.h"
#include "run/progress.h"
#include "run/schedule.h"

typedef struct aq_coordinator_settings {
    aq_schedule *schedule; /* borrowed; the communication thread's until the run is over */
    aq_progress *progress; /* borrowed, or NULL: told of finished blocks */
    aq_heartbeats_settings heartbeats;
    void (*say)(void *state, int rank, const aq_message *message); /* never waits */
    void *state;
} aq_coordinator_settings;

typedef struct aq_coordinator {
    aq_coordinator_settings settings;
    aq_heartbeats heartbeats;
    bool stopping;
} aq_coordinator;

/* Times are aq_seconds(). */
aq_status aq_coordinator_new(const aq_coordinator_settings *settings, double now,
                             aq_coordinator *coordinator);
void aq_coordinator_free(aq_coordinator *coordinator);

void aq_coordinator_hear(aq_coordinator *coordinator, int rank, const aq_message *message,
                         double now);

/* True if a rank is lost, and with it the job. */
bool aq_coordinator_turn(aq_coordinator *coordinator, double now, aq_loss *loss);

#endif
