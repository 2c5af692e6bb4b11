/* One column group of a run. Rows are independent: a thread takes a few rows at a time and
 * keeps their hypotheses, restricted to the group's columns, in a workspace of its own. */
#include "tensor/cpu.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* What all rows share. */
typedef struct group_view {
    const aq_group_search *search;
    const cpu_group_step *step;
    size_t rows, beam, codebooks, groups, group, lines, width, dims, in, span;
    float *corner;     /* H_JJ [g, g] */
    cpu_table *tables; /* [M] */
} group_view;

/* A hypothesis inside the group; not alive if its loss is not below infinity. */
typedef struct hypothesis {
    float loss;
    size_t ancestor;
    uint16_t *codes; /* [M] */
    float *residual; /* R_J [o, g], up to date */
    float *delta;    /* [o, g]: change of the decoded group */
} hypothesis;

/* A new entry for a codebook of hypothesis `parent`. */
typedef struct proposal {
    float loss;
    size_t parent, entry;
} proposal;

typedef struct workspace {
    hypothesis *now, *next;
    float *queries; /* [CPU_QUERIES, d] */
    float *scores;  /* [K], padded */
    proposal best[AQ_MAX_BEAM];
    size_t found;
} workspace;

static bool alive(const hypothesis *h) {
    return h->loss < INFINITY;
}

static const float *entry_of(const group_view *view, int codebook, size_t entry) {
    size_t entries = view->search->coded->codebooks.shape[1];
    const float *values = view->search->coded->codebooks.data;
    return values + ((size_t)codebook * entries + entry) * view->dims;
}

static float scale_of(const group_view *view, size_t row) {
    return ((const float *)view->search->coded->scales.data)[row];
}

static const uint16_t *initial_codes(const group_view *view, size_t row) {
    const uint16_t *codes = view->search->coded->codes.data;
    return codes + (row * view->groups + view->group) * view->codebooks;
}

static const uint8_t *order_of(const group_view *view) {
    return view->search->codebook_orders + view->step->index * view->codebooks;
}

static void load_hypothesis(const group_view *view, size_t row, size_t b, hypothesis *h) {
    const float *residual = view->step->residual + view->step->index * view->width;
    h->loss = ((const float *)view->search->losses->data)[row * view->beam + b];
    h->ancestor = b;
    memcpy(h->codes, initial_codes(view, row), view->codebooks * sizeof *h->codes);
    memset(h->delta, 0, view->dims * sizeof *h->delta);
    for (size_t line = 0; line < view->lines; line++)
        memcpy(h->residual + line * view->width,
               residual + ((row * view->beam + b) * view->lines + line) * view->span,
               view->width * sizeof *h->residual);
}

static void store_hypothesis(const group_view *view, size_t row, size_t b, const hypothesis *h) {
    const aq_group_search *search = view->search;
    size_t place = row * view->beam + b, past = view->step->index * view->rows * view->beam + place;
    uint16_t *choices = (uint16_t *)search->choices->data + past * view->codebooks;
    float *delta = view->step->delta + place * view->dims;
    bool lives = alive(h);
    ((float *)search->losses->data)[place] = lives ? h->loss : INFINITY;
    ((uint8_t *)search->ancestors->data)[past] = lives ? (uint8_t)h->ancestor : 0;
    memcpy(choices, lives ? h->codes : initial_codes(view, row), view->codebooks * sizeof *choices);
    if (lives)
        memcpy(delta, h->delta, view->dims * sizeof *delta);
    else
        memset(delta, 0, view->dims * sizeof *delta);
}

/* target += factor * H_JJ piece, line by line. */
static void add_corner_product(const group_view *view, float factor, const float *piece,
                               float *target) {
    size_t width = view->width;
    for (size_t line = 0; line < view->dims; line += width)
        for (size_t j = 0; j < width; j++) {
            float value = factor * piece[line + j];
            for (size_t i = 0; i < width; i++)
                target[line + i] += value * view->corner[j * width + i];
        }
}

/* An entry e changes the loss by s^2 n(e) + 2 s e . v less the same for the present one. */
static cpu_query make_query(const group_view *view, size_t row, int codebook, const hypothesis *h,
                            float *vector) {
    float scale = scale_of(view, row);
    const float *present = entry_of(view, codebook, h->codes[codebook]);
    memcpy(vector, h->residual, view->dims * sizeof *vector);
    add_corner_product(view, -scale, present, vector);
    for (size_t i = 0; i < view->dims; i++) vector[i] *= 2.0f * scale;
    return (cpu_query){.vector = vector, .factor = scale * scale, .score = INFINITY};
}

