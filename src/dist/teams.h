/* The teams of a run: ranks in groups of run.team_size, each of which works on one block at a time.
 *
 * Team t has the ranks t * size .. t * size + size - 1, of which the first one leads.
 */
#ifndef AQ_DIST_TEAMS_H
#define AQ_DIST_TEAMS_H

#include "dist/ranks.h"
#include "dist/team_open.h"

typedef struct aq_teams {
    const aq_ranks *ranks; /* borrowed */
    int count, index;      /* of all teams; of this rank's */
    aq_team team;          /* this rank's, for the work on blocks */
    MPI_Comm members;      /* of this rank's team, for everything else */
} aq_teams;

/* Collective over all ranks, as is closing ({0} is fine). INVALID if the ranks are not a multiple
 * of `size`. */
aq_status aq_teams_open(const aq_ranks *ranks, long size, aq_backend *backend, aq_teams *teams);
void aq_teams_close(aq_teams *teams);

/* Collective over this rank's team: bytes of the lead go to all. Waits, pausing. */
void aq_teams_pass(const aq_teams *teams, void *bytes, size_t size);

#endif
