/* Who holds a run directory: the content of its lock file, and whether its process may still live.
 */
#ifndef AQ_RUN_LOCK_OWNER_H
#define AQ_RUN_LOCK_OWNER_H

#include "base/status.h"

#include <stddef.h>

enum { AQ_OWNER_TEXT = 1024, AQ_OWNER_NAME = 256, AQ_OWNER_ID = 64 };

/* Texts are empty where the system did not tell. */
typedef struct aq_lock_owner {
    char host[AQ_OWNER_NAME];
    char boot[AQ_OWNER_ID];       /* differs after every start of the host */
    char namespace_[AQ_OWNER_ID]; /* where the process id counts: containers have their own */
    char job[AQ_OWNER_ID];        /* Slurm's */
    long restarts;                /* of that job, 0 at its first start */
    long process;
    long long start;       /* of the process, in ticks since the host's start */
    double since, renewed; /* Unix seconds of the owner's clock */
} aq_lock_owner;

/* This process, from now on. */
void aq_lock_owner_self(aq_lock_owner *self);

/* One JSON object and a newline; MEMORY. The length changes with no renewal. */
aq_status aq_lock_owner_write(const aq_lock_owner *owner, char text[static AQ_OWNER_TEXT]);

/* FORMAT if it is not what aq_lock_owner_write wrote. */
aq_status aq_lock_owner_read(const char *text, size_t length, aq_lock_owner *owner);

typedef enum aq_owner_life {
    AQ_OWNER_DEAD,
    AQ_OWNER_ALIVE,
    AQ_OWNER_UNKNOWN /* on another host, or in another container: only its renewals tell */
} aq_owner_life;

/* Dead: its host was started again, its process is gone, or it belongs to an earlier start of the
 * Slurm job of `self` (which Slurm ended before it requeued the job). */
aq_owner_life aq_lock_owner_life(const aq_lock_owner *owner, const aq_lock_owner *self);

/* "process 4711 on node7 (Slurm job 12) since 2026-11-25 12:00:00 UTC" */
void aq_lock_owner_describe(const aq_lock_owner *owner, char text[static AQ_OWNER_TEXT]);

#endif
