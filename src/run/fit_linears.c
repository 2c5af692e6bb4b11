#include "run/fit_linears.h"

#include "base/clock.h"
#include "base/random.h"
#include "base/stop.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef struct bench bench;

/* A linear that is to be fitted, maybe beside others. */
typedef struct piece {
    bench *bench;
    int number, linear;
    aq_watch watch;
    aq_fit_report report;
    aq_coded coded; /* until it is taken over */
} piece;

struct bench {
    const aq_linear_fits *of;
    const aq_model_shape *shape;
    double weights;                /* of the block */
    aq_tensor means[AQ_TAP_COUNT]; /* Gram matrices of the pieces at work */
    int count;                     /* of these pieces */
    _Atomic int at_hand;           /* the piece whose steps are shown */
    piece pieces[AQ_LINEAR_COUNT];
};

bool aq_tap_is_needed(const aq_model_shape *shape, const bool *taken_up, aq_tap tap) {
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        if (shape->linears[l].tap == tap && !taken_up[l]) return true;
    return false;
}

uint64_t aq_layer_seed(const aq_quantize_settings *settings, size_t block, int layer) {
    uint64_t index = (uint64_t)block * (AQ_LINEAR_COUNT + 1) + (uint64_t)layer;
    return aq_random(settings->seed, AQ_STREAM_JOB, index);
}

/* ---- one linear ---- */

static void begin_part(const bench *self, int linear) {
    const aq_tensor *weight = &self->of->work->block->weights[linear];
    aq_progress_part(self->of->settings->progress, self->shape->linears[linear].name,
                     self->of->share * (double)aq_tensor_count(weight) / self->weights);
}

static void end_part(const bench *self, int linear) {
    aq_progress_part_done(self->of->settings->progress, self->of->coded->layer_errors[linear]);
}

static aq_status begin_fit(void *state, int number) {
    bench *self = state;
    int linear = self->pieces[number].linear;
    const aq_stage_event event = {.block = self->of->work->index,
                                  .stage = AQ_STAGE_FIT,
                                  .layer = self->shape->linears[linear].name};
    self->at_hand = number;
    begin_part(self, linear);
    return aq_metrics_stage(self->of->settings->metrics, &event);
}

/* The error is that which the linear has with what its file will hold. */
static aq_status fit_linear(piece *made, const aq_tensor *weight, const aq_tensor *gram) {
    const aq_linear_fits *of = made->bench->of;
    aq_fit_settings settings = of->settings->fit;
    settings.seed = aq_layer_seed(of->settings, of->work->index, made->linear);
    settings.watch = &made->watch;
    AQ_TRY(aq_fit_layer(weight, gram, &settings, of->team, &made->coded, &made->report));
    AQ_TRY(aq_coded_round(&made->coded));
    AQ_TRY(aq_layer_error(&made->coded, weight, gram, of->team,
                          &of->coded->layer_errors[made->linear]));
    return aq_finish(weight->home);
}

/* In any lane. */
static aq_status fit_piece(void *state, int number, aq_backend *backend) {
    bench *self = state;
    piece *made = &self->pieces[number];
    const aq_linear_shape *linear = &self->shape->linears[made->linear];
    const aq_tensor *dense = &self->of->work->block->weights[made->linear];
    aq_tensor weight = aq_tensor_seen_from(backend, dense);
    aq_tensor gram = aq_tensor_seen_from(backend, &self->means[linear->tap]);
    aq_status status = fit_linear(made, &weight, &gram);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s", linear->name);
}

/* From another backend's memory into that of `home`. */
static aq_status copy_over(const aq_coded *made, aq_backend *home, aq_coded *coded) {
    const aq_coded seen = {.scheme = made->scheme,
                           .codes = aq_tensor_seen_from(home, &made->codes),
                           .codebooks = aq_tensor_seen_from(home, &made->codebooks),
                           .scales = aq_tensor_seen_from(home, &made->scales)};
    AQ_TRY(aq_coded_new(home, &made->scheme, aq_coded_out(made), aq_coded_in(made), coded));
    AQ_TRY(aq_coded_copy(&seen, coded));
    return aq_finish(home);
}

static aq_status take_over(bench *self, piece *made) {
    aq_backend *home = self->of->work->inputs->backend;
    aq_coded *coded = &self->of->coded->linears[made->linear];
    if (made->coded.codes.home != home) {
        AQ_TRY(copy_over(&made->coded, home, coded));
        aq_coded_free(&made->coded);
    } else {
        *coded = made->coded;
        made->coded = (aq_coded){0};
    }
    return AQ_OK;
}

static aq_status keep_layer(const aq_linear_fits *of, int linear) {
    const aq_block_keep *keep = of->settings->keep;
    double start = aq_seconds();
    if (keep) AQ_TRY(aq_block_keep_save_layer(keep, (aq_linear_kind)linear, of->coded));
    of->report->seconds.seconds[AQ_PHASE_FILES] += aq_seconds() - start;
    return AQ_OK;
}

