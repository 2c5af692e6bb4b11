/* The feed: the inputs of the block that a rank works on next, and room for its dense outputs.
 *
 * It holds at most two boundaries between blocks (boundary b is what block b reads). A task says
 * where it gets the first one: the embeddings, or a team that has it, which may be its own; from
 * there it walks forward through finished blocks. Activations are rounded to bfloat16 at every
 * boundary, so the inputs of a block do not depend on who computed them, or where they lay.
 *
 * run.inputs says what a block reads: what the dense model feeds it, or what its quantized
 * predecessors do. Only the dense model's activations are handed over.
 */
#ifndef AQ_RUN_BLOCK_FEED_H
#define AQ_RUN_BLOCK_FEED_H

#include "model/activations.h"
#include "run/handover.h"
#include "run/run_directory.h"
#include "run/snapshots.h"

typedef struct aq_feed_settings {
    aq_source *source;       /* borrowed: the dense model */
    const aq_tokens *tokens; /* borrowed: the calibration sequences of this rank */
    aq_backend *backend;     /* borrowed */
    size_t device_bytes;     /* of the backend's memory for all activations; SIZE_MAX: any */
    const aq_run_directory *quantized; /* borrowed: feed what its finished blocks make of the
                                          tokens; NULL: what the dense model makes of them */
    const aq_handover *handover;       /* borrowed; NULL: nobody else is there */
    const aq_snapshots *snapshots;     /* borrowed; NULL: none are written or read */
} aq_feed_settings;

/* A boundary that is held nowhere here: behind every block. */
#define AQ_NO_BOUNDARY SIZE_MAX

typedef struct aq_block_feed {
    aq_feed_settings settings;
    aq_activations inputs;  /* boundary `at` */
    aq_activations outputs; /* boundary `made`, or room for it */
    size_t at, made;        /* AQ_NO_BOUNDARY: none */
    size_t forwards;        /* dense forward passes of a block so far */
} aq_block_feed;

/* Nothing is allocated or computed yet. */
void aq_block_feed_new(const aq_feed_settings *settings, aq_block_feed *feed);
void aq_block_feed_free(aq_block_feed *feed);

/* Afterwards feed->inputs are those of the task's block, and feed->outputs have room. May be called
 * again for the same task after a failure: it goes on from what it has. Activations that the task's
 * team does not hold, or snapshots that are damaged, are made up for from an earlier snapshot or
 * the embeddings, with a warning. With quantized inputs all
 * blocks before it must be finished. NUMERIC if activations are not finite (the text names the
 * block); MISSING if this team is to have held the boundary and does not; STOPPED (base/stop.h). */
aq_status aq_block_feed_begin(aq_block_feed *feed, const aq_task *task);

/* feed->outputs hold the dense outputs of block feed->at: they are offered to other teams, if there
 * are any, and the coordinator is told. They must not change any more, but for being computed again
 * (a second call does nothing). */
aq_status aq_block_feed_forwarded(aq_block_feed *feed);

/* Block feed->at is finished, `result` is its decoded quantized form. Its inputs are given up. */
aq_status aq_block_feed_advance(aq_block_feed *feed, const aq_block *result);

/* Moves activations from the backend's memory to the host's, for good, and says whether there were
 * any. */
aq_status aq_block_feed_relieve(aq_block_feed *feed, bool *relieved);

/* Loads the dense block `index` for the feed's sequences. */
aq_status aq_block_feed_load(const aq_block_feed *feed, size_t index, aq_block *block);

#endif
