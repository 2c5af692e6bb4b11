/* Made-up problems of real shapes, for benchmarks: no model is needed.
 *
 * Equal seeds give equal values on every backend and machine (past the rounding of one product).
 */
#ifndef AQ_RUN_SYNTHETIC_H
#define AQ_RUN_SYNTHETIC_H

#include "model/activations.h"
#include "model/coded_block.h"

#include <stdint.h>

/* A new F32 tensor of normal numbers; `stream` keeps tensors of one seed apart. MEMORY. */
aq_status aq_synthetic_normal(aq_backend *backend, aq_shape shape, double deviation,
                              uint64_t stream, aq_tensor *tensor);

/* One linear's problem, both made here: weight [out, in] of normal numbers whose rows have
 * heavy-tailed sizes (log-normal) and one column in a hundred of which is three times as large;
 * gram [in, in] with the eigenvalues 1, 1/2, 1/3 ... over `in` directions that all columns share in
 * (cosines of mixed columns with mixed signs). MEMORY. */
aq_status aq_synthetic_layer(aq_backend *backend, size_t out, size_t in, uint64_t seed,
                             aq_tensor *weight, aq_tensor *gram);

/* A block, with experts or without: `shape` is what one token goes through, an MLP of its `active`
 * experts side by side. A dense block has one of one. */
typedef struct aq_block_kind {
    aq_model_shape shape;
    size_t experts, active;
} aq_block_kind;

/* The blocks that benchmarks know by name: "llama-2-7b", "llama-2-70b", "mixtral-8x7b"; and any of
 * one dense block by its sizes, "64x128x4": hidden x ffn x heads. INVALID listing them. */
aq_status aq_synthetic_kind(const char *name, aq_block_kind *kind);

/* A shape like Llama's. */
void aq_synthetic_llama(size_t hidden, size_t ffn, size_t heads, size_t kv_heads, size_t blocks,
                        aq_model_shape *shape);

/* A dense block of `shape` (borrowed) with random weights like a layer's above, for sequences of
 * `length` tokens. */
aq_status aq_synthetic_block(aq_backend *backend, const aq_model_shape *shape, size_t length,
                             aq_precision precision, aq_block *block);

/* A coded one: random codes, codebooks, scales. INVALID if the scheme fits a linear not. */
aq_status aq_synthetic_coded(aq_backend *backend, const aq_model_shape *shape,
                             const aq_scheme *scheme, aq_coded_block *coded);

/* Fills in inputs of a block: pieces of one made-up text, whose tokens have a Gram matrix with
 * eigenvalues 1, 1/2, 1/3 ... and a mean square of 1. MEMORY. */
aq_status aq_synthetic_inputs(aq_activations *activations, uint64_t seed);

#endif
