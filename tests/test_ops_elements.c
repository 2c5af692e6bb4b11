#include "base/half.h"
#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Not a multiple of any piece, block or warp. */
enum { COUNT = 33333, ROWS = 517, COLUMNS = 131 };

static void fill_sets_every_element(void) {
    const aq_dtype types[] = {AQ_F32, AQ_F64};
    for (int t = 0; t < 2; t++) {
        aq_tensor x;
        AQ_CHECK(aq_tensor_new(aq_test_backend(), types[t], AQ_DIMS(COUNT), &x));
        AQ_CHECK(aq_fill(-1.5f, &x));
        double *values = reference_values(&x);
        int wrong = 0;
        for (int i = 0; i < COUNT; i++) wrong += values[i] != -1.5;
        CU_ASSERT_EQUAL(wrong, 0);
        free(values);
        aq_tensor_free(&x);
    }
}

/* ---- convert ---- */

/* Values of all magnitudes that float16 knows, its subnormals, ties and what lies past it. */
static aq_tensor mixed_values(size_t count) {
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        float normal = (float)aq_random_normal(3, AQ_STREAM_TEST, i);
        values[i] = ldexpf(normal, (int)(i % 48) - 30);
        if (i % 7 == 0) values[i] = aq_float_from_bits(aq_float_bits(values[i]) & 0xfffff000u);
    }
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(count), values);
    free(values);
    return x;
}

static void convert_rounds_to_sixteen_bits_like_half_h(void) {
    aq_tensor x = mixed_values(COUNT), half, bfloat;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F16, AQ_DIMS(COUNT), &half));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_BF16, AQ_DIMS(COUNT), &bfloat));
    AQ_CHECK(aq_convert(&x, 1.0, &half));
    AQ_CHECK(aq_convert(&x, 1.0, &bfloat));
    float *values = aq_test_host(&x);
    uint16_t *halves = aq_test_host(&half), *bfloats = aq_test_host(&bfloat);
    int wrong = 0;
    for (int i = 0; i < COUNT; i++)
        wrong += halves[i] != aq_half_from_float(values[i]) ||
                 bfloats[i] != aq_bfloat_from_float(values[i]);
    CU_ASSERT_EQUAL(wrong, 0);
    free(values);
    free(halves);
    free(bfloats);
    aq_tensor_free(&x);
    aq_tensor_free(&half);
    aq_tensor_free(&bfloat);
}

static void convert_reads_every_sixteen_bit_value(void) {
    uint16_t *bits = malloc(65536 * sizeof *bits);
    for (uint32_t i = 0; i < 65536; i++) bits[i] = (uint16_t)i;
    for (int t = 0; t < 2; t++) {
        aq_tensor x = aq_test_tensor(t ? AQ_BF16 : AQ_F16, AQ_DIMS(65536), bits), y;
        AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(65536), &y));
        AQ_CHECK(aq_convert(&x, 1.0, &y));
        float *values = aq_test_host(&y);
        int wrong = 0;
        for (uint32_t i = 0; i < 65536; i++) {
            float expected = t ? aq_bfloat_to_float(bits[i]) : aq_half_to_float(bits[i]);
            wrong += isnan(expected) ? !isnan(values[i])
                                     : aq_float_bits(values[i]) != aq_float_bits(expected);
        }
        CU_ASSERT_EQUAL(wrong, 0);
        free(values);
        aq_tensor_free(&x);
        aq_tensor_free(&y);
    }
    free(bits);
}

static void convert_goes_between_all_types_exactly_where_it_can(void) {
    const aq_dtype types[] = {AQ_F32, AQ_F64, AQ_F16, AQ_BF16};
    float values[101];
    double expected[101];
    for (int i = 0; i < 101; i++) expected[i] = values[i] = 0.25f * (float)(i - 50);
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++) {
            aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(101), values), a, b;
            AQ_CHECK(aq_tensor_new(aq_test_backend(), types[from], AQ_DIMS(101), &a));
            AQ_CHECK(aq_tensor_new(aq_test_backend(), types[to], AQ_DIMS(101), &b));
            AQ_CHECK(aq_convert(&x, 1.0, &a));
            AQ_CHECK(aq_convert(&a, 1.0, &b));
            AQ_CHECK(aq_convert(&b, 1.0, &x));
            CU_ASSERT_EQUAL(reference_distance(&x, expected), 0.0);
            aq_tensor_free(&x);
            aq_tensor_free(&a);
            aq_tensor_free(&b);
        }
}

