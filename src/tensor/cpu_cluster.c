#include "base/random.h"
#include "tensor/cpu.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

aq_status cpu_group_norms(const aq_tensor *weight, aq_tensor *scales) {
    size_t rows = scales->shape[0], span = aq_tensor_count(weight) / rows;
    const float *values = weight->data;
    float *norms = scales->data;
#pragma omp parallel for num_threads(cpu_threads(weight))
    for (size_t row = 0; row < rows; row++) {
        double sum = 0.0;
        for (size_t i = 0; i < span; i++) sum += pow((double)values[row * span + i], 2.0);
        float norm = (float)sqrt(sum);
        norms[row] = norm == 0.0f ? AQ_ZERO_SCALE : norm;
    }
    return AQ_OK;
}

aq_status cpu_scaled_vectors(const aq_tensor *weight, const aq_tensor *scales, int in_group,
                             aq_tensor *points) {
    size_t rows = scales->shape[0], lines = weight->shape[0] / rows, in = weight->shape[1];
    size_t width = (size_t)in_group, groups = in / width;
    const float *values = weight->data, *scale = scales->data;
    float *point = points->data;
#pragma omp parallel for num_threads(cpu_threads(weight))
    for (size_t row = 0; row < rows; row++)
        for (size_t line = 0; line < lines; line++)
            for (size_t column = 0; column < in; column++) {
                size_t vector = row * groups + column / width;
                point[(vector * lines + line) * width + column % width] =
                    values[(row * lines + line) * in + column] / scale[row];
            }
    return AQ_OK;
}

/* l' G l, or l' l without G. `gram` points at G's corner in rows of `in` values. */
static double line_norm(const float *line, const float *gram, size_t in, size_t width) {
    double norm = 0.0;
    for (size_t i = 0; i < width; i++) {
        double product = gram ? 0.0 : (double)line[i];
        for (size_t j = 0; gram && j < width; j++)
            product += (double)gram[i * in + j] * (double)line[j];
        norm += (double)line[i] * product;
    }
    return norm;
}

aq_status cpu_entry_norms(const aq_tensor *entries, const aq_tensor *gram, size_t column,
                          aq_tensor *norms) {
    size_t count = entries->shape[0], lines = entries->shape[1], width = entries->shape[2];
    size_t in = gram ? gram->shape[1] : 0;
    const float *corner = gram ? (const float *)gram->data + column * in + column : NULL;
    const float *values = entries->data;
    float *result = norms->data;
#pragma omp parallel for num_threads(cpu_threads(entries))
    for (size_t entry = 0; entry < count; entry++) {
        double norm = 0.0;
        for (size_t line = 0; line < lines; line++)
            norm += line_norm(values + (entry * lines + line) * width, corner, in, width);
        result[entry] = (float)norm;
    }
    return AQ_OK;
}

/* Codes of points first .. first + count - 1; `queries` holds room for their vectors, -2 x. */
static void nearest_few(const cpu_table *table, const float *points, int count, float *queries,
                        size_t *found) {
    cpu_query query[CPU_QUERIES];
    for (size_t i = 0; i < (size_t)count * table->dims; i++) queries[i] = -2.0f * points[i];
    for (int q = 0; q < count; q++)
        query[q] = (cpu_query){.vector = queries + (size_t)q * table->dims, .factor = 1.0f};
    cpu_table_best(table, query, count);
    for (int q = 0; q < count; q++) found[q] = query[q].best;
}

static void nearest_all(const cpu_table *table, const aq_tensor *points, int codebook,
                        float *scratch, aq_tensor *codes) {
    size_t count = points->shape[0], dims = table->dims, codebooks = codes->shape[1];
    const float *values = points->data;
    uint16_t *result = codes->data;
#pragma omp parallel num_threads(cpu_threads(points))
    {
        float *queries = scratch + cpu_padded(CPU_QUERIES * dims) * (size_t)omp_get_thread_num();
#pragma omp for
        for (size_t first = 0; first < count; first += CPU_QUERIES) {
            int few = count - first < CPU_QUERIES ? (int)(count - first) : CPU_QUERIES;
            size_t found[CPU_QUERIES];
            nearest_few(table, values + first * dims, few, queries, found);
            for (int q = 0; q < few; q++)
                result[(first + (size_t)q) * codebooks + (size_t)codebook] = (uint16_t)found[q];
        }
    }
}

aq_status cpu_nearest(const aq_tensor *points, const aq_tensor *entries, const aq_tensor *norms,
                      int codebook, aq_precision precision, aq_tensor *codes) {
    (void)precision; /* float32 is the fastest here */
    cpu_table table = {0};
    float *scratch = NULL;
    size_t piece = cpu_padded(CPU_QUERIES * points->shape[1]);
    aq_status status;
    AQ_STEP(cpu_scratch(piece * (size_t)cpu_threads(points) * sizeof *scratch, &scratch));
    AQ_STEP(
        cpu_table_new(entries->data, norms->data, entries->shape[0], entries->shape[1], &table));
    nearest_all(&table, points, codebook, scratch, codes);
done:
    cpu_table_free(&table);
    free(scratch);
    return status;
}

