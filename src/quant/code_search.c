#include "quant/code_search.h"

#include "base/random.h"

#include <math.h>
#include <stdlib.h>

bool aq_search_pairs_fit(const aq_scheme *scheme, int beam) {
    return scheme->codebooks == 2 && beam == 1 && 1 << scheme->bits <= AQ_MAX_PAIR_ENTRIES;
}

aq_status aq_search_kind_check(aq_search_kind kind, const aq_scheme *scheme, int beam) {
    AQ_REQUIRE(kind != AQ_SEARCH_PAIRS || aq_search_pairs_fit(scheme, beam), AQ_INVALID,
               "a search of pairs needs two codebooks of at most 8 bits and a beam of 1, found "
               "%dx%d and %d",
               scheme->codebooks, scheme->bits, beam);
    return AQ_OK;
}

/* ---- buffers ---- */

static size_t chunk_rows(size_t rows, size_t row_elements) {
    size_t fit = AQ_SEARCH_ELEMENTS / row_elements;
    if (fit == 0) fit = 1;
    return fit < rows ? fit : rows;
}

static aq_status fill_first_losses(aq_tensor *losses) {
    size_t count = aq_tensor_count(losses), beam = losses->shape[1];
    float *host = malloc(count * sizeof *host);
    AQ_REQUIRE(host, AQ_MEMORY, "code search: no memory for %zu losses", count);
    for (size_t i = 0; i < count; i++) host[i] = i % beam == 0 ? 0 : INFINITY;
    aq_status status = aq_tensor_upload(losses, host, count * sizeof *host);
    free(host);
    return status;
}

static aq_status new_losses(aq_backend *backend, aq_code_search *s) {
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(s->rows, s->beam), &s->losses));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(s->rows, s->beam), &s->first_losses));
    return fill_first_losses(&s->first_losses);
}

static aq_status new_residuals(aq_backend *backend, size_t out_group, size_t in,
                               aq_code_search *s) {
    aq_shape shape = AQ_DIMS(s->rows, s->beam, out_group, in);
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(s->rows * out_group, in), &s->difference));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, shape, &s->residuals[0]));
    return s->beam > 1 ? aq_tensor_new(backend, AQ_F32, shape, &s->residuals[1]) : AQ_OK;
}

static aq_status new_history(aq_backend *backend, const aq_coded *coded, aq_code_search *s) {
    size_t groups = coded->codes.shape[1], codebooks = coded->codes.shape[2];
    const size_t *entries = coded->codebooks.shape;
    size_t columns = aq_search_run_groups(&coded->scheme, groups) * entries[3];
    AQ_TRY(
        aq_tensor_new(backend, AQ_F32, AQ_DIMS(s->rows, s->beam, entries[2], columns), &s->delta));
    AQ_TRY(aq_tensor_new(backend, AQ_U8, AQ_DIMS(s->rows, s->beam), &s->origins));
    AQ_TRY(aq_tensor_new(backend, AQ_U8, AQ_DIMS(groups, s->rows, s->beam), &s->ancestors));
    return aq_tensor_new(backend, AQ_U16, AQ_DIMS(groups, s->rows, s->beam, codebooks),
                         &s->choices);
}

aq_status aq_code_search_new(const aq_coded *coded, const aq_tensor *weight, const aq_tensor *gram,
                             int beam, aq_code_search *search) {
    *search = (aq_code_search){.weight = weight, .gram = gram, .beam = (size_t)beam};
    size_t in = gram->shape[0], out_group = (size_t)coded->scheme.out_group;
    size_t groups = coded->codes.shape[1], buffers = beam > 1 ? 2 : 1;
    search->rows = chunk_rows(coded->codes.shape[0], search->beam * buffers * out_group * in);
    search->group_order = malloc(groups * sizeof *search->group_order);
    AQ_REQUIRE(search->group_order, AQ_MEMORY, "code search: no memory for %zu groups", groups);
    aq_status status;
    AQ_STEP(new_residuals(weight->home, out_group, in, search));
    AQ_STEP(new_losses(weight->home, search));
    AQ_STEP(new_history(weight->home, coded, search));
done:
    if (status != AQ_OK) aq_code_search_free(search);
    return status;
}

