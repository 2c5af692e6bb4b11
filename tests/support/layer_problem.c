#include "layer_problem.h"

#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float *correlated_inputs(size_t samples, size_t in, uint64_t seed) {
    float *x = malloc(samples * in * sizeof *x);
    for (size_t i = 0; i < samples * in; i++) {
        float before = i % in == 0 ? 0 : x[i - 1];
        x[i] = 0.7f * before + (float)aq_random_normal(seed, AQ_STREAM_TEST, i);
    }
    return x;
}

static aq_tensor gram_of(const float *x, size_t samples, size_t in) {
    float *gram = malloc(in * in * sizeof *gram);
    for (size_t a = 0; a < in; a++)
        for (size_t b = 0; b < in; b++) {
            double sum = 0;
            for (size_t s = 0; s < samples; s++) sum += (double)x[s * in + a] * x[s * in + b];
            gram[a * in + b] = (float)(sum / (double)samples);
        }
    aq_tensor tensor = aq_test_tensor(AQ_F32, AQ_DIMS(in, in), gram);
    free(gram);
    return tensor;
}

aq_test_layer aq_test_layer_new(size_t out, size_t in, size_t samples, uint64_t seed) {
    float *x = correlated_inputs(samples, in, seed);
    aq_test_layer layer = {.weight = aq_test_normal(AQ_DIMS(out, in), seed + 1),
                           .gram = gram_of(x, samples, in)};
    free(x);
    return layer;
}

void aq_test_layer_free(aq_test_layer *layer) {
    aq_tensor_free(&layer->weight);
    aq_tensor_free(&layer->gram);
}

float *aq_test_decode(const aq_coded *coded) {
    size_t out = aq_coded_out(coded), in = aq_coded_in(coded), codebooks = coded->codes.shape[2];
    size_t entries = coded->codebooks.shape[1], o = coded->codebooks.shape[2];
    size_t g = coded->codebooks.shape[3];
    uint16_t *codes = aq_test_host(&coded->codes);
    float *values = aq_test_host(&coded->codebooks), *scales = aq_test_host(&coded->scales);
    float *weight = malloc(out * in * sizeof *weight);
    for (size_t row = 0; row < out; row++)
        for (size_t column = 0; column < in; column++) {
            size_t vector = row / o * (in / g) + column / g;
            size_t place = row % o * g + column % g;
            float sum = 0;
            for (size_t m = 0; m < codebooks; m++)
                sum += values[(m * entries + codes[vector * codebooks + m]) * o * g + place];
            weight[row * in + column] = scales[row / o] * sum;
        }
    free(codes), free(values), free(scales);
    return weight;
}

static double row_loss(const double *difference, const float *gram, size_t in) {
    double loss = 0;
    for (size_t a = 0; a < in; a++) {
        double product = 0;
        for (size_t b = 0; b < in; b++) product += (double)gram[a * in + b] * difference[b];
        loss += product * difference[a];
    }
    return loss;
}

double *aq_test_row_losses(const aq_test_layer *layer, const aq_coded *coded) {
    size_t in = aq_coded_in(coded), rows = coded->scales.shape[0];
    size_t o = coded->codebooks.shape[2];
    float *decoded = aq_test_decode(coded);
    float *weight = aq_test_host(&layer->weight), *gram = aq_test_host(&layer->gram);
    double *losses = calloc(rows, sizeof *losses), *difference = malloc(in * sizeof *difference);
    for (size_t row = 0; row < rows * o; row++) {
        for (size_t i = 0; i < in; i++)
            difference[i] = (double)decoded[row * in + i] - (double)weight[row * in + i];
        losses[row / o] += row_loss(difference, gram, in);
    }
    free(decoded), free(weight), free(gram), free(difference);
    return losses;
}

double aq_test_loss(const aq_test_layer *layer, const aq_coded *coded) {
    double *losses = aq_test_row_losses(layer, coded), sum = 0;
    for (size_t row = 0; row < coded->scales.shape[0]; row++) sum += losses[row];
    free(losses);
    return sum;
}

bool aq_test_same_bits(const aq_tensor *a, const aq_tensor *b) {
    if (aq_tensor_bytes(a) != aq_tensor_bytes(b)) return false;
    void *left = aq_test_host(a), *right = aq_test_host(b);
    bool same = memcmp(left, right, aq_tensor_bytes(a)) == 0;
    free(left), free(right);
    return same;
}
