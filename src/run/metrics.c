#include "run/metrics.h"

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

aq_status aq_metrics_open(const char *path, int rank, aq_metrics **metrics) {
    aq_metrics *opened = malloc(sizeof *opened);
    char *kept = strdup(path);
    int file = opened && kept ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (file < 0) {
        aq_status status = opened && kept ? AQ_FAIL(AQ_IO, "%s: cannot be opened for appending: %s",
                                                    path, strerror(errno))
                                          : AQ_FAIL(AQ_MEMORY, "out of memory");
        free(opened);
        free(kept);
        return status;
    }
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

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *count_or_null(int value) {
    return value > 0 ? json_integer(value) : json_null();
}

static aq_status append(const aq_metrics *metrics, const char *line, size_t size) {
    ssize_t written = write(metrics->file, line, size);
    AQ_REQUIRE(written >= 0, AQ_IO, "%s: cannot be written: %s", metrics->path, strerror(errno));
    AQ_REQUIRE((size_t)written == size, AQ_IO, "%s: only %zd of %zu bytes could be written",
               metrics->path, written, size);
    return AQ_OK;
}

/* Takes `fields`, which json_pack left NULL when memory ran out. */
static aq_status write_event(const aq_metrics *metrics, const char *name, json_t *fields) {
    json_t *event = json_pack("{ss si}", "event", name, "rank", metrics->rank);
    bool whole = event && fields && json_object_update(event, fields) == 0;
    char *text = whole ? json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(event);
    json_decref(fields);
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

aq_status aq_metrics_layer(aq_metrics *metrics, const aq_layer_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields = json_pack(
        "{sI ss so so so so si so si}", "block", whole(event->block), "layer", event->layer,
        "error", number(event->error), "bits_per_weight", number(event->bits_per_weight), "seconds",
        number(event->seconds), "kmeans_error", number(event->kmeans_error), "rounds",
        event->rounds, "stop_round", count_or_null(event->stop_round), "retries", event->retries);
    return write_event(metrics, "layer", fields);
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
    json_t *fields = json_pack("{sI so so so so si si si}", "block", whole(event->block), "error",
                               number(event->error), "bits_per_weight",
                               number(event->bits_per_weight), "seconds", number(event->seconds),
                               "fitted_error", number(event->fitted_error), "epochs", event->epochs,
                               "best_epoch", event->best_epoch, "retries", event->retries);
    return write_event(metrics, "block", fields);
}

aq_status aq_metrics_run(aq_metrics *metrics, const aq_run_event *event) {
    if (!metrics) return AQ_OK;
    json_t *fields = json_pack("{sI so so sI}", "blocks", whole(event->blocks), "bits_per_weight",
                               number(event->bits_per_weight), "seconds", number(event->seconds),
                               "files", whole(event->files));
    return write_event(metrics, "run", fields);
}
