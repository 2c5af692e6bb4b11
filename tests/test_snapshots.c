#include "coded_model.h"
#include "feed_fixture.h"
#include "suite.h"

#include <stdio.h>

static aq_snapshots every_second(const aq_feed_fixture *made) {
    return (aq_snapshots){.directory = &made->directory, .every = 2, .team_size = 1};
}

static aq_status from_snapshot(aq_block_feed *feed, size_t start, size_t block) {
    const aq_task task = {.block = block, .start = start, .source = AQ_SOURCE_SNAPSHOT};
    return aq_block_feed_begin(feed, &task);
}

static void check_snapshot(size_t device_bytes) {
    aq_feed_fixture made = aq_feed_fixture_new();
    const aq_snapshots snapshots = every_second(&made);
    aq_block_feed writes = aq_test_feed(&made, false, device_bytes),
                  reads = aq_test_feed(&made, false, device_bytes),
                  plain = aq_test_feed(&made, false, device_bytes);
    writes.settings.snapshots = reads.settings.snapshots = &snapshots;
    AQ_CHECK(aq_feed_from_start(&writes, 1));
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&snapshots, 4), 0);
    aq_feed_work_through(&writes, NULL);
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&snapshots, 4), 2);
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&snapshots, 1), 0);
    AQ_CHECK(aq_feed_from_team(&writes, 2, 3, 0));
    AQ_CHECK(from_snapshot(&reads, 2, 3));
    AQ_CHECK(aq_feed_from_start(&plain, 3));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&plain, &reads));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&plain, &writes));
    CU_ASSERT_EQUAL(reads.forwards, 1);
    aq_block_feed_free(&writes);
    aq_block_feed_free(&reads);
    aq_block_feed_free(&plain);
    aq_feed_fixture_free(&made);
}

static void a_snapshot_saves_the_way_up_to_it(void) {
    check_snapshot(0);
    check_snapshot(SIZE_MAX);
}

static void flip(const aq_feed_fixture *made, const char *name, long offset) {
    char path[AQ_TEST_PATH + 64];
    snprintf(path, sizeof path, "%s/snapshots/%s", made->directory.path, name);
    aq_test_flip(path, offset);
}

static void a_damaged_snapshot_is_set_aside_and_made_up_for(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    const aq_snapshots snapshots = every_second(&made);
    aq_block_feed writes = aq_test_feed(&made, false, 0), reads = aq_test_feed(&made, false, 0);
    writes.settings.snapshots = reads.settings.snapshots = &snapshots;
    AQ_CHECK(aq_feed_from_start(&writes, 2));
    flip(&made, "boundary-0002-of-1-0.act", 5000);
    AQ_CHECK(from_snapshot(&reads, 2, 2));
    CU_ASSERT_TRUE(aq_feed_same_inputs(&writes, &reads));
    CU_ASSERT_EQUAL(reads.forwards, 2);
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&snapshots, 2), 2); /* written again on the way */
    flip(&made, "boundary-0002-of-1-0.act.damaged", 5000);   /* is there */
    aq_block_feed_free(&writes);
    aq_block_feed_free(&reads);
    aq_feed_fixture_free(&made);
}

static void a_snapshot_of_another_team_size_or_run_is_not_used(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    const aq_snapshots snapshots = every_second(&made);
    aq_snapshots pair = snapshots;
    pair.team_size = 2;
    aq_block_feed writes = aq_test_feed(&made, false, 0);
    writes.settings.snapshots = &snapshots;
    AQ_CHECK(aq_feed_from_start(&writes, 2));
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&pair, 2), 0);
    AQ_CHECK(aq_activations_to_host(&writes.inputs));
    AQ_CHECK(aq_snapshot_write(&pair, 2, &writes.inputs));
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&pair, 2), 0);
    pair.member = 1;
    AQ_CHECK(aq_snapshot_write(&pair, 2, &writes.inputs));
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&pair, 2), 2);
    aq_segment segment;
    made.directory.fingerprint[0] ^= 1;
    AQ_CHECK_FAILS(aq_snapshot_read(&snapshots, 2, &writes.inputs, &segment), AQ_FORMAT,
                   "not this run's");
    CU_ASSERT_PTR_NULL(segment.data);
    aq_block_feed_free(&writes);
    aq_feed_fixture_free(&made);
}