static void convert_applies_the_factor(void) {
    aq_tensor x = aq_test_normal(AQ_DIMS(COUNT), 1), y, z;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F64, AQ_DIMS(COUNT), &y));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(COUNT), &z));
    AQ_CHECK(aq_convert(&x, 0.1, &y));
    AQ_CHECK(aq_convert(&y, 10.0, &z));
    double *tenth = reference_values(&x);
    for (int i = 0; i < COUNT; i++) tenth[i] *= 0.1;
    reference_check(&y, tenth, 1e-15);
    reference_check(&z, reference_values(&x), 1e-7);
    aq_tensor_free(&x);
    aq_tensor_free(&y);
    aq_tensor_free(&z);
}

/* ---- sums ---- */

static void axpby_combines(void) {
    aq_tensor x = aq_test_normal(AQ_DIMS(COUNT), 1), y = aq_test_normal(AQ_DIMS(COUNT), 2);
    double *a = reference_values(&x), *expected = reference_values(&y);
    for (int i = 0; i < COUNT; i++) expected[i] = 0.5 * a[i] - 3.0 * expected[i];
    AQ_CHECK(aq_axpby(0.5f, &x, -3.0f, &y));
    reference_check(&y, expected, 1e-6);
    free(a);
    aq_tensor_free(&x);
    aq_tensor_free(&y);
}

static void axpby_with_beta_zero_does_not_read_y(void) {
    const float values[3] = {1, 2, 3};
    const float garbage[3] = {NAN, INFINITY, NAN};
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(3), values);
    aq_tensor y = aq_test_tensor(AQ_F32, AQ_DIMS(3), garbage);
    AQ_CHECK(aq_axpby(2.0f, &x, 0.0f, &y));
    const double expected[3] = {2, 4, 6};
    CU_ASSERT_EQUAL(reference_distance(&y, expected), 0.0);
    aq_tensor_free(&x);
    aq_tensor_free(&y);
}

static void dot_sums_in_float64(void) {
    aq_tensor x = aq_test_normal(AQ_DIMS(COUNT), 1), y = aq_test_normal(AQ_DIMS(COUNT), 2);
    double *a = reference_values(&x), *b = reference_values(&y), product = 0.0, square = 0.0;
    for (int i = 0; i < COUNT; i++) {
        product += a[i] * b[i];
        square += a[i] * a[i];
    }
    double result;
    AQ_CHECK(aq_dot(&x, &y, &result));
    CU_ASSERT_DOUBLE_EQUAL(result, product, 1e-9);
    AQ_CHECK(aq_dot(&x, &x, &result));
    CU_ASSERT_DOUBLE_EQUAL(result, square, 1e-8);
    free(a);
    free(b);
    aq_tensor_free(&x);
    aq_tensor_free(&y);
}

/* In float32 the ones would vanish beside 2^40. */
static void dot_keeps_small_terms_beside_large_ones(void) {
    float values[2001];
    for (int i = 0; i < 2001; i++) values[i] = i ? 1.0f : 0x1p20f;
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(2001), values);
    double result;
    AQ_CHECK(aq_dot(&x, &x, &result));
    CU_ASSERT_EQUAL(result, 0x1p40 + 2000.0);
    aq_tensor_free(&x);
}

static void dot_add_adds_to_the_sum(void) {
    const float values[3] = {1, 2, 3};
    const double start = 100.0, expected = 107.0;
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(3), values);
    aq_tensor sum = aq_test_tensor(AQ_F64, AQ_DIMS(1), &start);
    AQ_CHECK(aq_dot_add(&x, &x, 0.5, &sum));
    CU_ASSERT_EQUAL(reference_distance(&sum, &expected), 0.0);
    aq_tensor_free(&x);
    aq_tensor_free(&sum);
}

