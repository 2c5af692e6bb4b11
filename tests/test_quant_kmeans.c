/* Residual k-means: distortion, duplicates, zero rows, seeds. */
#include "layer_problem.h"
#include "suite.h"

#include "quant/kmeans.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT = 32, IN = 64 };

/* The distortion of the scaled vectors is the loss under the identity, weighted by the scales. */
static double distortion(const aq_tensor *weight, const aq_coded *coded) {
    float *decoded = aq_test_decode(coded), *host = aq_test_host(weight);
    double sum = 0;
    for (size_t i = 0; i < aq_tensor_count(weight); i++)
        sum += ((double)decoded[i] - (double)host[i]) * ((double)decoded[i] - (double)host[i]);
    free(decoded), free(host);
    return sum;
}

static aq_coded cluster(const aq_tensor *weight, aq_scheme scheme, int iterations, uint64_t seed) {
    const aq_kmeans how = {.team = aq_team_alone(), .iterations = iterations, .seed = seed};
    aq_coded coded;
    AQ_CHECK(aq_coded_new(aq_test_backend(), &scheme, weight->shape[0], weight->shape[1], &coded));
    AQ_CHECK(aq_residual_kmeans(weight, &how, &coded));
    return coded;
}

static double distortion_of(const aq_tensor *weight, aq_scheme scheme, int iterations) {
    aq_coded coded = cluster(weight, scheme, iterations, 1);
    double result = distortion(weight, &coded);
    aq_coded_free(&coded);
    return result;
}

static void iterations_lower_the_distortion(void) {
    aq_tensor weight = aq_test_normal(AQ_DIMS(OUT, IN), 1);
    aq_scheme scheme = {1, 4, 4, 1};
    double none = distortion_of(&weight, scheme, 0), some = distortion_of(&weight, scheme, 3);
    double many = distortion_of(&weight, scheme, 30);
    CU_ASSERT(some < 0.9 * none);
    CU_ASSERT(many < some);
    aq_tensor_free(&weight);
}

static void every_codebook_lowers_what_is_left(void) {
    aq_tensor weight = aq_test_normal(AQ_DIMS(OUT, IN), 1);
    double before = INFINITY;
    for (int codebooks = 1; codebooks <= 3; codebooks++) {
        double now = distortion_of(&weight, (aq_scheme){codebooks, 4, 4, 1}, 20);
        CU_ASSERT(now < 0.8 * before);
        before = now;
    }
    aq_tensor_free(&weight);
}

static void an_entry_for_every_vector_leaves_nothing(void) {
    aq_tensor weight = aq_test_normal(AQ_DIMS(8, 32), 1);
    aq_scheme schemes[] = {{1, 6, 4, 1}, {1, 5, 4, 2}, {1, 4, 16, 1}, {1, 4, 8, 2}};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        CU_ASSERT_DOUBLE_EQUAL(distortion_of(&weight, schemes[i], 2), 0, 1e-9);
    aq_tensor_free(&weight);
}

static void scales_are_norms_and_zero_rows_stay_zero(void) {
    float host[OUT * IN] = {0};
    for (size_t i = 4 * IN; i < OUT * IN; i++)
        host[i] = (float)aq_random_normal(1, AQ_STREAM_TEST, i);
    aq_tensor weight = aq_test_tensor(AQ_F32, AQ_DIMS(OUT, IN), host);
    aq_coded coded = cluster(&weight, (aq_scheme){2, 4, 8, 2}, 10, 1);
    float *scales = aq_test_host(&coded.scales), *decoded = aq_test_decode(&coded);
    CU_ASSERT(scales[0] == AQ_ZERO_SCALE && scales[1] == AQ_ZERO_SCALE);
    for (size_t row = 2; row < OUT / 2; row++) {
        double sum = 0;
        for (size_t i = 0; i < 2 * IN; i++)
            sum += (double)host[row * 2 * IN + i] * (double)host[row * 2 * IN + i];
        CU_ASSERT_DOUBLE_EQUAL(scales[row], sqrt(sum), 1e-4);
    }
    for (size_t i = 0; i < 4 * IN; i++) CU_ASSERT(fabsf(decoded[i]) < 1e-8f);
    free(scales), free(decoded);
    aq_coded_free(&coded);
    aq_tensor_free(&weight);
}

static void equal_vectors_leave_finite_entries(void) {
    float host[OUT * IN];
    for (size_t i = 0; i < OUT * IN; i++) host[i] = 1;
    aq_tensor weight = aq_test_tensor(AQ_F32, AQ_DIMS(OUT, IN), host);
    CU_ASSERT_DOUBLE_EQUAL(distortion_of(&weight, (aq_scheme){2, 4, 8, 1}, 5), 0, 1e-6);
    aq_tensor_free(&weight);
}

