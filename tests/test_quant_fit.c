/* The whole fit of a layer: errors, stopping, bad numbers, determinism. */
#include "layer_problem.h"
#include "suite.h"

#include "quant/fit_layer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT = 48, IN = 64 };

static aq_fit_settings settings_of(aq_scheme scheme) {
    return (aq_fit_settings){.scheme = scheme,
                             .beam = 1,
                             .kmeans_iterations = 10,
                             .kmeans_starts = 1,
                             .rounds = 3,
                             .tolerance = 0,
                             .adam_steps = 20,
                             .learning_rate = 1e-3,
                             .seed = 1};
}

static const aq_scheme usual = {2, 4, 8, 1};

static aq_test_layer usual_layer(void) {
    return aq_test_layer_new(OUT, IN, 200, 1);
}

static aq_fit_report fit(const aq_test_layer *layer, const aq_fit_settings *settings,
                         aq_coded *coded) {
    aq_fit_report report;
    AQ_CHECK(aq_fit_layer(&layer->weight, &layer->gram, settings, aq_team_alone(), coded, &report));
    return report;
}

static aq_fit_report fit_and_free(const aq_test_layer *layer, const aq_fit_settings *settings) {
    aq_coded coded;
    aq_fit_report report = fit(layer, settings, &coded);
    aq_coded_free(&coded);
    return report;
}

static void expect_failure(const aq_test_layer *layer, const aq_fit_settings *settings,
                           aq_status code, const char *part) {
    aq_coded coded;
    aq_fit_report report;
    AQ_CHECK_FAILS(
        aq_fit_layer(&layer->weight, &layer->gram, settings, aq_team_alone(), &coded, &report),
        code, part);
    CU_ASSERT(!coded.codes.data && !coded.codebooks.data && !coded.scales.data);
}

/* ---- errors ---- */

static void rounds_lower_the_error_of_every_scheme(void) {
    static const aq_scheme schemes[] = {{1, 4, 8, 1},  {2, 4, 8, 1}, {3, 3, 8, 1}, {2, 4, 4, 1},
                                        {2, 3, 16, 1}, {2, 4, 8, 2}, {1, 1, 8, 1}, {1, 6, 4, 4}};
    aq_test_layer layer = usual_layer();
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        aq_fit_settings settings = settings_of(schemes[i]);
        aq_fit_report report = fit_and_free(&layer, &settings);
        CU_ASSERT_EQUAL(report.rounds, 3);
        CU_ASSERT(report.round_errors[0] < 0.9 * report.kmeans_error);
        CU_ASSERT(report.error < report.round_errors[0]);
    }
    aq_test_layer_free(&layer);
}

static double naive_error(const aq_test_layer *layer, const aq_coded *coded) {
    aq_tensor zeros;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F32, AQ_DIMS(OUT, IN), &zeros));
    aq_test_layer origin = {.weight = zeros, .gram = layer->gram};
    aq_coded nothing = *coded;
    float scales[OUT] = {0};
    nothing.scales = aq_test_tensor(AQ_F32, AQ_DIMS(coded->scales.shape[0]), scales);
    double loss = aq_test_loss(layer, coded), energy = aq_test_loss(layer, &nothing);
    CU_ASSERT_EQUAL(aq_test_loss(&origin, &nothing), 0);
    aq_tensor_free(&zeros), aq_tensor_free(&nothing.scales);
    return loss / energy;
}

