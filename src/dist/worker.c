#include "dist/worker.h"

#include "base/log.h"
#include "dist/messages.h"

#include <stdio.h>

/* A line that cannot be written must not hide why the block failed. */
static void tell_failed(aq_session *session, const aq_message *message) {
    const aq_failed_event event = {.block = message->block, .error = message->text};
    if (aq_metrics_failed(session->metrics, &event) != AQ_OK) aq_log_warn("%s", aq_error_text());
}

/* The nearest activations that this rank has or finds, else the embeddings. */
static aq_task task_for(const aq_session *session, size_t block) {
    const aq_block_feed *feed = &session->feed;
    size_t start = aq_snapshots_nearest(&session->snapshots, block);
    aq_task_source source = start ? AQ_SOURCE_SNAPSHOT : AQ_SOURCE_EMBEDDINGS;
    if (feed->settings.source && feed->at <= block && feed->at >= start) {
        start = feed->at;
        source = AQ_SOURCE_TEAM;
    }
    return (aq_task){.block = block, .start = start, .source = source};
}

static void report(aq_session *session, size_t block) {
    aq_message message = {.kind = AQ_MESSAGE_DONE, .block = block};
    const aq_task task = task_for(session, block);
    message.code = aq_session_quantize(session, &task, &message.outcome);
    if (message.code != AQ_OK) {
        message.kind = AQ_MESSAGE_FAILED;
        snprintf(message.text, sizeof message.text, "%s", aq_error_text());
        if (message.code != AQ_STOPPED) tell_failed(session, &message);
    }
    aq_message_send(AQ_TO_COORDINATOR, 0, &message);
}

void aq_worker_run(aq_session *session) {
    for (;;) {
        int coordinator;
        aq_message message = {.kind = AQ_MESSAGE_ASK};
        aq_message_send(AQ_TO_COORDINATOR, 0, &message);
        aq_message_await(AQ_TO_WORKER, &message, &coordinator);
        if (message.kind == AQ_MESSAGE_STOP) return;
        report(session, message.block);
    }
}
