/* The checked calls on clusters, coded weights and code search. */
#include "tensor/backend.h"
#include "tensor/ops_check.h"

/* ---- clusters ---- */

/* weight [out, in] cut into the row groups of scales [rows]. */
static aq_status check_row_groups(const char *op, const aq_tensor *weight,
                                  const aq_tensor *scales) {
    AQ_CHECK_OPERANDS(op, {"weight", weight, AQ_F32, "oi"}, {"scales", scales, AQ_F32, "r"});
    AQ_REQUIRE(weight->shape[0] % scales->shape[0] == 0, AQ_SHAPE,
               "%s: scales [%zu] do not divide the rows of weight [%zu, %zu]", op, scales->shape[0],
               weight->shape[0], weight->shape[1]);
    return AQ_OK;
}

aq_status aq_group_norms(const aq_tensor *weight, aq_tensor *scales) {
    AQ_TRY(check_row_groups("group_norms", weight, scales));
    return weight->home->ops->group_norms(weight, scales);
}

aq_status aq_scaled_vectors(const aq_tensor *weight, const aq_tensor *scales, int in_group,
                            aq_tensor *points) {
    AQ_TRY(check_row_groups("scaled_vectors", weight, scales));
    AQ_CHECK_OPERANDS("scaled_vectors", {"weight", weight, AQ_F32, NULL},
                      {"points", points, AQ_F32, "nd"});
    size_t rows = scales->shape[0], lines = weight->shape[0] / rows;
    AQ_REQUIRE(in_group > 0 && weight->shape[1] % (size_t)in_group == 0, AQ_SHAPE,
               "scaled_vectors: groups of %d do not divide the columns of weight [%zu, %zu]",
               in_group, weight->shape[0], weight->shape[1]);
    size_t vectors = rows * (weight->shape[1] / (size_t)in_group);
    AQ_REQUIRE(points->shape[0] == vectors && points->shape[1] == lines * (size_t)in_group,
               AQ_SHAPE, "scaled_vectors: points is [%zu, %zu], expected [%zu, %zu]",
               points->shape[0], points->shape[1], vectors, lines * (size_t)in_group);
    return weight->home->ops->scaled_vectors(weight, scales, in_group, points);
}

aq_status aq_entry_norms(const aq_tensor *entries, const aq_tensor *gram, size_t column,
                         aq_tensor *norms) {
    AQ_CHECK_OPERANDS("entry_norms", {"entries", entries, AQ_F32, "eog"},
                      {"norms", norms, AQ_F32, "e"});
    if (gram) {
        AQ_CHECK_OPERANDS("entry_norms", {"entries", entries, AQ_F32, NULL},
                          {"gram", gram, AQ_F32, "ii"});
        AQ_REQUIRE(column <= gram->shape[0] && entries->shape[2] <= gram->shape[0] - column,
                   AQ_SHAPE, "entry_norms: columns %zu to %zu of a gram [%zu, %zu]", column,
                   column + entries->shape[2], gram->shape[0], gram->shape[1]);
    }
    return entries->home->ops->entry_norms(entries, gram, column, norms);
}

static aq_status check_codebook(const char *op, const aq_tensor *codes, int codebook) {
    AQ_REQUIRE(codebook >= 0 && (size_t)codebook < codes->shape[1], AQ_SHAPE,
               "%s: codebook %d of codes [%zu, %zu]", op, codebook, codes->shape[0],
               codes->shape[1]);
    return AQ_OK;
}

enum { MOST_ENTRIES = 65536 }; /* what a U16 code can name */

aq_status aq_nearest(const aq_tensor *points, const aq_tensor *entries, const aq_tensor *norms,
                     int codebook, aq_precision precision, aq_tensor *codes) {
    AQ_CHECK_OPERANDS("nearest", {"points", points, AQ_F32, "nd"},
                      {"entries", entries, AQ_F32, "kd"}, {"norms", norms, AQ_F32, "k"},
                      {"codes", codes, AQ_U16, "nm"});
    AQ_TRY(check_codebook("nearest", codes, codebook));
    AQ_REQUIRE(entries->shape[0] <= MOST_ENTRIES, AQ_SHAPE,
               "nearest: %zu entries, at most %d fit a code", entries->shape[0], MOST_ENTRIES);
    return points->home->ops->nearest(points, entries, norms, codebook, precision, codes);
}

aq_status aq_subtract_entries(const aq_tensor *entries, const aq_tensor *codes, int codebook,
                              aq_tensor *points) {
    AQ_CHECK_OPERANDS("subtract_entries", {"entries", entries, AQ_F32, "kd"},
                      {"codes", codes, AQ_U16, "nm"}, {"points", points, AQ_F32, "nd"});
    AQ_TRY(check_codebook("subtract_entries", codes, codebook));
    return points->home->ops->subtract_entries(entries, codes, codebook, points);
}

