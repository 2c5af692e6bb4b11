/* The relay: carries boundaries' activations from the rank that has them to the one that needs them
 * (run/handover.h), while both main threads work.
 *
 * On one node the taker maps the holder's segment, so that a boundary is held once a node. Between
 * nodes, or where mapping fails, the communication threads carry it in pieces, several on their way
 * at a time. All of the relay's MPI calls after its opening are made by aq_relay_pump. Only host
 * memory is handed to MPI.
 */
#ifndef AQ_DIST_RELAY_H
#define AQ_DIST_RELAY_H

#include "dist/ranks.h"
#include "run/handover.h"

typedef struct aq_relay aq_relay;

typedef struct aq_relay_settings {
    const aq_ranks *ranks; /* borrowed until closed */
    aq_backend *backend;   /* likewise: pins what is mapped or received */
    int team_size;         /* member i of a team fetches from member i of another */
    bool copies;           /* never map, as if every rank had its own node */
} aq_relay_settings;

/* Collective over all ranks, as is closing (*relay NULL: nothing), which may only follow when
 * nobody pumps any more and every fetch has returned. */
aq_status aq_relay_open(const aq_relay_settings *settings, aq_relay **relay);
void aq_relay_close(aq_relay *relay);

/* Moves everything on that can be moved, without waiting. One thread a rank calls it, every
 * millisecond or so, from before the first fetch of any rank until after the last. */
void aq_relay_pump(void *relay);

/* True if the environment wants copies on one node, too: AQLM_RELAY=mpi, for tests. */
bool aq_relay_environment_copies(void);

/* What aq_handover wants; `state` is the relay. Called by the main thread. One taker at a time gets
 * an offer; another one finds it missing. A request to stop ends a fetch with STOPPED as soon as
 * the pieces that are on their way have come. */
aq_status aq_relay_offer(void *state, size_t boundary, const aq_segment *segment);
aq_status aq_relay_withdraw(void *state);
aq_status aq_relay_fetch(void *state, const aq_task *task, size_t bytes, aq_segment *spare,
                         aq_segment *segment);

/* Bytes that this rank has fetched so far, mapped or copied. For the main thread. */
double aq_relay_fetched(const aq_relay *relay);

#endif
