/* What a whole block costs: every layer's fit, passes and tuning, from parts that are timed
 * (run/time_whole.h runs all of it).
 *
 * Layers of one shape are timed once and count as often as they are there. Passes and optimizer
 * steps are all alike: some are timed, and stand for all. So do the first iterations and rounds of
 * a fit. Files, and waiting for other ranks, do not count.
 */
#ifndef AQ_RUN_TIME_BLOCK_H
#define AQ_RUN_TIME_BLOCK_H

#include "quant/fit_layer.h"
#include "run/synthetic.h"
#include "run/work.h"

enum { AQ_TIMED_ITERATIONS = 8, AQ_TIMED_ROUNDS = 3 };

typedef struct aq_block_subject {
    const aq_block_kind *kind; /* borrowed */
    aq_fit_settings fit;       /* of each layer: exactly its rounds */
    size_t sequences;          /* that give Gram matrices and train */
    size_t held_out;           /* besides these */
    size_t length;             /* of a sequence, tokens */
    int epochs, batch;
    aq_precision precision; /* of passes in tuning */
    int repeats;            /* of which medians are taken */
} aq_block_subject;

/* Seconds of one layer, and its relative error after the rounds that were run. */
typedef struct aq_layer_cost {
    size_t out, in, count;
    double kmeans, codebooks, codes;
    double steps; /* of all rounds' codebooks */
    double error;
    int rounds; /* that were run */
} aq_layer_cost;

typedef enum aq_block_phase {
    AQ_BLOCK_FORWARD, /* dense passes, and those that measure the result */
    AQ_BLOCK_GRAM,
    AQ_BLOCK_KMEANS,
    AQ_BLOCK_CODEBOOKS,
    AQ_BLOCK_CODES,
    AQ_BLOCK_TUNING,
    AQ_BLOCK_PHASES
} aq_block_phase;

typedef struct aq_block_cost {
    aq_layer_cost layers[AQ_LINEAR_COUNT];
    int layer_count; /* different shapes */
    double seconds[AQ_BLOCK_PHASES];
    aq_work work[AQ_BLOCK_PHASES];
} aq_block_cost;

/* The block's layers by shape, each with how many there are; times and errors 0. */
void aq_block_layers(const aq_block_kind *kind, aq_block_cost *cost);

/* The same with the work of every phase, but for the codebooks', whose steps are not known. */
void aq_block_count(const aq_block_subject *subject, aq_block_cost *cost);

/* INVALID, naming the layer's shape, if the scheme does not fit. */
aq_status aq_block_check(const aq_block_subject *subject, const aq_block_cost *cost);

/* *cost overwritten. INVALID, naming the layer's shape, if the scheme does not fit; MEMORY,
 * DEVICE, STOPPED. */
aq_status aq_time_block(aq_backend *backend, const aq_block_subject *subject, aq_block_cost *cost);

#endif
