#include "store/coded_data.h"

#include "store/halves.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

aq_shape aq_coded_data_codes(const aq_coded_data *data) {
    return AQ_DIMS(data->rows, data->groups, (size_t)data->scheme.codebooks);
}

aq_shape aq_coded_data_codebooks(const aq_coded_data *data) {
    const aq_scheme *scheme = &data->scheme;
    return AQ_DIMS((size_t)scheme->codebooks, (size_t)1 << scheme->bits, (size_t)scheme->out_group,
                   (size_t)scheme->in_group);
}

aq_shape aq_coded_data_scales(const aq_coded_data *data) {
    return AQ_DIMS(data->rows);
}

aq_dtype aq_code_dtype(const aq_scheme *scheme) {
    return scheme->bits <= 8 ? AQ_U8 : AQ_U16;
}

size_t aq_coded_data_bytes(const aq_coded_data *data) {
    return aq_shape_count(aq_coded_data_codes(data)) * aq_dtype_size(aq_code_dtype(&data->scheme)) +
           2 * aq_shape_count(aq_coded_data_codebooks(data)) + 2 * data->rows;
}

aq_coded_data aq_coded_data_outline(const aq_scheme *scheme, size_t out, size_t in) {
    return (aq_coded_data){.scheme = *scheme,
                           .rows = out / (size_t)scheme->out_group,
                           .groups = in / (size_t)scheme->in_group};
}

aq_status aq_coded_data_new(const aq_scheme *scheme, size_t out, size_t in, aq_coded_data *data) {
    *data = (aq_coded_data){0};
    AQ_TRY(aq_scheme_check(scheme, out, in));
    *data = aq_coded_data_outline(scheme, out, in);
    data->codes = calloc(aq_shape_count(aq_coded_data_codes(data)), sizeof *data->codes);
    data->codebooks =
        calloc(aq_shape_count(aq_coded_data_codebooks(data)), sizeof *data->codebooks);
    data->scales = calloc(data->rows, sizeof *data->scales);
    if (data->codes && data->codebooks && data->scales) return AQ_OK;
    aq_coded_data_free(data);
    return AQ_FAIL(AQ_MEMORY, "out of memory for the codes of a weight [%zu, %zu]", out, in);
}

void aq_coded_data_free(aq_coded_data *data) {
    free(data->codes);
    free(data->codebooks);
    free(data->scales);
    *data = (aq_coded_data){0};
}

aq_status aq_coded_data_pack(const aq_coded_data *data, bool wrapped, void **packed) {
    size_t count = aq_shape_count(aq_coded_data_codes(data));
    size_t width = aq_dtype_size(aq_code_dtype(&data->scheme));
    uint32_t half = 1u << (data->scheme.bits - 1);
    char *bytes = malloc(count * width);
    AQ_REQUIRE(bytes, AQ_MEMORY, "out of memory: %zu bytes for codes", count * width);
    for (size_t i = 0; i < count; i++) {
        uint32_t code = data->codes[i];
        uint16_t stored = (uint16_t)(wrapped && code >= half ? code - 2 * half : code);
        memcpy(bytes + i * width, &stored, width);
    }
    *packed = bytes;
    return AQ_OK;
}

/* A signed code comes back into 0 .. 2^bits - 1; one that was out of range stays out of it. */
static uint16_t unwrap(uint16_t stored, size_t width, int bits) {
    int32_t code = width == 1 ? (int8_t)stored : (int16_t)stored;
    int32_t end = 1 << bits, half = end / 2;
    if (code >= -half && code < half) return (uint16_t)(code < 0 ? code + end : code);
    return UINT16_MAX;
}

/* From the last code down, so that bytes may widen in place. */
void aq_coded_data_unpack(aq_coded_data *data, bool wrapped, const void *packed) {
    const char *bytes = packed;
    size_t width = aq_dtype_size(aq_code_dtype(&data->scheme));
    for (size_t i = aq_shape_count(aq_coded_data_codes(data)); i-- > 0;) {
        uint16_t code = 0;
        memcpy(&code, bytes + i * width, width);
        data->codes[i] = wrapped ? unwrap(code, width, data->scheme.bits) : code;
    }
}

enum { PART_SIZE = 320 };

static const char *part(const char *linear, const char *name, char text[static PART_SIZE]) {
    snprintf(text, PART_SIZE, "%s.%s", linear, name);
    return text;
}

aq_status aq_coded_data_check(const aq_coded_data *data, const char *linear) {
    char text[PART_SIZE];
    size_t count = aq_shape_count(aq_coded_data_codes(data));
    uint32_t end = 1u << data->scheme.bits;
    for (size_t i = 0; i < count; i++)
        AQ_REQUIRE(data->codes[i] < end, AQ_FORMAT,
                   "%s.codes: code %u at position %zu is not below %u", linear,
                   (unsigned)data->codes[i], i, (unsigned)end);
    AQ_TRY(aq_halves_check(data->codebooks, aq_shape_count(aq_coded_data_codebooks(data)),
                           part(linear, "codebooks", text)));
    return aq_halves_check(data->scales, data->rows, part(linear, "scales", text));
}

aq_status aq_coded_data_download(const aq_coded *coded, const char *linear, aq_coded_data *data) {
    char text[PART_SIZE];
    AQ_TRY(aq_tensor_download(&coded->codes, data->codes,
                              aq_shape_count(aq_coded_data_codes(data)) * sizeof *data->codes));
    AQ_TRY(aq_halves_download(&coded->codebooks, part(linear, "codebooks", text), data->codebooks));
    return aq_halves_download(&coded->scales, part(linear, "scales", text), data->scales);
}

aq_status aq_coded_data_upload(const aq_coded_data *data, aq_backend *backend, aq_coded *coded) {
    aq_shape codes = aq_coded_data_codes(data);
    *coded = (aq_coded){.scheme = data->scheme};
    aq_status status;
    AQ_STEP(aq_tensor_new(backend, AQ_U16, codes, &coded->codes));
    AQ_STEP(aq_tensor_upload(&coded->codes, data->codes, aq_tensor_bytes(&coded->codes)));
    AQ_STEP(aq_halves_upload(data->codebooks, aq_coded_data_codebooks(data), backend,
                             &coded->codebooks));
    AQ_STEP(aq_halves_upload(data->scales, aq_coded_data_scales(data), backend, &coded->scales));
done:
    if (status != AQ_OK) aq_coded_free(coded);
    return status;
}
