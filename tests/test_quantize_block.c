#include "base/half.h"
#include "random_block.h"
#include "run/quantize_block.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCES = 12, HELD_OUT = 4 };

/* A block with what it reads and room for what it writes. */
typedef struct fixture {
    aq_block block;
    aq_activations inputs, targets;
    aq_quantize_settings settings;
} fixture;

static void fill(aq_activations *activations, uint64_t seed) {
    aq_tensor x = aq_test_normal(
        AQ_DIMS(activations->sequences * activations->length, activations->hidden), seed);
    AQ_CHECK(aq_activations_write(activations, 0, activations->sequences, &x));
    aq_tensor_free(&x);
}

static fixture fixture_new(uint64_t seed) {
    fixture made = {.block = aq_test_block(aq_test_backend(), 1)};
    size_t hidden = made.block.shape->hidden;
    AQ_CHECK(aq_activations_new(aq_test_backend(), SEQUENCES, AQ_TEST_LENGTH, hidden, SIZE_MAX,
                                &made.inputs));
    AQ_CHECK(aq_activations_new(aq_test_backend(), SEQUENCES, AQ_TEST_LENGTH, hidden, SIZE_MAX,
                                &made.targets));
    fill(&made.inputs, 2);
    made.settings = (aq_quantize_settings){
        .seed = seed,
        .validation = HELD_OUT,
        .fit = {.scheme = {.codebooks = 2, .bits = 3, .in_group = 4, .out_group = 1},
                .beam = 1,
                .kmeans_iterations = 5,
                .kmeans_starts = 1,
                .rounds = 2,
                .adam_steps = 10,
                .learning_rate = 1e-3},
        .tune = {.epochs = 2, .batch = 4, .patience = 2, .learning_rate = 1e-3}};
    return made;
}

static void fixture_free(fixture *made) {
    aq_activations_free(&made->inputs);
    aq_activations_free(&made->targets);
    aq_block_free(&made->block);
}

static aq_status quantize(fixture *made, aq_coded_block *coded, aq_quantize_report *report) {
    const aq_block_work work = {
        .index = 5, .block = &made->block, .inputs = &made->inputs, .targets = &made->targets};
    return aq_quantize_block(&work, &made->settings, aq_team_alone(), coded, report);
}

static bool same_bytes(const aq_tensor *a, const aq_tensor *b) {
    char *bytes_a = aq_test_host(a), *bytes_b = aq_test_host(b);
    bool same = aq_tensor_bytes(a) == aq_tensor_bytes(b) &&
                memcmp(bytes_a, bytes_b, aq_tensor_bytes(a)) == 0;
    free(bytes_a);
    free(bytes_b);
    return same;
}

static bool same_block(const aq_coded_block *a, const aq_coded_block *b) {
    bool same = a->error == b->error;
    for (int n = 0; n < AQ_NORM_COUNT; n++) same = same && same_bytes(&a->norms[n], &b->norms[n]);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        same = same && same_bytes(&a->linears[l].codes, &b->linears[l].codes) &&
               same_bytes(&a->linears[l].codebooks, &b->linears[l].codebooks) &&
               same_bytes(&a->linears[l].scales, &b->linears[l].scales);
    return same;
}

static void check_half(const aq_tensor *tensor) {
    float *values = aq_test_host(tensor);
    for (size_t i = 0; i < aq_tensor_count(tensor); i++)
        CU_ASSERT_EQUAL(values[i], aq_half_to_float(aq_half_from_float(values[i])));
    free(values);
}

static void block_is_measured_tuned_and_rounded(void) {
    fixture made = fixture_new(0);
    aq_coded_block coded;
    aq_quantize_report report;
    AQ_CHECK(quantize(&made, &coded, &report));
    CU_ASSERT_EQUAL(coded.index, 5);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        CU_ASSERT_TRUE(coded.layer_errors[l] > 0 && coded.layer_errors[l] < 0.5);
        check_half(&coded.linears[l].codebooks);
        check_half(&coded.linears[l].scales);
        if (coded.biases[l].data) check_half(&coded.biases[l]);
    }
    for (int n = 0; n < AQ_NORM_COUNT; n++) check_half(&coded.norms[n]);
    CU_ASSERT_TRUE(coded.fitted_error > 0 && coded.fitted_error < 0.5);
    CU_ASSERT_TRUE(report.best_epoch > 0 && coded.error < coded.fitted_error);
    aq_coded_block_free(&coded);
    fixture_free(&made);
}

