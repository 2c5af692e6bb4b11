#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void group_norms_are_the_norms_of_row_groups(void) {
    enum { OUT = 42, IN = 77 };
    for (size_t lines = 1; lines <= 3; lines++) {
        aq_tensor weight = aq_test_normal(AQ_DIMS(OUT, IN), lines), scales;
        AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(OUT / lines), &scales));
        AQ_CHECK(aq_group_norms(&weight, &scales));
        double *w = reference_values(&weight), *expected = calloc(OUT, sizeof *expected);
        for (size_t i = 0; i < OUT * IN; i++) expected[i / (lines * IN)] += w[i] * w[i];
        for (size_t r = 0; r < OUT; r++) expected[r] = sqrt(expected[r]);
        reference_check(&scales, expected, 1e-6);
        free(w);
        aq_tensor_free(&weight);
        aq_tensor_free(&scales);
    }
}

static void a_zero_row_gets_the_zero_scale(void) {
    const float values[6] = {3, 4, 0, 0, 0, 1};
    aq_tensor weight = aq_test_tensor(AQ_F32, AQ_DIMS(3, 2), values), scales;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(3), &scales));
    AQ_CHECK(aq_group_norms(&weight, &scales));
    float *host = aq_test_host(&scales);
    CU_ASSERT_EQUAL(host[0], 5.0f);
    CU_ASSERT_EQUAL(host[1], AQ_ZERO_SCALE);
    CU_ASSERT_EQUAL(host[2], 1.0f);
    free(host);
    aq_tensor_free(&weight);
    aq_tensor_free(&scales);
}

static void scaled_vectors_cut_row_and_column_groups(void) {
    enum { ROWS = 7, LINES = 3, GROUPS = 5, WIDTH = 6, IN = GROUPS * WIDTH };
    aq_tensor weight = aq_test_normal(AQ_DIMS(ROWS * LINES, IN), 1), scales, points;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(ROWS), &scales));
    AQ_CHECK(
        aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(ROWS * GROUPS, LINES * WIDTH), &points));
    AQ_CHECK(aq_group_norms(&weight, &scales));
    AQ_CHECK(aq_scaled_vectors(&weight, &scales, WIDTH, &points));
    double *w = reference_values(&weight), *s = reference_values(&scales);
    double *expected = malloc(sizeof(double) * ROWS * LINES * IN), *next = expected;
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < GROUPS; j++)
            for (int i = 0; i < LINES; i++)
                for (int l = 0; l < WIDTH; l++)
                    *next++ = w[(r * LINES + i) * IN + j * WIDTH + l] / s[r];
    reference_check(&points, expected, 1e-6);
    free(w);
    free(s);
    aq_tensor_free(&weight);
    aq_tensor_free(&scales);
    aq_tensor_free(&points);
}

static void entry_norms_take_the_gram_matrix_or_the_identity(void) {
    enum { ENTRIES = 37, LINES = 2, WIDTH = 5, IN = 23, COLUMN = 7 };
    aq_tensor entries = aq_test_normal(AQ_DIMS(ENTRIES, LINES, WIDTH), 1);
    aq_tensor gram = reference_gram(IN, 2), norms;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(ENTRIES), &norms));
    double *e = reference_values(&entries), *h = reference_values(&gram);
    for (int with_gram = 0; with_gram < 2; with_gram++) {
        double *expected = calloc(ENTRIES, sizeof *expected);
        for (int line = 0; line < ENTRIES * LINES; line++)
            for (int i = 0; i < WIDTH; i++)
                for (int j = 0; j < WIDTH; j++) {
                    double weight = with_gram ? h[(COLUMN + i) * IN + COLUMN + j] : i == j;
                    expected[line / LINES] += e[line * WIDTH + i] * weight * e[line * WIDTH + j];
                }
        AQ_CHECK(
            aq_entry_norms(&entries, with_gram ? &gram : NULL, with_gram ? COLUMN : 0, &norms));
        reference_check(&norms, expected, 1e-6);
    }
    free(e);
    free(h);
    aq_tensor_free(&entries);
    aq_tensor_free(&gram);
    aq_tensor_free(&norms);
}

/* ---- lists and means ---- */

static void entries_are_subtracted_by_code(void) {
    aq_tensor points = aq_test_normal(AQ_DIMS(501, 6), 1),
              entries = aq_test_normal(AQ_DIMS(17, 6), 2);
    aq_tensor coded = reference_codes(AQ_DIMS(501, 2), 17, 3);
    double *expected = reference_values(&points), *values = reference_values(&entries);
    uint16_t *codes = aq_test_host(&coded);
    for (size_t i = 0; i < 501 * 6; i++) expected[i] -= values[codes[i / 6 * 2 + 1] * 6 + i % 6];
    AQ_CHECK(aq_subtract_entries(&entries, &coded, 1, &points));
    reference_check(&points, expected, 1e-6);
    free(values);
    free(codes);
    aq_tensor_free(&points), aq_tensor_free(&entries), aq_tensor_free(&coded);
}

