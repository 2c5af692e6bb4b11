#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* op(a) op(b) in float64, from op(a)[i, l] = a[i * a_row + l * a_column] and likewise for b. */
static double *naive_product(const aq_tensor *a, const aq_tensor *b, const aq_product *how,
                             const aq_tensor *old) {
    size_t rows = old->shape[0], columns = old->shape[1], depth = a->shape[!how->transpose_a];
    size_t a_row = how->transpose_a ? 1 : depth, a_column = how->transpose_a ? rows : 1;
    size_t b_row = how->transpose_b ? 1 : columns, b_column = how->transpose_b ? depth : 1;
    double *x = reference_values(a), *y = reference_values(b), *result = reference_values(old);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            double sum = 0.0, *c = &result[i * columns + j];
            for (size_t l = 0; l < depth; l++)
                sum += x[i * a_row + l * a_column] * y[l * b_row + j * b_column];
            *c = (double)how->alpha * sum + (how->beta == 0.0f ? 0.0 : (double)how->beta * *c);
        }
    free(x);
    free(y);
    return result;
}

static void check_product(size_t rows, size_t columns, size_t depth, aq_product how, double limit) {
    aq_tensor a = aq_test_normal(how.transpose_a ? AQ_DIMS(depth, rows) : AQ_DIMS(rows, depth), 1);
    aq_tensor b =
        aq_test_normal(how.transpose_b ? AQ_DIMS(columns, depth) : AQ_DIMS(depth, columns), 2);
    aq_tensor c = aq_test_normal(AQ_DIMS(rows, columns), 3);
    double *expected = naive_product(&a, &b, &how, &c);
    AQ_CHECK(aq_matmul(&a, &b, &how, &c));
    reference_check(&c, expected, limit);
    aq_tensor_free(&a);
    aq_tensor_free(&b);
    aq_tensor_free(&c);
}

static void products_match_a_loop_in_every_layout(void) {
    const size_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {195, 387, 33}, {193, 67, 300}, {1, 700, 40}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int layout = 0; layout < 4; layout++)
            check_product(sizes[s][0], sizes[s][1], sizes[s][2],
                          (aq_product){.transpose_a = layout & 1,
                                       .transpose_b = layout & 2,
                                       .alpha = 0.75f,
                                       .beta = s % 2 ? -2.0f : 0.0f},
                          2e-6);
}

static void fast_products_keep_three_digits(void) {
    check_product(150, 90, 257, (aq_product){.alpha = 1.0f, .precision = AQ_FAST}, 2e-3);
    check_product(
        150, 90, 257,
        (aq_product){.alpha = 1.0f, .beta = 1.0f, .transpose_b = true, .precision = AQ_FAST}, 2e-3);
}

static void half_products_keep_two_digits(void) {
    for (int layout = 0; layout < 4; layout++)
        check_product(150, 91, 257,
                      (aq_product){.transpose_a = layout & 1,
                                   .transpose_b = layout & 2,
                                   .alpha = 0.5f,
                                   .beta = layout == 2 ? 1.0f : 0.0f,
                                   .precision = AQ_HALF},
                      1e-2);
    check_product(1, 1, 1, (aq_product){.alpha = 1.0f, .precision = AQ_HALF}, 1e-2);
}

static aq_tensor rounded(const aq_tensor *x) {
    aq_tensor y;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_BF16, AQ_DIMS(x->shape[0], x->shape[1]), &y));
    AQ_CHECK(aq_convert(x, 1, &y));
    return y;
}