void aq_code_search_free(aq_code_search *search) {
    aq_tensor *const tensors[] = {
        &search->difference,   &search->residuals[0], &search->residuals[1],
        &search->first_losses, &search->losses,       &search->delta,
        &search->origins,      &search->ancestors,    &search->choices};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) aq_tensor_free(tensors[i]);
    free(search->group_order);
    search->group_order = NULL;
}

/* ---- a chunk of rows ---- */

/* Views for the rows of one chunk; they borrow from the search and from the coded weight. */
typedef struct chunk {
    aq_code_search *search;
    aq_coded coded;
    aq_tensor weight, difference; /* [rows * o, in] */
    aq_tensor residual;           /* [rows, beam, o, in]; at first [rows, 1, o, in] */
    aq_tensor next;               /* the same memory for a beam of 1 */
    size_t buffer;                /* of the search's two, where `next` is */
    aq_tensor losses;             /* [rows, beam] */
    aq_tensor origins;            /* [rows, beam] */
    aq_tensor ancestors, choices; /* [groups, rows, beam], [groups, rows, beam, M] */
} chunk;

/* The first elements of a buffer under a shape that may be smaller than the buffer's. */
static aq_tensor first_of(const aq_tensor *buffer, aq_shape shape) {
    size_t count = 1;
    for (int i = 0; i < shape.ndim; i++) count *= shape.dims[i];
    aq_tensor flat = aq_tensor_reshape(buffer, AQ_DIMS(aq_tensor_count(buffer)));
    flat = aq_tensor_rows(&flat, 0, count);
    return aq_tensor_reshape(&flat, shape);
}

static chunk chunk_of(aq_code_search *search, const aq_coded *coded, size_t first, size_t rows) {
    size_t groups = coded->codes.shape[1], codebooks = coded->codes.shape[2];
    size_t out_group = (size_t)coded->scheme.out_group, in = search->gram->shape[0];
    size_t beam = search->beam;
    chunk c = {.search = search, .coded = aq_coded_rows(coded, first, rows)};
    c.weight = aq_tensor_rows(search->weight, first * out_group, rows * out_group);
    c.difference = first_of(&search->difference, AQ_DIMS(rows * out_group, in));
    c.residual = first_of(&search->residuals[0], AQ_DIMS(rows, 1, out_group, in));
    c.buffer = beam > 1 ? 1 : 0;
    c.next = first_of(&search->residuals[c.buffer], AQ_DIMS(rows, beam, out_group, in));
    c.losses = first_of(&search->losses, AQ_DIMS(rows, beam));
    c.origins = first_of(&search->origins, AQ_DIMS(rows, beam));
    c.ancestors = first_of(&search->ancestors, AQ_DIMS(groups, rows, beam));
    c.choices = first_of(&search->choices, AQ_DIMS(groups, rows, beam, codebooks));
    return c;
}

/* One hypothesis a row: the present codes. */
static aq_status start_chunk(chunk *c) {
    const aq_product plain = {.alpha = 1, .precision = AQ_PRECISE};
    const size_t *shape = c->difference.shape;
    aq_tensor product = aq_tensor_reshape(&c->residual, AQ_DIMS(shape[0], shape[1]));
    aq_tensor losses =
        first_of(&c->search->first_losses, AQ_DIMS(c->losses.shape[0], c->losses.shape[1]));
    AQ_TRY(aq_coded_difference(&c->coded, &c->weight, &c->difference));
    AQ_TRY(aq_matmul(&c->difference, c->search->gram, &plain, &product));
    return aq_tensor_copy(&losses, &c->losses);
}