typedef struct code_lists {
    aq_tensor codes, order, offsets;
} code_lists;

static code_lists sorted_lists(size_t count, size_t codebooks, size_t used, size_t entries,
                               int codebook) {
    code_lists lists = {.codes = reference_codes(AQ_DIMS(count, codebooks), used, 5)};
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U32, AQ_DIMS(count), &lists.order));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U32, AQ_DIMS(entries + 1), &lists.offsets));
    AQ_CHECK(aq_sort_codes(&lists.codes, codebook, &lists.order, &lists.offsets));
    return lists;
}

static void code_lists_free(code_lists *lists) {
    aq_tensor_free(&lists->codes);
    aq_tensor_free(&lists->order);
    aq_tensor_free(&lists->offsets);
}

/* Each list in ascending order, of its code, and together as long as all vectors: a permutation. */
static void check_lists(size_t count, size_t codebooks, size_t used, size_t entries, int codebook) {
    code_lists lists = sorted_lists(count, codebooks, used, entries, codebook);
    uint16_t *codes = aq_test_host(&lists.codes);
    uint32_t *order = aq_test_host(&lists.order), *offsets = aq_test_host(&lists.offsets);
    int wrong = offsets[0] != 0 || offsets[entries] != count;
    for (size_t k = 0; k < entries && !wrong; k++) {
        wrong += offsets[k] > offsets[k + 1];
        for (uint32_t i = offsets[k]; i < offsets[k + 1]; i++) {
            wrong += codes[order[i] * codebooks + (size_t)codebook] != k;
            wrong += i > offsets[k] && order[i] <= order[i - 1];
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
    free(codes);
    free(order);
    free(offsets);
    code_lists_free(&lists);
}

static void codes_are_listed_in_ascending_order(void) {
    check_lists(1, 1, 1, 1, 0);
    check_lists(10007, 1, 256, 256, 0);
    check_lists(5003, 3, 64, 64, 2);
    check_lists(3001, 2, 10, 4096, 1);
    check_lists(70001, 1, 65536, 65536, 0);
}

/* Drawn are the points that an order of all of them begins with. */
static void a_random_head_begins_the_order(void) {
    const uint32_t sizes[][2] = {{1, 1}, {2, 1}, {7, 7}, {1000, 1}, {1000, 999}, {70001, 4096}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint32_t total = sizes[s][0], count = sizes[s][1], drawn[4096];
        uint32_t *order = malloc(total * sizeof *order);
        aq_random_order(s, AQ_STREAM_TEST, total, order);
        AQ_CHECK(aq_random_head(aq_test_backend(), s, AQ_STREAM_TEST, total, count, drawn));
        CU_ASSERT(memcmp(order, drawn, count * sizeof *order) == 0);
        free(order);
    }
}

/* Entries from points that are numbers first, first + 1, ... of `total`. */
static void find_means(const aq_tensor *points, const code_lists *lists,
                       const aq_cluster_draw *draw, aq_tensor *entries) {
    aq_tensor sums;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F64,
                           AQ_DIMS(entries->shape[0], 2 * entries->shape[1] + 1), &sums));
    AQ_CHECK(aq_cluster_sums(points, &lists->order, &lists->offsets, draw, &sums));
    AQ_CHECK(aq_cluster_means(&sums, entries));
    aq_tensor_free(&sums);
}

/* The same without lists. */
static void find_code_means(const aq_tensor *points, const aq_tensor *codes,
                            const aq_cluster_draw *draw, aq_tensor *entries) {
    aq_tensor sums;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F64,
                           AQ_DIMS(entries->shape[0], 2 * entries->shape[1] + 1), &sums));
    AQ_CHECK(aq_code_sums(points, codes, 0, draw, &sums));
    AQ_CHECK(aq_cluster_means(&sums, entries));
    aq_tensor_free(&sums);
}

static void means_are_the_lists_means(void) {
    const size_t sizes[][3] = {
        {4001, 64, 8}, {999, 7, 33}, {5000, 1, 5}, {3000, 300, 16}, {70, 600, 8}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t count = sizes[s][0], clusters = sizes[s][1], dims = sizes[s][2];
        code_lists lists = sorted_lists(count, 1, clusters, clusters, 0);
        aq_tensor points = aq_test_normal(AQ_DIMS(count, dims), 8), entries;
        AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(clusters, dims), &entries));
        find_means(&points, &lists, &(aq_cluster_draw){.seed = 1, .total = count}, &entries);
        double *x = reference_values(&points), *expected = calloc(clusters * dims, sizeof(double));
        uint32_t *offsets = aq_test_host(&lists.offsets);
        uint16_t *codes = aq_test_host(&lists.codes);
        for (size_t i = 0; i < count * dims; i++) {
            size_t k = codes[i / dims];
            expected[k * dims + i % dims] += x[i] / (double)(offsets[k + 1] - offsets[k]);
        }
        for (size_t k = 0; k < clusters; k++)
            for (size_t i = 0; offsets[k] == offsets[k + 1] && i < dims; i++)
                expected[k * dims + i] =
                    x[aq_random_below(aq_random(1, AQ_STREAM_KMEANS_EMPTY, k), count) * dims + i];
        CU_ASSERT(reference_distance(&entries, expected) < 2e-6);
        find_code_means(&points, &lists.codes, &(aq_cluster_draw){.seed = 1, .total = count},
                        &entries);
        reference_check(&entries, expected, 2e-6);
        free(x);
        free(offsets);
        free(codes);
        aq_tensor_free(&points);
        aq_tensor_free(&entries);
        code_lists_free(&lists);
    }
}

