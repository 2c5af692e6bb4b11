/* What the checked calls refuse, and what they say. */
#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS = 64 };
static aq_tensor made[TENSORS];
static int made_count;

/* Tensors of a case, freed together at its end. */
static aq_tensor *zeros(aq_dtype dtype, aq_shape shape) {
    CU_ASSERT_FATAL(made_count < TENSORS);
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), dtype, shape, &made[made_count]));
    return &made[made_count++];
}

static void free_all(void) {
    while (made_count > 0) aq_tensor_free(&made[--made_count]);
}

static void products_name_both_shapes(void) {
    aq_tensor *a = zeros(AQ_F32, AQ_DIMS(3, 4)), *b = zeros(AQ_F32, AQ_DIMS(5, 6));
    aq_tensor *c = zeros(AQ_F32, AQ_DIMS(3, 6));
    const aq_product how = {.alpha = 1.0f};
    AQ_CHECK_FAILS(aq_matmul(a, b, &how, c), AQ_SHAPE, "matmul: a is [3, 4], b is [5, 6]");
    AQ_CHECK_FAILS(aq_matmul(a, zeros(AQ_F32, AQ_DIMS(4, 5)), &how, c), AQ_SHAPE,
                   "b is [4, 5], c is [3, 6]");
    AQ_CHECK_FAILS(aq_matmul(a, zeros(AQ_F64, AQ_DIMS(4, 6)), &how, c), AQ_SHAPE,
                   "b is F64, expected F32");
    AQ_CHECK_FAILS(aq_matmul(a, zeros(AQ_F32, AQ_DIMS(24)), &how, c), AQ_SHAPE,
                   "b is [24], expected 2 dimensions");
    AQ_CHECK_FAILS(aq_gram_add(a, zeros(AQ_F64, AQ_DIMS(3, 3))), AQ_SHAPE,
                   "gram_add: x is [3, 4], gram is [3, 3]");
    AQ_CHECK_FAILS(aq_gram_add(a, zeros(AQ_F32, AQ_DIMS(4, 4))), AQ_SHAPE, "gram is F32");
    free_all();
}

static void empty_tensors_are_refused(void) {
    aq_tensor empty = {0}, *x = zeros(AQ_F32, AQ_DIMS(3));
    AQ_CHECK_FAILS(aq_axpby(1.0f, &empty, 0.0f, x), AQ_SHAPE, "axpby: x is empty");
    AQ_CHECK_FAILS(aq_axpby(1.0f, x, 0.0f, &empty), AQ_SHAPE, "axpby: y is empty");
    AQ_CHECK_FAILS(aq_fill(1.0f, &empty), AQ_SHAPE, "fill: x is empty");
    AQ_CHECK_FAILS(aq_convert(&empty, 1.0, x), AQ_SHAPE, "convert: source is empty");
    double result;
    AQ_CHECK_FAILS(aq_dot(&empty, x, &result), AQ_SHAPE, "dot: x is empty");
    free_all();
}

static void tensors_of_two_backends_do_not_mix(void) {
    aq_backend *other;
    AQ_CHECK(aq_cpu_open(1, &other));
    aq_tensor *x = zeros(AQ_F32, AQ_DIMS(3)), y;
    AQ_CHECK(aq_tensor_zeros(other, AQ_F32, AQ_DIMS(3), &y));
    AQ_CHECK_FAILS(aq_axpby(1.0f, x, 0.0f, &y), AQ_SHAPE, "x and y live in different backends");
    aq_tensor_free(&y);
    aq_backend_close(other);
    free_all();
}