static void replace_code(const group_view *view, size_t row, int codebook, size_t entry,
                         hypothesis *h) {
    if (entry == h->codes[codebook]) return;
    const float *before = entry_of(view, codebook, h->codes[codebook]);
    const float *after = entry_of(view, codebook, entry);
    float scale = scale_of(view, row);
    for (size_t i = 0; i < view->dims; i++) h->delta[i] += scale * (after[i] - before[i]);
    add_corner_product(view, -scale, before, h->residual);
    add_corner_product(view, scale, after, h->residual);
    h->codes[codebook] = (uint16_t)entry;
}

/* ---- one hypothesis a row: the best entry each ---- */

static void improve_rows(const group_view *view, size_t first, int count, int codebook,
                         workspace *work) {
    const cpu_table *table = &view->tables[codebook];
    cpu_query queries[CPU_QUERIES];
    for (int q = 0; q < count; q++)
        queries[q] = make_query(view, first + (size_t)q, codebook, &work->now[q],
                                work->queries + (size_t)q * view->dims);
    cpu_table_best(table, queries, count);
    for (int q = 0; q < count; q++) {
        hypothesis *h = &work->now[q];
        h->loss += queries[q].score - cpu_table_score(table, &queries[q], h->codes[codebook]);
        if (alive(h)) replace_code(view, first + (size_t)q, codebook, queries[q].best, h);
    }
}

static void search_single(const group_view *view, size_t first, int count, workspace *work) {
    for (int q = 0; q < count; q++) load_hypothesis(view, first + (size_t)q, 0, &work->now[q]);
    for (size_t m = 0; m < view->codebooks; m++)
        improve_rows(view, first, count, order_of(view)[m], work);
    for (int q = 0; q < count; q++) store_hypothesis(view, first + (size_t)q, 0, &work->now[q]);
}

/* ---- several hypotheses a row: the best proposals of all ---- */

/* Puts a proposal behind all that are at least as good. */
static void insert_proposal(proposal candidate, size_t beam, workspace *work) {
    size_t place = work->found < beam ? work->found++ : beam - 1;
    for (; place > 0 && candidate.loss < work->best[place - 1].loss; place--)
        work->best[place] = work->best[place - 1];
    work->best[place] = candidate;
}

static float worst_kept(const workspace *work, size_t beam) {
    return work->found < beam ? INFINITY : work->best[beam - 1].loss;
}

enum { SCAN = 16 };

static float lowest_of(const float *scores) {
    float lowest = INFINITY;
#pragma omp simd reduction(min : lowest)
    for (int i = 0; i < SCAN; i++) lowest = scores[i] < lowest ? scores[i] : lowest;
    return lowest;
}

/* Proposals of one parent, whose loss without its present entry is `base`. */
static void propose_entries(const cpu_table *table, size_t parent, float base, size_t beam,
                            workspace *work) {
    for (size_t first = 0; first < table->stride; first += SCAN) {
        if (!(base + lowest_of(work->scores + first) < worst_kept(work, beam))) continue;
        for (size_t entry = first; entry < first + SCAN; entry++) {
            float loss = base + work->scores[entry];
            if (loss < worst_kept(work, beam))
                insert_proposal((proposal){.loss = loss, .parent = parent, .entry = entry}, beam,
                                work);
        }
    }
}

static void copy_hypothesis(const group_view *view, const hypothesis *from, hypothesis *to) {
    to->ancestor = from->ancestor;
    memcpy(to->codes, from->codes, view->codebooks * sizeof *to->codes);
    memcpy(to->residual, from->residual, view->dims * sizeof *to->residual);
    memcpy(to->delta, from->delta, view->dims * sizeof *to->delta);
}

/* The kept proposals become the hypotheses. */
static void adopt_proposals(const group_view *view, size_t row, int codebook, workspace *work) {
    for (size_t b = 0; b < view->beam; b++) {
        hypothesis *next = &work->next[b];
        next->loss = INFINITY;
        if (b >= work->found) continue;
        copy_hypothesis(view, &work->now[work->best[b].parent], next);
        replace_code(view, row, codebook, work->best[b].entry, next);
        next->loss = work->best[b].loss;
    }
    hypothesis *old = work->now;
    work->now = work->next;
    work->next = old;
}

static void widen_row(const group_view *view, size_t row, int codebook, workspace *work) {
    const cpu_table *table = &view->tables[codebook];
    work->found = 0;
    for (size_t b = 0; b < view->beam; b++) {
        const hypothesis *h = &work->now[b];
        if (!alive(h)) continue;
        cpu_query query = make_query(view, row, codebook, h, work->queries);
        cpu_table_scores(table, &query, work->scores);
        propose_entries(table, b, h->loss - work->scores[h->codes[codebook]], view->beam, work);
    }
    adopt_proposals(view, row, codebook, work);
}