aq_status aq_sort_codes(const aq_tensor *codes, int codebook, aq_tensor *order,
                        aq_tensor *offsets) {
    AQ_CHECK_OPERANDS("sort_codes", {"codes", codes, AQ_U16, "nm"}, {"order", order, AQ_U32, "n"},
                      {"offsets", offsets, AQ_U32, "k"});
    AQ_TRY(check_codebook("sort_codes", codes, codebook));
    AQ_REQUIRE(offsets->shape[0] >= 2 && offsets->shape[0] <= MOST_ENTRIES + 1, AQ_SHAPE,
               "sort_codes: offsets is [%zu], expected [K + 1] with K from 1 to %d",
               offsets->shape[0], MOST_ENTRIES);
    AQ_REQUIRE(codes->shape[0] <= UINT32_MAX, AQ_SHAPE, "sort_codes: %zu vectors, at most %u",
               codes->shape[0], UINT32_MAX);
    return codes->home->ops->sort_codes(codes, codebook, order, offsets);
}

aq_status aq_random_head(aq_backend *backend, uint64_t seed, aq_stream stream, size_t total,
                         size_t count, uint32_t *drawn) {
    AQ_REQUIRE(count > 0 && count <= total && total < UINT32_MAX, AQ_SHAPE,
               "random_head: the first %zu of %zu, at most %u", count, total, UINT32_MAX - 1);
    aq_tensor head;
    AQ_TRY(aq_tensor_new(backend, AQ_U32, AQ_DIMS(count), &head));
    aq_status status;
    AQ_STEP(backend->ops->random_head(seed, stream, (uint32_t)total, &head));
    AQ_STEP(aq_tensor_download(&head, drawn, count * sizeof *drawn));
    aq_random_shuffle(seed, stream, (uint32_t)count, drawn);
done:
    aq_tensor_free(&head);
    return status;
}

static aq_status check_sums(const char *op, const aq_tensor *points, const aq_cluster_draw *draw,
                            const aq_tensor *sums) {
    AQ_REQUIRE(sums->shape[1] == 2 * points->shape[1] + 1, AQ_SHAPE,
               "%s: sums is [%zu, %zu] for points of %zu values", op, sums->shape[0],
               sums->shape[1], points->shape[1]);
    AQ_REQUIRE(draw->first < draw->total && points->shape[0] <= draw->total - draw->first, AQ_SHAPE,
               "%s: %zu points from number %zu on, of %zu", op, points->shape[0], draw->first,
               draw->total);
    return AQ_OK;
}

aq_status aq_cluster_sums(const aq_tensor *points, const aq_tensor *order, const aq_tensor *offsets,
                          const aq_cluster_draw *draw, aq_tensor *sums) {
    AQ_CHECK_OPERANDS("cluster_sums", {"points", points, AQ_F32, "nd"},
                      {"order", order, AQ_U32, "n"}, {"offsets", offsets, AQ_U32, "p"},
                      {"sums", sums, AQ_F64, "kw"});
    AQ_REQUIRE(offsets->shape[0] == sums->shape[0] + 1, AQ_SHAPE,
               "cluster_sums: offsets is [%zu], expected one more than the sums [%zu, %zu]",
               offsets->shape[0], sums->shape[0], sums->shape[1]);
    AQ_TRY(check_sums("cluster_sums", points, draw, sums));
    return points->home->ops->cluster_sums(points, order, offsets, draw, sums);
}

aq_status aq_code_sums(const aq_tensor *points, const aq_tensor *codes, int codebook,
                       const aq_cluster_draw *draw, aq_tensor *sums) {
    AQ_CHECK_OPERANDS("code_sums", {"points", points, AQ_F32, "nd"}, {"codes", codes, AQ_U16, "nm"},
                      {"sums", sums, AQ_F64, "kw"});
    AQ_TRY(check_codebook("code_sums", codes, codebook));
    AQ_TRY(check_sums("code_sums", points, draw, sums));
    AQ_REQUIRE(points->shape[0] <= UINT32_MAX, AQ_SHAPE, "code_sums: %zu points, at most %u",
               points->shape[0], UINT32_MAX);
    return points->home->ops->code_sums(points, codes, codebook, draw, sums);
}

