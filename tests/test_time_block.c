/* What a whole block costs. */
#include "run/time_whole.h"
#include "suite.h"

static size_t count_of(const aq_block_cost *cost, size_t out, size_t in) {
    for (int i = 0; i < cost->layer_count; i++)
        if (cost->layers[i].out == out && cost->layers[i].in == in) return cost->layers[i].count;
    return 0;
}

static void equal_layers_are_counted_once(void) {
    aq_block_kind kind;
    aq_block_cost cost;
    AQ_CHECK(aq_synthetic_kind("llama-2-7b", &kind));
    aq_block_layers(&kind, &cost);
    CU_ASSERT_EQUAL(cost.layer_count, 3);
    CU_ASSERT_EQUAL(count_of(&cost, 4096, 4096), 4);
    CU_ASSERT_EQUAL(count_of(&cost, 11008, 4096), 2);
    CU_ASSERT_EQUAL(count_of(&cost, 4096, 11008), 1);
    AQ_CHECK(aq_synthetic_kind("llama-2-70b", &kind));
    aq_block_layers(&kind, &cost);
    CU_ASSERT_EQUAL(count_of(&cost, 1024, 8192), 2);
}

static void every_expert_is_a_layer(void) {
    aq_block_kind kind;
    aq_block_cost cost;
    double weights = 0;
    AQ_CHECK(aq_synthetic_kind("mixtral-8x7b", &kind));
    CU_ASSERT_EQUAL(kind.shape.ffn, 2 * 14336);
    aq_block_layers(&kind, &cost);
    CU_ASSERT_EQUAL(count_of(&cost, 1024, 4096), 2);
    CU_ASSERT_EQUAL(count_of(&cost, 14336, 4096), 16);
    CU_ASSERT_EQUAL(count_of(&cost, 4096, 14336), 8);
    for (int i = 0; i < cost.layer_count; i++)
        weights +=
            (double)cost.layers[i].count * (double)cost.layers[i].out * (double)cost.layers[i].in;
    CU_ASSERT_DOUBLE_EQUAL(32 * weights, 46.4e9, 0.1e9); /* Mixtral 8x7B has 46.7e9 */
}

