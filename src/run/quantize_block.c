#include "run/quantize_block.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "run/fit_linears.h"

#include <math.h>

/* Shares of a block's time, for the progress line only. */
static const double forward_share = 0.05, fit_share = 0.55, tune_share = 0.4;

/* What the steps below share. */
typedef struct bench {
    const aq_block_work *work;
    const aq_quantize_settings *settings;
    const aq_team *team;
    aq_coded_block *coded;
    aq_quantize_report *report;
    aq_gram_sum grams[AQ_TAP_COUNT];
    bool taken_up[AQ_LINEAR_COUNT]; /* fitted by an earlier process */
    aq_watch watch;
    size_t training; /* the first so many of all sequences: Gram sums and tuning see them */
} bench;

/* What all members know one tells. */
static bool leads(const bench *self) {
    return self->team->rank == 0;
}

static aq_status watch_step(const aq_watch *watch, const char *phase, int done, int total) {
    const bench *self = watch->state;
    aq_progress_step(self->settings->progress, phase, done, total);
    return aq_stop_check();
}

/* A line that cannot be written must not end a tuning that goes well: the block's own event will
 * meet the same disk. */
static void watch_epoch(const aq_watch *watch, int epoch, double training_error,
                        double validation_error, double seconds) {
    const bench *self = watch->state;
    if (!leads(self)) return;
    const aq_epoch_event event = {.block = self->work->index,
                                  .epoch = epoch,
                                  .training_error = training_error,
                                  .validation_error = validation_error,
                                  .seconds = seconds};
    if (aq_metrics_epoch(self->settings->metrics, &event) != AQ_OK)
        aq_log_warn("%s", aq_error_text());
}

static void charge(bench *self, aq_phase phase, double seconds) {
    self->report->seconds.seconds[phase] += seconds;
}

static aq_status prepare(bench *self) {
    double all = (double)self->work->inputs->sequences;
    AQ_TRY(aq_team_sum_number(self->team, self->work->inputs->backend, &all));
    size_t sequences = (size_t)all;
    AQ_REQUIRE(self->settings->validation < sequences, AQ_INVALID,
               "calibration.validation %zu leaves none of %zu sequences to fit",
               self->settings->validation, sequences);
    self->training = sequences - self->settings->validation;
    return AQ_OK;
}

static aq_status see_inputs(void *state, aq_tap tap, const aq_tensor *x) {
    bench *self = state;
    AQ_TRY(aq_stop_check());
    return aq_tap_is_needed(self->work->block->shape, self->taken_up, tap)
               ? aq_gram_sum_add(x, &self->grams[tap])
               : AQ_OK;
}

/* A part of the progress line and a stage of the events; `layer` NULL: of the whole block. */
static aq_status begin_stage(bench *self, aq_stage stage, const char *layer, double share) {
    const aq_stage_event event = {.block = self->work->index, .stage = stage, .layer = layer};
    aq_progress_part(self->settings->progress, layer ? layer : aq_stage_name(stage), share);
    return aq_metrics_stage(self->settings->metrics, &event);
}

static int count_taken_up(const bench *self) {
    int count = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) count += self->taken_up[l];
    return count;
}

/* Once a block, when it is known how far an earlier process came. */
static aq_status tell_taken_up(bench *self, int epochs) {
    const aq_taken_up_event event = {
        .block = self->work->index, .layers = count_taken_up(self), .epochs = epochs};
    if (!event.layers || !leads(self)) return AQ_OK;
    aq_log_info("block %zu: %d of %d layers and %d tuning epochs taken up", event.block,
                event.layers, AQ_LINEAR_COUNT, epochs);
    return aq_metrics_taken_up(self->settings->metrics, &event);
}

static aq_status take_up_layers(bench *self) {
    const aq_block_keep *keep = self->settings->keep;
    for (int l = 0; keep && l < AQ_LINEAR_COUNT; l++)
        AQ_TRY(aq_block_keep_load_layer(keep, (aq_linear_kind)l, &self->settings->fit.scheme,
                                        self->work->inputs->backend, self->coded,
                                        &self->taken_up[l]));
    self->report->layers_taken_up = count_taken_up(self);
    return self->report->layers_taken_up < AQ_LINEAR_COUNT ? tell_taken_up(self, 0) : AQ_OK;
}

/* The dense block over all sequences: targets, and sums of the training sequences' taps. */
static aq_status run_dense(bench *self) {
    const aq_block_work *work = self->work;
    double start = aq_seconds();
    AQ_TRY(begin_stage(self, AQ_STAGE_FORWARD, NULL, forward_share));
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++)
        if (aq_tap_is_needed(work->block->shape, self->taken_up, (aq_tap)tap))
            AQ_TRY(aq_gram_sum_new(work->inputs->backend,
                                   aq_tap_width(work->block->shape, (aq_tap)tap),
                                   &self->grams[tap]));
    const aq_tapper tapper = {.see = see_inputs, .state = self};
    AQ_TRY(aq_activations_forward(work->block, work->inputs, &tapper,
                                  aq_team_sequences(self->team, self->training), work->targets));
    AQ_TRY(aq_finish(work->inputs->backend));
    if (work->forwarded) AQ_TRY(work->forwarded(work->state));
    aq_progress_part_done(self->settings->progress, NAN);
    charge(self, AQ_PHASE_FORWARD, aq_seconds() - start);
    return AQ_OK;
}

