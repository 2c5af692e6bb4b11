#include "dist/quantize_run.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/stop.h"
#include "dist/comm.h"
#include "dist/devices.h"
#include "dist/relay.h"
#include "dist/team_open.h"
#include "run/lock.h"
#include "run/needs.h"

#include <stdlib.h>
#include <string.h>

/* A rank's part of a run. */
typedef struct effort {
    const aq_ranks *ranks;
    const aq_teams *teams;
    aq_session *session;
    const aq_run_options *options;
    aq_run_summary *summary;
    aq_progress *progress; /* on rank 0, as the lock */
    aq_lock *lock;
    aq_comm *comm;
    aq_relay *relay; /* where activations are handed over */
    aq_worker worker;
} effort;

static bool in_order(const effort *self) {
    return self->session->config->run.inputs == AQ_INPUTS_QUANTIZED;
}

static size_t blocks_of(const effort *self) {
    return self->session->source->shape.blocks;
}

/* ---- before ---- */

static void find_snapshots(effort *self) {
    for (size_t boundary = 1; boundary < blocks_of(self); boundary++)
        if (aq_snapshots_nearest(&self->session->snapshots, boundary) == boundary)
            aq_schedule_snapshot(&self->summary->schedule, boundary);
}

static aq_status find_finished(effort *self) {
    const aq_session *session = self->session;
    aq_schedule *schedule = &self->summary->schedule;
    const aq_schedule_settings settings = {.blocks = blocks_of(self),
                                           .teams = self->teams->count,
                                           .team_size = self->teams->team.size,
                                           .in_order = in_order(self)};
    double error;
    AQ_TRY(aq_schedule_new(&settings, schedule));
    for (size_t i = 0; i < settings.blocks; i++) {
        AQ_TRY(aq_stop_check());
        if (aq_run_directory_finished(&session->directory, i, session->backend, &error))
            aq_schedule_finished(schedule, i, error);
    }
    find_snapshots(self);
    self->summary->earlier = aq_schedule_count(schedule, AQ_BLOCK_DONE);
    if (self->summary->earlier)
        aq_log_info("%s: %zu of %zu blocks are finished already", session->directory.path,
                    self->summary->earlier, settings.blocks);
    return AQ_OK;
}

static aq_status begin_progress(effort *self, aq_progress_mode mode) {
    const aq_progress_plan plan = {.mode = mode,
                                   .blocks = blocks_of(self),
                                   .finished = self->summary->earlier,
                                   .workers = in_order(self) ? 1 : (size_t)self->teams->count};
    return aq_progress_begin(&plan, &self->progress);
}

static aq_status take_lock(effort *self, bool broken) {
    const aq_lock_settings settings = {.folder = self->session->directory.path, .broken = broken};
    AQ_TRY(aq_run_directory_make(&self->session->directory));
    return aq_lock_take(&settings, &self->lock);
}