static void sizes_make_a_dense_block(void) {
    aq_block_kind kind;
    AQ_CHECK(aq_synthetic_kind("64x96x4", &kind));
    CU_ASSERT_EQUAL(kind.shape.hidden, 64);
    CU_ASSERT_EQUAL(kind.shape.linears[AQ_LINEAR_DOWN].in, 96);
    CU_ASSERT_EQUAL(kind.shape.head_dim, 16);
    CU_ASSERT_EQUAL(kind.experts, 1);
    static const char *const wrong[] = {"64x96",   "64x96x4x1", "60x96x8",
                                        "64x96x0", "0x96x4",    "64x 96x4"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        AQ_CHECK_FAILS(aq_synthetic_kind(wrong[i], &kind), AQ_INVALID, "mixtral-8x7b");
}

static aq_block_subject small_subject(const aq_block_kind *kind) {
    return (aq_block_subject){.kind = kind,
                              .fit = {.scheme = {1, 4, 8, 1},
                                      .beam = 1,
                                      .kmeans_iterations = 40,
                                      .kmeans_starts = 2,
                                      .rounds = 5,
                                      .solver = AQ_SOLVER_ADAM,
                                      .adam_steps = 4,
                                      .learning_rate = 1e-4},
                              .sequences = 8,
                              .held_out = 2,
                              .length = 16,
                              .epochs = 2,
                              .batch = 4,
                              .repeats = 1};
}

static void check_cost(const aq_block_subject *subject, const aq_block_cost *cost, int rounds) {
    const double weights = 4 * 64 * 64 + 3 * 64 * 96, width[] = {64, 96};
    for (int i = 0; i < AQ_BLOCK_PHASES; i++) CU_ASSERT_TRUE(cost->seconds[i] > 0);
    CU_ASSERT_EQUAL(cost->layers[0].rounds, rounds);
    CU_ASSERT_TRUE(cost->layers[0].error > 0 && cost->layers[0].error < 1);
    CU_ASSERT_EQUAL(cost->layers[0].steps, 5 * 4);
    CU_ASSERT_DOUBLE_EQUAL(cost->work[AQ_BLOCK_KMEANS].scores, weights / 8 * 16 * (2 * 20 + 20), 1);
    double gram = 8 * 16 * (3 * width[0] * width[0] + width[1] * width[1]);
    CU_ASSERT_DOUBLE_EQUAL(cost->work[AQ_BLOCK_GRAM].products, gram, 1);
    double sequence = aq_work_forward(&subject->kind->shape, 16).halves;
    CU_ASSERT_DOUBLE_EQUAL(cost->work[AQ_BLOCK_FORWARD].halves / sequence, 8 + 2 + 2, 1e-6);
}

/* 40 iterations, 2 starts and 5 rounds, though fewer are run. */
static void a_cost_covers_all_that_was_asked_for(void) {
    aq_block_kind kind;
    aq_block_cost cost;
    AQ_CHECK(aq_synthetic_kind("64x96x4", &kind));
    aq_block_subject subject = small_subject(&kind);
    AQ_CHECK(aq_time_block(aq_test_backend(), &subject, &cost));
    check_cost(&subject, &cost, AQ_TIMED_ROUNDS);
}

/* Its phases make up its time, and its errors are those of a block that was fitted and tuned. */
static void a_whole_block_is_quantized(void) {
    aq_block_kind kind;
    aq_whole_cost cost;
    double seconds = 0;
    AQ_CHECK(aq_synthetic_kind("64x96x4", &kind));
    const aq_whole_subject subject = {.block = small_subject(&kind), .learning_rate = 1e-3};
    AQ_CHECK(aq_time_whole(aq_test_backend(), &subject, &cost));
    for (int i = 0; i < AQ_BLOCK_PHASES; i++) seconds += cost.block.seconds[i];
    CU_ASSERT_TRUE(seconds > 0.5 * cost.seconds && seconds <= cost.seconds);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        CU_ASSERT_TRUE(cost.layer_errors[l] > 0.001 && cost.layer_errors[l] < 0.5);
    CU_ASSERT_TRUE(cost.error > 0 && cost.error < cost.fitted_error);
    CU_ASSERT_EQUAL(cost.activation_bytes, 10 * 16 * 64 * 2);
    CU_ASSERT_DOUBLE_EQUAL(cost.block.work[AQ_BLOCK_KMEANS].scores,
                           (4 * 64 * 64 + 3 * 64 * 96) / 8.0 * 16 * (2 * 20 + 20), 1);
    AQ_CHECK(aq_synthetic_kind("mixtral-8x7b", &kind));
    AQ_CHECK_FAILS(aq_time_whole(aq_test_backend(), &subject, &cost), AQ_INVALID, "experts");
}

static void twice_the_epochs_are_twice_the_training(void) {
    aq_block_kind kind;
    aq_block_cost once, twice, none;
    AQ_CHECK(aq_synthetic_kind("64x96x4", &kind));
    aq_block_subject subject = small_subject(&kind);
    AQ_CHECK(aq_time_block(aq_test_backend(), &subject, &once));
    subject.epochs = 4;
    AQ_CHECK(aq_time_block(aq_test_backend(), &subject, &twice));
    double added = twice.work[AQ_BLOCK_TUNING].halves - once.work[AQ_BLOCK_TUNING].halves;
    double ahead = aq_work_forward(&kind.shape, 16).halves;
    double back = aq_work_backward(&kind.shape, 16).halves;
    CU_ASSERT_DOUBLE_EQUAL(added / (2 * (8 * (ahead + back) + 2 * ahead)), 1, 1e-9);
    subject.epochs = 0;
    AQ_CHECK(aq_time_block(aq_test_backend(), &subject, &none));
    CU_ASSERT_EQUAL(none.seconds[AQ_BLOCK_TUNING], 0);
}

static void a_scheme_that_does_not_fit_names_the_layer(void) {
    aq_block_kind kind;
    aq_block_cost cost;
    AQ_CHECK(aq_synthetic_kind("64x100x4", &kind));
    const aq_block_subject subject = small_subject(&kind);
    AQ_CHECK_FAILS(aq_time_block(aq_test_backend(), &subject, &cost), AQ_INVALID,
                   "layer of 64 x 100");
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(equal_layers_are_counted_once),
        AQ_CASE(every_expert_is_a_layer),
        AQ_CASE(sizes_make_a_dense_block),
        AQ_CASE(a_cost_covers_all_that_was_asked_for),
        AQ_CASE(a_whole_block_is_quantized),
        AQ_CASE(twice_the_epochs_are_twice_the_training),
        AQ_CASE(a_scheme_that_does_not_fit_names_the_layer),
    };
    return aq_test_backend_main("time_block", cases, sizeof cases / sizeof *cases, argc, argv);
}
