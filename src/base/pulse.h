/* The pulse of this process: how often its main thread has taken a step, for whoever watches that
 * it does not hang.
 *
 * Every aq_stop_check and every turn of a wait that is in order count. Threads that only attend to
 * the main thread must not beat for it.
 */
#ifndef AQ_BASE_PULSE_H
#define AQ_BASE_PULSE_H

#include <stdint.h>

void aq_pulse_beat(void);
uint64_t aq_pulse_count(void);

#endif
