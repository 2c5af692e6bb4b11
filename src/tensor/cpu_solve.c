#include "tensor/cpu.h"

#include <math.h>
#include <stdlib.h>

aq_status cpu_scales_step(const aq_tensor *slopes, const aq_tensor *curvatures, aq_tensor *scales) {
    const float *slope = slopes->data, *curvature = curvatures->data;
    float *scale = scales->data;
    for (size_t r = 0; r < scales->shape[0]; r++) {
        if (!(scale[r] > AQ_ZERO_SCALE && curvature[r] > 0)) continue;
        float stepped = scale[r] - scale[r] * (slope[r] / curvature[r]);
        if (stepped > AQ_ZERO_SCALE && isfinite(stepped)) scale[r] = stepped;
    }
    return AQ_OK;
}

aq_status cpu_gradient_rescale(const aq_tensor *before, const aq_tensor *after,
                               const aq_tensor *fixed, aq_tensor *gradient) {
    size_t rows = before->shape[0], span = aq_tensor_count(gradient) / rows;
    const float *old = before->data, *new = after->data, *constant = fixed->data;
    float *values = gradient->data;
#pragma omp parallel for num_threads(cpu_threads(gradient))
    for (size_t r = 0; r < rows; r++) {
        if (new[r] == old[r]) continue;
        float factor = new[r] / old[r];
        for (size_t i = r * span; i < (r + 1) * span; i++)
            values[i] = factor * values[i] + (factor - 1) * constant[i];
    }
    return AQ_OK;
}

enum { CHUNK = 4096 }; /* elements whose sums are added by one thread */

/* What one thread does with a run of elements. */
typedef struct run {
    size_t count;
    const float *diagonal, *product;
    float *solution, *residual, *direction;
} run;

static run run_of(const aq_conjugate *state, const aq_tensor *product, size_t chunk) {
    size_t count = aq_tensor_count(state->diagonal), first = chunk * CHUNK;
    return (run){.count = count - first < CHUNK ? count - first : CHUNK,
                 .diagonal = (const float *)state->diagonal->data + first,
                 .product = product ? (const float *)product->data + first : NULL,
                 .solution = (float *)state->solution->data + first,
                 .residual = (float *)state->residual->data + first,
                 .direction = (float *)state->direction->data + first};
}

static float conditioned(const run *of, size_t i) {
    return of->diagonal[i] > 0 ? of->residual[i] / of->diagonal[i] : 0;
}

static double curvature_of(const run *of) {
    double sum = 0;
    for (size_t i = 0; i < of->count; i++) sum += (double)of->direction[i] * (double)of->product[i];
    return sum;
}

/* Goes `length` along the direction, and returns r . z. */
static double move(const run *of, float length) {
    double sum = 0;
    for (size_t i = 0; of->product && i < of->count; i++) {
        of->solution[i] += length * of->direction[i];
        of->residual[i] -= length * of->product[i];
    }
    for (size_t i = 0; i < of->count; i++)
        sum += (double)of->residual[i] * (double)conditioned(of, i);
    return sum;
}

static void turn(const run *of, float share) {
    for (size_t i = 0; i < of->count; i++)
        of->direction[i] = conditioned(of, i) + (share != 0 ? share * of->direction[i] : 0);
}

static double total(const double *sums, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += sums[i];
    return sum;
}

aq_status cpu_conjugate_step(const aq_conjugate *state, const aq_tensor *product) {
    size_t chunks = (aq_tensor_count(state->diagonal) + CHUNK - 1) / CHUNK;
    int threads = cpu_threads(state->numbers);
    double *numbers = state->numbers->data, *sums;
    AQ_TRY(cpu_scratch(chunks * sizeof *sums, &sums));
    numbers[1] = product ? numbers[0] : 0;
    for (size_t i = 0; i < chunks; i++) {
        const run of = run_of(state, product, i);
        sums[i] = product ? curvature_of(&of) : 0;
    }
    numbers[2] = total(sums, chunks);
    float length = numbers[2] > 0 ? (float)(numbers[1] / numbers[2]) : 0;
#pragma omp parallel for if (chunks > 1) num_threads(threads)
    for (size_t i = 0; i < chunks; i++) {
        const run of = run_of(state, product, i);
        sums[i] = move(&of, length);
    }
    numbers[0] = total(sums, chunks);
    float share = numbers[1] > 0 ? (float)(numbers[0] / numbers[1]) : 0;
#pragma omp parallel for if (chunks > 1) num_threads(threads)
    for (size_t i = 0; i < chunks; i++) {
        const run of = run_of(state, product, i);
        turn(&of, share);
    }
    free(sums);
    return AQ_OK;
}
