/* The lock's file: made, read, taken away and renewed, each in one step that races cannot split.
 */
#ifndef AQ_RUN_LOCK_FILE_H
#define AQ_RUN_LOCK_FILE_H

#include "run/lock_owner.h"

#include <stdbool.h>

typedef struct aq_lock_file {
    char *path, *own;    /* owned: RUN/lock, and a name beside it that no other job uses */
    int file;            /* this job's lock, or -1 */
    aq_lock_owner owner; /* this job */
} aq_lock_file;

aq_status aq_lock_file_open(const char *folder, aq_lock_file *lock);
void aq_lock_file_close(aq_lock_file *lock);

/* *made: the lock is this job's. False if there is one already. */
aq_status aq_lock_file_make(aq_lock_file *lock, bool *made);

/* What the lock's file says, and for how many seconds it has not changed, by the clock of the file
 * system. MISSING if there is none. */
typedef struct aq_lock_look {
    char text[AQ_OWNER_TEXT];
    double age;
} aq_lock_look;
aq_status aq_lock_file_look(const aq_lock_file *lock, aq_lock_look *look);

/* Removes another job's lock if it still says what was looked at; else it stays. */
aq_status aq_lock_file_remove(const aq_lock_file *lock, const aq_lock_look *look);

/* Whether the lock's file is gone, or no more the one that this job made. False while the file
 * system cannot tell. */
bool aq_lock_file_lost(const aq_lock_file *lock);

/* Writes the time into this job's file, which may be no more the lock's: that harms nobody. */
void aq_lock_file_renew(aq_lock_file *lock);

#endif
