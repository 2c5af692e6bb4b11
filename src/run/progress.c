#include "run/progress.h"

#include "base/clock.h"
#include "base/duration.h"
#include "base/launch.h"
#include "base/log.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double redraw_seconds = 0.1, part_line_seconds = 1, quiet_seconds = 30;

enum { MAX_WIDTH = 200, PLACE_WIDTH = 58 };

struct aq_progress {
    aq_watch watch;
    pthread_mutex_t calls; /* held by every public call, taken before the log's lock ... */
    pthread_mutex_t lock;  /* ... and this one, over the terminal, after it (the log's hook) */
    bool live, drawn;      /* drawn: the live line stands on the terminal */
    size_t blocks, finished_before, finished, workers;
    size_t block; /* the one at hand */
    char part[48];
    double part_share, block_share; /* of the part at hand; of the block's finished parts */
    const char *phase;
    int done, total;
    double share;        /* of the whole run; never falls */
    double began, shown; /* when the run began; when a line appeared last */
};

aq_status aq_progress_parse(const char *text, aq_progress_mode *mode) {
    static const char *const names[] = {"auto", "live", "plain"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i])) continue;
        *mode = (aq_progress_mode)i;
        return AQ_OK;
    }
    return AQ_FAIL(AQ_INVALID, "progress %s is unknown: expected auto, live or plain", text);
}

static bool wants_live(aq_progress_mode mode) {
    const char *terminal = getenv("TERM");
    if (mode != AQ_PROGRESS_AUTO) return mode == AQ_PROGRESS_LIVE;
    return !aq_launched() && isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb");
}