static void the_report_tells_the_error_of_the_result(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    aq_coded coded;
    aq_fit_report report = fit(&layer, &settings, &coded);
    double expected = naive_error(&layer, &coded), measured;
    CU_ASSERT_DOUBLE_EQUAL(report.error, expected, 1e-4 * expected);
    AQ_CHECK(aq_layer_error(&coded, &layer.weight, &layer.gram, aq_team_alone(), &measured));
    CU_ASSERT_DOUBLE_EQUAL(measured, report.error, 1e-9);
    CU_ASSERT(report.seconds_total >=
              report.seconds_kmeans + report.seconds_codebooks + report.seconds_codes);
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

static void a_wider_beam_fits_better(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    double narrow = fit_and_free(&layer, &settings).error;
    settings.beam = 4;
    CU_ASSERT(fit_and_free(&layer, &settings).error < narrow);
    aq_test_layer_free(&layer);
}

static void more_starts_begin_lower(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    double one = fit_and_free(&layer, &settings).kmeans_error;
    settings.kmeans_starts = 8;
    CU_ASSERT(fit_and_free(&layer, &settings).kmeans_error < one);
    aq_test_layer_free(&layer);
}

static aq_status keep_total(const aq_watch *watch, const char *phase, int done, int total) {
    int *seen = watch->state; /* calls; last done; total */
    if (strcmp(phase, "k-means") != 0) return AQ_OK;
    CU_ASSERT(done > seen[1] && done <= total);
    seen[0]++, seen[1] = done, seen[2] = total;
    return AQ_OK;
}

static void the_best_start_alone_goes_on(void) {
    enum { MORE = 3, SOME = AQ_TRIAL_ITERATIONS + MORE };
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    int seen[3] = {0};
    const aq_watch watch = {.step = keep_total, .state = seen};
    settings.watch = &watch, settings.kmeans_starts = 3, settings.kmeans_iterations = SOME;
    fit_and_free(&layer, &settings);
    CU_ASSERT_EQUAL(seen[2], 2 * (3 * AQ_TRIAL_ITERATIONS + MORE));
    CU_ASSERT_EQUAL(aq_fit_kmeans_iterations(&settings), seen[2]);
    CU_ASSERT(seen[0] <= seen[2] && seen[1] > 2 * 3 * AQ_TRIAL_ITERATIONS);
    settings.kmeans_starts = 1;
    CU_ASSERT_EQUAL(aq_fit_kmeans_iterations(&settings), 2 * SOME);
    aq_test_layer_free(&layer);
}

static void noise_finds_lower_errors(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    settings.rounds = 30;
    double plain = fit_and_free(&layer, &settings).error;
    settings.noise = 0.05, settings.tolerance = 0.9;
    aq_fit_report report = fit_and_free(&layer, &settings);
    CU_ASSERT(report.error < plain);
    CU_ASSERT(report.noisy == 24 && report.stop_round > 24); /* the rule waits for the noise */
    aq_test_layer_free(&layer);
}

static void a_singular_gram_matrix_is_fitted(void) {
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 5, 1);
    aq_fit_settings settings = settings_of(usual);
    aq_fit_report report = fit_and_free(&layer, &settings);
    CU_ASSERT(report.error < 0.5 * report.kmeans_error);
    aq_test_layer_free(&layer);
}

