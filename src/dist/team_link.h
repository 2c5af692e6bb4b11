/* The link of a team's members over MPI: what every call of a team begins with, and its waits.
 *
 * Before data moves, each member says how it fares and which call it is in; so a failure of one
 * reaches all in the same call, and members that got out of step fail instead of hanging. Whoever
 * waits polls: briskly at first, since most waits are short, then sleeping, at most a millisecond
 * at a time.
 */
#ifndef AQ_DIST_TEAM_LINK_H
#define AQ_DIST_TEAM_LINK_H

#include "tensor/team.h"

#include <mpi.h>
#include <stdatomic.h>

enum { AQ_TEAM_TEXT = 1024 };

typedef enum aq_team_call {
    AQ_CALL_AGREE,
    AQ_CALL_SUM,
    AQ_CALL_GATHER,
    AQ_CALL_SHARE
} aq_team_call;

/* What a member says at the start of a call. */
typedef struct aq_team_word {
    int32_t status; /* aq_status */
    int32_t call;   /* aq_team_call */
    uint64_t bytes; /* of the tensor */
    aq_rows rows;   /* of a gathering; `first` is the root of a sharing */
} aq_team_word;

typedef struct aq_team_link {
    MPI_Comm comm; /* its own */
    int rank, size;
    aq_team_word mine;         /* of the last call, which MPI may read for as long as it likes */
    aq_team_word *words;       /* of the last call, by rank */
    aq_status failure;         /* that a call has told everybody of, until they agree on it */
    char text[AQ_TEAM_TEXT];   /* of the failure */
    char heard[AQ_TEAM_TEXT];  /* as the member says it */
    bool broken;               /* a wait was given up: nothing can be sent any more */
    atomic_bool aborted;       /* from any thread: waits are given up ... */
    char reason[AQ_TEAM_TEXT]; /* ... because of this, which is there before */
} aq_team_link;

/* Collective over `members`, which it duplicates. A link that broke must stay where it is after it
 * was closed: a call of MPI may still be under way. */
aq_status aq_team_link_open(MPI_Comm members, aq_team_link *link);
void aq_team_link_close(aq_team_link *link);

/* Says mine->status, and hears all words into link->words. If a member failed, everybody gets its
 * code and text, "rank 3: " (in MPI_COMM_WORLD) in front unless all failed. COMM if members are not
 * in the same call. */
aq_status aq_team_link_meet(aq_team_link *link, const aq_team_word *mine);

/* From another thread: waits end with COMM and this reason. Only the first call counts. */
void aq_team_link_abort(aq_team_link *link, const char *reason);

/* Waits for the request; `brisk`: without sleeping in the first second, for data that is on its
 * way. COMM if the link was aborted, STOPPED if a stop was asked for and nothing came for
 * AQ_TEAM_GRACE seconds: the link is broken then. */
enum { AQ_TEAM_GRACE = 6 };
aq_status aq_team_link_wait(aq_team_link *link, MPI_Request *request, bool brisk);

/* Whether somebody who has waited `waited` seconds in a call may go on. */
aq_status aq_team_link_patience(aq_team_link *link, double waited);

#endif
