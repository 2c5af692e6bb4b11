#include "run/run_status.h"

#include "base/file.h"
#include "run/metrics.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* No model has more; a file that says otherwise must not cost memory. */
enum { MOST_BLOCKS = 1 << 16 };

const char *aq_run_state_name(aq_run_state state) {
    static const char *const names[] = {
#define AQ_RUN_STATE_TEXT(name, text) text,
        AQ_RUN_STATE_LIST(AQ_RUN_STATE_TEXT)
#undef AQ_RUN_STATE_TEXT
    };
    return names[state];
}

/* ---- the list of blocks ---- */

static const aq_block_status unknown_block = {.state = AQ_BLOCK_WAITS,
                                              .rank = AQ_NOBODY,
                                              .error = NAN,
                                              .fitted_error = NAN,
                                              .began = NAN,
                                              .seconds = NAN,
                                              .epoch = NAN};

/* Makes the list at least so long. */
static bool list_blocks(aq_run_status *status, size_t count) {
    if (count <= status->listed) return true;
    aq_block_status *grown = realloc(status->list, count * sizeof *grown);
    if (!grown) return false;
    status->list = grown;
    while (status->listed < count) grown[status->listed++] = unknown_block;
    return true;
}

/* The block that an event names, NULL if it names none that can be. */
static aq_block_status *block_of(aq_run_status *status, const json_t *fields) {
    size_t index, most = status->blocks ? status->blocks - 1 : MOST_BLOCKS - 1;
    if (!aq_event_count(fields, "block", 0, most, &index)) return NULL;
    return list_blocks(status, index + 1) ? &status->list[index] : NULL;
}

/* ---- events ---- */

/* What an earlier run had in work or failed at waits again. */
static bool take_start(aq_run_status *status, double time, const json_t *fields) {
    size_t blocks, ranks = 0;
    if (!aq_event_count(fields, "blocks", 1, MOST_BLOCKS, &blocks) || !list_blocks(status, blocks))
        return false;
    for (size_t i = 0; i < status->listed; i++) {
        aq_block_status *block = &status->list[i];
        block->now = false;
        if (block->state != AQ_BLOCK_DONE) *block = unknown_block;
    }
    status->blocks = blocks;
    status->starts++;
    status->started = time;
    status->ended = false;
    status->reason[0] = 0;
    aq_event_count(fields, "ranks", 1, INT_MAX, &ranks);
    status->ranks = ranks;
    status->team_size = 1;
    status->dense_forward_passes = NAN;
    aq_event_count(fields, "team_size", 1, INT_MAX, &status->team_size);
    aq_event_text(fields, "backend", status->backend);
    aq_event_text(fields, "program", status->program);
    return aq_rank_list_start(&status->each, ranks, time);
}

static bool take_stage(aq_block_status *block, double time, const json_t *fields) {
    char stage[AQ_EVENT_TEXT];
    if (!aq_event_text(fields, "stage", stage)) return false;
    if (block->state != AQ_BLOCK_RUNS || strcmp(stage, aq_stage_name(AQ_STAGE_INPUTS)) == 0) {
        *block = unknown_block;
        block->state = AQ_BLOCK_RUNS;
        block->began = time;
    }
    memcpy(block->stage, stage, sizeof stage);
    if (!aq_event_text(fields, "layer", block->layer)) block->layer[0] = 0;
    return true;
}

/* What an earlier process had done of the block that its rank begins. */
static bool take_up(aq_block_status *block, const json_t *fields) {
    size_t layers, epochs;
    if (!aq_event_count(fields, "layers", 0, INT_MAX, &layers) ||
        !aq_event_count(fields, "epochs", 0, INT_MAX, &epochs))
        return false;
    block->layers = block->kept_layers = layers;
    block->kept_epochs = epochs;
    if (epochs > 0) block->epoch = (double)epochs;
    return true;
}

static bool take_done(aq_block_status *block, const json_t *fields) {
    block->state = AQ_BLOCK_DONE;
    block->now = true;
    aq_event_number(fields, "error", &block->error);
    aq_event_number(fields, "fitted_error", &block->fitted_error);
    aq_event_number(fields, "seconds", &block->seconds);
    return true;
}

static bool take_failed(aq_block_status *block, const json_t *fields) {
    block->state = AQ_BLOCK_FAILED;
    return aq_event_text(fields, "error", block->failure);
}

