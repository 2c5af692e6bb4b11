/* How far a run is, on stderr: one live line on a terminal, plain lines elsewhere.
 *
 * The live line shows block, layer, phase, the share done and the time left; it is redrawn at most
 * ten times a second and cleared before every line of the log. Plain lines appear when a layer or a
 * block is done, those of layers at most once a second, and one more whenever half a minute passed
 * without any. A finished block gets its line in both forms.
 *
 * The share done counts finished blocks and, in the block at hand, finished parts: its linears and
 * whatever else takes time. The time left follows from the time that this run's share took.
 *
 * Calls may come from several threads.
 */
#ifndef AQ_RUN_PROGRESS_H
#define AQ_RUN_PROGRESS_H

#include "base/watch.h"

#include <stddef.h>

typedef enum aq_progress_mode {
    AQ_PROGRESS_AUTO, /* live on a terminal, plain elsewhere and under mpirun */
    AQ_PROGRESS_LIVE,
    AQ_PROGRESS_PLAIN
} aq_progress_mode;

/* Reads "auto", "live" or "plain"; INVALID otherwise. */
aq_status aq_progress_parse(const char *text, aq_progress_mode *mode);

typedef struct aq_progress aq_progress;

typedef struct aq_progress_plan {
    aq_progress_mode mode;
    size_t blocks;   /* of the run */
    size_t finished; /* of them, before it began */
    size_t workers;  /* processes that work on blocks at the same time; each counts as being as far
                        as this one */
} aq_progress_plan;

/* Only one progress may be at work at a time (it hangs itself in the log). Everywhere below a NULL
 * progress is fine: nothing is shown. */
aq_status aq_progress_begin(const aq_progress_plan *plan, aq_progress **progress);

/* This process starts on block `block` (counted from 0). */
void aq_progress_block(aq_progress *progress, size_t block);

/* The next part of the block starts and will take about `share` (0 to 1) of the block's time. Parts
 * are linears ("self_attn.q_proj", kept by copy) or phases of the whole block ("tuning"). Steps of
 * a phase named like the part advance the share done; those of other phases are only shown. */
void aq_progress_part(aq_progress *progress, const char *name, double share);

/* The part is done; `error` is shown unless NaN. */
void aq_progress_part_done(aq_progress *progress, double error);

/* Block `block` is done, here or by another process, with this error after `seconds` of work. */
void aq_progress_block_done(aq_progress *progress, size_t block, double error, double seconds);

/* `phase` (a static string) of the part at hand has done `done` of `total` steps. */
void aq_progress_step(aq_progress *progress, const char *phase, int done, int total);

/* The same as a watch, for computations that run alone (it never stops them); NULL for NULL.
 * Borrowed from `progress`. */
const aq_watch *aq_progress_watch(const aq_progress *progress);

/* Clears the live line and frees. */
void aq_progress_end(aq_progress *progress);

#endif
