#include "dist/coordinator.h"

aq_status aq_coordinator_new(const aq_coordinator_settings *settings, double now,
                             aq_coordinator *coordinator) {
    *coordinator = (aq_coordinator){.settings = *settings};
    return aq_heartbeats_new(&settings->heartbeats, now, &coordinator->heartbeats);
}

void aq_coordinator_free(aq_coordinator *coordinator) {
    aq_heartbeats_free(&coordinator->heartbeats);
}

static void say(aq_coordinator *self, int rank, const aq_message *message) {
    self->settings.say(self->settings.state, rank, message);
}

static void answer_all(aq_coordinator *self) {
    aq_schedule *schedule = self->settings.schedule;
    aq_answer answer;
    while (aq_schedule_next(schedule, &answer)) {
        const aq_message message = {.kind = answer.works ? AQ_MESSAGE_TASK : AQ_MESSAGE_END,
                                    .task = answer.task};
        say(self, answer.team * schedule->settings.team_size, &message);
    }
}

static void note_done(aq_coordinator *self, const aq_message *message) {
    const aq_block_outcome *outcome = &message->outcome;
    size_t block = message->task.block;
    aq_schedule_done(self->settings.schedule, block, outcome->error, &outcome->seconds);
    aq_progress_block_done(self->settings.progress, block, outcome->error,
                           aq_phases_total(&outcome->seconds));
}

/* Every rank that a signal reached says so; once is enough. */
static void spread_stop(aq_coordinator *self) {
    const aq_message message = {.kind = AQ_MESSAGE_STOP};
    aq_schedule_stop(self->settings.schedule);
    for (int rank = 0; rank < self->settings.heartbeats.ranks && !self->stopping; rank++)
        say(self, rank, &message);
    self->stopping = true;
}

/* A team that was asked to stop has not failed: its block waits again. */
static void note_failed(aq_coordinator *self, const aq_message *message) {
    if (message->code != AQ_STOPPED) {
        aq_schedule_failed(self->settings.schedule, message->task.block, message->code,
                           message->text);
        return;
    }
    aq_schedule_released(self->settings.schedule, message->task.block);
    spread_stop(self);
}

void aq_coordinator_hear(aq_coordinator *coordinator, int rank, const aq_message *message,
                         double now) {
    aq_schedule *schedule = coordinator->settings.schedule;
    switch (message->kind) {
    case AQ_MESSAGE_ASK:
        aq_schedule_ask(schedule, rank / schedule->settings.team_size);
        break;
    case AQ_MESSAGE_FORWARDED:
        aq_schedule_forwarded(schedule, message->task.block);
        break;
    case AQ_MESSAGE_DONE:
        note_done(coordinator, message);
        break;
    case AQ_MESSAGE_FAILED:
        note_failed(coordinator, message);
        break;
    case AQ_MESSAGE_STOP:
        spread_stop(coordinator);
        break;
    default:
        aq_heartbeats_hear(&coordinator->heartbeats, rank, message->pulse, now);
        return;
    }
    answer_all(coordinator);
}

bool aq_coordinator_turn(aq_coordinator *coordinator, double now, aq_loss *loss) {
    return aq_heartbeats_turn(&coordinator->heartbeats, now, loss);
}
