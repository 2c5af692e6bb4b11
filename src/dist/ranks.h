/* The ranks of a run: MPI's start and end, who shares a node, and what all of them agree on.
 *
 * A program without mpirun is a single rank. Waiting ranks poll and sleep, so that those that work
 * have the cores to themselves. MPI's own failures end the program (its default): nothing could be
 * agreed upon any more.
 */
#ifndef AQ_DIST_RANKS_H
#define AQ_DIST_RANKS_H

#include "base/status.h"

#include <stdbool.h>

typedef struct aq_ranks {
    int rank, size;             /* in the run */
    int local_rank, local_size; /* on this node */
    int cores;                  /* this rank's share of those it may use, at least 1 */
} aq_ranks;

/* Starts MPI; aq_ranks_close must follow whatever this returns. COMM if the MPI does not let
 * several threads communicate. */
aq_status aq_ranks_open(aq_ranks *ranks);
void aq_ranks_close(void);

/* Collective: AQ_OK if every rank brings AQ_OK. Otherwise every rank gets the code and the text of
 * the lowest rank that failed ("rank 3: " in front unless it is rank 0). */
aq_status aq_ranks_agree(const aq_ranks *ranks, aq_status mine);

/* Collective: true if every rank says true. */
bool aq_ranks_all(const aq_ranks *ranks, bool mine);

/* Collective: every rank gets the sums over all ranks of each of `count` values. */
void aq_ranks_sum(const aq_ranks *ranks, double *values, int count);

/* CPU threads for this rank: `wanted` if it is not 0, else OMP_NUM_THREADS where it is set, else
 * its share of cores. */
int aq_ranks_threads(const aq_ranks *ranks, long wanted);

#endif