static void elements_need_equal_counts_and_known_types(void) {
    aq_tensor *x = zeros(AQ_F32, AQ_DIMS(3, 4)), *y = zeros(AQ_F32, AQ_DIMS(11));
    aq_tensor *codes = zeros(AQ_U16, AQ_DIMS(12)), *two = zeros(AQ_F64, AQ_DIMS(2));
    size_t count;
    AQ_CHECK_FAILS(aq_axpby(1.0f, x, 0.0f, y), AQ_SHAPE, "x is [3, 4], y is [11]");
    AQ_CHECK_FAILS(aq_convert(x, 1.0, codes), AQ_SHAPE, "target is U16");
    AQ_CHECK_FAILS(aq_convert(x, 1.0, y), AQ_SHAPE, "equally many");
    AQ_CHECK_FAILS(aq_fill(0.0f, codes), AQ_SHAPE, "fill: x is U16");
    AQ_CHECK_FAILS(aq_count_nonfinite(codes, &count), AQ_SHAPE, "x is U16");
    AQ_CHECK_FAILS(aq_dot_add(x, x, 1.0, two), AQ_SHAPE, "expected [1]");
    AQ_CHECK_FAILS(aq_bias_add(y, x), AQ_SHAPE, "bias is [11], x is [3, 4]");
    AQ_CHECK_FAILS(aq_bias_grad(x, y), AQ_SHAPE, "dx is [3, 4], dbias is [11]");
    AQ_CHECK_FAILS(aq_silu_gate(x, x, y), AQ_SHAPE, "silu_gate");
    AQ_CHECK_FAILS(aq_adam(&(aq_adam_step){.step = 1}, x, x, x, y, NULL), AQ_SHAPE, "second");
    AQ_CHECK_FAILS(aq_adam(&(aq_adam_step){.step = 0}, x, x, x, x, NULL), AQ_INVALID, "step 0");
    free_all();
}

static void clusters_need_fitting_shapes(void) {
    aq_tensor *points = zeros(AQ_F32, AQ_DIMS(10, 8)), *entries = zeros(AQ_F32, AQ_DIMS(4, 8));
    aq_tensor *norms = zeros(AQ_F32, AQ_DIMS(4)), *codes = zeros(AQ_U16, AQ_DIMS(10, 2));
    aq_tensor *wrong = zeros(AQ_F32, AQ_DIMS(4, 7)), *order = zeros(AQ_U32, AQ_DIMS(10));
    aq_tensor *offsets = zeros(AQ_U32, AQ_DIMS(6)), *weight = zeros(AQ_F32, AQ_DIMS(4, 20));
    aq_tensor *scales = zeros(AQ_F32, AQ_DIMS(3)), *gram = zeros(AQ_F32, AQ_DIMS(10, 10));
    aq_tensor *blocks = zeros(AQ_F32, AQ_DIMS(4, 1, 8));
    AQ_CHECK_FAILS(aq_nearest(points, wrong, norms, 0, AQ_FAST, codes), AQ_SHAPE,
                   "entries is [4, 7]");
    AQ_CHECK_FAILS(aq_nearest(points, entries, norms, 2, AQ_FAST, codes), AQ_SHAPE, "codebook 2");
    AQ_CHECK_FAILS(aq_subtract_entries(entries, codes, -1, points), AQ_SHAPE, "codebook -1");
    AQ_CHECK_FAILS(aq_sort_codes(codes, 5, order, offsets), AQ_SHAPE, "codebook 5");
    aq_tensor *sums = zeros(AQ_F64, AQ_DIMS(4, 17)), *five = zeros(AQ_F64, AQ_DIMS(5, 16));
    const aq_cluster_draw draw = {.total = 10}, few = {.first = 1, .total = 10};
    uint32_t drawn;
    AQ_CHECK_FAILS(aq_random_head(points->home, 1, AQ_STREAM_TEST, 4, 5, &drawn), AQ_SHAPE,
                   "5 of 4");
    AQ_CHECK_FAILS(aq_cluster_sums(points, order, offsets, &draw, sums), AQ_SHAPE, "one more");
    AQ_CHECK_FAILS(aq_cluster_sums(points, order, offsets, &draw, five), AQ_SHAPE, "of 8 values");
    five = zeros(AQ_F64, AQ_DIMS(5, 17));
    AQ_CHECK_FAILS(aq_cluster_sums(points, order, offsets, &few, five), AQ_SHAPE, "from number 1");
    AQ_CHECK_FAILS(aq_code_sums(points, codes, 2, &draw, sums), AQ_SHAPE, "codebook 2");
    AQ_CHECK_FAILS(aq_code_sums(points, codes, 0, &few, five), AQ_SHAPE, "from number 1");
    AQ_CHECK_FAILS(aq_cluster_means(sums, wrong), AQ_SHAPE, "of 7 values");
    AQ_CHECK_FAILS(aq_group_norms(weight, scales), AQ_SHAPE, "scales [3] do not divide");
    AQ_CHECK_FAILS(aq_scaled_vectors(weight, norms, 3, points), AQ_SHAPE, "groups of 3");
    AQ_CHECK_FAILS(aq_scaled_vectors(weight, norms, 5, points), AQ_SHAPE, "expected [16, 5]");
    AQ_CHECK_FAILS(aq_entry_norms(blocks, gram, 3, norms), AQ_SHAPE, "columns 3 to 11");
    AQ_CHECK_FAILS(aq_entry_norms(blocks, gram, SIZE_MAX, norms), AQ_SHAPE, "entry_norms");
    free_all();
}

