/* Coded weights as objects: schemes, bits, rounding, the index of codes. */
#include "layer_problem.h"
#include "suite.h"

#include "base/half.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void a_scheme_reads_as_codebooks_times_bits(void) {
    aq_scheme scheme = {.in_group = 8, .out_group = 1};
    AQ_CHECK(aq_scheme_parse("2x8", &scheme));
    CU_ASSERT(scheme.codebooks == 2 && scheme.bits == 8 && scheme.in_group == 8);
    AQ_CHECK(aq_scheme_parse("1x16", &scheme));
    CU_ASSERT(scheme.codebooks == 1 && scheme.bits == 16 && scheme.out_group == 1);
    AQ_CHECK(aq_scheme_parse("16x1", &scheme));
    CU_ASSERT(scheme.codebooks == 16 && scheme.bits == 1);
}

static void anything_else_is_no_scheme(void) {
    static const char *const texts[] = {
        "",     "2",    "x8",   "2x",  "2x8x", "0x8",  "2x0",           "17x8",         "2x17",
        "-2x8", "2x-8", " 2x8", "2X8", "2x 8", "2x8 ", "99999999999x8", "2x99999999999"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        aq_scheme scheme;
        AQ_CHECK_FAILS(aq_scheme_parse(texts[i], &scheme), AQ_INVALID, "expected MxB");
    }
}

static void a_scheme_must_fit_the_weight(void) {
    AQ_CHECK(aq_scheme_check(&(aq_scheme){2, 8, 8, 1}, 64, 64));
    AQ_CHECK_FAILS(aq_scheme_check(&(aq_scheme){2, 8, 7, 1}, 64, 64), AQ_INVALID,
                   "group: 7 does not divide the weight's 64 columns");
    AQ_CHECK_FAILS(aq_scheme_check(&(aq_scheme){2, 8, 8, 3}, 64, 64), AQ_INVALID,
                   "out_group: 3 does not divide the weight's 64 rows");
    AQ_CHECK_FAILS(aq_scheme_check(&(aq_scheme){1, 10, 8, 1}, 64, 64), AQ_INVALID,
                   "a codebook of 1024 entries is larger than the 512 vectors");
    AQ_CHECK_FAILS(aq_scheme_check(&(aq_scheme){0, 8, 8, 1}, 64, 64), AQ_INVALID, "codebooks");
    AQ_CHECK_FAILS(aq_scheme_check(&(aq_scheme){2, 17, 8, 1}, 64, 64), AQ_INVALID, "bits");
    AQ_CHECK_FAILS(aq_scheme_check(&(aq_scheme){2, 8, 0, 1}, 64, 64), AQ_INVALID, "group");
    AQ_CHECK_FAILS(aq_scheme_check(&(aq_scheme){2, 8, 8, 0}, 64, 64), AQ_INVALID, "out_group");
    AQ_CHECK_FAILS(aq_scheme_check(&(aq_scheme){2, 8, 8, 1}, (size_t)1 << 40, (size_t)1 << 40),
                   AQ_INVALID, "vectors");
}

