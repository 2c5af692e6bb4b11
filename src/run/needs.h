/* What a quantize job needs of memory and disk, estimated from shapes, and whether it is there.
 *
 * The estimates name the largest simultaneous use and leave out what is small (norms, codebooks of
 * one block, libraries), so a job that passes may still run out; one that fails the check would
 * have run out for sure.
 */
#ifndef AQ_RUN_NEEDS_H
#define AQ_RUN_NEEDS_H

#include "model/shape.h"
#include "run/config.h"

/* All in bytes. */
typedef struct aq_needs {
    size_t weights;     /* of one block, dense */
    size_t forward;     /* a forward pass's tape, and Gram sums, beside the weights */
    size_t fit;         /* the largest linear's fit, with the Gram sums */
    size_t tuning;      /* gradients, tape, codes */
    size_t activations; /* at two boundaries, of all sequences */
    size_t snapshot;    /* all files of one (run/snapshots.h) */
    size_t disk;        /* block files, the gathered file and snapshots */
} aq_needs;

void aq_needs_of(const aq_model_shape *shape, const aq_config *config, aq_needs *needs);

/* The most that lies in the backend's memory at a time, without activations. */
size_t aq_needs_compute(const aq_needs *needs);

/* MEMORY, with what is needed and what is free, if `sharers` processes like this one do not fit
 * into the backend's memory (or activations into the host's). *activation_bytes: how much of the
 * backend's memory activations may take (run.device_memory, or half of this process's share; all of
 * it where the backend computes in host memory). */
aq_status aq_needs_check_memory(const aq_needs *needs, const aq_config *config, aq_backend *backend,
                                int sharers, size_t *activation_bytes);

/* IO, with both numbers, if the file system that holds `path` (or its nearest folder that exists)
 * has less room than the job's files take. */
aq_status aq_needs_check_disk(const aq_needs *needs, const char *path);

#endif
