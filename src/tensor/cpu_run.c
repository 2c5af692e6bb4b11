/* A run of column groups: each is searched for all rows, then every row's window, the run's columns
 * of its residuals, is moved on. */
#include "tensor/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pairs change places after every step, unless a beam of 1 works in place. */
typedef struct window {
    const aq_group_search *search;
    size_t rows, beam, lines, width, span; /* span: columns of the run */
    float *gram;                           /* [span, span] of the run's columns */
    float *residual[2];                    /* [rows, beam, o, span] */
    float *change[2];                      /* the same, of the decoded weight; one is `delta` */
    float *step;                           /* [rows, beam, o, g]: what the last step changed */
    float *norms;                          /* [M, K] */
} window;

static size_t column_of(const window *w, size_t l) {
    return w->search->run.groups[l / w->width] * w->width + l % w->width;
}

static void copy_gram(const window *w) {
    const float *gram = w->search->gram->data;
    size_t in = w->search->gram->shape[0];
    for (size_t i = 0; i < w->span; i++)
        for (size_t j = 0; j < w->span; j++)
            w->gram[i * w->span + j] = gram[column_of(w, i) * in + column_of(w, j)];
}

/* Residuals of hypotheses that are not alive stay out of it: theirs are zeros. */
static void load_residuals(const window *w) {
    const aq_tensor *residual = w->search->residual;
    size_t held = residual->shape[1], in = residual->shape[3];
    const float *values = residual->data;
    uint8_t *origins = w->search->origins->data;
#pragma omp parallel for num_threads(cpu_threads(w->search->losses))
    for (size_t place = 0; place < w->rows * w->beam; place++) {
        size_t row = place / w->beam, b = place % w->beam;
        origins[place] = (uint8_t)(b < held ? b : 0);
        for (size_t line = 0; line < w->lines; line++) {
            float *target = w->residual[0] + (place * w->lines + line) * w->span;
            const float *source = values + ((row * held + b) * w->lines + line) * in;
            for (size_t l = 0; l < w->span; l++)
                target[l] = b < held ? source[column_of(w, l)] : 0.0f;
        }
    }
}

static aq_status search_step(const window *w, size_t step) {
    const aq_coded *coded = w->search->coded;
    const size_t *shape = coded->codebooks.shape;
    size_t count = shape[0] * shape[1];
    aq_tensor entries = aq_tensor_reshape(&coded->codebooks, AQ_DIMS(count, shape[2], shape[3]));
    aq_tensor norms = {
        .home = entries.home, .data = w->norms, .shape = {count, 1, 1, 1}, .ndim = 1};
    size_t column = w->search->run.groups[step] * w->width;
    AQ_TRY(cpu_entry_norms(&entries, w->search->gram, column, &norms));
    const cpu_group_step group = {.search = w->search,
                                  .index = step,
                                  .norms = w->norms,
                                  .residual = w->residual[0],
                                  .delta = w->step};
    return w->search->codebook_orders ? cpu_search_step(&group) : cpu_search_pairs(&group);
}

/* A line of a hypothesis: what its ancestor changed before, what the step changed, and what that
 * does to the columns that the run has yet to come to. */
static void move_line(const window *w, size_t step, size_t from, size_t to) {
    size_t first = step * w->width, next = first + w->width, later = w->span - next;
    const float *delta = w->step + to * w->width;
    float *change = w->change[1] + to * w->span, *residual = w->residual[1] + to * w->span;
    if (w->change[1] != w->change[0]) {
        memcpy(change, w->change[0] + from * w->span, first * sizeof *change);
        memcpy(residual + next, w->residual[0] + from * w->span + next, later * sizeof *residual);
    }
    memcpy(change + first, delta, w->width * sizeof *change);
    for (size_t l = 0; l < w->width; l++) {
        const float *gram = w->gram + (first + l) * w->span;
        if (delta[l] == 0.0f) continue;
        for (size_t i = next; i < w->span; i++) residual[i] += delta[l] * gram[i];
    }
}

static void move_row(const window *w, size_t step, size_t row) {
    const uint8_t *ancestors =
        (const uint8_t *)w->search->ancestors->data + (step * w->rows + row) * w->beam;
    uint8_t before[AQ_MAX_BEAM], *origins = (uint8_t *)w->search->origins->data + row * w->beam;
    memcpy(before, origins, w->beam);
    for (size_t b = 0; b < w->beam; b++) {
        origins[b] = before[ancestors[b]];
        for (size_t line = 0; line < w->lines; line++)
            move_line(w, step, (row * w->beam + ancestors[b]) * w->lines + line,
                      (row * w->beam + b) * w->lines + line);
    }
}

static void swap_pair(float *pair[2]) {
    float *first = pair[0];
    pair[0] = pair[1];
    pair[1] = first;
}

static void move_rows(window *w, size_t step) {
#pragma omp parallel for num_threads(cpu_threads(w->search->losses))
    for (size_t row = 0; row < w->rows; row++) move_row(w, step, row);
    swap_pair(w->residual);
    swap_pair(w->change);
}

/* Where the last step left the changes may not be `delta`; the dead have origin 0 and change
 * nothing. */
static void store_changes(const window *w) {
    const float *losses = w->search->losses->data;
    uint8_t *origins = w->search->origins->data;
    float *delta = w->search->delta->data;
    size_t size = w->lines * w->span;
    for (size_t place = 0; place < w->rows * w->beam; place++) {
        float *target = delta + place * size;
        if (!(losses[place] < INFINITY)) {
            memset(target, 0, size * sizeof *target);
            origins[place] = 0;
        } else if (w->change[0] != delta)
            memcpy(target, w->change[0] + place * size, size * sizeof *target);
    }
}

static float *take_floats(float **memory, size_t count) {
    float *taken = *memory;
    *memory += cpu_padded(count);
    return taken;
}

/* *memory is freed by the caller. */
static aq_status take_memory(window *w, float **memory) {
    const size_t *books = w->search->coded->codebooks.shape;
    size_t lines = w->rows * w->beam * w->lines, size = lines * w->span, pairs = w->beam > 1;
    size_t count = cpu_padded(w->span * w->span) + cpu_padded(books[0] * books[1]) +
                   cpu_padded(lines * w->width) + (1 + 2 * pairs) * cpu_padded(size);
    AQ_TRY(cpu_scratch(count * sizeof(float), memory));
    float *rest = *memory;
    w->gram = take_floats(&rest, w->span * w->span);
    w->norms = take_floats(&rest, books[0] * books[1]);
    w->step = take_floats(&rest, lines * w->width);
    w->residual[0] = take_floats(&rest, size);
    w->change[0] = w->search->delta->data;
    w->residual[1] = pairs ? take_floats(&rest, size) : w->residual[0];
    w->change[1] = pairs ? take_floats(&rest, size) : w->change[0];
    return AQ_OK;
}

aq_status cpu_search_groups(const aq_group_search *search) {
    const size_t *shape = search->delta->shape;
    window w = {.search = search,
                .rows = shape[0],
                .beam = shape[1],
                .lines = shape[2],
                .width = search->run.width,
                .span = shape[3]};
    float *memory = NULL;
    aq_status status;
    AQ_STEP(take_memory(&w, &memory));
    copy_gram(&w);
    load_residuals(&w);
    for (size_t step = 0; step < search->run.count; step++) {
        AQ_STEP(search_step(&w, step));
        move_rows(&w, step);
    }
    store_changes(&w);
done:
    free(memory);
    return status;
}