static void reported_error_is_that_of_the_held_out_sequences(void) {
    fixture made = fixture_new(0);
    aq_coded_block coded;
    aq_quantize_report report;
    AQ_CHECK(quantize(&made, &coded, &report));
    double held_out, all;
    AQ_CHECK(aq_coded_block_decode(&coded, &made.block));
    AQ_CHECK(aq_block_error(&made.block, &made.inputs, &made.targets,
                            (aq_rows){SEQUENCES - HELD_OUT, HELD_OUT}, aq_team_alone(), &held_out));
    AQ_CHECK(aq_block_error(&made.block, &made.inputs, &made.targets, (aq_rows){0, SEQUENCES},
                            aq_team_alone(), &all));
    CU_ASSERT_EQUAL(coded.error, held_out);
    CU_ASSERT_NOT_EQUAL(coded.error, all);
    aq_coded_block_free(&coded);

    aq_block_free(&made.block);
    made.block = aq_test_block(aq_test_backend(), 1);
    made.settings.validation = 0;
    AQ_CHECK(quantize(&made, &coded, &report));
    AQ_CHECK(aq_coded_block_decode(&coded, &made.block));
    AQ_CHECK(aq_block_error(&made.block, &made.inputs, &made.targets, (aq_rows){0, SEQUENCES},
                            aq_team_alone(), &all));
    CU_ASSERT_EQUAL(coded.error, all);
    aq_coded_block_free(&coded);
    fixture_free(&made);
}

static void lanes_change_no_bit(void) {
    static const int counts[] = {1, 2, AQ_LINEAR_COUNT};
    aq_coded_block coded[3];
    aq_quantize_report report;
    for (int i = 0; i < 3; i++) {
        fixture made = fixture_new(0);
        aq_lanes lanes;
        AQ_CHECK(aq_lanes_open(aq_test_backend(), counts[i], &lanes));
        made.settings.lanes = &lanes;
        AQ_CHECK(quantize(&made, &coded[i], &report));
        CU_ASSERT_TRUE(i == 0 || same_block(&coded[0], &coded[i]));
        aq_lanes_close(&lanes); /* before the results, which are the main backend's */
        fixture_free(&made);
    }
    for (int i = 0; i < 3; i++) aq_coded_block_free(&coded[i]);
}

static void held_out_sequences_do_not_reach_the_fits(void) {
    aq_coded_block coded[2];
    aq_quantize_report report;
    for (int i = 0; i < 2; i++) {
        fixture made = fixture_new(0);
        made.settings.tune.epochs = 0;
        size_t hidden = made.block.shape->hidden;
        aq_tensor other = aq_test_normal(AQ_DIMS(HELD_OUT * AQ_TEST_LENGTH, hidden), 77);
        if (i) AQ_CHECK(aq_activations_write(&made.inputs, SEQUENCES - HELD_OUT, HELD_OUT, &other));
        AQ_CHECK(quantize(&made, &coded[i], &report));
        aq_tensor_free(&other);
        fixture_free(&made);
    }
    CU_ASSERT_NOT_EQUAL(coded[0].error, coded[1].error);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        CU_ASSERT_TRUE(same_bytes(&coded[0].linears[l].codebooks, &coded[1].linears[l].codebooks));
    for (int i = 0; i < 2; i++) aq_coded_block_free(&coded[i]);
}

static void equal_seeds_give_equal_bytes_and_others_do_not(void) {
    aq_coded_block coded[3];
    aq_quantize_report report;
    for (int i = 0; i < 3; i++) {
        fixture made = fixture_new(i == 2);
        AQ_CHECK(quantize(&made, &coded[i], &report));
        fixture_free(&made);
    }
    CU_ASSERT_TRUE(same_block(&coded[0], &coded[1]));
    CU_ASSERT_FALSE(same_block(&coded[0], &coded[2]));
    for (int i = 0; i < 3; i++) aq_coded_block_free(&coded[i]);
}

