/* What a job needs, counted from shapes: against figures, and against what a backend says was
 * taken.
 */
#include "run/needs.h"

#include "random_block.h"
#include "run/quantize_block.h"
#include "store/tuning_state.h"
#include "suite.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sizes {
    size_t hidden, ffn, heads, kv_heads, head_dim;
} sizes;

static const sizes llama_7b = {4096, 11008, 32, 32, 128};

static aq_model_shape shape_of(const sizes *of) {
    size_t q = of->heads * of->head_dim, kv = of->kv_heads * of->head_dim;
    size_t hidden = of->hidden, ffn = of->ffn;
    return (aq_model_shape){.model_type = "llama",
                            .blocks = 32,
                            .hidden = hidden,
                            .ffn = ffn,
                            .heads = of->heads,
                            .kv_heads = of->kv_heads,
                            .head_dim = of->head_dim,
                            .vocab = 32000,
                            .max_length = 4096,
                            .norm_epsilon = 1e-5f,
                            .rope = {.kind = AQ_ROPE_DEFAULT, .theta = 1e4},
                            .linears = {{"q", q, hidden, false, AQ_TAP_ATTENTION_IN},
                                        {"k", kv, hidden, false, AQ_TAP_ATTENTION_IN},
                                        {"v", kv, hidden, false, AQ_TAP_ATTENTION_IN},
                                        {"o", hidden, q, false, AQ_TAP_ATTENTION_OUT},
                                        {"gate", ffn, hidden, false, AQ_TAP_MLP_IN},
                                        {"up", ffn, hidden, false, AQ_TAP_MLP_IN},
                                        {"down", hidden, ffn, false, AQ_TAP_MLP_OUT}}};
}

static aq_config config_of(size_t sequences, size_t length, aq_scheme scheme, long beam) {
    aq_config config = {.quantizer = {.scheme = scheme, .beam = beam}};
    config.calibration.sequences = (long)sequences;
    config.calibration.length = (long)length;
    return config;
}

static const aq_scheme two_by_eight = {2, 8, 8, 1};
static const aq_layout alone = {.ranks = 1, .node_ranks = 1, .device_ranks = 1, .team = 1};

static aq_memory_needs memory_of(size_t sequences, const aq_layout *layout) {
    aq_model_shape shape = shape_of(&llama_7b);
    aq_config config = config_of(sequences, 4096, two_by_eight, 1);
    aq_memory_needs needs;
    aq_memory_needs_of(&shape, &config, layout, &needs);
    return needs;
}

static void weights_are_those_of_one_block(void) {
    aq_memory_needs needs = memory_of(128, &alone);
    CU_ASSERT_EQUAL(needs.weights, (size_t)4 * (4 * 4096 * 4096 + 3 * (size_t)4096 * 11008));
}

static void only_activations_grow_with_the_sequences(void) {
    aq_memory_needs few = memory_of(128, &alone), many = memory_of(1024, &alone);
    CU_ASSERT_EQUAL(few.boundary, (size_t)2 * 128 * 4096 * 4096);
    CU_ASSERT_EQUAL(many.boundary, 8 * few.boundary);
    CU_ASSERT_EQUAL(aq_needs_compute(&many), aq_needs_compute(&few));
}

static void a_team_shares_the_sequences(void) {
    const aq_layout pair = {.ranks = 2, .node_ranks = 2, .device_ranks = 2, .team = 2};
    aq_memory_needs one = memory_of(129, &alone), two = memory_of(129, &pair);
    CU_ASSERT_EQUAL(two.boundary, one.boundary / 129 * 65);
}

static const aq_layout gpu = {
    .ranks = 1, .node_ranks = 1, .device_ranks = 1, .team = 1, .cuda = true};

static int lanes_of(const sizes *of, const aq_layout *layout, long wanted) {
    aq_model_shape shape = shape_of(of);
    aq_config config = config_of(256, 512, two_by_eight, 4);
    config.run.lanes = wanted;
    return aq_needs_lanes(&shape, &config, layout);
}

/* Of the fits of small layers alone, and never so that a job would take more than a workspace a
 * lane besides. */
