#include "coded_model.h"
#include "feed_fixture.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A relay between feeds of this process: one offer a team, mapped or copied. */
enum { TEAMS = 3 };
typedef struct relay_table {
    aq_segment_name names[TEAMS];
    size_t boundaries[TEAMS];
    bool copies;
    size_t forwarded;
} relay_table;
typedef struct relay_seat {
    relay_table *table;
    aq_handover handover;
} relay_seat;

static aq_status seat_offer(void *state, size_t boundary, const aq_segment *segment) {
    relay_seat *self = state;
    int team = self->handover.team;
    self->table->boundaries[team] = boundary;
    return aq_segment_describe(segment, &self->table->names[team]);
}

static aq_status seat_withdraw(void *state) {
    relay_seat *self = state;
    self->table->boundaries[self->handover.team] = AQ_NO_BOUNDARY;
    return AQ_OK;
}

static aq_status seat_fetch(void *state, const aq_task *task, size_t bytes, aq_segment *spare,
                            aq_segment *segment) {
    relay_table *table = ((relay_seat *)state)->table;
    aq_segment mapped;
    *segment = (aq_segment){0};
    (void)spare;
    AQ_REQUIRE(table->boundaries[task->team] == task->start, AQ_MISSING, "team %d holds it not",
               task->team);
    AQ_TRY(aq_segment_map(aq_test_backend(), &table->names[task->team], &mapped));
    CU_ASSERT_EQUAL(mapped.bytes, bytes);
    *segment = mapped;
    if (!table->copies) return AQ_OK;
    AQ_TRY(aq_segment_new(aq_test_backend(), bytes, segment));
    memcpy(segment->data, mapped.data, bytes);
    aq_segment_free(&mapped);
    return AQ_OK;
}

static aq_status seat_forwarded(void *state, size_t block) {
    ((relay_seat *)state)->table->forwarded = block;
    return AQ_OK;
}

/* `seat` must stay where it is. */
static aq_block_feed seated_feed(const aq_feed_fixture *made, relay_table *table, relay_seat *seat,
                                 int team, size_t device_bytes) {
    seat->table = table;
    seat->handover = (aq_handover){.state = seat,
                                   .team = team,
                                   .offer = seat_offer,
                                   .withdraw = seat_withdraw,
                                   .fetch = seat_fetch,
                                   .forwarded = seat_forwarded};
    aq_block_feed feed = aq_test_feed(made, false, device_bytes);
    feed.settings.handover = &seat->handover;
    table->boundaries[team] = AQ_NO_BOUNDARY;
    return feed;
}

static void dense_inputs_do_not_depend_on_who_walked(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    aq_block_feed walks = aq_test_feed(&made, false, SIZE_MAX),
                  works = aq_test_feed(&made, false, 0);
    AQ_CHECK(aq_feed_from_start(&walks, 3));
    AQ_CHECK(aq_feed_from_start(&works, 1));
    aq_feed_work_through(&works, NULL);
    AQ_CHECK(aq_feed_from_team(&works, 2, 2, 0));
    aq_feed_work_through(&works, NULL);
    AQ_CHECK(aq_feed_from_team(&works, 3, 3, 0));
    CU_ASSERT_EQUAL(works.at, 3);
    CU_ASSERT_EQUAL(walks.forwards, 3);
    CU_ASSERT_EQUAL(works.forwards, 3);
    CU_ASSERT_TRUE(aq_feed_same_inputs(&walks, &works));
    aq_block_feed_free(&walks);
    aq_block_feed_free(&works);
    aq_feed_fixture_free(&made);
}

static void feed_starts_over_for_a_block_behind_it(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    aq_block_feed ahead = aq_test_feed(&made, false, SIZE_MAX),
                  fresh = aq_test_feed(&made, false, SIZE_MAX);
    AQ_CHECK(aq_feed_from_start(&ahead, 3));
    AQ_CHECK(aq_feed_from_start(&fresh, 1));
    CU_ASSERT_FALSE(aq_feed_same_inputs(&ahead, &fresh));
    AQ_CHECK(aq_feed_from_start(&ahead, 1));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&ahead, &fresh));
    aq_block_feed_free(&ahead);
    aq_block_feed_free(&fresh);
    aq_feed_fixture_free(&made);
}

