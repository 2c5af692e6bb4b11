#include "quant/coded_weight.h"

#include <ctype.h>
#include <stdint.h>

static size_t entries_of(const aq_scheme *scheme) {
    return (size_t)1 << scheme->bits;
}

/* A number of one or two digits, without sign or space; -1 otherwise. */
static int parse_number(const char **text) {
    int value = -1;
    for (int digits = 0; digits < 2 && isdigit((unsigned char)**text); digits++)
        value = 10 * (value < 0 ? 0 : value) + (*(*text)++ - '0');
    return value;
}

aq_status aq_scheme_parse(const char *text, aq_scheme *scheme) {
    const char *rest = text;
    int codebooks = parse_number(&rest);
    bool separated = *rest == 'x';
    rest += separated;
    int bits = parse_number(&rest);
    AQ_REQUIRE(separated && *rest == '\0' && codebooks >= 1 && codebooks <= AQ_MAX_CODEBOOKS &&
                   bits >= 1 && bits <= AQ_MAX_BITS,
               AQ_INVALID,
               "scheme: expected MxB with 1 to %d codebooks of 1 to %d bits, as in 2x8; found '%s'",
               AQ_MAX_CODEBOOKS, AQ_MAX_BITS, text);
    scheme->codebooks = codebooks;
    scheme->bits = bits;
    return AQ_OK;
}

static aq_status check_limits(const aq_scheme *scheme) {
    AQ_REQUIRE(scheme->codebooks >= 1 && scheme->codebooks <= AQ_MAX_CODEBOOKS, AQ_INVALID,
               "scheme: expected 1 to %d codebooks, found %d", AQ_MAX_CODEBOOKS, scheme->codebooks);
    AQ_REQUIRE(scheme->bits >= 1 && scheme->bits <= AQ_MAX_BITS, AQ_INVALID,
               "scheme: expected 1 to %d bits a codebook, found %d", AQ_MAX_BITS, scheme->bits);
    AQ_REQUIRE(scheme->in_group >= 1, AQ_INVALID, "group: expected at least 1 column, found %d",
               scheme->in_group);
    AQ_REQUIRE(scheme->out_group >= 1, AQ_INVALID, "out_group: expected at least 1 row, found %d",
               scheme->out_group);
    return AQ_OK;
}

aq_status aq_scheme_check(const aq_scheme *scheme, size_t out, size_t in) {
    AQ_TRY(check_limits(scheme));
    size_t in_group = (size_t)scheme->in_group, out_group = (size_t)scheme->out_group;
    AQ_REQUIRE(in > 0 && in % in_group == 0, AQ_INVALID,
               "group: %zu does not divide the weight's %zu columns", in_group, in);
    AQ_REQUIRE(out > 0 && out % out_group == 0, AQ_INVALID,
               "out_group: %zu does not divide the weight's %zu rows", out_group, out);
    size_t vectors;
    bool overflow = __builtin_mul_overflow(out / out_group, in / in_group, &vectors);
    AQ_REQUIRE(!overflow && vectors <= UINT32_MAX, AQ_INVALID,
               "a weight of %zu x %zu has more than 2^32 vectors", out, in);
    AQ_REQUIRE(entries_of(scheme) <= vectors, AQ_INVALID,
               "scheme: a codebook of %zu entries is larger than the %zu vectors of a weight of "
               "%zu x %zu in groups of %zu x %zu",
               entries_of(scheme), vectors, out, in, out_group, in_group);
    return AQ_OK;
}

double aq_scheme_bits(const aq_scheme *scheme, size_t out, size_t in) {
    double codebooks = scheme->codebooks, vector = (double)scheme->in_group * scheme->out_group;
    double weights = (double)out * (double)in;
    double codes = codebooks * scheme->bits / vector;
    double values = 16 * codebooks * (double)entries_of(scheme) * vector / weights;
    double scales = 16 * (double)(out / (size_t)scheme->out_group) / weights;
    return codes + values + scales;
}

aq_status aq_coded_new(aq_backend *backend, const aq_scheme *scheme, size_t out, size_t in,
                       aq_coded *coded) {
    *coded = (aq_coded){.scheme = *scheme};
    size_t in_group = (size_t)scheme->in_group, out_group = (size_t)scheme->out_group;
    size_t codebooks = (size_t)scheme->codebooks;
    size_t rows = out / out_group, groups = in / in_group;
    aq_status status;
    AQ_STEP(aq_tensor_new(backend, AQ_U16, AQ_DIMS(rows, groups, codebooks), &coded->codes));
    AQ_STEP(aq_tensor_new(backend, AQ_F32,
                          AQ_DIMS(codebooks, entries_of(scheme), out_group, in_group),
                          &coded->codebooks));
    AQ_STEP(aq_tensor_new(backend, AQ_F32, AQ_DIMS(rows), &coded->scales));
done:
    if (status != AQ_OK) aq_coded_free(coded);
    return status;
}

