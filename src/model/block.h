/* One transformer block: its parameters, forward pass and backward pass.
 *
 * The block computes on F32 activations [T, C], T = sequences * length:
 *     x2 = x + o(attention(rope(q(h1)), rope(k(h1)), v(h1))),   h1 = rms_norm(x)
 *     y  = x2 + down(silu(gate(h2)) * up(h2)),                  h2 = rms_norm(x2)
 */
#ifndef AQ_MODEL_BLOCK_H
#define AQ_MODEL_BLOCK_H

#include "model/source.h"
#include "model/tape.h"

typedef struct aq_block {
    const aq_model_shape *shape;        /* borrowed */
    aq_tensor norms[AQ_NORM_COUNT];     /* [hidden] */
    aq_tensor weights[AQ_LINEAR_COUNT]; /* [out, in]; F32, or BF16 (aq_block_set_halves) */
    aq_tensor biases[AQ_LINEAR_COUNT];  /* [out], empty where the linear has none */
    aq_tensor cosines, sines;           /* [length, head_dim / 2] */
    aq_precision precision;             /* of the products */
} aq_block;

/* Reads block `index` (coded linears are decoded) for sequences of at most `length` tokens; INVALID
 * if the model takes none that long. */
aq_status aq_block_load(aq_source *source, size_t index, size_t length, aq_precision precision,
                        aq_backend *backend, aq_block *block);
void aq_block_free(aq_block *block);

/* Makes the weights BF16 or F32 within the memory of F32; their contents are undefined until they
 * are decoded anew. With BF16 passes need AQ_HALF, take and leave the linears' inputs as BF16, and
 * their gradients too (aq_backend_halves). */
void aq_block_set_halves(aq_block *block, bool halves);
bool aq_block_halves(const aq_block *block);
bool aq_block_can_halve(const aq_block *block);

/* The views of a tape that the block's passes use: what products read and write, but for the sums
 * x2 and y, in the weights' type. */
aq_status aq_block_cut_tape(const aq_block *block, const aq_tape *tape, size_t sequences,
                            size_t length, aq_tape *pass);

/* The shape of the block's attention over so many sequences. */
aq_attention aq_block_attention(const aq_block *block, size_t sequences, size_t length);

/* Called during a forward pass with the input x [T, in] of the linears at `tap` (borrowed for the
 * call). */
typedef struct aq_tapper {
    aq_status (*see)(void *state, aq_tap tap, const aq_tensor *x);
    void *state;
} aq_tapper;

/* y [T, hidden] overwritten; x [T, hidden] with T = sequences * length. The tape holds this pass
 * afterwards; tapper may be NULL. y may be x; x may lie where the pass keeps it (aq_tape_buffer of
 * tape->x), which saves a copy, and y may not then. `sequences` may be less than the tape was made
 * for.
 */
aq_status aq_block_forward(const aq_block *block, size_t sequences, size_t length,
                           const aq_tensor *x, aq_tape *tape, const aq_tapper *tapper,
                           aq_tensor *y);

/* Gradients by the block's parameters, shaped like them; weights' gradients are by the (decoded)
 * weight. */
typedef struct aq_block_grad {
    aq_tensor norms[AQ_NORM_COUNT];
    aq_tensor weights[AQ_LINEAR_COUNT];
    aq_tensor biases[AQ_LINEAR_COUNT];
} aq_block_grad;

aq_status aq_block_grad_new(const aq_block *block, aq_block_grad *grad); /* zeros */
aq_status aq_block_grad_zero(aq_block_grad *grad);
void aq_block_grad_free(aq_block_grad *grad);

/* Adds the gradients of the pass that the tape holds, given dy [T, hidden]; uses the tape up and
 * overwrites dy with the gradient by x. */
aq_status aq_block_backward(const aq_block *block, size_t sequences, size_t length, aq_tape *tape,
                            aq_tensor *dy, aq_block_grad *grad);

#endif
