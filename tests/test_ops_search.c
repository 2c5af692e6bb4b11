/* Code search against a search that knows no residuals: it decodes every proposal and computes its
 * loss tr(D H D') in full. */
#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A layer problem and the state of a pass over it. */
typedef struct pass {
    aq_coded coded;
    aq_tensor weight, gram;
    size_t rows, groups, books, beam, out, in;
    aq_tensor residual, next_residual, losses, delta;
    aq_tensor origins;            /* [rows, beam] */
    aq_tensor ancestors, choices; /* of all steps: [groups, rows, beam(, M)] */
    uint32_t *group_order;        /* [groups] */
} pass;

static aq_tensor new_tensor(aq_dtype dtype, aq_shape shape) {
    aq_tensor x;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), dtype, shape, &x));
    return x;
}

/* D H [out, in] in float64 with D = decoded - weight. */
static double *naive_residual(const pass *p, const double *decoded) {
    double *weight = reference_values(&p->weight), *gram = reference_values(&p->gram);
    double *residual = calloc(p->out * p->in, sizeof *residual);
    for (size_t i = 0; i < p->out; i++)
        for (size_t j = 0; j < p->in; j++)
            for (size_t l = 0; l < p->in; l++)
                residual[i * p->in + j] +=
                    (decoded[i * p->in + l] - weight[i * p->in + l]) * gram[l * p->in + j];
    free(weight);
    free(gram);
    return residual;
}

/* Hypothesis 0 of every row starts as the coded weight; the others are not alive. */
static void start_pass(pass *p) {
    size_t lines = p->out / p->rows, span = lines * p->in;
    double *decoded = reference_decode(&p->coded), *start = naive_residual(p, decoded);
    float *residual = calloc(p->rows * p->beam * span, sizeof *residual);
    float *losses = malloc(p->rows * p->beam * sizeof *losses);
    for (size_t r = 0; r < p->rows; r++) {
        for (size_t i = 0; i < span; i++)
            residual[r * p->beam * span + i] = (float)start[r * span + i];
        for (size_t b = 0; b < p->beam; b++) losses[r * p->beam + b] = b ? INFINITY : 0.0f;
    }
    p->residual = aq_test_tensor(AQ_F32, AQ_DIMS(p->rows, p->beam, lines, p->in), residual);
    p->losses = aq_test_tensor(AQ_F32, AQ_DIMS(p->rows, p->beam), losses);
    free(decoded);
    free(start);
    free(residual);
    free(losses);
}

static pass pass_new(aq_scheme scheme, size_t out, size_t in, size_t beam) {
    size_t lines = (size_t)scheme.out_group, width = (size_t)scheme.in_group;
    pass p = {.coded = reference_coded(scheme, out, in, 31),
              .weight = aq_test_normal(AQ_DIMS(out, in), 32),
              .gram = reference_gram(in, 33),
              .rows = out / lines,
              .groups = in / width,
              .books = (size_t)scheme.codebooks,
              .beam = beam,
              .out = out,
              .in = in};
    start_pass(&p);
    p.next_residual = new_tensor(AQ_F32, AQ_DIMS(p.rows, beam, lines, in));
    p.origins = new_tensor(AQ_U8, AQ_DIMS(p.rows, beam));
    p.ancestors = new_tensor(AQ_U8, AQ_DIMS(p.groups, p.rows, beam));
    p.choices = new_tensor(AQ_U16, AQ_DIMS(p.groups, p.rows, beam, p.books));
    p.group_order = malloc(p.groups * sizeof *p.group_order);
    aq_random_order(3, AQ_STREAM_TEST, (uint32_t)p.groups, p.group_order);
    return p;
}

static void pass_free(pass *p) {
    aq_tensor *const all[] = {&p->weight, &p->gram,    &p->residual,  &p->next_residual, &p->losses,
                              &p->delta,  &p->origins, &p->ancestors, &p->choices};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) aq_tensor_free(all[i]);
    reference_coded_free(&p->coded);
    free(p->group_order);
}

