/* The work of a phase, against figures worked out by hand (4096 x 4096, a block of Llama-2-7B). */
#include "run/synthetic.h"
#include "run/work.h"
#include "suite.h"

#include <math.h>

static const aq_scheme one_sixteen = {.codebooks = 1, .bits = 16, .in_group = 8, .out_group = 1};
static const aq_scheme two_eight = {.codebooks = 2, .bits = 8, .in_group = 8, .out_group = 1};

static bool near(double value, double expected) {
    return fabs(value - expected) <= 1e-6 * expected;
}

static void kmeans_compares_every_vector_with_every_entry(void) {
    aq_work work = aq_work_kmeans(&one_sixteen, 4096, 4096);
    CU_ASSERT_TRUE(near(work.scores, 2097152.0 * 65536));
    CU_ASSERT_TRUE(near(work.halves, 2097152.0 * 65536 * 16));
    CU_ASSERT_TRUE(near(work.bytes, 4 * 16777216.0));
    const aq_scheme wide = {.codebooks = 1, .bits = 8, .in_group = 8, .out_group = 2};
    CU_ASSERT_TRUE(near(aq_work_kmeans(&wide, 64, 128).scores, 64 * 128 / 16 * 256));
}

static void a_code_pass_searches_each_codebook_for_each_hypothesis(void) {
    double residual = 4096.0 * 4096 * 4096;
    aq_work one = aq_work_codes(&one_sixteen, 4096, 4096, 1);
    aq_work four = aq_work_codes(&two_eight, 4096, 4096, 4);
    CU_ASSERT_TRUE(near(one.halves, 2097152.0 * 65536 * 16));
    CU_ASSERT_TRUE(near(one.products, 3 * residual));
    CU_ASSERT_TRUE(near(four.scores, 8 * 2097152.0 * 256));
    CU_ASSERT_TRUE(near(four.halves, 8 * 2097152.0 * 256 * 16));
    CU_ASSERT_TRUE(near(four.products, 6 * residual));
    aq_work pairs = aq_work_pairs(&two_eight, 4096, 4096);
    CU_ASSERT_TRUE(near(pairs.scores, 2097152.0 * 65536));
    CU_ASSERT_TRUE(near(pairs.products, 3 * residual));
}

static void a_codebook_step_is_one_product(void) {
    aq_work step = aq_work_codebooks(11008, 4096), round = aq_work_times(&step, 100);
    CU_ASSERT_TRUE(near(step.products, 2 * 11008.0 * 4096 * 4096));
    CU_ASSERT_TRUE(near(round.products, 100 * step.products));
    CU_ASSERT_TRUE(near(round.bytes, 100 * step.bytes));
}

static void passes_multiply_every_weight_with_every_token(void) {
    aq_block_kind kind;
    CU_ASSERT_EQUAL_FATAL(aq_synthetic_kind("llama-2-7b", &kind), AQ_OK);
    const aq_model_shape shape = kind.shape;
    double weights = 4 * 4096.0 * 4096 + 3 * 4096.0 * 11008, pairs = 4096.0 * 4096 * 4096;
    aq_work ahead = aq_work_forward(&shape, 4096), back = aq_work_backward(&shape, 4096);
    CU_ASSERT_TRUE(near(ahead.halves, 2 * weights * 4096 + 2 * pairs));
    CU_ASSERT_TRUE(near(ahead.halves + back.halves, 6 * weights * 4096 + 7 * pairs));
    aq_work decode = aq_work_decode(&shape, &two_eight);
    CU_ASSERT_TRUE(near(decode.bytes, weights * (4 + 0.5)));
    CU_ASSERT_TRUE(aq_work_update(&shape, &two_eight).bytes > decode.bytes);
}

static void the_floor_is_what_takes_longest(void) {
    const aq_machine machine = {.copy = 1e3, .precise = 2e3, .fast = 1e4, .half = 1e5};
    const aq_work products = {.products = 5e4, .halves = 1e5, .scores = 10, .bytes = 10};
    const aq_work scores = {.products = 5e4, .scores = 7e3};
    const aq_work bytes = {.products = 5e4, .scores = 7e3, .bytes = 9e3};
    CU_ASSERT_DOUBLE_EQUAL(aq_work_floor(&products, &machine), 6, 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(aq_work_floor(&scores, &machine), 7, 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(aq_work_floor(&bytes, &machine), 9, 1e-9);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(kmeans_compares_every_vector_with_every_entry),
        AQ_CASE(a_code_pass_searches_each_codebook_for_each_hypothesis),
        AQ_CASE(a_codebook_step_is_one_product),
        AQ_CASE(passes_multiply_every_weight_with_every_token),
        AQ_CASE(the_floor_is_what_takes_longest),
    };
    return aq_test_main("work", cases, sizeof cases / sizeof *cases, argc, argv);
}
