#include "dist/worker.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

/* ---- seconds ---- */

static void charge(aq_worker *self, double *account) {
    double now = aq_seconds();
    *account += now - self->changed;
    self->changed = now;
}

void aq_worker_waited(aq_worker *worker) {
    charge(worker, &worker->seconds.waiting);
}

/* ---- handing over ---- */

static aq_status offer(void *state, size_t boundary, const aq_segment *segment) {
    const aq_worker *self = state;
    return aq_relay_offer(self->relay, boundary, segment);
}

static aq_status withdraw(void *state) {
    const aq_worker *self = state;
    return aq_relay_withdraw(self->relay);
}

static aq_status fetch(void *state, const aq_task *task, size_t bytes, aq_segment *spare,
                       aq_segment *segment) {
    const aq_worker *self = state;
    return aq_relay_fetch(self->relay, task, bytes, spare, segment);
}

static aq_status forwarded(void *state, size_t block) {
    aq_worker *self = state;
    const aq_message message = {.kind = AQ_MESSAGE_FORWARDED, .task.block = block};
    charge(self, &self->seconds.forwarding);
    aq_comm_say(self->comm, &message);
    return AQ_OK;
}

static void prepare_handover(aq_worker *self) {
    self->handover =
        (aq_handover){.state = self, .team = self->teams->index, .forwarded = forwarded};
    if (self->relay) {
        self->handover.offer = offer;
        self->handover.withdraw = withdraw;
        self->handover.fetch = fetch;
    }
    self->session->handover = &self->handover;
}

/* ---- blocks ---- */

/* A line that cannot be written must not hide why the block failed. */
static void tell_failed(const aq_worker *self, const aq_message *message) {
    const aq_failed_event event = {.block = message->task.block, .error = message->text};
    if (aq_metrics_failed(self->session->metrics, &event) != AQ_OK)
        aq_log_warn("%s", aq_error_text());
}

static bool leads(const aq_worker *self) {
    return self->teams->team.rank == 0;
}

/* Whether the time from the last change on went into forwarding is not known before the end. */
static void quantize(aq_worker *self, const aq_task *task) {
    aq_message message = {.kind = AQ_MESSAGE_DONE, .task = *task};
    double forwarding = self->seconds.forwarding;
    message.code = aq_session_quantize(self->session, task, &message.outcome);
    bool came_far = self->seconds.forwarding > forwarding;
    charge(self, came_far ? &self->seconds.quantizing : &self->seconds.forwarding);
    if (!leads(self)) return;
    if (message.code != AQ_OK) {
        message.kind = AQ_MESSAGE_FAILED;
        snprintf(message.text, sizeof message.text, "%s", aq_error_text());
        if (message.code != AQ_STOPPED) tell_failed(self, &message);
    }
    aq_comm_say(self->comm, &message);
}

static void tell_waiting(const aq_worker *self) {
    const aq_stage_event event = {.stage = AQ_STAGE_WAITING};
    if (aq_metrics_stage(self->session->metrics, &event) != AQ_OK)
        aq_log_warn("%s", aq_error_text());
}

/* The lead asks; what it is told goes to all members. */
static bool get_task(aq_worker *self, aq_task *task) {
    const aq_message ask = {.kind = AQ_MESSAGE_ASK};
    aq_message answer;
    tell_waiting(self);
    if (leads(self)) {
        aq_comm_say(self->comm, &ask);
        aq_comm_await(self->comm, &answer);
    }
    aq_teams_pass(self->teams, &answer, sizeof answer);
    aq_worker_waited(self);
    *task = answer.task;
    return answer.kind == AQ_MESSAGE_TASK;
}

void aq_worker_run(aq_worker *worker) {
    aq_task task;
    prepare_handover(worker);
    worker->changed = aq_seconds();
    while (get_task(worker, &task)) quantize(worker, &task);
}