/* Searches the groups of count steps from t on, in this order of codebooks (NULL: in pairs). */
static void pass_run(pass *p, size_t t, size_t count, const uint8_t *codebook_order) {
    uint8_t orders[AQ_MAX_RUN * 3];
    for (size_t i = 0; codebook_order && i < count; i++)
        memcpy(orders + i * p->books, codebook_order, p->books);
    const aq_group_run run = {p->group_order + t, count, p->in / p->groups};
    aq_tensor ancestors = aq_tensor_rows(&p->ancestors, t, count),
              choices = aq_tensor_rows(&p->choices, t, count);
    aq_tensor_free(&p->delta);
    p->delta = new_tensor(AQ_F32, AQ_DIMS(p->rows, p->beam, p->out / p->rows, count * run.width));
    AQ_CHECK(aq_search_groups(&(aq_group_search){.coded = &p->coded,
                                                 .gram = &p->gram,
                                                 .residual = &p->residual,
                                                 .run = run,
                                                 .codebook_orders = codebook_order ? orders : NULL,
                                                 .losses = &p->losses,
                                                 .ancestors = &ancestors,
                                                 .choices = &choices,
                                                 .origins = &p->origins,
                                                 .delta = &p->delta}));
    bool in_place = p->beam == 1;
    AQ_CHECK(aq_residual_update(&p->delta, &p->gram, &run, &p->origins, &p->residual,
                                in_place ? &p->residual : &p->next_residual));
    if (in_place) return;
    aq_tensor old = p->residual;
    p->residual = p->next_residual;
    p->next_residual = old;
}

/* ---- the exhaustive search ---- */

typedef struct candidate {
    double loss;
    size_t parent, entry;
    uint16_t *codes; /* [groups, M] of the whole row */
} candidate;

typedef struct exhaustive {
    const pass *p;
    double *weight, *gram, *books, *scales;
    candidate *now; /* [rows, beam] */
} exhaustive;

/* tr(D H D') of a row group with the given codes. */
static double row_loss(const exhaustive *search, size_t row, const uint16_t *codes) {
    const pass *p = search->p;
    const size_t *shape = p->coded.codebooks.shape;
    double loss = 0.0, *d = malloc(p->in * sizeof *d);
    for (size_t line = 0; line < shape[2]; line++) {
        for (size_t c = 0; c < p->in; c++) {
            double sum = 0.0;
            for (size_t m = 0; m < p->books; m++) {
                size_t entry = m * shape[1] + codes[c / shape[3] * p->books + m];
                sum += search->books[(entry * shape[2] + line) * shape[3] + c % shape[3]];
            }
            d[c] = search->scales[row] * sum - search->weight[(row * shape[2] + line) * p->in + c];
        }
        for (size_t i = 0; i < p->in; i++)
            for (size_t j = 0; j < p->in; j++) loss += d[i] * search->gram[i * p->in + j] * d[j];
    }
    free(d);
    return loss;
}

static exhaustive exhaustive_new(const pass *p) {
    exhaustive search = {.p = p,
                         .weight = reference_values(&p->weight),
                         .gram = reference_values(&p->gram),
                         .books = reference_values(&p->coded.codebooks),
                         .scales = reference_values(&p->coded.scales),
                         .now = malloc(p->rows * p->beam * sizeof(candidate))};
    size_t length = p->groups * p->books;
    uint16_t *codes = aq_test_host(&p->coded.codes);
    for (size_t i = 0; i < p->rows * p->beam; i++) {
        candidate *c = &search.now[i];
        *c = (candidate){.codes = malloc(length * sizeof *c->codes)};
        memcpy(c->codes, codes + i / p->beam * length, length * sizeof *c->codes);
        c->loss = i % p->beam ? INFINITY : row_loss(&search, i / p->beam, c->codes);
    }
    free(codes);
    return search;
}

static void exhaustive_free(exhaustive *search) {
    for (size_t i = 0; i < search->p->rows * search->p->beam; i++) free(search->now[i].codes);
    free(search->now);
    free(search->weight);
    free(search->gram);
    free(search->books);
    free(search->scales);
}

static int compare_candidates(const void *left, const void *right) {
    const candidate *a = left, *b = right;
    if (a->loss != b->loss) return a->loss < b->loss ? -1 : 1;
    if (a->parent != b->parent) return a->parent < b->parent ? -1 : 1;
    return a->entry < b->entry ? -1 : a->entry > b->entry;
}

/* Replaces the living candidates of a row by the best that differ from them in code (J, m). */
static void exhaust_codebook(exhaustive *search, size_t row, size_t place) {
    const pass *p = search->p;
    size_t entries = p->coded.codebooks.shape[1], length = p->groups * p->books, count = 0;
    candidate *now = search->now + row * p->beam;
    candidate *all = malloc(p->beam * entries * sizeof *all);
    for (size_t b = 0; b < p->beam; b++)
        for (size_t e = 0; e < entries && now[b].loss < INFINITY; e++) {
            candidate *c = &all[count++];
            *c = (candidate){.parent = b, .entry = e, .codes = malloc(length * sizeof *c->codes)};
            memcpy(c->codes, now[b].codes, length * sizeof *c->codes);
            c->codes[place] = (uint16_t)e;
            c->loss = row_loss(search, row, c->codes);
        }
    qsort(all, count, sizeof *all, compare_candidates);
    for (size_t b = 0; b < p->beam; b++) {
        if (b < count) memcpy(now[b].codes, all[b].codes, length * sizeof *now[b].codes);
        now[b].loss = b < count ? all[b].loss : INFINITY;
    }
    for (size_t i = 0; i < count; i++) free(all[i].codes);
    free(all);
}

