#include "dist/coordinator.h"

#include "dist/messages.h"

#include <string.h>

static void hand_out(aq_coordinator *self, int rank, int *at_work) {
    aq_message answer = {.kind = AQ_MESSAGE_STOP};
    bool may_work = !self->in_order || rank == 0;
    if (may_work && aq_ledger_next(self->ledger, rank, &answer.block))
        answer.kind = AQ_MESSAGE_RUN;
    else
        (*at_work)--;
    aq_message_send(AQ_TO_WORKER, rank, &answer);
}

static void note_done(aq_coordinator *self, int rank, const aq_message *message) {
    const aq_block_outcome *outcome = &message->outcome;
    aq_ledger_done(self->ledger, message->block, rank, outcome->error, &outcome->seconds);
    aq_progress_block_done(self->progress, message->block, outcome->error,
                           aq_phases_total(&outcome->seconds));
}

static void *coordinate(void *state) {
    aq_coordinator *self = state;
    for (int rank, at_work = self->ranks; at_work > 0;) {
        aq_message message;
        aq_message_await(AQ_TO_COORDINATOR, &message, &rank);
        if (message.kind == AQ_MESSAGE_DONE)
            note_done(self, rank, &message);
        else if (message.kind == AQ_MESSAGE_FAILED)
            aq_ledger_failed(self->ledger, message.block, rank, message.code, message.text);
        else
            hand_out(self, rank, &at_work);
    }
    return NULL;
}

aq_status aq_coordinator_start(aq_coordinator *coordinator) {
    int failure = pthread_create(&coordinator->thread, NULL, coordinate, coordinator);
    AQ_REQUIRE(!failure, AQ_MEMORY, "the coordinator's thread cannot be started: %s",
               strerror(failure));
    return AQ_OK;
}

void aq_coordinator_join(aq_coordinator *coordinator) {
    pthread_join(coordinator->thread, NULL);
}