static void lanes_take_no_more_than_passes_do(void) {
    const sizes small = {384, 1024, 6, 6, 64}, odd = {64, 1024, 4, 2, 16};
    const aq_layout pair = {
        .ranks = 2, .node_ranks = 2, .device_ranks = 1, .team = 2, .cuda = true};
    CU_ASSERT_EQUAL(lanes_of(&small, &gpu, 0), 4);
    CU_ASSERT_EQUAL(lanes_of(&small, &gpu, 2), 2);
    CU_ASSERT_EQUAL(lanes_of(&small, &alone, 0), 1);
    CU_ASSERT_EQUAL(lanes_of(&small, &pair, 4), 1);
    CU_ASSERT_EQUAL(lanes_of(&llama_7b, &gpu, 0), 1);
    aq_model_shape shape = shape_of(&odd);
    for (long lanes = 1; lanes <= 8; lanes++) {
        aq_config config = config_of(2, 32, (aq_scheme){2, 4, 8, 2}, 4);
        aq_memory_needs one, needs;
        config.run.lanes = 1;
        aq_memory_needs_of(&shape, &config, &gpu, &one);
        config.run.lanes = lanes;
        aq_memory_needs_of(&shape, &config, &gpu, &needs);
        size_t workspaces = (size_t)aq_needs_lanes(&shape, &config, &gpu) << 25;
        CU_ASSERT_EQUAL(needs.lanes, lanes > 1 ? workspaces : 0);
        CU_ASSERT_EQUAL(aq_needs_compute(&needs), aq_needs_compute(&one) + needs.lanes);
    }
}

/* ---- against what is taken ---- */

/* But for its head and its seal. */
static void the_copy_of_tunings_state_is_counted(void) {
    aq_block block = aq_test_block(aq_test_backend(), 1);
    aq_coded_block coded = aq_test_coded_block(&block);
    aq_config config = config_of(4, 64, coded.linears[0].scheme, 1);
    aq_parameters parameters;
    aq_memory_needs needs;
    AQ_CHECK(aq_parameters_new(&coded, &block, &parameters));
    aq_memory_needs_of(block.shape, &config, &alone, &needs);
    CU_ASSERT_EQUAL(needs.saving, 0);
    config.tuning.epochs = 1;
    aq_memory_needs_of(block.shape, &config, &alone, &needs);
    size_t bytes = aq_tuning_state_bytes(&parameters);
    CU_ASSERT_TRUE(needs.saving < bytes && bytes < needs.saving + 2048);
    aq_parameters_free(&parameters);
    aq_coded_block_free(&coded);
    aq_block_free(&block);
}

static aq_tensor normal(aq_shape shape, float deviation, uint64_t seed) {
    aq_tensor drawn = aq_test_normal(shape, seed), scaled;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F32, shape, &scaled));
    AQ_CHECK(aq_axpby(deviation, &drawn, 0, &scaled));
    aq_tensor_free(&drawn);
    return scaled;
}

static aq_block block_of(const aq_model_shape *shape, size_t length) {
    aq_block block = {.shape = shape, .precision = AQ_FAST};
    size_t half = shape->head_dim / 2;
    for (int n = 0; n < AQ_NORM_COUNT; n++) {
        block.norms[n] = normal(AQ_DIMS(shape->hidden), 0, 1);
        AQ_CHECK(aq_fill(1, &block.norms[n]));
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        block.weights[l] =
            normal(AQ_DIMS(linear->out, linear->in), 1 / sqrtf((float)linear->in), (uint64_t)l);
    }
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(length, half), &block.cosines));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(length, half), &block.sines));
    AQ_CHECK(aq_fill(1, &block.cosines));
    AQ_CHECK(aq_fill(0, &block.sines));
    return block;
}

static void fill_inputs(aq_activations *inputs) {
    aq_tensor x = normal(AQ_DIMS(inputs->length, inputs->hidden), 1, 99);
    for (size_t i = 0; i < inputs->sequences; i++) AQ_CHECK(aq_activations_write(inputs, i, 1, &x));
    aq_tensor_free(&x);
}

/* Quantizes a block with as few iterations as there can be: what is taken does not depend on them.
 */
