#include "run/block_feed.h"

#include "base/stop.h"

/* `at` while the inputs are nobody's: behind every block. */
#define NOWHERE SIZE_MAX

aq_status aq_block_feed_new(const aq_feed_settings *settings, aq_block_feed *feed) {
    *feed = (aq_block_feed){.settings = *settings, .at = NOWHERE};
    const aq_tokens *tokens = settings->tokens;
    size_t hidden = settings->source->shape.hidden, each = settings->device_bytes / 2;
    AQ_TRY(aq_activations_new(settings->backend, tokens->sequences, tokens->length, hidden, each,
                              &feed->inputs));
    aq_status status = aq_activations_new(settings->backend, tokens->sequences, tokens->length,
                                          hidden, each, &feed->outputs);
    if (status != AQ_OK) aq_activations_free(&feed->inputs);
    return status;
}

void aq_block_feed_free(aq_block_feed *feed) {
    aq_activations_free(&feed->inputs);
    aq_activations_free(&feed->outputs);
}

aq_status aq_block_feed_load(const aq_block_feed *feed, size_t index, aq_block *block) {
    const aq_feed_settings *settings = &feed->settings;
    return aq_block_load(settings->source, index, settings->tokens->length, AQ_FAST,
                         settings->backend, block);
}

/* Replaces a loaded dense block by its finished quantized form. */
static aq_status replace_by_finished(const aq_block_feed *feed, size_t index, aq_block *block) {
    const aq_feed_settings *settings = &feed->settings;
    aq_coded_block coded;
    AQ_TRY(aq_run_directory_read_block(settings->quantized, index, settings->backend, &coded));
    aq_status status = aq_coded_block_decode(&coded, block);
    aq_coded_block_free(&coded);
    return status;
}

/* One block forward, in place. */
static aq_status step(aq_block_feed *feed) {
    aq_block block;
    AQ_TRY(aq_block_feed_load(feed, feed->at, &block));
    aq_status status = AQ_OK;
    if (feed->settings.quantized) AQ_STEP(replace_by_finished(feed, feed->at, &block));
    AQ_STEP(aq_activations_forward(&block, &feed->inputs, NULL, 0, &feed->inputs));
    feed->at++;
done:
    aq_block_free(&block);
    if (status == AQ_OK) return AQ_OK;
    size_t failed = feed->at;
    feed->at = NOWHERE; /* the inputs may be half overwritten */
    return aq_error_at(status, "forward pass of block %zu", failed);
}

aq_status aq_block_feed_seek(aq_block_feed *feed, size_t block) {
    if (feed->at > block) {
        AQ_TRY(aq_activations_embed(feed->settings.source, feed->settings.tokens, &feed->inputs));
        feed->at = 0;
    }
    while (feed->at < block) {
        AQ_TRY(aq_stop_check());
        AQ_TRY(step(feed));
    }
    return AQ_OK;
}

aq_status aq_block_feed_advance(aq_block_feed *feed, const aq_block *result) {
    if (feed->settings.quantized) {
        AQ_TRY(aq_activations_forward(result, &feed->inputs, NULL, 0, &feed->inputs));
    } else {
        aq_activations swapped = feed->inputs;
        feed->inputs = feed->outputs;
        feed->outputs = swapped;
    }
    feed->at++;
    return AQ_OK;
}