static void coded_weights_must_fit_their_scheme(void) {
    aq_coded coded = reference_coded((aq_scheme){2, 4, 8, 1}, 6, 16, 1);
    AQ_CHECK_FAILS(aq_decode(&coded, zeros(AQ_F32, AQ_DIMS(6, 24))), AQ_SHAPE,
                   "weight is [6, 24], codes are [6, 2, 2] for groups of 1 x 8");
    AQ_CHECK_FAILS(aq_decode(&coded, zeros(AQ_F32, AQ_DIMS(5, 16))), AQ_SHAPE, "weight is [5, 16]");
    coded.scheme.bits = 5;
    AQ_CHECK_FAILS(aq_decode(&coded, zeros(AQ_F32, AQ_DIMS(6, 16))), AQ_SHAPE,
                   "the scheme is 2x5 with groups of 1 x 8");
    coded.scheme.bits = 64;
    AQ_CHECK_FAILS(aq_decode(&coded, zeros(AQ_F32, AQ_DIMS(6, 16))), AQ_SHAPE, "2x64");
    coded.scheme.bits = 4;
    aq_tensor *books = zeros(AQ_F32, AQ_DIMS(2, 16, 1, 8)), *scales = zeros(AQ_F32, AQ_DIMS(6));
    AQ_CHECK_FAILS(aq_coded_grad(&coded, zeros(AQ_U32, AQ_DIMS(2, 13)),
                                 zeros(AQ_U32, AQ_DIMS(2, 17)), zeros(AQ_F32, AQ_DIMS(6, 16)),
                                 books, scales),
                   AQ_SHAPE, "expected 12 vectors and 17 offsets");
    AQ_CHECK_FAILS(aq_coded_diagonal(&coded, zeros(AQ_U32, AQ_DIMS(2, 12)),
                                     zeros(AQ_U32, AQ_DIMS(2, 17)), zeros(AQ_F32, AQ_DIMS(8, 8)),
                                     books),
                   AQ_SHAPE, "gram is [8, 8], codes are for 16 columns");
    reference_coded_free(&coded);
    free_all();
}

static void solvers_need_equal_counts(void) {
    aq_tensor *x = zeros(AQ_F32, AQ_DIMS(5)), *y = zeros(AQ_F32, AQ_DIMS(6));
    aq_conjugate state = {.diagonal = x,
                          .solution = x,
                          .residual = x,
                          .direction = x,
                          .numbers = zeros(AQ_F64, AQ_DIMS(2))};
    AQ_CHECK_FAILS(aq_scales_step(x, y, x), AQ_SHAPE, "curvatures is [6]");
    aq_tensor *wide = zeros(AQ_F32, AQ_DIMS(10, 3)), *narrow = zeros(AQ_F32, AQ_DIMS(10, 2));
    AQ_CHECK_FAILS(aq_gradient_rescale(x, y, wide, wide), AQ_SHAPE, "after is [6]");
    AQ_CHECK_FAILS(aq_gradient_rescale(x, x, narrow, wide), AQ_SHAPE, "fixed is [10, 2]");
    AQ_CHECK_FAILS(aq_gradient_rescale(y, y, wide, wide), AQ_SHAPE, "do not divide");
    AQ_CHECK_FAILS(aq_conjugate_step(&state, y), AQ_SHAPE, "product is [6]");
    AQ_CHECK_FAILS(aq_conjugate_step(&state, NULL), AQ_SHAPE, "2 numbers, expected 3");
    state.residual = y;
    AQ_CHECK_FAILS(aq_conjugate_step(&state, x), AQ_SHAPE, "residual is [6]");
    free_all();
}

