#include "dist/heartbeats.h"

#include <stdlib.h>

static void start_anew(aq_heartbeats *self, double now) {
    for (int rank = 0; rank < self->settings.ranks; rank++)
        self->list[rank].heard = self->list[rank].moved = now;
}

aq_status aq_heartbeats_new(const aq_heartbeats_settings *settings, double now,
                            aq_heartbeats *heartbeats) {
    *heartbeats = (aq_heartbeats){.settings = *settings, .turned = now};
    heartbeats->list = calloc((size_t)settings->ranks, sizeof *heartbeats->list);
    AQ_REQUIRE(heartbeats->list, AQ_MEMORY, "no memory for %d ranks' heartbeats", settings->ranks);
    start_anew(heartbeats, now);
    return AQ_OK;
}

void aq_heartbeats_free(aq_heartbeats *heartbeats) {
    free(heartbeats->list);
    *heartbeats = (aq_heartbeats){0};
}

void aq_heartbeats_hear(aq_heartbeats *heartbeats, int rank, uint64_t pulse, double now) {
    aq_heartbeat *beat = &heartbeats->list[rank];
    if (pulse != beat->pulse) beat->moved = now;
    beat->pulse = pulse;
    beat->heard = now;
}

bool aq_heartbeats_turn(aq_heartbeats *heartbeats, double now, aq_loss *loss) {
    const aq_heartbeats_settings *settings = &heartbeats->settings;
    if (now - heartbeats->turned > settings->silence / 3) start_anew(heartbeats, now);
    heartbeats->turned = now;
    for (int rank = 0; rank < settings->ranks; rank++) {
        const aq_heartbeat *beat = &heartbeats->list[rank];
        bool silent = now - beat->heard > settings->silence;
        *loss = (aq_loss){
            .rank = rank, .silent = silent, .seconds = now - (silent ? beat->heard : beat->moved)};
        if (silent || now - beat->moved > settings->hang) return true;
    }
    return false;
}
