/* One column group of a run, all pairs of entries at once: what a pair costs beyond its two entries
 * stands in a table that all rows share (METHOD, "Beyond the published rounds"). */
#include "tensor/cpu.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4 }; /* that go through the table together */

typedef struct pair_view {
    const cpu_group_step *step;
    size_t rows, groups, group, entries, lines, width, dims, in, span;
    const float *books[2]; /* [K, d] */
    float *table;          /* [K, K]: 2 a H_JJ b */
} pair_view;

/* One row's pairs, over s^2: pair (a, b) has scores[0][a] + scores[1][b] + table[a, b]. */
typedef struct pair_row {
    float scores[2][AQ_MAX_PAIR_ENTRIES];
    float scale, present, best;
    size_t codes[2], found[2]; /* before and after */
} pair_row;

/* target += factor * H_JJ piece, line by line. */
static void add_corner_product(const pair_view *view, float factor, const float *piece,
                               float *target) {
    size_t first = view->group * view->width;
    const float *gram = view->step->search->gram->data;
    for (size_t line = 0; line < view->dims; line += view->width)
        for (size_t j = 0; j < view->width; j++) {
            const float *corner = gram + (first + j) * view->in + first;
            float value = factor * piece[line + j];
            for (size_t i = 0; i < view->width; i++) target[line + i] += value * corner[i];
        }
}

static void fill_table(const pair_view *view, float *products) {
#pragma omp parallel for num_threads(cpu_threads(view->step->search->losses))
    for (size_t a = 0; a < view->entries; a++) {
        float *product = products + a * view->dims, *line = view->table + a * view->entries;
        memset(product, 0, view->dims * sizeof *product);
        add_corner_product(view, 2, view->books[0] + a * view->dims, product);
        for (size_t b = 0; b < view->entries; b++) {
            const float *entry = view->books[1] + b * view->dims;
            float sum = 0;
            for (size_t i = 0; i < view->dims; i++) sum += product[i] * entry[i];
            line[b] = sum;
        }
    }
}

/* False for a row that no pair changes: its scale is 0, or its loss no number. */
static bool load_row(const pair_view *view, size_t number, float *vector, pair_row *row) {
    const aq_group_search *search = view->step->search;
    const uint16_t *codes = search->coded->codes.data;
    const float *residual = view->step->residual + view->step->index * view->width;
    row->scale = ((const float *)search->coded->scales.data)[number];
    for (size_t m = 0; m < 2; m++)
        row->codes[m] = row->found[m] = codes[(number * view->groups + view->group) * 2 + m];
    for (size_t line = 0; line < view->lines; line++)
        memcpy(vector + line * view->width, residual + (number * view->lines + line) * view->span,
               view->width * sizeof *vector);
    for (size_t m = 0; m < 2; m++)
        add_corner_product(view, -row->scale, view->books[m] + row->codes[m] * view->dims, vector);
    float largest = 0;
    for (size_t i = 0; i < view->dims; i++) {
        vector[i] *= 2 / row->scale;
        largest += fabsf(vector[i]);
    }
    return largest < INFINITY && ((const float *)search->losses->data)[number] < INFINITY;
}

static void score_entries(const pair_view *view, const float *vector, pair_row *row) {
    for (size_t m = 0; m < 2; m++)
        for (size_t k = 0; k < view->entries; k++) {
            const float *entry = view->books[m] + k * view->dims;
            float score = view->step->norms[m * view->entries + k];
            for (size_t i = 0; i < view->dims; i++) score += vector[i] * entry[i];
            row->scores[m][k] = score;
        }
    row->present = row->scores[0][row->codes[0]] +
                   (row->scores[1][row->codes[1]] +
                    view->table[row->codes[0] * view->entries + row->codes[1]]);
    row->best = row->present;
}

/* The lowest of each row's pairs, by their first entries. */
static void find_first_entries(const pair_view *view, pair_row *rows) {
    const float *b0 = rows[0].scores[1], *b1 = rows[1].scores[1], *b2 = rows[2].scores[1],
                *b3 = rows[3].scores[1];
    for (size_t a = 0; a < view->entries; a++) {
        const float *table = view->table + a * view->entries;
        float least[ROWS], m0 = INFINITY, m1 = INFINITY, m2 = INFINITY, m3 = INFINITY;
#pragma omp simd reduction(min : m0, m1, m2, m3)
        for (size_t b = 0; b < view->entries; b++) {
            float t = table[b], s0 = b0[b] + t, s1 = b1[b] + t, s2 = b2[b] + t, s3 = b3[b] + t;
            m0 = s0 < m0 ? s0 : m0;
            m1 = s1 < m1 ? s1 : m1;
            m2 = s2 < m2 ? s2 : m2;
            m3 = s3 < m3 ? s3 : m3;
        }
        least[0] = m0, least[1] = m1, least[2] = m2, least[3] = m3;
        for (size_t r = 0; r < ROWS; r++) {
            float loss = rows[r].scores[0][a] + least[r];
            if (!(loss < rows[r].best)) continue;
            rows[r].best = loss;
            rows[r].found[0] = a;
        }
    }
}

