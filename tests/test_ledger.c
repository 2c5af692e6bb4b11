#include "run/ledger.h"
#include "suite.h"

#include <string.h>

static const aq_phases no_seconds;

static aq_ledger ledger_of(size_t blocks) {
    aq_ledger ledger;
    AQ_CHECK(aq_ledger_new(blocks, &ledger));
    return ledger;
}

static void ledger_hands_out_in_ascending_order(void) {
    aq_ledger ledger = ledger_of(3);
    size_t block;
    for (size_t i = 0; i < 3; i++) {
        CU_ASSERT_TRUE(aq_ledger_next(&ledger, (int)(i % 2), &block));
        CU_ASSERT_EQUAL(block, i);
        CU_ASSERT_EQUAL(ledger.entries[i].rank, (int)(i % 2));
    }
    CU_ASSERT_FALSE(aq_ledger_next(&ledger, 0, &block));
    CU_ASSERT_EQUAL(aq_ledger_count(&ledger, AQ_BLOCK_RUNS), 3);
    aq_ledger_free(&ledger);
}

static void ledger_skips_blocks_of_an_earlier_run(void) {
    aq_ledger ledger = ledger_of(4);
    aq_ledger_done(&ledger, 0, AQ_LEDGER_NOBODY, 0.5, &no_seconds);
    aq_ledger_done(&ledger, 2, AQ_LEDGER_NOBODY, 0.5, &no_seconds);
    size_t block;
    CU_ASSERT_TRUE(aq_ledger_next(&ledger, 0, &block));
    CU_ASSERT_EQUAL(block, 1);
    CU_ASSERT_TRUE(aq_ledger_next(&ledger, 0, &block));
    CU_ASSERT_EQUAL(block, 3);
    CU_ASSERT_FALSE(aq_ledger_next(&ledger, 0, &block));
    aq_ledger_free(&ledger);
}

static void ledger_is_content_when_all_is_done(void) {
    aq_ledger ledger = ledger_of(2);
    aq_phases seconds = {.seconds[AQ_PHASE_TUNING] = 2};
    size_t block;
    aq_ledger_done(&ledger, 1, AQ_LEDGER_NOBODY, 0.25, &no_seconds);
    CU_ASSERT_TRUE(aq_ledger_next(&ledger, 5, &block));
    AQ_CHECK_FAILS(aq_ledger_verdict(&ledger), AQ_STOPPED, "stopped with 1 of 2 blocks");
    aq_ledger_done(&ledger, block, 5, 0.125, &seconds);
    AQ_CHECK(aq_ledger_verdict(&ledger));
    CU_ASSERT_EQUAL(ledger.entries[0].error, 0.125);
    CU_ASSERT_EQUAL(ledger.entries[0].seconds.seconds[AQ_PHASE_TUNING], 2);
    CU_ASSERT_EQUAL(aq_ledger_count(&ledger, AQ_BLOCK_DONE), 2);
    aq_ledger_free(&ledger);
}

static void ledger_hands_out_nothing_after_a_failure(void) {
    aq_ledger ledger = ledger_of(3);
    size_t first, second, third;
    CU_ASSERT_TRUE(aq_ledger_next(&ledger, 0, &first));
    CU_ASSERT_TRUE(aq_ledger_next(&ledger, 1, &second));
    aq_ledger_failed(&ledger, second, 1, AQ_NUMERIC, "NaN everywhere");
    CU_ASSERT_FALSE(aq_ledger_next(&ledger, 1, &third));
    aq_ledger_done(&ledger, first, 0, 0.5, &no_seconds);
    CU_ASSERT_FALSE(aq_ledger_next(&ledger, 0, &third));
    CU_ASSERT_EQUAL(aq_ledger_count(&ledger, AQ_BLOCK_WAITS), 1);
    AQ_CHECK_FAILS(aq_ledger_verdict(&ledger), AQ_NUMERIC, "block 1 (rank 1): NaN everywhere");
    aq_ledger_free(&ledger);
}

static void ledger_names_the_lowest_failed_block(void) {
    aq_ledger ledger = ledger_of(3);
    size_t block;
    for (int i = 0; i < 3; i++) CU_ASSERT_TRUE(aq_ledger_next(&ledger, i, &block));
    aq_ledger_failed(&ledger, 2, 2, AQ_IO, "later");
    aq_ledger_failed(&ledger, 1, 1, AQ_DEVICE, "earlier");
    AQ_CHECK_FAILS(aq_ledger_verdict(&ledger), AQ_DEVICE, "block 1 (rank 1): earlier");
    aq_ledger_free(&ledger);
}

static void ledger_of_no_blocks_is_refused(void) {
    aq_ledger ledger;
    AQ_CHECK_FAILS(aq_ledger_new(0, &ledger), AQ_INVALID, "without blocks");
    aq_ledger_free(&ledger);
}

static const aq_case cases[] = {
    {"ledger_hands_out_in_ascending_order", ledger_hands_out_in_ascending_order},
    {"ledger_skips_blocks_of_an_earlier_run", ledger_skips_blocks_of_an_earlier_run},
    {"ledger_is_content_when_all_is_done", ledger_is_content_when_all_is_done},
    {"ledger_hands_out_nothing_after_a_failure", ledger_hands_out_nothing_after_a_failure},
    {"ledger_names_the_lowest_failed_block", ledger_names_the_lowest_failed_block},
    {"ledger_of_no_blocks_is_refused", ledger_of_no_blocks_is_refused},
};

int main(int argc, char **argv) {
    return aq_test_main("ledger", cases, sizeof cases / sizeof *cases, argc, argv);
}
