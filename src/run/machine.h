/* What a machine does at most: the rates that floors are counted with (run/work.h).
 */
#ifndef AQ_RUN_MACHINE_H
#define AQ_RUN_MACHINE_H

#include "run/work.h"

/* Measures copies and products on the backend, about a second. MEMORY, DEVICE, STOPPED. */
aq_status aq_machine_measure(aq_backend *backend, aq_machine *machine);

/* One call of what is to be timed. */
typedef aq_status (*aq_timed)(void *state);

/* *seconds: the median of `repeats` calls after one that does not count, each waited for. */
aq_status aq_time_median(aq_backend *backend, aq_timed call, void *state, int repeats,
                         double *seconds);

/* The median of `count` numbers, which are sorted; 0 of none. */
double aq_median(double *numbers, int count);

#endif