static void searches_need_a_permutation_groups_and_a_beam(void) {
    enum { BEAM = AQ_MAX_BEAM + 1 };
    aq_coded coded = reference_coded((aq_scheme){2, 2, 4, 1}, 3, 8, 1);
    const uint8_t order[2] = {0, 1}, twice[2] = {1, 1}, past[2] = {0, 2};
    const uint32_t last[1] = {1}, none[1] = {2};
    aq_group_search search = {.coded = &coded,
                              .gram = zeros(AQ_F32, AQ_DIMS(8, 8)),
                              .residual = zeros(AQ_F32, AQ_DIMS(3, 1, 1, 8)),
                              .run = {.groups = none, .count = 1, .width = 4},
                              .codebook_orders = twice,
                              .losses = zeros(AQ_F32, AQ_DIMS(3, 1)),
                              .ancestors = zeros(AQ_U8, AQ_DIMS(1, 3, 1)),
                              .choices = zeros(AQ_U16, AQ_DIMS(1, 3, 1, 2)),
                              .origins = zeros(AQ_U8, AQ_DIMS(3, 1)),
                              .delta = zeros(AQ_F32, AQ_DIMS(3, 1, 1, 4))};
    AQ_CHECK_FAILS(aq_search_groups(&search), AQ_SHAPE, "group 2 of 2");
    search.run.groups = last;
    AQ_CHECK_FAILS(aq_search_groups(&search), AQ_INVALID, "comes twice");
    search.codebook_orders = past;
    AQ_CHECK_FAILS(aq_search_groups(&search), AQ_INVALID, "codebook 2 of 2");
    search.codebook_orders = order;
    AQ_CHECK(aq_search_groups(&search));
    search.codebook_orders = NULL; /* pairs */
    AQ_CHECK(aq_search_groups(&search));
    search.residual = zeros(AQ_F32, AQ_DIMS(3, BEAM, 1, 8));
    search.losses = zeros(AQ_F32, AQ_DIMS(3, BEAM));
    search.ancestors = zeros(AQ_U8, AQ_DIMS(1, 3, BEAM));
    search.choices = zeros(AQ_U16, AQ_DIMS(1, 3, BEAM, 2));
    search.origins = zeros(AQ_U8, AQ_DIMS(3, BEAM));
    search.delta = zeros(AQ_F32, AQ_DIMS(3, BEAM, 1, 4));
    AQ_CHECK_FAILS(aq_search_groups(&search), AQ_SHAPE, "a beam of 17, expected 1 to 16");
    search.residual = zeros(AQ_F32, AQ_DIMS(3, 2, 1, 8));
    search.losses = zeros(AQ_F32, AQ_DIMS(3, 2));
    search.ancestors = zeros(AQ_U8, AQ_DIMS(1, 3, 2));
    search.choices = zeros(AQ_U16, AQ_DIMS(1, 3, 2, 2));
    search.origins = zeros(AQ_U8, AQ_DIMS(3, 2));
    search.delta = zeros(AQ_F32, AQ_DIMS(3, 2, 1, 4));
    AQ_CHECK_FAILS(aq_search_groups(&search), AQ_INVALID, "found 2 of 4 and 2");
    reference_coded_free(&coded);
    free_all();
}

static void residuals_are_moved_on_by_different_groups_and_in_place_without_a_beam(void) {
    const uint32_t groups[2] = {1, 1};
    const aq_group_run one = {.groups = groups, .count = 1, .width = 4},
                       twice = {.groups = groups, .count = 2, .width = 4};
    aq_tensor *delta = zeros(AQ_F32, AQ_DIMS(3, 2, 1, 4)), *gram = zeros(AQ_F32, AQ_DIMS(8, 8));
    aq_tensor *origins = zeros(AQ_U8, AQ_DIMS(3, 2));
    aq_tensor *residual = zeros(AQ_F32, AQ_DIMS(3, 2, 1, 8));
    AQ_CHECK_FAILS(aq_residual_update(delta, gram, &one, origins, residual, residual), AQ_INVALID,
                   "in place with a beam of 2");
    AQ_CHECK_FAILS(aq_residual_update(delta, gram, &twice, origins, residual, residual), AQ_INVALID,
                   "group 1 comes twice in a run");
    free_all();
}

