#include "jobs.h"
#include "status.h"

#include <math.h>

const char *aq_job_block_state_name(aq_block_state state) {
    static const char *const names[] = {"waits", "in work", "done", "failed"};
    return names[state];
}

double aq_job_seconds_since(double moment, double now) {
    return isnan(moment) ? NAN : fmax(now - moment, 0);
}

static json_t *text_or_null(const char *text) {
    return *text ? json_string(text) : json_null();
}

static json_t *count_or_null(size_t count) {
    return count ? json_integer((json_int_t)count) : json_null();
}

static json_t *json_block(const aq_block_status *block, size_t index) {
    bool runs = block->state == AQ_BLOCK_RUNS;
    json_t *rank = block->rank == AQ_NOBODY ? json_null() : json_integer(block->rank);
    json_t *object =
        json_pack("{s:I, s:s, s:o, s:o, s:o, s:o}", "block", (json_int_t)index, "state",
                  aq_job_block_state_name(block->state), "rank", rank, "error",
                  aq_job_number(block->error), "fitted_error", aq_job_number(block->fitted_error),
                  "seconds", aq_job_number(block->seconds));
    json_t *work = json_pack(
        "{s:o, s:o, s:I, s:o, s:I, s:I, s:o}", "stage", text_or_null(runs ? block->stage : ""),
        "layer", text_or_null(runs ? block->layer : ""), "layers", (json_int_t)block->layers,
        "epoch", aq_job_number(runs ? block->epoch : NAN), "kept_layers",
        (json_int_t)block->kept_layers, "kept_epochs", (json_int_t)block->kept_epochs, "failure",
        text_or_null(block->failure));
    json_object_update(object, work);
    json_decref(work);
    return object;
}

static json_t *json_rank(const aq_rank_status *rank, size_t number, double now) {
    json_t *block =
        rank->block == AQ_NO_BLOCK ? json_null() : json_integer((json_int_t)rank->block);
    return json_pack(
        "{s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "rank", (json_int_t)number,
        "stage", rank->stage, "layer", text_or_null(rank->layer), "block", block, "stage_seconds",
        aq_job_number(aq_job_seconds_since(rank->since, now)), "silent_seconds",
        aq_job_number(aq_job_seconds_since(rank->last_event, now)), "forwarding",
        aq_job_number(rank->forwarding), "waiting", aq_job_number(rank->waiting), "quantizing",
        aq_job_number(rank->quantizing), "peak_memory", aq_job_number(rank->peak_memory),
        "peak_device_memory", aq_job_number(rank->peak_device_memory));
}

static json_t *json_run(const aq_run_status *status, double now) {
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "starts",
                     (json_int_t)status->starts, "ranks", count_or_null(status->ranks), "team_size",
                     count_or_null(status->team_size), "backend", text_or_null(status->backend),
                     "program", text_or_null(status->program), "started",
                     aq_job_number(status->started), "owner", text_or_null(status->owner),
                     "renewed_seconds", aq_job_number(aq_job_seconds_since(status->renewed, now)),
                     "dense_forward_passes", aq_job_number(status->dense_forward_passes));
}

json_t *aq_job_status_json(const aq_run_status *status, double now) {
    json_t *list = json_array(), *ranks = json_array(), *run = json_run(status, now);
    for (size_t i = 0; i < status->listed; i++)
        json_array_append_new(list, json_block(&status->list[i], i));
    for (size_t i = 0; i < status->each.count; i++)
        json_array_append_new(ranks, json_rank(&status->each.ranks[i], i, now));
    json_t *object = json_pack(
        "{s:s, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:I}", "state",
        aq_run_state_name(status->state), "reason", text_or_null(status->reason), "blocks",
        count_or_null(status->blocks), "done", (json_int_t)status->done, "in_work",
        (json_int_t)status->in_work, "failed", (json_int_t)status->failed, "bits_per_weight",
        aq_job_number(status->bits_per_weight), "silent_seconds",
        aq_job_number(aq_job_seconds_since(status->last_event, now)), "blocks_per_hour",
        aq_job_number(status->blocks_per_hour), "seconds_left", aq_job_number(status->seconds_left),
        "unreadable_lines", (json_int_t)status->unreadable);
    json_object_update(object, run);
    json_object_set_new(object, "list", list);
    json_object_set_new(object, "rank_list", ranks);
    json_decref(run);
    return object;
}
