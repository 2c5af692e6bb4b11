/* Makes teams: over MPI for tensors in host memory, over NCCL for those of a GPU.
 *
 * Members that share a GPU, which NCCL does not take, send their data through host memory.
 */
#ifndef AQ_DIST_TEAM_OPEN_H
#define AQ_DIST_TEAM_OPEN_H

#include "tensor/ops.h"
#include "tensor/team.h"

#include <mpi.h>

/* Collective over `members`, whose order is the team's; the communicator is the caller's still.
 * Calls are for one thread at a time and for tensors of `backend`. A single member gets the team of
 * one. Freed with aq_team_close (aq_team_alone()'s copy and {0} are fine), collective too. */
aq_status aq_team_open(MPI_Comm members, aq_backend *backend, aq_team *team);
void aq_team_close(aq_team *team);

/* What the three calls that move data took so far: seconds in them, waits for the other members
 * included, and bytes of the tensors that this member passed to them. Zeros for a team of one. */
typedef struct aq_team_traffic {
    double seconds, bytes;
} aq_team_traffic;
aq_team_traffic aq_team_traffic_of(const aq_team *team);

/* From another thread, while the team is open: a member is lost, or the job is. Whoever waits in a
 * call, also inside NCCL, fails with COMM and the reason; nothing can be sent over the team any
 * more. */
void aq_team_abort(const aq_team *team, const char *reason);

#endif