aq_status aq_cluster_means(const aq_tensor *sums, aq_tensor *entries) {
    AQ_CHECK_OPERANDS("cluster_means", {"sums", sums, AQ_F64, "kw"},
                      {"entries", entries, AQ_F32, "kd"});
    AQ_REQUIRE(sums->shape[1] == 2 * entries->shape[1] + 1, AQ_SHAPE,
               "cluster_means: sums is [%zu, %zu] for entries of %zu values", sums->shape[0],
               sums->shape[1], entries->shape[1]);
    return sums->home->ops->cluster_means(sums, entries);
}

/* ---- coded weights ---- */

aq_status aq_decode(const aq_coded *coded, aq_tensor *weight) {
    aq_tensor shape = *weight;
    if (weight->data && weight->home->halves && weight->dtype == AQ_BF16) shape.dtype = AQ_F32;
    AQ_TRY(aq_coded_weight_check("decode", coded, "weight", &shape));
    return weight->home->ops->decode(coded, weight);
}

/* The vectors of a coded weight sorted by code. */
static aq_status check_lists(const char *op, const aq_coded *coded, const aq_tensor *orders,
                             const aq_tensor *offsets) {
    AQ_CHECK_OPERANDS(op, {"codebooks", &coded->codebooks, AQ_F32, "mkol"},
                      {"orders", orders, AQ_U32, "mn"}, {"offsets", offsets, AQ_U32, "mp"});
    size_t vectors = coded->codes.shape[0] * coded->codes.shape[1];
    size_t entries = coded->codebooks.shape[1];
    AQ_REQUIRE(orders->shape[1] == vectors && offsets->shape[1] == entries + 1, AQ_SHAPE,
               "%s: orders is [%zu, %zu], offsets is [%zu, %zu]: expected %zu vectors and %zu "
               "offsets",
               op, orders->shape[0], orders->shape[1], offsets->shape[0], offsets->shape[1],
               vectors, entries + 1);
    return AQ_OK;
}

aq_status aq_coded_grad(const aq_coded *coded, const aq_tensor *orders, const aq_tensor *offsets,
                        const aq_tensor *weight_grad, aq_tensor *codebooks_grad,
                        aq_tensor *scales_grad) {
    AQ_TRY(aq_coded_weight_check("coded_grad", coded, "weight_grad", weight_grad));
    AQ_TRY(check_lists("coded_grad", coded, orders, offsets));
    if (codebooks_grad)
        AQ_CHECK_OPERANDS("coded_grad", {"codebooks", &coded->codebooks, AQ_F32, "mkol"},
                          {"codebooks_grad", codebooks_grad, AQ_F32, "mkol"});
    if (scales_grad)
        AQ_CHECK_OPERANDS("coded_grad", {"scales", &coded->scales, AQ_F32, "r"},
                          {"scales_grad", scales_grad, AQ_F32, "r"});
    return weight_grad->home->ops->coded_grad(coded, orders, offsets, weight_grad, codebooks_grad,
                                              scales_grad);
}

aq_status aq_coded_diagonal(const aq_coded *coded, const aq_tensor *orders,
                            const aq_tensor *offsets, const aq_tensor *gram, aq_tensor *diagonal) {
    AQ_TRY(aq_coded_check("coded_diagonal", coded));
    AQ_TRY(check_lists("coded_diagonal", coded, orders, offsets));
    AQ_CHECK_OPERANDS("coded_diagonal", {"codebooks", &coded->codebooks, AQ_F32, "mkol"},
                      {"diagonal", diagonal, AQ_F32, "mkol"}, {"gram", gram, AQ_F32, "ii"});
    size_t in = coded->codes.shape[1] * (size_t)coded->scheme.in_group;
    AQ_REQUIRE(gram->shape[0] == in, AQ_SHAPE,
               "coded_diagonal: gram is [%zu, %zu], codes are for %zu columns", gram->shape[0],
               gram->shape[1], in);
    return gram->home->ops->coded_diagonal(coded, orders, offsets, gram, diagonal);
}

aq_status aq_scales_step(const aq_tensor *slopes, const aq_tensor *curvatures, aq_tensor *scales) {
    AQ_CHECK_OPERANDS("scales_step", {"slopes", slopes, AQ_F32, "r"},
                      {"curvatures", curvatures, AQ_F32, "r"}, {"scales", scales, AQ_F32, "r"});
    return scales->home->ops->scales_step(slopes, curvatures, scales);
}

aq_status aq_gradient_rescale(const aq_tensor *before, const aq_tensor *after,
                              const aq_tensor *fixed, aq_tensor *gradient) {
    AQ_TRY(check_row_groups("gradient_rescale", gradient, before));
    AQ_CHECK_OPERANDS("gradient_rescale", {"before", before, AQ_F32, "r"},
                      {"after", after, AQ_F32, "r"}, {"fixed", fixed, AQ_F32, "oi"},
                      {"gradient", gradient, AQ_F32, "oi"});
    return gradient->home->ops->gradient_rescale(before, after, fixed, gradient);
}