static void targets_are_the_dense_outputs(void) {
    fixture made = fixture_new(0);
    aq_activations dense;
    AQ_CHECK(aq_activations_new(aq_test_backend(), SEQUENCES, AQ_TEST_LENGTH,
                                made.block.shape->hidden, SIZE_MAX, &dense));
    AQ_CHECK(aq_activations_forward(&made.block, &made.inputs, NULL, 0, &dense));
    aq_coded_block coded;
    aq_quantize_report report;
    AQ_CHECK(quantize(&made, &coded, &report));
    CU_ASSERT_TRUE(same_bytes(&dense.resident, &made.targets.resident));
    aq_coded_block_free(&coded);
    aq_activations_free(&dense);
    fixture_free(&made);
}

static int count_lines(const char *path, const char *part) {
    char line[1024];
    int count = 0;
    FILE *file = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    while (fgets(line, sizeof line, file)) count += strstr(line, part) != NULL;
    fclose(file);
    return count;
}

static void every_stage_layer_and_epoch_is_an_event(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/metrics.jsonl", aq_test_folder());
    fixture made = fixture_new(0);
    AQ_CHECK(aq_metrics_open(path, 3, &made.settings.metrics));
    aq_coded_block coded;
    aq_quantize_report report;
    AQ_CHECK(quantize(&made, &coded, &report));
    aq_metrics_close(made.settings.metrics);
    CU_ASSERT_EQUAL(count_lines(path, "\"event\":\"layer\",\"rank\":3,\"block\":5"),
                    AQ_LINEAR_COUNT);
    CU_ASSERT_EQUAL(count_lines(path, "\"event\":\"epoch\",\"rank\":3,\"block\":5"),
                    report.epochs + 1);
    CU_ASSERT_EQUAL(count_lines(path, "\"event\":\"stage\",\"rank\":3,\"block\":5"),
                    AQ_LINEAR_COUNT + 3); /* every fit; forward, tuning, writing */
    aq_coded_block_free(&coded);
    fixture_free(&made);
}

static void a_scheme_that_does_not_fit_names_the_linear(void) {
    fixture made = fixture_new(0);
    made.settings.fit.scheme.in_group = 3;
    aq_coded_block coded;
    aq_quantize_report report;
    AQ_CHECK_FAILS(quantize(&made, &coded, &report), AQ_INVALID, "self_attn.q_proj");
    fixture_free(&made);
}

static void validation_must_leave_a_sequence(void) {
    fixture made = fixture_new(0);
    made.settings.validation = SEQUENCES;
    aq_coded_block coded;
    aq_quantize_report report;
    AQ_CHECK_FAILS(quantize(&made, &coded, &report), AQ_INVALID, "calibration.validation");
    fixture_free(&made);
}

static void inputs_that_are_not_finite_are_refused(void) {
    fixture made = fixture_new(0);
    size_t count = AQ_TEST_LENGTH * made.block.shape->hidden;
    float *values = calloc(count, sizeof *values);
    values[3] = INFINITY;
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(AQ_TEST_LENGTH, made.block.shape->hidden), values);
    AQ_CHECK(aq_activations_write(&made.inputs, 1, 1, &x));
    aq_coded_block coded;
    aq_quantize_report report;
    AQ_CHECK_FAILS(quantize(&made, &coded, &report), AQ_NUMERIC, "NaN or infinity");
    aq_tensor_free(&x);
    free(values);
    fixture_free(&made);
}

static const aq_case cases[] = {
    {"block_is_measured_tuned_and_rounded", block_is_measured_tuned_and_rounded},
    {"reported_error_is_that_of_the_held_out_sequences",
     reported_error_is_that_of_the_held_out_sequences},
    {"lanes_change_no_bit", lanes_change_no_bit},
    {"held_out_sequences_do_not_reach_the_fits", held_out_sequences_do_not_reach_the_fits},
    {"equal_seeds_give_equal_bytes_and_others_do_not",
     equal_seeds_give_equal_bytes_and_others_do_not},
    {"targets_are_the_dense_outputs", targets_are_the_dense_outputs},
    {"every_stage_layer_and_epoch_is_an_event", every_stage_layer_and_epoch_is_an_event},
    {"a_scheme_that_does_not_fit_names_the_linear", a_scheme_that_does_not_fit_names_the_linear},
    {"validation_must_leave_a_sequence", validation_must_leave_a_sequence},
    {"inputs_that_are_not_finite_are_refused", inputs_that_are_not_finite_are_refused},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("quantize_block", cases, sizeof cases / sizeof *cases, argc, argv);
}
