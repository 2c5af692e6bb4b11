#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char prefix[32];
static bool quiet;
static void (*before)(void *state);
static void *before_state;

void aq_log_prefix(const char *text) {
    snprintf(prefix, sizeof prefix, "%s", text);
}

void aq_log_quiet(bool wanted) {
    quiet = wanted;
}

void aq_log_before(void (*hook)(void *state), void *state) {
    pthread_mutex_lock(&lock);
    before = hook;
    before_state = state;
    pthread_mutex_unlock(&lock);
}

static void write_line(const char *level, const char *format, va_list arguments) {
    char line[2048];
    int used = snprintf(line, sizeof line, "%s%s", prefix, level);
    int more = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, arguments);
    int end = more < 0 ? used : used + more;
    if (end > (int)sizeof line - 2) end = (int)sizeof line - 2;
    line[end] = '\n';
    pthread_mutex_lock(&lock);
    if (before) before(before_state);
    /* One write a line; a stderr that cannot be written to has nobody to tell. */
    if (write(STDERR_FILENO, line, (size_t)end + 1) < 0) quiet = true;
    pthread_mutex_unlock(&lock);
}

void aq_log_info(const char *format, ...) {
    if (quiet) return;
    va_list arguments;
    va_start(arguments, format);
    write_line("", format, arguments);
    va_end(arguments);
}

void aq_log_warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line("warning: ", format, arguments);
    va_end(arguments);
}
