#include "run/schedule.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

static const aq_phases no_seconds;

static aq_schedule schedule_of(size_t blocks, int teams) {
    const aq_schedule_settings settings = {.blocks = blocks, .teams = teams, .team_size = 1};
    aq_schedule schedule;
    AQ_CHECK(aq_schedule_new(&settings, &schedule));
    return schedule;
}

static void expect_nothing(aq_schedule *schedule) {
    aq_answer answer;
    CU_ASSERT_FALSE(aq_schedule_next(schedule, &answer));
}

static void expect_end(aq_schedule *schedule, int team) {
    aq_answer answer;
    CU_ASSERT_TRUE_FATAL(aq_schedule_next(schedule, &answer));
    CU_ASSERT_FALSE(answer.works);
    CU_ASSERT_EQUAL(answer.team, team);
}

static void expect_task(aq_schedule *schedule, int team, aq_task expected) {
    aq_answer answer;
    CU_ASSERT_TRUE_FATAL(aq_schedule_next(schedule, &answer));
    CU_ASSERT_TRUE(answer.works);
    CU_ASSERT_EQUAL(answer.team, team);
    CU_ASSERT_EQUAL(answer.task.block, expected.block);
    CU_ASSERT_EQUAL(answer.task.start, expected.start);
    CU_ASSERT_EQUAL(answer.task.source, expected.source);
    if (expected.source == AQ_SOURCE_TEAM) CU_ASSERT_EQUAL(answer.task.team, expected.team);
}

static aq_task embedded(size_t block) {
    return (aq_task){.block = block};
}

static aq_task stored(size_t block, size_t start) {
    return (aq_task){.block = block, .start = start, .source = AQ_SOURCE_SNAPSHOT};
}

static aq_task held(size_t block, size_t start, int team) {
    return (aq_task){.block = block, .start = start, .source = AQ_SOURCE_TEAM, .team = team};
}

/* ---- the frontier ---- */

static void the_first_block_starts_from_the_embeddings(void) {
    aq_schedule schedule = schedule_of(3, 2);
    expect_nothing(&schedule);
    aq_schedule_ask(&schedule, 1);
    expect_task(&schedule, 1, embedded(0));
    CU_ASSERT_EQUAL(schedule.entries[0].state, AQ_BLOCK_RUNS);
    CU_ASSERT_EQUAL(aq_schedule_lead(&schedule, 0), 1);
    CU_ASSERT_EQUAL(aq_schedule_lead(&schedule, 1), AQ_NOBODY);
    aq_schedule_free(&schedule);
}

static void a_team_waits_for_the_frontier(void) {
    aq_schedule schedule = schedule_of(3, 2);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(0));
    aq_schedule_ask(&schedule, 1);
    expect_nothing(&schedule);
    aq_schedule_forwarded(&schedule, 0);
    expect_task(&schedule, 1, held(1, 1, 0));
    expect_nothing(&schedule);
    aq_schedule_free(&schedule);
}

static void the_frontier_stays_with_its_holder_if_nobody_is_free(void) {
    aq_schedule schedule = schedule_of(2, 2);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(0));
    aq_schedule_forwarded(&schedule, 0);
    expect_nothing(&schedule);
    aq_schedule_done(&schedule, 0, 0.5, &no_seconds);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, held(1, 1, 0));
    aq_schedule_free(&schedule);
}

static void the_holder_goes_first(void) {
    aq_schedule schedule = schedule_of(2, 3);
    aq_schedule_ask(&schedule, 1);
    expect_task(&schedule, 1, embedded(0));
    aq_schedule_ask(&schedule, 2);
    aq_schedule_forwarded(&schedule, 0);
    aq_schedule_done(&schedule, 0, 0.5, &no_seconds);
    aq_schedule_ask(&schedule, 1);
    expect_task(&schedule, 1, held(1, 1, 1));
    expect_end(&schedule, 2);
    aq_schedule_free(&schedule);
}

static void a_lender_gets_nothing_until_the_taker_has_forwarded(void) {
    aq_schedule schedule = schedule_of(12, 2);
    aq_schedule_snapshot(&schedule, 9);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(0));
    for (size_t i = 2; i < 10; i++) aq_schedule_finished(&schedule, i, 0.5);
    aq_schedule_forwarded(&schedule, 0);
    aq_schedule_ask(&schedule, 1);
    expect_task(&schedule, 1, held(1, 1, 0));
    aq_schedule_done(&schedule, 0, 0.5, &no_seconds);
    aq_schedule_ask(&schedule, 0);
    expect_nothing(&schedule);
    aq_schedule_forwarded(&schedule, 1);
    expect_task(&schedule, 0, stored(10, 9));
    aq_schedule_free(&schedule);
}

