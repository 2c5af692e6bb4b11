/* Seconds for reports; never an input of a computation. */
#ifndef AQ_BASE_CLOCK_H
#define AQ_BASE_CLOCK_H

#include <time.h>

/* Seconds since 1970 (Unix time), by the system's clock. */
static inline double aq_unix_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Monotonic seconds since an arbitrary moment. */
static inline double aq_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
