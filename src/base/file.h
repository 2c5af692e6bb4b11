/* Files: mapped for reading, read whole where they are small, and replaced in one step.
 *
 * Every error text carries the path and the system's reason.
 */
#ifndef AQ_BASE_FILE_H
#define AQ_BASE_FILE_H

#include "base/status.h"

#include <stddef.h>

/* A file's bytes as they lie on disk, read-only. */
typedef struct aq_map {
    const unsigned char *bytes; /* NULL for an empty file */
    size_t size;
} aq_map;

/* Maps a regular file; nothing is read yet. Who reads what another process has cut off meanwhile
 * gets SIGBUS (base/map_table.h). MISSING if there is none, IO otherwise. */
aq_status aq_file_map(const char *path, aq_map *map);
void aq_file_unmap(aq_map *map);

/* Gives the memory behind a part of a mapped file back to the system; the bytes are read from the
 * file again when they are next used. Whole pages inside the part only. */
void aq_file_forget(const void *bytes, size_t size);

/* Reads a whole file into *bytes (the caller frees it), with a zero byte behind its last one.
 * MISSING if there is none, INVALID if it is longer than `limit`, IO otherwise. */
aq_status aq_file_read(const char *path, size_t limit, char **bytes, size_t *size);

/* Makes a folder with its parents; fine if it is there. IO with path and reason. */
aq_status aq_file_make_folder(const char *path);

/* Removes a folder and the files in it (folders in it make it fail); fine if it is not there. */
aq_status aq_file_remove_folder(const char *path);

/* Joins folder and name with a slash into *path (the caller frees it). */
aq_status aq_file_join(const char *folder, const char *name, char **path);

/* A file that must never be seen half-written is written under the name that aq_file_temporary
 * makes for it (the caller frees it; this process's own, since a rank may outlive its killed job
 * for a moment and must not write into its successor's files), in the same folder, and then
 * committed: flushed to the disk, renamed to `path` over what may be there, and the folder flushed.
 * After a failed commit no temporary file remains, and `path` is as it was unless the text says
 * that the folder could not be flushed. */
aq_status aq_file_temporary(const char *path, char **temporary);
aq_status aq_file_commit(const char *temporary, const char *path);

/* Writes a file in pieces, without any of that: creates or empties it, adds bytes at its end, and
 * closes it. `status` is how the writing went, and what closing returns unless that fails itself;
 * after either failure the file is removed. */
aq_status aq_file_create(const char *path, int *file);
aq_status aq_file_append(int file, const char *path, const void *bytes, size_t size);
aq_status aq_file_close(int file, const char *path, aq_status status);

/* The same in one call. */
aq_status aq_file_write(const char *path, const void *bytes, size_t size);

/* Makes `path` hold exactly these bytes, by aq_file_temporary and aq_file_commit. */
aq_status aq_file_replace(const char *path, const void *bytes, size_t size);

#endif
