#include "base/random.h"

#include <math.h>

void aq_random_order(uint64_t seed, uint64_t stream, uint32_t count, uint32_t *order) {
    for (uint32_t i = 0; i < count; i++) order[i] = i;
    aq_random_shuffle(seed, stream, count, order);
}

void aq_random_shuffle(uint64_t seed, uint64_t stream, uint32_t left, uint32_t *order) {
    for (; left > 1; left--) {
        uint32_t pick = aq_random_pick(seed, stream, left), kept = order[left - 1];
        order[left - 1] = order[pick];
        order[pick] = kept;
    }
}

double aq_random_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    const double two_pi = 6.283185307179586;
    double radius = ((double)(aq_random(seed, stream, 2 * index) >> 11) + 1.0) * 0x1p-53;
    double angle = (double)(aq_random(seed, stream, 2 * index + 1) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(radius)) * cos(two_pi * angle);
}
