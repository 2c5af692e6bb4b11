#include "base/file.h"
#include "model/shape.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What every config needs; a case adds its own keys behind it. */
#define SIZES                                                                                      \
    "\"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 3, "                   \
    "\"vocab_size\": 100, \"max_position_embeddings\": 512, \"num_attention_heads\": 4"
#define LLAMA "{\"model_type\": \"llama\", " SIZES
#define MISTRAL "{\"model_type\": \"mistral\", " SIZES
#define QWEN2 "{\"model_type\": \"qwen2\", " SIZES

static aq_status parse(const char *text, aq_model_shape *shape) {
    return aq_model_shape_parse(text, strlen(text), shape);
}

static aq_model_shape shape_of(const char *text) {
    aq_model_shape shape;
    AQ_CHECK(parse(text, &shape));
    return shape;
}

static void check_refused(const char *text, aq_status code, const char *part) {
    aq_model_shape shape;
    AQ_CHECK_FAILS(parse(text, &shape), code, part);
}

static void shape_defaults_are_hugging_faces(void) {
    aq_model_shape shape = shape_of(LLAMA "}");
    CU_ASSERT_STRING_EQUAL(shape.model_type, "llama");
    CU_ASSERT_TRUE(shape.hidden == 64 && shape.ffn == 96 && shape.blocks == 3);
    CU_ASSERT_TRUE(shape.vocab == 100 && shape.max_length == 512);
    CU_ASSERT_TRUE(shape.heads == 4 && shape.kv_heads == 4 && shape.head_dim == 16);
    CU_ASSERT_EQUAL(shape.norm_epsilon, 1e-6f);
    CU_ASSERT_FALSE(shape.tied_embeddings);
    CU_ASSERT_TRUE(shape.rope.kind == AQ_ROPE_DEFAULT && shape.rope.theta == 10000);
}

static void shape_lists_the_linears(void) {
    aq_model_shape shape =
        shape_of(LLAMA ", \"num_key_value_heads\": 2, \"head_dim\": 8, \"rms_norm_eps\": 1e-5}");
    static const size_t sizes[AQ_LINEAR_COUNT][2] = {{32, 64}, {16, 64}, {16, 64}, {64, 32},
                                                     {96, 64}, {96, 64}, {64, 96}};
    for (int i = 0; i < AQ_LINEAR_COUNT; i++) {
        CU_ASSERT_EQUAL(shape.linears[i].out, sizes[i][0]);
        CU_ASSERT_EQUAL(shape.linears[i].in, sizes[i][1]);
        CU_ASSERT_FALSE(shape.linears[i].bias);
    }
    CU_ASSERT_EQUAL(shape.linears[AQ_LINEAR_O].tap, AQ_TAP_ATTENTION_OUT);
    CU_ASSERT_EQUAL(shape.norm_epsilon, 1e-5f);
}

static void shape_names_are_hugging_faces(void) {
    aq_model_shape shape = shape_of(LLAMA "}");
    char name[AQ_NAME_SIZE];
    aq_linear_name(&shape, 12, AQ_LINEAR_DOWN, ".weight", name);
    CU_ASSERT_STRING_EQUAL(name, "model.layers.12.mlp.down_proj.weight");
    aq_norm_name(2, AQ_NORM_MLP, name);
    CU_ASSERT_STRING_EQUAL(name, "model.layers.2.post_attention_layernorm.weight");
}

/* One bit a linear, in their order. */
static unsigned biases_of(const char *text) {
    aq_model_shape shape = shape_of(text);
    unsigned bits = 0;
    for (int i = 0; i < AQ_LINEAR_COUNT; i++) bits |= (unsigned)shape.linears[i].bias << i;
    return bits;
}

static void shape_biases_depend_on_model_and_keys(void) {
    CU_ASSERT_EQUAL(biases_of(LLAMA "}"), 0x00);
    CU_ASSERT_EQUAL(biases_of(LLAMA ", \"attention_bias\": true}"), 0x0f);
    CU_ASSERT_EQUAL(biases_of(LLAMA ", \"mlp_bias\": true}"), 0x70);
    CU_ASSERT_EQUAL(biases_of(QWEN2 "}"), 0x07);
    CU_ASSERT_EQUAL(biases_of(MISTRAL "}"), 0x00);
}

static void shape_sliding_window_bounds_the_length(void) {
    CU_ASSERT_EQUAL(shape_of(MISTRAL ", \"sliding_window\": null}").max_length, 512);
    CU_ASSERT_EQUAL(shape_of(MISTRAL ", \"sliding_window\": 4096}").max_length, 512);
    CU_ASSERT_EQUAL(shape_of(MISTRAL ", \"sliding_window\": 128}").max_length, 128);
    CU_ASSERT_EQUAL(
        shape_of(QWEN2 ", \"use_sliding_window\": false, \"sliding_window\": 128}").max_length,
        512);
    check_refused(QWEN2 ", \"use_sliding_window\": true}", AQ_UNSUPPORTED, "use_sliding_window");
}

