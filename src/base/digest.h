/* SHA-256 digests, and files that have theirs beside them.
 *
 * A file NAME that is committed through this header has NAME.sha256 beside it, a line that
 * `sha256sum -c` reads in the same folder. The digest is renamed into place before its file, and
 * while a file replaces an older one its digest holds both lines, so that a crash at any moment
 * leaves a file that matches, never a damaged one that does.
 */
#ifndef AQ_BASE_DIGEST_H
#define AQ_BASE_DIGEST_H

#include "base/watch.h"

#include <stdbool.h>
#include <stddef.h>

enum { AQ_DIGEST_SIZE = 65 }; /* 64 hexadecimal digits and the end */

aq_status aq_digest_bytes(const void *bytes, size_t size, char digest[static AQ_DIGEST_SIZE]);

/* Of a whole file, read in pieces with `watch` (may be NULL) stepping between them. MISSING if
 * there is none, else IO with path and reason; STOPPED. */
aq_status aq_digest_file(const char *path, const aq_watch *watch,
                         char digest[static AQ_DIGEST_SIZE]);

/* The same by several threads: the SHA-256 of the SHA-256s (32 bytes each) of its pieces of 64 MiB.
 */
aq_status aq_digest_tree(const char *path, const aq_watch *watch,
                         char digest[static AQ_DIGEST_SIZE]);

/* Commits a file as aq_file_commit does, with its digest. After a failure no temporary file
 * remains, and what stood under `path` still matches its digest. */
aq_status aq_digest_commit(const char *temporary, const char *path, const aq_watch *watch);

/* Makes `path` hold exactly these bytes, with their digest; a file that holds them already and
 * matches its digest is left alone. */
aq_status aq_digest_replace(const char *path, const void *bytes, size_t size);

/* FORMAT if the file does not match the digest beside it (or that is no digest); *known tells
 * whether one is there. MISSING if the file is not there. */
aq_status aq_digest_verify(const char *path, const aq_watch *watch, bool *known);

/* Removes a file and then its digest; fine if they are not there. */
aq_status aq_digest_remove(const char *path);

/* Renames a file to NAME.`mark` (or NAME.mark-2, -3 ... if that is taken) and removes its digest;
 * *new_name is the caller's to free. IO with path and reason. */
aq_status aq_digest_set_aside(const char *path, const char *mark, char **new_name);

#endif
