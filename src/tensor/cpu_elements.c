#include "tensor/cpu.h"

#include <math.h>
#include <stdlib.h>

aq_status cpu_fill(float value, aq_tensor *x) {
    size_t count = aq_tensor_count(x);
    double *wide = x->data;
    float *narrow = x->data;
    if (x->dtype == AQ_F64)
        for (size_t i = 0; i < count; i++) wide[i] = (double)value;
    else
        for (size_t i = 0; i < count; i++) narrow[i] = value;
    return AQ_OK;
}

aq_status cpu_axpby(float alpha, const aq_tensor *x, float beta, aq_tensor *y) {
    const float *from = x->data;
    float *to = y->data;
    size_t count = aq_tensor_count(x);
    if (beta == 0.0f) {
#pragma omp parallel for schedule(static, CPU_RUN) if (count > CPU_RUN) num_threads(cpu_threads(x))
        for (size_t i = 0; i < count; i++) to[i] = alpha * from[i];
    } else {
#pragma omp parallel for schedule(static, CPU_RUN) if (count > CPU_RUN) num_threads(cpu_threads(x))
        for (size_t i = 0; i < count; i++) to[i] = alpha * from[i] + beta * to[i];
    }
    return AQ_OK;
}

enum { DOT_CHUNK = 16384 };

static double dot_chunk(const float *x, const float *y, size_t count) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < count; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

aq_status cpu_dot_add(const aq_tensor *x, const aq_tensor *y, double factor, aq_tensor *sum) {
    const float *left = x->data, *right = y->data;
    size_t count = aq_tensor_count(x), chunks = (count + DOT_CHUNK - 1) / DOT_CHUNK;
    double *partial;
    AQ_TRY(cpu_scratch(chunks * sizeof *partial, &partial));
#pragma omp parallel for if (chunks > 1) num_threads(cpu_threads(x))
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        size_t first = chunk * DOT_CHUNK;
        size_t length = count - first < DOT_CHUNK ? count - first : DOT_CHUNK;
        partial[chunk] = dot_chunk(left + first, right + first, length);
    }
    double total = 0.0;
    for (size_t chunk = 0; chunk < chunks; chunk++) total += partial[chunk];
    free(partial);
    *(double *)sum->data += factor * total;
    return AQ_OK;
}

aq_status cpu_bias_add(const aq_tensor *bias, aq_tensor *x) {
    size_t rows = x->shape[0], columns = x->shape[1];
    const float *b = bias->data;
    float *values = x->data;
#pragma omp parallel for num_threads(cpu_threads(x))
    for (size_t row = 0; row < rows; row++)
        for (size_t c = 0; c < columns; c++) values[row * columns + c] += b[c];
    return AQ_OK;
}

enum { BIAS_COLUMNS = 64 };

/* One thread sums a strip of columns over all rows, in order. */
aq_status cpu_bias_grad(const aq_tensor *dx, aq_tensor *dbias) {
    size_t rows = dx->shape[0], columns = dx->shape[1];
    const float *values = dx->data;
    float *grad = dbias->data;
#pragma omp parallel for num_threads(cpu_threads(dx))
    for (size_t first = 0; first < columns; first += BIAS_COLUMNS) {
        size_t width = columns - first < BIAS_COLUMNS ? columns - first : BIAS_COLUMNS;
        double sums[BIAS_COLUMNS] = {0};
        for (size_t row = 0; row < rows; row++)
            for (size_t c = 0; c < width; c++) sums[c] += (double)values[row * columns + first + c];
        for (size_t c = 0; c < width; c++) grad[first + c] += (float)sums[c];
    }
    return AQ_OK;
}

static void keep_larger(const float *x, size_t count, int threads, float *largest) {
#pragma omp parallel for schedule(static, CPU_RUN) if (count > CPU_RUN) num_threads(threads)
    for (size_t i = 0; i < count; i++) largest[i] = largest[i] >= x[i] ? largest[i] : x[i];
}

static void step_parameter(const aq_adam_step *step, const aq_adam_tensors *of) {
    const float *g = of->grad->data, *top = of->largest ? of->largest->data : of->second->data;
    float *p = of->parameter->data, *m1 = of->first->data, *m2 = of->second->data;
    size_t count = aq_tensor_count(of->grad);
    int threads = cpu_threads(of->grad);
    const float beta1 = step->beta1, beta2 = step->beta2, epsilon = step->epsilon;
    const float rate = (float)(step->learning_rate / (1.0 - pow(beta1, step->step)));
    const float root = (float)(1.0 / sqrt(1.0 - pow(beta2, step->step)));
#pragma omp parallel for schedule(static, CPU_RUN) if (count > CPU_RUN) num_threads(threads)
    for (size_t i = 0; i < count; i++) {
        m1[i] = beta1 * m1[i] + (1.0f - beta1) * g[i];
        m2[i] = beta2 * m2[i] + (1.0f - beta2) * g[i] * g[i];
    }
    if (of->largest) keep_larger(m2, count, threads, of->largest->data);
#pragma omp parallel for schedule(static, CPU_RUN) if (count > CPU_RUN) num_threads(threads)
    for (size_t i = 0; i < count; i++) p[i] -= rate * m1[i] / (sqrtf(top[i]) * root + epsilon);
}

aq_status cpu_adam_step(const aq_adam_step *step, const aq_adam_tensors *list, size_t count) {
    for (size_t i = 0; i < count; i++) step_parameter(step, &list[i]);
    return AQ_OK;
}