static void snapshots_that_no_restart_would_use_are_removed(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    aq_snapshots snapshots = every_second(&made);
    snapshots.every = 1;
    aq_block_feed writes = aq_test_feed(&made, false, 0);
    writes.settings.snapshots = &snapshots;
    AQ_CHECK(aq_feed_from_start(&writes, 3));
    for (size_t finished = 0; finished <= made.source->shape.blocks; finished++) {
        aq_snapshots_prune(&snapshots);
        size_t blocks = made.source->shape.blocks;
        size_t below = finished ? aq_snapshots_nearest(&snapshots, finished - 1) : 0;
        CU_ASSERT_EQUAL(below, 0);
        CU_ASSERT_EQUAL(aq_snapshots_nearest(&snapshots, blocks), finished < blocks ? 3 : 0);
        if (finished == blocks) break;
        aq_coded_block coded =
            aq_test_random_block(&made.source->shape, finished, &made.directory.scheme);
        AQ_CHECK(aq_run_directory_write_block(&made.directory, &coded));
        aq_coded_block_free(&coded);
    }
    aq_block_feed_free(&writes);
    aq_feed_fixture_free(&made);
}

static void snapshots_behind_a_redone_block_are_removed(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    aq_snapshots snapshots = every_second(&made);
    snapshots.every = 1;
    aq_block_feed writes = aq_test_feed(&made, false, 0);
    writes.settings.snapshots = &snapshots;
    AQ_CHECK(aq_feed_from_start(&writes, 3));
    aq_snapshots_discard(&made.directory, 2);
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&snapshots, 4), 2);
    aq_snapshots_discard(&made.directory, 0);
    CU_ASSERT_EQUAL(aq_snapshots_nearest(&snapshots, 4), 0);
    aq_block_feed_free(&writes);
    aq_feed_fixture_free(&made);
}

static void quantized_snapshots_hold_quantized_inputs(void) {
    aq_feed_fixture made = aq_feed_fixture_new();
    aq_snapshots snapshots = every_second(&made);
    snapshots.every = 1;
    aq_coded_block coded = aq_test_random_block(&made.source->shape, 0, &made.directory.scheme);
    AQ_CHECK(aq_run_directory_write_block(&made.directory, &coded));
    aq_block_feed works = aq_test_feed(&made, true, SIZE_MAX), reads = aq_test_feed(&made, true, 0);
    works.settings.snapshots = reads.settings.snapshots = &snapshots;
    AQ_CHECK(aq_feed_from_start(&works, 0));
    aq_feed_work_through(&works, &coded);
    AQ_CHECK(from_snapshot(&reads, 1, 1));
    CU_ASSERT_EQUAL(reads.forwards, 0);
    CU_ASSERT_TRUE(aq_feed_same_inputs(&works, &reads));
    aq_coded_block_free(&coded);
    aq_block_feed_free(&works);
    aq_block_feed_free(&reads);
    aq_feed_fixture_free(&made);
}

static const aq_case cases[] = {
    {"a_snapshot_saves_the_way_up_to_it", a_snapshot_saves_the_way_up_to_it},
    {"a_damaged_snapshot_is_set_aside_and_made_up_for",
     a_damaged_snapshot_is_set_aside_and_made_up_for},
    {"a_snapshot_of_another_team_size_or_run_is_not_used",
     a_snapshot_of_another_team_size_or_run_is_not_used},
    {"snapshots_that_no_restart_would_use_are_removed",
     snapshots_that_no_restart_would_use_are_removed},
    {"snapshots_behind_a_redone_block_are_removed", snapshots_behind_a_redone_block_are_removed},
    {"quantized_snapshots_hold_quantized_inputs", quantized_snapshots_hold_quantized_inputs},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("snapshots", cases, sizeof cases / sizeof *cases, argc, argv);
}