static void all_members_must_have_forwarded(void) {
    const aq_schedule_settings settings = {.blocks = 2, .teams = 2, .team_size = 3};
    aq_schedule schedule;
    AQ_CHECK(aq_schedule_new(&settings, &schedule));
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(0));
    aq_schedule_ask(&schedule, 1);
    for (int member = 0; member < 2; member++) aq_schedule_forwarded(&schedule, 0);
    expect_nothing(&schedule);
    aq_schedule_forwarded(&schedule, 0);
    expect_task(&schedule, 1, held(1, 1, 0));
    CU_ASSERT_EQUAL(aq_schedule_lead(&schedule, 1), 3);
    aq_schedule_free(&schedule);
}

/* ---- earlier runs ---- */

static void finished_blocks_are_walked_through(void) {
    aq_schedule schedule = schedule_of(6, 1);
    aq_schedule_finished(&schedule, 0, 0.25);
    aq_schedule_finished(&schedule, 2, 0.25);
    aq_schedule_finished(&schedule, 3, 0.25);
    aq_schedule_finished(&schedule, 5, 0.25);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(1));
    aq_schedule_forwarded(&schedule, 1);
    aq_schedule_done(&schedule, 1, 0.5, &no_seconds);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, held(4, 2, 0));
    aq_schedule_done(&schedule, 4, 0.5, &no_seconds);
    aq_schedule_ask(&schedule, 0);
    expect_end(&schedule, 0);
    AQ_CHECK(aq_schedule_verdict(&schedule));
    aq_schedule_free(&schedule);
}

static void the_nearest_snapshot_is_the_start(void) {
    aq_schedule schedule = schedule_of(12, 2);
    for (size_t i = 0; i < 7; i++) aq_schedule_finished(&schedule, i, 0.25);
    for (size_t i = 8; i < 10; i++) aq_schedule_finished(&schedule, i, 0.25);
    aq_schedule_snapshot(&schedule, 4);
    aq_schedule_snapshot(&schedule, 8);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, stored(7, 4));
    aq_schedule_ask(&schedule, 1);
    expect_task(&schedule, 1, stored(10, 8)); /* as near as the frontier, and there already */
    aq_schedule_free(&schedule);
}

static void a_frontier_beats_an_earlier_snapshot(void) {
    aq_schedule schedule = schedule_of(12, 2);
    aq_schedule_snapshot(&schedule, 4);
    for (size_t i = 0; i < 6; i++) aq_schedule_finished(&schedule, i, 0.25);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, stored(6, 4));
    aq_schedule_ask(&schedule, 1);
    expect_nothing(&schedule);
    aq_schedule_forwarded(&schedule, 6);
    expect_task(&schedule, 1, held(7, 7, 0));
    aq_schedule_free(&schedule);
}

/* ---- quantized inputs ---- */

static void in_order_team_0_gets_all(void) {
    const aq_schedule_settings settings = {
        .blocks = 3, .teams = 3, .team_size = 1, .in_order = true};
    aq_schedule schedule;
    AQ_CHECK(aq_schedule_new(&settings, &schedule));
    aq_schedule_finished(&schedule, 0, 0.25);
    aq_schedule_ask(&schedule, 2);
    expect_end(&schedule, 2);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(1));
    aq_schedule_ask(&schedule, 1);
    expect_end(&schedule, 1);
    aq_schedule_forwarded(&schedule, 1);
    aq_schedule_done(&schedule, 1, 0.5, &no_seconds);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, held(2, 2, 0));
    aq_schedule_free(&schedule);
}

/* ---- ends ---- */

static void nothing_is_handed_out_after_a_failure(void) {
    aq_schedule schedule = schedule_of(4, 3);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(0));
    aq_schedule_forwarded(&schedule, 0);
    aq_schedule_ask(&schedule, 1);
    expect_task(&schedule, 1, held(1, 1, 0));
    aq_schedule_ask(&schedule, 2);
    expect_nothing(&schedule);
    aq_schedule_failed(&schedule, 1, AQ_NUMERIC, "NaN everywhere");
    expect_end(&schedule, 2);
    aq_schedule_done(&schedule, 0, 0.5, &no_seconds);
    aq_schedule_ask(&schedule, 0);
    expect_end(&schedule, 0);
    CU_ASSERT_EQUAL(aq_schedule_count(&schedule, AQ_BLOCK_WAITS), 2);
    AQ_CHECK_FAILS(aq_schedule_verdict(&schedule), AQ_NUMERIC, "block 1 (rank 1): NaN everywhere");
    aq_schedule_free(&schedule);
}

