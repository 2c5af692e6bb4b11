#include "tensor/cpu.h"

#include <math.h>
#include <stdlib.h>

/* Sixteen entries side by side; GCC and clang map the type to whatever registers there are. */
enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(64)));
typedef int32_t lane_mask __attribute__((vector_size(64)));

aq_status cpu_table_new(const float *entries, const float *norms, size_t count, size_t dims,
                        cpu_table *table) {
    size_t stride = cpu_padded(count);
    *table = (cpu_table){.entries = count, .dims = dims, .stride = stride};
    AQ_TRY(cpu_scratch((dims + 1) * stride * sizeof(float), &table->values));
    table->norms = table->values + dims * stride;
    for (size_t k = 0; k < stride; k++) table->norms[k] = k < count ? norms[k] : INFINITY;
    for (size_t dim = 0; dim < dims; dim++)
        for (size_t k = 0; k < stride; k++)
            table->values[dim * stride + k] = k < count ? entries[k * dims + dim] : 0.0f;
    return AQ_OK;
}

void cpu_table_free(cpu_table *table) {
    free(table->values);
    *table = (cpu_table){0};
}

/* Scores of entries first .. first + 15. */
static inline lanes score_lanes(const cpu_table *table, const cpu_query *query, size_t first) {
    lanes score = query->factor * *(const lanes *)(table->norms + first);
    for (size_t dim = 0; dim < table->dims; dim++)
        score += query->vector[dim] * *(const lanes *)(table->values + dim * table->stride + first);
    return score;
}

float cpu_table_score(const cpu_table *table, const cpu_query *query, size_t entry) {
    size_t first = entry / LANES * LANES;
    return score_lanes(table, query, first)[entry - first];
}

/* Each lane's lowest score and its block; a later equal score does not replace an earlier one. */
typedef struct lane_best {
    lanes score;
    lane_mask block;
} lane_best;

static inline void keep_lower(lanes score, int32_t block, lane_best *best) {
    lane_mask lower = score < best->score;
    best->score = (lanes)(((lane_mask)score & lower) | ((lane_mask)best->score & ~lower));
    best->block = (block & lower) | (best->block & ~lower);
}

/* Over the lanes: the lowest score, at ties the lowest index. */
static void reduce_lanes(const lane_best *best, cpu_query *query) {
    query->best = 0;
    query->score = INFINITY;
    for (int lane = 0; lane < LANES; lane++) {
        size_t index = (size_t)best->block[lane] * LANES + (size_t)lane;
        float score = best->score[lane];
        if (score < query->score || (score == query->score && index < query->best)) {
            query->best = index;
            query->score = score;
        }
    }
}

void cpu_table_best(const cpu_table *table, cpu_query *queries, int count) {
    lane_best best[CPU_QUERIES];
    for (int q = 0; q < CPU_QUERIES; q++)
        best[q] = (lane_best){.score = (lanes){0} + INFINITY, .block = {0}};
    for (size_t first = 0; first < table->stride; first += LANES)
        for (int q = 0; q < count; q++)
            keep_lower(score_lanes(table, &queries[q], first), (int32_t)(first / LANES), &best[q]);
    for (int q = 0; q < count; q++) reduce_lanes(&best[q], &queries[q]);
}

void cpu_table_scores(const cpu_table *table, const cpu_query *query, float *scores) {
    for (size_t first = 0; first < table->stride; first += LANES)
        *(lanes *)(scores + first) = score_lanes(table, query, first);
}
