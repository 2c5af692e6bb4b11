/* How fast a machine does the steps of a quantize job: for estimates of time only.
 *
 * Most steps cost a constant (launches, waiting for threads) and something that grows with the
 * work. Built-in rates serve where nobody has measured; `aqlm-mpi bench rates` measures
 * (run/measure_rates.h) and writes them as a JSON file (docs/file-formats.md).
 */
#ifndef AQ_RUN_RATES_H
#define AQ_RUN_RATES_H

#include "base/status.h"

#include <jansson.h>

enum { AQ_DEVICE_NAME = 128, AQ_MANY_ENTRIES = 4096 };

/* Seconds; work a second; bytes. A score is one entry's distance from one vector, in dimensions
 * (vectors x entries x dimensions). */
typedef struct aq_rates {
    char device[AQ_DEVICE_NAME], backend[16];
    double kmeans_step, kmeans_scores;               /* an iteration */
    double kmeans_scores_many, codes_scores_many;    /* from AQ_MANY_ENTRIES on; 0: the same */
    double codebooks_step, codebooks_flops;          /* a step of conjugate gradients on a layer */
    double precise_flops;                            /* products in float32 */
    double codes_step, codes_scores, residual_flops; /* a column group of a code pass */
    double forward_step, forward_flops;              /* a micro-batch */
    double training_step, training_flops;            /* a micro-batch, forward and backward */
    double update_step, copy_bytes;                  /* a step of Adam on a block; copies */
    double gram_flops;
    double device_memory;  /* of a GPU; 0: the node's */
    double process_memory; /* host memory of a process at work, besides its tensors and MPI's */
} aq_rates;

/* The built-in rates of a GPU by a part of its name ("h100", whatever the case) or a longer
 * name ("NVIDIA H100 80GB HBM3"), or of "cpu"; INVALID listing the names there are. */
aq_status aq_rates_built_in(const char *name, aq_rates *rates);

/* Reads a file of rates. FORMAT, MISSING with path and key. */
aq_status aq_rates_read(const char *path, aq_rates *rates);

/* The same as JSON (the caller's); NULL if there is no memory. */
json_t *aq_rates_json(const aq_rates *rates);

#endif