static void search_beam(const group_view *view, size_t row, workspace *work) {
    for (size_t b = 0; b < view->beam; b++) load_hypothesis(view, row, b, &work->now[b]);
    for (size_t m = 0; m < view->codebooks; m++) widen_row(view, row, order_of(view)[m], work);
    for (size_t b = 0; b < view->beam; b++) store_hypothesis(view, row, b, &work->now[b]);
}

/* ---- memory ---- */

static size_t hypotheses_of(const group_view *view) {
    return view->beam > CPU_QUERIES ? view->beam : CPU_QUERIES;
}

/* Floats that one thread's workspace needs; codes take the place of floats. */
static size_t workspace_size(const group_view *view) {
    size_t one = 2 * cpu_padded(view->dims) + cpu_padded(view->codebooks);
    return 2 * hypotheses_of(view) * one + cpu_padded(CPU_QUERIES * view->dims) +
           view->tables[0].stride;
}

static float *take_floats(float **memory, size_t count) {
    float *taken = *memory;
    *memory += cpu_padded(count);
    return taken;
}

static void lay_out(const group_view *view, float *memory, hypothesis *room, workspace *work) {
    size_t count = hypotheses_of(view);
    *work = (workspace){.now = room, .next = room + count};
    work->scores = take_floats(&memory, view->tables[0].stride);
    work->queries = take_floats(&memory, CPU_QUERIES * view->dims);
    for (size_t i = 0; i < 2 * count; i++) {
        room[i].residual = take_floats(&memory, view->dims);
        room[i].delta = take_floats(&memory, view->dims);
        room[i].codes = (uint16_t *)take_floats(&memory, view->codebooks);
    }
}

static void search_rows(const group_view *view, float *memory, hypothesis *rooms) {
    size_t step = view->beam == 1 ? CPU_QUERIES : 1;
#pragma omp parallel num_threads(cpu_threads(view->search->losses))
    {
        size_t thread = (size_t)omp_get_thread_num();
        workspace work;
        lay_out(view, memory + thread * workspace_size(view),
                rooms + thread * 2 * hypotheses_of(view), &work);
#pragma omp for
        for (size_t row = 0; row < view->rows; row += step) {
            size_t left = view->rows - row;
            if (view->beam == 1)
                search_single(view, row, (int)(left < step ? left : step), &work);
            else
                search_beam(view, row, &work);
        }
    }
}

static group_view make_view(const cpu_group_step *step) {
    const aq_group_search *search = step->search;
    const size_t *books = search->coded->codebooks.shape, *losses = search->losses->shape;
    return (group_view){.search = search,
                        .step = step,
                        .rows = losses[0],
                        .beam = losses[1],
                        .codebooks = books[0],
                        .groups = search->coded->codes.shape[1],
                        .group = search->run.groups[step->index],
                        .lines = books[2],
                        .width = books[3],
                        .dims = books[2] * books[3],
                        .in = search->gram->shape[0],
                        .span = search->run.count * books[3]};
}

static void copy_corner(const group_view *view) {
    const float *gram = view->search->gram->data;
    size_t first = view->group * view->width;
    for (size_t i = 0; i < view->width; i++)
        memcpy(view->corner + i * view->width, gram + (first + i) * view->in + first,
               view->width * sizeof *view->corner);
}

static aq_status make_tables(const group_view *view) {
    const size_t *shape = view->search->coded->codebooks.shape;
    const float *norms = view->step->norms;
    for (size_t m = 0; m < view->codebooks; m++)
        AQ_TRY(cpu_table_new(entry_of(view, (int)m, 0), norms + m * shape[1], shape[1], view->dims,
                             &view->tables[m]));
    return AQ_OK;
}

aq_status cpu_search_step(const cpu_group_step *step) {
    group_view view = make_view(step);
    size_t threads = (size_t)cpu_threads(step->search->losses);
    float *memory = NULL;
    hypothesis *rooms = NULL;
    aq_status status;
    view.tables = calloc(view.codebooks, sizeof *view.tables);
    AQ_NEED(view.tables, AQ_MEMORY, "out of memory: %zu tables were asked for", view.codebooks);
    AQ_STEP(cpu_scratch(view.width * view.width * sizeof(float), &view.corner));
    AQ_STEP(make_tables(&view));
    AQ_STEP(cpu_scratch(threads * workspace_size(&view) * sizeof(float), &memory));
    AQ_STEP(cpu_scratch(threads * 2 * hypotheses_of(&view) * sizeof *rooms, &rooms));
    copy_corner(&view);
    search_rows(&view, memory, rooms);
done:
    for (size_t m = 0; view.tables && m < view.codebooks; m++) cpu_table_free(&view.tables[m]);
    free(view.tables);
    free(view.corner);
    free(memory);
    free(rooms);
    return status;
}
