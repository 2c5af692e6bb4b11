/* What a quantize job needs of memory and disk, counted from shapes and settings.
 *
 * One count for two uses: the check before a job starts (run/room.h) and `aqlm-mpi plan`. It adds
 * up what is allocated at the same time in each stage of a block, and so follows model/ and quant/:
 * tests/test_needs.c holds it against what the backend says was taken.
 */
#ifndef AQ_RUN_NEEDS_H
#define AQ_RUN_NEEDS_H

#include "model/shape.h"
#include "run/config.h"

/* How many processes work, and where. */
typedef struct aq_layout {
    size_t ranks, node_ranks; /* in all, on one node */
    size_t device_ranks;      /* that share one backend's memory: a GPU, or the node */
    size_t team;              /* ranks that share a block */
    bool cuda;                /* ops take scratch memory of their own there */
} aq_layout;

/* Bytes of one rank, in the backend's memory unless said otherwise. A stage's are the most that is
 * taken at a time in it: the dense block included, activations of all sequences not. */
typedef struct aq_memory_needs {
    size_t weights;  /* of one dense block */
    size_t forward;  /* tape, Gram sums */
    size_t fit;      /* of the linears that take most: solver, search, k-means, Gram matrices */
    size_t tuning;   /* gradients, tape, codes, parameters with their moments */
    size_t lanes;    /* what further lanes of fits hold from the first to the last block */
    size_t saving;   /* in host memory, a team's first member alone: the copy of tuning's state */
    size_t boundary; /* activations at one boundary, of this rank's sequences: two are held */
} aq_memory_needs;

/* Linears that are fitted at a time (run/lanes.h): run.lanes, or on a GPU four if all are small, as
 * long as the fits then take no more memory than the block's passes do, workspaces (`lanes` above)
 * left out. One in a team of several ranks, who fit each linear together. */
int aq_needs_lanes(const aq_model_shape *shape, const aq_config *config, const aq_layout *layout);

/* Bytes of the whole job's files. */
typedef struct aq_disk_needs {
    size_t blocks, gathered; /* block files; model.aqlm.h5 */
    size_t states;           /* of the blocks that are in work */
    size_t snapshot;         /* all files of one (run/snapshots.h) */
    size_t snapshots;        /* as many as there are at a time, at most */
} aq_disk_needs;

void aq_memory_needs_of(const aq_model_shape *shape, const aq_config *config,
                        const aq_layout *layout, aq_memory_needs *needs);
void aq_disk_needs_of(const aq_model_shape *shape, const aq_config *config, const aq_layout *layout,
                      aq_disk_needs *needs);

/* The most that lies in the backend's memory at a time, without activations. */
size_t aq_needs_compute(const aq_memory_needs *needs);

/* The same of a process that computes in host memory and saves tuning's state. */
size_t aq_needs_host_compute(const aq_memory_needs *needs);

size_t aq_disk_needs_total(const aq_disk_needs *needs);

/* Codes, codebooks and scales of one block as its file holds them. */
size_t aq_coded_file_bytes(const aq_model_shape *shape, const aq_scheme *scheme);

#endif
