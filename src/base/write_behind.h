/* A sealed file written beside the work: one at a time, by a thread that ends with it.
 *
 * The thread knows nothing but the bytes it is given and the file it makes of them: it calls no
 * library that is bound to one thread (HDF5, MPI, CUDA).
 */
#ifndef AQ_BASE_WRITE_BEHIND_H
#define AQ_BASE_WRITE_BEHIND_H

#include "base/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* {0}: nothing was ever written. Not to be moved while it is busy. */
typedef struct aq_write_behind {
    pthread_t thread;
    bool busy;  /* started, not waited for */
    char *path; /* owned */
    void *bytes;
    size_t size;
    aq_status status; /* of the last write */
    char text[1024];  /* its error */
} aq_write_behind;

/* Waits for the write before, and begins aq_sealed_write of `bytes` (borrowed and changed until
 * that is waited for). The failure of the write before, if that was not told yet; then nothing is
 * begun. */
aq_status aq_write_behind_start(aq_write_behind *behind, const char *path, void *bytes,
                                size_t size);

/* Waits until the write, if one was begun, has ended, and tells its failure, once. */
aq_status aq_write_behind_wait(aq_write_behind *behind);

/* Waits too, but keeps a failure to itself. */
void aq_write_behind_free(aq_write_behind *behind);

#endif
