/* The lock of a run directory: at most one job works there.
 *
 *     RUN/lock   who holds it (run/lock_owner.h), one JSON object, renewed every 10 s
 *
 * The file is made in one step that only one of several jobs can take (a hard link to a file that
 * is complete; where the file system has none, an exclusive creation). A lock is taken over from an
 * owner that is dead; on another host that is one whose file does not change for 60 s, of which at
 * least 15 s are watched: the clocks of two hosts are not compared. Of several that take over at
 * once one wins. An owner that was suspended so long that its lock was taken learns it at its next
 * renewal and stops.
 */
#ifndef AQ_RUN_LOCK_H
#define AQ_RUN_LOCK_H

#include "run/lock_owner.h"

#include <stdbool.h>

typedef struct aq_lock aq_lock;

typedef struct aq_lock_settings {
    const char *folder;       /* the run directory, which exists */
    bool broken;              /* take it from whoever holds it */
    double renewal;           /* seconds; 0: 10 */
    double silence, watching; /* seconds without renewal that tell a death, and those of them that
                                 must be watched; 0: 60 and 15 */
} aq_lock_settings;

/* Takes the lock and keeps it renewed by a thread. INVALID if another job holds it, naming it; IO
 * with path and reason; STOPPED if the job is to stop while an owner is watched. */
aq_status aq_lock_take(const aq_lock_settings *settings, aq_lock **lock);

/* Ends the thread and removes the file. INVALID if the lock was lost meanwhile to another job,
 * which this job must not pass over: the thread has called aq_stop_request then. NULL is fine. */
aq_status aq_lock_release(aq_lock *lock);

#endif