/* BF16 operands are what float32 ones are rounded to; a BF16 result is the float32 one rounded. */
static void half_products_take_and_give_halves(void) {
    if (!aq_backend_halves(aq_test_backend())) return;
    const aq_product how = {.transpose_b = true, .alpha = 1, .precision = AQ_HALF};
    aq_tensor a = aq_test_normal(AQ_DIMS(33, 72), 1), b = aq_test_normal(AQ_DIMS(40, 72), 2);
    aq_tensor c = aq_test_normal(AQ_DIMS(33, 40), 3), d = aq_test_normal(AQ_DIMS(33, 40), 4);
    aq_tensor half_a = rounded(&a), half_b = rounded(&b), half_c = rounded(&c);
    AQ_CHECK(aq_matmul(&a, &b, &how, &c));
    AQ_CHECK(aq_matmul(&half_a, &half_b, &how, &d));
    double *expected = reference_values(&c);
    CU_ASSERT_EQUAL(reference_distance(&d, expected), 0.0);
    AQ_CHECK(aq_matmul(&half_a, &b, &how, &half_c));
    AQ_CHECK(aq_convert(&half_c, 1, &d));
    reference_check(&d, expected, 4e-3);
    aq_tensor *const all[] = {&a, &b, &c, &d, &half_a, &half_b, &half_c};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) aq_tensor_free(all[i]);
}

static void a_product_with_beta_zero_does_not_read_c(void) {
    const float ones[6] = {1, 1, 1, 1, 1, 1}, garbage[4] = {NAN, NAN, INFINITY, NAN};
    aq_tensor a = aq_test_tensor(AQ_F32, AQ_DIMS(2, 3), ones);
    aq_tensor b = aq_test_tensor(AQ_F32, AQ_DIMS(3, 2), ones);
    aq_tensor c = aq_test_tensor(AQ_F32, AQ_DIMS(2, 2), garbage);
    AQ_CHECK(aq_matmul(&a, &b, &(aq_product){.alpha = 2.0f}, &c));
    const double expected[4] = {6, 6, 6, 6};
    CU_ASSERT_EQUAL(reference_distance(&c, expected), 0.0);
    aq_tensor_free(&a);
    aq_tensor_free(&b);
    aq_tensor_free(&c);
}

static void a_product_works_on_views_of_rows(void) {
    aq_tensor a = aq_test_normal(AQ_DIMS(20, 9), 1), b = aq_test_normal(AQ_DIMS(9, 11), 2), c;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F32, AQ_DIMS(20, 11), &c));
    aq_tensor some = aq_tensor_rows(&a, 3, 5), target = aq_tensor_rows(&c, 3, 5);
    const aq_product how = {.alpha = 1.0f};
    double *expected = naive_product(&some, &b, &how, &target);
    AQ_CHECK(aq_matmul(&some, &b, &how, &target));
    reference_check(&target, expected, 2e-6);
    double *all = reference_values(&c);
    for (size_t i = 0; i < 3 * 11; i++) CU_ASSERT_EQUAL(all[i], 0.0);
    for (size_t i = 8 * 11; i < 20 * 11; i++) CU_ASSERT_EQUAL(all[i], 0.0);
    free(all);
    aq_tensor_free(&a);
    aq_tensor_free(&b);
    aq_tensor_free(&c);
}

/* ---- Gram sums ---- */

/* What a backend makes of the inputs: CUDA rounds them to TF32, 11 bits. */
static double as_summed(double value) {
    int exponent;
    double mantissa = frexp(value, &exponent);
    return aq_backend_halves(aq_test_backend()) ? ldexp(round(ldexp(mantissa, 11)), exponent - 11)
                                                : value;
}

static double *naive_gram(const aq_tensor *x, const aq_tensor *gram) {
    size_t rows = x->shape[0], columns = x->shape[1];
    double *values = reference_values(x), *sums = reference_values(gram);
    for (size_t i = 0; i < rows * columns; i++) values[i] = as_summed(values[i]);
    for (size_t i = 0; i < columns; i++)
        for (size_t j = 0; j < columns; j++)
            for (size_t n = 0; n < rows; n++)
                sums[i * columns + j] += values[n * columns + i] * values[n * columns + j];
    free(values);
    return sums;
}

static void gram_sums_match_a_loop_and_add_up(void) {
    const size_t sizes[][2] = {{7, 5}, {1030, 65}, {2100, 259}, {9226, 33}, {3, 1100}};
    /* tensor cores cut off what they add */
    double limit = aq_backend_halves(aq_test_backend()) ? 1e-5 : 1e-6;
    for (size_t s = 0; s < 5; s++) {
        size_t columns = sizes[s][1];
        aq_tensor x = aq_test_normal(AQ_DIMS(sizes[s][0], columns), s), gram;
        AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F64, AQ_DIMS(columns, columns), &gram));
        for (int call = 0; call < 2; call++) {
            double *expected = naive_gram(&x, &gram);
            AQ_CHECK(aq_gram_add(&x, &gram));
            reference_check(&gram, expected, limit);
        }
        aq_tensor_free(&x);
        aq_tensor_free(&gram);
    }
}

