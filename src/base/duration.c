#include "base/duration.h"

#include <stddef.h>
#include <stdio.h>

aq_duration aq_duration_of(double seconds) {
    static const struct {
        long unit;
        const char *high, *low;
    } scales[] = {{86400, "d", "h"}, {3600, "h", "m"}, {60, "m", "s"}};
    long whole = (long)(seconds + 0.5);
    aq_duration result;
    for (size_t i = 0; i < 3; i++) {
        long unit = scales[i].unit, part = i == 0 ? 3600 : unit / 60;
        if (whole < unit) continue;
        snprintf(result.text, sizeof result.text, "%ld%s%02ld%s", whole / unit, scales[i].high,
                 whole % unit / part, scales[i].low);
        return result;
    }
    snprintf(result.text, sizeof result.text, "%lds", whole);
    return result;
}