static void the_lowest_failed_block_is_named(void) {
    aq_schedule schedule = schedule_of(3, 3);
    for (int i = 0; i < 3; i++) {
        aq_schedule_ask(&schedule, i);
        expect_task(&schedule, i, i ? held((size_t)i, (size_t)i, i - 1) : embedded(0));
        aq_schedule_forwarded(&schedule, (size_t)i);
    }
    aq_schedule_failed(&schedule, 2, AQ_IO, "later");
    aq_schedule_failed(&schedule, 1, AQ_DEVICE, "earlier");
    AQ_CHECK_FAILS(aq_schedule_verdict(&schedule), AQ_DEVICE, "block 1 (rank 1): earlier");
    aq_schedule_free(&schedule);
}

static void a_stop_ends_all_that_ask(void) {
    aq_schedule schedule = schedule_of(3, 2);
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(0));
    aq_schedule_ask(&schedule, 1);
    expect_nothing(&schedule);
    aq_schedule_stop(&schedule);
    expect_end(&schedule, 1);
    aq_schedule_released(&schedule, 0);
    aq_schedule_ask(&schedule, 0);
    expect_end(&schedule, 0);
    AQ_CHECK_FAILS(aq_schedule_verdict(&schedule), AQ_STOPPED, "stopped with 0 of 3 blocks");
    aq_schedule_free(&schedule);
}

static void what_a_block_took_is_kept(void) {
    aq_schedule schedule = schedule_of(1, 1);
    const aq_phases seconds = {.seconds[AQ_PHASE_TUNING] = 2};
    aq_schedule_ask(&schedule, 0);
    expect_task(&schedule, 0, embedded(0));
    aq_schedule_done(&schedule, 0, 0.125, &seconds);
    CU_ASSERT_EQUAL(schedule.entries[0].error, 0.125);
    CU_ASSERT_EQUAL(schedule.entries[0].seconds.seconds[AQ_PHASE_TUNING], 2);
    aq_schedule_free(&schedule);
}

static void a_schedule_of_no_blocks_is_refused(void) {
    const aq_schedule_settings settings = {.teams = 1, .team_size = 1};
    aq_schedule schedule;
    AQ_CHECK_FAILS(aq_schedule_new(&settings, &schedule), AQ_INVALID, "without blocks");
    aq_schedule_free(&schedule);
}

/* ---- random histories ---- */

enum { BLOCKS = 40, TEAMS = 12 };

/* A team's life: it has asked, forwards its task, quantizes, or has left. */
typedef enum life { ASKED, FORWARDS, QUANTIZES, LEFT } life;

typedef struct history {
    aq_schedule schedule;
    uint64_t seed, draws;
    size_t blocks;
    int teams, members;
    life lives[TEAMS];
    aq_task tasks[TEAMS];
    int said[TEAMS];      /* members that have said FORWARDED */
    size_t holds[TEAMS];  /* the boundary that a team offers; BLOCKS + 1: none */
    int forwards[BLOCKS]; /* how often each block was forwarded */
    bool finished[BLOCKS], stored[BLOCKS];
    int done[BLOCKS];
} history;

static size_t draw(history *self, size_t below) {
    return (size_t)(aq_random(self->seed, AQ_STREAM_TEST, self->draws++) % below);
}

static history history_of(uint64_t seed) {
    history self = {.seed = seed};
    self.blocks = 1 + draw(&self, BLOCKS);
    self.teams = 1 + (int)draw(&self, TEAMS);
    self.members = 1 + (int)draw(&self, 3);
    const aq_schedule_settings settings = {.blocks = self.blocks,
                                           .teams = self.teams,
                                           .team_size = self.members,
                                           .in_order = draw(&self, 4) == 0};
    AQ_CHECK(aq_schedule_new(&settings, &self.schedule));
    bool resumed = draw(&self, 2), snapshots = draw(&self, 2);
    for (size_t i = 0; i < self.blocks; i++) {
        self.finished[i] = resumed && draw(&self, 2);
        self.stored[i] = snapshots && i > 0 && draw(&self, 6) == 0;
        if (self.finished[i]) aq_schedule_finished(&self.schedule, i, 0.5);
        if (self.stored[i]) aq_schedule_snapshot(&self.schedule, i);
    }
    for (int t = 0; t < TEAMS; t++) self.holds[t] = BLOCKS + 1;
    return self;
}

/* The start can be had: the boundary lies in a file, or with a team that offers it. */
static void check_task(const history *self, const aq_answer *answer) {
    const aq_task *task = &answer->task;
    CU_ASSERT_FALSE(self->finished[task->block]);
    CU_ASSERT_TRUE(task->start <= task->block);
    for (size_t i = task->start; i < task->block; i++)
        CU_ASSERT_TRUE(self->finished[i] || self->done[i] || self->stored[task->start]);
    if (task->source == AQ_SOURCE_SNAPSHOT) CU_ASSERT_TRUE(self->stored[task->start]);
    if (task->source == AQ_SOURCE_EMBEDDINGS) CU_ASSERT_EQUAL(task->start, 0);
    if (task->source == AQ_SOURCE_TEAM && !self->schedule.settings.in_order)
        CU_ASSERT_EQUAL(self->holds[task->team], task->start);
}