static void gram_sums_are_exactly_symmetric(void) {
    enum { COLUMNS = 300 };
    aq_tensor x = aq_test_normal(AQ_DIMS(1500, COLUMNS), 4), gram;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F64, AQ_DIMS(COLUMNS, COLUMNS), &gram));
    AQ_CHECK(aq_gram_add(&x, &gram));
    double *sums = reference_values(&gram);
    int uneven = 0;
    for (int i = 0; i < COLUMNS; i++)
        for (int j = 0; j < i; j++) uneven += sums[i * COLUMNS + j] != sums[j * COLUMNS + i];
    CU_ASSERT_EQUAL(uneven, 0);
    free(sums);
    aq_tensor_free(&x);
    aq_tensor_free(&gram);
}

/* 2^24 + 1 has no float32: runs must meet in float64. */
static void gram_runs_meet_in_float64(void) {
    enum { RUN = 1024 };
    float *values = calloc(2 * RUN, sizeof *values);
    values[0] = 0x1p12f;
    values[RUN] = 1.0f;
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(2 * RUN, 1), values), gram;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F64, AQ_DIMS(1, 1), &gram));
    AQ_CHECK(aq_gram_add(&x, &gram));
    const double expected = 0x1p24 + 1.0;
    CU_ASSERT_EQUAL(reference_distance(&gram, &expected), 0.0);
    free(values);
    aq_tensor_free(&x);
    aq_tensor_free(&gram);
}

/* Large enough for a product of its own kind. */
static void a_large_residual_is_moved_on_exactly(void) {
    enum { ROWS = 1024, IN = 1024, WIDTH = 8, COLUMNS = 2 * WIDTH };
    const uint32_t groups[] = {60, 5};
    const aq_group_run run = {groups, 2, WIDTH};
    aq_tensor delta = aq_test_normal(AQ_DIMS(ROWS, 1, 1, COLUMNS), 1);
    aq_tensor gram = aq_test_normal(AQ_DIMS(IN, IN), 2), origins;
    aq_tensor residual = aq_test_normal(AQ_DIMS(ROWS, 1, 1, IN), 3);
    double *d = reference_values(&delta), *h = reference_values(&gram);
    double *before = reference_values(&residual), worst = 0;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_U8, AQ_DIMS(ROWS, 1), &origins));
    AQ_CHECK(aq_residual_update(&delta, &gram, &run, &origins, &residual, &residual));
    float *after = aq_test_host(&residual);
    for (size_t i = 0; i < ROWS * IN; i += 7) {
        double sum = before[i];
        for (size_t l = 0; l < COLUMNS; l++)
            sum +=
                d[i / IN * COLUMNS + l] * h[(groups[l / WIDTH] * WIDTH + l % WIDTH) * IN + i % IN];
        worst = fmax(worst, fabs(sum - (double)after[i]));
    }
    CU_ASSERT(worst < 2e-5);
    free(d), free(h), free(before), free(after);
    aq_tensor_free(&delta), aq_tensor_free(&gram), aq_tensor_free(&origins);
    aq_tensor_free(&residual);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(products_match_a_loop_in_every_layout),
                                    AQ_CASE(fast_products_keep_three_digits),
                                    AQ_CASE(half_products_keep_two_digits),
                                    AQ_CASE(half_products_take_and_give_halves),
                                    AQ_CASE(a_product_with_beta_zero_does_not_read_c),
                                    AQ_CASE(a_product_works_on_views_of_rows),
                                    AQ_CASE(gram_sums_match_a_loop_and_add_up),
                                    AQ_CASE(gram_sums_are_exactly_symmetric),
                                    AQ_CASE(gram_runs_meet_in_float64),
                                    AQ_CASE(a_large_residual_is_moved_on_exactly)};
    return aq_test_backend_main("ops: products", cases, sizeof cases / sizeof *cases, argc, argv);
}
