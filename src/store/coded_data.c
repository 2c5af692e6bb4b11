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

/* One loop a width, without branches: models have thousands of millions of codes. */
static void pack_bytes(const uint16_t *codes, size_t count, uint32_t half, uint8_t *stored) {
    for (size_t i = 0; i < count; i++)
        stored[i] = (uint8_t)(codes[i] - (codes[i] >= half ? 2 * half : 0));
}

static void pack_words(const uint16_t *codes, size_t count, uint32_t half, uint16_t *stored) {
    for (size_t i = 0; i < count; i++)
        stored[i] = (uint16_t)(codes[i] - (codes[i] >= half ? 2 * half : 0));
}

aq_status aq_coded_data_pack(const aq_coded_data *data, bool wrapped, void **packed) {
    size_t count = aq_shape_count(aq_coded_data_codes(data));
    size_t width = aq_dtype_size(aq_code_dtype(&data->scheme));
    uint32_t half = wrapped ? 1u << (data->scheme.bits - 1) : 1u << AQ_MAX_BITS;
    *packed = malloc(count * width);
    AQ_REQUIRE(*packed, AQ_MEMORY, "out of memory: %zu bytes for codes", count * width);
    if (width == 1)
        pack_bytes(data->codes, count, half, *packed);
    else
        pack_words(data->codes, count, half, *packed);
    return AQ_OK;
}

/* A signed code comes back into 0 .. 2^bits - 1; one that was out of range stays out of it. */
static uint16_t unwrap(int32_t code, int32_t end) {
    bool fits = code >= -end / 2 && code < end / 2;
    return (uint16_t)(fits ? code + (code < 0 ? end : 0) : UINT16_MAX);
}

static void unpack_bytes(const uint8_t *stored, size_t count, int32_t end, uint16_t *codes) {
    for (size_t i = 0; i < count; i++) codes[i] = end ? unwrap((int8_t)stored[i], end) : stored[i];
}

static void unpack_words(const char *stored, size_t count, int32_t end, uint16_t *codes) {
    memcpy(codes, stored, count * sizeof *codes); /* which need not be aligned in a file */
    for (size_t i = 0; end && i < count; i++) codes[i] = unwrap((int16_t)codes[i], end);
}

void aq_coded_data_unpack(aq_coded_data *data, bool wrapped, const void *packed) {
    size_t count = aq_shape_count(aq_coded_data_codes(data));
    int32_t end = wrapped ? 1 << data->scheme.bits : 0;
    if (aq_code_dtype(&data->scheme) == AQ_U8)
        unpack_bytes(packed, count, end, data->codes);
    else
        unpack_words(packed, count, end, data->codes);
}

enum { PART_SIZE = 320 };

static const char *part(const char *linear, const char *name, char text[static PART_SIZE]) {
    snprintf(text, PART_SIZE, "%s.%s", linear, name);
    return text;
}

static uint16_t largest(const uint16_t *codes, size_t count) {
    uint16_t most = 0;
    for (size_t i = 0; i < count; i++) most = codes[i] > most ? codes[i] : most;
    return most;
}

aq_status aq_coded_data_check(const aq_coded_data *data, const char *linear) {
    char text[PART_SIZE];
    size_t count = aq_shape_count(aq_coded_data_codes(data)), i = 0;
    uint32_t end = 1u << data->scheme.bits;
    if (largest(data->codes, count) >= end) {
        while (data->codes[i] < end) i++;
        return AQ_FAIL(AQ_FORMAT, "%s.codes: code %u at position %zu is not below %u", linear,
                       (unsigned)data->codes[i], i, (unsigned)end);
    }
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
