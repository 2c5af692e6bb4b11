#include "base/closest.h"

#include <string.h>

enum { LONGEST = 63 };

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The table of distances between prefixes, one row at a time. */
static size_t edit_distance(const char *text, const char *name) {
    size_t length = strlen(name), row[LONGEST + 1];
    for (size_t j = 0; j <= length; j++) row[j] = j;
    for (size_t i = 0; text[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            size_t replaced = diagonal + (text[i] != name[j]);
            diagonal = row[j + 1];
            row[j + 1] = smaller(replaced, smaller(row[j], row[j + 1]) + 1);
        }
    }
    return row[length];
}

const char *aq_closest(const char *text, const char *(*name)(size_t index), size_t count) {
    const char *best = NULL;
    size_t least = LONGEST;
    if (strlen(text) > LONGEST) return NULL;
    for (size_t i = 0; i < count; i++) {
        if (strlen(name(i)) > LONGEST) continue;
        size_t distance = edit_distance(text, name(i));
        if (distance >= least || 2 * distance > strlen(name(i))) continue;
        best = name(i);
        least = distance;
    }
    return best;
}
