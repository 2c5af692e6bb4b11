/* A team: the processes that share the work of one block.
 *
 * Three calls move data, each collective over the team. `alone` is the team of one: its calls
 * return at once, so serial code has no special case. Teams of several are made in dist/ (over MPI,
 * or NCCL for tensors of a CUDA backend).
 *
 * Work is split in two ways. Rows of a weight: member i has a contiguous run of them. Sequences:
 * member i of T has those with index % T == i, and its local number j is index j * T + i.
 *
 * What one member finds out reaches all. A member that fails between two calls, or is asked to
 * stop, brings its status to aq_team_agree; the others meet it in their next call, whichever that
 * is, which fails with that status and text, and on their way up they pass aq_team_agree too. So
 * whoever calls a function that is collective over a team puts aq_team_agree around it, once: not
 * inside another one.
 */
#ifndef AQ_TENSOR_TEAM_H
#define AQ_TENSOR_TEAM_H

#include "tensor/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aq_team aq_team;

struct aq_team {
    int rank, size;
    /* x = sum of the members' x (F32, F64 or U32), the same bits everywhere. */
    aq_status (*sum)(const aq_team *, aq_tensor *x);
    /* Each member holds rows [first, first + count) of x, at least one; afterwards everybody holds
     * all. */
    aq_status (*gather_rows)(const aq_team *, size_t first, size_t count, aq_tensor *x);
    /* x of member `root` goes to everybody. */
    aq_status (*share)(const aq_team *, int root, aq_tensor *x);
    /* AQ_OK if every member brings AQ_OK; else everybody gets the code and the text of the lowest
     * one that failed. Also ends a failure that a call before told everybody of. */
    aq_status (*agree)(const aq_team *, aq_status mine);
    void *state;
};

/* The team of one; static, never freed. */
const aq_team *aq_team_alone(void);

aq_status aq_team_sum(const aq_team *team, aq_tensor *x);
aq_status aq_team_gather_rows(const aq_team *team, size_t first, size_t count, aq_tensor *x);
aq_status aq_team_share(const aq_team *team, int root, aq_tensor *x);
aq_status aq_team_agree(const aq_team *team, aq_status mine);

/* *value = sum of the members' values, through memory of `home`. Collective. Waits. */
aq_status aq_team_sum_number(const aq_team *team, struct aq_backend *home, double *value);

/* A run of rows. */
typedef struct aq_rows {
    size_t first, count;
} aq_rows;

/* This member's of `rows` rows: together they cover them in order of rank; none is empty if there
 * are at least as many rows as members. */
aq_rows aq_team_rows(const aq_team *team, size_t rows);

/* How many of the sequences 0 .. count - 1 this member has. */
size_t aq_team_sequences(const aq_team *team, size_t count);

#ifdef __cplusplus
}
#endif
#endif