static void nonfinite_elements_are_counted_in_every_type(void) {
    const aq_dtype types[] = {AQ_F32, AQ_F64, AQ_F16, AQ_BF16};
    float *values = calloc(COUNT, sizeof *values);
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 9; i++) values[(i * 4111 + 5) % COUNT] = odd[i % 3];
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(COUNT), values);
    for (int t = 0; t < 4; t++) {
        aq_tensor y;
        size_t count = 0;
        AQ_CHECK(aq_tensor_new(aq_test_backend(), types[t], AQ_DIMS(COUNT), &y));
        AQ_CHECK(aq_convert(&x, 1.0, &y));
        AQ_CHECK(aq_count_nonfinite(&y, &count));
        CU_ASSERT_EQUAL(count, 9);
        aq_tensor_free(&y);
    }
    free(values);
    aq_tensor_free(&x);
}

static void a_value_past_half_is_found_as_infinite(void) {
    const float values[4] = {1.0f, 65519.0f, 65520.0f, -1e6f};
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(4), values), half;
    size_t count = 0;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F16, AQ_DIMS(4), &half));
    AQ_CHECK(aq_convert(&x, 1.0, &half));
    AQ_CHECK(aq_count_nonfinite(&half, &count));
    CU_ASSERT_EQUAL(count, 2);
    AQ_CHECK(aq_count_nonfinite(&x, &count));
    CU_ASSERT_EQUAL(count, 0);
    aq_tensor_free(&x);
    aq_tensor_free(&half);
}

static void a_bias_is_added_to_every_row(void) {
    aq_tensor bias = aq_test_normal(AQ_DIMS(COLUMNS), 1);
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, COLUMNS), 2);
    double *b = reference_values(&bias), *expected = reference_values(&x);
    for (int i = 0; i < ROWS * COLUMNS; i++) expected[i] += b[i % COLUMNS];
    AQ_CHECK(aq_bias_add(&bias, &x));
    reference_check(&x, expected, 1e-6);
    free(b);
    aq_tensor_free(&bias);
    aq_tensor_free(&x);
}

static void a_bias_gradient_adds_the_columns_sums(void) {
    aq_tensor dx = aq_test_normal(AQ_DIMS(ROWS, COLUMNS), 1);
    aq_tensor dbias = aq_test_normal(AQ_DIMS(COLUMNS), 2);
    double *d = reference_values(&dx), *expected = reference_values(&dbias);
    for (int i = 0; i < ROWS * COLUMNS; i++) expected[i % COLUMNS] += d[i];
    AQ_CHECK(aq_bias_grad(&dx, &dbias));
    reference_check(&dbias, expected, 1e-6);
    free(d);
    aq_tensor_free(&dx);
    aq_tensor_free(&dbias);
}

/* ---- Adam ---- */

typedef struct adam_state {
    aq_tensor parameter, first, second, largest;
} adam_state;

static adam_state adam_start(const float *parameter, size_t count) {
    adam_state state = {.parameter = aq_test_tensor(AQ_F32, AQ_DIMS(count), parameter)};
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F32, AQ_DIMS(count), &state.first));
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F32, AQ_DIMS(count), &state.second));
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F32, AQ_DIMS(count), &state.largest));
    return state;
}

static void adam_free(adam_state *state) {
    aq_tensor_free(&state->parameter);
    aq_tensor_free(&state->first);
    aq_tensor_free(&state->second);
    aq_tensor_free(&state->largest);
}

static void adam_apply(adam_state *state, aq_adam_step step, const float *grad, bool largest) {
    aq_tensor g = aq_test_tensor(AQ_F32, AQ_DIMS(aq_tensor_count(&state->parameter)), grad);
    AQ_CHECK(aq_adam(&step, &g, &state->parameter, &state->first, &state->second,
                     largest ? &state->largest : NULL));
    aq_tensor_free(&g);
}

/* Three steps of torch.optim.Adam(lr=0.1, eps=1e-8) in float64: betas (0.9, 0.95), and AMSGrad with
 * betas (0, 0.5). */
