/* How long computations tell an onlooker where they are, and ask whether to stop.
 *
 * The lower folders know neither terminals nor files of events: they call a watch, which run/
 * provides.
 */
#ifndef AQ_BASE_WATCH_H
#define AQ_BASE_WATCH_H

#include "base/status.h"

typedef struct aq_watch aq_watch;

struct aq_watch {
    /* A phase ("k-means", "codes", "tuning" ...; a static string) has done `done` of `total` steps.
     * Returns STOPPED (with its text) if the computation is to end now; callers pass that up. */
    aq_status (*step)(const aq_watch *, const char *phase, int done, int total);
    /* A tuning epoch ended (epoch 0: before the first) with these relative errors. */
    void (*epoch)(const aq_watch *, int epoch, double training_error, double validation_error,
                  double seconds);
    void *state;
};

/* The calls to use: `watch` may be NULL. */
static inline aq_status aq_watch_step(const aq_watch *watch, const char *phase, int done,
                                      int total) {
    return watch ? watch->step(watch, phase, done, total) : AQ_OK;
}

static inline void aq_watch_epoch(const aq_watch *watch, int epoch, double training_error,
                                  double validation_error, double seconds) {
    if (watch) watch->epoch(watch, epoch, training_error, validation_error, seconds);
}

#endif