/* What all members of a team know one tells. */
static aq_status tell_layer(const bench *self, const piece *made) {
    const aq_linear_shape *linear = &self->shape->linears[made->linear];
    const aq_fit_report *fit = &made->report;
    const aq_layer_event event = {
        .block = self->of->work->index,
        .layer = linear->name,
        .error = self->of->coded->layer_errors[made->linear],
        .bits_per_weight = aq_scheme_bits(&self->of->settings->fit.scheme, linear->out, linear->in),
        .seconds = fit->seconds_total,
        .kmeans_error = fit->kmeans_error,
        .rounds = fit->rounds,
        .stop_round = fit->stop_round,
        .retries = fit->retries,
        .round_errors = fit->round_errors};
    if (self->of->team->rank > 0) return AQ_OK;
    return aq_metrics_layer(self->of->settings->metrics, &event);
}

static aq_status end_fit(void *state, int number) {
    bench *self = state;
    piece *made = &self->pieces[number];
    AQ_TRY(take_over(self, made));
    AQ_TRY(keep_layer(self->of, made->linear));
    end_part(self, made->linear);
    return tell_layer(self, made);
}

/* Only the linear at hand shows its steps. */
static aq_status watch_step(const aq_watch *watch, const char *phase, int done, int total) {
    const piece *made = watch->state;
    if (made->number == made->bench->at_hand)
        aq_progress_step(made->bench->of->settings->progress, phase, done, total);
    return aq_stop_check();
}

/* ---- all of them ---- */

static void add_piece(bench *self, int linear) {
    piece *added = &self->pieces[self->count];
    *added = (piece){.bench = self, .number = self->count++, .linear = linear};
    added->watch = (aq_watch){.step = watch_step, .state = added};
}

/* Phases of fits that went on at the same time share what these took together. */
static void charge_fits(const bench *self, double seconds) {
    double *phases = self->of->report->seconds.seconds, sum = 0;
    for (int i = 0; i < self->count; i++) sum += self->pieces[i].report.seconds_total;
    double share = sum > seconds ? seconds / sum : 1;
    for (int i = 0; i < self->count; i++) {
        const aq_fit_report *fit = &self->pieces[i].report;
        phases[AQ_PHASE_KMEANS] += share * fit->seconds_kmeans;
        phases[AQ_PHASE_CODEBOOKS] += share * fit->seconds_codebooks;
        phases[AQ_PHASE_CODES] += share * fit->seconds_codes;
    }
}

static aq_status run_pieces(bench *self) {
    const aq_lanes alone = {.main = self->of->work->inputs->backend};
    const aq_lanes *lanes = self->of->settings->lanes ? self->of->settings->lanes : &alone;
    const aq_pieces pieces = {
        .count = self->count, .begin = begin_fit, .work = fit_piece, .end = end_fit, .state = self};
    const double *files = &self->of->report->seconds.seconds[AQ_PHASE_FILES];
    double start = aq_seconds(), before = *files;
    AQ_TRY(aq_lanes_run(lanes, &pieces));
    charge_fits(self, aq_seconds() - start - (*files - before));
    return AQ_OK;
}

/* The Gram matrix of a tap, and the linears that wait for it. */
static aq_status finish_gram(bench *self, aq_tap tap) {
    const aq_linear_fits *of = self->of;
    int first = 0;
    while (self->shape->linears[first].tap != tap) first++;
    for (int l = first; l < AQ_LINEAR_COUNT; l++) {
        if (self->shape->linears[l].tap != tap) continue;
        if (!of->taken_up[l]) add_piece(self, l);
        if (of->taken_up[l]) begin_part(self, l), end_part(self, l);
    }
    if (!aq_tap_is_needed(self->shape, of->taken_up, tap)) return AQ_OK;
    aq_status status = aq_gram_sum_finish(&of->grams[tap], of->team,
                                          self->shape->linears[first].name, &self->means[tap]);
    aq_gram_sum_free(&of->grams[tap]);
    return status;
}

/* The linears that read the inputs `first` to `last`; then these Gram matrices are gone. */
static aq_status fit_taps(bench *self, int first, int last) {
    aq_status status;
    self->count = 0;
    for (int tap = first; tap <= last; tap++) AQ_STEP(finish_gram(self, (aq_tap)tap));
    AQ_STEP(run_pieces(self));
done:
    for (int i = 0; i < self->count; i++) aq_coded_free(&self->pieces[i].coded);
    for (int tap = first; tap <= last; tap++) aq_tensor_free(&self->means[tap]);
    return status;
}

static aq_status fit_all(bench *self) {
    const aq_lanes *lanes = self->of->settings->lanes;
    if (lanes && lanes->count > 0) return fit_taps(self, 0, AQ_TAP_COUNT - 1);
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) AQ_TRY(fit_taps(self, tap, tap));
    return AQ_OK;
}

aq_status aq_fit_linears(const aq_linear_fits *fits) {
    bench *self = calloc(1, sizeof *self);
    AQ_REQUIRE(self, AQ_MEMORY, "out of memory");
    self->of = fits;
    self->shape = fits->work->block->shape;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        self->weights += (double)aq_tensor_count(&fits->work->block->weights[l]);
    aq_status status = fit_all(self);
    free(self);
    return status;
}
