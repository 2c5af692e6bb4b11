#include "base/half.h"
#include "tensor/cpu.h"

#include <math.h>
#include <stdlib.h>

/* Sixteen entries side by side; GCC and clang map the type to whatever registers there are. Scores
 * are made for TILE entries and all queries at once: enough independent sums to keep the
 * multipliers busy, few enough to stay in registers. */
enum { LANES = 16, BLOCKS = 2, TILE = BLOCKS * LANES };
typedef float lanes __attribute__((vector_size(64), may_alias));
typedef int32_t lane_mask __attribute__((vector_size(64)));

aq_status cpu_table_new(const float *entries, const float *norms, size_t count, size_t dims,
                        cpu_table *table) {
    size_t stride = (count + TILE - 1) / TILE * TILE;
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

/* Scores of entries first .. first + TILE - 1 for `count` queries, a constant where it is called.
 */
static inline __attribute__((always_inline)) void score_tile(const cpu_table *table,
                                                             const cpu_query *queries, int count,
                                                             size_t first, lanes score[][BLOCKS]) {
    const float *values = table->values + first;
    const lanes *norms = (const lanes *)(table->norms + first);
#pragma GCC unroll 8
    for (int q = 0; q < count; q++)
        for (int block = 0; block < BLOCKS; block++)
            score[q][block] = queries[q].factor * norms[block];
    for (size_t dim = 0; dim < table->dims; dim++, values += table->stride) {
        const lanes *value = (const lanes *)values;
#pragma GCC unroll 8
        for (int q = 0; q < count; q++)
            for (int block = 0; block < BLOCKS; block++)
                score[q][block] += queries[q].vector[dim] * value[block];
    }
}

/* Each lane's lowest score and its block; a later equal score does not replace an earlier one. */
typedef struct lane_best {
    lanes score;
    lane_mask block;
} lane_best;

static inline void keep_lower(const lanes *score, int32_t block, lane_best *best) {
    lane_mask lower = *score < best->score;
    best->score = (lanes)(((lane_mask)*score & lower) | ((lane_mask)best->score & ~lower));
    best->block = (block & lower) | (best->block & ~lower);
}

/* Over the lanes: the lowest score, at ties the lowest index. Floats are compared as integers of
 * the same order, whose minimum compilers can take side by side. */
static inline void reduce_lanes(const lane_best *best, cpu_query *query) {
    int32_t keys[LANES], lowest = INT32_MAX, index = INT32_MAX;
    for (int lane = 0; lane < LANES; lane++) {
        int32_t bits = (int32_t)aq_float_bits(best->score[lane] + 0.0f); /* no -0 */
        keys[lane] = bits ^ ((bits >> 31) & INT32_MAX);
    }
    for (int lane = 0; lane < LANES; lane++) lowest = keys[lane] < lowest ? keys[lane] : lowest;
    for (int lane = 0; lane < LANES; lane++) {
        int32_t own = keys[lane] == lowest ? best->block[lane] * LANES + lane : INT32_MAX;
        index = own < index ? own : index;
    }
    query->best = (size_t)index;
    query->score = best->score[index % LANES];
}

void cpu_table_best(const cpu_table *table, cpu_query *queries, int count) {
    cpu_query all[CPU_QUERIES];
    lane_best best[CPU_QUERIES];
    for (int q = 0; q < CPU_QUERIES; q++) {
        all[q] = queries[q < count ? q : 0];
        best[q] = (lane_best){.score = (lanes){0} + INFINITY, .block = {0}};
    }
    for (size_t first = 0; first < table->stride; first += TILE) {
        lanes score[CPU_QUERIES][BLOCKS];
        score_tile(table, all, CPU_QUERIES, first, score);
#pragma GCC unroll 8
        for (int q = 0; q < CPU_QUERIES; q++)
            for (int block = 0; block < BLOCKS; block++)
                keep_lower(&score[q][block], (int32_t)(first / LANES) + block, &best[q]);
    }
#pragma GCC unroll 8
    for (int q = 0; q < CPU_QUERIES; q++)
        if (q < count) reduce_lanes(&best[q], &queries[q]);
}

void cpu_table_scores(const cpu_table *table, const cpu_query *query, float *scores) {
    for (size_t first = 0; first < table->stride; first += TILE) {
        lanes score[1][BLOCKS];
        score_tile(table, query, 1, first, score);
        for (int block = 0; block < BLOCKS; block++)
            *(lanes *)(scores + first + (size_t)block * LANES) = score[0][block];
    }
}

float cpu_table_score(const cpu_table *table, const cpu_query *query, size_t entry) {
    float score = query->factor * table->norms[entry];
    for (size_t dim = 0; dim < table->dims; dim++)
        score += query->vector[dim] * table->values[dim * table->stride + entry];
    return score;
}