/* Replaces a row's two codes of the group by the best pair. */
static void exhaust_pairs(exhaustive *search, size_t row, size_t group) {
    size_t entries = search->p->coded.codebooks.shape[1];
    candidate *now = &search->now[row];
    uint16_t *codes = now->codes + group * 2, best[2] = {codes[0], codes[1]};
    for (size_t pair = 0; pair < entries * entries; pair++) {
        codes[0] = (uint16_t)(pair / entries), codes[1] = (uint16_t)(pair % entries);
        double loss = row_loss(search, row, now->codes);
        if (!(loss < now->loss)) continue;
        now->loss = loss;
        best[0] = codes[0], best[1] = codes[1];
    }
    codes[0] = best[0], codes[1] = best[1];
}

static void exhaust_group(exhaustive *search, size_t group, const uint8_t *codebook_order) {
    const pass *p = search->p;
    for (size_t row = 0; row < p->rows; row++) {
        if (!codebook_order) exhaust_pairs(search, row, group);
        for (size_t m = 0; codebook_order && m < p->books; m++)
            exhaust_codebook(search, row, group * p->books + codebook_order[m]);
    }
}

/* ---- comparisons ---- */

static void compare_losses(const pass *p, const exhaustive *search, const double *initial) {
    float *losses = aq_test_host(&p->losses);
    for (size_t i = 0; i < p->rows * p->beam; i++) {
        double start = initial[i / p->beam], expected = search->now[i].loss - start;
        if (isinf(expected))
            CU_ASSERT_EQUAL(losses[i], INFINITY)
        else
            CU_ASSERT_DOUBLE_EQUAL((double)losses[i], expected, 1e-5 * (1.0 + start));
    }
    free(losses);
}

/* The codes traced back have the loss that the search tells, and the best residual is theirs. */
static void check_traced_codes(pass *p, exhaustive *search, const double *initial) {
    AQ_CHECK(
        aq_trace_back(&p->ancestors, &p->choices, &p->losses, p->group_order, &p->coded.codes));
    uint16_t *codes = aq_test_host(&p->coded.codes);
    float *losses = aq_test_host(&p->losses), *residual = aq_test_host(&p->residual);
    double *decoded = reference_decode(&p->coded), *expected = naive_residual(p, decoded);
    size_t span = p->out / p->rows * p->in;
    for (size_t row = 0; row < p->rows; row++) {
        double loss = row_loss(search, row, codes + row * p->groups * p->books);
        CU_ASSERT_DOUBLE_EQUAL(loss - initial[row], (double)losses[row * p->beam],
                               1e-5 * (1.0 + initial[row]));
        CU_ASSERT(loss <= initial[row] * (1.0 + 1e-6));
        for (size_t i = 0; i < span; i++)
            CU_ASSERT_DOUBLE_EQUAL((double)residual[row * p->beam * span + i],
                                   expected[row * span + i], 1e-4);
    }
    free(codes);
    free(losses);
    free(residual);
    free(decoded);
    free(expected);
}

/* In runs of one group to four, and again; a beam of 0: pairs. */
static void check_pass(aq_scheme scheme, size_t out, size_t in, size_t width) {
    static const uint8_t orders[3][2][3] = {{{0}, {0}}, {{0, 1}, {1, 0}}, {{0, 1, 2}, {2, 0, 1}}};
    size_t beam = width ? width : 1;
    pass p = pass_new(scheme, out, in, beam);
    exhaustive search = exhaustive_new(&p);
    double *initial = malloc(p.rows * sizeof *initial);
    for (size_t r = 0; r < p.rows; r++) initial[r] = search.now[r * beam].loss;
    for (size_t t = 0, run = 0, count; t < p.groups; t += count, run++) {
        const uint8_t *order = width ? orders[p.books - 1][run % 2] : NULL;
        count = run % 4 + 1 < p.groups - t ? run % 4 + 1 : p.groups - t;
        pass_run(&p, t, count, order);
        for (size_t i = 0; i < count; i++) exhaust_group(&search, p.group_order[t + i], order);
        compare_losses(&p, &search, initial);
    }
    check_traced_codes(&p, &search, initial);
    free(initial);
    exhaustive_free(&search);
    pass_free(&p);
}