static bool take_block_event(aq_run_status *status, const char *event, double time,
                             const json_t *fields) {
    aq_block_status *block = block_of(status, fields);
    size_t rank;
    if (!block || !aq_event_count(fields, "rank", 0, INT_MAX, &rank)) return false;
    if (status->team_size > 1 && rank % status->team_size) return true; /* its lead tells */
    if (strcmp(event, "block") == 0)
        aq_event_number(fields, "bits_per_weight", &status->bits_per_weight);
    if (strcmp(event, "epoch") == 0) return aq_event_number(fields, "epoch", &block->epoch);
    if (strcmp(event, "layer") == 0) return ++block->layers;
    if (strcmp(event, "taken_up") == 0) return take_up(block, fields);
    bool taken = strcmp(event, "stage") == 0   ? take_stage(block, time, fields)
                 : strcmp(event, "block") == 0 ? take_done(block, fields)
                                               : take_failed(block, fields);
    block->rank = (int)rank;
    return taken;
}

static bool take_event(void *state, const char *event, double time, const json_t *fields) {
    static const char *const of_blocks[] = {"stage", "layer", "taken_up",
                                            "epoch", "block", "failed"};
    aq_run_status *status = state;
    status->last_event = time;
    if (strcmp(event, "start") == 0) return take_start(status, time, fields);
    aq_rank_list_take(&status->each, event, time, fields);
    if (json_is_null(json_object_get(fields, "block"))) return true; /* a rank waits */
    for (size_t i = 0; i < sizeof of_blocks / sizeof *of_blocks; i++)
        if (strcmp(event, of_blocks[i]) == 0) return take_block_event(status, event, time, fields);
    if (strcmp(event, "run") == 0) {
        aq_event_number(fields, "bits_per_weight", &status->bits_per_weight);
        aq_event_number(fields, "dense_forward_passes", &status->dense_forward_passes);
    }
    if (strcmp(event, "end") == 0) {
        status->ended = true;
        aq_event_text(fields, "error", status->reason);
    }
    return true;
}

/* ---- files ---- */

static aq_status read_part(const char *directory, const char *name, aq_run_status *status) {
    char *path;
    AQ_TRY(aq_file_join(directory, name, &path));
    aq_status result = strcmp(name, "config.yaml") == 0
                           ? aq_config_read(path, &status->config)
                           : aq_event_file_read(path, take_event, status, &status->unreadable);
    free(path);
    return result;
}

static bool exists(const char *directory, const char *name) {
    char *path;
    struct stat found;
    if (aq_file_join(directory, name, &path) != AQ_OK) return false;
    bool there = stat(path, &found) == 0;
    free(path);
    return there;
}

static aq_status check_directory(const char *directory) {
    struct stat found;
    AQ_REQUIRE(stat(directory, &found) == 0, AQ_MISSING, "%s: cannot be looked at: %s", directory,
               strerror(errno));
    AQ_REQUIRE(S_ISDIR(found.st_mode), AQ_INVALID, "%s: expected a run directory, found a file",
               directory);
    AQ_REQUIRE(exists(directory, "config.yaml"), AQ_INVALID,
               "%s: not a run directory: it has no config.yaml", directory);
    return AQ_OK;
}

/* "block-0007.h5" is 7; false for other names. */
static bool parse_block_name(const char *name, size_t *index) {
    char whole[32];
    if (sscanf(name, "block-%5zu.h5", index) != 1 || *index >= MOST_BLOCKS) return false;
    snprintf(whole, sizeof whole, "block-%04zu.h5", *index);
    return strcmp(name, whole) == 0;
}

/* Marks in `present` ([MOST_BLOCKS]) which block files there are; without their folder none. */
static void find_block_files(const char *directory, bool *present, aq_run_status *status) {
    char *path;
    if (aq_file_join(directory, "blocks", &path) != AQ_OK) return;
    DIR *folder = opendir(path);
    free(path);
    if (!folder) return;
    size_t index;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (parse_block_name(entry->d_name, &index) && list_blocks(status, index + 1))
            present[index] = true;
    closedir(folder);
}

/* Who holds the directory, and whether nobody works there any more: its process is known to be
 * gone, or has not renewed the lock for so long that another job may take it over. */
