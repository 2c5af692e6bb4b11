#include "quant/fit_layer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "quant/code_search.h"
#include "quant/kmeans.h"
#include "quant/noise.h"

#include <float.h>
#include <math.h>

enum { MAX_RETRIES = 3 };

/* ---- errors ---- */

/* What it takes to measure coded forms of one weight: each member of a team measures its own rows.
 */
typedef struct error_meter {
    const aq_team *team;
    const aq_tensor *gram;
    aq_rows own;                   /* row groups */
    aq_tensor weight;              /* view of their rows */
    aq_tensor difference, product; /* of their size, overwritten by every measurement */
    double energy;                 /* tr(W H W') of all rows */
} error_meter;

/* *energy = tr(x H x'), x the rows of all members. */
static aq_status measure_energy(error_meter *meter, const aq_tensor *x, double *energy) {
    const aq_product plain = {.alpha = 1, .precision = AQ_PRECISE};
    AQ_TRY(aq_matmul(x, meter->gram, &plain, &meter->product));
    AQ_TRY(aq_dot(x, &meter->product, energy));
    return aq_team_sum_number(meter->team, x->home, energy);
}

/* Rounding may leave a sum of squares slightly below 0. The maths is in float32, so an error past
 * its range counts as infinite. */
static double relative_error(double loss, double energy) {
    if (loss <= 0) return 0;
    double error = loss / energy;
    return energy > 0 && error <= FLT_MAX ? error : HUGE_VAL;
}

static aq_status measure_error(error_meter *meter, const aq_coded *coded, double *error) {
    const aq_coded part = aq_coded_rows(coded, meter->own.first, meter->own.count);
    double loss;
    AQ_TRY(aq_coded_difference(&part, &meter->weight, &meter->difference));
    AQ_TRY(measure_energy(meter, &meter->difference, &loss));
    *error = relative_error(loss, meter->energy);
    return AQ_OK;
}

/* Everything but the two tensors, and the energy. */
static error_meter meter_of(const aq_coded *coded, const aq_tensor *weight, const aq_tensor *gram,
                            const aq_team *team) {
    size_t out_group = (size_t)coded->scheme.out_group;
    error_meter meter = {.team = team, .gram = gram};
    meter.own = aq_team_rows(team, coded->codes.shape[0]);
    meter.weight = aq_tensor_rows(weight, meter.own.first * out_group, meter.own.count * out_group);
    return meter;
}

aq_status aq_layer_error(const aq_coded *coded, const aq_tensor *weight, const aq_tensor *gram,
                         const aq_team *team, double *error) {
    error_meter meter = meter_of(coded, weight, gram, team);
    aq_shape shape = AQ_DIMS(meter.weight.shape[0], meter.weight.shape[1]);
    aq_status status;
    AQ_STEP(aq_tensor_new(weight->home, AQ_F32, shape, &meter.difference));
    AQ_STEP(aq_tensor_new(weight->home, AQ_F32, shape, &meter.product));
    AQ_STEP(measure_energy(&meter, &meter.weight, &meter.energy));
    AQ_STEP(measure_error(&meter, coded, error));
done:
    aq_tensor_free(&meter.difference);
    aq_tensor_free(&meter.product);
    return status;
}

int aq_fit_stop_round(const aq_fit_report *report, double tolerance) {
    double before = report->noisy ? report->round_errors[report->noisy - 1] : report->kmeans_error;
    for (int i = report->noisy; i < report->rounds && tolerance > 0; i++) {
        double gain = before - report->round_errors[i];
        if (gain < tolerance * before) return i + 1;
        before = report->round_errors[i];
    }
    return 0;
}

/* ---- checks ---- */

static aq_status check_settings(const aq_fit_settings *settings) {
    AQ_REQUIRE(settings->beam >= 1 && settings->beam <= AQ_MAX_BEAM, AQ_INVALID,
               "beam: expected 1 to %d, found %d", AQ_MAX_BEAM, settings->beam);
    AQ_TRY(aq_search_kind_check(settings->search, &settings->scheme, settings->beam));
    AQ_REQUIRE(settings->rounds >= 0 && settings->rounds <= AQ_MAX_ROUNDS, AQ_INVALID,
               "rounds: expected 0 to %d, found %d", AQ_MAX_ROUNDS, settings->rounds);
    AQ_REQUIRE(settings->kmeans_iterations >= 0, AQ_INVALID,
               "kmeans_iterations: expected 0 or more, found %d", settings->kmeans_iterations);
    AQ_REQUIRE(settings->kmeans_starts >= 1, AQ_INVALID,
               "kmeans_starts: expected 1 or more, found %d", settings->kmeans_starts);
    AQ_REQUIRE(settings->adam_steps >= 0, AQ_INVALID, "adam_steps: expected 0 or more, found %d",
               settings->adam_steps);
    AQ_REQUIRE(settings->tolerance >= 0 && settings->tolerance <= 1, AQ_INVALID,
               "tolerance: expected 0 to 1, found %g", settings->tolerance);
    AQ_REQUIRE(settings->noise >= 0 && settings->noise <= 1, AQ_INVALID,
               "noise: expected 0 to 1, found %g", settings->noise);
    AQ_REQUIRE(settings->learning_rate > 0 && settings->learning_rate <= FLT_MAX, AQ_INVALID,
               "learning_rate: expected a positive number, found %g", settings->learning_rate);
    return AQ_OK;
}