static void quantize(const aq_model_shape *shape, const aq_config *config) {
    size_t sequences = (size_t)config->calibration.sequences;
    size_t length = (size_t)config->calibration.length;
    const aq_quantize_settings settings = {
        .fit = {.scheme = config->quantizer.scheme,
                .beam = (int)config->quantizer.beam,
                .rounds = 1,
                .kmeans_iterations = 1,
                .kmeans_starts = 1,
                .adam_steps = 1,
                .learning_rate = 1e-4},
        .tune = {.epochs = 1,
                 .batch = 32,
                 .patience = 1,
                 .learning_rate = 1e-4,
                 .precision = config->tuning.precision == AQ_TUNING_HALF ? AQ_HALF : AQ_FAST}};
    aq_activations inputs, targets;
    aq_coded_block coded;
    aq_quantize_report report;
    aq_block block = block_of(shape, length);
    AQ_CHECK(
        aq_activations_new(aq_test_backend(), sequences, length, shape->hidden, SIZE_MAX, &inputs));
    AQ_CHECK(aq_activations_new(aq_test_backend(), sequences, length, shape->hidden, SIZE_MAX,
                                &targets));
    fill_inputs(&inputs);
    const aq_block_work work = {.block = &block, .inputs = &inputs, .targets = &targets};
    AQ_CHECK(aq_quantize_block(&work, &settings, aq_team_alone(), &coded, &report));
    aq_coded_block_free(&coded);
    aq_activations_free(&inputs);
    aq_activations_free(&targets);
    aq_block_free(&block);
}

/* The peak since the backend was opened: so cases must take more from one to the next. */
static void check_peak(const sizes *of, const aq_config *config, const char *stage) {
    enum { WORKSPACE = 32 << 20 }; /* of cuBLAS; the driver's pool rounds sizes up */
    aq_model_shape shape = shape_of(of);
    aq_layout layout = alone;
    aq_config one_lane = *config;
    aq_memory_needs needs;
    size_t before, peak;
    one_lane.run.lanes = 1; /* as quantize works here */
    layout.cuda = strcmp(aq_backend_name(aq_test_backend()), "cuda") == 0;
    aq_memory_needs_of(&shape, &one_lane, &layout, &needs);
    double expected =
        (double)(aq_needs_compute(&needs) + 2 * needs.boundary) + (layout.cuda ? WORKSPACE : 0);
    size_t most = strcmp(stage, "forward") == 0 ? needs.forward
                  : strcmp(stage, "fit") == 0   ? needs.fit
                                                : needs.tuning;
    AQ_CHECK(aq_backend_peak(aq_test_backend(), &before));
    quantize(&shape, config);
    AQ_CHECK(aq_backend_peak(aq_test_backend(), &peak));
    printf("%s: %.2f MB counted, %.2f taken\n", stage, 1e-6 * expected, 1e-6 * (double)peak);
    CU_ASSERT_TRUE(layout.cuda ||
                   most == aq_needs_compute(&needs)); /* scratch is another on CUDA */
    CU_ASSERT_TRUE(peak > before);
    CU_ASSERT_TRUE(fabs(expected - (double)peak) < 0.03 * (double)peak);
}

static void what_is_taken_is_counted(void) {
    const sizes narrow = {64, 128, 4, 2, 16}, wide = {64, 1024, 4, 2, 16};
    const aq_scheme two_by_four = {2, 4, 8, 1}, pairs = {2, 4, 8, 2};
    aq_config tuning = config_of(4, 64, two_by_four, 1);
    aq_config fit = config_of(2, 32, pairs, 4);
    aq_config forward = config_of(16, 64, two_by_four, 1);
    check_peak(&narrow, &tuning, "tuning");
    check_peak(&wide, &fit, "fit");
    check_peak(&wide, &forward, "forward");
}

static const aq_case cases[] = {
    {"weights_are_those_of_one_block", weights_are_those_of_one_block},
    {"only_activations_grow_with_the_sequences", only_activations_grow_with_the_sequences},
    {"a_team_shares_the_sequences", a_team_shares_the_sequences},
    {"the_copy_of_tunings_state_is_counted", the_copy_of_tunings_state_is_counted},
    {"lanes_take_no_more_than_passes_do", lanes_take_no_more_than_passes_do},
    {"what_is_taken_is_counted", what_is_taken_is_counted},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("needs", cases, sizeof cases / sizeof *cases, argc, argv);
}