static bool find_owner(const char *directory, double now, aq_run_status *status) {
    enum { MOST_SILENCE = 60 };
    char *path, *text = NULL;
    size_t length;
    aq_lock_owner owner, self;
    if (aq_file_join(directory, "lock", &path) != AQ_OK) return false;
    bool read = aq_file_read(path, AQ_OWNER_TEXT, &text, &length) == AQ_OK &&
                aq_lock_owner_read(text, length, &owner) == AQ_OK;
    free(path);
    free(text);
    if (!read) return false;
    aq_lock_owner_self(&self);
    aq_lock_owner_describe(&owner, status->owner);
    for (char *at = status->owner; *at; at++)
        if (*at < ' ' || *at > '~') *at = '?'; /* what could disturb a terminal */
    status->renewed = owner.renewed;
    aq_owner_life life = aq_lock_owner_life(&owner, &self);
    return life == AQ_OWNER_DEAD ||
           (life == AQ_OWNER_UNKNOWN && now - owner.renewed > MOST_SILENCE);
}

/* Files decide about every block that nobody works on. */
static void settle_block(aq_block_status *block, bool ended, bool present) {
    if (block->state == AQ_BLOCK_RUNS && ended) block->state = AQ_BLOCK_WAITS;
    if (block->state == AQ_BLOCK_DONE && !present) *block = unknown_block;
    if (block->state == AQ_BLOCK_WAITS && present) block->state = AQ_BLOCK_DONE;
}

static aq_status settle(const char *directory, double now, aq_run_status *status) {
    bool *present = calloc(MOST_BLOCKS, sizeof *present),
         gathered = exists(directory, "model.aqlm.h5");
    AQ_REQUIRE(present, AQ_MEMORY, "out of memory");
    find_block_files(directory, present, status);
    bool killed = find_owner(directory, now, status) && !status->ended;
    for (size_t i = 0; i < status->listed; i++) {
        aq_block_status *block = &status->list[i];
        settle_block(block, status->ended || killed, present[i] || gathered);
        status->done += block->state == AQ_BLOCK_DONE;
        status->in_work += block->state == AQ_BLOCK_RUNS;
        status->failed += block->state == AQ_BLOCK_FAILED;
    }
    free(present);
    bool begun = !isnan(status->last_event);
    status->state = gathered && !status->in_work ? AQ_RUN_COMPLETE
                    : !begun                     ? AQ_RUN_NEW
                    : status->ended              ? AQ_RUN_ENDED
                    : killed                     ? AQ_RUN_KILLED
                                                 : AQ_RUN_WORKING;
    return AQ_OK;
}

/* ---- rate ---- */

/* The mean over the last run's blocks, and over all if it has finished none. */
static double mean_seconds(const aq_run_status *status) {
    double sums[2] = {0}, counts[2] = {0};
    for (size_t i = 0; i < status->listed; i++) {
        const aq_block_status *block = &status->list[i];
        if (block->state != AQ_BLOCK_DONE || !(block->seconds > 0)) continue;
        sums[block->now] += block->seconds;
        counts[block->now]++;
    }
    return counts[1] > 0 ? sums[1] / counts[1] : (sums[0] + sums[1]) / (counts[0] + counts[1]);
}

/* As many blocks as are in work now stay in work to the end; each takes the mean. */
static void estimate(double now, aq_run_status *status) {
    double mean = mean_seconds(status), spent = 0;
    for (size_t i = 0; i < status->listed; i++) {
        aq_block_status *block = &status->list[i];
        if (block->state != AQ_BLOCK_RUNS) continue;
        block->seconds = fmax(now - block->began, 0);
        spent += fmin(block->seconds, mean);
    }
    if (status->state != AQ_RUN_WORKING || !status->in_work || isnan(mean)) return;
    double workers = (double)status->in_work;
    status->blocks_per_hour = 3600 * workers / mean;
    if (status->blocks && !status->failed)
        status->seconds_left = ((double)(status->blocks - status->done) * mean - spent) / workers;
}

aq_status aq_run_status_read(const char *directory, double now, aq_run_status *status) {
    aq_status result;
    *status = (aq_run_status){.started = NAN,
                              .last_event = NAN,
                              .bits_per_weight = NAN,
                              .dense_forward_passes = NAN,
                              .renewed = NAN,
                              .blocks_per_hour = NAN,
                              .seconds_left = NAN};
    AQ_TRY(check_directory(directory));
    AQ_TRY(aq_config_new(&status->config));
    result = read_part(directory, "config.yaml", status);
    if (result == AQ_OK) result = read_part(directory, "metrics.jsonl", status);
    if (result == AQ_OK) result = settle(directory, now, status);
    if (result == AQ_OK) estimate(now, status);
    if (result != AQ_OK) aq_run_status_free(status);
    return result;
}

void aq_run_status_free(aq_run_status *status) {
    aq_config_free(&status->config);
    aq_rank_list_free(&status->each);
    free(status->list);
    *status = (aq_run_status){0};
}
