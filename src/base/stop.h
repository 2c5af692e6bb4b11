/* The request to stop: a signal that reached this process, or the word of another process of the
 * job that one reached.
 *
 * Whoever works in steps asks aq_stop_check between them and passes STOPPED up, so that the job
 * leaves in order: what is finished stays, and the same command goes on from there.
 */
#ifndef AQ_BASE_STOP_H
#define AQ_BASE_STOP_H

#include "base/watch.h"

#include <stdbool.h>

/* SIGTERM, SIGUSR1 and SIGINT ask this process to stop from now on. A second one more than 3 s
 * after the first ends it at once, as if it had not been caught; an earlier one counts as the same
 * (launchers deliver some twice). */
void aq_stop_catch(void);

/* Asks in the place of a signal. */
void aq_stop_request(void);

bool aq_stop_wanted(void);

/* STOPPED if the job is to stop. Beats the pulse (base/pulse.h): for the main thread. */
aq_status aq_stop_check(void);

/* A watch that does nothing but aq_stop_check at every step. */
extern const aq_watch aq_stop_watch;

#endif