static void one_hypothesis_matches_exhaustive_search(void) {
    check_pass((aq_scheme){1, 3, 4, 1}, 7, 16, 1);
    check_pass((aq_scheme){2, 4, 8, 1}, 13, 40, 1);
    check_pass((aq_scheme){3, 2, 5, 1}, 6, 15, 1);
    check_pass((aq_scheme){2, 3, 4, 2}, 10, 12, 1);
    check_pass((aq_scheme){1, 8, 8, 1}, 5, 24, 1);
}

static void four_hypotheses_match_exhaustive_search(void) {
    check_pass((aq_scheme){1, 3, 4, 1}, 5, 16, 4);
    check_pass((aq_scheme){2, 4, 8, 1}, 5, 24, 4);
    check_pass((aq_scheme){3, 2, 4, 1}, 4, 12, 4);
    check_pass((aq_scheme){2, 3, 3, 3}, 6, 12, 4);
    check_pass((aq_scheme){1, 7, 8, 1}, 3, 16, 4);
}

static void sixteen_hypotheses_match_exhaustive_search(void) {
    check_pass((aq_scheme){1, 1, 4, 1}, 4, 16, 16);
    check_pass((aq_scheme){2, 3, 4, 1}, 4, 16, 16);
    check_pass((aq_scheme){3, 2, 4, 2}, 4, 12, 16);
}

static void shapes_at_their_limits_match_exhaustive_search(void) {
    check_pass((aq_scheme){2, 3, 8, 1}, 1, 8, 4); /* one row, one group */
    check_pass((aq_scheme){1, 3, 16, 1}, 3, 32, 4);
    check_pass((aq_scheme){1, 3, 32, 1}, 2, 64, 16);
    check_pass((aq_scheme){2, 3, 4, 4}, 8, 8, 4);
    check_pass((aq_scheme){1, 4, 4, 2}, 2, 8, 16);
}

static void large_codebooks_match_exhaustive_search(void) {
    check_pass((aq_scheme){1, 11, 8, 1}, 3, 32, 1);
    check_pass((aq_scheme){2, 11, 8, 1}, 2, 16, 1);
    check_pass((aq_scheme){1, 11, 8, 2}, 4, 16, 1);
    check_pass((aq_scheme){1, 11, 8, 1}, 2, 24, 4);
    check_pass((aq_scheme){2, 11, 8, 1}, 2, 16, 3);
    check_pass((aq_scheme){1, 11, 16, 1}, 2, 32, 2);
    check_pass((aq_scheme){1, 11, 5, 1}, 2, 10, 1);
    check_pass((aq_scheme){1, 12, 4, 1}, 35, 8, 1);
}

static void pairs_match_exhaustive_search(void) {
    check_pass((aq_scheme){2, 3, 8, 1}, 5, 48, 0);
    check_pass((aq_scheme){2, 6, 8, 1}, 9, 24, 0);
    check_pass((aq_scheme){2, 5, 16, 1}, 3, 32, 0);
    check_pass((aq_scheme){2, 4, 4, 1}, 7, 16, 0);
    check_pass((aq_scheme){2, 4, 4, 2}, 6, 16, 0);
    check_pass((aq_scheme){2, 8, 8, 1}, 2, 8, 0);
}

/* ---- corners ---- */

static const uint8_t only_codebook[1] = {0};

/* Two entries make two proposals; a third hypothesis cannot come alive. */
static void missing_hypotheses_are_marked(void) {
    pass p = pass_new((aq_scheme){1, 1, 4, 1}, 3, 8, 4);
    uint16_t *before = aq_test_host(&p.coded.codes);
    pass_run(&p, 0, 1, only_codebook);
    float *losses = aq_test_host(&p.losses), *delta = aq_test_host(&p.delta);
    uint8_t *ancestors = aq_test_host(&p.ancestors);
    uint16_t *choices = aq_test_host(&p.choices);
    for (size_t i = 0; i < 3 * 4; i++) {
        CU_ASSERT_EQUAL(isinf(losses[i]), i % 4 > 1);
        CU_ASSERT_EQUAL(ancestors[i], 0);
        if (i % 4 < 2) continue;
        CU_ASSERT_EQUAL(choices[i], before[i / 4 * 2 + p.group_order[0]]);
        for (size_t l = 0; l < 4; l++) CU_ASSERT_EQUAL(delta[i * 4 + l], 0.0f);
    }
    free(before);
    free(losses);
    free(delta);
    free(ancestors);
    free(choices);
    pass_free(&p);
}

