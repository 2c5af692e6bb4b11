/* Conversions go through float64 in pieces that stay in the first-level cache: four readers and
 * four writers instead of sixteen pairs. */
#include "base/half.h"
#include "tensor/cpu.h"

#include <math.h>

enum { PIECE = 512 };

static void read_piece(const aq_tensor *x, size_t first, size_t count, double *values) {
    const uint16_t *half = (const uint16_t *)x->data + first;
    const float *single = (const float *)x->data + first;
    const double *wide = (const double *)x->data + first;
    if (x->dtype == AQ_F64)
        for (size_t i = 0; i < count; i++) values[i] = wide[i];
    else if (x->dtype == AQ_F32)
        for (size_t i = 0; i < count; i++) values[i] = (double)single[i];
    else if (x->dtype == AQ_BF16)
        for (size_t i = 0; i < count; i++) values[i] = (double)aq_bfloat_to_float(half[i]);
    else
        for (size_t i = 0; i < count; i++) values[i] = (double)aq_half_to_float(half[i]);
}

/* The float next to `value` whose last bit tells that something was cut off ("round to odd"), so
 * that rounding it once more to 16 bits equals rounding `value` itself. */
static float round_to_odd(double value) {
    float near = (float)value;
    uint32_t bits = aq_float_bits(near);
    if ((double)near == value || isnan(near) || isinf(near) || bits & 1u) return near;
    return aq_float_from_bits(fabs((double)near) < fabs(value) ? bits + 1 : bits - 1);
}

static void write_piece(const double *values, aq_tensor *x, size_t first, size_t count) {
    uint16_t *half = (uint16_t *)x->data + first;
    float *single = (float *)x->data + first;
    double *wide = (double *)x->data + first;
    if (x->dtype == AQ_F64)
        for (size_t i = 0; i < count; i++) wide[i] = values[i];
    else if (x->dtype == AQ_F32)
        for (size_t i = 0; i < count; i++) single[i] = (float)values[i];
    else if (x->dtype == AQ_BF16)
        for (size_t i = 0; i < count; i++) half[i] = aq_bfloat_from_float(round_to_odd(values[i]));
    else
        for (size_t i = 0; i < count; i++) half[i] = aq_half_from_float(round_to_odd(values[i]));
}

aq_status cpu_convert(const aq_tensor *source, double factor, aq_tensor *target) {
    size_t count = aq_tensor_count(source);
#pragma omp parallel for if (count > CPU_RUN) num_threads(cpu_threads(source))
    for (size_t first = 0; first < count; first += PIECE) {
        double values[PIECE];
        size_t length = count - first < PIECE ? count - first : PIECE;
        read_piece(source, first, length, values);
        for (size_t i = 0; i < length; i++) values[i] *= factor;
        write_piece(values, target, first, length);
    }
    return AQ_OK;
}

aq_status cpu_pick(const aq_tensor *source, const uint32_t *list, size_t count, aq_tensor *target) {
    for (size_t i = 0; i < count; i++) {
        const aq_tensor from = aq_tensor_rows(source, list[i], 1);
        aq_tensor to = aq_tensor_rows(target, i * source->shape[1], source->shape[1]);
        AQ_TRY(cpu_convert(&from, 1, &to));
    }
    return AQ_OK;
}

aq_status cpu_count_nonfinite(const aq_tensor *x, aq_tensor *count) {
    size_t total = aq_tensor_count(x);
    uint32_t found = 0; /* a sum of integers has the same bits in any order */
#pragma omp parallel for if (total > CPU_RUN) num_threads(cpu_threads(x)) reduction(+ : found)
    for (size_t first = 0; first < total; first += PIECE) {
        double values[PIECE];
        size_t length = total - first < PIECE ? total - first : PIECE;
        read_piece(x, first, length, values);
        for (size_t i = 0; i < length; i++) found += !isfinite(values[i]);
    }
    *(uint32_t *)count->data += found;
    return AQ_OK;
}
