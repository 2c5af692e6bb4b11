/* Sizes of a linear's weight and of its coded form, from shapes: private to run/needs.c and its
 * neighbours.
 */
#ifndef AQ_RUN_SIZES_H
#define AQ_RUN_SIZES_H

#include "model/shape.h"
#include "quant/coded_weight.h"

#include <stdint.h>

static inline size_t aq_linear_weights(const aq_linear_shape *linear) {
    return linear->out * linear->in;
}

static inline size_t aq_entries_of(const aq_scheme *scheme) {
    return (size_t)1 << scheme->bits;
}

static inline size_t aq_vector_of(const aq_scheme *scheme) {
    return (size_t)scheme->in_group * (size_t)scheme->out_group;
}

static inline size_t aq_codebook_values(const aq_scheme *scheme) {
    return (size_t)scheme->codebooks * aq_entries_of(scheme) * aq_vector_of(scheme);
}

static inline size_t aq_vectors_of(const aq_linear_shape *linear, const aq_scheme *scheme) {
    return aq_linear_weights(linear) / aq_vector_of(scheme);
}

/* Codebooks and scales of a linear, in float32. */
static inline size_t aq_learned_bytes(const aq_linear_shape *linear, const aq_scheme *scheme) {
    return (aq_codebook_values(scheme) + linear->out / (size_t)scheme->out_group) * sizeof(float);
}

static inline size_t aq_coded_bytes(const aq_linear_shape *linear, const aq_scheme *scheme) {
    size_t codes = aq_vectors_of(linear, scheme) * (size_t)scheme->codebooks;
    return codes * sizeof(uint16_t) + aq_learned_bytes(linear, scheme);
}

static inline size_t aq_small_parameters(const aq_model_shape *shape) {
    size_t count = AQ_NORM_COUNT * shape->hidden;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        if (shape->linears[l].bias) count += shape->linears[l].out;
    return count * sizeof(float);
}

#endif
