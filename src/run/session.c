#include "run/session.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "run/restarts.h"
#include "run/room.h"

#include <math.h>
#include <string.h>

/* The scheme must fit every linear before the first one is fitted. */
static aq_status check_scheme(const aq_scheme *scheme, const aq_model_shape *shape) {
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        aq_status status = aq_scheme_check(scheme, linear->out, linear->in);
        if (status != AQ_OK) return aq_error_at(status, "%s", linear->name);
    }
    return AQ_OK;
}

static aq_status read_tokens(aq_session *session) {
    const aq_config *config = session->config;
    const aq_token_cut cut = {.length = (size_t)config->calibration.length,
                              .sequences = (size_t)config->calibration.sequences,
                              .vocab = session->source->shape.vocab};
    return aq_tokens_read(config->calibration.tokens, &cut, &session->tokens);
}

static aq_status check_room(aq_session *session, const aq_layout *layout) {
    const aq_model_shape *shape = &session->source->shape;
    aq_memory_needs memory;
    aq_disk_needs disk;
    aq_memory_needs_of(shape, session->config, layout, &memory);
    aq_disk_needs_of(shape, session->config, layout, &disk);
    AQ_TRY(aq_room_check_memory(&memory, layout, session->config, session->backend,
                                &session->activation_bytes));
    return aq_room_check_disk(aq_disk_needs_total(&disk), session->config->output);
}

aq_status aq_session_open(const aq_config *config, aq_backend *backend, const aq_layout *layout,
                          aq_session *session) {
    *session = (aq_session){
        .config = config, .backend = backend, .layout = *layout, .team = aq_team_alone()};
    aq_status status;
    AQ_STEP(aq_dense_source_open(config->model, &session->source));
    AQ_STEP(check_scheme(&config->quantizer.scheme, &session->source->shape));
    AQ_STEP(read_tokens(session));
    AQ_STEP(check_room(session, layout));
    AQ_STEP(aq_run_directory_open(config, session->source, &session->tokens, &session->directory));
    session->directory.machine = backend;
    session->snapshots = (aq_snapshots){.directory = &session->directory,
                                        .every = (size_t)config->run.snapshot_every,
                                        .team_size = 1};
done:
    if (status != AQ_OK) aq_session_close(session);
    return status;
}

void aq_session_close(aq_session *session) {
    aq_block_feed_free(&session->feed);
    aq_lanes_close(&session->lanes);
    aq_metrics_close(session->metrics);
    aq_run_directory_close(&session->directory);
    aq_tokens_free(&session->tokens);
    aq_source_close(session->source);
    *session = (aq_session){0};
}

aq_status aq_session_join(aq_session *session, const aq_team *team) {
    session->team = team;
    session->snapshots.team_size = team->size;
    session->snapshots.member = team->rank;
    return aq_tokens_take_part(&session->tokens, (size_t)team->rank, (size_t)team->size);
}

aq_status aq_session_begin(aq_session *session, int rank, aq_progress *progress) {
    session->progress = progress;
    if (rank != 0) AQ_TRY(aq_run_directory_join(&session->directory));
    return aq_metrics_open(session->directory.metrics_path, rank, &session->metrics);
}

static aq_tune_settings tune_settings(const aq_config *config) {
    return (aq_tune_settings){.epochs = (int)config->tuning.epochs,
                              .batch = (int)config->tuning.batch,
                              .patience = (int)config->tuning.patience,
                              .learning_rate = config->tuning.learning_rate,
                              .precision =
                                  config->tuning.precision == AQ_TUNING_HALF ? AQ_HALF : AQ_FAST};
}

/* The activations take their memory with the first block: a session that gets none needs none.
 * Where the backend computes in host memory, segments hold what other ranks of the node may map. */
static void open_feed(aq_session *session) {
    if (session->feed.settings.source) return;
    bool dense = session->config->run.inputs == AQ_INPUTS_DENSE;
    bool shared = session->handover && session->handover->offer;
    bool host = strcmp(aq_backend_name(session->backend), "cpu") == 0;
    const aq_feed_settings settings = {.source = session->source,
                                       .tokens = &session->tokens,
                                       .backend = session->backend,
                                       .device_bytes =
                                           shared && host ? 0 : session->activation_bytes,
                                       .quantized = dense ? NULL : &session->directory,
                                       .handover = session->handover,
                                       .snapshots = &session->snapshots};
    aq_block_feed_new(&settings, &session->feed);
}

static aq_status open_lanes(aq_session *session) {
    const aq_model_shape *shape = &session->source->shape;
    if (session->lanes.main) return AQ_OK;
    return aq_lanes_open(session->backend, aq_needs_lanes(shape, session->config, &session->layout),
                         &session->lanes);
}

static aq_status note_forwarded(void *state) {
    return aq_block_feed_forwarded(state);
}

static aq_status quantize_loaded(aq_session *session, aq_block *block, aq_coded_block *coded,
                                 aq_quantize_report *report) {
    aq_block_keep keep;
    aq_config config;
    AQ_TRY(open_lanes(session));
    AQ_TRY(aq_restarts_config(&session->directory, session->feed.at, session->config, &config));
    AQ_TRY(aq_block_keep_new(&session->directory, session->feed.at, session->team, &keep));
    const aq_quantize_settings settings = {.seed = (uint64_t)config.run.seed,
                                           .validation =
                                               (size_t)session->config->calibration.validation,
                                           .fit = aq_config_fit(&config),
                                           .tune = tune_settings(&config),
                                           .metrics = session->metrics,
                                           .progress = session->progress,
                                           .lanes = &session->lanes,
                                           .keep = &keep};
    const aq_block_work work = {.index = session->feed.at,
                                .block = block,
                                .inputs = &session->feed.inputs,
                                .targets = &session->feed.outputs,
                                .forwarded = note_forwarded,
                                .state = &session->feed};
    aq_status status = aq_quantize_block(&work, &settings, session->team, coded, report);
    aq_block_keep_free(&keep);
    return status;
}