void aq_coded_free(aq_coded *coded) {
    aq_tensor_free(&coded->codes);
    aq_tensor_free(&coded->codebooks);
    aq_tensor_free(&coded->scales);
}

size_t aq_coded_out(const aq_coded *coded) {
    return coded->codes.shape[0] * (size_t)coded->scheme.out_group;
}

size_t aq_coded_in(const aq_coded *coded) {
    return coded->codes.shape[1] * (size_t)coded->scheme.in_group;
}

aq_coded aq_coded_rows(const aq_coded *coded, size_t first, size_t count) {
    aq_coded view = *coded;
    view.codes = aq_tensor_rows(&coded->codes, first, count);
    view.codebooks.owned = false;
    view.scales = aq_tensor_rows(&coded->scales, first, count);
    return view;
}

aq_status aq_coded_copy(const aq_coded *source, aq_coded *target) {
    AQ_TRY(aq_tensor_copy(&source->codes, &target->codes));
    AQ_TRY(aq_tensor_copy(&source->codebooks, &target->codebooks));
    return aq_tensor_copy(&source->scales, &target->scales);
}

aq_status aq_coded_difference(const aq_coded *coded, const aq_tensor *weight,
                              aq_tensor *difference) {
    AQ_TRY(aq_decode(coded, difference));
    return aq_axpby(-1, weight, 1, difference);
}

aq_status aq_round_to_half(aq_tensor *values, const char *what) {
    aq_tensor half;
    AQ_TRY(aq_tensor_new(values->home, AQ_F16, AQ_DIMS(aq_tensor_count(values)), &half));
    size_t unfit;
    aq_status status;
    AQ_STEP(aq_convert(values, 1, &half));
    AQ_STEP(aq_count_nonfinite(&half, &unfit));
    AQ_NEED(unfit == 0, AQ_NUMERIC,
            "%s: %zu of %zu values are NaN, infinite or past float16's range", what, unfit,
            aq_tensor_count(values));
    AQ_STEP(aq_convert(&half, 1, values));
done:
    aq_tensor_free(&half);
    return status;
}

aq_status aq_coded_round(aq_coded *coded) {
    AQ_TRY(aq_round_to_half(&coded->codebooks, "codebooks"));
    return aq_round_to_half(&coded->scales, "scales");
}

aq_status aq_code_index_new(const aq_coded *coded, aq_code_index *index) {
    *index = (aq_code_index){0};
    size_t codebooks = (size_t)coded->scheme.codebooks;
    size_t vectors = coded->codes.shape[0] * coded->codes.shape[1];
    aq_backend *backend = coded->codes.home;
    aq_status status;
    AQ_STEP(aq_tensor_new(backend, AQ_U32, AQ_DIMS(codebooks, vectors), &index->orders));
    AQ_STEP(aq_tensor_new(backend, AQ_U32, AQ_DIMS(codebooks, entries_of(&coded->scheme) + 1),
                          &index->offsets));
done:
    if (status != AQ_OK) aq_code_index_free(index);
    return status;
}

aq_status aq_code_index_update(const aq_coded *coded, aq_code_index *index) {
    size_t codebooks = index->orders.shape[0], vectors = index->orders.shape[1];
    aq_tensor codes = aq_tensor_reshape(&coded->codes, AQ_DIMS(vectors, codebooks));
    for (size_t m = 0; m < codebooks; m++) {
        aq_tensor order = aq_tensor_rows(&index->orders, m, 1);
        aq_tensor offsets = aq_tensor_rows(&index->offsets, m, 1);
        order = aq_tensor_reshape(&order, AQ_DIMS(vectors));
        offsets = aq_tensor_reshape(&offsets, AQ_DIMS(index->offsets.shape[1]));
        AQ_TRY(aq_sort_codes(&codes, (int)m, &order, &offsets));
    }
    return AQ_OK;
}

void aq_code_index_free(aq_code_index *index) {
    aq_tensor_free(&index->orders);
    aq_tensor_free(&index->offsets);
}
