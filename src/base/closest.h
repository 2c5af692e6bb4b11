/* Which known name a misspelt one may have meant. */
#ifndef AQ_BASE_CLOSEST_H
#define AQ_BASE_CLOSEST_H

#include <stddef.h>

/* The name of least edit distance (Levenshtein 1966; the first one on ties) from `text`, or NULL if
 * even that one differs in more than half of its letters. `name` returns the i-th of `count` known
 * names. */
const char *aq_closest(const char *text, const char *(*name)(size_t index), size_t count);

#endif
