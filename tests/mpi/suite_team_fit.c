/* The fit of a layer by a team against that of one rank alone, which every member does too. */
#include "layer_problem.h"
#include "team_suite.h"

#include "quant/fit_layer.h"
#include "quant/gram.h"
#include "quant/kmeans.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT = 50, IN = 64 }; /* 50 rows: uneven for three */

static aq_fit_settings settings_of(aq_scheme scheme) {
    return (aq_fit_settings){.scheme = scheme,
                             .beam = 2,
                             .kmeans_iterations = 10,
                             .kmeans_starts = 2,
                             .rounds = 3,
                             .adam_steps = 20,
                             .learning_rate = 1e-3,
                             .seed = 1};
}

/* The members' bytes are member 0's. */
static bool same_everywhere(const aq_tensor *x) {
    void *mine = aq_test_host(x);
    aq_tensor first = aq_test_tensor(x->dtype, AQ_DIMS(aq_tensor_count(x)), mine);
    AQ_CHECK(aq_team_share(aq_test_team(), 0, &first));
    void *theirs = aq_test_host(&first);
    bool same = memcmp(mine, theirs, aq_tensor_bytes(x)) == 0;
    aq_tensor_free(&first);
    free(mine), free(theirs);
    return same;
}

static bool is_near(double x, double expected, double share) {
    bool near = fabs(x - expected) <= share * expected;
    if (!near) printf("\n    %.9g is not within %g of %.9g\n", x, share, expected);
    return near;
}

static void check_fit(const aq_test_layer *layer, const aq_fit_settings *settings) {
    aq_coded coded, alone;
    aq_fit_report report, expected;
    AQ_CHECK(aq_team_agree(aq_test_team(), aq_fit_layer(&layer->weight, &layer->gram, settings,
                                                        aq_test_team(), &coded, &report)));
    AQ_CHECK(
        aq_fit_layer(&layer->weight, &layer->gram, settings, aq_team_alone(), &alone, &expected));
    CU_ASSERT_TRUE(same_everywhere(&coded.codes));
    CU_ASSERT_TRUE(same_everywhere(&coded.codebooks));
    CU_ASSERT_TRUE(same_everywhere(&coded.scales));
    CU_ASSERT_TRUE(is_near(report.kmeans_error, expected.kmeans_error, 1e-5));
    CU_ASSERT_EQUAL(report.rounds, expected.rounds);
    /* A code that flips by rounding changes what comes later, by much in so small a layer. */
    for (int i = 0; i < report.rounds; i++)
        CU_ASSERT_TRUE(is_near(report.round_errors[i], expected.round_errors[i], i ? 1e-2 : 5e-3));
    double error;
    AQ_CHECK(aq_layer_error(&coded, &layer->weight, &layer->gram, aq_team_alone(), &error));
    CU_ASSERT_TRUE(is_near(report.error, error, 1e-5));
    AQ_CHECK(aq_layer_error(&coded, &layer->weight, &layer->gram, aq_test_team(), &error));
    CU_ASSERT_TRUE(is_near(report.error, error, 1e-9));
    aq_coded_free(&coded), aq_coded_free(&alone);
}

static void a_team_fits_every_scheme_as_one_rank_does(void) {
    static const aq_scheme schemes[] = {{1, 4, 8, 1}, {2, 4, 8, 1}, {2, 4, 4, 2}, {2, 3, 16, 10}};
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 200, 1);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        aq_fit_settings settings = settings_of(schemes[i]);
        check_fit(&layer, &settings);
        settings.solver = AQ_SOLVER_ADAM, settings.noise = 0.05;
        check_fit(&layer, &settings);
    }
    aq_test_layer_free(&layer);
}

/* As many entries as vectors: with equal rows most clusters are empty, and every vector has an
 * entry of its own. */
static void empty_clusters_are_filled_by_whoever_has_the_point(void) {
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 200, 1);
    for (size_t row = 2; row < OUT; row++) {
        aq_tensor source = aq_tensor_rows(&layer.weight, row % 2, 1);
        aq_tensor target = aq_tensor_rows(&layer.weight, row, 1);
        AQ_CHECK(aq_tensor_copy(&source, &target));
    }
    aq_kmeans how = {.iterations = 7, .seed = 5, .team = aq_test_team()};
    const aq_scheme scheme = {1, 8, 8, 1};
    aq_coded coded, alone;
    AQ_CHECK(aq_coded_new(aq_test_backend(), &scheme, OUT, IN, &coded));
    AQ_CHECK(aq_coded_new(aq_test_backend(), &scheme, OUT, IN, &alone));
    AQ_CHECK(aq_residual_kmeans(&layer.weight, &how, &coded));
    how.team = aq_team_alone();
    AQ_CHECK(aq_residual_kmeans(&layer.weight, &how, &alone));
    CU_ASSERT_TRUE(same_everywhere(&coded.codebooks));
    double error, error_alone;
    AQ_CHECK(aq_layer_error(&coded, &layer.weight, &layer.gram, aq_team_alone(), &error));
    AQ_CHECK(aq_layer_error(&alone, &layer.weight, &layer.gram, aq_team_alone(), &error_alone));
    CU_ASSERT_TRUE(error < 1e-9);
    CU_ASSERT_TRUE(error_alone < 1e-9);
    aq_coded_free(&coded), aq_coded_free(&alone);
    aq_test_layer_free(&layer);
}