/* A terminal that is gone has nobody to tell. */
static void write_all(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static void clear_line(void *state) {
    aq_progress *progress = state;
    pthread_mutex_lock(&progress->lock);
    if (progress->drawn) write_all("\r\033[K");
    progress->drawn = false;
    pthread_mutex_unlock(&progress->lock);
}

static void update_share(aq_progress *progress) {
    bool advances = progress->phase && strcmp(progress->phase, progress->part) == 0;
    double part = advances ? progress->part_share * progress->done / progress->total : 0;
    double block = fmin(progress->block_share + part, 1);
    double at_work =
        fmin((double)progress->workers, (double)progress->blocks - (double)progress->finished);
    double share = ((double)progress->finished + block * at_work) / (double)progress->blocks;
    progress->share = fmin(fmax(progress->share, share), 1);
}

/* "37%, 2m10s left", and nothing about time before anything is known about it. */
static aq_duration describe_share(const aq_progress *progress) {
    double before = (double)progress->finished_before / (double)progress->blocks;
    double gained = progress->share - before;
    aq_duration result;
    int used = snprintf(result.text, sizeof result.text, "%.0f%%", floor(100 * progress->share));
    if (gained <= 0 || gained >= 1 - before) return result;
    double left = (aq_seconds() - progress->began) / gained * (1 - progress->share);
    if (left < 1e8)
        snprintf(result.text + used, sizeof result.text - (size_t)used, ", %s left",
                 aq_duration_of(left).text);
    return result;
}

static int terminal_width(void) {
    struct winsize size;
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known && size.ws_col < MAX_WIDTH ? size.ws_col : known ? MAX_WIDTH : 80;
}

/* "[=====>    ] " as wide as the line leaves room for, nothing if that is little. */
static void describe_bar(double share, int room, char *bar) {
    int cells = room - 3 > 30 ? 30 : room - 3, full = (int)(share * cells);
    bar[0] = 0;
    if (cells < 10) return;
    char *end = bar;
    *end++ = '[';
    for (int i = 0; i < cells; i++) *end++ = i < full ? '=' : i == full ? '>' : ' ';
    strcpy(end, "] ");
}

/* A phase that is the whole part is not named twice. */
static void describe_place(const aq_progress *progress, char *text, size_t size) {
    int used = snprintf(text, size, "%zu/%zu done | block %zu %-17s", progress->finished,
                        progress->blocks, progress->block, progress->part);
    if (!progress->phase || (size_t)used >= size) return;
    bool whole = strcmp(progress->phase, progress->part) == 0;
    snprintf(text + used, size - (size_t)used, " | %s%s%d/%d", whole ? "" : progress->phase,
             whole ? "" : " ", progress->done, progress->total);
}

/* The last column stays free: some terminals break the line there. */
static void draw(aq_progress *progress) {
    char place[MAX_WIDTH], bar[48], line[2 * MAX_WIDTH];
    aq_duration share = describe_share(progress);
    int room = terminal_width() - 2 - (int)strlen(share.text);
    int width = room > PLACE_WIDTH ? PLACE_WIDTH : room > 0 ? room : 0;
    describe_place(progress, place, sizeof place);
    describe_bar(progress->share, room - width, bar);
    snprintf(line, sizeof line, "\r%-*.*s %s%s\033[K", width, width, place, bar, share.text);
    write_all(line);
    progress->drawn = true;
}

/* What appeared last decides whether something may appear now. */
static bool due(aq_progress *progress, double seconds) {
    double now = aq_seconds();
    if (now - progress->shown < seconds) return false;
    progress->shown = now;
    return true;
}

static void show_step(aq_progress *progress) {
    if (progress->live && due(progress, redraw_seconds)) {
        pthread_mutex_lock(&progress->lock);
        draw(progress);
        pthread_mutex_unlock(&progress->lock);
    } else if (!progress->live && due(progress, quiet_seconds)) {
        aq_log_info("block %zu %s: %s %d of %d (%s)", progress->block, progress->part,
                    progress->phase, progress->done, progress->total,
                    describe_share(progress).text);
    }
}

void aq_progress_step(aq_progress *progress, const char *phase, int done, int total) {
    if (!progress) return;
    pthread_mutex_lock(&progress->calls);
    progress->phase = phase;
    progress->done = done;
    progress->total = total > 0 ? total : 1;
    update_share(progress);
    show_step(progress);
    pthread_mutex_unlock(&progress->calls);
}

static aq_status watch_step(const aq_watch *watch, const char *phase, int done, int total) {
    aq_progress_step(watch->state, phase, done, total);
    return AQ_OK;
}

static void watch_epoch(const aq_watch *watch, int epoch, double training_error,
                        double validation_error, double seconds) {
    (void)watch, (void)epoch, (void)training_error, (void)validation_error, (void)seconds;
}

aq_status aq_progress_begin(const aq_progress_plan *plan, aq_progress **progress) {
    aq_progress *made = calloc(1, sizeof *made);
    AQ_REQUIRE(made, AQ_MEMORY, "out of memory");
    *made = (aq_progress){
        .watch = {.step = watch_step, .epoch = watch_epoch, .state = made},
        .live = wants_live(plan->mode),
        .blocks = plan->blocks > 0 ? plan->blocks : 1,
        .finished_before = plan->finished,
        .finished = plan->finished,
        .workers = plan->workers,
        .began = aq_seconds(),
        .shown = aq_seconds(),
    };
    pthread_mutex_init(&made->calls, NULL);
    pthread_mutex_init(&made->lock, NULL);
    if (made->live) aq_log_before(clear_line, made);
    *progress = made;
    return AQ_OK;
}

void aq_progress_end(aq_progress *progress) {
    if (!progress) return;
    aq_log_before(NULL, NULL);
    clear_line(progress);
    pthread_mutex_destroy(&progress->calls);
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}

static void begin_block(aq_progress *progress, size_t block) {
    progress->block = block;
    progress->block_share = progress->part_share = 0;
    progress->part[0] = 0;
    progress->phase = NULL;
}

void aq_progress_block(aq_progress *progress, size_t block) {
    if (!progress) return;
    pthread_mutex_lock(&progress->calls);
    begin_block(progress, block);
    pthread_mutex_unlock(&progress->calls);
}

void aq_progress_part(aq_progress *progress, const char *name, double share) {
    if (!progress) return;
    pthread_mutex_lock(&progress->calls);
    snprintf(progress->part, sizeof progress->part, "%s", name);
    progress->part_share = share;
    progress->phase = NULL;
    pthread_mutex_unlock(&progress->calls);
}

static void say_part_done(aq_progress *progress, double error) {
    char found[32] = "done";
    if (!isnan(error)) snprintf(found, sizeof found, "error %.4g", error);
    aq_log_info("block %zu %s: %s (%s)", progress->block, progress->part, found,
                describe_share(progress).text);
}

void aq_progress_part_done(aq_progress *progress, double error) {
    if (!progress) return;
    pthread_mutex_lock(&progress->calls);
    progress->block_share += progress->part_share;
    progress->part_share = 0;
    progress->phase = NULL;
    update_share(progress);
    if (!progress->live && due(progress, part_line_seconds)) say_part_done(progress, error);
    pthread_mutex_unlock(&progress->calls);
}

void aq_progress_block_done(aq_progress *progress, size_t block, double error, double seconds) {
    if (!progress) return;
    pthread_mutex_lock(&progress->calls);
    progress->finished++;
    if (block == progress->block) begin_block(progress, block);
    update_share(progress);
    progress->shown = aq_seconds();
    aq_log_info("block %zu done in %s: error %.4g (%zu of %zu done, %s)", block,
                aq_duration_of(seconds).text, error, progress->finished, progress->blocks,
                describe_share(progress).text);
    pthread_mutex_unlock(&progress->calls);
}

const aq_watch *aq_progress_watch(const aq_progress *progress) {
    return progress ? &progress->watch : NULL;
}