/* The entry that goes best with the first one, if the pair is better than the present one. */
static void find_second_entry(const pair_view *view, pair_row *row) {
    if (!(row->best < row->present)) return;
    const float *table = view->table + row->found[0] * view->entries;
    size_t found = 0;
    for (size_t b = 1; b < view->entries; b++)
        if (row->scores[1][b] + table[b] < row->scores[1][found] + table[found] ||
            isnan(row->scores[1][found]))
            found = b;
    row->found[1] = found;
}

static void store_row(const pair_view *view, size_t number, const pair_row *row) {
    const aq_group_search *search = view->step->search;
    size_t place = view->step->index * view->rows + number;
    uint16_t *choices = (uint16_t *)search->choices->data + 2 * place;
    float *delta = view->step->delta + number * view->dims;
    ((uint8_t *)search->ancestors->data)[place] = 0;
    memset(delta, 0, view->dims * sizeof *delta);
    for (size_t m = 0; m < 2; m++) {
        const float *before = view->books[m] + row->codes[m] * view->dims;
        const float *after = view->books[m] + row->found[m] * view->dims;
        choices[m] = (uint16_t)row->found[m];
        if (row->found[m] == row->codes[m]) continue;
        for (size_t i = 0; i < view->dims; i++) delta[i] += row->scale * (after[i] - before[i]);
    }
    if (row->best < row->present)
        ((float *)search->losses->data)[number] +=
            row->scale * row->scale * (row->best - row->present);
}

/* Rows first .. first + count - 1, count up to ROWS. */
static void search_rows(const pair_view *view, size_t first, size_t count, float *vector,
                        pair_row *rows) {
    for (size_t r = 0; r < ROWS; r++) {
        size_t number = first + (r < count ? r : 0);
        if (load_row(view, number, vector, &rows[r])) {
            score_entries(view, vector, &rows[r]);
            continue;
        }
        memset(rows[r].scores, 0, sizeof rows[r].scores);
        rows[r].present = rows[r].best = -INFINITY;
    }
    find_first_entries(view, rows);
    for (size_t r = 0; r < count; r++) {
        find_second_entry(view, &rows[r]);
        store_row(view, first + r, &rows[r]);
    }
}

static pair_view view_of(const cpu_group_step *step) {
    const aq_group_search *search = step->search;
    const size_t *books = search->coded->codebooks.shape;
    const float *entries = search->coded->codebooks.data;
    size_t dims = books[2] * books[3];
    return (pair_view){.step = step,
                       .rows = search->losses->shape[0],
                       .groups = search->coded->codes.shape[1],
                       .group = search->run.groups[step->index],
                       .entries = books[1],
                       .lines = books[2],
                       .width = books[3],
                       .dims = dims,
                       .in = search->gram->shape[0],
                       .span = search->run.count * books[3],
                       .books = {entries, entries + books[1] * dims}};
}

aq_status cpu_search_pairs(const cpu_group_step *step) {
    pair_view view = view_of(step);
    int threads = cpu_threads(step->search->losses);
    size_t table = cpu_padded(view.entries * view.entries), each = cpu_padded(view.dims);
    float *memory;
    AQ_TRY(cpu_scratch((table + view.entries * view.dims + (size_t)threads * each) * sizeof(float),
                       &memory));
    view.table = memory;
    fill_table(&view, memory + table);
    float *vectors = memory + table + view.entries * view.dims;
#pragma omp parallel num_threads(threads)
    {
        pair_row rows[ROWS];
#pragma omp for
        for (size_t row = 0; row < view.rows; row += ROWS) {
            size_t left = view.rows - row;
            search_rows(&view, row, left < ROWS ? left : ROWS,
                        vectors + (size_t)omp_get_thread_num() * each, rows);
        }
    }
    free(memory);
    return AQ_OK;
}
