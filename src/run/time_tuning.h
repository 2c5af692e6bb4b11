/* Times the steps of block tuning on one sequence.
 */
#ifndef AQ_RUN_TIME_TUNING_H
#define AQ_RUN_TIME_TUNING_H

#include "run/machine.h"

typedef struct aq_tuning_subject {
    const aq_model_shape *shape; /* borrowed */
    aq_scheme scheme;
    aq_precision precision; /* of the passes */
    size_t length;          /* of the sequence, tokens */
} aq_tuning_subject;

/* Medians, in seconds. */
typedef struct aq_tuning_times {
    double decode;   /* all linears, once an optimizer step */
    double forward;  /* a sequence */
    double passes;   /* a sequence forward and backward */
    double backward; /* the difference of the two */
    double update;   /* gradients by codebooks and scales, and Adam: once an optimizer step */
} aq_tuning_times;

/* A block with random weights, codes and codebooks, each step `repeats` times after one that does
 * not count. MEMORY; INVALID if the scheme fits a linear not; STOPPED. */
aq_status aq_time_tuning(aq_backend *backend, const aq_tuning_subject *subject, int repeats,
                         aq_tuning_times *times);

#endif