static void zero_rows_stay_zero(void) {
    aq_test_layer layer = usual_layer();
    aq_tensor rows = aq_tensor_rows(&layer.weight, 7, 2);
    AQ_CHECK(aq_fill(0, &rows));
    aq_fit_settings settings = settings_of(usual);
    aq_coded coded;
    fit(&layer, &settings, &coded);
    AQ_CHECK(aq_coded_round(&coded));
    float *decoded = aq_test_decode(&coded);
    for (size_t i = 7 * IN; i < 9 * IN; i++) CU_ASSERT_EQUAL(decoded[i], 0);
    free(decoded);
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

static void nothing_to_fit_needs_no_round(void) {
    aq_test_layer layer = usual_layer();
    AQ_CHECK(aq_fill(0, &layer.weight));
    aq_fit_settings settings = settings_of(usual);
    aq_fit_report report = fit_and_free(&layer, &settings);
    CU_ASSERT(report.rounds == 0 && report.error == 0 && report.kmeans_error == 0);
    aq_test_layer_free(&layer);
}

static void thousands_of_entries_work(void) {
    aq_test_layer layer = aq_test_layer_new(136, 256, 300, 1);
    aq_fit_settings settings = settings_of((aq_scheme){1, 12, 8, 1});
    settings.rounds = 1, settings.adam_steps = 3, settings.kmeans_iterations = 2;
    aq_fit_report report = fit_and_free(&layer, &settings);
    CU_ASSERT(report.error < 0.05);
    aq_test_layer_free(&layer);
}

/* ---- stopping ---- */

static void the_rule_names_the_first_round_that_gains_too_little(void) {
    aq_fit_report report = {.kmeans_error = 1, .round_errors = {0.5, 0.4, 0.398, 0.3}, .rounds = 4};
    CU_ASSERT_EQUAL(aq_fit_stop_round(&report, 0.01), 3);
    CU_ASSERT_EQUAL(aq_fit_stop_round(&report, 0.3), 2);
    CU_ASSERT_EQUAL(aq_fit_stop_round(&report, 0.6), 1);
    CU_ASSERT_EQUAL(aq_fit_stop_round(&report, 0.001), 0);
    CU_ASSERT_EQUAL(aq_fit_stop_round(&report, 0), 0);
    report.round_errors[1] = 0.6;
    CU_ASSERT_EQUAL(aq_fit_stop_round(&report, 0.001), 2);
}

static void a_tolerance_stops_the_rounds(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    settings.rounds = 200, settings.tolerance = 0.02;
    aq_fit_report report = fit_and_free(&layer, &settings);
    CU_ASSERT(report.rounds > 1 && report.rounds < 200);
    CU_ASSERT_EQUAL(report.stop_round, report.rounds);
    CU_ASSERT_EQUAL(aq_fit_stop_round(&report, 0.02), report.stop_round);
    settings.rounds = report.rounds - 1;
    report = fit_and_free(&layer, &settings);
    CU_ASSERT(report.stop_round == 0 && report.rounds == settings.rounds);
    aq_test_layer_free(&layer);
}

static void without_tolerance_all_rounds_run_and_the_best_counts(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    settings.rounds = 12, settings.learning_rate = 100, settings.solver = AQ_SOLVER_ADAM;
    aq_coded coded;
    aq_fit_report report = fit(&layer, &settings, &coded);
    CU_ASSERT(report.rounds == 12 && report.stop_round == 0);
    double least = report.kmeans_error, last = report.round_errors[11];
    for (int i = 0; i < 12; i++) least = fmin(least, report.round_errors[i]);
    CU_ASSERT(least < last); /* steps as large as these spoil what was good */
    CU_ASSERT_EQUAL(report.error, least);
    double error = naive_error(&layer, &coded);
    CU_ASSERT_DOUBLE_EQUAL(error, least, 1e-4 * least);
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

static aq_status stop_in_codes(const aq_watch *watch, const char *phase, int done, int total) {
    int *calls = watch->state;
    CU_ASSERT(done >= 1 && done <= total);
    calls[0] += strcmp(phase, "k-means") == 0;
    calls[1] += strcmp(phase, "codebooks") == 0;
    AQ_REQUIRE(strcmp(phase, "codes") != 0, AQ_STOPPED, "stopped by the test");
    return AQ_OK;
}

static void a_watch_sees_every_phase_and_can_stop(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    int calls[2] = {0};
    const aq_watch watch = {.step = stop_in_codes, .state = calls};
    settings.watch = &watch, settings.kmeans_starts = 2, settings.solver = AQ_SOLVER_ADAM;
    expect_failure(&layer, &settings, AQ_STOPPED, "stopped by the test");
    CU_ASSERT(calls[0] == 40 && calls[1] == 20);
    aq_test_layer_free(&layer);
}

/* ---- bad input ---- */

static void a_loss_that_is_not_finite_is_retried_slower(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    settings.learning_rate = 1e10, settings.solver = AQ_SOLVER_ADAM;
    aq_fit_report report = fit_and_free(&layer, &settings);
    CU_ASSERT(report.retries >= 1 && report.retries <= 3);
    CU_ASSERT_EQUAL(report.rounds, 3);
    CU_ASSERT(isfinite(report.error) && report.error <= report.kmeans_error);
    settings.learning_rate = 1e38;
    expect_failure(&layer, &settings, AQ_NUMERIC, "the loss is NaN or infinite");
    aq_test_layer_free(&layer);
}

static void values_that_are_not_finite_are_refused(void) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aq_test_layer layer = usual_layer();
        aq_fit_settings settings = settings_of(usual);
        aq_tensor row = aq_tensor_rows(&layer.gram, 3, 1);
        AQ_CHECK(aq_fill(bad[i], &row));
        expect_failure(&layer, &settings, AQ_NUMERIC, "Gram matrix: 64 of 4096 values");
        row = aq_tensor_rows(&layer.weight, 3, 1);
        AQ_CHECK(aq_fill(bad[i], &row));
        expect_failure(&layer, &settings, AQ_NUMERIC, "weight: 64 of 3072 values");
        aq_test_layer_free(&layer);
    }
}

static void settings_that_do_not_fit_are_refused(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of((aq_scheme){1, 12, 8, 1});
    expect_failure(&layer, &settings, AQ_INVALID, "larger than the 384 vectors");
    settings = settings_of((aq_scheme){2, 4, 7, 1});
    expect_failure(&layer, &settings, AQ_INVALID, "7 does not divide");
    settings = settings_of(usual), settings.beam = AQ_MAX_BEAM + 1;
    expect_failure(&layer, &settings, AQ_INVALID, "beam");
    settings = settings_of(usual), settings.rounds = AQ_MAX_ROUNDS + 1;
    expect_failure(&layer, &settings, AQ_INVALID, "rounds");
    settings = settings_of(usual), settings.learning_rate = NAN;
    expect_failure(&layer, &settings, AQ_INVALID, "learning_rate");
    settings = settings_of(usual), settings.tolerance = NAN;
    expect_failure(&layer, &settings, AQ_INVALID, "tolerance");
    settings = settings_of(usual), settings.noise = NAN;
    expect_failure(&layer, &settings, AQ_INVALID, "noise");
    settings = settings_of(usual), settings.kmeans_starts = 0;
    expect_failure(&layer, &settings, AQ_INVALID, "kmeans_starts");
    aq_tensor_free(&layer.gram);
    layer.gram = aq_test_normal(AQ_DIMS(IN + 1, IN + 1), 1);
    settings = settings_of(usual);
    expect_failure(&layer, &settings, AQ_SHAPE, "Gram matrix of 65 x 65");
    aq_test_layer_free(&layer);
}

