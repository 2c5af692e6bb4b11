#include "base/pulse.h"

#include <stdatomic.h>

static atomic_ullong beats;

void aq_pulse_beat(void) {
    atomic_fetch_add_explicit(&beats, 1, memory_order_relaxed);
}

uint64_t aq_pulse_count(void) {
    return atomic_load_explicit(&beats, memory_order_relaxed);
}
