#include "tensor/cpu.h"
#include "tensor/cpu_exp.h"

#include <math.h>
#include <stdlib.h>

aq_status cpu_rms_norm(const aq_tensor *x, const aq_tensor *weight, float epsilon, aq_tensor *y,
                       aq_tensor *inverse) {
    size_t tokens = x->shape[0], columns = x->shape[1];
    const float *from = x->data, *w = weight->data;
    float *to = y->data, *inverses = inverse->data;
#pragma omp parallel for num_threads(cpu_threads(x))
    for (size_t t = 0; t < tokens; t++) {
        const float *row = from + t * columns;
        double sum = 0.0;
#pragma omp simd reduction(+ : sum)
        for (size_t c = 0; c < columns; c++) sum += (double)row[c] * (double)row[c];
        float scale = (float)(1.0 / sqrt(sum / (double)columns + (double)epsilon));
        for (size_t c = 0; c < columns; c++) to[t * columns + c] = row[c] * scale * w[c];
        inverses[t] = scale;
    }
    return AQ_OK;
}

/* With n = x inverse: dx = inverse (dy w - n mean(dy w n)). */
static void norm_grad_row(const float *x, const float *w, float inverse, const float *dy,
                          size_t columns, float *dx) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < columns; c++) sum += (double)(dy[c] * w[c]) * (double)x[c];
    float mean = (float)(sum * (double)inverse / (double)columns);
    for (size_t c = 0; c < columns; c++) dx[c] += inverse * (dy[c] * w[c] - x[c] * inverse * mean);
}

enum { NORM_COLUMNS = 64 };

/* dweight of a strip of columns, summed over all tokens in order. */
static void norm_weight_grad(const aq_tensor *x, const float *inverse, const float *dy,
                             size_t first, float *dweight) {
    size_t tokens = x->shape[0], columns = x->shape[1];
    size_t width = columns - first < NORM_COLUMNS ? columns - first : NORM_COLUMNS;
    const float *values = x->data;
    double sums[NORM_COLUMNS] = {0};
    for (size_t t = 0; t < tokens; t++)
        for (size_t c = 0; c < width; c++) {
            size_t place = t * columns + first + c;
            sums[c] += (double)(values[place] * inverse[t]) * (double)dy[place];
        }
    for (size_t c = 0; c < width; c++) dweight[first + c] += (float)sums[c];
}

aq_status cpu_rms_norm_grad(const aq_tensor *x, const aq_tensor *weight, const aq_tensor *inverse,
                            const aq_tensor *dy, aq_tensor *dx, aq_tensor *dweight) {
    size_t tokens = x->shape[0], columns = x->shape[1];
    const float *values = x->data, *inverses = inverse->data, *upper = dy->data;
    float *grad = dx->data;
#pragma omp parallel for num_threads(cpu_threads(x))
    for (size_t t = 0; t < tokens; t++)
        norm_grad_row(values + t * columns, weight->data, inverses[t], upper + t * columns, columns,
                      grad + t * columns);
#pragma omp parallel for num_threads(cpu_threads(x))
    for (size_t first = 0; first < columns; first += NORM_COLUMNS)
        norm_weight_grad(x, inverses, upper, first, dweight->data);
    return AQ_OK;
}

aq_status cpu_rotate(const aq_tensor *cosines, const aq_tensor *sines, bool backward,
                     aq_tensor *x) {
    size_t length = x->shape[1], heads = x->shape[2], half = x->shape[3] / 2;
    float sign = backward ? -1.0f : 1.0f;
    float *values = x->data;
#pragma omp parallel for num_threads(cpu_threads(x))
    for (size_t t = 0; t < x->shape[0] * length; t++) {
        const float *c = (const float *)cosines->data + t % length * half;
        const float *s = (const float *)sines->data + t % length * half;
        for (size_t head = 0; head < heads; head++) {
            float *low = values + (t * heads + head) * 2 * half, *high = low + half;
            for (size_t i = 0; i < half; i++) {
                float a = low[i], b = high[i], sine = sign * s[i];
                low[i] = a * c[i] - b * sine;
                high[i] = b * c[i] + a * sine;
            }
        }
    }
    return AQ_OK;
}

static inline float sigmoid(float x) {
    return 1.0f / (1.0f + cpu_exp(-x));
}

aq_status cpu_silu_gate(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out) {
    const float *g = gate->data, *u = up->data;
    float *result = out->data;
    size_t count = aq_tensor_count(gate);
#pragma omp parallel for schedule(static, CPU_RUN) if (count > CPU_RUN)                            \
    num_threads(cpu_threads(gate))
    for (size_t i = 0; i < count; i++) result[i] = g[i] * sigmoid(g[i]) * u[i];
    return AQ_OK;
}

/* With s = sigmoid(g): d(g s)/dg = s (1 + g (1 - s)). */
aq_status cpu_silu_gate_grad(const aq_tensor *dout, const aq_tensor *gate, const aq_tensor *up,
                             aq_tensor *dgate, aq_tensor *dup) {
    const float *d = dout->data, *g = gate->data, *u = up->data;
    float *dg = dgate->data, *du = dup->data;
    size_t count = aq_tensor_count(gate);
#pragma omp parallel for schedule(static, CPU_RUN) if (count > CPU_RUN)                            \
    num_threads(cpu_threads(gate))
    for (size_t i = 0; i < count; i++) {
        float s = sigmoid(g[i]), activated = g[i] * s;
        dg[i] = d[i] * u[i] * s * (1.0f + g[i] * (1.0f - s));
        du[i] = d[i] * activated;
    }
    return AQ_OK;
}

/* log sum_v exp logits[v] - logits[target]. */
static double cross_entropy_row(const float *logits, size_t vocabulary, int32_t target) {
    float highest = logits[0];
#pragma omp simd reduction(max : highest)
    for (size_t v = 1; v < vocabulary; v++) highest = logits[v] > highest ? logits[v] : highest;
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t v = 0; v < vocabulary; v++) sum += (double)cpu_exp(logits[v] - highest);
    return log(sum) + (double)highest - (double)logits[target];
}

aq_status cpu_cross_entropy_add(const aq_tensor *logits, const aq_tensor *targets, aq_tensor *sum) {
    size_t tokens = logits->shape[0], vocabulary = logits->shape[1];
    const float *values = logits->data;
    const int32_t *target = targets->data;
    double *losses;
    AQ_TRY(cpu_scratch(tokens * sizeof *losses, &losses));
#pragma omp parallel for num_threads(cpu_threads(logits))
    for (size_t t = 0; t < tokens; t++)
        losses[t] = cross_entropy_row(values + t * vocabulary, vocabulary, target[t]);
    double total = 0.0;
    for (size_t t = 0; t < tokens; t++) total += losses[t];
    free(losses);
    *(double *)sum->data += total;
    return AQ_OK;
}
