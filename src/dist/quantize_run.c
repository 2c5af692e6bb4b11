#include "dist/quantize_run.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "dist/coordinator.h"
#include "dist/listener.h"
#include "dist/worker.h"
#include "run/lock.h"
#include "run/needs.h"

#include <stdlib.h>
#include <string.h>

/* Rank 0's part of a run. */
typedef struct leader {
    const aq_ranks *ranks;
    aq_session *session;
    aq_run_summary *summary;
    aq_progress *progress;
    aq_lock *lock;
    aq_coordinator coordinator;
} leader;

static bool in_order(const leader *self) {
    return self->session->config->run.inputs == AQ_INPUTS_QUANTIZED;
}

static aq_status find_finished(leader *self) {
    aq_ledger *ledger = &self->summary->ledger;
    const aq_phases nothing = {0};
    double error;
    AQ_TRY(aq_ledger_new(self->session->source->shape.blocks, ledger));
    for (size_t i = 0; i < ledger->blocks; i++) {
        AQ_TRY(aq_stop_check());
        if (aq_run_directory_finished(&self->session->directory, i, self->session->backend, &error))
            aq_ledger_done(ledger, i, AQ_LEDGER_NOBODY, error, &nothing);
    }
    self->summary->earlier = aq_ledger_count(ledger, AQ_BLOCK_DONE);
    if (self->summary->earlier)
        aq_log_info("%s: %zu of %zu blocks are finished already", self->session->directory.path,
                    self->summary->earlier, ledger->blocks);
    return AQ_OK;
}

static aq_status begin_progress(leader *self, aq_progress_mode mode) {
    const aq_progress_plan plan = {.mode = mode,
                                   .blocks = self->summary->ledger.blocks,
                                   .finished = self->summary->earlier,
                                   .workers = in_order(self) ? 1 : (size_t)self->ranks->size};
    return aq_progress_begin(&plan, &self->progress);
}

static aq_status take_lock(leader *self, bool broken) {
    const aq_lock_settings settings = {.folder = self->session->directory.path, .broken = broken};
    AQ_TRY(aq_run_directory_make(&self->session->directory));
    return aq_lock_take(&settings, &self->lock);
}

/* Beforehand: their disk use is large. */
static void say_snapshots(const leader *self) {
    const aq_session *session = self->session;
    const aq_snapshots *snapshots = &session->snapshots;
    aq_disk_needs needs;
    if (!snapshots->every) return;
    aq_disk_needs_of(&session->source->shape, session->config, &session->layout, &needs);
    aq_log_info("%s/snapshots: activations of every %zu blocks, %.3f GB each, at most %zu (%.3f "
                "GB) at a time",
                session->directory.path, snapshots->every, 1e-9 * (double)needs.snapshot,
                needs.snapshots / needs.snapshot, 1e-9 * (double)needs.snapshots);
}

static aq_status prepare(leader *self, const aq_run_options *options) {
    AQ_TRY(take_lock(self, options->break_lock));
    AQ_TRY(aq_run_directory_prepare(&self->session->directory, self->session->config));
    AQ_TRY(aq_restarts_begin(&self->session->directory, options->restart,
                             self->session->config->run.inputs));
    AQ_TRY(find_finished(self));
    say_snapshots(self);
    if (in_order(self) && self->ranks->size > 1)
        aq_log_warn("run.inputs quantized takes blocks in order: rank 0 works, %d more idle",
                    self->ranks->size - 1);
    return options->progress ? begin_progress(self, *options->progress) : AQ_OK;
}

static aq_status tell_start(const leader *self) {
    const aq_start_event event = {.ranks = self->ranks->size,
                                  .backend = self->session->config->run.backend,
                                  .blocks = self->summary->ledger.blocks,
                                  .finished = self->summary->earlier};
    return aq_metrics_start(self->session->metrics, &event);
}

/* Whoever reads the events later knows by this one that nobody is at work any more. A run that
 * failed goes on to say why: a line that cannot be written must not change that. */
static void tell_end(const leader *self, aq_status status) {
    char *error = status == AQ_OK ? NULL : strdup(aq_error_text());
    if (aq_metrics_end(self->session->metrics, error) != AQ_OK) aq_log_warn("%s", aq_error_text());
    if (error) AQ_FAIL(status, "%s", error);
    free(error);
}

