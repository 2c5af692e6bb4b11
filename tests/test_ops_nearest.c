#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct nearest_data {
    aq_tensor points, entries, norms, codes;
} nearest_data;

static nearest_data nearest_new(size_t count, size_t entries, size_t dims, size_t codebooks) {
    nearest_data data = {.points = aq_test_normal(AQ_DIMS(count, dims), 1),
                         .entries = aq_test_normal(AQ_DIMS(entries, dims), 2),
                         .codes = reference_codes(AQ_DIMS(count, codebooks), entries, 3)};
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(entries), &data.norms));
    aq_tensor blocks = aq_tensor_reshape(&data.entries, AQ_DIMS(entries, 1, dims));
    AQ_CHECK(aq_entry_norms(&blocks, NULL, 0, &data.norms));
    return data;
}

static void nearest_free(nearest_data *data) {
    aq_tensor_free(&data->points);
    aq_tensor_free(&data->entries);
    aq_tensor_free(&data->norms);
    aq_tensor_free(&data->codes);
}

/* By how much the chosen entries miss the nearest ones, at most; codes of another codebook must
 * not have changed. */
static double worst_excess(const nearest_data *data, size_t codebook) {
    size_t count = data->points.shape[0], dims = data->points.shape[1];
    size_t entries = data->entries.shape[0], books = data->codes.shape[1];
    double *x = reference_values(&data->points), *e = reference_values(&data->entries);
    uint16_t *codes = aq_test_host(&data->codes);
    double worst = 0.0;
    for (size_t n = 0; n < count; n++) {
        double nearest = INFINITY, chosen = INFINITY;
        for (size_t k = 0; k < entries; k++) {
            double distance = 0.0;
            for (size_t i = 0; i < dims; i++) distance += pow(x[n * dims + i] - e[k * dims + i], 2);
            nearest = fmin(nearest, distance);
            if (k == codes[n * books + codebook]) chosen = distance;
        }
        worst = fmax(worst, chosen - nearest);
    }
    free(x);
    free(e);
    free(codes);
    return worst;
}

/* The sum of the distances of the chosen entries over that of the nearest ones. */
static double distance_ratio(const nearest_data *data) {
    size_t count = data->points.shape[0], dims = data->points.shape[1];
    size_t entries = data->entries.shape[0];
    double *x = reference_values(&data->points), *e = reference_values(&data->entries);
    uint16_t *codes = aq_test_host(&data->codes);
    double chosen = 0, nearest = 0;
    for (size_t n = 0; n < count; n++) {
        double least = INFINITY;
        for (size_t k = 0; k < entries; k++) {
            double distance = 0;
            for (size_t i = 0; i < dims; i++) distance += pow(x[n * dims + i] - e[k * dims + i], 2);
            least = fmin(least, distance);
            if (k == codes[n]) chosen += distance;
        }
        nearest += least;
    }
    free(x), free(e), free(codes);
    return chosen / nearest;
}

static void nearest_finds_the_nearest_entry(void) {
    const size_t sizes[][3] = {{1, 1, 1},    {1003, 256, 8}, {333, 17, 4},  {129, 64, 32},
                               {65, 300, 5}, {35, 500, 8},   {70, 256, 16}, {9, 2, 24}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        nearest_data data = nearest_new(sizes[s][0], sizes[s][1], sizes[s][2], 1);
        AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 0, AQ_FAST, &data.codes));
        CU_ASSERT(worst_excess(&data, 0) < 2e-3 * (double)sizes[s][2]);
        AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 0, AQ_PRECISE, &data.codes));
        CU_ASSERT(worst_excess(&data, 0) < 1e-5 * (double)sizes[s][2]);
        nearest_free(&data);
    }
}

static void nearest_reaches_all_65536_entries(void) {
    enum { ENTRIES = 65536, DIMS = 8 };
    nearest_data data = nearest_new(600, ENTRIES, DIMS, 1);
    double *entries = reference_values(&data.entries);
    float *points = aq_test_host(&data.points);
    for (size_t n = 0; n < 600; n++)
        for (size_t i = 0; i < DIMS; i++)
            points[n * DIMS + i] = (float)entries[(n * 109 + 35) % ENTRIES * DIMS + i];
    AQ_CHECK(aq_tensor_upload(&data.points, points, aq_tensor_bytes(&data.points)));
    AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 0, AQ_FAST, &data.codes));
    uint16_t *codes = aq_test_host(&data.codes);
    int wrong = 0;
    for (size_t n = 0; n < 600; n++) wrong += codes[n] != (n * 109 + 35) % ENTRIES;
    CU_ASSERT_EQUAL(wrong, 0);
    free(entries);
    free(points);
    free(codes);
    nearest_free(&data);
}

static void nearest_writes_its_codebook_only(void) {
    nearest_data data = nearest_new(301, 64, 8, 3);
    uint16_t *before = aq_test_host(&data.codes);
    AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 1, AQ_FAST, &data.codes));
    uint16_t *after = aq_test_host(&data.codes);
    int changed = 0;
    for (size_t i = 0; i < 903; i++) changed += i % 3 != 1 && before[i] != after[i];
    CU_ASSERT_EQUAL(changed, 0);
    CU_ASSERT(worst_excess(&data, 1) < 2e-2);
    free(before);
    free(after);
    nearest_free(&data);
}

