#include "run/metrics.h"
#include "run/run_status.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char settings[] =
    "model: m\noutput: o\ncalibration:\n  tokens: t.npy\nquantizer:\n  scheme: 2x8\n";
static const char start[] =
    "{\"event\":\"start\",\"rank\":0,\"ranks\":2,\"backend\":\"cpu\","
    "\"program\":\"aqlm-mpi 9\",\"blocks\":4,\"finished\":0,\"time\":100}\n";
static const char inputs_of_0[] = "{\"event\":\"stage\",\"rank\":0,\"block\":0,"
                                  "\"stage\":\"inputs\",\"layer\":null,\"time\":100}\n";
static const char block_0_done[] =
    "{\"event\":\"block\",\"rank\":0,\"block\":0,\"error\":0.25,\"bits_per_weight\":2.5,"
    "\"seconds\":10,\"fitted_error\":0.5,\"time\":110}\n";
static const char inputs_of_1[] = "{\"event\":\"stage\",\"rank\":1,\"block\":1,"
                                  "\"stage\":\"inputs\",\"layer\":null,\"time\":104}\n";
static const char fit_of_1[] = "{\"event\":\"stage\",\"rank\":1,\"block\":1,\"stage\":\"fit\","
                               "\"layer\":\"mlp.up_proj\",\"time\":108}\n";
static const char failure_of_1[] =
    "{\"event\":\"failed\",\"rank\":1,\"block\":1,\"error\":\"NaN\\u001b[2J\",\"time\":109}\n";
static const char end_of_failure[] =
    "{\"event\":\"end\",\"rank\":0,\"error\":\"block 1: NaN\",\"time\":111}\n";

