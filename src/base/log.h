/* What the user sees while a job works: lines on stderr.
 *
 * stdout carries results only. Lines are "level: text" (info lines carry no level) and are written
 * whole, so that lines of several ranks do not mix. A live progress line, if one stands, is cleared
 * first and drawn again by its owner (see run/progress.h).
 */
#ifndef AQ_BASE_LOG_H
#define AQ_BASE_LOG_H

#include <stdbool.h>

/* Sets the prefix of every line ("" or "rank 3: "); kept by copy, at most 31 bytes. */
void aq_log_prefix(const char *prefix);

/* Silences info lines (warnings still appear). */
void aq_log_quiet(bool quiet);

__attribute__((format(printf, 1, 2))) void aq_log_info(const char *format, ...);
__attribute__((format(printf, 1, 2))) void aq_log_warn(const char *format, ...);

/* `hook` is called with `state` before a line is written, so that a live progress line can clear
 * itself; NULL: nobody. */
void aq_log_before(void (*hook)(void *state), void *state);

#endif
