#include "run/metrics.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct aq_metrics {
    int file, rank;
    char *path;
};

/* A process that died while it wrote left a line without its end; what follows must not join it. */
static void end_torn_line(int file) {
    char last = '\n';
    off_t size = lseek(file, 0, SEEK_END);
    if (size > 0 && pread(file, &last, 1, size - 1) == 1 && last != '\n' &&
        write(file, "\n", 1) != 1)
        return; /* the first event will say why */
}

aq_status aq_metrics_open(const char *path, int rank, aq_metrics **metrics) {
    aq_metrics *opened = malloc(sizeof *opened);
    char *kept = strdup(path);
    int file = opened && kept ? open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (file < 0) {
        aq_status status = opened && kept ? AQ_FAIL(AQ_IO, "%s: cannot be opened for appending: %s",
                                                    path, strerror(errno))
                                          : AQ_FAIL(AQ_MEMORY, "out of memory");
        free(opened);
        free(kept);
        return status;
    }
    end_torn_line(file);
    *opened = (aq_metrics){.file = file, .rank = rank, .path = kept};
    *metrics = opened;
    return AQ_OK;
}

void aq_metrics_close(aq_metrics *metrics) {
    if (!metrics) return;
    close(metrics->file);
    free(metrics->path);
    free(metrics);
}

/* Enough for milliseconds of today's Unix seconds. */
enum { REAL_DIGITS = 13 };

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* JSON knows no bytes that are not UTF-8, as names of files may hold: they become question marks.
 */
static json_t *text_or_null(const char *text) {
    json_t *value = text ? json_string(text) : json_null();
    if (value) return value;
    char *plain = strdup(text);
    for (char *at = plain; at && *at; at++)
        if ((unsigned char)*at > 127) *at = '?';
    value = plain ? json_string(plain) : NULL;
    free(plain);
    return value;
}

static json_t *count_or_null(int value) {
    return value > 0 ? json_integer(value) : json_null();
}

/* One call, so that lines of several ranks stay whole; a disk that takes a part of it only gives
 * its reason when asked for the rest. */
static aq_status append(const aq_metrics *metrics, const char *line, size_t size) {
    while (size > 0) {
        ssize_t written = write(metrics->file, line, size);
        if (written < 0 && errno == EINTR) continue;
        AQ_REQUIRE(written > 0, AQ_IO, "%s: cannot be written: %s", metrics->path, strerror(errno));
        line += written;
        size -= (size_t)written;
    }
    return AQ_OK;
}

/* Takes `fields`, which json_pack left NULL when memory ran out. */
static aq_status write_event(const aq_metrics *metrics, const char *name, json_t *fields) {
    json_t *event = json_pack("{ss si}", "event", name, "rank", metrics->rank);
    json_t *now = json_real(round(1000 * aq_unix_seconds()) / 1000);
    bool whole = event && fields && json_object_update(event, fields) == 0 &&
                 json_object_set(event, "time", now) == 0;
    char *text = whole ? json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS)) : NULL;
    json_decref(event);
    json_decref(fields);
    json_decref(now);
    AQ_REQUIRE(text, AQ_MEMORY, "out of memory while writing %s", metrics->path);
    size_t length = strlen(text);
    text[length] = '\n'; /* where the terminating zero stood: nobody reads it as a string again */
    aq_status status = append(metrics, text, length + 1);
    free(text);
    return status;
}

static json_int_t whole(size_t value) {
    return (json_int_t)value;
}

const char *aq_stage_name(aq_stage stage) {
    static const char *const names[] = {
#define AQ_STAGE_TEXT(name, text) text,
        AQ_STAGE_LIST(AQ_STAGE_TEXT)
#undef AQ_STAGE_TEXT
    };
    return names[stage];
}

aq_status aq_metrics_start(aq_metrics *metrics, const aq_start_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields =
        json_pack("{si si ss ss sI sI}", "ranks", event->ranks, "team_size", event->team_size,
                  "backend", event->backend, "program", "aqlm-mpi " AQLM_VERSION, "blocks",
                  whole(event->blocks), "finished", whole(event->finished));
    return write_event(metrics, "start", fields);
}

