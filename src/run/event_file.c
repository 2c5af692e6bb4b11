#include "run/event_file.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 256 << 20 };

bool aq_event_count(const json_t *fields, const char *key, size_t least, size_t most,
                    size_t *value) {
    const json_t *found = json_object_get(fields, key);
    if (!json_is_integer(found)) return false;
    json_int_t number = json_integer_value(found);
    if (number < 0 || (size_t)number < least || (size_t)number > most) return false;
    *value = (size_t)number;
    return true;
}

bool aq_event_number(const json_t *fields, const char *key, double *value) {
    const json_t *found = json_object_get(fields, key);
    if (!json_is_number(found)) return false;
    *value = json_number_value(found);
    return true;
}

bool aq_event_text(const json_t *fields, const char *key, char value[static AQ_EVENT_TEXT]) {
    const char *found = json_string_value(json_object_get(fields, key));
    if (!found) return false;
    size_t length = strnlen(found, AQ_EVENT_TEXT - 1);
    for (size_t i = 0; i < length; i++)
        value[i] = found[i] >= ' ' && found[i] <= '~' ? found[i] : '?';
    value[length] = 0;
    return true;
}

static bool take_line(const char *line, size_t length, aq_event_taker take, void *state) {
    json_t *fields = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
    const char *event = json_string_value(json_object_get(fields, "event"));
    double time;
    bool taken =
        event && aq_event_number(fields, "time", &time) && take(state, event, time, fields);
    json_decref(fields);
    return taken;
}

static size_t take_lines(const char *text, size_t size, aq_event_taker take, void *state) {
    size_t unreadable = 0;
    for (const char *line = text, *limit = text + size; line < limit;) {
        const char *end = memchr(line, '\n', (size_t)(limit - line));
        size_t length = (size_t)((end ? end : limit) - line);
        if (length > 0 && !take_line(line, length, take, state) && end) unreadable++;
        line += length + 1;
    }
    return unreadable;
}

aq_status aq_event_file_read(const char *path, aq_event_taker take, void *state,
                             size_t *unreadable) {
    char *text;
    size_t size;
    *unreadable = 0;
    aq_status status = aq_file_read(path, FILE_LIMIT, &text, &size);
    if (status == AQ_MISSING) return AQ_OK;
    AQ_TRY(status);
    *unreadable = take_lines(text, size, take, state);
    free(text);
    return AQ_OK;
}