/* Three teams take blocks 0, 1, 2 from each other while each still works on its own. */
static void check_chain(bool copies, size_t device_bytes) {
    aq_feed_fixture made = aq_feed_fixture_new();
    relay_table table = {.copies = copies};
    relay_seat seats[TEAMS];
    aq_block_feed feeds[TEAMS], alone = aq_test_feed(&made, false, SIZE_MAX);
    for (int team = 0; team < TEAMS; team++)
        feeds[team] = seated_feed(&made, &table, &seats[team], team, device_bytes);
    AQ_CHECK(aq_feed_from_start(&feeds[0], 0));
    for (int team = 0; team < TEAMS; team++) {
        aq_feed_forward(&feeds[team]);
        CU_ASSERT_EQUAL(table.forwarded, (size_t)team);
        if (team + 1 == TEAMS) break;
        AQ_CHECK(aq_feed_from_team(&feeds[team + 1], (size_t)team + 1, (size_t)team + 1, team));
        CU_ASSERT_EQUAL(feeds[team + 1].inputs.segment.shared, !copies && device_bytes == 0);
        CU_ASSERT_EQUAL(feeds[team + 1].inputs.segment.data == NULL, device_bytes > 0);
    }
    aq_feed_advance(&feeds[0], NULL);
    AQ_CHECK(aq_feed_from_team(&feeds[0], 3, 3, 2));
    AQ_CHECK(aq_feed_from_start(&alone, 3));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&alone, &feeds[0]));
    AQ_CHECK(aq_feed_from_start(&alone, 2));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&alone, &feeds[2]));
    for (int team = 0; team < TEAMS; team++) {
        CU_ASSERT_EQUAL(feeds[team].forwards, 1);
        aq_block_feed_free(&feeds[team]);
    }
    aq_block_feed_free(&alone);
    aq_feed_fixture_free(&made);
}

static void every_block_is_forwarded_once_by_teams_that_map(void) {
    check_chain(false, 0);
    check_chain(false, SIZE_MAX);
}

static void every_block_is_forwarded_once_by_teams_that_copy(void) {
    check_chain(true, 0);
    check_chain(true, SIZE_MAX);
}

/* Nobody was free: the team that made a boundary takes it, and walks through a finished block. */
static void check_own(size_t device_bytes) {
    aq_feed_fixture made = aq_feed_fixture_new();
    relay_table table = {0};
    relay_seat seat;
    aq_block_feed works = seated_feed(&made, &table, &seat, 0, device_bytes),
                  walks = aq_test_feed(&made, false, SIZE_MAX);
    AQ_CHECK(aq_feed_from_start(&works, 1));
    aq_feed_work_through(&works, NULL);
    CU_ASSERT_EQUAL(table.boundaries[0], 2);
    AQ_CHECK(aq_feed_from_team(&works, 2, 3, 0));
    CU_ASSERT(!works.inputs.resident.data || !works.inputs.segment.data);
    CU_ASSERT_EQUAL(table.boundaries[0], AQ_NO_BOUNDARY);
    AQ_CHECK(aq_feed_from_start(&walks, 3));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&walks, &works));
    CU_ASSERT_EQUAL(works.forwards, 3);
    AQ_CHECK_FAILS(aq_feed_from_team(&works, 2, 2, 0), AQ_MISSING, "boundary 2 should lie here");
    aq_block_feed_free(&works);
    aq_block_feed_free(&walks);
    aq_feed_fixture_free(&made);
}

static void a_team_takes_its_own_outputs(void) {
    check_own(0);
    check_own(SIZE_MAX);
}

/* Two resident feeds that give each other what they made. */
static void a_taker_uses_the_memory_of_its_own_offer_again(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    relay_table table = {0};
    relay_seat seats[2];
    aq_block_feed first = seated_feed(&made, &table, &seats[0], 0, SIZE_MAX),
                  second = seated_feed(&made, &table, &seats[1], 1, SIZE_MAX);
    AQ_CHECK(aq_feed_from_start(&first, 0));
    aq_feed_work_through(&first, NULL);
    aq_segment_name before, after;
    AQ_CHECK(aq_segment_describe(&first.outputs.segment, &before));
    AQ_CHECK(aq_feed_from_team(&second, 1, 1, 0));
    aq_feed_work_through(&second, NULL);
    AQ_CHECK(aq_feed_from_team(&first, 2, 2, 1));
    AQ_CHECK(aq_segment_describe(&first.outputs.segment, &after));
    CU_ASSERT_EQUAL(after.inode, before.inode);
    aq_block_feed_free(&first);
    aq_block_feed_free(&second);
    aq_feed_fixture_free(&made);
}

/* Walking on from what another rank has must leave that as it is. */
static void walking_from_mapped_activations_leaves_them_alone(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    relay_table table = {0};
    relay_seat seats[2];
    aq_block_feed holds = seated_feed(&made, &table, &seats[0], 0, 0),
                  takes = seated_feed(&made, &table, &seats[1], 1, 0);
    AQ_CHECK(aq_feed_from_start(&holds, 0));
    aq_feed_forward(&holds);
    float *before = aq_feed_values(&holds.outputs);
    AQ_CHECK(aq_feed_from_team(&takes, 1, 3, 0));
    float *after = aq_feed_values(&holds.outputs);
    CU_ASSERT_EQUAL(
        memcmp(before, after, AQ_FEED_SEQUENCES * AQ_FEED_LENGTH * holds.outputs.hidden * 4), 0);
    aq_block_feed walks = aq_test_feed(&made, false, SIZE_MAX);
    AQ_CHECK(aq_feed_from_start(&walks, 3));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&walks, &takes));
    free(before);
    free(after);
    aq_block_feed_free(&holds);
    aq_block_feed_free(&takes);
    aq_block_feed_free(&walks);
    aq_feed_fixture_free(&made);
}