static aq_status check_finite(const aq_tensor *values, const char *what) {
    size_t unfit;
    AQ_TRY(aq_count_nonfinite(values, &unfit));
    AQ_REQUIRE(unfit == 0, AQ_NUMERIC, "%s: %zu of %zu values are NaN or infinite", what, unfit,
               aq_tensor_count(values));
    return AQ_OK;
}

static aq_status check_layer(const aq_tensor *weight, const aq_tensor *gram,
                             const aq_fit_settings *settings, const aq_team *team) {
    AQ_REQUIRE(weight->ndim == 2 && gram->ndim == 2 && gram->shape[0] == weight->shape[1] &&
                   gram->shape[1] == weight->shape[1],
               AQ_SHAPE, "a weight of %zu x %zu does not go with a Gram matrix of %zu x %zu",
               weight->shape[0], weight->shape[1], gram->shape[0], gram->shape[1]);
    AQ_TRY(check_settings(settings));
    AQ_TRY(aq_scheme_check(&settings->scheme, weight->shape[0], weight->shape[1]));
    size_t rows = weight->shape[0] / (size_t)settings->scheme.out_group;
    AQ_REQUIRE(rows >= (size_t)team->size, AQ_INVALID,
               "a team of %d ranks cannot share a weight of %zu row groups", team->size, rows);
    AQ_TRY(check_finite(weight, "weight"));
    return check_finite(gram, "Gram matrix");
}

/* ---- a fit ---- */

typedef struct layer_fit {
    const aq_tensor *weight;
    const aq_fit_settings *settings;
    const aq_team *team;
    aq_coded *coded;      /* being worked on */
    aq_coded start, best; /* as the round found it; with the least error so far */
    double least_error;   /* best's */
    int best_start;       /* of k-means */
    aq_codebook_solver solver;
    aq_code_search search;
    error_meter meter; /* its tensors are the solver's */
    aq_fit_report *report;
} layer_fit;

static aq_status fit_new(const aq_tensor *weight, const aq_tensor *gram, layer_fit *fit) {
    const aq_scheme *scheme = &fit->settings->scheme;
    size_t out = weight->shape[0], in = weight->shape[1];
    AQ_TRY(aq_coded_new(weight->home, scheme, out, in, fit->coded));
    AQ_TRY(aq_coded_new(weight->home, scheme, out, in, &fit->start));
    AQ_TRY(aq_coded_new(weight->home, scheme, out, in, &fit->best));
    AQ_TRY(aq_codebook_solver_new(fit->settings->solver, fit->coded, weight, gram, fit->team,
                                  &fit->solver));
    fit->meter = meter_of(fit->coded, weight, gram, fit->team);
    const aq_coded part = aq_coded_rows(fit->coded, fit->meter.own.first, fit->meter.own.count);
    AQ_TRY(aq_code_search_new(&part, weight, gram, fit->settings->beam, &fit->search));
    fit->search.kind = fit->settings->search;
    fit->search.exact = fit->settings->exact_codes;
    fit->solver.learning_rate = (float)fit->settings->learning_rate;
    fit->meter.difference = fit->solver.difference;
    fit->meter.product = fit->solver.gradient;
    return measure_energy(&fit->meter, &fit->meter.weight, &fit->meter.energy);
}

static void fit_free(layer_fit *fit) {
    aq_coded_free(&fit->start);
    aq_coded_free(&fit->best);
    aq_codebook_solver_free(&fit->solver);
    aq_code_search_free(&fit->search);
}

static uint64_t start_seed(const layer_fit *fit, int start) {
    return aq_random(fit->settings->seed, AQ_STREAM_KMEANS_START, (uint64_t)start);
}

static uint64_t round_seed(const layer_fit *fit, int round) {
    return aq_random(fit->settings->seed, AQ_STREAM_GROUP_ORDER, (uint64_t)round);
}