aq_status aq_metrics_stage(aq_metrics *metrics, const aq_stage_event *event) {
    if (!metrics) return AQ_OK;
    json_t *block =
        event->stage == AQ_STAGE_WAITING ? json_null() : json_integer(whole(event->block));
    json_t *fields = json_pack("{so ss ss?}", "block", block, "stage", aq_stage_name(event->stage),
                               "layer", event->layer);
    return write_event(metrics, "stage", fields);
}

static json_t *numbers(const double *values, int count) {
    json_t *array = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(array, number(values[i]));
    return array;
}

aq_status aq_metrics_layer(aq_metrics *metrics, const aq_layer_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields = json_pack(
        "{sI ss so so so so si so si so}", "block", whole(event->block), "layer", event->layer,
        "error", number(event->error), "bits_per_weight", number(event->bits_per_weight), "seconds",
        number(event->seconds), "kmeans_error", number(event->kmeans_error), "rounds",
        event->rounds, "stop_round", count_or_null(event->stop_round), "retries", event->retries,
        "round_errors", numbers(event->round_errors, event->rounds));
    return write_event(metrics, "layer", fields);
}

aq_status aq_metrics_taken_up(aq_metrics *metrics, const aq_taken_up_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields = json_pack("{sI si si}", "block", whole(event->block), "layers", event->layers,
                               "epochs", event->epochs);
    return write_event(metrics, "taken_up", fields);
}

aq_status aq_metrics_epoch(aq_metrics *metrics, const aq_epoch_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields =
        json_pack("{sI si so so so}", "block", whole(event->block), "epoch", event->epoch,
                  "training_error", number(event->training_error), "validation_error",
                  number(event->validation_error), "seconds", number(event->seconds));
    return write_event(metrics, "epoch", fields);
}

aq_status aq_metrics_block(aq_metrics *metrics, const aq_block_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields = json_pack(
        "{sI so so so so si si si so so}", "block", whole(event->block), "error",
        number(event->error), "bits_per_weight", number(event->bits_per_weight), "seconds",
        number(event->seconds), "fitted_error", number(event->fitted_error), "epochs",
        event->epochs, "best_epoch", event->best_epoch, "retries", event->retries, "peak_memory",
        number(event->peak_memory), "peak_device_memory", number(event->peak_device_memory));
    return write_event(metrics, "block", fields);
}

aq_status aq_metrics_failed(aq_metrics *metrics, const aq_failed_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields =
        json_pack("{sI so}", "block", whole(event->block), "error", text_or_null(event->error));
    return write_event(metrics, "failed", fields);
}

aq_status aq_metrics_run(aq_metrics *metrics, const aq_run_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields =
        json_pack("{sI so so sI so}", "blocks", whole(event->blocks), "bits_per_weight",
                  number(event->bits_per_weight), "seconds", number(event->seconds), "files",
                  whole(event->files), "dense_forward_passes", number(event->dense_forward_passes));
    return write_event(metrics, "run", fields);
}

aq_status aq_metrics_rank(aq_metrics *metrics, const aq_rank_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields = json_pack(
        "{so so so so so so so so}", "forwarding", number(event->forwarding), "waiting",
        number(event->waiting), "quantizing", number(event->quantizing), "peak_memory",
        number(event->peak_memory), "peak_device_memory", number(event->peak_device_memory),
        "team_seconds", number(event->team_seconds), "team_bytes", number(event->team_bytes),
        "fetched_bytes", number(event->fetched_bytes));
    return write_event(metrics, "rank", fields);
}

aq_status aq_metrics_end(aq_metrics *metrics, const char *error) {
    if (!metrics) return AQ_OK;
    return write_event(metrics, "end", json_pack("{so}", "error", text_or_null(error)));
}
