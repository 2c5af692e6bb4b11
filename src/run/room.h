/* Whether there is room for a quantize job on this machine: checked before anything is computed.
 */
#ifndef AQ_RUN_ROOM_H
#define AQ_RUN_ROOM_H

#include "run/needs.h"

/* MEMORY, with what is needed and what is free, if the processes that share the backend's memory do
 * not fit into it, or the activations of the node's into the host's. *activation_bytes:
 * how much of the backend's memory this process's activations may take (run.device_memory, or half
 * of its share; all of it where the backend computes in host memory). */
aq_status aq_room_check_memory(const aq_memory_needs *needs, const aq_layout *layout,
                               const aq_config *config, aq_backend *backend,
                               size_t *activation_bytes);

/* What the file system that holds `path` (or its nearest folder that exists) has left; SIZE_MAX if
 * that is not known. */
size_t aq_room_on_disk(const char *path);

/* IO, with both numbers, if the file system that holds `path` (or its nearest folder that exists)
 * has less room than `bytes`. */
aq_status aq_room_check_disk(size_t bytes, const char *path);

/* Host memory that the boundaries of `node_ranks` take together: what one rank makes, the next of
 * the same node reads where it lies. `resident`: they work on a GPU's copies, and only what is
 * offered to others lies in host memory. */
size_t aq_room_host_boundaries(const aq_memory_needs *needs, const aq_layout *layout,
                               bool resident);

#endif