static void few_entries_cost_at_most_1e_5_of_the_distance(void) {
    const size_t sizes[][3] = {{20011, 256, 8}, {6000, 64, 16}, {8000, 511, 4}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        nearest_data data = nearest_new(sizes[s][0], sizes[s][1], sizes[s][2], 1);
        AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 0, AQ_FAST, &data.codes));
        CU_ASSERT(distance_ratio(&data) <= 1 + 1e-5);
        nearest_free(&data);
    }
}

/* Far from 1 in size, or from each other. */
static void few_entries_of_any_size_are_compared(void) {
    const float factors[][2] = {{1e-12f, 1e-12f}, {1e9f, 1e9f}, {1, 300}, {300, 1}};
    for (size_t f = 0; f < sizeof factors / sizeof *factors; f++) {
        nearest_data data = nearest_new(2000, 256, 8, 1);
        aq_tensor blocks = aq_tensor_reshape(&data.entries, AQ_DIMS(256, 1, 8));
        AQ_CHECK(aq_axpby(0, &data.entries, factors[f][1], &data.entries));
        AQ_CHECK(aq_axpby(0, &data.points, factors[f][0], &data.points));
        AQ_CHECK(aq_entry_norms(&blocks, NULL, 0, &data.norms));
        AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 0, AQ_FAST, &data.codes));
        CU_ASSERT(distance_ratio(&data) <= 1 + 1e-5);
        nearest_free(&data);
    }
}

static void many_entries_cost_at_most_1e_4_of_the_distance(void) {
    const size_t sizes[][3] = {
        {600, 2048, 8}, {300, 777, 8}, {200, 3000, 16}, {150, 512, 4}, {90, 600, 13}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        nearest_data data = nearest_new(sizes[s][0], sizes[s][1], sizes[s][2], 1);
        AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 0, AQ_FAST, &data.codes));
        CU_ASSERT(distance_ratio(&data) <= 1 + 1e-4);
        nearest_free(&data);
    }
}

/* Every entry occurs eight times, far apart. */
static void check_ties(size_t distinct) {
    enum { COPIES = 8, DIMS = 8 };
    nearest_data data = nearest_new(500, distinct * COPIES, DIMS, 1);
    float *entries = aq_test_host(&data.entries), *norms = aq_test_host(&data.norms);
    for (size_t k = distinct; k < distinct * COPIES; k++) {
        memcpy(entries + k * DIMS, entries + k % distinct * DIMS, DIMS * sizeof *entries);
        norms[k] = norms[k % distinct];
    }
    AQ_CHECK(aq_tensor_upload(&data.entries, entries, aq_tensor_bytes(&data.entries)));
    AQ_CHECK(aq_tensor_upload(&data.norms, norms, aq_tensor_bytes(&data.norms)));
    AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 0, AQ_FAST, &data.codes));
    uint16_t *codes = aq_test_host(&data.codes);
    int high = 0;
    for (size_t n = 0; n < 500; n++) high += codes[n] >= distinct;
    CU_ASSERT_EQUAL(high, 0);
    CU_ASSERT(worst_excess(&data, 0) < 2e-2);
    free(entries);
    free(norms);
    free(codes);
    nearest_free(&data);
}

static void nearest_takes_the_lowest_index_on_ties(void) {
    check_ties(40);
    check_ties(200);
}

static void check_nan(size_t entries) {
    enum { DIMS = 8 };
    nearest_data data = nearest_new(100, entries, DIMS, 1);
    float *norms = aq_test_host(&data.norms), *points = aq_test_host(&data.points);
    for (size_t k = 0; k < entries; k++)
        if (k != 33 && k != 34) norms[k] = NAN;
    points[99 * DIMS] = NAN;
    AQ_CHECK(aq_tensor_upload(&data.norms, norms, aq_tensor_bytes(&data.norms)));
    AQ_CHECK(aq_tensor_upload(&data.points, points, aq_tensor_bytes(&data.points)));
    AQ_CHECK(aq_nearest(&data.points, &data.entries, &data.norms, 0, AQ_FAST, &data.codes));
    uint16_t *codes = aq_test_host(&data.codes);
    for (int n = 0; n < 99; n++) CU_ASSERT(codes[n] == 33 || codes[n] == 34);
    CU_ASSERT(codes[99] < entries);
    free(norms);
    free(points);
    free(codes);
    nearest_free(&data);
}

static void nan_never_wins(void) {
    check_nan(50);
    check_nan(700);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(nearest_finds_the_nearest_entry),
                                    AQ_CASE(nearest_reaches_all_65536_entries),
                                    AQ_CASE(few_entries_cost_at_most_1e_5_of_the_distance),
                                    AQ_CASE(few_entries_of_any_size_are_compared),
                                    AQ_CASE(many_entries_cost_at_most_1e_4_of_the_distance),
                                    AQ_CASE(nearest_writes_its_codebook_only),
                                    AQ_CASE(nearest_takes_the_lowest_index_on_ties),
                                    AQ_CASE(nan_never_wins)};
    return aq_test_backend_main("ops: nearest entries", cases, sizeof cases / sizeof *cases, argc,
                                argv);
}
