#include "base/half.h"
#include "base/random.h"
#include "base/status.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- status ---- */

static aq_status fail_with(const char *text) {
    return AQ_FAIL(AQ_FORMAT, "%s", text);
}

static void failing_keeps_code_text_and_source(void) {
    CU_ASSERT_EQUAL(AQ_FAIL(AQ_IO, "cannot read %s at %d", "file", 7), AQ_IO);
    CU_ASSERT_STRING_EQUAL(aq_error_text(), "cannot read file at 7");
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_source(), "test_base.c:"));
}

static void a_place_stands_in_front_of_the_text(void) {
    CU_ASSERT_EQUAL(aq_error_at(fail_with("wrong magic"), "model %d", 3), AQ_FORMAT);
    CU_ASSERT_STRING_EQUAL(aq_error_text(), "model 3: wrong magic");
}

static void control_characters_cannot_break_the_line(void) {
    fail_with("a\nb\x1b[2Jc\td\x7f");
    CU_ASSERT_STRING_EQUAL(aq_error_text(), "a?b?[2Jc?d?");
}

static void a_long_text_is_cut(void) {
    char *text = malloc(5000);
    memset(text, 'x', 4999);
    text[4999] = '\0';
    fail_with(text);
    CU_ASSERT_EQUAL(strlen(aq_error_text()), 1023);
    aq_error_at(AQ_FORMAT, "%s", text);
    CU_ASSERT_EQUAL(strlen(aq_error_text()), 1023);
    free(text);
}

static void the_old_text_may_be_an_argument(void) {
    fail_with("inner");
    AQ_FAIL(AQ_IO, "outer (%s)", aq_error_text());
    CU_ASSERT_STRING_EQUAL(aq_error_text(), "outer (inner)");
}

static void every_code_has_its_name(void) {
    CU_ASSERT_STRING_EQUAL(aq_status_name(AQ_OK), "OK");
    CU_ASSERT_STRING_EQUAL(aq_status_name(AQ_STOPPED), "STOPPED");
    CU_ASSERT_STRING_EQUAL(aq_status_name((aq_status)99), "UNKNOWN");
}

/* ---- random ---- */

static void an_order_is_a_permutation(void) {
    enum { COUNT = 1000 };
    uint32_t order[COUNT];
    int seen[COUNT] = {0}, fixed = 0;
    aq_random_order(5, AQ_STREAM_TEST, COUNT, order);
    for (int i = 0; i < COUNT; i++) {
        CU_ASSERT_FATAL(order[i] < COUNT);
        seen[order[i]]++;
        fixed += order[i] == (uint32_t)i;
    }
    for (int i = 0; i < COUNT; i++) CU_ASSERT_EQUAL(seen[i], 1);
    CU_ASSERT(fixed < 10);
}

static void equal_arguments_draw_equal_numbers(void) {
    CU_ASSERT_EQUAL(aq_random(1, 2, 3), aq_random(1, 2, 3));
    CU_ASSERT_NOT_EQUAL(aq_random(1, 2, 3), aq_random(2, 2, 3));
    CU_ASSERT_NOT_EQUAL(aq_random(1, 2, 3), aq_random(1, 3, 3));
    CU_ASSERT_NOT_EQUAL(aq_random(1, 2, 3), aq_random(1, 2, 4));
}

static void normal_numbers_have_their_moments(void) {
    enum { COUNT = 200000 };
    double sum = 0.0, square = 0.0, fourth = 0.0;
    for (int i = 0; i < COUNT; i++) {
        double x = aq_random_normal(9, AQ_STREAM_TEST, (uint64_t)i);
        sum += x;
        square += x * x;
        fourth += x * x * x * x;
    }
    CU_ASSERT_DOUBLE_EQUAL(sum / COUNT, 0.0, 0.01);
    CU_ASSERT_DOUBLE_EQUAL(square / COUNT, 1.0, 0.02);
    CU_ASSERT_DOUBLE_EQUAL(fourth / COUNT, 3.0, 0.15);
}

static void bounded_numbers_reach_every_value(void) {
    int seen[7] = {0};
    for (uint64_t i = 0; i < 7000; i++) seen[aq_random_below(aq_random(1, 1, i), 7)]++;
    for (int i = 0; i < 7; i++) CU_ASSERT(seen[i] > 850 && seen[i] < 1150);
}

/* ---- 16-bit floats ---- */

static bool is_half_nan(uint32_t bits) {
    return (bits & 0x7fffu) > 0x7c00u;
}

static bool is_bfloat_nan(uint32_t bits) {
    return (bits & 0x7fffu) > 0x7f80u;
}