/* Waits for the phase to end and adds its time; `started` becomes the start of the next phase. */
static aq_status end_phase(const layer_fit *fit, double *started, double *seconds) {
    AQ_TRY(aq_finish(fit->coded->codes.home));
    double now = aq_seconds();
    *seconds += now - *started;
    *started = now;
    return AQ_OK;
}

static aq_status keep_if_best(layer_fit *fit, double error) {
    if (error >= fit->least_error) return AQ_OK;
    fit->least_error = error;
    return aq_coded_copy(fit->coded, &fit->best);
}

/* Iterations of each start and codebook before the best start goes on alone. */
static int trial_iterations(const aq_fit_settings *settings) {
    int most = settings->kmeans_iterations;
    return settings->kmeans_starts > 1 && AQ_TRIAL_ITERATIONS < most ? AQ_TRIAL_ITERATIONS : most;
}

int aq_fit_kmeans_iterations(const aq_fit_settings *settings) {
    int trial = trial_iterations(settings);
    return settings->scheme.codebooks *
           (settings->kmeans_starts * trial + settings->kmeans_iterations - trial);
}

static aq_kmeans kmeans_of(const layer_fit *fit, int start, const aq_team *team) {
    const aq_fit_settings *settings = fit->settings;
    return (aq_kmeans){.iterations = trial_iterations(settings),
                       .seed = start_seed(fit, start),
                       .done = start * settings->scheme.codebooks * trial_iterations(settings),
                       .total = aq_fit_kmeans_iterations(settings),
                       .exact = settings->exact_kmeans,
                       .team = team,
                       .watch = settings->watch};
}

/* `team`: who shares the start's rows. */
static aq_status try_kmeans(layer_fit *fit, int start, const aq_team *team) {
    const aq_kmeans how = kmeans_of(fit, start, team);
    return aq_residual_kmeans(fit->weight, &how, fit->coded);
}

/* The best start's remaining iterations. */
static aq_status finish_kmeans(layer_fit *fit) {
    aq_kmeans how = kmeans_of(fit, fit->best_start, fit->team);
    how.first = how.iterations;
    how.iterations = fit->settings->kmeans_iterations;
    how.done = fit->settings->kmeans_starts * fit->settings->scheme.codebooks * how.first;
    AQ_TRY(aq_coded_copy(&fit->best, fit->coded));
    return aq_residual_kmeans(fit->weight, &how, fit->coded);
}

static aq_status judge_start(layer_fit *fit, int start) {
    double error;
    AQ_TRY(measure_error(&fit->meter, fit->coded, &error));
    AQ_REQUIRE(isfinite(error), AQ_NUMERIC, "the error after k-means is NaN or infinite");
    if (error < fit->least_error) fit->best_start = start;
    return keep_if_best(fit, error);
}

static aq_status share_coded(const aq_team *team, int root, aq_coded *coded) {
    AQ_TRY(aq_team_share(team, root, &coded->codes));
    AQ_TRY(aq_team_share(team, root, &coded->codebooks));
    return aq_team_share(team, root, &coded->scales);
}

/* Each member makes one of the starts from `first` on; then all judge each of them, in their order.
 */
static aq_status deal_starts(layer_fit *fit, int first) {
    AQ_TRY(try_kmeans(fit, first + fit->team->rank, aq_team_alone()));
    AQ_TRY(aq_coded_copy(fit->coded, &fit->start));
    for (int member = 0; member < fit->team->size; member++) {
        AQ_TRY(aq_coded_copy(&fit->start, fit->coded));
        AQ_TRY(share_coded(fit->team, member, fit->coded));
        AQ_TRY(judge_start(fit, first + member));
    }
    return AQ_OK;
}

static aq_status share_start(layer_fit *fit, int start) {
    AQ_TRY(try_kmeans(fit, start, fit->team));
    return judge_start(fit, start);
}

/* Members that make starts of their own need no word between them; where the starts cannot be dealt
 * out evenly, members share every start's rows and meet in every iteration. */
static aq_status try_starts(layer_fit *fit) {
    int starts = fit->settings->kmeans_starts, size = fit->team->size;
    bool dealt = starts % size == 0;
    for (int start = 0; start < starts; start += dealt ? size : 1)
        AQ_TRY(dealt ? deal_starts(fit, start) : share_start(fit, start));
    return AQ_OK;
}

/* k-means sees distances, not the Gram matrix: equally good clusterings differ by several percent
 * in error, and most of that is still there when the rounds end. Which of them is better shows
 * after a few iterations (successive halving: Jamieson and Talwalkar 2016). */
