#include "run/schedule.h"

#include <stdlib.h>
#include <string.h>

static aq_status allocate(aq_schedule *schedule) {
    const aq_schedule_settings *settings = &schedule->settings;
    size_t teams = (size_t)settings->teams;
    schedule->entries = calloc(settings->blocks, sizeof *schedule->entries);
    schedule->snapshots = calloc(settings->blocks, sizeof *schedule->snapshots);
    schedule->parked = calloc(teams, sizeof *schedule->parked);
    schedule->lent = calloc(teams, sizeof *schedule->lent);
    AQ_REQUIRE(schedule->entries && schedule->snapshots && schedule->parked && schedule->lent,
               AQ_MEMORY, "no memory for the schedule of %zu blocks and %zu teams",
               settings->blocks, teams);
    for (size_t i = 0; i < settings->blocks; i++) schedule->entries[i].team = AQ_NOBODY;
    for (size_t i = 0; i < teams; i++) schedule->lent[i] = settings->blocks;
    return AQ_OK;
}

aq_status aq_schedule_new(const aq_schedule_settings *settings, aq_schedule *schedule) {
    *schedule = (aq_schedule){0};
    AQ_REQUIRE(settings->blocks > 0, AQ_INVALID, "a model without blocks");
    *schedule = (aq_schedule){.settings = *settings, .last = settings->blocks};
    aq_status status = allocate(schedule);
    if (status != AQ_OK) aq_schedule_free(schedule);
    return status;
}

void aq_schedule_free(aq_schedule *schedule) {
    for (size_t i = 0; schedule->entries && i < schedule->settings.blocks; i++)
        free(schedule->entries[i].text);
    free(schedule->entries);
    free(schedule->snapshots);
    free(schedule->parked);
    free(schedule->lent);
    *schedule = (aq_schedule){0};
}

void aq_schedule_finished(aq_schedule *schedule, size_t block, double error) {
    schedule->entries[block].state = AQ_BLOCK_DONE;
    schedule->entries[block].error = error;
}

void aq_schedule_snapshot(aq_schedule *schedule, size_t boundary) {
    schedule->snapshots[boundary] = true;
}

/* The lowest block in this state, or as many as there are. */
static size_t lowest(const aq_schedule *schedule, aq_block_state state) {
    size_t block = 0;
    while (block < schedule->settings.blocks && schedule->entries[block].state != state) block++;
    return block;
}

/* ---- what can be handed out ---- */

/* In order, a block's inputs lie with team 0 when it asks again. */
static bool is_ready(const aq_schedule *schedule) {
    const aq_schedule_settings *settings = &schedule->settings;
    return settings->in_order || schedule->entries[schedule->last].forwards >= settings->team_size;
}

/* The task of the lowest waiting block: true if it can be had now. */
static bool plan(const aq_schedule *schedule, size_t block, aq_task *task) {
    size_t stored = block, last = schedule->last;
    while (stored > 0 && !schedule->snapshots[stored]) stored--;
    *task = (aq_task){.block = block,
                      .start = stored,
                      .source = stored ? AQ_SOURCE_SNAPSHOT : AQ_SOURCE_EMBEDDINGS};
    if (last == schedule->settings.blocks || stored > last + 1) return true;
    if (!is_ready(schedule)) return stored == last + 1;
    *task = (aq_task){.block = block,
                      .start = last + 1,
                      .source = AQ_SOURCE_TEAM,
                      .team = schedule->entries[last].team};
    return true;
}

static bool is_over(const aq_schedule *schedule, size_t next) {
    size_t blocks = schedule->settings.blocks;
    return schedule->stopping || next == blocks || lowest(schedule, AQ_BLOCK_FAILED) < blocks;
}

/* The place among the parked of the team that is to get the task: its holder if he waits himself,
 * else whoever asked first and lends nothing; -1: nobody. */
static int choose(const aq_schedule *schedule, const aq_task *task) {
    int chosen = -1;
    for (int i = schedule->parked_count - 1; i >= 0; i--) {
        int team = schedule->parked[i];
        if (schedule->lent[team] != schedule->settings.blocks) continue;
        if (task->source == AQ_SOURCE_TEAM && team == task->team) return i;
        chosen = i;
    }
    return chosen;
}