/* Another order in every group: nobody is served first everywhere. */
static void draw_codebook_order(uint64_t seed, size_t group, size_t codebooks, uint8_t *order) {
    uint32_t drawn[AQ_MAX_CODEBOOKS];
    uint64_t group_seed = aq_random(seed, AQ_STREAM_CODEBOOK_ORDER, group);
    aq_random_order(group_seed, AQ_STREAM_CODEBOOK_ORDER, (uint32_t)codebooks, drawn);
    for (size_t m = 0; m < codebooks; m++) order[m] = (uint8_t)drawn[m];
}

/* residual = the old one of every hypothesis' origin, moved on by what the run changed. */
static aq_status update_residuals(chunk *c, const aq_group_run *run, const aq_tensor *delta) {
    const size_t *shape = c->next.shape;
    AQ_TRY(aq_residual_update(delta, c->search->gram, run, &c->origins, &c->residual, &c->next));
    c->residual = c->next;
    c->buffer = c->search->beam > 1 ? 1 - c->buffer : 0;
    c->next =
        first_of(&c->search->residuals[c->buffer], AQ_DIMS(shape[0], shape[1], shape[2], shape[3]));
    return AQ_OK;
}

/* Finds the codes of the groups whose turn it is, into these steps' place of the history. */
static aq_status search_run(chunk *c, size_t first, size_t count, uint64_t seed) {
    size_t rows = c->losses.shape[0], beam = c->losses.shape[1];
    size_t codebooks = c->coded.codes.shape[2], width = (size_t)c->coded.scheme.in_group;
    uint8_t orders[AQ_MAX_RUN * AQ_MAX_CODEBOOKS];
    const uint32_t *groups = c->search->group_order + first;
    for (size_t t = 0; t < count; t++)
        draw_codebook_order(seed, groups[t], codebooks, orders + t * codebooks);
    aq_shape changes = AQ_DIMS(rows, beam, (size_t)c->coded.scheme.out_group, count * width);
    aq_tensor ancestors = aq_tensor_rows(&c->ancestors, first, count);
    aq_tensor choices = aq_tensor_rows(&c->choices, first, count);
    aq_tensor delta = first_of(&c->search->delta, changes);
    const aq_group_search how = {.coded = &c->coded,
                                 .gram = c->search->gram,
                                 .residual = &c->residual,
                                 .run = {.groups = groups, .count = count, .width = width},
                                 .codebook_orders =
                                     c->search->kind == AQ_SEARCH_PAIRS ? NULL : orders,
                                 .exact = c->search->exact,
                                 .losses = &c->losses,
                                 .ancestors = &ancestors,
                                 .choices = &choices,
                                 .origins = &c->origins,
                                 .delta = &delta};
    AQ_TRY(aq_search_groups(&how));
    return update_residuals(c, &how.run, &delta);
}

static aq_status search_chunk(chunk *c, const aq_code_pass *pass) {
    size_t groups = c->coded.codes.shape[1], run = aq_search_run_groups(&c->coded.scheme, groups);
    AQ_TRY(start_chunk(c));
    for (size_t first = 0; first < groups; first += run) {
        size_t count = groups - first < run ? groups - first : run;
        AQ_TRY(search_run(c, first, count, pass->seed));
        AQ_TRY(aq_watch_step(pass->watch, "codes", (int)(first + count), (int)groups));
    }
    return aq_trace_back(&c->ancestors, &c->choices, &c->losses, c->search->group_order,
                         &c->coded.codes);
}

/* ---- a pass ---- */

aq_status aq_code_search_run(aq_code_search *search, const aq_code_pass *pass, aq_coded *coded) {
    aq_rows own = aq_team_rows(pass->team, coded->codes.shape[0]);
    size_t end = own.first + own.count;
    aq_random_order(pass->seed, AQ_STREAM_GROUP_ORDER, (uint32_t)coded->codes.shape[1],
                    search->group_order);
    for (size_t row = own.first; row < end; row += search->rows) {
        size_t count = end - row < search->rows ? end - row : search->rows;
        chunk c = chunk_of(search, coded, row, count);
        AQ_TRY(search_chunk(&c, pass));
    }
    return aq_team_gather_rows(pass->team, own.first, own.count, &coded->codes);
}