/* Beforehand: their disk use is large. */
static void say_snapshots(const effort *self) {
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

static void say_idle(const effort *self) {
    int idle = self->ranks->size - self->teams->team.size;
    if (in_order(self) && idle)
        aq_log_warn("run.inputs quantized takes blocks in order: %s 0 works, %d more idle; "
                    "run.team_size lets ranks share a block",
                    self->teams->team.size == 1 ? "rank" : "team", idle);
}

static aq_status prepare(effort *self) {
    const aq_run_options *options = self->options;
    AQ_TRY(take_lock(self, options->break_lock));
    AQ_TRY(aq_run_directory_prepare(&self->session->directory, self->session->config));
    AQ_TRY(aq_restarts_begin(&self->session->directory, options->restart,
                             self->session->config->run.inputs));
    AQ_TRY(find_finished(self));
    say_snapshots(self);
    say_idle(self);
    return options->progress ? begin_progress(self, *options->progress) : AQ_OK;
}

static aq_status tell_start(const effort *self) {
    const aq_start_event event = {.ranks = self->ranks->size,
                                  .team_size = self->teams->team.size,
                                  .backend = self->session->config->run.backend,
                                  .blocks = blocks_of(self),
                                  .finished = self->summary->earlier};
    return aq_metrics_start(self->session->metrics, &event);
}

/* Whoever reads the events later knows by this one that nobody is at work any more. A run that
 * failed goes on to say why: a line that cannot be written must not change that. */
static void tell_end(const effort *self, aq_status status) {
    char *error = status == AQ_OK ? NULL : strdup(aq_error_text());
    if (aq_metrics_end(self->session->metrics, error) != AQ_OK) aq_log_warn("%s", aq_error_text());
    if (error) AQ_FAIL(status, "%s", error);
    free(error);
}

/* ---- after ---- */

static aq_status gather(effort *self) {
    aq_session *session = self->session;
    aq_run_summary *summary = self->summary;
    double start = aq_seconds();
    if (summary->earlier == blocks_of(self) && aq_run_directory_gathered(&session->directory))
        return AQ_OK;
    AQ_TRY(aq_run_directory_gather(&session->directory));
    AQ_TRY(aq_restarts_end(&session->directory));
    summary->gathered = true;
    summary->work.seconds[AQ_PHASE_FILES] += aq_seconds() - start;
    return AQ_OK;
}

static aq_status tell_run(const effort *self) {
    const aq_run_summary *summary = self->summary;
    const aq_run_event event = {.blocks = blocks_of(self),
                                .bits_per_weight = aq_session_bits(self->session),
                                .seconds = summary->seconds,
                                .files = blocks_of(self) - summary->earlier + 1,
                                .dense_forward_passes = summary->dense_forward_passes};
    return summary->gathered ? aq_metrics_run(self->session->metrics, &event) : AQ_OK;
}

static aq_status conclude(effort *self, double start) {
    aq_run_summary *summary = self->summary;
    for (size_t i = 0; i < blocks_of(self); i++)
        aq_phases_add(&summary->schedule.entries[i].seconds, &summary->work);
    AQ_TRY(aq_schedule_verdict(&summary->schedule));
    AQ_TRY(gather(self));
    summary->seconds = aq_seconds() - start;
    return tell_run(self);
}

static aq_status tell_rank(const effort *self) {
    const aq_rank_seconds *seconds = &self->worker.seconds;
    const aq_team_traffic traffic = aq_team_traffic_of(&self->teams->team);
    const aq_rank_event event = {.forwarding = seconds->forwarding,
                                 .waiting = seconds->waiting,
                                 .quantizing = seconds->quantizing,
                                 .peak_memory = (double)aq_host_memory_peak(),
                                 .peak_device_memory = aq_session_peak_device_memory(self->session),
                                 .team_seconds = traffic.seconds,
                                 .team_bytes = traffic.bytes,
                                 .fetched_bytes = self->relay ? aq_relay_fetched(self->relay) : 0};
    return aq_metrics_rank(self->session->metrics, &event);
}

/* Collective. */
static void add_up(effort *self) {
    const aq_rank_seconds *mine = &self->worker.seconds;
    double sums[] = {mine->forwarding, mine->waiting, mine->quantizing,
                     (double)self->session->feed.forwards};
    aq_ranks_sum(self->ranks, sums, sizeof sums / sizeof *sums);
    self->summary->ranks =
        (aq_rank_seconds){.forwarding = sums[0], .waiting = sums[1], .quantizing = sums[2]};
    self->summary->dense_forward_passes =
        sums[3] / (double)self->teams->team.size / (double)blocks_of(self);
}

/* ---- meanwhile ---- */

/* Blocks, then the gathered file. */
static aq_status work(effort *self, double start) {
    const aq_ranks *ranks = self->ranks;
    aq_worker_run(&self->worker);
    AQ_TRY(aq_ranks_agree(ranks, AQ_OK));
    aq_worker_waited(&self->worker);
    add_up(self);
    AQ_TRY(aq_ranks_agree(ranks, tell_rank(self)));
    return aq_ranks_agree(ranks, ranks->rank == 0 ? conclude(self, start) : AQ_OK);
}

/* In another thread than the main one, as the next: that may wait for the lost rank. */
static void leave_team(void *state, int lost, const char *text) {
    const aq_teams *teams = ((const effort *)state)->teams;
    if (lost / teams->team.size == teams->index) aq_team_abort(&teams->team, text);
}

/* The main thread does not come to its own end any more. */
static void note_lost(void *state) {
    effort *self = state;
    self->options->lost();
    tell_end(self, AQ_COMM);
    aq_lock_release(self->lock);
}

static aq_status open_relay(effort *self) {
    const aq_relay_settings settings = {.ranks = self->ranks,
                                        .backend = self->session->backend,
                                        .team_size = self->teams->team.size,
                                        .copies = aq_relay_environment_copies()};
    if (self->teams->count == 1 || in_order(self)) return AQ_OK;
    return aq_relay_open(&settings, &self->relay);
}

static aq_status open_comm(effort *self) {
    const aq_config *config = self->session->config;
    const aq_comm_settings settings = {.ranks = self->ranks,
                                       .schedule = &self->summary->schedule,
                                       .progress = self->progress,
                                       .silence = (double)config->run.silence_seconds,
                                       .hang = (double)config->run.hang_seconds,
                                       .told = leave_team,
                                       .lost = note_lost,
                                       .state = self};
    AQ_TRY(aq_comm_open(&settings, &self->comm));
    if (self->relay) aq_comm_hook(self->comm, aq_relay_pump, self->relay);
    aq_status status = self->ranks->rank == 0 ? tell_start(self) : AQ_OK;
    return status == AQ_OK ? aq_comm_start(self->comm) : status;
}

/* With the thread that hands out blocks, spreads a request to stop and moves activations. */
static aq_status work_attended(effort *self, double start) {
    aq_status status;
    AQ_STEP(open_relay(self));
    AQ_STEP(aq_ranks_agree(self->ranks, open_comm(self)));
    self->worker = (aq_worker){
        .session = self->session, .comm = self->comm, .teams = self->teams, .relay = self->relay};
    AQ_STEP(work(self, start));
done:
    aq_comm_close(self->comm);
    aq_relay_close(self->relay);
    return status;
}

/* The last act of a run. That the lock was lost explains whatever else there is to say. */
static aq_status leave(effort *self, aq_status status) {
    tell_end(self, status);
    aq_status released = aq_lock_release(self->lock);
    return released == AQ_OK ? status : released;
}

/* Every step that can fail on some ranks only ends with all of them agreeing: nobody waits for a
 * rank that has left. */
aq_status aq_quantize_run(const aq_teams *teams, aq_session *session, const aq_run_options *options,
                          aq_run_summary *summary) {
    *summary = (aq_run_summary){0};
    const aq_ranks *ranks = teams->ranks;
    effort self = {
        .ranks = ranks, .teams = teams, .session = session, .options = options, .summary = summary};
    double start = aq_seconds();
    aq_status status;
    AQ_STEP(aq_devices_kinds(ranks, session->backend, session->directory.gpus,
                             sizeof session->directory.gpus));
    AQ_STEP(aq_ranks_agree(ranks, ranks->rank == 0 ? prepare(&self) : AQ_OK));
    AQ_STEP(aq_ranks_agree(ranks, aq_session_begin(session, ranks->rank, self.progress)));
    AQ_STEP(work_attended(&self, start));
done:
    status = aq_ranks_agree(ranks, ranks->rank == 0 ? leave(&self, status) : status);
    session->progress = NULL;
    session->handover = NULL;
    aq_progress_end(self.progress);
    return status;
}

void aq_run_summary_free(aq_run_summary *summary) {
    aq_schedule_free(&summary->schedule);
}
