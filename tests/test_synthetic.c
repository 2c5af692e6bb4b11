/* Made-up layers and blocks, and the times of their phases. */
#include "run/synthetic.h"
#include "run/time_layer.h"
#include "run/time_tuning.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OUT = 64, IN = 2000 };

static void the_gram_matrix_has_the_eigenvalues_one_over_k(void) {
    aq_tensor weight, gram;
    double trace = 0, squares = 0, expected_trace = 0, expected_squares = 0, skew = 0;
    AQ_CHECK(aq_synthetic_layer(aq_test_backend(), 8, 256, 1, &weight, &gram));
    float *h = aq_test_host(&gram);
    for (int i = 0; i < 256; i++) {
        trace += (double)h[i * 256 + i];
        for (int j = 0; j < 256; j++) {
            squares += (double)h[i * 256 + j] * (double)h[i * 256 + j];
            skew = fmax(skew, fabs((double)(h[i * 256 + j] - h[j * 256 + i])));
        }
        expected_trace += 1.0 / (i + 1);
        expected_squares += 1.0 / (i + 1) / (i + 1);
    }
    CU_ASSERT_DOUBLE_EQUAL(trace, expected_trace, 1e-4);
    CU_ASSERT_DOUBLE_EQUAL(squares, expected_squares, 1e-4);
    CU_ASSERT_TRUE(skew < 1e-6);
    free(h);
    aq_tensor_free(&weight);
    aq_tensor_free(&gram);
}

/* Root mean square over rows, against that of all. */
static int count_wide_columns(const float *w) {
    double all = 0, columns[IN] = {0};
    int wide = 0;
    for (size_t i = 0; i < (size_t)OUT * IN; i++) {
        columns[i % IN] += (double)w[i] * (double)w[i];
        all += (double)w[i] * (double)w[i] / IN;
    }
    for (int c = 0; c < IN; c++) wide += columns[c] > 4 * all;
    return wide;
}

static void one_column_in_a_hundred_is_wide_and_rows_differ_in_size(void) {
    aq_tensor weight, gram;
    AQ_CHECK(aq_synthetic_layer(aq_test_backend(), OUT, IN, 1, &weight, &gram));
    float *w = aq_test_host(&weight);
    int wide = count_wide_columns(w);
    CU_ASSERT_TRUE(wide >= IN / 200 && wide <= IN / 50);
    double least = HUGE_VAL, most = 0;
    for (int r = 0; r < OUT; r++) {
        double square = 0;
        for (int c = 0; c < IN; c++) square += (double)w[r * IN + c] * (double)w[r * IN + c];
        least = fmin(least, square);
        most = fmax(most, square);
    }
    CU_ASSERT_TRUE(most > 10 * least);
    free(w);
    aq_tensor_free(&weight);
    aq_tensor_free(&gram);
}

static void equal_seeds_make_equal_layers(void) {
    aq_tensor weights[3], grams[3];
    float *values[3];
    for (int i = 0; i < 3; i++) {
        AQ_CHECK(
            aq_synthetic_layer(aq_test_backend(), 8, 64, i < 2 ? 5 : 6, &weights[i], &grams[i]));
        values[i] = aq_test_host(&weights[i]);
    }
    CU_ASSERT_EQUAL(memcmp(values[0], values[1], aq_tensor_bytes(&weights[0])), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(values[0], values[2], aq_tensor_bytes(&weights[0])), 0);
    for (int i = 0; i < 3; i++) {
        free(values[i]);
        aq_tensor_free(&weights[i]);
        aq_tensor_free(&grams[i]);
    }
}

