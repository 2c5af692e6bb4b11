/* metrics.jsonl: what happened in a run, one JSON object a line, for people's own tools.
 *
 * Several processes append to the same file, and every run of a directory goes on where the one
 * before it ended: every event is one write on a descriptor opened for appending, so lines never
 * mix. NaN and infinity become null. Fields stand in the order of the structs below, between
 * "event", "rank" and "time" (Unix seconds). run/run_status.h reads the file.
 */
#ifndef AQ_RUN_METRICS_H
#define AQ_RUN_METRICS_H

#include "base/status.h"

#include <stddef.h>

typedef struct aq_metrics aq_metrics;

/* Opens `path` for appending, making it if need be; `rank` stands in every event. A last line that
 * an earlier run left torn is ended first. IO with path and reason. Freed with aq_metrics_close.
 * Everywhere below NULL metrics are fine: nothing is written.
 */
aq_status aq_metrics_open(const char *path, int rank, aq_metrics **metrics);
void aq_metrics_close(aq_metrics *metrics);

/* event "start": a run begins, on rank 0, before any block. */
typedef struct aq_start_event {
    int ranks, team_size;
    const char *backend;
    size_t blocks, finished; /* of the model; of them, by earlier runs */
} aq_start_event;
aq_status aq_metrics_start(aq_metrics *metrics, const aq_start_event *event); /* and the program */

/* What a rank does with a block; WAITING belongs to none. */
#define AQ_STAGE_LIST(X)                                                                           \
    X(WAITING, "waiting") /* for a block, or for the other ranks at the end */                     \
    X(INPUTS, "inputs")   /* receiving, and forward passes up to the block */                      \
    X(FORWARD, "forward") /* its dense outputs and Gram matrices */                                \
    X(FIT, "fit")         /* of one linear */                                                      \
    X(TUNING, "tuning")                                                                            \
    X(WRITING, "writing") /* the last measurement, and the file */

typedef enum aq_stage {
#define AQ_STAGE_ENUM(name, text) AQ_STAGE_##name,
    AQ_STAGE_LIST(AQ_STAGE_ENUM)
#undef AQ_STAGE_ENUM
        AQ_STAGE_COUNT
} aq_stage;

/* "fit" */
const char *aq_stage_name(aq_stage stage);

/* event "stage": a rank enters a stage of a block; the first one is the block's start. */
typedef struct aq_stage_event {
    size_t block; /* null in WAITING */
    aq_stage stage;
    const char *layer; /* of AQ_STAGE_FIT; NULL becomes null */
} aq_stage_event;
aq_status aq_metrics_stage(aq_metrics *metrics, const aq_stage_event *event);

/* event "layer": a linear was fitted. */
typedef struct aq_layer_event {
    size_t block;
    const char *layer; /* "self_attn.q_proj" */
    double error, bits_per_weight, seconds;
    double kmeans_error;
    int rounds, stop_round, retries; /* stop_round 0 (the rule never fired) becomes null */
    const double *round_errors;      /* [rounds], after each */
} aq_layer_event;
aq_status aq_metrics_layer(aq_metrics *metrics, const aq_layer_event *event);

/* event "taken_up": so much of a block was done by an earlier process. */
typedef struct aq_taken_up_event {
    size_t block;
    int layers, epochs; /* linears fitted; of tuning */
} aq_taken_up_event;
aq_status aq_metrics_taken_up(aq_metrics *metrics, const aq_taken_up_event *event);

/* event "epoch": block tuning went through its sequences once (epoch 0: before the first). */
typedef struct aq_epoch_event {
    size_t block;
    int epoch;
    double training_error, validation_error, seconds;
} aq_epoch_event;
aq_status aq_metrics_epoch(aq_metrics *metrics, const aq_epoch_event *event);

/* event "block": a block's file is written, and its rank free again. */
typedef struct aq_block_event {
    size_t block;
    double error; /* of what is in the file */
    double bits_per_weight, seconds;
    double fitted_error; /* before tuning */
    int epochs, best_epoch, retries;
    double peak_memory;        /* bytes of host memory that the process has held at most */
    double peak_device_memory; /* of the GPU's (aq_backend_peak); NaN without one */
} aq_block_event;
aq_status aq_metrics_block(aq_metrics *metrics, const aq_block_event *event);

/* event "failed": a block could not be made, for this reason. */
typedef struct aq_failed_event {
    size_t block;
    const char *error;
} aq_failed_event;
aq_status aq_metrics_failed(aq_metrics *metrics, const aq_failed_event *event);

/* event "run": the gathered file is written. */
typedef struct aq_run_event {
    size_t blocks;
    double bits_per_weight, seconds;
    size_t files;                /* written */
    double dense_forward_passes; /* over the whole model, of all ranks together */
} aq_run_event;
aq_status aq_metrics_run(aq_metrics *metrics, const aq_run_event *event);

/* event "rank": what a rank did in a run that has ended or was stopped. */
typedef struct aq_rank_event {
    double forwarding, waiting, quantizing; /* seconds */
    double peak_memory, peak_device_memory; /* as in aq_block_event */
    double team_seconds, team_bytes; /* of the above, in calls of a team; what it passed on */
    double fetched_bytes;            /* of activations, from other ranks */
} aq_rank_event;
aq_status aq_metrics_rank(aq_metrics *metrics, const aq_rank_event *event);

/* event "end": a run ends, on rank 0, having finished (error NULL, which becomes null) or for this
 * reason. A run that was killed has none. */
aq_status aq_metrics_end(aq_metrics *metrics, const char *error);

#endif
