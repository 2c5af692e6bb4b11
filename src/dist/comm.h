/* The communication thread that every rank has beside its main thread.
 *
 * It sends and receives all messages (dist/messages.h), carries the request to stop from and to
 * this process (base/stop.h), tells the coordinator once a second how the main thread gets on, and
 * on rank 0 drives the coordinator. Hooks let others of the main thread's errands move on meanwhile
 * (dist/relay.h). It polls, and sleeps about a millisecond a turn; it never waits inside MPI.
 *
 * Rank 1 watches rank 0, and rank 0 all. If a rank is lost, the job is: the watcher tells all, on
 * each of which `told` lets go whoever waits for the lost rank. A second later `lost` is called on
 * the watcher, and MPI ends all processes with exit status 1; whoever is still there after three
 * more ends itself.
 */
#ifndef AQ_DIST_COMM_H
#define AQ_DIST_COMM_H

#include "dist/coordinator.h"
#include "dist/ranks.h"

typedef struct aq_comm aq_comm;

typedef struct aq_comm_settings {
    const aq_ranks *ranks; /* borrowed, as all below */
    aq_schedule *schedule; /* on rank 0: nobody else's until the communication is closed */
    aq_progress *progress; /* on rank 0, or NULL */
    double silence, hang;  /* seconds (dist/heartbeats.h) */
    /* From the communication thread: this rank is lost, as the text says. */
    void (*told)(void *state, int rank, const char *text);
    /* From it, too: the error's text says who is lost. */
    void (*lost)(void *state);
    void *state;
} aq_comm_settings;

/* Collective. The thread does not run yet. */
aq_status aq_comm_open(const aq_comm_settings *settings, aq_comm **comm);

/* Before the start: `pump(state)` is called every turn. At most 4. */
void aq_comm_hook(aq_comm *comm, void (*pump)(void *state), void *state);

aq_status aq_comm_start(aq_comm *comm);

/* Collective: the run is over. Returns when every rank's thread has taken leave; to be called
 * although the start has failed. NULL: nothing. */
void aq_comm_close(aq_comm *comm);

/* For the main thread: sends a message (copied) to the coordinator; waits for its answer, which
 * comes when there is a block for this team, or nothing more to do. */
void aq_comm_say(aq_comm *comm, const aq_message *message);
void aq_comm_await(aq_comm *comm, aq_message *answer);

#endif
