#include "run/work.h"

#include "run/sizes.h"

#include <math.h>

double aq_work_floor(const aq_work *work, const aq_machine *machine) {
    double arithmetic = work->products / machine->fast + work->halves / machine->half;
    double comparisons = work->scores / (machine->precise / 2);
    return fmax(arithmetic, fmax(comparisons, work->bytes / machine->copy));
}

aq_work aq_work_times(const aq_work *work, double times) {
    return (aq_work){.products = times * work->products,
                     .halves = times * work->halves,
                     .scores = times * work->scores,
                     .bytes = times * work->bytes};
}

aq_work aq_work_kmeans(const aq_scheme *scheme, size_t out, size_t in) {
    double weights = (double)out * (double)in, entries = (double)aq_entries_of(scheme);
    double vector = (double)aq_vector_of(scheme);
    return (aq_work){.halves = 2 * weights * entries,
                     .scores = weights / vector * entries,
                     .bytes = weights * sizeof(float)};
}

aq_work aq_work_codes(const aq_scheme *scheme, size_t out, size_t in, int beam) {
    aq_work work = aq_work_kmeans(scheme, out, in);
    double searches = (double)scheme->codebooks * beam;
    double residual = (double)out * (double)in * (double)in;
    work.products = (2 + beam) * residual;
    work.halves *= searches;
    work.scores *= searches;
    return work;
}

aq_work aq_work_pairs(const aq_scheme *scheme, size_t out, size_t in) {
    aq_work work = aq_work_codes(scheme, out, in, 1);
    work.scores *= (double)aq_entries_of(scheme) / scheme->codebooks;
    return work;
}

aq_work aq_work_codebooks(size_t out, size_t in) {
    double weights = (double)out * (double)in;
    return (aq_work){.products = 2 * weights * (double)in, .bytes = sizeof(float) * weights};
}

static double block_weights(const aq_model_shape *shape) {
    double weights = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        weights += (double)aq_linear_weights(&shape->linears[l]);
    return weights;
}

/* FLOP of one of attention's products over the pairs that a token sees: half of all. */
static double attention_product(const aq_model_shape *shape, size_t length) {
    double width = (double)shape->heads * (double)shape->head_dim;
    return width * (double)length * (double)length;
}

aq_work aq_work_forward(const aq_model_shape *shape, size_t length) {
    double flops = 2 * block_weights(shape) * (double)length;
    return (aq_work){.halves = flops + 2 * attention_product(shape, length)};
}

aq_work aq_work_backward(const aq_model_shape *shape, size_t length) {
    double flops = 4 * block_weights(shape) * (double)length;
    return (aq_work){.halves = flops + 5 * attention_product(shape, length)};
}

static double code_bytes(const aq_model_shape *shape, const aq_scheme *scheme) {
    return block_weights(shape) / (double)aq_vector_of(scheme) * scheme->codebooks *
           sizeof(uint16_t);
}

aq_work aq_work_decode(const aq_model_shape *shape, const aq_scheme *scheme) {
    return (aq_work){.bytes = sizeof(float) * block_weights(shape) + code_bytes(shape, scheme)};
}

aq_work aq_work_update(const aq_model_shape *shape, const aq_scheme *scheme) {
    double learned = 0; /* values and two moments, read and written */
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        learned += 6 * (double)aq_learned_bytes(&shape->linears[l], scheme);
    aq_work work = aq_work_decode(shape, scheme);
    work.bytes += learned;
    return work;
}