static const float adam_parameter[3] = {1.0f, -2.0f, 0.0f};
static const float adam_grads[3][3] = {{1, 0.5f, 0}, {-0.5f, 2, 1e-3f}, {0.25f, -1, 0}};

static void adam_matches_pytorch(void) {
    const double expected[3][3] = {{0.900000001, -2.099999998, 0.0},
                                   {0.8731630565, -2.187473181, -0.07349497393},
                                   {0.8384948942, -2.220972466, -0.1310411827}};
    adam_state state = adam_start(adam_parameter, 3);
    for (int i = 0; i < 3; i++) {
        aq_adam_step step = {0.1f, 0.9f, 0.95f, 1e-8f, i + 1};
        adam_apply(&state, step, adam_grads[i], false);
        CU_ASSERT(reference_distance(&state.parameter, expected[i]) < 1e-6);
    }
    adam_free(&state);
}

static void amsgrad_matches_pytorch(void) {
    const double expected[3][3] = {{0.900000001, -2.099999998, 0.0},
                                   {0.9612372438, -2.220604535, -0.1224729872},
                                   {0.9281653529, -2.155470641, -0.1224729872}};
    adam_state state = adam_start(adam_parameter, 3);
    for (int i = 0; i < 3; i++) {
        aq_adam_step step = {0.1f, 0.0f, 0.5f, 1e-8f, i + 1};
        adam_apply(&state, step, adam_grads[i], true);
        CU_ASSERT(reference_distance(&state.parameter, expected[i]) < 1e-6);
    }
    adam_free(&state);
}

/* More parameters than a launch takes, of one to several blocks of elements each. */
static void many_parameters_step_as_one_by_one(void) {
    enum { PARAMETERS = 40 };
    const aq_adam_step step = {1e-2f, 0.9f, 0.95f, 1e-8f, 1};
    adam_state together[PARAMETERS], alone[PARAMETERS];
    aq_tensor grads[PARAMETERS];
    aq_adam_tensors list[PARAMETERS];
    for (size_t i = 0; i < PARAMETERS; i++) {
        aq_tensor start = aq_test_normal(AQ_DIMS(1 + i * i * 3), i);
        float *values = aq_test_host(&start);
        size_t count = 1 + i * i * 3;
        together[i] = adam_start(values, count);
        alone[i] = adam_start(values, count);
        grads[i] = aq_test_tensor(AQ_F32, AQ_DIMS(count), values);
        list[i] = (aq_adam_tensors){&grads[i], &together[i].parameter, &together[i].first,
                                    &together[i].second, i % 2 ? &together[i].largest : NULL};
        AQ_CHECK(aq_adam(&step, &grads[i], &alone[i].parameter, &alone[i].first, &alone[i].second,
                         NULL));
        free(values);
        aq_tensor_free(&start);
    }
    AQ_CHECK(aq_adam_many(&step, list, PARAMETERS));
    for (size_t i = 0; i < PARAMETERS; i++) {
        double *expected = reference_values(&alone[i].parameter);
        CU_ASSERT(reference_distance(&together[i].parameter, expected) == 0);
        free(expected);
        adam_free(&together[i]);
        adam_free(&alone[i]);
        aq_tensor_free(&grads[i]);
    }
}