static void the_seed_decides(void) {
    aq_tensor weight = aq_test_normal(AQ_DIMS(OUT, IN), 1);
    aq_scheme scheme = {2, 5, 8, 1};
    aq_coded first = cluster(&weight, scheme, 5, 1), again = cluster(&weight, scheme, 5, 1);
    aq_coded other = cluster(&weight, scheme, 5, 2);
    CU_ASSERT(aq_test_same_bits(&first.codes, &again.codes));
    CU_ASSERT(aq_test_same_bits(&first.codebooks, &again.codebooks));
    CU_ASSERT_FALSE(aq_test_same_bits(&first.codebooks, &other.codebooks));
    aq_coded_free(&first), aq_coded_free(&again), aq_coded_free(&other);
    aq_tensor_free(&weight);
}

typedef struct count {
    int calls, total;
} count;

static aq_status stop_at_four(const aq_watch *watch, const char *phase, int done, int total) {
    count *seen = watch->state;
    CU_ASSERT_STRING_EQUAL(phase, "k-means");
    CU_ASSERT_EQUAL(done, ++seen->calls);
    seen->total = total;
    AQ_REQUIRE(done < 4, AQ_STOPPED, "stopped by the test");
    return AQ_OK;
}

static void a_watch_can_stop_it(void) {
    count seen = {0};
    const aq_watch watch = {.step = stop_at_four, .state = &seen};
    const aq_kmeans how = {.team = aq_team_alone(), .iterations = 3, .total = 6, .watch = &watch};
    aq_tensor weight = aq_test_normal(AQ_DIMS(OUT, IN), 1);
    aq_coded coded;
    AQ_CHECK(aq_coded_new(aq_test_backend(), &(aq_scheme){2, 4, 8, 1}, OUT, IN, &coded));
    AQ_CHECK_FAILS(aq_residual_kmeans(&weight, &how, &coded), AQ_STOPPED, "stopped by the test");
    CU_ASSERT(seen.calls == 4 && seen.total == 6);
    aq_coded_free(&coded);
    aq_tensor_free(&weight);
}

static aq_status count_calls(const aq_watch *watch, const char *phase, int done, int total) {
    (void)phase, (void)done, (void)total;
    ((count *)watch->state)->calls++;
    return AQ_OK;
}

static void it_ends_when_nothing_changes(void) {
    count seen = {0};
    const aq_watch watch = {.step = count_calls, .state = &seen};
    const aq_kmeans how = {.team = aq_team_alone(), .iterations = 500, .seed = 1, .watch = &watch};
    aq_tensor weight = aq_test_normal(AQ_DIMS(OUT, IN), 1);
    aq_scheme scheme = {1, 4, 4, 1};
    aq_coded ended;
    AQ_CHECK(aq_coded_new(aq_test_backend(), &scheme, OUT, IN, &ended));
    AQ_CHECK(aq_residual_kmeans(&weight, &how, &ended));
    CU_ASSERT(seen.calls > 10 && seen.calls < 500);
    aq_coded early = cluster(&weight, scheme, seen.calls - 12, 1);
    aq_coded late = cluster(&weight, scheme, seen.calls + 9, 1);
    CU_ASSERT_FALSE(aq_test_same_bits(&ended.codebooks, &early.codebooks));
    CU_ASSERT(aq_test_same_bits(&ended.codebooks, &late.codebooks));
    aq_coded_free(&ended), aq_coded_free(&early), aq_coded_free(&late);
    aq_tensor_free(&weight);
}

static void going_on_gives_what_one_call_would(void) {
    const aq_scheme scheme = {1, 5, 8, 1};
    aq_tensor weight = aq_test_normal(AQ_DIMS(OUT, IN), 1);
    aq_coded whole = cluster(&weight, scheme, 6, 7), part = cluster(&weight, scheme, 3, 7);
    CU_ASSERT_FALSE(aq_test_same_bits(&whole.codebooks, &part.codebooks));
    const aq_kmeans rest = {.first = 3, .iterations = 6, .seed = 7, .team = aq_team_alone()};
    AQ_CHECK(aq_residual_kmeans(&weight, &rest, &part));
    CU_ASSERT(aq_test_same_bits(&whole.codebooks, &part.codebooks));
    CU_ASSERT(aq_test_same_bits(&whole.codes, &part.codes));
    aq_coded_free(&whole), aq_coded_free(&part);
    aq_tensor_free(&weight);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"iterations_lower_the_distortion", iterations_lower_the_distortion},
        {"every_codebook_lowers_what_is_left", every_codebook_lowers_what_is_left},
        {"an_entry_for_every_vector_leaves_nothing", an_entry_for_every_vector_leaves_nothing},
        {"scales_are_norms_and_zero_rows_stay_zero", scales_are_norms_and_zero_rows_stay_zero},
        {"equal_vectors_leave_finite_entries", equal_vectors_leave_finite_entries},
        {"the_seed_decides", the_seed_decides},
        {"a_watch_can_stop_it", a_watch_can_stop_it},
        {"it_ends_when_nothing_changes", it_ends_when_nothing_changes},
        {"going_on_gives_what_one_call_would", going_on_gives_what_one_call_would},
    };
    return aq_test_backend_main("quant/kmeans", cases, sizeof cases / sizeof *cases, argc, argv);
}
