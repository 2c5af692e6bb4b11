/* Gram matrices: sums over several inputs, teams, and inputs that are not finite. */
#include "suite.h"

#include "quant/gram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 12 };

static void add_outer_products(const aq_tensor *x, double *sums) {
    float *host = aq_test_host(x);
    for (size_t row = 0; row < x->shape[0]; row++)
        for (size_t a = 0; a < IN; a++)
            for (size_t b = 0; b < IN; b++)
                sums[a * IN + b] += (double)host[row * IN + a] * (double)host[row * IN + b];
    free(host);
}

/* Numbers of 8 bits, which no backend rounds. */
static aq_tensor coarse_inputs(size_t rows, uint64_t seed) {
    aq_tensor x = aq_test_normal(AQ_DIMS(rows, IN), seed), halves;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_BF16, AQ_DIMS(rows, IN), &halves));
    AQ_CHECK(aq_convert(&x, 1, &halves));
    AQ_CHECK(aq_convert(&halves, 1, &x));
    aq_tensor_free(&halves);
    return x;
}

static void the_mean_is_taken_over_all_rows_seen(void) {
    aq_tensor first = coarse_inputs(30, 1), second = coarse_inputs(7, 2);
    aq_gram_sum gram;
    aq_tensor mean;
    AQ_CHECK(aq_gram_sum_new(aq_test_backend(), IN, &gram));
    AQ_CHECK(aq_gram_sum_add(&first, &gram));
    AQ_CHECK(aq_gram_sum_add(&second, &gram));
    CU_ASSERT_EQUAL(gram.rows, 37);
    AQ_CHECK(aq_gram_sum_finish(&gram, aq_team_alone(), "x", &mean));

    double sums[IN * IN] = {0};
    add_outer_products(&first, sums);
    add_outer_products(&second, sums);
    float *found = aq_test_host(&mean);
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
        CU_ASSERT_DOUBLE_EQUAL(found[i], sums[i] / 37, 1e-6);
    free(found);
    aq_tensor_free(&first), aq_tensor_free(&second), aq_tensor_free(&mean);
    aq_gram_sum_free(&gram);
}

/* A team of two whose other member saw the same as this one. */
static aq_status sum_with_twin(const aq_team *team, aq_tensor *x) {
    (void)team;
    aq_tensor twin;
    AQ_TRY(aq_tensor_new(x->home, x->dtype, AQ_DIMS(aq_tensor_count(x)), &twin));
    aq_status status = aq_convert(x, 2, &twin);
    if (status == AQ_OK) status = aq_tensor_copy(&twin, x);
    aq_tensor_free(&twin);
    return status;
}

static void a_team_divides_by_the_rows_of_all(void) {
    aq_team team = *aq_team_alone();
    team.size = 2;
    team.sum = sum_with_twin;
    aq_tensor x = aq_test_normal(AQ_DIMS(16, IN), 1), alone, together;
    aq_gram_sum gram;
    AQ_CHECK(aq_gram_sum_new(aq_test_backend(), IN, &gram));
    AQ_CHECK(aq_gram_sum_add(&x, &gram));
    AQ_CHECK(aq_gram_sum_finish(&gram, aq_team_alone(), "x", &alone));
    AQ_CHECK(aq_gram_sum_finish(&gram, &team, "x", &together));
    float *expected = aq_test_host(&alone), *found = aq_test_host(&together);
    CU_ASSERT_EQUAL(memcmp(expected, found, IN * IN * sizeof *found), 0);
    free(expected), free(found);
    aq_tensor_free(&x), aq_tensor_free(&alone), aq_tensor_free(&together);
    aq_gram_sum_free(&gram);
}

static void inputs_that_are_not_finite_are_named(void) {
    static const float bad[] = {NAN, INFINITY, 3e38f};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float host[2 * IN] = {1, 2, 3};
        host[IN + 4] = bad[i];
        aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(2, IN), host), mean;
        aq_gram_sum gram;
        AQ_CHECK(aq_gram_sum_new(aq_test_backend(), IN, &gram));
        AQ_CHECK(aq_gram_sum_add(&x, &gram));
        AQ_CHECK_FAILS(aq_gram_sum_finish(&gram, aq_team_alone(), "mlp.down_proj", &mean),
                       AQ_NUMERIC, "mlp.down_proj");
        CU_ASSERT_PTR_NULL(mean.data);
        aq_tensor_free(&x);
        aq_gram_sum_free(&gram);
    }
}

static void a_sum_of_nothing_has_no_mean(void) {
    aq_gram_sum gram;
    aq_tensor mean;
    AQ_CHECK(aq_gram_sum_new(aq_test_backend(), IN, &gram));
    AQ_CHECK_FAILS(aq_gram_sum_finish(&gram, aq_team_alone(), "x", &mean), AQ_INVALID,
                   "no inputs were seen");
    aq_gram_sum_free(&gram);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"the_mean_is_taken_over_all_rows_seen", the_mean_is_taken_over_all_rows_seen},
        {"a_team_divides_by_the_rows_of_all", a_team_divides_by_the_rows_of_all},
        {"inputs_that_are_not_finite_are_named", inputs_that_are_not_finite_are_named},
        {"a_sum_of_nothing_has_no_mean", a_sum_of_nothing_has_no_mean},
    };
    return aq_test_backend_main("quant/gram", cases, sizeof cases / sizeof *cases, argc, argv);
}
