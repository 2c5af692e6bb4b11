/* A team's data in host memory over MPI. The members have met (dist/team_link.h) before each call.
 */
#ifndef AQ_DIST_TEAM_MPI_H
#define AQ_DIST_TEAM_MPI_H

#include "dist/team_link.h"

/* values = sum over the members, added in order of rank (F32 in float64): the same bits everywhere.
 * F32, F64 or U32. */
aq_status aq_team_mpi_sum(aq_team_link *link, aq_dtype dtype, void *values, size_t count);

/* Rows of `row_bytes` bytes, of which members hold what link->words say. */
aq_status aq_team_mpi_gather(aq_team_link *link, void *values, size_t row_bytes);

/* Bytes of member `root`. */
aq_status aq_team_mpi_share(aq_team_link *link, int root, void *values, size_t bytes);

#endif