/* The place of a parked team that gets nothing any more; -1: none. */
static int choose_idle(const aq_schedule *schedule, size_t next) {
    if (is_over(schedule, next)) return schedule->parked_count > 0 ? 0 : -1;
    for (int i = 0; schedule->settings.in_order && i < schedule->parked_count; i++)
        if (schedule->parked[i] != 0) return i;
    return -1;
}

static int unpark(aq_schedule *schedule, int place) {
    int team = schedule->parked[place], *at = &schedule->parked[place];
    schedule->parked_count--;
    memmove(at, at + 1, (size_t)(schedule->parked_count - place) * sizeof *at);
    return team;
}

static void hand_out(aq_schedule *schedule, const aq_answer *answer) {
    const aq_task *task = &answer->task;
    aq_schedule_entry *entry = &schedule->entries[task->block];
    if (task->source == AQ_SOURCE_TEAM && task->team != answer->team)
        schedule->lent[task->team] = task->block;
    entry->state = AQ_BLOCK_RUNS;
    entry->team = answer->team;
    entry->forwards = 0;
    schedule->last = task->block;
}

void aq_schedule_ask(aq_schedule *schedule, int team) {
    schedule->parked[schedule->parked_count++] = team;
}

bool aq_schedule_next(aq_schedule *schedule, aq_answer *answer) {
    size_t next = lowest(schedule, AQ_BLOCK_WAITS);
    int place = choose_idle(schedule, next);
    *answer = (aq_answer){.works = place < 0};
    if (place < 0 && !is_over(schedule, next) && plan(schedule, next, &answer->task))
        place = choose(schedule, &answer->task);
    if (place < 0) return false;
    answer->team = unpark(schedule, place);
    if (answer->works) hand_out(schedule, answer);
    return true;
}

/* ---- what teams report ---- */

void aq_schedule_forwarded(aq_schedule *schedule, size_t block) {
    const aq_schedule_settings *settings = &schedule->settings;
    if (++schedule->entries[block].forwards < settings->team_size) return;
    for (int team = 0; team < settings->teams; team++)
        if (schedule->lent[team] == block) schedule->lent[team] = settings->blocks;
}

void aq_schedule_done(aq_schedule *schedule, size_t block, double error, const aq_phases *seconds) {
    aq_schedule_entry *entry = &schedule->entries[block];
    entry->state = AQ_BLOCK_DONE;
    entry->error = error;
    entry->seconds = *seconds;
}

void aq_schedule_failed(aq_schedule *schedule, size_t block, aq_status code, const char *text) {
    aq_schedule_entry *entry = &schedule->entries[block];
    entry->state = AQ_BLOCK_FAILED;
    entry->code = code;
    free(entry->text);
    entry->text = strdup(text);
}

void aq_schedule_released(aq_schedule *schedule, size_t block) {
    schedule->entries[block].state = AQ_BLOCK_WAITS;
    schedule->entries[block].team = AQ_NOBODY;
    schedule->stopping = true;
}

void aq_schedule_stop(aq_schedule *schedule) {
    schedule->stopping = true;
}

/* ---- what came of it ---- */

size_t aq_schedule_count(const aq_schedule *schedule, aq_block_state state) {
    size_t count = 0;
    for (size_t i = 0; i < schedule->settings.blocks; i++)
        count += schedule->entries[i].state == state;
    return count;
}

int aq_schedule_lead(const aq_schedule *schedule, size_t block) {
    int team = schedule->entries[block].team;
    return team == AQ_NOBODY ? AQ_NOBODY : team * schedule->settings.team_size;
}

aq_status aq_schedule_verdict(const aq_schedule *schedule) {
    size_t failed = lowest(schedule, AQ_BLOCK_FAILED), blocks = schedule->settings.blocks;
    if (failed < blocks) {
        const aq_schedule_entry *entry = &schedule->entries[failed];
        return AQ_FAIL(entry->code, "block %zu (rank %d): %s", failed,
                       aq_schedule_lead(schedule, failed), entry->text ? entry->text : "failed");
    }
    size_t done = aq_schedule_count(schedule, AQ_BLOCK_DONE);
    AQ_REQUIRE(done == blocks, AQ_STOPPED, "stopped with %zu of %zu blocks finished", done, blocks);
    return AQ_OK;
}
