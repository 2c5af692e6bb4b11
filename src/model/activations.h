/* Activations of all calibration sequences at one boundary between blocks.
 *
 * Kept as bfloat16 [sequences, length, hidden]: resident in the backend's memory if they fit into
 * the given share of it, else in a segment of host memory (model/segment.h), streamed in pieces; or
 * in both, so that others can have them. Where they lie never changes a result: values are rounded
 * to bfloat16 in either place.
 */
#ifndef AQ_MODEL_ACTIVATIONS_H
#define AQ_MODEL_ACTIVATIONS_H

#include "model/block.h"
#include "model/segment.h"
#include "model/tokens.h"

typedef struct aq_read_ahead aq_read_ahead;

typedef struct aq_activations {
    aq_backend *backend; /* borrowed */
    size_t sequences, length, hidden;
    aq_numbering numbering; /* of the sequences, for errors */
    aq_tensor resident;     /* BF16 [sequences, length, hidden], or empty */
    aq_segment segment; /* the same in host memory, or empty; or, if resident and not mirrored, just
                           memory that waits for use */
    bool mirrored;      /* resident, and in the segment too */
    aq_tensor staging;  /* BF16 [length, hidden], for streaming; empty if resident */
    aq_read_ahead *ahead;       /* what is on its way to be read; NULL if resident */
    aq_segment_maker *expected; /* the segment, being made; or NULL */
} aq_activations;

/* Contents undefined. `device_bytes`: keep them in the backend's memory if they need at most so
 * much, and it is there. */
aq_status aq_activations_new(aq_backend *backend, size_t sequences, size_t length, size_t hidden,
                             size_t device_bytes, aq_activations *activations);
void aq_activations_free(aq_activations *activations);

/* The bytes of all their values. */
size_t aq_activations_bytes(const aq_activations *activations);

/* Made from values that lie in `segment`, which is taken whatever is returned; the caller has
 * filled in the first four fields. Resident they are copied, and the segment is freed. SHAPE if its
 * size is not theirs. */
aq_status aq_activations_take(aq_segment *segment, size_t device_bytes,
                              aq_activations *activations);

/* Begins to make a segment for resident ones that will go to the host, beside other work. */
void aq_activations_expect_host(aq_activations *activations);

/* Afterwards they lie in the segment, too, mirrored if they are resident. Mirrored ones are not to
 * be written until aq_activations_forget_host ends that, which gives up a segment that others read.
 */
aq_status aq_activations_to_host(aq_activations *activations);
void aq_activations_forget_host(aq_activations *activations);

/* Afterwards they lie in the segment alone. */
aq_status aq_activations_leave_device(aq_activations *activations);

/* Sequences `list[0 .. count-1]` (any order) as F32 into x [count * length, hidden] (overwritten).
 */
aq_status aq_activations_read(const aq_activations *activations, const uint32_t *list, size_t count,
                              aq_tensor *x);

/* Says that these will be read next: those that lie on the host begin their way where the backend
 * can do that beside its ops; at most a micro-batch of them, of one list. Changes no result. */
aq_status aq_activations_expect(const aq_activations *activations, const uint32_t *list,
                                size_t count);

/* Stores x [count * length, hidden] as sequences first .. first + count - 1, rounded to bfloat16;
 * those that are not resident lie in the segment after the next aq_finish.
 * INVALID if they are mirrored, or their segment is another process's. */
aq_status aq_activations_write(aq_activations *activations, size_t first, size_t count,
                               const aq_tensor *x);

/* Fills in the embeddings of the tokens (the inputs of block 0). Waits. */
aq_status aq_activations_embed(aq_source *source, const aq_tokens *tokens,
                               aq_activations *activations);

/* Sequences a micro-batch holds: as many as make at most AQ_MICRO_TOKENS tokens, at least one. A
 * constant of the settings (not of free memory), so that products keep their shapes. */
enum { AQ_MICRO_TOKENS = 16384 };
size_t aq_micro_batch(size_t length);

/* Runs the block over all sequences: inputs -> outputs (may be the same object), calling the tapper
 * (or NULL) on the way with the rows of the first `tapped` sequences only; outputs do not depend on
 * either. NUMERIC if an output is NaN or infinite (naming the sequences of its micro-batch);
 * STOPPED (base/stop.h) between micro-batches. Waits. */
aq_status aq_activations_forward(const aq_block *block, const aq_activations *inputs,
                                 const aq_tapper *tapper, size_t tapped, aq_activations *outputs);

#endif
