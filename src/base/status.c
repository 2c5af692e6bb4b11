#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_SIZE = 1024, SOURCE_SIZE = 128 };

static _Thread_local char last_text[TEXT_SIZE];
static _Thread_local char last_source[SOURCE_SIZE];

const char *aq_status_name(aq_status code) {
    switch (code) {
#define AQ_STATUS_CASE(name, text)                                                                 \
    case AQ_##name:                                                                                \
        return #name;
        AQ_STATUS_LIST(AQ_STATUS_CASE)
#undef AQ_STATUS_CASE
    }
    return "UNKNOWN";
}

/* File names and keys come from outside: they must not break the line or drive the terminal. */
static void keep_one_line(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

aq_status aq_raise(aq_status code, const char *file, int line, const char *format, ...) {
    /* Arguments may point into the old text. */
    char text[TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    keep_one_line(text);
    memcpy(last_text, text, sizeof last_text);
    const char *name = strrchr(file, '/');
    snprintf(last_source, sizeof last_source, "%s:%d", name ? name + 1 : file, line);
    return code;
}

aq_status aq_error_at(aq_status code, const char *format, ...) {
    char place[TEXT_SIZE], text[TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(place, sizeof place, format, arguments);
    va_end(arguments);
    keep_one_line(place);
    snprintf(text, sizeof text, "%s", place);
    strncat(text, ": ", sizeof text - strlen(text) - 1);
    strncat(text, last_text, sizeof text - strlen(text) - 1);
    memcpy(last_text, text, sizeof last_text);
    return code;
}

const char *aq_error_text(void) {
    return last_text;
}

const char *aq_error_source(void) {
    return last_source;
}
