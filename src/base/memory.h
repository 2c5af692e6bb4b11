/* How much host memory this process can have: the machine's, or less where control groups limit it,
 * as Slurm and containers do.
 */
#ifndef AQ_BASE_MEMORY_H
#define AQ_BASE_MEMORY_H

#include "base/status.h"

#include <stddef.h>

/* Bytes. Free: what the kernel could give without swapping (caches that it gives up included), and
 * no more than any of the control groups (versions 1 and 2) from this process's up to the root has
 * left under its limit; total: the machine's memory, or the lowest of these limits. `root`: where
 * proc/ and sys/ lie ("" outside tests). FORMAT if /proc/meminfo cannot be read. */
aq_status aq_host_memory(const char *root, size_t *free_bytes, size_t *total_bytes);

/* The most host memory that this process has held at a time, in bytes; 0 if it is not known. */
size_t aq_host_memory_peak(void);

/* What it holds now; 0 if that is not known. */
size_t aq_host_memory_held(void);

#endif