/* ---- determinism ---- */

static bool same_result(const aq_coded *a, const aq_coded *b) {
    return aq_test_same_bits(&a->codes, &b->codes) &&
           aq_test_same_bits(&a->codebooks, &b->codebooks) &&
           aq_test_same_bits(&a->scales, &b->scales);
}

static void the_seed_decides_every_bit(void) {
    aq_test_layer layer = usual_layer();
    aq_fit_settings settings = settings_of(usual);
    settings.beam = 3;
    aq_coded first, again, other;
    fit(&layer, &settings, &first), fit(&layer, &settings, &again);
    settings.seed++;
    fit(&layer, &settings, &other);
    CU_ASSERT(same_result(&first, &again));
    CU_ASSERT_FALSE(same_result(&first, &other));
    aq_coded_free(&first), aq_coded_free(&again), aq_coded_free(&other);
    aq_test_layer_free(&layer);
}

static aq_tensor moved(const aq_tensor *source, aq_backend *backend) {
    void *host = aq_test_host(source);
    aq_tensor target;
    AQ_CHECK(aq_tensor_new(backend, source->dtype, AQ_DIMS(source->shape[0], source->shape[1]),
                           &target));
    AQ_CHECK(aq_tensor_upload(&target, host, aq_tensor_bytes(source)));
    free(host);
    return target;
}

/* The bits of a fit on a backend of its own. */
static void fit_with_threads(const aq_test_layer *layer, int threads, aq_coded *coded,
                             aq_backend **backend) {
    aq_fit_settings settings = settings_of(usual);
    AQ_CHECK(aq_cpu_open(threads, backend));
    aq_test_layer own = {.weight = moved(&layer->weight, *backend),
                         .gram = moved(&layer->gram, *backend)};
    fit(&own, &settings, coded);
    aq_test_layer_free(&own);
}

static void threads_change_no_bit(void) {
    aq_test_layer layer = aq_test_layer_new(200, IN, 200, 1);
    aq_backend *backends[2];
    aq_coded results[2];
    fit_with_threads(&layer, 1, &results[0], &backends[0]);
    fit_with_threads(&layer, 3, &results[1], &backends[1]);
    CU_ASSERT(same_result(&results[0], &results[1]));
    for (int i = 0; i < 2; i++) {
        aq_coded_free(&results[i]);
        aq_backend_close(backends[i]);
    }
    aq_test_layer_free(&layer);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"rounds_lower_the_error_of_every_scheme", rounds_lower_the_error_of_every_scheme},
        {"the_report_tells_the_error_of_the_result", the_report_tells_the_error_of_the_result},
        {"a_wider_beam_fits_better", a_wider_beam_fits_better},
        {"more_starts_begin_lower", more_starts_begin_lower},
        {"the_best_start_alone_goes_on", the_best_start_alone_goes_on},
        {"noise_finds_lower_errors", noise_finds_lower_errors},
        {"a_singular_gram_matrix_is_fitted", a_singular_gram_matrix_is_fitted},
        {"zero_rows_stay_zero", zero_rows_stay_zero},
        {"nothing_to_fit_needs_no_round", nothing_to_fit_needs_no_round},
        {"thousands_of_entries_work", thousands_of_entries_work},
        {"the_rule_names_the_first_round_that_gains_too_little",
         the_rule_names_the_first_round_that_gains_too_little},
        {"a_tolerance_stops_the_rounds", a_tolerance_stops_the_rounds},
        {"without_tolerance_all_rounds_run_and_the_best_counts",
         without_tolerance_all_rounds_run_and_the_best_counts},
        {"a_watch_sees_every_phase_and_can_stop", a_watch_sees_every_phase_and_can_stop},
        {"a_loss_that_is_not_finite_is_retried_slower",
         a_loss_that_is_not_finite_is_retried_slower},
        {"values_that_are_not_finite_are_refused", values_that_are_not_finite_are_refused},
        {"settings_that_do_not_fit_are_refused", settings_that_do_not_fit_are_refused},
        {"the_seed_decides_every_bit", the_seed_decides_every_bit},
        {"threads_change_no_bit", threads_change_no_bit},
    };
    return aq_test_backend_main("quant/fit_layer", cases, sizeof cases / sizeof *cases, argc, argv);
}