static void every_half_survives_the_round_trip(void) {
    int wrong = 0;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t back = aq_half_from_float(aq_half_to_float((uint16_t)bits));
        wrong += is_half_nan(bits) ? !is_half_nan(back) : back != bits;
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void every_bfloat_survives_the_round_trip(void) {
    int wrong = 0;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t back = aq_bfloat_from_float(aq_bfloat_to_float((uint16_t)bits));
        wrong += is_bfloat_nan(bits) ? !is_bfloat_nan(back) : back != bits;
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void halves_have_their_values(void) {
    CU_ASSERT_EQUAL(aq_half_to_float(0x3c00), 1.0f);
    CU_ASSERT_EQUAL(aq_half_to_float(0xc000), -2.0f);
    CU_ASSERT_EQUAL(aq_half_to_float(0x7bff), 65504.0f);
    CU_ASSERT_EQUAL(aq_half_to_float(0x0400), 0x1p-14f);
    CU_ASSERT_EQUAL(aq_half_to_float(0x0001), 0x1p-24f);
    CU_ASSERT_EQUAL(aq_half_to_float(0xfc00), -INFINITY);
    CU_ASSERT(signbit(aq_half_to_float(0x8000)));
    CU_ASSERT_EQUAL(aq_bfloat_to_float(0x3f80), 1.0f);
}

/* Between two neighbours: the middle goes to the even one, either side of it to the nearer. */
static int wrong_roundings(uint32_t last, float (*widen)(uint16_t), uint16_t (*narrow)(float)) {
    int wrong = 0;
    for (uint32_t bits = 0; bits < last; bits++) {
        float low = widen((uint16_t)bits), high = widen((uint16_t)(bits + 1));
        float middle = (float)(((double)low + (double)high) / 2.0);
        if ((double)middle != ((double)low + (double)high) / 2.0) continue;
        wrong += narrow(middle) != (bits & 1u ? bits + 1 : bits);
        wrong += narrow(nextafterf(middle, INFINITY)) != bits + 1;
        wrong += narrow(nextafterf(middle, 0.0f)) != bits;
        wrong += narrow(-middle) != (0x8000u | (bits & 1u ? bits + 1 : bits));
    }
    return wrong;
}

static void rounding_is_to_nearest_even(void) {
    CU_ASSERT_EQUAL(wrong_roundings(0x7bff, aq_half_to_float, aq_half_from_float), 0);
    CU_ASSERT_EQUAL(wrong_roundings(0x7f7f, aq_bfloat_to_float, aq_bfloat_from_float), 0);
}

static void values_past_the_range_become_infinity(void) {
    CU_ASSERT_EQUAL(aq_half_from_float(65519.996f), 0x7bff);
    CU_ASSERT_EQUAL(aq_half_from_float(65520.0f), 0x7c00);
    CU_ASSERT_EQUAL(aq_half_from_float(-1e30f), 0xfc00);
    CU_ASSERT_EQUAL(aq_half_from_float(INFINITY), 0x7c00);
    CU_ASSERT(is_half_nan(aq_half_from_float(NAN)));
    CU_ASSERT_EQUAL(aq_bfloat_from_float(3.4e38f), 0x7f80);
    CU_ASSERT(is_bfloat_nan(aq_bfloat_from_float(NAN)));
    CU_ASSERT(is_bfloat_nan(aq_bfloat_from_float(aq_float_from_bits(0x7f800001u))));
}

static void half_fits_says_what_stays_finite(void) {
    CU_ASSERT(aq_half_fits(65519.996f) && aq_half_fits(-65504.0f) && aq_half_fits(0.0f));
    CU_ASSERT(!aq_half_fits(65520.0f) && !aq_half_fits(-INFINITY) && !aq_half_fits(NAN));
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(failing_keeps_code_text_and_source),
                                    AQ_CASE(a_place_stands_in_front_of_the_text),
                                    AQ_CASE(control_characters_cannot_break_the_line),
                                    AQ_CASE(a_long_text_is_cut),
                                    AQ_CASE(the_old_text_may_be_an_argument),
                                    AQ_CASE(every_code_has_its_name),
                                    AQ_CASE(an_order_is_a_permutation),
                                    AQ_CASE(equal_arguments_draw_equal_numbers),
                                    AQ_CASE(normal_numbers_have_their_moments),
                                    AQ_CASE(bounded_numbers_reach_every_value),
                                    AQ_CASE(every_half_survives_the_round_trip),
                                    AQ_CASE(every_bfloat_survives_the_round_trip),
                                    AQ_CASE(halves_have_their_values),
                                    AQ_CASE(rounding_is_to_nearest_even),
                                    AQ_CASE(values_past_the_range_become_infinity),
                                    AQ_CASE(half_fits_says_what_stays_finite)};
    return aq_test_main("base", cases, sizeof cases / sizeof *cases, argc, argv);
}
