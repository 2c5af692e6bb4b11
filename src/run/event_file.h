/* Reading metrics.jsonl (run/metrics.h), which others may be writing, or have died while they did.
 */
#ifndef AQ_RUN_EVENT_FILE_H
#define AQ_RUN_EVENT_FILE_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { AQ_EVENT_TEXT = 256 };

/* Calls `take` with every line that holds an object with the text "event" and the number "time", in
 * the file's order. *unreadable counts the other lines and those that `take` answers with false;
 * empty lines count as nothing, nor does a last line that lacks its end and cannot be read. A file
 * that is not there has no lines. INVALID for a file beyond 256 MiB; IO with path and reason. */
typedef bool (*aq_event_taker)(void *state, const char *event, double time, const json_t *fields);
aq_status aq_event_file_read(const char *path, aq_event_taker take, void *state,
                             size_t *unreadable);

/* Fields of an event, as far as they can be trusted: false where one is missing, of another kind or
 * out of bounds, and then *value is as it was. */
bool aq_event_count(const json_t *fields, const char *key, size_t least, size_t most,
                    size_t *value);
bool aq_event_number(const json_t *fields, const char *key, double *value);

/* A text, cut to fit; what could disturb a terminal becomes a question mark. */
bool aq_event_text(const json_t *fields, const char *key, char value[static AQ_EVENT_TEXT]);

#endif