static void an_empty_cluster_takes_its_random_point(void) {
    enum { COUNT = 50, CLUSTERS = 200, DIMS = 8, SEED = 77 };
    code_lists lists = sorted_lists(COUNT, 1, 10, CLUSTERS, 0);
    aq_tensor points = aq_test_normal(AQ_DIMS(COUNT, DIMS), 8), entries;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(CLUSTERS, DIMS), &entries));
    find_means(&points, &lists, &(aq_cluster_draw){.seed = SEED, .total = COUNT}, &entries);
    float *x = aq_test_host(&points), *means = aq_test_host(&entries);
    int wrong = 0;
    for (size_t k = 10; k < CLUSTERS; k++) {
        size_t n = aq_random_below(aq_random(SEED, AQ_STREAM_KMEANS_EMPTY, k), COUNT);
        wrong += memcmp(means + k * DIMS, x + n * DIMS, DIMS * sizeof *x) != 0;
    }
    CU_ASSERT_EQUAL(wrong, 0);
    free(x);
    free(means);
    aq_tensor_free(&points);
    aq_tensor_free(&entries);
    code_lists_free(&lists);
}

/* Two members with half of the points each: their sums added are those of one with all, exactly
 * where the sums are (small whole numbers). */
static void sums_of_parts_add_up(void) {
    enum { COUNT = 100, HALF = 37, CLUSTERS = 60, DIMS = 3, WIDTH = 2 * DIMS + 1, SEED = 5 };
    float host[COUNT * DIMS];
    for (size_t i = 0; i < COUNT * DIMS; i++) host[i] = (float)(i * 7 % 41) - 20;
    aq_tensor points = aq_test_tensor(AQ_F32, AQ_DIMS(COUNT, DIMS), host);
    aq_tensor codes = reference_codes(AQ_DIMS(COUNT, 1), 20, 5);
    const size_t starts[] = {0, 0, HALF}, counts[] = {COUNT, HALF, COUNT - HALF};
    double *sums[3];
    for (int part = 0; part < 3; part++) {
        aq_tensor own = aq_tensor_rows(&points, starts[part], counts[part]);
        aq_tensor listed = aq_tensor_rows(&codes, starts[part], counts[part]), order, offsets, sum;
        const aq_cluster_draw draw = {.seed = SEED, .first = starts[part], .total = COUNT};
        AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U32, AQ_DIMS(counts[part]), &order));
        AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U32, AQ_DIMS(CLUSTERS + 1), &offsets));
        AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F64, AQ_DIMS(CLUSTERS, WIDTH), &sum));
        AQ_CHECK(aq_sort_codes(&listed, 0, &order, &offsets));
        AQ_CHECK(aq_cluster_sums(&own, &order, &offsets, &draw, &sum));
        sums[part] = aq_test_host(&sum);
        AQ_CHECK(aq_code_sums(&own, &listed, 0, &draw, &sum));
        double *again = aq_test_host(&sum);
        CU_ASSERT(memcmp(sums[part], again, CLUSTERS * WIDTH * sizeof *again) == 0);
        free(again);
        aq_tensor_free(&order), aq_tensor_free(&offsets), aq_tensor_free(&sum);
    }
    size_t wrong = 0;
    for (size_t i = 0; i < CLUSTERS * WIDTH; i++) wrong += sums[0][i] != sums[1][i] + sums[2][i];
    CU_ASSERT_EQUAL(wrong, 0);
    for (int part = 0; part < 3; part++) free(sums[part]);
    aq_tensor_free(&points), aq_tensor_free(&codes);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(group_norms_are_the_norms_of_row_groups),
                                    AQ_CASE(a_zero_row_gets_the_zero_scale),
                                    AQ_CASE(scaled_vectors_cut_row_and_column_groups),
                                    AQ_CASE(entry_norms_take_the_gram_matrix_or_the_identity),
                                    AQ_CASE(entries_are_subtracted_by_code),
                                    AQ_CASE(codes_are_listed_in_ascending_order),
                                    AQ_CASE(a_random_head_begins_the_order),
                                    AQ_CASE(means_are_the_lists_means),
                                    AQ_CASE(an_empty_cluster_takes_its_random_point),
                                    AQ_CASE(sums_of_parts_add_up)};
    return aq_test_backend_main("ops: clusters", cases, sizeof cases / sizeof *cases, argc, argv);
}
