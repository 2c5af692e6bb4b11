#include "dist/team_link.h"

#include "base/clock.h"
#include "base/pulse.h"
#include "base/stop.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

aq_status aq_team_link_open(MPI_Comm members, aq_team_link *link) {
    *link = (aq_team_link){.comm = MPI_COMM_NULL};
    MPI_Comm_dup(members, &link->comm);
    MPI_Comm_rank(link->comm, &link->rank);
    MPI_Comm_size(link->comm, &link->size);
    link->words = calloc((size_t)link->size, sizeof *link->words);
    AQ_REQUIRE(link->words, AQ_MEMORY, "no memory for the words of a team of %d", link->size);
    return AQ_OK;
}

void aq_team_link_close(aq_team_link *link) {
    if (link->broken) return;
    free(link->words);
    link->words = NULL;
    if (link->comm != MPI_COMM_NULL) MPI_Comm_free(&link->comm);
}

/* ---- waiting ---- */

aq_status aq_team_link_patience(aq_team_link *link, double waited) {
    aq_pulse_beat(); /* whoever is to come may take long */
    bool aborted = atomic_load(&link->aborted);
    if (!aborted && !(waited > AQ_TEAM_GRACE && aq_stop_wanted())) return AQ_OK;
    link->broken = true;
    return aborted ? AQ_FAIL(AQ_COMM, "%s", link->reason) : aq_stop_check();
}

void aq_team_link_abort(aq_team_link *link, const char *reason) {
    if (atomic_load(&link->aborted)) return;
    snprintf(link->reason, sizeof link->reason, "%s", reason);
    atomic_store(&link->aborted, true);
}

/* Sleeps grow with the time waited, so that they add little to it. */
static void pause_after(double waited, bool brisk) {
    const double first = brisk ? 1 : 2e-4, longest = 1e-3;
    if (waited < first) {
        sched_yield();
        return;
    }
    double seconds = waited / 8 < longest ? waited / 8 : longest;
    const struct timespec pause = {.tv_nsec = (long)(1e9 * seconds)};
    nanosleep(&pause, NULL);
}

aq_status aq_team_link_wait(aq_team_link *link, MPI_Request *request, bool brisk) {
    double start = aq_seconds();
    for (;;) {
        int complete = 0;
        MPI_Test(request, &complete, MPI_STATUS_IGNORE);
        if (complete) return AQ_OK;
        double waited = aq_seconds() - start;
        AQ_TRY(aq_team_link_patience(link, waited));
        pause_after(waited, brisk);
    }
}

/* ---- words ---- */

static int world_rank(const aq_team_link *link, int member) {
    MPI_Group team, world;
    int rank = member;
    MPI_Comm_group(link->comm, &team);
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_translate_ranks(team, 1, &member, world, &rank);
    MPI_Group_free(&team);
    MPI_Group_free(&world);
    return rank;
}

static aq_status repeat_failure(const aq_team_link *link) {
    return AQ_FAIL(link->failure, "%s", link->text);
}

/* The lowest member that failed tells the others why. */
static aq_status hear_failure(aq_team_link *link, int failed, bool all) {
    char *text = link->heard;
    MPI_Request request;
    if (link->rank == failed) snprintf(text, AQ_TEAM_TEXT, "%s", aq_error_text());
    MPI_Ibcast(text, AQ_TEAM_TEXT, MPI_BYTE, failed, link->comm, &request);
    AQ_TRY(aq_team_link_wait(link, &request, true));
    link->failure = (aq_status)link->words[failed].status;
    if (all || failed == 0)
        memcpy(link->text, text, AQ_TEAM_TEXT);
    else
        snprintf(link->text, sizeof link->text, "rank %d: %.1000s", world_rank(link, failed), text);
    return repeat_failure(link);
}

static aq_status check_step(aq_team_link *link, const aq_team_word *mine) {
    for (int member = 0; member < link->size; member++) {
        const aq_team_word *other = &link->words[member];
        bool same = other->call == mine->call && other->bytes == mine->bytes;
        if (mine->call == AQ_CALL_SHARE) same = same && other->rows.first == mine->rows.first;
        AQ_REQUIRE(same, AQ_COMM,
                   "members of a team are out of step: call %d of %llu bytes and call %d of %llu "
                   "bytes (members %d and %d)",
                   (int)mine->call, (unsigned long long)mine->bytes, (int)other->call,
                   (unsigned long long)other->bytes, link->rank, member);
    }
    return AQ_OK;
}

aq_status aq_team_link_meet(aq_team_link *link, const aq_team_word *mine) {
    if (link->failure != AQ_OK) return repeat_failure(link);
    AQ_REQUIRE(!link->broken, AQ_COMM, "the team has lost a member");
    MPI_Request request;
    link->mine = *mine;
    MPI_Iallgather(&link->mine, sizeof *mine, MPI_BYTE, link->words, sizeof *mine, MPI_BYTE,
                   link->comm, &request);
    AQ_TRY(aq_team_link_wait(link, &request, false));
    int failed = link->size, count = 0;
    for (int member = link->size; member-- > 0;)
        if (link->words[member].status != AQ_OK) failed = member, count++;
    return failed < link->size ? hear_failure(link, failed, count == link->size)
                               : check_step(link, mine);
}
