#include "run/quantize_block.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/stop.h"
#include "quant/gram.h"

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
    double weights;  /* of the block */
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

/* Layers count from 0; the block's tuning draws as the layer past the last. */
static uint64_t seed_of(const bench *self, int layer) {
    uint64_t index = (uint64_t)self->work->index * (AQ_LINEAR_COUNT + 1) + (uint64_t)layer;
    return aq_random(self->settings->seed, AQ_STREAM_JOB, index);
}

static aq_status prepare(bench *self) {
    const aq_model_shape *shape = self->work->block->shape;
    double all = (double)self->work->inputs->sequences;
    AQ_TRY(aq_team_sum_number(self->team, self->work->inputs->backend, &all));
    size_t sequences = (size_t)all;
    AQ_REQUIRE(self->settings->validation < sequences, AQ_INVALID,
               "calibration.validation %zu leaves none of %zu sequences to fit",
               self->settings->validation, sequences);
    self->training = sequences - self->settings->validation;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        self->weights += (double)shape->linears[l].out * (double)shape->linears[l].in;
    return AQ_OK;
}

/* Whether a linear that reads this input is still to be fitted. */
static bool is_needed(const bench *self, aq_tap tap) {
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        if (self->work->block->shape->linears[l].tap == tap && !self->taken_up[l]) return true;
    return false;
}

static aq_status see_inputs(void *state, aq_tap tap, const aq_tensor *x) {
    bench *self = state;
    AQ_TRY(aq_stop_check());
    return is_needed(self, tap) ? aq_gram_sum_add(x, &self->grams[tap]) : AQ_OK;
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
        if (is_needed(self, (aq_tap)tap))
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

/* The error that the linear has with what its file will hold. */
static aq_status measure_layer(bench *self, int linear, const aq_tensor *gram) {
    aq_coded *coded = &self->coded->linears[linear];
    AQ_TRY(aq_coded_round(coded));
    return aq_layer_error(coded, &self->work->block->weights[linear], gram, self->team,
                          &self->coded->layer_errors[linear]);
}

static aq_status tell_layer(bench *self, int linear, const aq_fit_report *fit) {
    const aq_linear_shape *shape = &self->work->block->shape->linears[linear];
    const aq_layer_event event = {
        .block = self->work->index,
        .layer = shape->name,
        .error = self->coded->layer_errors[linear],
        .bits_per_weight = aq_scheme_bits(&self->settings->fit.scheme, shape->out, shape->in),
        .seconds = fit->seconds_total,
        .kmeans_error = fit->kmeans_error,
        .rounds = fit->rounds,
        .stop_round = fit->stop_round,
        .retries = fit->retries,
        .round_errors = fit->round_errors};
    charge(self, AQ_PHASE_KMEANS, fit->seconds_kmeans);
    charge(self, AQ_PHASE_CODEBOOKS, fit->seconds_codebooks);
    charge(self, AQ_PHASE_CODES, fit->seconds_codes);
    aq_progress_part_done(self->settings->progress, event.error);
    return leads(self) ? aq_metrics_layer(self->settings->metrics, &event) : AQ_OK;
}

static double share_of(const bench *self, int linear) {
    const aq_tensor *weight = &self->work->block->weights[linear];
    return fit_share * (double)aq_tensor_count(weight) / self->weights;
}

static aq_status keep_layer(bench *self, int linear) {
    const aq_block_keep *keep = self->settings->keep;
    double start = aq_seconds();
    if (keep) AQ_TRY(aq_block_keep_save_layer(keep, (aq_linear_kind)linear, self->coded));
    charge(self, AQ_PHASE_FILES, aq_seconds() - start);
    return AQ_OK;
}

static aq_status fit_linear(bench *self, int linear, const aq_tensor *gram) {
    const aq_tensor *weight = &self->work->block->weights[linear];
    const char *name = self->work->block->shape->linears[linear].name;
    AQ_TRY(begin_stage(self, AQ_STAGE_FIT, name, share_of(self, linear)));
    aq_fit_settings settings = self->settings->fit;
    settings.seed = seed_of(self, linear);
    settings.watch = &self->watch;
    aq_fit_report fit;
    aq_status status =
        aq_fit_layer(weight, gram, &settings, self->team, &self->coded->linears[linear], &fit);
    if (status == AQ_OK) status = measure_layer(self, linear, gram);
    if (status != AQ_OK) return aq_error_at(status, "%s", name);
    AQ_TRY(keep_layer(self, linear));
    return tell_layer(self, linear, &fit);
}

static void pass_over(bench *self, int linear) {
    const char *name = self->work->block->shape->linears[linear].name;
    aq_progress_part(self->settings->progress, name, share_of(self, linear));
    aq_progress_part_done(self->settings->progress, self->coded->layer_errors[linear]);
}

/* The linears that read the same input, then their Gram matrix is gone. */
static aq_status fit_tap(bench *self, aq_tap tap) {
    const aq_model_shape *shape = self->work->block->shape;
    int linear = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        if (shape->linears[l].tap == tap && self->taken_up[l]) pass_over(self, l);
    if (!is_needed(self, tap)) return AQ_OK;
    while (shape->linears[linear].tap != tap) linear++;
    aq_tensor gram;
    aq_status status =
        aq_gram_sum_finish(&self->grams[tap], self->team, shape->linears[linear].name, &gram);
    aq_gram_sum_free(&self->grams[tap]);
    for (; status == AQ_OK && linear < AQ_LINEAR_COUNT; linear++)
        if (shape->linears[linear].tap == tap && !self->taken_up[linear])
            status = fit_linear(self, linear, &gram);
    aq_tensor_free(&gram);
    return status;
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
    settings.seed = seed_of(self, AQ_LINEAR_COUNT);
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
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) AQ_STEP(fit_tap(&self, (aq_tap)tap));
    AQ_STEP(keep_norms_and_biases(&self));
    AQ_STEP(tune(&self));
    AQ_STEP(round_and_measure(&self));
done:
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) aq_gram_sum_free(&self.grams[tap]);
    if (status != AQ_OK) aq_coded_block_free(coded);
    return status;
}