static const char *in_directory(const char *directory, const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void write_file(const char *directory, const char *name, const char *text) {
    FILE *file = fopen(in_directory(directory, name), "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
}

/* A new run directory with these events and finished blocks 0 .. blocks - 1. */
static const char *run_directory(const char *events, int blocks) {
    static char directory[512];
    static int count;
    char name[64];
    snprintf(directory, sizeof directory, "%s/run-%d", aq_test_folder(), count++);
    CU_ASSERT_EQUAL_FATAL(mkdir(directory, 0777), 0);
    CU_ASSERT_EQUAL_FATAL(mkdir(in_directory(directory, "blocks"), 0777), 0);
    write_file(directory, "config.yaml", settings);
    write_file(directory, "metrics.jsonl", events);
    for (int i = 0; i < blocks; i++) {
        snprintf(name, sizeof name, "blocks/block-%04d.h5", i);
        write_file(directory, name, "");
    }
    return directory;
}

static const char *joined(const char *const *lines, size_t count) {
    static char text[1 << 14];
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s", lines[i]);
    return text;
}

#define LINES(...)                                                                                 \
    joined((const char *const[]){__VA_ARGS__},                                                     \
           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static aq_run_status read_status(const char *directory, double now) {
    aq_run_status status;
    AQ_CHECK(aq_run_status_read(directory, now, &status));
    return status;
}

static void a_run_at_work_tells_who_does_what_and_how_long_it_takes(void) {
    const char *events = LINES(start, inputs_of_0, inputs_of_1, fit_of_1, block_0_done);
    aq_run_status status = read_status(run_directory(events, 1), 112);
    CU_ASSERT_EQUAL(status.state, AQ_RUN_WORKING);
    CU_ASSERT_EQUAL(status.blocks, 4);
    CU_ASSERT_EQUAL(status.done, 1);
    CU_ASSERT_EQUAL(status.in_work, 1);
    CU_ASSERT_EQUAL(status.list[0].state, AQ_BLOCK_DONE);
    CU_ASSERT_EQUAL(status.list[0].error, 0.25);
    CU_ASSERT_EQUAL(status.list[0].seconds, 10);
    CU_ASSERT_EQUAL(status.list[1].state, AQ_BLOCK_RUNS);
    CU_ASSERT_EQUAL(status.list[1].rank, 1);
    CU_ASSERT_STRING_EQUAL(status.list[1].stage, "fit");
    CU_ASSERT_STRING_EQUAL(status.list[1].layer, "mlp.up_proj");
    CU_ASSERT_EQUAL(status.list[1].seconds, 8);
    CU_ASSERT_EQUAL(status.list[3].state, AQ_BLOCK_WAITS);
    CU_ASSERT_EQUAL(status.bits_per_weight, 2.5);
    CU_ASSERT_EQUAL(status.blocks_per_hour, 360);
    CU_ASSERT_EQUAL(status.seconds_left, 22); /* three blocks of ten seconds, eight of them spent */
    CU_ASSERT_EQUAL(status.unreadable, 0);
    CU_ASSERT_STRING_EQUAL(status.backend, "cpu");
    CU_ASSERT_STRING_EQUAL(status.config.model, "m");
    aq_run_status_free(&status);
}

static void a_failed_block_keeps_its_reason_without_disturbing_a_terminal(void) {
    const char *events = LINES(start, inputs_of_1, failure_of_1, end_of_failure);
    aq_run_status status = read_status(run_directory(events, 0), 120);
    CU_ASSERT_EQUAL(status.state, AQ_RUN_ENDED);
    CU_ASSERT_EQUAL(status.failed, 1);
    CU_ASSERT_STRING_EQUAL(status.list[1].failure, "NaN?[2J");
    CU_ASSERT_STRING_EQUAL(status.reason, "block 1: NaN");
    CU_ASSERT(isnan(status.seconds_left));
    aq_run_status_free(&status);
}

static void a_restart_forgets_what_was_in_work_or_failed_and_keeps_what_is_done(void) {
    const char *events =
        LINES(start, inputs_of_0, block_0_done, inputs_of_1, failure_of_1, end_of_failure, start);
    aq_run_status status = read_status(run_directory(events, 1), 120);
    CU_ASSERT_EQUAL(status.state, AQ_RUN_WORKING);
    CU_ASSERT_EQUAL(status.starts, 2);
    CU_ASSERT_EQUAL(status.done, 1);
    CU_ASSERT_EQUAL(status.list[0].error, 0.25);
    CU_ASSERT_EQUAL(status.failed + status.in_work, 0);
    CU_ASSERT_STRING_EQUAL(status.reason, "");
    aq_run_status_free(&status);
}

static void the_later_event_of_a_block_holds(void) {
    const char *again = "{\"event\":\"block\",\"rank\":1,\"block\":0,\"error\":0.125,\"seconds\":5,"
                        "\"time\":130}\n";
    const char *events = LINES(start, inputs_of_0, block_0_done, start, inputs_of_0, again);
    aq_run_status status = read_status(run_directory(events, 1), 140);
    CU_ASSERT_EQUAL(status.list[0].error, 0.125);
    CU_ASSERT_EQUAL(status.list[0].rank, 1);
    aq_run_status_free(&status);
}

static void files_decide_what_is_done(void) {
    const char *events = LINES(start, inputs_of_0, block_0_done);
    aq_run_status status = read_status(run_directory(events, 0), 120);
    CU_ASSERT_EQUAL(status.done, 0);
    CU_ASSERT_EQUAL(status.list[0].state, AQ_BLOCK_WAITS);
    aq_run_status_free(&status);
    const char *directory = run_directory(start, 2);
    write_file(directory, "blocks/block-0003.h5.partial", "");
    write_file(directory, "blocks/block-99999999999999999999.h5", "");
    write_file(directory, "blocks/block-3.h5", "");
    status = read_status(directory, 120);
    CU_ASSERT_EQUAL(status.listed, 4);
    CU_ASSERT_EQUAL(status.done, 2);
    CU_ASSERT(isnan(status.list[1].error));
    aq_run_status_free(&status);
}

static void a_gathered_file_completes_a_run_even_without_its_blocks(void) {
    const char *directory = run_directory(LINES(start, inputs_of_0, block_0_done), 0);
    write_file(directory, "model.aqlm.h5", "");
    rmdir(in_directory(directory, "blocks"));
    aq_run_status status = read_status(directory, 120);
    CU_ASSERT_EQUAL(status.state, AQ_RUN_COMPLETE);
    CU_ASSERT_EQUAL(status.done, 4);
    aq_run_status_free(&status);
}

static void a_run_that_has_told_nothing_is_new(void) {
    const char *directory = run_directory("", 0);
    for (int there = 1; there >= 0; there--) {
        aq_run_status status = read_status(directory, 120);
        CU_ASSERT_EQUAL(status.state, AQ_RUN_NEW);
        CU_ASSERT_EQUAL(status.blocks, 0);
        aq_run_status_free(&status);
        unlink(in_directory(directory, "metrics.jsonl"));
    }
}

static void a_torn_last_line_is_no_fault(void) {
    const char *events = LINES(start, inputs_of_0, block_0_done, "{\"event\":\"blo");
    aq_run_status status = read_status(run_directory(events, 1), 120);
    CU_ASSERT_EQUAL(status.done, 1);
    CU_ASSERT_EQUAL(status.unreadable, 0);
    aq_run_status_free(&status);
}

static void garbage_is_counted_and_harms_nothing(void) {
    const char *events =
        LINES(start, "{\"event\":\"stage\",\"ra\n", "\x01\xff garbage\n", "[]\n", "\n", "7\n",
              "{\"event\":\"block\",\"rank\":0,\"block\":4,\"time\":1}\n",
              "{\"event\":\"block\",\"rank\":0,\"block\":-1,\"time\":1}\n",
              "{\"event\":\"block\",\"rank\":-1,\"block\":1,\"time\":1}\n",
              "{\"event\":\"block\",\"rank\":0,\"block\":99999999999999999999,\"time\":1}\n",
              "{\"event\":\"stage\",\"rank\":0,\"block\":1,\"stage\":7,\"time\":1}\n",
              "{\"event\":\"start\",\"rank\":0,\"blocks\":1000000000,\"time\":1}\n",
              "{\"event\":\"start\",\"rank\":0,\"blocks\":2}\n", "{\"event\":null,\"time\":1}\n",
              "{\"event\":\"of the future\",\"time\":105}\n", inputs_of_0, block_0_done);
    aq_run_status status = read_status(run_directory(events, 1), 120);
    CU_ASSERT_EQUAL(status.unreadable, 12);
    CU_ASSERT_EQUAL(status.blocks, 4);
    CU_ASSERT_EQUAL(status.listed, 4);
    CU_ASSERT_EQUAL(status.done, 1);
    CU_ASSERT_EQUAL(status.in_work, 0);
    aq_run_status_free(&status);
}

static void what_is_no_run_directory_is_one_clear_error(void) {
    aq_run_status status;
    AQ_CHECK_FAILS(aq_run_status_read("/no/such/run", 0, &status), AQ_MISSING, "/no/such/run");
    AQ_CHECK_FAILS(aq_run_status_read(aq_test_folder(), 0, &status), AQ_INVALID,
                   "not a run directory");
    AQ_CHECK_FAILS(aq_run_status_read("/dev/null", 0, &status), AQ_INVALID, "found a file");
    const char *directory = run_directory(start, 0);
    write_file(directory, "config.yaml", "model: [");
    CU_ASSERT_NOT_EQUAL(aq_run_status_read(directory, 0, &status), AQ_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "config.yaml"));
}

#define EVENT(kind, rank, rest) "{\"event\":\"" kind "\",\"rank\":" #rank "," rest "}\n"

static const char start_of_teams[] = EVENT(
    "start", 0,
    "\"ranks\":4,\"team_size\":2,\"backend\":\"cpu\",\"program\":\"p\",\"blocks\":4,\"time\":100");

static void every_rank_tells_what_it_does(void) {
    const char *events = LINES(
        start, inputs_of_0, inputs_of_1, fit_of_1, block_0_done,
        EVENT("stage", 0, "\"block\":null,\"stage\":\"waiting\",\"layer\":null,\"time\":111"),
        EVENT("stage", 7, "\"block\":null,\"stage\":\"waiting\",\"layer\":null,\"time\":112"));
    aq_run_status status = read_status(run_directory(events, 1), 120);
    CU_ASSERT_EQUAL_FATAL(status.each.count, 2);
    CU_ASSERT_EQUAL(status.unreadable, 0);
    CU_ASSERT_EQUAL(status.team_size, 1);
    const aq_rank_status *ranks = status.each.ranks;
    CU_ASSERT_STRING_EQUAL(ranks[0].stage, "waiting");
    CU_ASSERT_EQUAL(ranks[0].block, AQ_NO_BLOCK);
    CU_ASSERT_EQUAL(ranks[0].since, 111);
    CU_ASSERT_STRING_EQUAL(ranks[1].stage, "fit");
    CU_ASSERT_STRING_EQUAL(ranks[1].layer, "mlp.up_proj");
    CU_ASSERT_EQUAL(ranks[1].block, 1);
    CU_ASSERT_EQUAL(ranks[1].last_event, 108);
    CU_ASSERT(isnan(ranks[1].waiting) && isnan(ranks[1].peak_memory));
    aq_run_status_free(&status);
}

static void the_end_of_a_run_tells_what_its_ranks_did(void) {
    const char *events =
        LINES(start, inputs_of_0, block_0_done,
              EVENT("rank", 1,
                    "\"forwarding\":1,\"waiting\":2,\"quantizing\":3,\"peak_memory\":4,"
                    "\"peak_device_memory\":null,\"time\":120"),
              EVENT("run", 0, "\"blocks\":4,\"dense_forward_passes\":1.25,\"time\":121"),
              EVENT("end", 0, "\"error\":null,\"time\":121"));
    aq_run_status status = read_status(run_directory(events, 4), 130);
    CU_ASSERT_EQUAL(status.dense_forward_passes, 1.25);
    CU_ASSERT_EQUAL_FATAL(status.each.count, 2);
    const aq_rank_status *rank = &status.each.ranks[1];
    CU_ASSERT(rank->forwarding == 1 && rank->waiting == 2 && rank->quantizing == 3);
    CU_ASSERT(rank->peak_memory == 4 && isnan(rank->peak_device_memory));
    aq_run_status_free(&status);
}

/* Members tell what they do, but a block is its lead's: a member that is behind must not take it up
 * again. */
static void a_teams_block_is_its_leads(void) {
    const char *events =
        LINES(start_of_teams, EVENT("stage", 2, "\"block\":0,\"stage\":\"inputs\",\"time\":101"),
              EVENT("stage", 3, "\"block\":0,\"stage\":\"inputs\",\"time\":102"),
              EVENT("block", 2, "\"block\":0,\"error\":0.5,\"seconds\":4,\"time\":105"),
              EVENT("stage", 3, "\"block\":0,\"stage\":\"writing\",\"time\":106"));
    aq_run_status status = read_status(run_directory(events, 1), 120);
    CU_ASSERT_EQUAL(status.team_size, 2);
    CU_ASSERT_EQUAL(status.list[0].state, AQ_BLOCK_DONE);
    CU_ASSERT_EQUAL(status.list[0].rank, 2);
    CU_ASSERT_EQUAL(status.in_work, 0);
    CU_ASSERT_STRING_EQUAL(status.each.ranks[3].stage, "writing");
    aq_run_status_free(&status);
}

static void what_a_block_was_taken_up_with_is_told(void) {
    const char *layer = EVENT(
        "layer", 1,
        "\"block\":1,\"layer\":\"mlp.up_proj\",\"error\":0.1,\"bits_per_weight\":9,\"time\":109");
    const char *events =
        LINES(start, inputs_of_1, layer, start, inputs_of_1,
              EVENT("taken_up", 1, "\"block\":1,\"layers\":5,\"epochs\":2,\"time\":104"), fit_of_1,
              layer, EVENT("taken_up", 1, "\"block\":1,\"layers\":-1,\"epochs\":2,\"time\":104"));
    aq_run_status status = read_status(run_directory(events, 0), 120);
    CU_ASSERT_EQUAL(status.list[1].kept_layers, 5);
    CU_ASSERT_EQUAL(status.list[1].kept_epochs, 2);
    CU_ASSERT_EQUAL(status.list[1].layers, 6);
    CU_ASSERT_EQUAL(status.list[1].epoch, 2);
    CU_ASSERT(isnan(status.bits_per_weight)); /* a layer's are not the model's */
    CU_ASSERT_EQUAL(status.unreadable, 1);
    aq_run_status_free(&status);
}

/* A lock of this host's process 1 (which lives) or of one that is gone, renewed at `renewed`. */
static void write_lock(const char *directory, aq_lock_owner owner, double renewed) {
    char text[AQ_OWNER_TEXT];
    owner.renewed = renewed;
    AQ_CHECK(aq_lock_owner_write(&owner, text));
    write_file(directory, "lock", text);
}

static aq_run_state state_of(const char *directory, double now) {
    aq_run_status status = read_status(directory, now);
    aq_run_state state = status.state;
    CU_ASSERT_EQUAL(status.in_work, state == AQ_RUN_WORKING);
    aq_run_status_free(&status);
    return state;
}

static void a_lock_that_nobody_renews_tells_that_a_run_was_killed(void) {
    const char *directory = run_directory(LINES(start, inputs_of_1), 0);
    aq_lock_owner owner;
    aq_lock_owner_self(&owner);
    write_lock(directory, owner, 100);
    CU_ASSERT_EQUAL(state_of(directory, 1000), AQ_RUN_WORKING); /* suspended, but alive */
    owner.start++; /* another process with this number was the owner */
    write_lock(directory, owner, 1000);
    CU_ASSERT_EQUAL(state_of(directory, 1001), AQ_RUN_KILLED);
    strcpy(owner.host, "elsewhere");
    strcpy(owner.boot, "another");
    write_lock(directory, owner, 1000);
    CU_ASSERT_EQUAL(state_of(directory, 1059), AQ_RUN_WORKING);
    CU_ASSERT_EQUAL(state_of(directory, 1061), AQ_RUN_KILLED);
    aq_run_status status = read_status(directory, 1061);
    CU_ASSERT_PTR_NOT_NULL(strstr(status.owner, " on elsewhere since "));
    aq_run_status_free(&status);
    write_file(directory, "lock", "garbage");
    CU_ASSERT_EQUAL(state_of(directory, 9000), AQ_RUN_WORKING);
}

static void what_the_program_writes_is_understood(void) {
    const char *directory = run_directory("", 0);
    aq_metrics *metrics;
    AQ_CHECK(aq_metrics_open(in_directory(directory, "metrics.jsonl"), 1, &metrics));
    AQ_CHECK(
        aq_metrics_start(metrics, &(aq_start_event){.ranks = 2, .backend = "cuda", .blocks = 3}));
    for (int i = 0; i < AQ_STAGE_COUNT; i++)
        AQ_CHECK(aq_metrics_stage(metrics, &(aq_stage_event){.block = 2, .stage = (aq_stage)i}));
    AQ_CHECK(aq_metrics_epoch(metrics, &(aq_epoch_event){.block = 2, .epoch = 3}));
    AQ_CHECK(aq_metrics_failed(metrics, &(aq_failed_event){.block = 1, .error = "why"}));
    aq_run_status status = read_status(directory, 0);
    CU_ASSERT_EQUAL(status.unreadable, 0);
    CU_ASSERT_EQUAL(status.ranks, 2);
    CU_ASSERT_EQUAL(status.list[2].rank, 1);
    CU_ASSERT_EQUAL(status.list[2].epoch, 3);
    CU_ASSERT_STRING_EQUAL(status.list[2].stage, aq_stage_name(AQ_STAGE_WRITING));
    CU_ASSERT_STRING_EQUAL(status.list[1].failure, "why");
    aq_run_status_free(&status);
    AQ_CHECK(aq_metrics_end(metrics, "stopped"));
    aq_metrics_close(metrics);
    status = read_status(directory, 0);
    CU_ASSERT_EQUAL(status.state, AQ_RUN_ENDED);
    CU_ASSERT_EQUAL(status.in_work, 0);
    aq_run_status_free(&status);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(a_run_at_work_tells_who_does_what_and_how_long_it_takes),
        AQ_CASE(a_failed_block_keeps_its_reason_without_disturbing_a_terminal),
        AQ_CASE(a_restart_forgets_what_was_in_work_or_failed_and_keeps_what_is_done),
        AQ_CASE(the_later_event_of_a_block_holds),
        AQ_CASE(files_decide_what_is_done),
        AQ_CASE(a_gathered_file_completes_a_run_even_without_its_blocks),
        AQ_CASE(a_run_that_has_told_nothing_is_new),
        AQ_CASE(a_torn_last_line_is_no_fault),
        AQ_CASE(garbage_is_counted_and_harms_nothing),
        AQ_CASE(what_is_no_run_directory_is_one_clear_error),
        AQ_CASE(every_rank_tells_what_it_does),
        AQ_CASE(the_end_of_a_run_tells_what_its_ranks_did),
        AQ_CASE(a_teams_block_is_its_leads),
        AQ_CASE(what_a_block_was_taken_up_with_is_told),
        AQ_CASE(a_lock_that_nobody_renews_tells_that_a_run_was_killed),
        AQ_CASE(what_the_program_writes_is_understood),
    };
    return aq_test_main("run_status", cases, sizeof cases / sizeof *cases, argc, argv);
}