static void bits_count_codes_codebooks_and_scales(void) {
    aq_scheme two = {2, 8, 8, 1}, one = {1, 16, 8, 1}, tall = {1, 8, 8, 2};
    CU_ASSERT_DOUBLE_EQUAL(aq_scheme_bits(&two, 384, 384),
                           2 + 16.0 * 2 * 256 * 8 / (384 * 384) + 16.0 / 384, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(aq_scheme_bits(&two, 4096, 4096), 2.0078125, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(aq_scheme_bits(&one, 4096, 4096), 2.50390625, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(aq_scheme_bits(&tall, 1024, 1024),
                           0.5 + 16.0 * 256 * 16 / (1024 * 1024) + 8.0 / 1024, 1e-12);
}

/* A coded weight of 2 codebooks of 4 entries: 6 rows in groups of 2, 12 columns in groups of 4. */
static aq_coded small_coded(void) {
    enum { ROWS = 3, GROUPS = 3, CODEBOOKS = 2 };
    uint16_t codes[ROWS * GROUPS * CODEBOOKS];
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        codes[i] = (uint16_t)aq_random_below(aq_random(7, AQ_STREAM_TEST, i), 4);
    float scales[ROWS] = {0.5f, 2, 3};
    return (aq_coded){.scheme = {.codebooks = CODEBOOKS, .bits = 2, .in_group = 4, .out_group = 2},
                      .codes = aq_test_tensor(AQ_U16, AQ_DIMS(ROWS, GROUPS, CODEBOOKS), codes),
                      .codebooks = aq_test_normal(AQ_DIMS(CODEBOOKS, 4, 2, 4), 11),
                      .scales = aq_test_tensor(AQ_F32, AQ_DIMS(ROWS), scales)};
}

static void a_difference_is_decoded_minus_weight(void) {
    aq_coded coded = small_coded();
    CU_ASSERT(aq_coded_out(&coded) == 6 && aq_coded_in(&coded) == 12);
    aq_tensor weight = aq_test_normal(AQ_DIMS(6, 12), 3), difference;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(6, 12), &difference));
    AQ_CHECK(aq_coded_difference(&coded, &weight, &difference));
    float *expected = aq_test_decode(&coded), *host = aq_test_host(&weight);
    float *found = aq_test_host(&difference);
    for (size_t i = 0; i < 72; i++)
        CU_ASSERT_DOUBLE_EQUAL(found[i], (double)expected[i] - (double)host[i], 1e-5);
    free(expected), free(host), free(found);
    aq_tensor_free(&weight), aq_tensor_free(&difference);
    aq_coded_free(&coded);
}

static void rounding_leaves_float16_values(void) {
    aq_tensor values = aq_test_normal(AQ_DIMS(100), 5);
    float *before = aq_test_host(&values);
    AQ_CHECK(aq_round_to_half(&values, "numbers"));
    float *after = aq_test_host(&values);
    for (size_t i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(after[i], aq_half_to_float(aq_half_from_float(before[i])));
    free(before), free(after);
    aq_tensor_free(&values);
}

static void values_past_float16_are_refused_and_kept(void) {
    static const float bad[] = {65520, -1e9f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float host[3] = {1.0001f, bad[i], 2};
        aq_tensor values = aq_test_tensor(AQ_F32, AQ_DIMS(3), host);
        AQ_CHECK_FAILS(aq_round_to_half(&values, "scales of q_proj"), AQ_NUMERIC,
                       "scales of q_proj: 1 of 3 values");
        float *after = aq_test_host(&values);
        CU_ASSERT_EQUAL(memcmp(after, host, sizeof host), 0);
        free(after);
        aq_tensor_free(&values);
    }
}

static void copies_hold_the_same_bits(void) {
    aq_coded coded = small_coded(), copy;
    AQ_CHECK(aq_coded_new(aq_test_backend(), &coded.scheme, 6, 12, &copy));
    AQ_CHECK(aq_coded_copy(&coded, &copy));
    CU_ASSERT(aq_test_same_bits(&coded.codes, &copy.codes));
    CU_ASSERT(aq_test_same_bits(&coded.codebooks, &copy.codebooks));
    CU_ASSERT(aq_test_same_bits(&coded.scales, &copy.scales));
    AQ_CHECK(aq_coded_round(&copy));
    CU_ASSERT_FALSE(aq_test_same_bits(&coded.codebooks, &copy.codebooks));
    aq_coded_free(&coded), aq_coded_free(&copy);
}

static void an_index_lists_every_vector_under_its_code(void) {
    enum { VECTORS = 9, CODEBOOKS = 2, ENTRIES = 4 };
    aq_coded coded = small_coded();
    aq_code_index index;
    AQ_CHECK(aq_code_index_new(&coded, &index));
    AQ_CHECK(aq_code_index_update(&coded, &index));
    uint16_t *codes = aq_test_host(&coded.codes);
    uint32_t *orders = aq_test_host(&index.orders), *offsets = aq_test_host(&index.offsets);
    for (size_t m = 0; m < CODEBOOKS; m++) {
        const uint32_t *ends = offsets + m * (ENTRIES + 1), *order = orders + m * VECTORS;
        CU_ASSERT(ends[0] == 0 && ends[ENTRIES] == VECTORS);
        for (size_t k = 0; k < ENTRIES; k++)
            for (uint32_t i = ends[k]; i < ends[k + 1]; i++) {
                CU_ASSERT_EQUAL(codes[order[i] * CODEBOOKS + m], k);
                CU_ASSERT(i == ends[k] || order[i - 1] < order[i]);
            }
    }
    free(codes), free(orders), free(offsets);
    aq_code_index_free(&index);
    aq_coded_free(&coded);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"a_scheme_reads_as_codebooks_times_bits", a_scheme_reads_as_codebooks_times_bits},
        {"anything_else_is_no_scheme", anything_else_is_no_scheme},
        {"a_scheme_must_fit_the_weight", a_scheme_must_fit_the_weight},
        {"bits_count_codes_codebooks_and_scales", bits_count_codes_codebooks_and_scales},
        {"a_difference_is_decoded_minus_weight", a_difference_is_decoded_minus_weight},
        {"rounding_leaves_float16_values", rounding_leaves_float16_values},
        {"values_past_float16_are_refused_and_kept", values_past_float16_are_refused_and_kept},
        {"copies_hold_the_same_bits", copies_hold_the_same_bits},
        {"an_index_lists_every_vector_under_its_code", an_index_lists_every_vector_under_its_code},
    };
    return aq_test_backend_main("quant/coded_weight", cases, sizeof cases / sizeof *cases, argc,
                                argv);
}
