#include "tensor/cpu.h"

#include <cblas.h>
#include <stdlib.h>

/* Sizes of the tiles of a product's result. They are constants, because OpenBLAS gives a row
 * different bits in calls of different sizes. */
enum { TILE_ROWS = 192, TILE_COLUMNS = 384, GRAM_TILE = 256, GRAM_RUN = 1024 };

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

aq_status cpu_matmul(const aq_tensor *a, const aq_tensor *b, const aq_product *how, aq_tensor *c) {
    size_t rows = c->shape[0], columns = c->shape[1], depth = a->shape[how->transpose_a ? 0 : 1];
    const float *left = a->data, *right = b->data;
    float *result = c->data;
    int lda = (int)a->shape[1], ldb = (int)b->shape[1];
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(cpu_threads(c))
    for (size_t row = 0; row < rows; row += TILE_ROWS)
        for (size_t column = 0; column < columns; column += TILE_COLUMNS)
            cblas_sgemm(CblasRowMajor, how->transpose_a ? CblasTrans : CblasNoTrans,
                        how->transpose_b ? CblasTrans : CblasNoTrans,
                        (int)least(TILE_ROWS, rows - row),
                        (int)least(TILE_COLUMNS, columns - column), (int)depth, how->alpha,
                        left + (how->transpose_a ? row : row * a->shape[1]), lda,
                        right + (how->transpose_b ? column * b->shape[1] : column), ldb, how->beta,
                        result + row * columns + column, (int)columns);
    return AQ_OK;
}

/* gram[i, j] += x[:, i] . x[:, j] for one tile, run by run. */
static void add_gram_tile(const aq_tensor *x, size_t i, size_t j, aq_tensor *gram) {
    size_t rows = x->shape[0], columns = x->shape[1];
    size_t height = least(GRAM_TILE, columns - i), width = least(GRAM_TILE, columns - j);
    const float *values = x->data;
    double *sums = gram->data;
    float product[GRAM_TILE * GRAM_TILE];
    for (size_t first = 0; first < rows; first += GRAM_RUN) {
        const float *run = values + first * columns;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)height, (int)width,
                    (int)least(GRAM_RUN, rows - first), 1.0f, run + i, (int)columns, run + j,
                    (int)columns, 0.0f, product, GRAM_TILE);
        for (size_t row = 0; row < height; row++)
            for (size_t column = 0; column < width; column++)
                sums[(i + row) * columns + j + column] += (double)product[row * GRAM_TILE + column];
    }
}

static void mirror_upper(aq_tensor *gram) {
    size_t size = gram->shape[0];
    double *values = gram->data;
#pragma omp parallel for num_threads(cpu_threads(gram))
    for (size_t i = 1; i < size; i++)
        for (size_t j = 0; j < i; j++) values[i * size + j] = values[j * size + i];
}

aq_status cpu_gram_add(const aq_tensor *x, aq_tensor *gram) {
    size_t columns = x->shape[1];
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(cpu_threads(x))
    for (size_t i = 0; i < columns; i += GRAM_TILE)
        for (size_t j = 0; j < columns; j += GRAM_TILE)
            if (i <= j) add_gram_tile(x, i, j, gram);
    mirror_upper(gram);
    return AQ_OK;
}
