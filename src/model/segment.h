/* A segment: host memory that other processes of the same node can map.
 *
 * It is an anonymous file (memfd_create): it has no name in any file system and is gone with the
 * last process that maps it, however that process ends. Another process reaches it through /proc,
 * and believes what it finds there only if device, inode, size and a random token agree: process
 * numbers mean something else in another container.
 */
#ifndef AQ_MODEL_SEGMENT_H
#define AQ_MODEL_SEGMENT_H

#include "tensor/ops.h"

enum { AQ_SEGMENT_TOKEN = 16 };

typedef struct aq_segment {
    aq_backend *backend; /* borrowed */
    void *data;          /* NULL: the empty segment */
    size_t bytes;        /* of data */
    int file;            /* descriptor of the memory's owner */
    bool shared;         /* maps another process's segment: only to be read */
    bool pinned;
} aq_segment;

/* What another process needs to map it; plain bytes, to be sent in a message. */
typedef struct aq_segment_name {
    long process;
    int file;
    uint64_t device, inode, bytes;
    unsigned char token[AQ_SEGMENT_TOKEN];
} aq_segment_name;

/* Contents undefined; not pinned. MEMORY if it is not to be had (with what was asked for). */
aq_status aq_segment_new(aq_backend *backend, size_t bytes, aq_segment *segment);

/* The same beside other work: its pages take a large one a tenth of a second a gigabyte. NULL: it
 * could not be begun. */
typedef struct aq_segment_maker aq_segment_maker;
aq_segment_maker *aq_segment_begin(aq_backend *backend, size_t bytes);

/* Waits for it and frees the maker (NULL is fine); the segment is empty if it was not to be had. */
void aq_segment_end(aq_segment_maker *maker, aq_segment *segment);

/* Unmaps it; whoever else maps it keeps it. Waits for the backend's transfers. Empties it. */
void aq_segment_free(aq_segment *segment);

/* The name under which others find a segment that this process has made. IO. */
aq_status aq_segment_describe(const aq_segment *segment, aq_segment_name *name);

/* Maps the segment of that name; its `shared` is true, and it is not pinned. MISSING if it cannot
 * be reached from here or is not the one that was named. */
aq_status aq_segment_map(aq_backend *backend, const aq_segment_name *name, aq_segment *segment);

/* For one that is read piece by piece, again and again: transfers need no thread of the host's any
 * more, nor wait. Takes a fifth of a second a gigabyte; warns where it cannot be. */
void aq_segment_pin(aq_segment *segment);

/* Whether it is another process's, or another process maps it. */
bool aq_segment_is_read(const aq_segment *segment);

#endif
