#include "feed_fixture.h"

#include "coded_model.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set(aq_config *config, const char *key, const char *value) {
    char assignment[AQ_TEST_PATH + 64];
    snprintf(assignment, sizeof assignment, "%s=%s", key, value);
    AQ_CHECK(aq_config_set(assignment, config));
}

aq_feed_fixture aq_feed_fixture_new(void) {
    aq_feed_fixture made;
    static int count;
    char path[AQ_TEST_PATH], tokens[AQ_TEST_PATH + 32], name[32];
    snprintf(name, sizeof name, "feed-%d", count++);
    snprintf(tokens, sizeof tokens, "%s/calibration.npy", aq_test_tied_model());
    AQ_CHECK(aq_config_new(&made.config));
    set(&made.config, "output", aq_test_path(name, path));
    set(&made.config, "quantizer.scheme", "1x4");
    AQ_CHECK(aq_dense_source_open(aq_test_tied_model(), &made.source));
    const aq_token_cut cut = {.length = AQ_FEED_LENGTH,
                              .sequences = AQ_FEED_SEQUENCES,
                              .vocab = made.source->shape.vocab};
    AQ_CHECK(aq_tokens_read(tokens, &cut, &made.tokens));
    AQ_CHECK(aq_run_directory_open(&made.config, made.source, &made.tokens, &made.directory));
    AQ_CHECK(aq_run_directory_prepare(&made.directory, &made.config));
    return made;
}

void aq_feed_fixture_free(aq_feed_fixture *made) {
    aq_run_directory_close(&made->directory);
    aq_tokens_free(&made->tokens);
    aq_source_close(made->source);
    aq_config_free(&made->config);
}

aq_block_feed aq_test_feed(const aq_feed_fixture *made, bool quantized, size_t device_bytes) {
    const aq_feed_settings settings = {.source = made->source,
                                       .tokens = &made->tokens,
                                       .backend = aq_test_backend(),
                                       .device_bytes = device_bytes,
                                       .quantized = quantized ? &made->directory : NULL};
    aq_block_feed feed;
    aq_block_feed_new(&settings, &feed);
    return feed;
}

aq_status aq_feed_from_start(aq_block_feed *feed, size_t block) {
    const aq_task task = {.block = block, .source = AQ_SOURCE_EMBEDDINGS};
    return aq_block_feed_begin(feed, &task);
}

aq_status aq_feed_from_team(aq_block_feed *feed, size_t start, size_t block, int team) {
    const aq_task task = {.block = block, .start = start, .source = AQ_SOURCE_TEAM, .team = team};
    return aq_block_feed_begin(feed, &task);
}

/* All activations as float32, malloc'd. */
float *aq_feed_values(const aq_activations *activations) {
    uint32_t list[AQ_FEED_SEQUENCES] = {0, 1, 2};
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(activations->backend, AQ_F32,
                           AQ_DIMS(AQ_FEED_SEQUENCES * AQ_FEED_LENGTH, activations->hidden), &x));
    AQ_CHECK(aq_activations_read(activations, list, AQ_FEED_SEQUENCES, &x));
    float *values = aq_test_host(&x);
    aq_tensor_free(&x);
    return values;
}

bool aq_feed_same_inputs(const aq_block_feed *a, const aq_block_feed *b) {
    float *of_a = aq_feed_values(&a->inputs), *of_b = aq_feed_values(&b->inputs);
    size_t bytes = AQ_FEED_SEQUENCES * AQ_FEED_LENGTH * a->inputs.hidden * sizeof *of_a;
    bool same = memcmp(of_a, of_b, bytes) == 0;
    free(of_a);
    free(of_b);
    return same;
}

/* The dense outputs of the block that the feed stands at. */
void aq_feed_forward(aq_block_feed *feed) {
    aq_block block;
    AQ_CHECK(aq_block_feed_load(feed, feed->at, &block));
    AQ_CHECK(aq_activations_forward(&block, &feed->inputs, NULL, 0, &feed->outputs));
    AQ_CHECK(aq_block_feed_forwarded(feed));
    aq_block_free(&block);
}

void aq_feed_advance(aq_block_feed *feed, const aq_coded_block *coded) {
    aq_block block;
    AQ_CHECK(aq_block_feed_load(feed, feed->at, &block));
    if (coded) AQ_CHECK(aq_coded_block_decode(coded, &block));
    AQ_CHECK(aq_block_feed_advance(feed, &block));
    aq_block_free(&block);
}

/* What a rank does that quantizes the block: its dense outputs, then on. */
void aq_feed_work_through(aq_block_feed *feed, const aq_coded_block *coded) {
    aq_feed_forward(feed);
    aq_feed_advance(feed, coded);
}