static void a_loss_that_is_not_finite_is_retried_by_all(void) {
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 200, 1);
    aq_fit_settings settings = settings_of((aq_scheme){2, 4, 8, 1});
    settings.learning_rate = 1e10, settings.solver = AQ_SOLVER_ADAM;
    aq_coded coded;
    aq_fit_report report;
    AQ_CHECK(aq_fit_layer(&layer.weight, &layer.gram, &settings, aq_test_team(), &coded, &report));
    double retries = report.retries;
    AQ_CHECK(aq_team_sum_number(aq_test_team(), aq_test_backend(), &retries));
    CU_ASSERT_TRUE(report.retries >= 1 && report.retries <= 3);
    CU_ASSERT_EQUAL(retries, report.retries * aq_test_team()->size);
    aq_coded_free(&coded);
    settings.learning_rate = 1e38;
    AQ_CHECK_FAILS(aq_team_agree(aq_test_team(), aq_fit_layer(&layer.weight, &layer.gram, &settings,
                                                              aq_test_team(), &coded, &report)),
                   AQ_NUMERIC, "the loss is NaN or infinite");
    aq_test_layer_free(&layer);
}

/* One member is asked to stop in the middle of a phase: all stop. */
static aq_status stop_in_phase(const aq_watch *watch, const char *phase, int done, int total) {
    (void)total;
    const char *when = watch->state;
    bool last = aq_test_team()->rank == aq_test_team()->size - 1;
    AQ_REQUIRE(!(last && strcmp(phase, when) == 0 && done > 5), AQ_STOPPED, "stopped by the test");
    return AQ_OK;
}

static void a_stop_of_one_stops_all(void) {
    char *const phases[] = {"k-means", "codebooks", "codes"};
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 200, 1);
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        const aq_watch watch = {.step = stop_in_phase, .state = phases[i]};
        aq_fit_settings settings = settings_of((aq_scheme){2, 4, 8, 1});
        settings.watch = &watch;
        aq_coded coded;
        aq_fit_report report;
        AQ_CHECK_FAILS(
            aq_team_agree(aq_test_team(), aq_fit_layer(&layer.weight, &layer.gram, &settings,
                                                       aq_test_team(), &coded, &report)),
            AQ_STOPPED, "stopped by the test");
        CU_ASSERT_PTR_NULL(coded.codes.data);
        AQ_CHECK(aq_team_agree(aq_test_team(), AQ_OK));
    }
    aq_test_layer_free(&layer);
}

static void more_members_than_rows_are_refused(void) {
    aq_test_layer layer = aq_test_layer_new(1, IN, 200, 1);
    aq_fit_settings settings = settings_of((aq_scheme){1, 2, 8, 1});
    aq_coded coded;
    aq_fit_report report;
    aq_status status =
        aq_fit_layer(&layer.weight, &layer.gram, &settings, aq_test_team(), &coded, &report);
    CU_ASSERT_EQUAL(status, aq_test_team()->size > 1 ? AQ_INVALID : AQ_OK);
    aq_team_agree(aq_test_team(), status);
    if (status == AQ_OK) aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

static void gram_sums_meet(void) {
    enum { ROWS = 31 };
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, IN), 3), mean, expected;
    aq_gram_sum own, all;
    aq_rows part = aq_team_rows(aq_test_team(), ROWS);
    aq_tensor rows = aq_tensor_rows(&x, part.first, part.count);
    AQ_CHECK(aq_gram_sum_new(aq_test_backend(), IN, &own));
    AQ_CHECK(aq_gram_sum_new(aq_test_backend(), IN, &all));
    AQ_CHECK(aq_gram_sum_add(&rows, &own));
    AQ_CHECK(aq_gram_sum_add(&x, &all));
    AQ_CHECK(aq_gram_sum_finish(&own, aq_test_team(), "x", &mean));
    AQ_CHECK(aq_gram_sum_finish(&all, aq_team_alone(), "x", &expected));
    CU_ASSERT_TRUE(same_everywhere(&mean));
    AQ_CHECK(aq_axpby(-1, &expected, 1, &mean));
    double square;
    AQ_CHECK(aq_dot(&mean, &mean, &square));
    CU_ASSERT_TRUE(square < 1e-9);
    aq_tensor_free(&x), aq_tensor_free(&mean), aq_tensor_free(&expected);
    aq_gram_sum_free(&own), aq_gram_sum_free(&all);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(a_team_fits_every_scheme_as_one_rank_does),
        AQ_CASE(empty_clusters_are_filled_by_whoever_has_the_point),
        AQ_CASE(a_loss_that_is_not_finite_is_retried_by_all),
        AQ_CASE(a_stop_of_one_stops_all),
        AQ_CASE(more_members_than_rows_are_refused),
        AQ_CASE(gram_sums_meet),
    };
    return aq_test_team_main("team_fit", cases, sizeof cases / sizeof *cases, argc, argv);
}
