/* Which file is mapped where, for a signal handler: reading what another process has cut off from a
 * mapped file, or what its storage cannot deliver, ends in SIGBUS (jobs/map_fault.c).
 */
#ifndef AQ_BASE_MAP_TABLE_H
#define AQ_BASE_MAP_TABLE_H

#include <stddef.h>
#include <stdint.h>

enum { AQ_MAP_PATH = 400 }; /* bytes that are kept of a path, with its zero */

/* Notes a map (aq_file_map does); forgets it before it is unmapped. From any thread; maps past the
 * first 256 are not noted. */
void aq_map_note(const void *bytes, size_t size, const char *path);
void aq_map_forget(const void *bytes);

/* The file that is mapped at this address, NULL if none is noted there. Async-signal-safe. */
const char *aq_map_path(uintptr_t address);

#endif
