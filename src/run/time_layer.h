/* Times the phases of a layer's fit.
 */
#ifndef AQ_RUN_TIME_LAYER_H
#define AQ_RUN_TIME_LAYER_H

#include "quant/fit_layer.h"

/* Medians, in seconds. */
typedef struct aq_layer_times {
    double kmeans;         /* all iterations of all starts and codebooks */
    double codebooks;      /* a round's steps; 0 without rounds */
    double codes;          /* a pass; likewise */
    int iterations, steps; /* of k-means, all together; of a round, on average */
} aq_layer_times;

/* Fits the layer as `settings` say (whose watch is set here), then `repeats` - 1 times more up to
 * the end of k-means: k-means is the median of `repeats`, the others those of the fit's rounds.
 * *report is the first fit's. Errors of aq_fit_layer; STOPPED. */
aq_status aq_time_layer(const aq_tensor *weight, const aq_tensor *gram,
                        const aq_fit_settings *settings, int repeats, aq_fit_report *report,
                        aq_layer_times *times);

#endif