aq_status aq_conjugate_step(const aq_conjugate *state, const aq_tensor *product) {
    const aq_operand base = {"diagonal", state->diagonal, AQ_F32, NULL};
    const aq_operand others[] = {{"solution", state->solution, AQ_F32, NULL},
                                 {"residual", state->residual, AQ_F32, NULL},
                                 {"direction", state->direction, AQ_F32, NULL},
                                 {"product", product ? product : state->diagonal, AQ_F32, NULL}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        AQ_TRY(aq_counts_check("conjugate_step", &base, &others[i]));
    AQ_CHECK_OPERANDS("conjugate_step", {"diagonal", state->diagonal, AQ_F32, NULL},
                      {"numbers", state->numbers, AQ_F64, "n"});
    AQ_REQUIRE(state->numbers->shape[0] == 3, AQ_SHAPE, "conjugate_step: %zu numbers, expected 3",
               state->numbers->shape[0]);
    return state->numbers->home->ops->conjugate_step(state, product);
}

static aq_status check_adam(const aq_adam_tensors *of) {
    const aq_operand base = {"grad", of->grad, AQ_F32, NULL};
    AQ_TRY(aq_counts_check("adam", &base, &(aq_operand){"parameter", of->parameter, AQ_F32, NULL}));
    AQ_TRY(aq_counts_check("adam", &base, &(aq_operand){"first", of->first, AQ_F32, NULL}));
    AQ_TRY(aq_counts_check("adam", &base, &(aq_operand){"second", of->second, AQ_F32, NULL}));
    if (!of->largest) return AQ_OK;
    return aq_counts_check("adam", &base, &(aq_operand){"largest", of->largest, AQ_F32, NULL});
}

aq_status aq_adam_many(const aq_adam_step *step, const aq_adam_tensors *list, size_t count) {
    for (size_t i = 0; i < count; i++) AQ_TRY(check_adam(&list[i]));
    AQ_REQUIRE(step->step >= 1, AQ_INVALID, "adam: step %d, they count from 1", step->step);
    return count > 0 ? list->grad->home->ops->adam_step(step, list, count) : AQ_OK;
}

aq_status aq_adam(const aq_adam_step *step, const aq_tensor *grad, aq_tensor *parameter,
                  aq_tensor *first, aq_tensor *second, aq_tensor *largest) {
    return aq_adam_many(step, &(aq_adam_tensors){grad, parameter, first, second, largest}, 1);
}

/* ---- code search ---- */

static aq_status check_beam(const char *op, size_t beam) {
    AQ_REQUIRE(beam >= 1 && beam <= AQ_MAX_BEAM, AQ_SHAPE, "%s: a beam of %zu, expected 1 to %d",
               op, beam, AQ_MAX_BEAM);
    return AQ_OK;
}

/* `order` has each of `count` codebooks once. */
static aq_status check_permutation(const uint8_t *order, size_t count) {
    bool seen[UINT8_MAX + 1] = {0};
    for (size_t i = 0; i < count; i++) {
        AQ_REQUIRE(order[i] < count, AQ_INVALID, "search_groups: codebook %d of %zu in the order",
                   order[i], count);
        AQ_REQUIRE(!seen[order[i]], AQ_INVALID,
                   "search_groups: codebook %d comes twice in the order", order[i]);
        seen[order[i]] = true;
    }
    return AQ_OK;
}

/* Different groups of `columns` columns. */
static aq_status check_run(const char *op, const aq_group_run *run, size_t columns) {
    AQ_REQUIRE(run->count >= 1 && run->count <= AQ_MAX_RUN, AQ_SHAPE,
               "%s: a run of %zu groups, expected 1 to %d", op, run->count, AQ_MAX_RUN);
    size_t groups = run->width ? columns / run->width : 0;
    for (size_t t = 0; t < run->count; t++) {
        AQ_REQUIRE(run->groups[t] < groups, AQ_SHAPE, "%s: group %u of %zu", op, run->groups[t],
                   groups);
        for (size_t i = 0; i < t; i++)
            AQ_REQUIRE(run->groups[t] != run->groups[i], AQ_INVALID,
                       "%s: group %u comes twice in a run", op, run->groups[t]);
    }
    return AQ_OK;
}

static aq_status check_orders(const aq_group_search *search) {
    const size_t *books = search->coded->codebooks.shape;
    size_t beam = search->losses->shape[1];
    if (!search->codebook_orders) {
        AQ_REQUIRE(books[0] == 2 && books[1] <= AQ_MAX_PAIR_ENTRIES && beam == 1, AQ_INVALID,
                   "search_groups: pairs of entries need 2 codebooks of at most %d entries and a "
                   "beam of 1, found %zu of %zu and %zu",
                   AQ_MAX_PAIR_ENTRIES, books[0], books[1], beam);
        return AQ_OK;
    }
    for (size_t t = 0; t < search->run.count; t++)
        AQ_TRY(check_permutation(search->codebook_orders + t * books[0], books[0]));
    return AQ_OK;
}

aq_status aq_search_groups(const aq_group_search *search) {
    const aq_coded *coded = search->coded;
    const aq_group_run *run = &search->run;
    AQ_TRY(aq_coded_check("search_groups", coded));
    AQ_CHECK_OPERANDS(
        "search_groups", {"scales", &coded->scales, AQ_F32, "r"},
        {"codebooks", &coded->codebooks, AQ_F32, "mkog"}, {"gram", search->gram, AQ_F32, "ii"},
        {"residual", search->residual, AQ_F32, "rcoi"}, {"losses", search->losses, AQ_F32, "rb"},
        {"ancestors", search->ancestors, AQ_U8, "trb"},
        {"choices", search->choices, AQ_U16, "trbm"}, {"origins", search->origins, AQ_U8, "rb"},
        {"delta", search->delta, AQ_F32, "rbow"});
    AQ_TRY(check_beam("search_groups", search->losses->shape[1]));
    size_t groups = coded->codes.shape[1], group_size = (size_t)coded->scheme.in_group;
    AQ_REQUIRE(search->gram->shape[0] == groups * group_size, AQ_SHAPE,
               "search_groups: gram is [%zu, %zu], codes have %zu groups of %zu",
               search->gram->shape[0], search->gram->shape[1], groups, group_size);
    AQ_TRY(check_run("search_groups", run, search->gram->shape[0]));
    AQ_REQUIRE(run->width == group_size && search->ancestors->shape[0] == run->count &&
                   search->delta->shape[3] == run->count * run->width,
               AQ_SHAPE, "search_groups: %zu groups of %zu, ancestors of %zu steps, a delta of %zu",
               run->count, run->width, search->ancestors->shape[0], search->delta->shape[3]);
    AQ_TRY(check_orders(search));
    return search->losses->home->ops->search_groups(search);
}

aq_status aq_residual_update(const aq_tensor *delta, const aq_tensor *gram, const aq_group_run *run,
                             const aq_tensor *origins, const aq_tensor *old_residual,
                             aq_tensor *residual) {
    AQ_CHECK_OPERANDS("residual_update", {"delta", delta, AQ_F32, "rbow"},
                      {"gram", gram, AQ_F32, "ii"}, {"origins", origins, AQ_U8, "rb"},
                      {"old_residual", old_residual, AQ_F32, "rcoi"},
                      {"residual", residual, AQ_F32, "rboi"});
    AQ_TRY(check_beam("residual_update", delta->shape[1]));
    AQ_TRY(check_run("residual_update", run, gram->shape[0]));
    AQ_REQUIRE(delta->shape[3] == run->count * run->width, AQ_SHAPE,
               "residual_update: a delta of %zu columns for %zu groups of %zu", delta->shape[3],
               run->count, run->width);
    AQ_REQUIRE(residual->data != old_residual->data || delta->shape[1] == 1, AQ_INVALID,
               "residual_update: in place with a beam of %zu", delta->shape[1]);
    return delta->home->ops->residual_update(delta, gram, run, origins, old_residual, residual);
}

aq_status aq_trace_back(const aq_tensor *ancestors, const aq_tensor *choices,
                        const aq_tensor *losses, const uint32_t *group_order, aq_tensor *codes) {
    AQ_CHECK_OPERANDS("trace_back", {"ancestors", ancestors, AQ_U8, "jrb"},
                      {"choices", choices, AQ_U16, "jrbm"}, {"losses", losses, AQ_F32, "rb"},
                      {"codes", codes, AQ_U16, "rjm"});
    AQ_TRY(check_beam("trace_back", losses->shape[1]));
    for (size_t t = 0; t < codes->shape[1]; t++)
        AQ_REQUIRE(group_order[t] < codes->shape[1], AQ_INVALID,
                   "trace_back: step %zu treats group %u of %zu", t, group_order[t],
                   codes->shape[1]);
    return codes->home->ops->trace_back(ancestors, choices, losses, group_order, codes);
}
