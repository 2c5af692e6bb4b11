/* What tests of the block feed share: the example model with few tokens, a run directory of its own
 * for each fixture, and steps that check themselves.
 */
#ifndef AQ_TEST_FEED_FIXTURE_H
#define AQ_TEST_FEED_FIXTURE_H

#include "run/block_feed.h"

enum { AQ_FEED_SEQUENCES = 3, AQ_FEED_LENGTH = 16 };

/* The example model with a few tokens, and a run directory for its quantized blocks. */
typedef struct aq_feed_fixture {
    aq_config config;
    aq_source *source;
    aq_tokens tokens;
    aq_run_directory directory;
} aq_feed_fixture;

aq_feed_fixture aq_feed_fixture_new(void);
void aq_feed_fixture_free(aq_feed_fixture *made);

aq_block_feed aq_test_feed(const aq_feed_fixture *made, bool quantized, size_t device_bytes);

/* Begin with `block`, from the embeddings or from what a team holds at `start`. */
aq_status aq_feed_from_start(aq_block_feed *feed, size_t block);
aq_status aq_feed_from_team(aq_block_feed *feed, size_t start, size_t block, int team);

/* All activations as float32; the caller frees them. */
float *aq_feed_values(const aq_activations *activations);
bool aq_feed_same_inputs(const aq_block_feed *a, const aq_block_feed *b);

/* What a rank does that quantizes the block where the feed stands: its dense outputs, and when it
 * is finished (`coded`, or NULL where inputs are dense); both. */
void aq_feed_forward(aq_block_feed *feed);
void aq_feed_advance(aq_block_feed *feed, const aq_coded_block *coded);
void aq_feed_work_through(aq_block_feed *feed, const aq_coded_block *coded);

#endif
