/* A team: the processes that share the work of one block.
 *
 * Three calls, each collective over the team. `alone` is the team of one: its calls return at once,
 * so serial code has no special case. Teams of several (MPI, NCCL) are made in dist/.
 */
#ifndef AQ_TENSOR_TEAM_H
#define AQ_TENSOR_TEAM_H

#include "tensor/tensor.h"

typedef struct aq_team aq_team;

struct aq_team {
    int rank, size;
    /* x = sum of the members' x, the same bits everywhere. */
    aq_status (*sum)(const aq_team *, aq_tensor *x);
    /* Each member holds rows [first, first + count) of x; afterwards everybody holds all. */
    aq_status (*gather_rows)(const aq_team *, size_t first, size_t count, aq_tensor *x);
    /* x of member `root` goes to everybody. */
    aq_status (*share)(const aq_team *, int root, aq_tensor *x);
    void *state;
};

/* The team of one; static, never freed. */
const aq_team *aq_team_alone(void);

aq_status aq_team_sum(const aq_team *team, aq_tensor *x);

#endif
