#include "reference.h"

#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

double *reference_values(const aq_tensor *x) {
    size_t count = aq_tensor_count(x);
    double *values = malloc(count * sizeof *values);
    void *host = aq_test_host(x);
    for (size_t i = 0; i < count; i++)
        values[i] = x->dtype == AQ_F64 ? ((double *)host)[i] : (double)((float *)host)[i];
    free(host);
    return values;
}

double reference_distance(const aq_tensor *x, const double *expected) {
    double *values = reference_values(x), error = 0.0, size = 0.0;
    for (size_t i = 0; i < aq_tensor_count(x); i++) {
        double difference = fabs(values[i] - expected[i]);
        error = isnan(difference) ? INFINITY : fmax(error, difference);
        size = fmax(size, fabs(expected[i]));
    }
    free(values);
    return size > 0.0 ? error / size : error;
}

void reference_check(const aq_tensor *x, double *expected, double limit) {
    double distance = reference_distance(x, expected);
    if (!(distance <= limit)) printf("\n    distance %g, limit %g\n", distance, limit);
    CU_ASSERT(distance <= limit);
    free(expected);
}

aq_tensor reference_codes(aq_shape shape, size_t entries, uint64_t seed) {
    size_t count = 1;
    for (int i = 0; i < shape.ndim; i++) count *= shape.dims[i];
    uint16_t *codes = malloc(count * sizeof *codes);
    for (size_t i = 0; i < count; i++)
        codes[i] = (uint16_t)aq_random_below(aq_random(seed, AQ_STREAM_TEST, i), entries);
    aq_tensor tensor = aq_test_tensor(AQ_U16, shape, codes);
    free(codes);
    return tensor;
}

aq_coded reference_coded(aq_scheme scheme, size_t out, size_t in, uint64_t seed) {
    size_t o = (size_t)scheme.out_group, g = (size_t)scheme.in_group;
    size_t books = (size_t)scheme.codebooks, entries = (size_t)1 << scheme.bits, rows = out / o;
    float *scales = malloc(rows * sizeof *scales);
    for (size_t r = 0; r < rows; r++) scales[r] = 0.5f + 2.0f * (float)r / (float)rows;
    aq_coded coded = {.scheme = scheme,
                      .codes = reference_codes(AQ_DIMS(rows, in / g, books), entries, seed),
                      .codebooks = aq_test_normal(AQ_DIMS(books, entries, o, g), seed + 1),
                      .scales = aq_test_tensor(AQ_F32, AQ_DIMS(rows), scales)};
    free(scales);
    return coded;
}

void reference_coded_free(aq_coded *coded) {
    aq_tensor_free(&coded->codes);
    aq_tensor_free(&coded->codebooks);
    aq_tensor_free(&coded->scales);
}

double *reference_decode(const aq_coded *coded) {
    const size_t *shape = coded->codebooks.shape;
    size_t rows = coded->codes.shape[0], groups = coded->codes.shape[1], in = groups * shape[3];
    double *books = reference_values(&coded->codebooks), *scales = reference_values(&coded->scales);
    double *weight = malloc(rows * shape[2] * in * sizeof *weight);
    uint16_t *codes = aq_test_host(&coded->codes);
    for (size_t out = 0; out < rows * shape[2]; out++)
        for (size_t column = 0; column < in; column++) {
            size_t row = out / shape[2], vector = row * groups + column / shape[3];
            double sum = 0.0;
            for (size_t m = 0; m < shape[0]; m++) {
                size_t entry = m * shape[1] + codes[vector * shape[0] + m];
                sum += books[(entry * shape[2] + out % shape[2]) * shape[3] + column % shape[3]];
            }
            weight[out * in + column] = scales[row] * sum;
        }
    free(books);
    free(scales);
    free(codes);
    return weight;
}

aq_tensor reference_gram(size_t size, uint64_t seed) {
    size_t samples = 2 * size;
    float *gram = malloc(size * size * sizeof *gram);
    for (size_t i = 0; i < size; i++)
        for (size_t j = 0; j < size; j++) {
            double sum = 0.0;
            for (size_t n = 0; n < samples; n++)
                sum += aq_random_normal(seed, AQ_STREAM_TEST, n * size + i) *
                       aq_random_normal(seed, AQ_STREAM_TEST, n * size + j);
            double spread = 1.0 / (1.0 + (double)(i % 5)) / (1.0 + (double)(j % 5));
            gram[i * size + j] = (float)(sum / (double)samples * spread);
        }
    aq_tensor tensor = aq_test_tensor(AQ_F32, AQ_DIMS(size, size), gram);
    free(gram);
    return tensor;
}

double reference_slope(double (*loss)(const void *context), const void *context, double *x) {
    double kept = *x, step = 1e-5;
    *x = kept + step;
    double above = loss(context);
    *x = kept - step;
    double below = loss(context);
    *x = kept;
    return (above - below) / (2.0 * step);
}
