/* The last step of writing a file: it appears under its name only when it is complete and durable.
 */
#ifndef AQ_STORE_FINISH_FILE_H
#define AQ_STORE_FINISH_FILE_H

#include "base/status.h"

/* Writes a closed file's (or a folder's entries') data through to the disk. */
aq_status aq_sync_path(const char *path);

/* Syncs `temporary`, renames it to `path` and syncs the folder of `path`. IO with the reason; then
 * `temporary` still stands. */
aq_status aq_finish_file(const char *temporary, const char *path);

#endif