static void a_layers_times_come_with_its_counts(void) {
    const aq_fit_settings settings = {.scheme = {2, 4, 8, 1},
                                      .beam = 1,
                                      .kmeans_iterations = 3,
                                      .kmeans_starts = 2,
                                      .rounds = 3,
                                      .solver = AQ_SOLVER_ADAM,
                                      .adam_steps = 4,
                                      .learning_rate = 1e-4};
    aq_tensor weight, gram;
    aq_fit_report report;
    aq_layer_times times;
    AQ_CHECK(aq_synthetic_layer(aq_test_backend(), 32, 64, 1, &weight, &gram));
    AQ_CHECK(aq_time_layer(&weight, &gram, &settings, 2, &report, &times));
    CU_ASSERT_EQUAL(report.rounds, 3);
    CU_ASSERT_TRUE(times.iterations > 0 && times.iterations <= 2 * 3 * 2);
    CU_ASSERT_EQUAL(times.steps, 4);
    CU_ASSERT_TRUE(times.kmeans > 0 && times.codebooks > 0 && times.codes > 0);
    CU_ASSERT_TRUE(times.codes <= report.seconds_codes);
    aq_tensor_free(&weight);
    aq_tensor_free(&gram);
}

static void the_steps_of_tuning_are_timed_apart(void) {
    aq_model_shape shape;
    aq_tuning_times times;
    aq_synthetic_llama(64, 96, 4, 2, 1, &shape);
    aq_tuning_subject subject = {.shape = &shape, .scheme = {2, 4, 8, 1}, .length = 32};
    AQ_CHECK(aq_time_tuning(aq_test_backend(), &subject, 3, &times));
    CU_ASSERT_TRUE(times.decode > 0 && times.forward > 0 && times.update > 0);
    CU_ASSERT_TRUE(times.passes > 0);
    subject.scheme.in_group = 7;
    AQ_CHECK_FAILS(aq_time_tuning(aq_test_backend(), &subject, 1, &times), AQ_INVALID, "q_proj");
}

static void a_machines_rates_are_measured(void) {
    aq_machine machine;
    AQ_CHECK(aq_machine_measure(aq_test_backend(), &machine));
    CU_ASSERT_TRUE(machine.copy > 1e8 && machine.precise > 1e8);
    CU_ASSERT_TRUE(machine.fast > 0.1 * machine.precise && machine.half > 0.1 * machine.precise);
    double odd[] = {3, 1, 2}, even[] = {4, 1, 2, 3};
    CU_ASSERT_EQUAL(aq_median(odd, 3), 2);
    CU_ASSERT_EQUAL(aq_median(even, 4), 2.5);
}

static void inputs_are_pieces_of_one_text(void) {
    enum { SEQUENCES = 4, LENGTH = 32, HIDDEN = 64, VALUES = LENGTH * HIDDEN };
    const uint32_t all[] = {0, 1, 2, 3};
    static float values[SEQUENCES * VALUES];
    double square = 0;
    aq_activations inputs;
    aq_tensor x;
    AQ_CHECK(aq_activations_new(aq_test_backend(), SEQUENCES, LENGTH, HIDDEN, SIZE_MAX, &inputs));
    AQ_CHECK(aq_synthetic_inputs(&inputs, 1));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(SEQUENCES * LENGTH, HIDDEN), &x));
    AQ_CHECK(aq_activations_read(&inputs, all, SEQUENCES, &x));
    AQ_CHECK(aq_tensor_download(&x, values, sizeof values));
    for (size_t i = 0; i < SEQUENCES * VALUES; i++) square += (double)values[i] * (double)values[i];
    CU_ASSERT_DOUBLE_EQUAL(square / (SEQUENCES * VALUES), 1, 0.2);
    CU_ASSERT_NOT_EQUAL(memcmp(values, values + VALUES, VALUES * sizeof *values), 0);
    aq_tensor_free(&x);
    aq_activations_free(&inputs);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(the_gram_matrix_has_the_eigenvalues_one_over_k),
        AQ_CASE(one_column_in_a_hundred_is_wide_and_rows_differ_in_size),
        AQ_CASE(equal_seeds_make_equal_layers),
        AQ_CASE(a_layers_times_come_with_its_counts),
        AQ_CASE(the_steps_of_tuning_are_timed_apart),
        AQ_CASE(inputs_are_pieces_of_one_text),
        AQ_CASE(a_machines_rates_are_measured),
    };
    return aq_test_backend_main("synthetic", cases, sizeof cases / sizeof *cases, argc, argv);
}