double aq_session_peak_device_memory(const aq_session *session) {
    size_t bytes;
    if (strcmp(aq_backend_name(session->backend), "cpu") == 0) return NAN;
    return aq_backend_peak(session->backend, &bytes) == AQ_OK ? (double)bytes : NAN;
}

static aq_status tell_block(aq_session *session, const aq_coded_block *coded,
                            const aq_quantize_report *report) {
    const aq_block_event event = {.block = coded->index,
                                  .error = coded->error,
                                  .bits_per_weight = aq_coded_block_bits(coded),
                                  .seconds = aq_phases_total(&report->seconds),
                                  .fitted_error = coded->fitted_error,
                                  .epochs = report->epochs,
                                  .best_epoch = report->best_epoch,
                                  .retries = report->retries,
                                  .peak_memory = (double)aq_host_memory_peak(),
                                  .peak_device_memory = aq_session_peak_device_memory(session)};
    return aq_metrics_block(session->metrics, &event);
}

/* What one block goes through; zeros before. */
typedef struct attempt {
    const aq_task *task;
    aq_block block;
    aq_coded_block coded;
    aq_quantize_report report;
} attempt;

static void attempt_free(attempt *effort) {
    aq_coded_block_free(&effort->coded);
    aq_block_free(&effort->block);
}

static aq_status make_block(aq_session *session, attempt *effort) {
    double start = aq_seconds();
    const aq_stage_event begins = {.block = effort->task->block, .stage = AQ_STAGE_INPUTS};
    AQ_TRY(aq_metrics_stage(session->metrics, &begins));
    AQ_TRY(aq_block_feed_begin(&session->feed, effort->task));
    AQ_TRY(aq_block_feed_load(&session->feed, effort->task->block, &effort->block));
    double arrived = aq_seconds();
    AQ_TRY(quantize_loaded(session, &effort->block, &effort->coded, &effort->report));
    effort->report.seconds.seconds[AQ_PHASE_FORWARD] += arrived - start;
    return AQ_OK;
}

static aq_status try_block(aq_session *session, attempt *effort) {
    return aq_team_agree(session->team, make_block(session, effort));
}

/* *relieved: somebody's activations have left the device. */
static aq_status relieve(aq_session *session, bool *relieved) {
    bool mine;
    AQ_TRY(aq_block_feed_relieve(&session->feed, &mine));
    double members = mine;
    AQ_TRY(aq_team_sum_number(session->team, session->backend, &members));
    *relieved = members > 0;
    return AQ_OK;
}

/* Where activations lie changes no result, so a block may be tried again with less of them on the
 * device. */
static aq_status try_with_less(aq_session *session, attempt *effort) {
    bool relieved = false, leads = session->team->rank == 0;
    attempt_free(effort);
    if (leads) aq_log_warn("block %zu: %s", effort->task->block, aq_error_text());
    AQ_TRY(aq_team_agree(session->team, relieve(session, &relieved)));
    if (!relieved) return aq_error_at(AQ_MEMORY, "although no activations lie there");
    if (leads)
        aq_log_warn("block %zu: trying again with all activations in host memory",
                    effort->task->block);
    aq_status status = try_block(session, effort);
    if (status != AQ_MEMORY) return status;
    return aq_error_at(status, "although all activations lie in host memory");
}

/* By the team's first member, for all. */
static aq_status write_block(aq_session *session, attempt *effort) {
    double start = aq_seconds();
    if (session->team->rank > 0) return AQ_OK;
    AQ_TRY(aq_run_directory_write_block(&session->directory, &effort->coded));
    AQ_TRY(aq_block_keep_discard(&session->directory, effort->task->block));
    effort->report.seconds.seconds[AQ_PHASE_FILES] += aq_seconds() - start;
    return AQ_OK;
}

static aq_status finish_block(aq_session *session, attempt *effort) {
    AQ_TRY(write_block(session, effort));
    double start = aq_seconds();
    AQ_TRY(aq_block_feed_advance(&session->feed, &effort->block));
    effort->report.seconds.seconds[AQ_PHASE_FORWARD] += aq_seconds() - start;
    if (session->team->rank > 0) return AQ_OK;
    aq_snapshots_prune(&session->snapshots);
    return tell_block(session, &effort->coded, &effort->report);
}

aq_status aq_session_quantize(aq_session *session, const aq_task *task, aq_block_outcome *outcome) {
    aq_status status;
    attempt effort = {.task = task};
    aq_progress_block(session->progress, task->block);
    open_feed(session);

    status = try_block(session, &effort);
    if (status == AQ_MEMORY) status = try_with_less(session, &effort);
    if (status != AQ_OK) goto done;
    AQ_STEP(aq_team_agree(session->team, finish_block(session, &effort)));
    *outcome = (aq_block_outcome){.error = effort.coded.error, .seconds = effort.report.seconds};
done:
    attempt_free(&effort);
    return status;
}

double aq_session_bits(const aq_session *session) {
    double bits = 0, weights = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &session->source->shape.linears[l];
        double count = (double)linear->out * (double)linear->in;
        bits += count * aq_scheme_bits(&session->config->quantizer.scheme, linear->out, linear->in);
        weights += count;
    }
    return bits / weights;
}