static aq_status start_coordinator(leader *self) {
    self->coordinator = (aq_coordinator){.ledger = &self->summary->ledger,
                                         .progress = self->progress,
                                         .ranks = self->ranks->size,
                                         .in_order = in_order(self)};
    AQ_TRY(tell_start(self));
    return aq_coordinator_start(&self->coordinator);
}

static aq_status gather(leader *self) {
    aq_session *session = self->session;
    aq_run_summary *summary = self->summary;
    double start = aq_seconds();
    if (summary->earlier == summary->ledger.blocks &&
        aq_run_directory_gathered(&session->directory))
        return AQ_OK;
    AQ_TRY(aq_run_directory_gather(&session->directory));
    AQ_TRY(aq_restarts_end(&session->directory));
    summary->gathered = true;
    summary->work.seconds[AQ_PHASE_FILES] += aq_seconds() - start;
    return AQ_OK;
}

static aq_status tell_run(const leader *self) {
    const aq_run_summary *summary = self->summary;
    const aq_run_event event = {.blocks = summary->ledger.blocks,
                                .bits_per_weight = aq_session_bits(self->session),
                                .seconds = summary->seconds,
                                .files = summary->ledger.blocks - summary->earlier + 1};
    return summary->gathered ? aq_metrics_run(self->session->metrics, &event) : AQ_OK;
}

static aq_status conclude(leader *self, double start) {
    aq_run_summary *summary = self->summary;
    for (size_t i = 0; i < summary->ledger.blocks; i++)
        aq_phases_add(&summary->ledger.entries[i].seconds, &summary->work);
    AQ_TRY(aq_ledger_verdict(&summary->ledger));
    AQ_TRY(gather(self));
    summary->seconds = aq_seconds() - start;
    return tell_run(self);
}

/* Blocks, then the gathered file. All workers have been told to stop when rank 0 concludes. */
static aq_status work(leader *self, double start) {
    const aq_ranks *ranks = self->ranks;
    aq_worker_run(self->session);
    AQ_TRY(aq_ranks_agree(ranks, AQ_OK));
    return aq_ranks_agree(ranks, ranks->rank == 0 ? conclude(self, start) : AQ_OK);
}

/* With the threads that hand out blocks and spread a request to stop. */
static aq_status work_attended(leader *self, double start) {
    const aq_ranks *ranks = self->ranks;
    bool leads = ranks->rank == 0;
    aq_listener listener = {0};
    aq_status status = leads ? start_coordinator(self) : AQ_OK;
    if (status == AQ_OK) status = aq_listener_start(&listener);
    status = aq_ranks_agree(ranks, status);
    if (status == AQ_OK) status = work(self, start);
    if (leads) aq_coordinator_join(&self->coordinator);
    aq_listener_join(&listener);
    return status;
}

/* The last act of a run. That the lock was lost explains whatever else there is to say. */
static aq_status leave(leader *self, aq_status status) {
    tell_end(self, status);
    aq_status released = aq_lock_release(self->lock);
    return released == AQ_OK ? status : released;
}

/* Every step that can fail on some ranks only ends with all of them agreeing: nobody waits for a
 * rank that has left. */
aq_status aq_quantize_run(const aq_ranks *ranks, aq_session *session, const aq_run_options *options,
                          aq_run_summary *summary) {
    *summary = (aq_run_summary){0};
    leader self = {.ranks = ranks, .session = session, .summary = summary};
    double start = aq_seconds();
    aq_status status;
    AQ_STEP(aq_ranks_agree(ranks, ranks->rank == 0 ? prepare(&self, options) : AQ_OK));
    AQ_STEP(aq_ranks_agree(ranks, aq_session_begin(session, ranks->rank, self.progress)));
    AQ_STEP(work_attended(&self, start));
done:
    status = aq_ranks_agree(ranks, ranks->rank == 0 ? leave(&self, status) : status);
    session->progress = NULL;
    aq_progress_end(self.progress);
    return status;
}

void aq_run_summary_free(aq_run_summary *summary) {
    aq_ledger_free(&summary->ledger);
}