/* The same update in float64 over many elements and steps. */
static void adam_follows_its_formula_for_many_steps(void) {
    enum { ELEMENTS = 1031, STEPS = 20 };
    aq_tensor start = aq_test_normal(AQ_DIMS(ELEMENTS), 1);
    float *values = aq_test_host(&start);
    double *p = reference_values(&start), m1[ELEMENTS] = {0}, m2[ELEMENTS] = {0},
           top[ELEMENTS] = {0};
    adam_state state = adam_start(values, ELEMENTS);
    for (int t = 1; t <= STEPS; t++) {
        aq_tensor grad = aq_test_normal(AQ_DIMS(ELEMENTS), 100 + (uint64_t)t);
        float *g = aq_test_host(&grad);
        for (int i = 0; i < ELEMENTS; i++) {
            m1[i] = 0.9 * m1[i] + 0.1 * (double)g[i];
            m2[i] = 0.95 * m2[i] + 0.05 * (double)g[i] * (double)g[i];
            top[i] = fmax(top[i], m2[i]);
            p[i] -= 1e-2 * (m1[i] / (1 - pow(0.9, t))) / (sqrt(top[i] / (1 - pow(0.95, t))) + 1e-6);
        }
        adam_apply(&state, (aq_adam_step){1e-2f, 0.9f, 0.95f, 1e-6f, t}, g, true);
        free(g);
        aq_tensor_free(&grad);
    }
    reference_check(&state.parameter, p, 1e-6);
    CU_ASSERT(reference_distance(&state.first, m1) < 1e-5);
    CU_ASSERT(reference_distance(&state.second, m2) < 1e-5);
    CU_ASSERT(reference_distance(&state.largest, top) < 1e-5);
    free(values);
    aq_tensor_free(&start);
    adam_free(&state);
}

/* ---- pick ---- */

/* Rows of 4 and of 3 elements, more numbers than a launch takes, some of them twice. */
static void check_pick(size_t rows, size_t columns) {
    enum { SOURCES = 7, NUMBERS = 600 };
    size_t size = rows * columns;
    uint32_t list[NUMBERS];
    for (uint32_t i = 0; i < NUMBERS; i++) list[i] = i * i % SOURCES;
    aq_tensor x = aq_test_normal(AQ_DIMS(SOURCES, rows, columns), 3), source, target;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_BF16, AQ_DIMS(SOURCES, rows, columns), &source));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(NUMBERS * rows, columns), &target));
    AQ_CHECK(aq_convert(&x, 1, &source));
    AQ_CHECK(aq_pick(&source, list, NUMBERS, &target));
    AQ_CHECK(aq_convert(&source, 1, &x));
    const float *from = aq_test_host(&x), *to = aq_test_host(&target);
    for (size_t i = 0; i < NUMBERS; i++)
        CU_ASSERT_EQUAL(memcmp(to + i * size, from + list[i] * size, size * sizeof *to), 0);
    list[NUMBERS - 1] = SOURCES;
    AQ_CHECK_FAILS(aq_pick(&source, list, NUMBERS, &target), AQ_INVALID, "number 7 of 7");
    AQ_CHECK_FAILS(aq_pick(&source, list, NUMBERS - 1, &target), AQ_SHAPE, "599 times");
    free((void *)from);
    free((void *)to);
    aq_tensor_free(&x);
    aq_tensor_free(&source);
    aq_tensor_free(&target);
}

static void picking_copies_numbered_rows_exactly(void) {
    check_pick(5, 4);
    check_pick(5, 3);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(fill_sets_every_element),
        AQ_CASE(convert_rounds_to_sixteen_bits_like_half_h),
        AQ_CASE(convert_reads_every_sixteen_bit_value),
        AQ_CASE(convert_goes_between_all_types_exactly_where_it_can),
        AQ_CASE(convert_applies_the_factor),
        AQ_CASE(picking_copies_numbered_rows_exactly),
        AQ_CASE(axpby_combines),
        AQ_CASE(axpby_with_beta_zero_does_not_read_y),
        AQ_CASE(dot_sums_in_float64),
        AQ_CASE(dot_keeps_small_terms_beside_large_ones),
        AQ_CASE(dot_add_adds_to_the_sum),
        AQ_CASE(nonfinite_elements_are_counted_in_every_type),
        AQ_CASE(a_value_past_half_is_found_as_infinite),
        AQ_CASE(a_bias_is_added_to_every_row),
        AQ_CASE(a_bias_gradient_adds_the_columns_sums),
        AQ_CASE(adam_matches_pytorch),
        AQ_CASE(amsgrad_matches_pytorch),
        AQ_CASE(many_parameters_step_as_one_by_one),
        AQ_CASE(adam_follows_its_formula_for_many_steps),
    };
    return aq_test_backend_main("ops: elements", cases, sizeof cases / sizeof *cases, argc, argv);
}
