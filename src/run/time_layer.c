#include "run/time_layer.h"

#include "base/stop.h"
#include "run/machine.h"

#include <stdlib.h>
#include <string.h>

/* Steps that a fit has told. */
typedef struct counts {
    int iterations, steps;
} counts;

static aq_status count_step(const aq_watch *watch, const char *phase, int done, int total) {
    counts *seen = watch->state;
    (void)done, (void)total;
    seen->iterations += strcmp(phase, "k-means") == 0;
    seen->steps += strcmp(phase, "codebooks") == 0;
    return aq_stop_check();
}

static aq_status fit(const aq_tensor *weight, const aq_tensor *gram,
                     const aq_fit_settings *settings, counts *seen, aq_fit_report *report) {
    const aq_watch watch = {.step = count_step, .state = seen};
    aq_fit_settings watched = *settings;
    aq_coded coded;
    *seen = (counts){0};
    watched.watch = &watch;
    AQ_TRY(aq_fit_layer(weight, gram, &watched, aq_team_alone(), &coded, report));
    aq_coded_free(&coded);
    return AQ_OK;
}

/* seconds[1 ..]: of k-means, fitted again without a round. */
static aq_status repeat_kmeans(const aq_tensor *weight, const aq_tensor *gram,
                               const aq_fit_settings *settings, int repeats, double *seconds) {
    aq_fit_settings start = *settings;
    aq_fit_report report;
    counts seen;
    start.rounds = 0;
    for (int i = 1; i < repeats; i++) {
        AQ_TRY(fit(weight, gram, &start, &seen, &report));
        seconds[i] = report.seconds_kmeans;
    }
    return AQ_OK;
}

static double median_of_rounds(const double *seconds, int rounds) {
    double copy[AQ_MAX_ROUNDS];
    memcpy(copy, seconds, (size_t)rounds * sizeof *copy);
    return aq_median(copy, rounds);
}

aq_status aq_time_layer(const aq_tensor *weight, const aq_tensor *gram,
                        const aq_fit_settings *settings, int repeats, aq_fit_report *report,
                        aq_layer_times *times) {
    counts seen;
    aq_status status;
    double *kmeans = malloc((size_t)repeats * sizeof *kmeans);
    AQ_NEED(kmeans, AQ_MEMORY, "no memory for %d times", repeats);
    AQ_STEP(fit(weight, gram, settings, &seen, report));
    kmeans[0] = report->seconds_kmeans;
    AQ_STEP(repeat_kmeans(weight, gram, settings, repeats, kmeans));
    *times = (aq_layer_times){
        .kmeans = aq_median(kmeans, repeats),
        .codebooks = median_of_rounds(report->round_codebooks, report->rounds),
        .codes = median_of_rounds(report->round_codes, report->rounds),
        .iterations = seen.iterations,
        .steps = report->rounds ? (seen.steps + report->rounds / 2) / report->rounds : 0};
done:
    free(kmeans);
    return status;
}
