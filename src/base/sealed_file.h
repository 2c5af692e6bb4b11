/* Small files in one piece that hold their own digest: the last AQ_SEAL bytes are the SHA-256, in
 * hexadecimal digits, of all bytes before them.
 *
 * Made for what is written often: one pass over the memory, one file, two flushes, where a file
 * with its digest beside it (base/digest.h) takes another reading and six.
 */
#ifndef AQ_BASE_SEALED_FILE_H
#define AQ_BASE_SEALED_FILE_H

#include "base/status.h"

#include <stddef.h>

enum { AQ_SEAL = 64 };

/* Makes `path` hold exactly these bytes, whose last AQ_SEAL are set here, by aq_file_temporary and
 * aq_file_commit. IO with path and reason: then an older file is as it was. */
aq_status aq_sealed_write(const char *path, void *bytes, size_t size);

/* Reads the file of exactly `size` bytes into *bytes (the caller frees it). MISSING if there is
 * none; FORMAT if it is of another size or does not match its seal; else IO. */
aq_status aq_sealed_read(const char *path, size_t size, char **bytes);

#endif