aq_status cpu_subtract_entries(const aq_tensor *entries, const aq_tensor *codes, int codebook,
                               aq_tensor *points) {
    size_t count = points->shape[0], dims = points->shape[1], codebooks = codes->shape[1];
    const float *table = entries->data;
    const uint16_t *code = codes->data;
    float *values = points->data;
#pragma omp parallel for num_threads(cpu_threads(points))
    for (size_t n = 0; n < count; n++) {
        const float *entry = table + code[n * codebooks + (size_t)codebook] * dims;
        for (size_t i = 0; i < dims; i++) values[n * dims + i] -= entry[i];
    }
    return AQ_OK;
}

/* A counting sort: how many of each, where each starts, then each vector to its place. */
aq_status cpu_sort_codes(const aq_tensor *codes, int codebook, aq_tensor *order,
                         aq_tensor *offsets) {
    size_t count = codes->shape[0], codebooks = codes->shape[1], entries = offsets->shape[0] - 1;
    const uint16_t *code = (const uint16_t *)codes->data + codebook;
    uint32_t *place = order->data, *start = offsets->data, *next;
    AQ_TRY(cpu_scratch(entries * sizeof *next, &next));
    memset(start, 0, (entries + 1) * sizeof *start);
    for (size_t n = 0; n < count; n++) start[code[n * codebooks] + 1]++;
    for (size_t k = 0; k < entries; k++) {
        next[k] = start[k];
        start[k + 1] += start[k];
    }
    for (size_t n = 0; n < count; n++) place[next[code[n * codebooks]]++] = (uint32_t)n;
    free(next);
    return AQ_OK;
}

/* Place p's entry comes from the place that the last change before p's own brought there: that of
 * the lowest `left` above p + 1 (and above `count`) whose pick is p. So it is traced back. */
aq_status cpu_random_head(uint64_t seed, aq_stream stream, uint32_t total, aq_tensor *head) {
    uint32_t *from, *target = head->data, count = (uint32_t)head->shape[0];
    AQ_TRY(cpu_scratch(total * sizeof *from, &from));
    memset(from, 0, total * sizeof *from);
    for (uint32_t left = total; left > count; left--) {
        uint32_t pick = aq_random_pick(seed, stream, left);
        if (pick != left - 1) from[pick] = left - 1;
    }
    for (uint32_t place = 0; place < count; place++) {
        uint32_t origin = place;
        while (from[origin] != 0) origin = from[origin];
        target[place] = origin;
    }
    free(from);
    return AQ_OK;
}

/* The sum of the listed points, by pieces of their dimensions. */
static void sum_points(const float *points, size_t dims, const uint32_t *list, size_t count,
                       double *sum) {
    for (size_t first = 0; first < dims; first += CPU_PIECE) {
        size_t width = dims - first < CPU_PIECE ? dims - first : CPU_PIECE;
        double sums[CPU_PIECE] = {0};
        for (size_t n = 0; n < count; n++)
            cpu_add_piece(1.0f, points + list[n] * dims + first, width, sums);
        memcpy(sum + first, sums, width * sizeof *sum);
    }
}

aq_status cpu_cluster_sums(const aq_tensor *points, const aq_tensor *order,
                           const aq_tensor *offsets, const aq_cluster_draw *draw, aq_tensor *sums) {
    size_t count = points->shape[0], dims = points->shape[1], clusters = sums->shape[0];
    const float *values = points->data;
    const uint32_t *list = order->data, *start = offsets->data;
#pragma omp parallel for schedule(dynamic, 16) num_threads(cpu_threads(points))
    for (size_t k = 0; k < clusters; k++) {
        double *sum = (double *)sums->data + k * (2 * dims + 1), *stray = sum + dims + 1;
        size_t size = start[k + 1] - start[k];
        size_t drawn =
            aq_random_below(aq_random(draw->seed, AQ_STREAM_KMEANS_EMPTY, k), draw->total);
        bool own = drawn >= draw->first && drawn - draw->first < count;
        sum_points(values, dims, list + start[k], size, sum);
        sum[dims] = (double)size;
        for (size_t i = 0; i < dims; i++)
            stray[i] = own ? (double)values[(drawn - draw->first) * dims + i] : 0.0;
    }
    return AQ_OK;
}

aq_status cpu_code_sums(const aq_tensor *points, const aq_tensor *codes, int codebook,
                        const aq_cluster_draw *draw, aq_tensor *sums) {
    size_t count = points->shape[0], clusters = sums->shape[0];
    uint32_t *lists;
    AQ_TRY(cpu_scratch((count + clusters + 1) * sizeof *lists, &lists));
    aq_tensor order = {.home = points->home, .data = lists, .dtype = AQ_U32};
    aq_tensor offsets = order;
    offsets.data = lists + count;
    order.ndim = offsets.ndim = 1;
    order.shape[0] = count;
    offsets.shape[0] = clusters + 1;
    aq_status status;
    AQ_STEP(cpu_sort_codes(codes, codebook, &order, &offsets));
    AQ_STEP(cpu_cluster_sums(points, &order, &offsets, draw, sums));
done:
    free(lists);
    return status;
}

aq_status cpu_cluster_means(const aq_tensor *sums, aq_tensor *entries) {
    size_t dims = entries->shape[1], clusters = entries->shape[0];
    float *means = entries->data;
#pragma omp parallel for num_threads(cpu_threads(entries))
    for (size_t k = 0; k < clusters; k++) {
        const double *sum = (const double *)sums->data + k * (2 * dims + 1);
        double size = sum[dims];
        for (size_t i = 0; i < dims; i++)
            means[k * dims + i] = (float)(size > 0.0 ? sum[i] / size : sum[dims + 1 + i]);
    }
    return AQ_OK;
}
