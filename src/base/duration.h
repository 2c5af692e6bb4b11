/* Seconds as people read them. */
#ifndef AQ_BASE_DURATION_H
#define AQ_BASE_DURATION_H

typedef struct aq_duration {
    char text[64];
} aq_duration;

/* "9s", "2m10s", "3h05m", "4d11h"; seconds of at least 0 and below 1e12. */
aq_duration aq_duration_of(double seconds);

#endif