#define LLAMA3                                                                                     \
    "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "                       \
    "\"original_max_position_embeddings\": 8192"

static void shape_rope_reads_both_spellings(void) {
    static const char *const spellings[] = {
        LLAMA ", \"rope_theta\": 500000, \"rope_scaling\": {\"type\": \"llama3\", " LLAMA3 "}}",
        LLAMA ", \"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", " LLAMA3 "}}",
        LLAMA ", \"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 500000.0, " LLAMA3
              "}}"};
    for (int i = 0; i < 3; i++) {
        aq_rope rope = shape_of(spellings[i]).rope;
        CU_ASSERT_TRUE(rope.kind == AQ_ROPE_LLAMA3 && rope.theta == 500000 && rope.factor == 8);
        CU_ASSERT_TRUE(rope.low_factor == 1 && rope.high_factor == 4);
        CU_ASSERT_EQUAL(rope.original_length, 8192);
    }
    aq_rope linear =
        shape_of(LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}").rope;
    CU_ASSERT_TRUE(linear.kind == AQ_ROPE_LINEAR && linear.factor == 2 && linear.theta == 10000);
    CU_ASSERT_EQUAL(shape_of(LLAMA ", \"rope_scaling\": null}").rope.kind, AQ_ROPE_DEFAULT);
}

static void shape_rope_spellings_must_agree(void) {
    shape_of(LLAMA ", \"rope_theta\": 20000.0, \"rope_parameters\": {\"rope_theta\": 20000, "
                   "\"rope_type\": \"default\"}}");
    check_refused(LLAMA ", \"rope_theta\": 10000, \"rope_parameters\": {\"rope_theta\": 20000}}",
                  AQ_FORMAT, "rope_parameters (theta 20000) differs from rope_theta 10000");
}

static void shape_rope_that_is_not_computed_is_refused(void) {
    check_refused(LLAMA ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}}", AQ_UNSUPPORTED,
                  "rope type yarn: expected default, linear or llama3");
    check_refused(LLAMA ", \"rope_parameters\": {\"rope_theta\": 1e4, \"rope_type\": \"dynamic\"}}",
                  AQ_UNSUPPORTED, "rope type dynamic");
    check_refused(LLAMA ", \"partial_rotary_factor\": 0.5}", AQ_UNSUPPORTED,
                  "partial_rotary_factor 0.5");
    check_refused(LLAMA ", \"rope_scaling\": {\"type\": \"linear\"}}", AQ_MISSING, "factor");
    check_refused(LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", AQ_FORMAT,
                  "factor: expected a number above 0, found 0");
    check_refused(LLAMA ", \"rope_scaling\": \"linear\"}", AQ_FORMAT, "expected an object");
    check_refused(LLAMA ", \"rope_theta\": -1}", AQ_FORMAT, "rope_theta");
    check_refused(LLAMA ", \"rope_parameters\": {}}", AQ_MISSING, "rope_theta");
    check_refused(LLAMA ", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, "
                        "\"low_freq_factor\": 4, \"high_freq_factor\": 4, "
                        "\"original_max_position_embeddings\": 8192}}",
                  AQ_FORMAT, "low_freq_factor 4 is not below high_freq_factor 4");
}

static void shape_model_that_is_not_computed_is_refused(void) {
    check_refused("{\"model_type\": \"mixtral\", " SIZES "}", AQ_UNSUPPORTED,
                  "model_type mixtral: expected llama, mistral or qwen2");
    check_refused("{" SIZES "}", AQ_MISSING, "model_type");
    check_refused(LLAMA ", \"hidden_act\": \"gelu\"}", AQ_UNSUPPORTED, "hidden_act gelu");
}