static void take_answers(history *self) {
    aq_answer answer;
    while (aq_schedule_next(&self->schedule, &answer)) {
        CU_ASSERT_EQUAL(self->lives[answer.team], ASKED);
        self->lives[answer.team] = answer.works ? FORWARDS : LEFT;
        if (!answer.works) continue;
        check_task(self, &answer);
        self->tasks[answer.team] = answer.task;
        self->said[answer.team] = 0;
        if (answer.task.source != AQ_SOURCE_TEAM || answer.task.team == answer.team)
            self->holds[answer.team] = BLOCKS + 1;
    }
}

/* A lender still offers when the taker is through with fetching. */
static void forward(history *self, int team) {
    const aq_task *task = &self->tasks[team];
    if (self->said[team] == 0) {
        if (task->source == AQ_SOURCE_TEAM && task->team != team)
            CU_ASSERT_EQUAL(self->holds[task->team], task->start);
        for (size_t i = task->start; i <= task->block; i++) self->forwards[i]++;
    }
    aq_schedule_forwarded(&self->schedule, task->block);
    if (++self->said[team] < self->members) return;
    self->holds[team] = task->block + 1;
    self->lives[team] = QUANTIZES;
}

static void step(history *self, int team) {
    if (self->lives[team] == FORWARDS) {
        forward(self, team);
    } else if (self->lives[team] == QUANTIZES) {
        self->done[self->tasks[team].block]++;
        aq_schedule_done(&self->schedule, self->tasks[team].block, 0.5, &no_seconds);
        aq_schedule_ask(&self->schedule, team);
        self->lives[team] = ASKED;
    }
}

static bool moves(const history *self) {
    bool any = false;
    for (int t = 0; t < self->teams; t++)
        any |= self->lives[t] == FORWARDS || self->lives[t] == QUANTIZES;
    return any;
}

static void check_end(const history *self, bool snapshots) {
    size_t last = 0;
    for (int t = 0; t < self->teams; t++) CU_ASSERT_EQUAL(self->lives[t], LEFT);
    for (size_t i = 0; i < self->blocks; i++) {
        CU_ASSERT_EQUAL(self->done[i], !self->finished[i]);
        if (!self->finished[i]) last = i;
    }
    for (size_t i = 0; i < self->blocks; i++) {
        CU_ASSERT_TRUE(self->forwards[i] <= 1);
        bool needed = i < last || !self->finished[i];
        if (!snapshots) CU_ASSERT_EQUAL(self->forwards[i], needed);
        if (i > last) CU_ASSERT_EQUAL(self->forwards[i], 0);
    }
    AQ_CHECK(aq_schedule_verdict(&self->schedule));
}

static void play(history *self) {
    bool snapshots = false;
    for (size_t i = 0; i < self->blocks; i++) snapshots |= self->stored[i];
    for (int t = 0; t < self->teams; t++) {
        aq_schedule_ask(&self->schedule, t);
        if (draw(self, 2)) take_answers(self);
    }
    take_answers(self);
    while (moves(self)) {
        step(self, (int)draw(self, (size_t)self->teams));
        take_answers(self);
    }
    check_end(self, snapshots);
}

static void random_histories_forward_every_block_once(void) {
    for (uint64_t seed = 0; seed < 3000; seed++) {
        history self = history_of(seed);
        play(&self);
        aq_schedule_free(&self.schedule);
    }
}

static const aq_case cases[] = {
    AQ_CASE(the_first_block_starts_from_the_embeddings),
    AQ_CASE(a_team_waits_for_the_frontier),
    AQ_CASE(the_frontier_stays_with_its_holder_if_nobody_is_free),
    AQ_CASE(the_holder_goes_first),
    AQ_CASE(a_lender_gets_nothing_until_the_taker_has_forwarded),
    AQ_CASE(all_members_must_have_forwarded),
    AQ_CASE(finished_blocks_are_walked_through),
    AQ_CASE(the_nearest_snapshot_is_the_start),
    AQ_CASE(a_frontier_beats_an_earlier_snapshot),
    AQ_CASE(in_order_team_0_gets_all),
    AQ_CASE(nothing_is_handed_out_after_a_failure),
    AQ_CASE(the_lowest_failed_block_is_named),
    AQ_CASE(a_stop_ends_all_that_ask),
    AQ_CASE(what_a_block_took_is_kept),
    AQ_CASE(a_schedule_of_no_blocks_is_refused),
    AQ_CASE(random_histories_forward_every_block_once),
};

int main(int argc, char **argv) {
    return aq_test_main("schedule", cases, sizeof cases / sizeof *cases, argc, argv);
}