static void a_trace_names_the_group_that_is_not_there(void) {
    const uint32_t order[3] = {0, 3, 1};
    AQ_CHECK_FAILS(aq_trace_back(zeros(AQ_U8, AQ_DIMS(3, 2, 1)), zeros(AQ_U16, AQ_DIMS(3, 2, 1, 1)),
                                 zeros(AQ_F32, AQ_DIMS(2, 1)), order,
                                 zeros(AQ_U16, AQ_DIMS(2, 3, 1))),
                   AQ_INVALID, "step 1 treats group 3 of 3");
    free_all();
}

static void attention_needs_its_heads(void) {
    aq_tensor *q = zeros(AQ_F32, AQ_DIMS(10, 24)), *k = zeros(AQ_F32, AQ_DIMS(10, 8));
    aq_tensor *sums = zeros(AQ_F32, AQ_DIMS(2, 6, 5));
    aq_attention shape = {2, 5, 6, 2, 4, AQ_PRECISE};
    AQ_CHECK(aq_causal_attention(&shape, q, k, k, zeros(AQ_F32, AQ_DIMS(10, 24)), sums));
    shape.kv_heads = 4;
    AQ_CHECK_FAILS(aq_causal_attention(&shape, q, k, k, q, sums), AQ_SHAPE,
                   "4 key heads do not divide 6 heads");
    shape.kv_heads = 0;
    AQ_CHECK_FAILS(aq_causal_attention(&shape, q, k, k, q, sums), AQ_SHAPE, "0 key heads");
    shape.kv_heads = 2;
    shape.length = 4;
    AQ_CHECK_FAILS(aq_causal_attention(&shape, q, k, k, q, sums), AQ_SHAPE, "q is [10, 24]");
    shape.length = 5;
    AQ_CHECK_FAILS(aq_causal_attention(&shape, q, k, q, q, sums), AQ_SHAPE, "v is [10, 24]");
    AQ_CHECK_FAILS(aq_causal_attention(&shape, q, k, k, q, zeros(AQ_F32, AQ_DIMS(2, 5, 6))),
                   AQ_SHAPE, "log_sums is [2, 5, 6], expected [2, 6, 5]");
    free_all();
}

static void norms_and_rotations_name_their_shapes(void) {
    aq_tensor *x = zeros(AQ_F32, AQ_DIMS(4, 6)), *weight = zeros(AQ_F32, AQ_DIMS(5));
    aq_tensor *inverse = zeros(AQ_F32, AQ_DIMS(4));
    AQ_CHECK_FAILS(aq_rms_norm(x, weight, 0.1f, x, inverse), AQ_SHAPE,
                   "rms_norm: x is [4, 6], weight is [5]");
    aq_tensor *heads = zeros(AQ_F32, AQ_DIMS(2, 9, 3, 4)), *table = zeros(AQ_F32, AQ_DIMS(8, 2));
    AQ_CHECK_FAILS(aq_rotate(table, table, false, heads), AQ_SHAPE, "expected at least [9, 2]");
    AQ_CHECK_FAILS(aq_cross_entropy_add(x, zeros(AQ_I32, AQ_DIMS(3)), zeros(AQ_F64, AQ_DIMS(1))),
                   AQ_SHAPE, "logits is [4, 6], targets is [3]");
    free_all();
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(products_name_both_shapes),
        AQ_CASE(empty_tensors_are_refused),
        AQ_CASE(tensors_of_two_backends_do_not_mix),
        AQ_CASE(elements_need_equal_counts_and_known_types),
        AQ_CASE(clusters_need_fitting_shapes),
        AQ_CASE(coded_weights_must_fit_their_scheme),
        AQ_CASE(solvers_need_equal_counts),
        AQ_CASE(searches_need_a_permutation_groups_and_a_beam),
        AQ_CASE(residuals_are_moved_on_by_different_groups_and_in_place_without_a_beam),
        AQ_CASE(a_trace_names_the_group_that_is_not_there),
        AQ_CASE(attention_needs_its_heads),
        AQ_CASE(norms_and_rotations_name_their_shapes)};
    return aq_test_backend_main("ops: checks", cases, sizeof cases / sizeof *cases, argc, argv);
}