/* All entries occur twice: of each pair the first comes first. */
static void ties_go_to_the_lower_entry(void) {
    enum { ENTRIES = 32, HALF = ENTRIES / 2, DIMS = 8 };
    for (size_t beam = 1; beam <= 4; beam += 3) {
        pass p = pass_new((aq_scheme){1, 5, DIMS, 1}, 9, 16, beam);
        float *entries = aq_test_host(&p.coded.codebooks);
        memcpy(entries + HALF * DIMS, entries, HALF * DIMS * sizeof *entries);
        AQ_CHECK(aq_tensor_upload(&p.coded.codebooks, entries, ENTRIES * DIMS * sizeof *entries));
        pass_run(&p, 0, 1, only_codebook);
        uint16_t *choices = aq_test_host(&p.choices);
        for (size_t r = 0; r < 9; r++) {
            CU_ASSERT(choices[r * beam] < HALF);
            if (beam == 1) continue;
            CU_ASSERT_EQUAL(choices[r * beam + 1], choices[r * beam] + HALF);
            CU_ASSERT(choices[r * beam + 2] < HALF);
        }
        free(entries);
        free(choices);
        pass_free(&p);
    }
}

static void check_zero_row(bool pairs) {
    pass p = pass_new((aq_scheme){2, 4, 8, 1}, 3, 16, 1);
    const float scales[3] = {1.0f, AQ_ZERO_SCALE, 2.0f};
    AQ_CHECK(aq_tensor_upload(&p.coded.scales, scales, sizeof scales));
    float *residual = aq_test_host(&p.residual);
    memset(residual + 16, 0, 16 * sizeof *residual);
    AQ_CHECK(aq_tensor_upload(&p.residual, residual, 3 * 16 * sizeof *residual));
    pass_run(&p, 0, 1, pairs ? NULL : (const uint8_t[]){1, 0});
    float *losses = aq_test_host(&p.losses);
    CU_ASSERT(losses[0] < -1e-3f && losses[2] < -1e-3f);
    CU_ASSERT(fabsf(losses[1]) < 1e-15f);
    free(residual);
    free(losses);
    pass_free(&p);
}

static void a_zero_row_keeps_its_loss(void) {
    check_zero_row(false);
    check_zero_row(true);
}

static void an_entry_that_is_nan_is_never_chosen(void) {
    for (size_t beam = 1; beam <= 4; beam += 3) {
        pass p = pass_new((aq_scheme){1, 3, 4, 1}, 6, 8, beam);
        float *entries = aq_test_host(&p.coded.codebooks);
        uint16_t codes[12];
        for (int i = 0; i < 12; i++) codes[i] = (uint16_t)(i % 4);
        for (int l = 0; l < 4; l++) entries[5 * 4 + l] = NAN;
        AQ_CHECK(aq_tensor_upload(&p.coded.codebooks, entries, 32 * sizeof *entries));
        AQ_CHECK(aq_tensor_upload(&p.coded.codes, codes, sizeof codes));
        pass_run(&p, 0, 1, only_codebook);
        uint16_t *choices = aq_test_host(&p.choices);
        float *losses = aq_test_host(&p.losses);
        for (size_t i = 0; i < 6 * beam; i++) {
            CU_ASSERT_NOT_EQUAL(choices[i], 5);
            CU_ASSERT(isfinite(losses[i]));
        }
        free(entries);
        free(choices);
        free(losses);
        pass_free(&p);
    }
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(one_hypothesis_matches_exhaustive_search),
                                    AQ_CASE(four_hypotheses_match_exhaustive_search),
                                    AQ_CASE(sixteen_hypotheses_match_exhaustive_search),
                                    AQ_CASE(shapes_at_their_limits_match_exhaustive_search),
                                    AQ_CASE(large_codebooks_match_exhaustive_search),
                                    AQ_CASE(pairs_match_exhaustive_search),
                                    AQ_CASE(missing_hypotheses_are_marked),
                                    AQ_CASE(ties_go_to_the_lower_entry),
                                    AQ_CASE(a_zero_row_keeps_its_loss),
                                    AQ_CASE(an_entry_that_is_nan_is_never_chosen)};
    return aq_test_backend_main("ops: code search", cases, sizeof cases / sizeof *cases, argc,
                                argv);
}
