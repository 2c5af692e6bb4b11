/* A folder that appears under its name only when it is complete: its files are written into a
 * temporary folder beside it.
 */
#ifndef AQ_STORE_NEW_FOLDER_H
#define AQ_STORE_NEW_FOLDER_H

#include "base/status.h"

typedef struct aq_new_folder {
    char *path, *temporary; /* owned */
} aq_new_folder;

/* INVALID if `path` is there and is not an empty folder. */
aq_status aq_new_folder_check(const char *path);

/* Makes the temporary folder; IO with the reason. */
aq_status aq_new_folder_begin(const char *path, aq_new_folder *folder);

/* Flushes the folder and gives it its name; after a failure it is abandoned. The files in it are
 * flushed by whoever wrote them. */
aq_status aq_new_folder_commit(aq_new_folder *folder);

/* Removes the temporary folder with its files. */
void aq_new_folder_abandon(aq_new_folder *folder);

#endif
