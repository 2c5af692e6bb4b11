/* metrics.jsonl: what happened in a run, one JSON object a line, for people's own tools.
 *
 * Several processes append to the same file: every event is one write on a descriptor opened for
 * appending, so lines never mix. NaN and infinity become null. Fields stand in the order of the
 * structs below, after "event" and "rank".
 */
#ifndef AQ_RUN_METRICS_H
#define AQ_RUN_METRICS_H

#include "base/status.h"

#include <stddef.h>

typedef struct aq_metrics aq_metrics;

/* Opens `path` for appending, making it if need be; `rank` stands in every event. IO with path and
 * reason. Freed with aq_metrics_close. Everywhere below NULL metrics are fine: nothing is written.
 */
aq_status aq_metrics_open(const char *path, int rank, aq_metrics **metrics);
void aq_metrics_close(aq_metrics *metrics);

/* event "layer": a linear was fitted. */
typedef struct aq_layer_event {
    size_t block;
    const char *layer; /* "self_attn.q_proj" */
    double error, bits_per_weight, seconds;
    double kmeans_error;
    int rounds, stop_round, retries; /* stop_round 0 (the rule never fired) becomes null */
} aq_layer_event;
aq_status aq_metrics_layer(aq_metrics *metrics, const aq_layer_event *event);

/* event "epoch": block tuning went through its sequences once (epoch 0: before the first). */
typedef struct aq_epoch_event {
    size_t block;
    int epoch;
    double training_error, validation_error, seconds;
} aq_epoch_event;
aq_status aq_metrics_epoch(aq_metrics *metrics, const aq_epoch_event *event);

/* event "block": a block's file is written. */
typedef struct aq_block_event {
    size_t block;
    double error; /* of what is in the file */
    double bits_per_weight, seconds;
    double fitted_error; /* before tuning */
    int epochs, best_epoch, retries;
} aq_block_event;
aq_status aq_metrics_block(aq_metrics *metrics, const aq_block_event *event);

/* event "run": the gathered file is written. */
typedef struct aq_run_event {
    size_t blocks;
    double bits_per_weight, seconds;
    size_t files; /* written */
} aq_run_event;
aq_status aq_metrics_run(aq_metrics *metrics, const aq_run_event *event);

#endif