static aq_status start_with_kmeans(layer_fit *fit) {
    double started = aq_seconds();
    fit->least_error = HUGE_VAL;
    AQ_TRY(try_starts(fit));
    if (trial_iterations(fit->settings) < fit->settings->kmeans_iterations) {
        AQ_TRY(finish_kmeans(fit));
        AQ_TRY(judge_start(fit, fit->best_start));
    }
    AQ_TRY(aq_coded_copy(&fit->best, fit->coded));
    fit->report->kmeans_error = fit->least_error;
    return end_phase(fit, &started, &fit->report->seconds_kmeans);
}

/* All members draw the same noise. */
static aq_status search_codes(layer_fit *fit, int round) {
    const aq_fit_settings *settings = fit->settings;
    const aq_code_pass pass = {
        .seed = round_seed(fit, round), .team = fit->team, .watch = settings->watch};
    double share = aq_noise_share(settings->noise, round, settings->rounds);
    float *kept;
    if (share == 0) return aq_code_search_run(&fit->search, &pass, fit->coded);
    AQ_TRY(aq_noise_add(share, pass.seed, &fit->coded->codebooks, &kept));
    aq_status status = aq_code_search_run(&fit->search, &pass, fit->coded);
    aq_status removed = aq_noise_remove(kept, &fit->coded->codebooks);
    return status == AQ_OK ? removed : status;
}

static aq_status try_round(layer_fit *fit, int round, double *error) {
    const aq_fit_settings *settings = fit->settings;
    double started = aq_seconds();
    AQ_TRY(aq_codebook_solver_run(&fit->solver, settings->adam_steps, settings->watch, fit->coded));
    AQ_TRY(end_phase(fit, &started, &fit->report->seconds_codebooks));
    AQ_TRY(search_codes(fit, round));
    AQ_TRY(end_phase(fit, &started, &fit->report->seconds_codes));
    return measure_error(&fit->meter, fit->coded, error);
}

static aq_status retry_slower(layer_fit *fit, int round) {
    AQ_REQUIRE(fit->settings->solver == AQ_SOLVER_ADAM, AQ_NUMERIC,
               "round %d: the loss is NaN or infinite", round);
    AQ_REQUIRE(fit->report->retries < MAX_RETRIES, AQ_NUMERIC,
               "round %d: the loss is NaN or infinite, at the learning rate %g too", round,
               (double)fit->solver.learning_rate);
    fit->report->retries++;
    fit->solver.learning_rate /= 10;
    if (fit->team->rank == 0)
        aq_log_warn("round %d: the loss is NaN or infinite; trying again with learning rate %g",
                    round, (double)fit->solver.learning_rate);
    AQ_TRY(aq_codebook_solver_reset(&fit->solver));
    return aq_coded_copy(&fit->start, fit->coded);
}

static aq_status run_round(layer_fit *fit) {
    aq_fit_report *report = fit->report;
    int round = report->rounds + 1;
    double error, codebooks = report->seconds_codebooks, codes = report->seconds_codes;
    AQ_TRY(aq_coded_copy(fit->coded, &fit->start));
    AQ_TRY(try_round(fit, round, &error));
    while (!isfinite(error)) {
        AQ_TRY(retry_slower(fit, round));
        AQ_TRY(try_round(fit, round, &error));
    }
    report->round_codebooks[report->rounds] = report->seconds_codebooks - codebooks;
    report->round_codes[report->rounds] = report->seconds_codes - codes;
    report->round_errors[report->rounds++] = error;
    report->stop_round = aq_fit_stop_round(report, fit->settings->tolerance);
    return keep_if_best(fit, error);
}

static bool is_done(const layer_fit *fit) {
    return fit->report->rounds >= fit->settings->rounds || fit->report->stop_round > 0 ||
           fit->least_error == 0;
}

aq_status aq_fit_layer(const aq_tensor *weight, const aq_tensor *gram,
                       const aq_fit_settings *settings, const aq_team *team, aq_coded *coded,
                       aq_fit_report *report) {
    double started = aq_seconds();
    layer_fit fit = {
        .weight = weight, .settings = settings, .team = team, .coded = coded, .report = report};
    *coded = (aq_coded){0};
    *report = (aq_fit_report){0};
    if (settings->noise > 0) report->noisy = aq_noise_rounds(settings->rounds);
    aq_status status;
    AQ_STEP(check_layer(weight, gram, settings, team));
    AQ_STEP(fit_new(weight, gram, &fit));
    AQ_STEP(start_with_kmeans(&fit));
    while (!is_done(&fit)) AQ_STEP(run_round(&fit));
    AQ_STEP(aq_coded_copy(&fit.best, coded));
    report->error = fit.least_error;
    AQ_STEP(end_phase(&fit, &started, &report->seconds_total));
done:
    fit_free(&fit);
    if (status != AQ_OK) aq_coded_free(coded);
    return status;
}
