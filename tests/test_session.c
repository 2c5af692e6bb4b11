#include "coded_model.h"
#include "run/session.h"
#include "small_backend.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set(aq_config *config, const char *assignment) {
    AQ_CHECK(aq_config_set(assignment, config));
}

/* A small job on the example, with activations that are large beside the rest. */
static aq_config job(const char *name) {
    aq_config config;
    char text[AQ_TEST_PATH + 64], path[AQ_TEST_PATH];
    AQ_CHECK(aq_config_new(&config));
    snprintf(text, sizeof text, "model=%s", aq_test_tied_model());
    set(&config, text);
    snprintf(text, sizeof text, "calibration.tokens=%s/calibration.npy", aq_test_tied_model());
    set(&config, text);
    snprintf(text, sizeof text, "output=%s", aq_test_path(name, path));
    set(&config, text);
    const char *rest[] = {"run.backend=cpu",
                          "calibration.sequences=160",
                          "calibration.length=64",
                          "calibration.validation=120",
                          "quantizer.scheme=2x4",
                          "quantizer.kmeans_iterations=2",
                          "quantizer.kmeans_starts=1",
                          "quantizer.rounds=1",
                          "quantizer.adam_steps=2",
                          "tuning.epochs=1",
                          "tuning.batch=4"};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) set(&config, rest[i]);
    return config;
}

/* Block 1 by a session on a backend of so much memory; its error is in *error. */
static aq_status quantize(const char *name, size_t limit, size_t device_bytes, double *error,
                          size_t *peak) {
    aq_small_backend small;
    aq_session session;
    aq_block_outcome outcome = {.error = -1};
    aq_config config = job(name);
    const aq_task task = {.block = 1, .source = AQ_SOURCE_EMBEDDINGS};
    aq_small_backend_open(limit, &small);
    const aq_layout alone = {.ranks = 1, .node_ranks = 1, .device_ranks = 1, .team = 1};
    AQ_CHECK(aq_session_open(&config, &small.backend, &alone, &session));
    AQ_CHECK(aq_run_directory_prepare(&session.directory, &config));
    AQ_CHECK(aq_session_begin(&session, 0, NULL));
    session.activation_bytes = device_bytes;
    aq_status status = aq_session_quantize(&session, &task, &outcome);
    *error = outcome.error;
    *peak = small.peak;
    aq_session_close(&session);
    aq_small_backend_close(&small);
    aq_config_free(&config);
    return status;
}

static bool same_block(const char *a, const char *b) {
    char command[3 * AQ_TEST_PATH], path_a[AQ_TEST_PATH], path_b[AQ_TEST_PATH];
    snprintf(command, sizeof command, "cmp -s %s/blocks/block-0001.h5 %s/blocks/block-0001.h5",
             aq_test_path(a, path_a), aq_test_path(b, path_b));
    return system(command) == 0;
}

static void a_block_that_ran_out_of_memory_is_tried_with_less_resident(void) {
    double plenty, host, small;
    size_t peak, host_peak, small_peak;
    AQ_CHECK(quantize("plenty", SIZE_MAX, SIZE_MAX, &plenty, &peak));
    AQ_CHECK(quantize("host", SIZE_MAX, 0, &host, &host_peak));
    CU_ASSERT(host_peak < peak);
    size_t limit = host_peak + (peak - host_peak) / 2;
    AQ_CHECK(quantize("small", limit, SIZE_MAX, &small, &small_peak));
    CU_ASSERT(small_peak <= limit);
    CU_ASSERT_EQUAL(plenty, host);
    CU_ASSERT_EQUAL(plenty, small);
    CU_ASSERT(same_block("plenty", "host") && same_block("plenty", "small"));
}

static void a_block_that_fits_in_no_way_is_a_clear_error(void) {
    double error;
    size_t peak;
    AQ_CHECK(quantize("enough", SIZE_MAX, 0, &error, &peak));
    AQ_CHECK_FAILS(quantize("full", peak / 2, SIZE_MAX, &error, &peak), AQ_MEMORY,
                   "all activations lie in host memory: ");
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "the small backend is full"));
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(a_block_that_ran_out_of_memory_is_tried_with_less_resident),
        AQ_CASE(a_block_that_fits_in_no_way_is_a_clear_error),
    };
    return aq_test_main("session", cases, sizeof cases / sizeof *cases, argc, argv);
}
