/* The checks before a job: memory and disk. */
#include "run/room.h"

#include "suite.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static aq_layout layout_of(size_t ranks) {
    return (aq_layout){.ranks = ranks, .node_ranks = ranks, .device_ranks = ranks, .team = 1};
}

static aq_status check(const aq_memory_needs *needs, size_t ranks) {
    const aq_config config = {0};
    const aq_layout layout = layout_of(ranks);
    size_t activation_bytes;
    return aq_room_check_memory(needs, &layout, &config, aq_test_backend(), &activation_bytes);
}

static void too_little_memory_is_said_with_both_numbers(void) {
    aq_memory_needs needs = {.weights = (size_t)1 << 40, .tuning = (size_t)1 << 41};
    AQ_CHECK_FAILS(check(&needs, 1), AQ_MEMORY, "the weights of a block 1099.51");
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "GB are free"));
}

static void processes_share_the_memory(void) {
    size_t free_bytes, total;
    AQ_CHECK(aq_backend_memory(aq_test_backend(), &free_bytes, &total));
    aq_memory_needs needs = {.fit = free_bytes / 4};
    AQ_CHECK(check(&needs, 2));
    AQ_CHECK_FAILS(check(&needs, 16), AQ_MEMORY, "for 16 processes");
}

static void ranks_of_a_node_share_boundaries(void) {
    const aq_memory_needs needs = {.boundary = 100};
    aq_layout layout = layout_of(4);
    CU_ASSERT_EQUAL(aq_room_host_boundaries(&needs, &layout, false), 500);
    CU_ASSERT_EQUAL(aq_room_host_boundaries(&needs, &layout, true), 400);
    layout.team = 4; /* one team: each member has two boundaries of its own sequences */
    CU_ASSERT_EQUAL(aq_room_host_boundaries(&needs, &layout, false), 800);
    CU_ASSERT_EQUAL(aq_room_host_boundaries(&needs, &layout, true), 0);
}

static void too_little_disk_is_said_before_the_folder_exists(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/not/there/yet", aq_test_folder());
    AQ_CHECK_FAILS(aq_room_check_disk(SIZE_MAX / 2, path), AQ_IO, "not/there/yet");
    AQ_CHECK(aq_room_check_disk(1000, path));
    AQ_CHECK(aq_room_check_disk(1000, "not/there/yet"));
}

static const aq_scheme two_by_eight = {2, 8, 8, 1}, one_by_eight = {1, 8, 8, 1};

/* Of Llama-2-7b. */
static aq_disk_needs disk_of(aq_scheme scheme, size_t ranks, long snapshot_every) {
    aq_model_shape shape = {.blocks = 32, .hidden = 4096, .vocab = 32000};
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        shape.linears[l] =
            (aq_linear_shape){.out = l == AQ_LINEAR_GATE || l == AQ_LINEAR_UP ? 11008 : 4096,
                              .in = l == AQ_LINEAR_DOWN ? 11008 : 4096};
    aq_config config = {.quantizer = {.scheme = scheme}, .run = {.snapshot_every = snapshot_every}};
    config.calibration.sequences = 128;
    config.calibration.length = 4096;
    const aq_layout layout = layout_of(ranks);
    aq_disk_needs needs;
    aq_disk_needs_of(&shape, &config, &layout, &needs);
    return needs;
}

static void files_follow_the_scheme(void) {
    aq_disk_needs two_bits = disk_of(two_by_eight, 1, 0), one_bit = disk_of(one_by_eight, 1, 0);
    size_t weights = 4 * 4096 * 4096 + 3 * (size_t)4096 * 11008, codes = weights / 8 * 2 * 32;
    CU_ASSERT_TRUE(two_bits.blocks > codes && two_bits.blocks < codes + codes / 20);
    CU_ASSERT_EQUAL(two_bits.gathered - two_bits.blocks, (size_t)2 * 2 * 32000 * 4096);
    CU_ASSERT_TRUE((double)one_bit.blocks < 0.6 * (double)two_bits.blocks);
    CU_ASSERT_EQUAL(disk_of(two_by_eight, 64, 0).states, 32 * two_bits.states);
}

static void snapshots_count_if_they_are_wanted(void) {
    aq_disk_needs without = disk_of(two_by_eight, 1, 0), with = disk_of(two_by_eight, 1, 4);
    CU_ASSERT_EQUAL(without.snapshots, 0);
    CU_ASSERT_EQUAL(with.snapshot, (size_t)128 * 4096 * 4096 * 2);
    CU_ASSERT_TRUE(with.snapshots >= 2 * with.snapshot);
    CU_ASSERT_EQUAL(aq_disk_needs_total(&with), aq_disk_needs_total(&without) + with.snapshots);
}

static const aq_case cases[] = {
    {"too_little_memory_is_said_with_both_numbers", too_little_memory_is_said_with_both_numbers},
    {"processes_share_the_memory", processes_share_the_memory},
    {"ranks_of_a_node_share_boundaries", ranks_of_a_node_share_boundaries},
    {"files_follow_the_scheme", files_follow_the_scheme},
    {"snapshots_count_if_they_are_wanted", snapshots_count_if_they_are_wanted},
    {"too_little_disk_is_said_before_the_folder_exists",
     too_little_disk_is_said_before_the_folder_exists},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("room", cases, sizeof cases / sizeof *cases, argc, argv);
}
