#include "base/log.h"
#include "run/progress.h"
#include "suite.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Runs `work` with stderr in a file and returns what it wrote there (caller frees). */
static char *caught(void (*work)(aq_progress *), const aq_progress_plan *plan) {
    char path[512];
    snprintf(path, sizeof path, "%s/stderr", aq_test_folder());
    int kept = dup(STDERR_FILENO), file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDERR_FILENO);
    aq_progress *progress;
    AQ_CHECK(aq_progress_begin(plan, &progress));
    work(progress);
    aq_progress_end(progress);
    dup2(kept, STDERR_FILENO);
    off_t size = lseek(file, 0, SEEK_END);
    char *text = calloc((size_t)size + 1, 1);
    CU_ASSERT_EQUAL(pread(file, text, (size_t)size, 0), size);
    close(kept);
    close(file);
    return text;
}

static const aq_progress_plan plain = {AQ_PROGRESS_PLAIN, .blocks = 4, .finished = 1, .workers = 1};
static const aq_progress_plan live = {AQ_PROGRESS_LIVE, .blocks = 4, .finished = 1, .workers = 1};

static void wait_for_redraw(void) {
    usleep(120000);
}

static void one_block(aq_progress *progress) {
    aq_progress_block(progress, 2);
    aq_progress_part(progress, "mlp.up_proj", 0.5);
    wait_for_redraw();
    aq_progress_step(progress, "k-means", 3, 10);
    aq_progress_part_done(progress, 0.125);
    aq_progress_part(progress, "tuning", 0.5);
    wait_for_redraw();
    aq_progress_step(progress, "tuning", 5, 10);
    aq_log_warn("a warning");
    wait_for_redraw();
    aq_progress_step(progress, "tuning", 10, 10);
    aq_progress_part_done(progress, NAN);
    aq_progress_block_done(progress, 2, 0.25, 65);
}

static void plain_lines_are_whole_and_few(void) {
    char *text = caught(one_block, &plain);
    CU_ASSERT_PTR_NULL(strchr(text, '\r'));
    CU_ASSERT_PTR_NULL(strchr(text, '\033'));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "warning: a warning\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "block 2 done in 1m05s: error 0.25 (2 of 4 done, 50%"));
    free(text);
}

static void the_live_line_shows_place_phase_and_share(void) {
    char *text = caught(one_block, &live);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "1/4 done | block 2 mlp.up_proj"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "k-means 3/10"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "25%")); /* a phase of another name is no share */
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "43%")); /* 1/4 + (1/2 + 1/4) / 4 */
    CU_ASSERT_PTR_NOT_NULL(strstr(text, " left"));
    free(text);
}

static void the_live_line_is_cleared_before_the_log_and_at_the_end(void) {
    char *text = caught(one_block, &live);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\r\033[Kwarning: a warning\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\r\033[Kblock 2 done"));
    CU_ASSERT_EQUAL(text[strlen(text) - 1], '\n');
    free(text);
}

static void many_steps(aq_progress *progress) {
    aq_progress_block(progress, 0);
    aq_progress_part(progress, "mlp.up_proj", 1);
    for (int i = 0; i < 3000; i++) {
        aq_progress_step(progress, "codes", i, 3000);
        if (i % 10 == 0) usleep(1000);
    }
}

static void redraws_are_bounded(void) {
    char *text = caught(many_steps, &live);
    int redraws = 0;
    for (const char *at = text; (at = strstr(at, "codes")); at++) redraws++;
    CU_ASSERT(redraws >= 1 && redraws <= 40);
    free(text);
    text = caught(many_steps, &plain);
    CU_ASSERT_STRING_EQUAL(text, "");
    free(text);
}

static void shares_beyond_the_end(aq_progress *progress) {
    aq_progress_block(progress, 3);
    for (int i = 0; i < 5; i++) {
        aq_progress_part(progress, "a part with a name far longer than any line leaves room", 0.9);
        wait_for_redraw();
        aq_progress_step(progress, "codes", 7, 0);
        aq_progress_part_done(progress, 0);
    }
    for (size_t block = 0; block < 6; block++) aq_progress_block_done(progress, block, 0, 0);
}

static void wrong_shares_do_no_harm(void) {
    char *text = caught(shares_beyond_the_end, &live);
    CU_ASSERT_PTR_NULL(strstr(text, "101%"));
    CU_ASSERT_PTR_NULL(strstr(text, "-"));
    free(text);
}

static void auto_is_plain_where_stderr_is_a_file(void) {
    char *text = caught(one_block, &(aq_progress_plan){.blocks = 4, .workers = 1});
    CU_ASSERT_PTR_NULL(strchr(text, '\r'));
    free(text);
}

static void modes_are_read_by_name(void) {
    aq_progress_mode mode;
    AQ_CHECK(aq_progress_parse("plain", &mode));
    CU_ASSERT_EQUAL(mode, AQ_PROGRESS_PLAIN);
    AQ_CHECK(aq_progress_parse("auto", &mode));
    CU_ASSERT_EQUAL(mode, AQ_PROGRESS_AUTO);
    AQ_CHECK_FAILS(aq_progress_parse("lively", &mode), AQ_INVALID, "auto, live or plain");
}

static void nobody_has_to_watch(void) {
    one_block(NULL);
    CU_ASSERT_PTR_NULL(aq_progress_watch(NULL));
    aq_progress_end(NULL);
}

static void use_watch(aq_progress *progress) {
    const aq_watch *watch = aq_progress_watch(progress);
    aq_progress_part(progress, "tuning", 1);
    wait_for_redraw();
    AQ_CHECK(aq_watch_step(watch, "tuning", 1, 2));
    aq_watch_epoch(watch, 1, 0.5, 0.5, 1);
}

static void a_watch_leads_to_the_same_line(void) {
    char *text = caught(use_watch, &live);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, " | 1/2"));
    free(text);
}

#define CASE(name)                                                                                 \
    { #name, name }

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        CASE(plain_lines_are_whole_and_few),
        CASE(the_live_line_shows_place_phase_and_share),
        CASE(the_live_line_is_cleared_before_the_log_and_at_the_end),
        CASE(redraws_are_bounded),
        CASE(wrong_shares_do_no_harm),
        CASE(auto_is_plain_where_stderr_is_a_file),
        CASE(modes_are_read_by_name),
        CASE(nobody_has_to_watch),
        CASE(a_watch_leads_to_the_same_line),
    };
    return aq_test_main("progress", cases, sizeof cases / sizeof *cases, argc, argv);
}
