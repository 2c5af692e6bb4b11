/* The feed: the inputs of the block that a process works on next.
 *
 * Every process makes its own. It starts at the embeddings and walks forward block by block, one
 * forward pass each, so it is cheapest when blocks come in ascending order. Activations are rounded
 * to bfloat16 at every boundary between blocks; so the inputs of a block do not depend on which
 * blocks this process quantized itself.
 *
 * run.inputs says what a block reads: what the dense model feeds it, or what its quantized
 * predecessors do.
 */
#ifndef AQ_RUN_BLOCK_FEED_H
#define AQ_RUN_BLOCK_FEED_H

#include "model/activations.h"
#include "run/run_directory.h"

typedef struct aq_feed_settings {
    aq_source *source;       /* borrowed: the dense model */
    const aq_tokens *tokens; /* borrowed: the calibration sequences */
    aq_backend *backend;     /* borrowed */
    size_t device_bytes;     /* of the backend's memory for all activations; SIZE_MAX: any */
    const aq_run_directory *quantized; /* borrowed: feed what its finished blocks make of the
                                          tokens; NULL: what the dense model makes of them */
} aq_feed_settings;

typedef struct aq_block_feed {
    aq_feed_settings settings;
    aq_activations inputs;  /* of block `at` */
    aq_activations outputs; /* room for that block's dense outputs */
    size_t at;
} aq_block_feed;

/* Makes room for the activations; nothing is computed yet. */
aq_status aq_block_feed_new(const aq_feed_settings *settings, aq_block_feed *feed);
void aq_block_feed_free(aq_block_feed *feed);

/* Afterwards feed->inputs are those of `block`. With quantized inputs all blocks before it must be
 * finished. NUMERIC if activations are not finite (the text names the block); STOPPED
 * (base/stop.h). */
aq_status aq_block_feed_seek(aq_block_feed *feed, size_t block);

/* Block feed->at has been quantized: feed->outputs hold its dense outputs, `result` its decoded
 * quantized form. Afterwards feed->inputs are those of the block behind it. */
aq_status aq_block_feed_advance(aq_block_feed *feed, const aq_block *result);

/* Loads the dense block `index` for the feed's sequences. */
aq_status aq_block_feed_load(const aq_block_feed *feed, size_t index, aq_block *block);

#endif
