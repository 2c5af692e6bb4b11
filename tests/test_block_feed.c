#include "coded_model.h"
#include "run/block_feed.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCES = 3, LENGTH = 16 };

/* The example model with a few tokens, and a run directory for its quantized blocks. */
typedef struct fixture {
    aq_config config;
    aq_source *source;
    aq_tokens tokens;
    aq_run_directory directory;
} fixture;

static void set(aq_config *config, const char *key, const char *value) {
    char assignment[AQ_TEST_PATH + 64];
    snprintf(assignment, sizeof assignment, "%s=%s", key, value);
    AQ_CHECK(aq_config_set(assignment, config));
}

static fixture fixture_new(void) {
    fixture made;
    char path[AQ_TEST_PATH], tokens[AQ_TEST_PATH + 32];
    snprintf(tokens, sizeof tokens, "%s/calibration.npy", aq_test_tied_model());
    AQ_CHECK(aq_config_new(&made.config));
    set(&made.config, "output", aq_test_path("feed", path));
    set(&made.config, "quantizer.scheme", "1x4");
    AQ_CHECK(aq_dense_source_open(aq_test_tied_model(), &made.source));
    const aq_token_cut cut = {
        .length = LENGTH, .sequences = SEQUENCES, .vocab = made.source->shape.vocab};
    AQ_CHECK(aq_tokens_read(tokens, &cut, &made.tokens));
    AQ_CHECK(aq_run_directory_open(&made.config, made.source, &made.tokens, &made.directory));
    AQ_CHECK(aq_run_directory_prepare(&made.directory, &made.config));
    return made;
}

static void fixture_free(fixture *made) {
    aq_run_directory_close(&made->directory);
    aq_tokens_free(&made->tokens);
    aq_source_close(made->source);
    aq_config_free(&made->config);
}

static aq_block_feed feed_new(const fixture *made, bool quantized, size_t device_bytes) {
    const aq_feed_settings settings = {.source = made->source,
                                       .tokens = &made->tokens,
                                       .backend = aq_test_backend(),
                                       .device_bytes = device_bytes,
                                       .quantized = quantized ? &made->directory : NULL};
    aq_block_feed feed;
    AQ_CHECK(aq_block_feed_new(&settings, &feed));
    return feed;
}

/* All activations as float32, malloc'd. */
static float *values_of(const aq_activations *activations) {
    uint32_t list[SEQUENCES] = {0, 1, 2};
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(activations->backend, AQ_F32,
                           AQ_DIMS(SEQUENCES * LENGTH, activations->hidden), &x));
    AQ_CHECK(aq_activations_read(activations, list, SEQUENCES, &x));
    float *values = aq_test_host(&x);
    aq_tensor_free(&x);
    return values;
}

static bool same_inputs(const aq_block_feed *a, const aq_block_feed *b) {
    float *of_a = values_of(&a->inputs), *of_b = values_of(&b->inputs);
    size_t bytes = SEQUENCES * LENGTH * a->inputs.hidden * sizeof *of_a;
    bool same = memcmp(of_a, of_b, bytes) == 0;
    free(of_a);
    free(of_b);
    return same;
}

/* What a rank does that quantizes the block: its dense outputs, then on. */
static void work_through(aq_block_feed *feed, const aq_coded_block *coded) {
    aq_block block;
    AQ_CHECK(aq_block_feed_load(feed, feed->at, &block));
    AQ_CHECK(aq_activations_forward(&block, &feed->inputs, NULL, 0, &feed->outputs));
    if (coded) AQ_CHECK(aq_coded_block_decode(coded, &block));
    AQ_CHECK(aq_block_feed_advance(feed, &block));
    aq_block_free(&block);
}

static void dense_inputs_do_not_depend_on_who_walked(void) {
    fixture made = fixture_new();
    aq_block_feed walks = feed_new(&made, false, SIZE_MAX), works = feed_new(&made, false, 0);
    AQ_CHECK(aq_block_feed_seek(&walks, 3));
    AQ_CHECK(aq_block_feed_seek(&works, 1));
    work_through(&works, NULL);
    work_through(&works, NULL);
    CU_ASSERT_EQUAL(works.at, 3);
    CU_ASSERT_TRUE(same_inputs(&walks, &works));
    aq_block_feed_free(&walks);
    aq_block_feed_free(&works);
    fixture_free(&made);
}

static void feed_starts_over_for_a_block_behind_it(void) {
    fixture made = fixture_new();
    aq_block_feed ahead = feed_new(&made, false, SIZE_MAX),
                  fresh = feed_new(&made, false, SIZE_MAX);
    AQ_CHECK(aq_block_feed_seek(&ahead, 3));
    AQ_CHECK(aq_block_feed_seek(&fresh, 1));
    CU_ASSERT_FALSE(same_inputs(&ahead, &fresh));
    AQ_CHECK(aq_block_feed_seek(&ahead, 1));
    CU_ASSERT_TRUE(same_inputs(&ahead, &fresh));
    aq_block_feed_free(&ahead);
    aq_block_feed_free(&fresh);
    fixture_free(&made);
}

static void quantized_inputs_are_those_of_finished_blocks(void) {
    fixture made = fixture_new();
    aq_coded_block coded = aq_test_random_block(&made.source->shape, 0, &made.directory.scheme);
    AQ_CHECK(aq_run_directory_write_block(&made.directory, &coded));
    aq_block_feed walks = feed_new(&made, true, SIZE_MAX), works = feed_new(&made, true, SIZE_MAX);
    aq_block_feed dense = feed_new(&made, false, SIZE_MAX);
    AQ_CHECK(aq_block_feed_seek(&walks, 1));
    AQ_CHECK(aq_block_feed_seek(&dense, 1));
    AQ_CHECK(aq_block_feed_seek(&works, 0));
    work_through(&works, &coded);
    CU_ASSERT_TRUE(same_inputs(&walks, &works));
    CU_ASSERT_FALSE(same_inputs(&walks, &dense));
    AQ_CHECK_FAILS(aq_block_feed_seek(&walks, 2), AQ_MISSING, "block-0001.h5");
    aq_coded_block_free(&coded);
    aq_block_feed_free(&walks);
    aq_block_feed_free(&works);
    aq_block_feed_free(&dense);
    fixture_free(&made);
}

static const aq_case cases[] = {
    {"dense_inputs_do_not_depend_on_who_walked", dense_inputs_do_not_depend_on_who_walked},
    {"feed_starts_over_for_a_block_behind_it", feed_starts_over_for_a_block_behind_it},
    {"quantized_inputs_are_those_of_finished_blocks",
     quantized_inputs_are_those_of_finished_blocks},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("block_feed", cases, sizeof cases / sizeof *cases, argc, argv);
}
