#include "run/needs.h"
#include "suite.h"

#include <stdint.h>
#include <string.h>

enum { HIDDEN = 4096, FFN = 11008 };

/* Llama-2-7B's block. */
static aq_model_shape large_shape(void) {
    aq_model_shape shape = {
        .blocks = 32, .hidden = HIDDEN, .ffn = FFN, .heads = 32, .vocab = 32000};
    static const struct {
        size_t out, in;
        aq_tap tap;
    } linears[AQ_LINEAR_COUNT] = {
        {HIDDEN, HIDDEN, AQ_TAP_ATTENTION_IN}, {HIDDEN, HIDDEN, AQ_TAP_ATTENTION_IN},
        {HIDDEN, HIDDEN, AQ_TAP_ATTENTION_IN}, {HIDDEN, HIDDEN, AQ_TAP_ATTENTION_OUT},
        {FFN, HIDDEN, AQ_TAP_MLP_IN},          {FFN, HIDDEN, AQ_TAP_MLP_IN},
        {HIDDEN, FFN, AQ_TAP_MLP_OUT},
    };
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        shape.linears[l] = (aq_linear_shape){
            .name = "linear", .out = linears[l].out, .in = linears[l].in, .tap = linears[l].tap};
    return shape;
}

static aq_config config_with(const char *sequences, const char *scheme) {
    aq_config config;
    AQ_CHECK(aq_config_new(&config));
    AQ_CHECK(aq_config_set(sequences, &config));
    AQ_CHECK(aq_config_set(scheme, &config));
    return config;
}

static aq_needs needs_with(const char *sequences, const char *scheme) {
    aq_model_shape shape = large_shape();
    aq_config config = config_with(sequences, scheme);
    aq_needs needs;
    aq_needs_of(&shape, &config, &needs);
    aq_config_free(&config);
    return needs;
}

static void weights_are_those_of_one_block(void) {
    aq_needs needs = needs_with("calibration.sequences=128", "quantizer.scheme=2x8");
    CU_ASSERT_EQUAL(needs.weights, (size_t)4 * (4 * HIDDEN * HIDDEN + 3 * (size_t)HIDDEN * FFN));
}

static void only_activations_grow_with_the_sequences(void) {
    aq_needs few = needs_with("calibration.sequences=128", "quantizer.scheme=2x8");
    aq_needs many = needs_with("calibration.sequences=1024", "quantizer.scheme=2x8");
    CU_ASSERT_EQUAL(few.activations, (size_t)2 * 2 * 128 * 4096 * HIDDEN);
    CU_ASSERT_EQUAL(many.activations, 8 * few.activations);
    CU_ASSERT_EQUAL(aq_needs_compute(&many), aq_needs_compute(&few));
}

static void files_follow_the_scheme(void) {
    aq_needs two_bits = needs_with("calibration.sequences=128", "quantizer.scheme=2x8");
    aq_needs one_bit = needs_with("calibration.sequences=128", "quantizer.scheme=1x8");
    size_t codes = two_bits.weights / sizeof(float) / 8 * 32;
    size_t ends = (size_t)2 * 2 * 32000 * HIDDEN;
    CU_ASSERT_TRUE(two_bits.disk > 4 * codes + ends);
    CU_ASSERT_TRUE(two_bits.disk < 4 * codes + ends + 2 * codes / 10);
    CU_ASSERT_TRUE(one_bit.disk < two_bits.disk);
}

static void too_little_memory_is_said_with_both_numbers(void) {
    aq_config config = config_with("calibration.sequences=128", "quantizer.scheme=2x8");
    aq_needs needs = {.weights = (size_t)1 << 40, .activations = (size_t)1 << 30};
    size_t activation_bytes;
    AQ_CHECK_FAILS(aq_needs_check_memory(&needs, &config, aq_test_backend(), 1, &activation_bytes),
                   AQ_MEMORY, "its weights 1099.51");
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "GB are free"));
    aq_config_free(&config);
}

static void processes_share_the_memory(void) {
    aq_config config = config_with("calibration.sequences=128", "quantizer.scheme=2x8");
    size_t activation_bytes, free_bytes, total;
    AQ_CHECK(aq_backend_memory(aq_test_backend(), &free_bytes, &total));
    aq_needs needs = {.weights = free_bytes / 4};
    AQ_CHECK(aq_needs_check_memory(&needs, &config, aq_test_backend(), 2, &activation_bytes));
    AQ_CHECK_FAILS(aq_needs_check_memory(&needs, &config, aq_test_backend(), 16, &activation_bytes),
                   AQ_MEMORY, "for 16 processes");
    aq_config_free(&config);
}

static void too_little_disk_is_said_before_the_folder_exists(void) {
    aq_needs needs = {.disk = SIZE_MAX / 2};
    char path[512];
    snprintf(path, sizeof path, "%s/not/there/yet", aq_test_folder());
    AQ_CHECK_FAILS(aq_needs_check_disk(&needs, path), AQ_IO, "not/there/yet");
    needs.disk = 1000;
    AQ_CHECK(aq_needs_check_disk(&needs, path));
    AQ_CHECK(aq_needs_check_disk(&needs, "not/there/yet"));
}

static const aq_case cases[] = {
    {"weights_are_those_of_one_block", weights_are_those_of_one_block},
    {"only_activations_grow_with_the_sequences", only_activations_grow_with_the_sequences},
    {"files_follow_the_scheme", files_follow_the_scheme},
    {"too_little_memory_is_said_with_both_numbers", too_little_memory_is_said_with_both_numbers},
    {"processes_share_the_memory", processes_share_the_memory},
    {"too_little_disk_is_said_before_the_folder_exists",
     too_little_disk_is_said_before_the_folder_exists},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("needs", cases, sizeof cases / sizeof *cases, argc, argv);
}
