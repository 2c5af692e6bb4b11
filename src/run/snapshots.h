/* Snapshots: activations at every N-th boundary between blocks as files of the run directory, so
 * that a restart need not forward through all blocks before the first unfinished one.
 *
 *     snapshots/boundary-0008-of-2-1.act    boundary 8, member 1 of teams of 2
 *
 * Each has its digest beside it, and carries the run's fingerprint. Those of another team size are
 * not used: members hold other sequences there.
 */
#ifndef AQ_RUN_SNAPSHOTS_H
#define AQ_RUN_SNAPSHOTS_H

#include "model/activations.h"
#include "run/run_directory.h"

typedef struct aq_snapshots {
    const aq_run_directory *directory; /* borrowed */
    size_t every;                      /* run.snapshot_every; 0: none is written */
    int team_size, member;             /* of this rank */
} aq_snapshots;

/* How many of them lie on the disk at a time, at most: the one that a restart would use, the next
 * one, and those that teams ahead of the first unfinished block have passed. */
size_t aq_snapshots_most(size_t blocks, size_t every, size_t teams);

/* Whether `boundary` is one that is written. */
bool aq_snapshot_due(const aq_snapshots *snapshots, size_t boundary);

/* Writes this member's sequences of the boundary, which lie in host memory, unless that was done
 * before. IO with path and reason (nothing is left then); STOPPED (base/stop.h). */
aq_status aq_snapshot_write(const aq_snapshots *snapshots, size_t boundary,
                            const aq_activations *activations);

/* Reads what that wrote into a new segment. `activations` say how many values are expected. FORMAT
 * if it is damaged or another run's: then it is set aside (renamed), with a warning. MISSING;
 * STOPPED. */
aq_status aq_snapshot_read(const aq_snapshots *snapshots, size_t boundary,
                           const aq_activations *activations, aq_segment *segment);

/* The highest boundary up to `limit` of which every member of a team of this size has written its
 * part (0: none). What is in the files is not checked yet. */
size_t aq_snapshots_nearest(const aq_snapshots *snapshots, size_t limit);

/* Removes those that no restart would use any more: below the highest one at or before the first
 * unfinished block, of any team size. Fine if somebody else is doing the same. */
void aq_snapshots_prune(const aq_snapshots *snapshots);

/* Removes those above boundary `last`: they were computed through blocks that are to change. */
void aq_snapshots_discard(const aq_run_directory *directory, size_t last);

#endif
