/* A team's data over NCCL: cuda/ implements it, cuda_absent.c stands in for builds without CUDA.
 *
 * Each call returns when the backend's stream has done the work, and polls meanwhile: a member that
 * was lost inside a call leaves the others waiting in NCCL for ever, so they ask `patience` whether
 * to go on, and abort NCCL's communicator if not. Nothing can be sent over it any more then.
 */
#ifndef AQ_TENSOR_CUDA_TEAM_H
#define AQ_TENSOR_CUDA_TEAM_H

#include "tensor/ops.h"
#include "tensor/team.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aq_cuda_team aq_cuda_team;

/* Asked again and again by whoever waits: a status other than AQ_OK ends the wait. */
typedef struct aq_patience {
    aq_status (*check)(void *state, double waited); /* seconds in this call */
    void *state;
} aq_patience;

enum { AQ_CUDA_TEAM_ID = 128 };

/* What the members need to find each other: made by one, passed on to all as bytes. */
aq_status aq_cuda_team_id(unsigned char id[AQ_CUDA_TEAM_ID]);

/* A number that only processes on the same GPU share; members must not. */
aq_status aq_cuda_team_device(aq_backend *backend, unsigned char device[16]);

/* Collective over the members. `patience` is copied. Freed with aq_cuda_team_close (NULL is fine).
 */
aq_status aq_cuda_team_open(aq_backend *backend, const unsigned char id[AQ_CUDA_TEAM_ID],
                            const aq_team *place, const aq_patience *patience, aq_cuda_team **team);
void aq_cuda_team_close(aq_cuda_team *team);

/* As in tensor/team.h; `rows` of all members, in order of rank. */
aq_status aq_cuda_team_sum(aq_cuda_team *team, aq_tensor *x);
aq_status aq_cuda_team_gather_rows(aq_cuda_team *team, const aq_rows *rows, aq_tensor *x);
aq_status aq_cuda_team_share(aq_cuda_team *team, int root, aq_tensor *x);

#ifdef __cplusplus
}
#endif
#endif