static void shape_bad_sizes_are_refused(void) {
    check_refused("{\"model_type\": \"llama\"}", AQ_MISSING, "hidden_size");
    check_refused("{\"model_type\": \"llama\", \"hidden_size\": 1048577}", AQ_FORMAT,
                  "hidden_size: expected an integer from 1 to 1048576, found 1048577");
    check_refused("{\"model_type\": \"llama\", \"hidden_size\": 0}", AQ_FORMAT, "found 0");
    check_refused(LLAMA ", \"num_key_value_heads\": 3}", AQ_FORMAT,
                  "num_key_value_heads 3 does not divide num_attention_heads 4");
    check_refused(LLAMA ", \"head_dim\": 15}", AQ_FORMAT, "head_dim 15");
    check_refused(LLAMA ", \"rms_norm_eps\": 0}", AQ_FORMAT, "rms_norm_eps");
    check_refused("{\"model_type\": \"llama\", \"hidden_size\": 66, \"intermediate_size\": 9, "
                  "\"num_hidden_layers\": 3, \"vocab_size\": 9, \"max_position_embeddings\": 9, "
                  "\"num_attention_heads\": 4}",
                  AQ_FORMAT, "num_attention_heads 4 does not divide hidden_size 66");
}

static void shape_text_that_is_not_json_is_refused(void) {
    check_refused("", AQ_FORMAT, "not valid JSON");
    check_refused(LLAMA, AQ_FORMAT, "not valid JSON");
    check_refused(LLAMA ", \"hidden_size\": 64}", AQ_FORMAT, "duplicate");
}

/* Radians a position, read from the tables' row of position 1 (all below pi). */
static void check_frequencies(const aq_model_shape *shape, const double *expected) {
    enum { LENGTH = 9, HALF = 8 };
    float cosines[LENGTH * HALF], sines[LENGTH * HALF];
    CU_ASSERT_EQUAL_FATAL(shape->head_dim, 2 * HALF);
    aq_rope_tables(shape, LENGTH, cosines, sines);
    for (int i = 0; i < HALF; i++) {
        CU_ASSERT_TRUE(cosines[i] == 1 && sines[i] == 0);
        double frequency = atan2(sines[HALF + i], cosines[HALF + i]);
        CU_ASSERT_DOUBLE_EQUAL(frequency / expected[i], 1, 1e-6);
        CU_ASSERT_DOUBLE_EQUAL(cosines[8 * HALF + i], cos(8 * expected[i]), 1e-6);
        CU_ASSERT_DOUBLE_EQUAL(sines[8 * HALF + i], sin(8 * expected[i]), 1e-6);
    }
}

/* Expected values: transformers 4.57.6, ROPE_INIT_FUNCTIONS. */
static void shape_rope_tables_match_transformers(void) {
    static const double linear[] = {0.25,          0.079056941,    0.0250000004,   0.00790569466,
                                    0.00249999994, 0.000790569466, 0.000250000012, 7.90569466e-05};
    static const double llama3[] = {1,
                                    0.193922758,
                                    0.0376060307,
                                    0.00729266508,
                                    0.000524846022,
                                    3.42810235e-05,
                                    6.64786967e-06,
                                    1.28917316e-06};
    aq_model_shape shape =
        shape_of(LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}}");
    check_frequencies(&shape, linear);
    shape = shape_of(LLAMA ", \"rope_theta\": 5e5, \"rope_scaling\": {\"type\": \"llama3\", " LLAMA3
                           "}}");
    check_frequencies(&shape, llama3);
}

static void shape_of_the_tiny_example_is_read(void) {
    char *path, *text;
    size_t size;
    aq_model_shape shape;
    AQ_CHECK(aq_file_join(aq_test_examples(), "tiny-llama/config.json", &path));
    AQ_CHECK(aq_file_read(path, 10000, &text, &size));
    AQ_CHECK(aq_model_shape_parse(text, size, &shape));
    CU_ASSERT_TRUE(shape.blocks == 4 && shape.hidden == 128 && shape.ffn == 352);
    CU_ASSERT_TRUE(shape.heads == 4 && shape.kv_heads == 2 && shape.head_dim == 32);
    CU_ASSERT_TRUE(shape.tied_embeddings && shape.rope.theta == 10000);
    free(text);
    free(path);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(shape_defaults_are_hugging_faces),
                                    AQ_CASE(shape_lists_the_linears),
                                    AQ_CASE(shape_names_are_hugging_faces),
                                    AQ_CASE(shape_biases_depend_on_model_and_keys),
                                    AQ_CASE(shape_sliding_window_bounds_the_length),
                                    AQ_CASE(shape_rope_reads_both_spellings),
                                    AQ_CASE(shape_rope_spellings_must_agree),
                                    AQ_CASE(shape_rope_that_is_not_computed_is_refused),
                                    AQ_CASE(shape_model_that_is_not_computed_is_refused),
                                    AQ_CASE(shape_bad_sizes_are_refused),
                                    AQ_CASE(shape_text_that_is_not_json_is_refused),
                                    AQ_CASE(shape_rope_tables_match_transformers),
                                    AQ_CASE(shape_of_the_tiny_example_is_read)};
    return aq_test_main("shape", cases, sizeof cases / sizeof *cases, argc, argv);
}
