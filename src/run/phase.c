#include "run/phase.h"

const char *aq_phase_name(aq_phase phase) {
    static const char *const names[] = {
#define AQ_PHASE_TEXT(name, text) text,
        AQ_PHASE_LIST(AQ_PHASE_TEXT)
#undef AQ_PHASE_TEXT
    };
    return names[phase];
}

void aq_phases_add(const aq_phases *more, aq_phases *sum) {
    for (int i = 0; i < AQ_PHASE_COUNT; i++) sum->seconds[i] += more->seconds[i];
}

double aq_phases_total(const aq_phases *phases) {
    double total = 0;
    for (int i = 0; i < AQ_PHASE_COUNT; i++) total += phases->seconds[i];
    return total;
}
