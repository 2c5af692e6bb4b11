#include "tensor/cpu.h"

#include <string.h>

/* Line `line` of entry (m, code) of the codebooks. */
static const float *entry_line(const aq_coded *coded, size_t m, uint16_t code, size_t line) {
    const size_t *shape = coded->codebooks.shape;
    const float *values = coded->codebooks.data;
    return values + (((m * shape[1] + code) * shape[2]) + line) * shape[3];
}

/* weight line = sum over m of the entries' lines, not yet scaled. */
static void decode_line(const aq_coded *coded, size_t row, size_t line, float *weight) {
    size_t groups = coded->codes.shape[1], codebooks = coded->codes.shape[2];
    size_t width = coded->codebooks.shape[3];
    const uint16_t *codes = (const uint16_t *)coded->codes.data + row * groups * codebooks;
    for (size_t j = 0; j < groups; j++)
        for (size_t m = 0; m < codebooks; m++) {
            const float *entry = entry_line(coded, m, codes[j * codebooks + m], line);
            float *piece = weight + j * width;
            for (size_t i = 0; i < width; i++) piece[i] = m ? piece[i] + entry[i] : entry[i];
        }
}

aq_status cpu_decode(const aq_coded *coded, aq_tensor *weight) {
    size_t lines = coded->codebooks.shape[2], rows = coded->codes.shape[0], in = weight->shape[1];
    const float *scales = coded->scales.data;
    float *values = weight->data;
#pragma omp parallel for num_threads(cpu_threads(weight))
    for (size_t row = 0; row < rows; row++)
        for (size_t line = 0; line < lines; line++) {
            float *to = values + (row * lines + line) * in;
            decode_line(coded, row, line, to);
            for (size_t i = 0; i < in; i++) to[i] *= scales[row];
        }
    return AQ_OK;
}

/* One line of one entry's gradient: scales[row] * piece over the listed vectors, in order. */
static void entry_grad_line(const aq_coded *coded, const aq_tensor *weight_grad, size_t line,
                            const uint32_t *list, size_t count, float *grad) {
    size_t groups = coded->codes.shape[1], in = weight_grad->shape[1];
    size_t lines = coded->codebooks.shape[2], width = coded->codebooks.shape[3];
    const float *scales = coded->scales.data, *values = weight_grad->data;
    for (size_t first = 0; first < width; first += CPU_PIECE) {
        size_t part = width - first < CPU_PIECE ? width - first : CPU_PIECE;
        double sums[CPU_PIECE] = {0};
        for (size_t n = 0; n < count; n++) {
            size_t row = list[n] / groups, column = list[n] % groups * width + first;
            cpu_add_piece(scales[row], values + (row * lines + line) * in + column, part, sums);
        }
        for (size_t i = 0; i < part; i++) grad[first + i] = (float)sums[i];
    }
}

static void codebooks_gradient(const aq_coded *coded, const aq_tensor *orders,
                               const aq_tensor *offsets, const aq_tensor *weight_grad,
                               aq_tensor *grad) {
    const size_t *shape = coded->codebooks.shape;
    size_t vectors = orders->shape[1];
    float *values = grad->data;
#pragma omp parallel for collapse(2) schedule(dynamic, 16) num_threads(cpu_threads(grad))
    for (size_t m = 0; m < shape[0]; m++)
        for (size_t k = 0; k < shape[1]; k++) {
            const uint32_t *start = (const uint32_t *)offsets->data + m * (shape[1] + 1) + k;
            const uint32_t *list = (const uint32_t *)orders->data + m * vectors + start[0];
            for (size_t line = 0; line < shape[2]; line++)
                entry_grad_line(coded, weight_grad, line, list, start[1] - start[0],
                                values + ((m * shape[1] + k) * shape[2] + line) * shape[3]);
        }
}

/* sum over the row's line of weight_grad * (unscaled decoded weight). */
static double scale_grad_line(const aq_coded *coded, size_t row, size_t line, const float *grad) {
    size_t groups = coded->codes.shape[1], codebooks = coded->codes.shape[2];
    size_t width = coded->codebooks.shape[3];
    const uint16_t *codes = (const uint16_t *)coded->codes.data + row * groups * codebooks;
    double sum = 0.0;
    for (size_t j = 0; j < groups; j++)
        for (size_t m = 0; m < codebooks; m++) {
            const float *entry = entry_line(coded, m, codes[j * codebooks + m], line);
            for (size_t i = 0; i < width; i++)
                sum += (double)entry[i] * (double)grad[j * width + i];
        }
    return sum;
}

static void scales_gradient(const aq_coded *coded, const aq_tensor *weight_grad, aq_tensor *grad) {
    size_t rows = coded->codes.shape[0], lines = coded->codebooks.shape[2];
    size_t in = weight_grad->shape[1];
    const float *scales = coded->scales.data, *values = weight_grad->data;
    float *result = grad->data;
#pragma omp parallel for num_threads(cpu_threads(grad))
    for (size_t row = 0; row < rows; row++) {
        double sum = 0.0;
        for (size_t line = 0; line < lines && scales[row] > AQ_ZERO_SCALE; line++)
            sum += scale_grad_line(coded, row, line, values + (row * lines + line) * in);
        result[row] = (float)sum;
    }
}

aq_status cpu_coded_grad(const aq_coded *coded, const aq_tensor *orders, const aq_tensor *offsets,
                         const aq_tensor *weight_grad, aq_tensor *codebooks_grad,
                         aq_tensor *scales_grad) {
    if (codebooks_grad) codebooks_gradient(coded, orders, offsets, weight_grad, codebooks_grad);
    if (scales_grad) scales_gradient(coded, weight_grad, scales_grad);
    return AQ_OK;
}

/* values[l] = sum over the listed vectors of scale^2 times the Gram matrix's diagonal. */
static void entry_diagonal(const aq_coded *coded, const aq_tensor *gram, const uint32_t *list,
                           size_t count, float *values) {
    size_t groups = coded->codes.shape[1], width = coded->codebooks.shape[3], in = gram->shape[0];
    const float *scales = coded->scales.data, *h = gram->data;
    for (size_t l = 0; l < width; l++) {
        double sum = 0;
        for (size_t n = 0; n < count; n++) {
            double scale = (double)scales[list[n] / groups];
            size_t column = list[n] % groups * width + l;
            sum += scale * scale * (double)h[column * in + column];
        }
        values[l] = (float)sum;
    }
}

aq_status cpu_coded_diagonal(const aq_coded *coded, const aq_tensor *orders,
                             const aq_tensor *offsets, const aq_tensor *gram, aq_tensor *diagonal) {
    const size_t *shape = coded->codebooks.shape;
    size_t width = shape[3], lines = shape[2], vectors = orders->shape[1];
    float *values = diagonal->data;
#pragma omp parallel for collapse(2) schedule(dynamic, 16) num_threads(cpu_threads(gram))
    for (size_t m = 0; m < shape[0]; m++)
        for (size_t k = 0; k < shape[1]; k++) {
            const uint32_t *start = (const uint32_t *)offsets->data + m * (shape[1] + 1) + k;
            const uint32_t *list = (const uint32_t *)orders->data + m * vectors + start[0];
            float *entry = values + (m * shape[1] + k) * lines * width;
            entry_diagonal(coded, gram, list, start[1] - start[0], entry);
            for (size_t line = 1; line < lines; line++)
                memcpy(entry + line * width, entry, width * sizeof *entry);
        }
    return AQ_OK;
}
