/* Heartbeats: who was heard of when, and whose main thread moves.
 *
 * Times are passed in. If the watcher's own turns have a gap, it was suspended itself, and with it
 * maybe everybody: then all that was counted up counts anew.
 */
#ifndef AQ_DIST_HEARTBEATS_H
#define AQ_DIST_HEARTBEATS_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct aq_heartbeats_settings {
    int ranks;
    double silence; /* seconds without any beat after which a rank is lost */
    double hang;    /* seconds without a change of its pulse */
} aq_heartbeats_settings;

typedef struct aq_heartbeat {
    double heard, moved; /* when, last */
    uint64_t pulse;
} aq_heartbeat;

typedef struct aq_heartbeats {
    aq_heartbeats_settings settings;
    aq_heartbeat *list; /* [ranks], owned */
    double turned;
} aq_heartbeats;

/* Everybody counts as heard `now`. */
aq_status aq_heartbeats_new(const aq_heartbeats_settings *settings, double now,
                            aq_heartbeats *heartbeats);
void aq_heartbeats_free(aq_heartbeats *heartbeats);

void aq_heartbeats_hear(aq_heartbeats *heartbeats, int rank, uint64_t pulse, double now);

/* To be called all the time. True if a rank is lost. */
typedef struct aq_loss {
    int rank;
    bool silent;    /* not heard; else its main thread hangs */
    double seconds; /* for how long */
} aq_loss;
bool aq_heartbeats_turn(aq_heartbeats *heartbeats, double now, aq_loss *loss);

#endif
