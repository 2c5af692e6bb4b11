#include "dist/teams.h"

#include "dist/polling.h"

aq_status aq_teams_open(const aq_ranks *ranks, long size, aq_backend *backend, aq_teams *teams) {
    *teams = (aq_teams){.ranks = ranks};
    AQ_REQUIRE(ranks->size % size == 0, AQ_INVALID,
               "run.team_size %ld: %d ranks do not make whole teams; start a multiple of %ld", size,
               ranks->size, size);
    teams->count = (int)(ranks->size / size);
    teams->index = (int)(ranks->rank / size);
    MPI_Comm_split(MPI_COMM_WORLD, teams->index, ranks->rank, &teams->members);
    aq_status status = aq_ranks_agree(ranks, aq_team_open(teams->members, backend, &teams->team));
    if (status != AQ_OK) aq_teams_close(teams);
    return status;
}

void aq_teams_close(aq_teams *teams) {
    if (!teams->count) return;
    aq_team_close(&teams->team);
    MPI_Comm_free(&teams->members);
    *teams = (aq_teams){0};
}

void aq_teams_pass(const aq_teams *teams, void *bytes, size_t size) {
    MPI_Request request;
    if (teams->team.size == 1) return;
    MPI_Ibcast(bytes, (int)size, MPI_BYTE, 0, teams->members, &request);
    aq_polling_wait(&request);
}
