/* The tape: what a block's forward pass keeps for its backward pass.
 *
 * One set of buffers serves passes of any size up to the one it was made for. The backward pass
 * uses the buffers up: as soon as a value has been read for the last time, its buffer takes the
 * next gradient, so that tuning needs no second set.
 */
#ifndef AQ_MODEL_TAPE_H
#define AQ_MODEL_TAPE_H

#include "model/shape.h"
#include "tensor/ops.h"

typedef struct aq_tape {
    aq_tensor x, x2;                  /* [T, hidden]: input; after attention */
    aq_tensor inverse[AQ_NORM_COUNT]; /* [T] */
    aq_tensor taps[AQ_TAP_COUNT];     /* inputs of the linears: h1, attention out, h2, gated */
    aq_tensor q, k, v;                /* after rotation */
    aq_tensor log_sums;               /* [sequences, heads, length] */
    aq_tensor gate, up;               /* before the gate */
} aq_tape;

/* Floats that a tape has for one token. */
size_t aq_tape_width(const aq_model_shape *shape);

/* Makes buffers for passes of up to sequences * length tokens; contents undefined. MEMORY if they
 * do not fit. */
aq_status aq_tape_new(const aq_model_shape *shape, size_t sequences, size_t length,
                      aq_backend *backend, aq_tape *tape);
void aq_tape_free(aq_tape *tape);

/* Views of the buffers in the shapes above for T = sequences * length (*pass is not freed). SHAPE
 * if the tape was made for fewer tokens. */
aq_status aq_tape_cut(const aq_tape *tape, const aq_model_shape *shape, size_t sequences,
                      size_t length, aq_tape *pass);

/* The start of a buffer of the whole tape as [tokens, width], whatever its own shape. The buffers
 * gate and up are wide enough for q's width, the taps of the MLP for k's. */
aq_tensor aq_tape_buffer(const aq_tensor *buffer, size_t tokens, size_t width);

#endif