static void what_nobody_holds_is_computed(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    relay_table table = {0};
    relay_seat seats[2];
    aq_block_feed idles = seated_feed(&made, &table, &seats[0], 0, 0),
                  takes = seated_feed(&made, &table, &seats[1], 1, 0);
    AQ_CHECK(aq_feed_from_team(&takes, 2, 2, 0));
    AQ_CHECK(aq_feed_from_start(&idles, 2));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&idles, &takes));
    CU_ASSERT_EQUAL(takes.forwards, 2);
    aq_block_feed_free(&idles);
    aq_block_feed_free(&takes);
    aq_feed_fixture_free(&made);
}

/* In the middle of a block, as after a failure for lack of memory. */
static void a_relieved_feed_holds_the_same_in_host_memory(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    relay_table table = {0};
    relay_seat seat;
    aq_block_feed works = seated_feed(&made, &table, &seat, 0, SIZE_MAX),
                  walks = aq_test_feed(&made, false, SIZE_MAX);
    bool relieved = false;
    AQ_CHECK(aq_feed_from_start(&works, 1));
    AQ_CHECK(aq_feed_from_start(&walks, 1));
    aq_feed_forward(&works);
    AQ_CHECK(aq_block_feed_relieve(&works, &relieved));
    CU_ASSERT(relieved && !works.inputs.resident.data && !works.outputs.resident.data);
    AQ_CHECK(aq_feed_from_team(&works, 1, 1, 2));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&walks, &works));
    aq_feed_work_through(&works, NULL);
    AQ_CHECK(aq_block_feed_relieve(&works, &relieved));
    CU_ASSERT_FALSE(relieved);
    AQ_CHECK(aq_feed_from_start(&walks, 2));
    AQ_CHECK(aq_feed_from_team(&works, 2, 2, 0));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&walks, &works));
    aq_block_feed_free(&works);
    aq_block_feed_free(&walks);
    aq_feed_fixture_free(&made);
}

static void quantized_inputs_are_those_of_finished_blocks(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    aq_coded_block coded = aq_test_random_block(&made.source->shape, 0, &made.directory.scheme);
    AQ_CHECK(aq_run_directory_write_block(&made.directory, &coded));
    aq_block_feed walks = aq_test_feed(&made, true, SIZE_MAX),
                  works = aq_test_feed(&made, true, SIZE_MAX);
    aq_block_feed dense = aq_test_feed(&made, false, SIZE_MAX);
    AQ_CHECK(aq_feed_from_start(&walks, 1));
    AQ_CHECK(aq_feed_from_start(&dense, 1));
    AQ_CHECK(aq_feed_from_start(&works, 0));
    aq_feed_work_through(&works, &coded);
    AQ_CHECK(aq_feed_from_team(&works, 1, 1, 0));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&walks, &works));
    CU_ASSERT_FALSE(aq_feed_same_inputs(&walks, &dense));
    AQ_CHECK_FAILS(aq_feed_from_team(&walks, 1, 2, 0), AQ_MISSING, "block-0001.h5");
    aq_coded_block_free(&coded);
    aq_block_feed_free(&walks);
    aq_block_feed_free(&works);
    aq_block_feed_free(&dense);
    aq_feed_fixture_free(&made);
}

static const aq_case cases[] = {
    {"dense_inputs_do_not_depend_on_who_walked", dense_inputs_do_not_depend_on_who_walked},
    {"feed_starts_over_for_a_block_behind_it", feed_starts_over_for_a_block_behind_it},
    {"every_block_is_forwarded_once_by_teams_that_map",
     every_block_is_forwarded_once_by_teams_that_map},
    {"every_block_is_forwarded_once_by_teams_that_copy",
     every_block_is_forwarded_once_by_teams_that_copy},
    {"a_team_takes_its_own_outputs", a_team_takes_its_own_outputs},
    {"a_taker_uses_the_memory_of_its_own_offer_again",
     a_taker_uses_the_memory_of_its_own_offer_again},
    {"walking_from_mapped_activations_leaves_them_alone",
     walking_from_mapped_activations_leaves_them_alone},
    {"what_nobody_holds_is_computed", what_nobody_holds_is_computed},
    {"a_relieved_feed_holds_the_same_in_host_memory",
     a_relieved_feed_holds_the_same_in_host_memory},
    {"quantized_inputs_are_those_of_finished_blocks",
     quantized_inputs_are_those_of_finished_blocks},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("block_feed", cases, sizeof cases / sizeof *cases, argc, argv);
}