static aq_status fit(bench *self) {
    const aq_linear_fits fits = {.work = self->work,
                                 .settings = self->settings,
                                 .team = self->team,
                                 .taken_up = self->taken_up,
                                 .share = fit_share,
                                 .grams = self->grams,
                                 .coded = self->coded,
                                 .report = self->report};
    return aq_fit_linears(&fits);
}

static aq_status keep_copy(const aq_tensor *source, aq_tensor *copy) {
    if (!source->data) return AQ_OK;
    const aq_shape shape = AQ_DIMS(aq_tensor_count(source));
    AQ_TRY(aq_tensor_new(source->home, source->dtype, shape, copy));
    return aq_tensor_copy(source, copy);
}

static aq_status keep_norms_and_biases(bench *self) {
    const aq_block *block = self->work->block;
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        AQ_TRY(keep_copy(&block->norms[n], &self->coded->norms[n]));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        AQ_TRY(keep_copy(&block->biases[l], &self->coded->biases[l]));
    return AQ_OK;
}

/* Tuned values belong to the very codes they were tuned with: not to those of a new fit. */
static aq_status load_tuning(const aq_tune_keeper *keeper, aq_parameters *parameters,
                             aq_tune_state *state, bool *found) {
    bench *self = keeper->state;
    *found = false;
    if (count_taken_up(self) < AQ_LINEAR_COUNT) return AQ_OK;
    AQ_TRY(aq_block_keep_load_tuning(self->settings->keep, parameters, state, found));
    return tell_taken_up(self, *found ? state->epochs : 0);
}

static aq_status save_tuning(const aq_tune_keeper *keeper, const aq_parameters *parameters,
                             const aq_tune_state *state) {
    const bench *self = keeper->state;
    return aq_block_keep_save_tuning(self->settings->keep, parameters, state);
}

static aq_status settle_tuning(const aq_tune_keeper *keeper) {
    const bench *self = keeper->state;
    return aq_block_keep_settle_tuning(self->settings->keep);
}

static aq_status tune(bench *self) {
    const aq_block_work *work = self->work;
    const aq_tune_keeper keeper = {
        .load = load_tuning, .save = save_tuning, .settle = settle_tuning, .state = self};
    AQ_TRY(begin_stage(self, AQ_STAGE_TUNING, NULL, tune_share));
    aq_tune_settings settings = self->settings->tune;
    settings.training = self->training;
    settings.seed = aq_layer_seed(self->settings, work->index, AQ_LINEAR_COUNT);
    settings.watch = &self->watch;
    settings.keeper = self->settings->keep ? &keeper : NULL;
    aq_tune_report report;
    AQ_TRY(aq_tune_block(self->coded, work->block, work->inputs, work->targets, &settings,
                         self->team, &report));
    self->coded->fitted_error = report.start_error;
    self->report->epochs = report.epochs;
    self->report->best_epoch = report.best_epoch;
    self->report->retries = report.retries;
    self->report->epochs_taken_up = report.taken_up;
    aq_progress_part_done(self->settings->progress, report.best_error);
    charge(self, AQ_PHASE_TUNING, report.seconds);
    return AQ_OK;
}

/* Rounded first: what is reported is what the file holds. */
static aq_status round_and_measure(bench *self) {
    const aq_block_work *work = self->work;
    double start = aq_seconds();
    AQ_TRY(begin_stage(self, AQ_STAGE_WRITING, NULL, 0));
    size_t held_out = self->settings->validation;
    const aq_rows range = {held_out ? self->training : 0, held_out ? held_out : self->training};
    AQ_TRY(aq_coded_block_round(self->coded));
    AQ_TRY(aq_coded_block_decode(self->coded, work->block));
    AQ_TRY(aq_block_error(work->block, work->inputs, work->targets, range, self->team,
                          &self->coded->error));
    charge(self, AQ_PHASE_FORWARD, aq_seconds() - start);
    return AQ_OK;
}

aq_status aq_quantize_block(const aq_block_work *work, const aq_quantize_settings *settings,
                            const aq_team *team, aq_coded_block *coded,
                            aq_quantize_report *report) {
    aq_status status;
    bench self = {
        .work = work, .settings = settings, .team = team, .coded = coded, .report = report};
    self.watch = (aq_watch){.step = watch_step, .epoch = watch_epoch, .state = &self};
    *coded = (aq_coded_block){.shape = work->block->shape, .index = work->index};
    *report = (aq_quantize_report){0};

    AQ_STEP(prepare(&self));
    AQ_STEP(take_up_layers(&self));
    AQ_STEP(run_dense(&self));
    AQ_STEP(fit(&self));
    AQ_STEP(keep_norms_and_biases(&self));
    AQ_STEP(tune(&self));
    AQ_STEP(round_and_measure(&self));
done:
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) aq_gram_sum_free(&self.grams[tap]);
    if (status != AQ_OK) aq_coded_block_free(coded);
    return status;
}
