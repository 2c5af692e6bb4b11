#include "tensor/cpu.h"

#include <string.h>

/* row += sum_l delta[l] gram_rows[l, :], four lines of the sum at a time; most deltas are zero in
 * late passes. */
static void add_lines(const float *delta, const float *gram_rows, size_t lines, size_t in,
                      float *row) {
    size_t l = 0;
    for (; l + 4 <= lines; l += 4) {
        const float *g = gram_rows + l * in;
        float a = delta[l], b = delta[l + 1], c = delta[l + 2], d = delta[l + 3];
        if (a == 0.0f && b == 0.0f && c == 0.0f && d == 0.0f) continue;
        for (size_t i = 0; i < in; i++)
            row[i] += a * g[i] + b * g[in + i] + c * g[2 * in + i] + d * g[3 * in + i];
    }
    for (; l < lines; l++)
        for (size_t i = 0; i < in; i++) row[i] += delta[l] * gram_rows[l * in + i];
}

aq_status cpu_residual_update(const aq_tensor *delta, const aq_tensor *gram,
                              const aq_group_run *run, const aq_tensor *origins,
                              const aq_tensor *old_residual, aq_tensor *residual) {
    const size_t *shape = delta->shape;
    size_t beam = shape[1], lines = shape[2], in = gram->shape[1], width = run->width;
    size_t old_beam = old_residual->shape[1];
    const uint8_t *origin = origins->data;
    const float *change = delta->data, *old = old_residual->data, *rows = gram->data;
    float *now = residual->data;
#pragma omp parallel for num_threads(cpu_threads(delta))
    for (size_t place = 0; place < shape[0] * beam; place++)
        for (size_t line = 0; line < lines; line++) {
            size_t from = place / beam * old_beam + origin[place];
            float *row = now + (place * lines + line) * in;
            const float *changed = change + (place * lines + line) * shape[3];
            if (now != old) memcpy(row, old + (from * lines + line) * in, in * sizeof *row);
            for (size_t t = 0; t < run->count; t++)
                add_lines(changed + t * width, rows + run->groups[t] * width * in, width, in, row);
        }
    return AQ_OK;
}

static size_t best_hypothesis(const float *losses, size_t beam) {
    size_t best = 0;
    for (size_t b = 1; b < beam; b++)
        if (losses[b] < losses[best]) best = b;
    return best;
}

aq_status cpu_trace_back(const aq_tensor *ancestors, const aq_tensor *choices,
                         const aq_tensor *losses, const uint32_t *group_order, aq_tensor *codes) {
    size_t rows = codes->shape[0], groups = codes->shape[1], codebooks = codes->shape[2];
    size_t beam = losses->shape[1];
    const uint8_t *ancestor = ancestors->data;
    const uint16_t *choice = choices->data;
    const float *loss = losses->data;
    uint16_t *code = codes->data;
#pragma omp parallel for num_threads(cpu_threads(codes))
    for (size_t row = 0; row < rows; row++) {
        size_t b = best_hypothesis(loss + row * beam, beam);
        for (size_t t = groups; t-- > 0;) {
            size_t place = (t * rows + row) * beam + b;
            memcpy(code + (row * groups + group_order[t]) * codebooks, choice + place * codebooks,
                   codebooks * sizeof *code);
            b = ancestor[place];
        }
    }
    return AQ_OK;
}
