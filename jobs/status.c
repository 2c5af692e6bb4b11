/* aqlm-mpi status: where a run stands, from the files of its directory. */
#include "status.h"
#include "base/clock.h"
#include "base/duration.h"
#include "jobs.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct status_options {
    const char *directory;
    bool json, follow;
} status_options;

static const struct argp_option option_list[] = {
    {"json", 'j', NULL, 0, "Print one JSON object (with --follow one a line)", 0},
    {"follow", 'f', NULL, 0, "Go on until the run has ended; Ctrl-C ends it too", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    status_options *options = state->input;
    switch (key) {
    case 'j':
        options->json = true;
        return 0;
    case 'f':
        options->follow = true;
        return 0;
    case ARGP_KEY_ARG:
        if (options->directory) return ARGP_ERR_UNKNOWN;
        options->directory = argument;
        return 0;
    case ARGP_KEY_END:
        return options->directory ? 0 : (error_t)AQ_FAIL(AQ_INVALID, "expected RUN_DIR");
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp command_line = {
    .options = option_list,
    .parser = parse_option,
    .args_doc = "RUN_DIR",
    .doc = "Shows which blocks of a run are done, in work and failed, and the time left, from the "
           "files of its directory alone: while it works, after it ended, after it died.",
};

/* ---- text ---- */

static void print_counts(const char *directory, const aq_run_status *status) {
    printf("%s: %s, %zu", directory, aq_run_state_name(status->state), status->done);
    if (status->blocks) printf(" of %zu", status->blocks);
    printf(" blocks done");
    if (status->in_work) printf(", %zu in work", status->in_work);
    if (status->failed) printf(", %zu failed", status->failed);
    if (isfinite(status->seconds_left))
        printf(", %s left", aq_duration_of(status->seconds_left).text);
    putchar('\n');
}

static void print_settings(const aq_run_status *status) {
    const aq_config *config = &status->config;
    const aq_scheme *scheme = &config->quantizer.scheme;
    printf("%s, %dx%d, groups of %d x %d", config->model, scheme->codebooks, scheme->bits,
           scheme->out_group, scheme->in_group);
    if (isfinite(status->bits_per_weight))
        printf(", %.4f bits per weight", status->bits_per_weight);
    putchar('\n');
}

static void print_owner(const aq_run_status *status, double now) {
    double age = aq_job_seconds_since(status->renewed, now);
    printf("lock: %s", status->owner);
    if (age < 1e9) printf(", renewed %s ago", aq_duration_of(age).text);
    putchar('\n');
}

static void print_run(const aq_run_status *status, double now) {
    char began[64] = "", teams[64] = "";
    if (status->team_size > 1) snprintf(teams, sizeof teams, " in teams of %zu", status->team_size);
    time_t started = (time_t)status->started;
    struct tm local;
    if (status->starts && fabs(status->started) < 1e11 && localtime_r(&started, &local))
        strftime(began, sizeof began, "%F %T", &local);
    if (status->starts)
        printf("run %zu began %s with %zu %s%s on %s (%s)\n", status->starts, began, status->ranks,
               status->ranks == 1 ? "rank" : "ranks", teams, status->backend, status->program);
    double silent = aq_job_seconds_since(status->last_event, now);
    if ((status->state == AQ_RUN_WORKING || status->state == AQ_RUN_KILLED) && silent < 1e9)
        printf("last event %s ago\n", aq_duration_of(silent).text);
    if (*status->owner) print_owner(status, now);
    if (isfinite(status->blocks_per_hour)) printf("%.4g blocks an hour\n", status->blocks_per_hour);
    if (isfinite(status->dense_forward_passes))
        printf("dense forward passes: %.2f\n", status->dense_forward_passes);
    if (*status->reason) printf("ended: %s\n", status->reason);
    if (status->unreadable)
        printf("%zu unreadable %s in metrics.jsonl\n", status->unreadable,
               status->unreadable == 1 ? "line" : "lines");
}

/* "%9.6f", or spaces for what nobody told. */
static void print_number(double value, int width, int digits) {
    if (isfinite(value))
        printf(" %*.*f", width, digits, value);
    else
        printf(" %*s", width, "");
}

static void print_work(const aq_block_status *block) {
    printf("  %s %s", block->stage, block->layer);
    if (isfinite(block->epoch)) printf("epoch %g", block->epoch);
    if (block->kept_layers + block->kept_epochs > 0)
        printf(" (taken up with %zu layers, %zu epochs)", block->kept_layers, block->kept_epochs);
}

static void print_block(const aq_block_status *block, size_t index) {
    char rank[16] = "";
    if (block->rank != AQ_NOBODY) snprintf(rank, sizeof rank, "%d", block->rank);
    printf("%-6zu %-8s", index, aq_job_block_state_name(block->state));
    print_number(block->error, 10, 6);
    print_number(block->seconds, 9, 1);
    printf(" %5s", rank);
    if (block->state == AQ_BLOCK_FAILED) printf("  %s", block->failure);
    if (block->state == AQ_BLOCK_RUNS) print_work(block);
    putchar('\n');
}

/* What each rank does, where that can be seen at a glance. */
static void print_ranks(const aq_run_status *status, double now) {
    enum { MOST_LINES = 64 };
    bool runs = status->state == AQ_RUN_WORKING || status->state == AQ_RUN_KILLED;
    if (!runs || status->each.count < 2 || status->each.count > MOST_LINES) return;
    printf("\n%-6s %-10s %6s %9s\n", "rank", "", "block", "since");
    for (size_t i = 0; i < status->each.count; i++) {
        const aq_rank_status *rank = &status->each.ranks[i];
        char block[24] = "";
        double since = aq_job_seconds_since(rank->since, now);
        if (rank->block != AQ_NO_BLOCK) snprintf(block, sizeof block, "%zu", rank->block);
        printf("%-6zu %-10.10s %6s %9s %s\n", i, rank->stage, block,
               since < 1e9 ? aq_duration_of(since).text : "", rank->layer);
    }
}

static void print_text(const char *directory, const aq_run_status *status, double now) {
    print_counts(directory, status);
    print_settings(status);
    print_run(status, now);
    if (status->listed)
        printf("\n%-6s %-8s %10s %9s %5s\n", "block", "", "error", "seconds", "rank");
    for (size_t i = 0; i < status->listed; i++) print_block(&status->list[i], i);
    print_ranks(status, now);
}

/* ---- the command ---- */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

static void print(const status_options *options, const aq_run_status *status, double now) {
    if (options->json)
        aq_job_print_json(aq_job_status_json(status, now), JSON_COMPACT | JSON_REAL_PRECISION(12));
    else if (options->follow && !isatty(STDOUT_FILENO))
        print_counts(options->directory, status);
    else
        print_text(options->directory, status, now);
    fflush(stdout);
}

/* Reads and prints; *ended: nothing more will happen by itself. */
static aq_status show(const status_options *options, bool *ended) {
    double now = aq_unix_seconds();
    aq_run_status status;
    AQ_TRY(aq_run_status_read(options->directory, now, &status));
    if (options->follow && !options->json && isatty(STDOUT_FILENO)) fputs("\033[H\033[J", stdout);
    print(options, &status, now);
    *ended = status.state != AQ_RUN_WORKING && status.state != AQ_RUN_NEW;
    aq_run_status_free(&status);
    return AQ_OK;
}

static aq_status follow(const status_options *options) {
    const struct timespec pause = {.tv_sec = isatty(STDOUT_FILENO) ? 1 : 5};
    const struct sigaction quietly = {.sa_handler = interrupt};
    bool ended = false;
    sigaction(SIGINT, &quietly, NULL);
    while (!ended && !interrupted) {
        AQ_TRY(show(options, &ended));
        if (!ended && !interrupted) nanosleep(&pause, NULL);
    }
    return AQ_OK;
}

int aq_job_status(int argc, char **argv) {
    status_options options = {0};
    bool ended;
    aq_status status = aq_job_parse(&command_line, argc, argv, &options);
    if (status == AQ_OK) status = options.follow ? follow(&options) : show(&options, &ended);
    return status == AQ_OK ? 0 : aq_job_fail();
}
