#include "dist/coordinator.h"

#include "dist/messages.h"
#include "dist/polling.h"

#include <string.h>

static void hand_out(aq_coordinator *self, int rank) {
    aq_message message = {.kind = AQ_MESSAGE_STOP};
    bool may_work = !self->stopping && (!self->in_order || rank == 0);
    if (may_work && aq_ledger_next(self->ledger, rank, &message.block))
        message.kind = AQ_MESSAGE_RUN;
    aq_message_send(AQ_TO_WORKER, rank, &message);
}

static void note_done(aq_coordinator *self, int rank, const aq_message *message) {
    const aq_block_outcome *outcome = &message->outcome;
    aq_ledger_done(self->ledger, message->block, rank, outcome->error, &outcome->seconds);
    aq_progress_block_done(self->progress, message->block, outcome->error,
                           aq_phases_total(&outcome->seconds));
}

static void tell_listeners(const aq_coordinator *self, aq_message_kind kind) {
    const aq_message message = {.kind = kind};
    for (int rank = 0; rank < self->ranks; rank++) aq_message_send(AQ_TO_LISTENER, rank, &message);
}

/* Every rank that a signal reached says so; once is enough. */
static void spread_stop(aq_coordinator *self) {
    if (!self->stopping) tell_listeners(self, AQ_MESSAGE_STOP);
    self->stopping = true;
}

/* A worker that was asked to stop has not failed: its block waits again. */
static void note_failed(aq_coordinator *self, int rank, const aq_message *message) {
    if (message->code != AQ_STOPPED) {
        aq_ledger_failed(self->ledger, message->block, rank, message->code, message->text);
        return;
    }
    aq_ledger_release(self->ledger, message->block);
    spread_stop(self);
}

static void answer(aq_coordinator *self, int rank, const aq_message *message) {
    switch (message->kind) {
    case AQ_MESSAGE_ASK:
        hand_out(self, rank);
        break;
    case AQ_MESSAGE_DONE:
        note_done(self, rank, message);
        break;
    case AQ_MESSAGE_FAILED:
        note_failed(self, rank, message);
        break;
    default:
        spread_stop(self);
    }
}

static void *coordinate(void *state) {
    aq_coordinator *self = state;
    bool ending = false;
    for (int rank, listeners = self->ranks; listeners > 0;) {
        aq_message message;
        if (self->over && !ending) {
            tell_listeners(self, AQ_MESSAGE_END);
            ending = true;
        }
        if (!aq_message_poll(AQ_TO_COORDINATOR, &message, &rank))
            aq_polling_pause();
        else if (message.kind == AQ_MESSAGE_END)
            listeners--;
        else
            answer(self, rank, &message);
    }
    return NULL;
}

aq_status aq_coordinator_start(aq_coordinator *coordinator) {
    int failure = pthread_create(&coordinator->thread, NULL, coordinate, coordinator);
    coordinator->started = !failure;
    AQ_REQUIRE(!failure, AQ_MEMORY, "the coordinator's thread cannot be started: %s",
               strerror(failure));
    return AQ_OK;
}

void aq_coordinator_join(aq_coordinator *coordinator) {
    coordinator->over = true;
    if (coordinator->started)
        pthread_join(coordinator->thread, NULL);
    else
        coordinate(coordinator);
}
