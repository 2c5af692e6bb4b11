#include "store/layout.h"

#include "store/halves.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const aq_model_files[] = {"tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "tokenizer.model",
                                      "vocab.json",
                                      "merges.txt",
                                      "added_tokens.json",
                                      "chat_template.jinja",
                                      "generation_config.json",
                                      NULL};

void aq_tensor_path(const char *name, char path[static AQ_DATASET_NAME_SIZE]) {
    snprintf(path, AQ_DATASET_NAME_SIZE, "tensors/%s", name);
}

void aq_file_path(const char *name, char path[static AQ_DATASET_NAME_SIZE]) {
    snprintf(path, AQ_DATASET_NAME_SIZE, "files/%s", name);
}

const aq_linear_shape *aq_layout_find_linear(const aq_model_shape *shape, const char *name) {
    char own[AQ_NAME_SIZE];
    for (size_t block = 0; block < shape->blocks; block++)
        for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++) {
            aq_linear_name(shape, block, (aq_linear_kind)linear, "", own);
            if (strcmp(own, name) == 0) return &shape->linears[linear];
        }
    return NULL;
}

/* ---- head ---- */

aq_status aq_layout_write_head(const aq_h5 *file, const char *format, const aq_scheme *scheme) {
    AQ_TRY(aq_h5_write_text(file, "/", "format", format));
    AQ_TRY(aq_h5_write_long(file, "/", "version", AQ_FORMAT_VERSION));
    AQ_TRY(aq_h5_write_text(file, "/", "program", "aqlm-mpi " AQLM_VERSION));
    AQ_TRY(aq_h5_write_long(file, "/", "num_codebooks", scheme->codebooks));
    AQ_TRY(aq_h5_write_long(file, "/", "nbits_per_codebook", scheme->bits));
    AQ_TRY(aq_h5_write_long(file, "/", "in_group_size", scheme->in_group));
    return aq_h5_write_long(file, "/", "out_group_size", scheme->out_group);
}

static aq_status read_bounded(const aq_h5 *file, const char *key, long limit, int *value) {
    long stored;
    AQ_TRY(aq_h5_read_long(file, "/", key, &stored));
    AQ_REQUIRE(stored >= 1 && stored <= limit, AQ_FORMAT,
               "%s: attribute %s is %ld, expected 1 to %ld", file->path, key, stored, limit);
    *value = (int)stored;
    return AQ_OK;
}

static aq_status check_format(const aq_h5 *file, const char *format) {
    char *stored;
    AQ_TRY(aq_h5_read_text(file, "/", "format", &stored));
    aq_status status = AQ_OK;
    if (strcmp(stored, format) != 0)
        status = AQ_FAIL(AQ_FORMAT, "%s: a file of format '%.40s', expected '%s'", file->path,
                         stored, format);
    free(stored);
    return status;
}

aq_status aq_layout_read_head(const aq_h5 *file, const char *format, aq_scheme *scheme) {
    int version;
    AQ_TRY(check_format(file, format));
    AQ_TRY(read_bounded(file, "version", AQ_FORMAT_VERSION, &version));
    AQ_TRY(read_bounded(file, "num_codebooks", AQ_MAX_CODEBOOKS, &scheme->codebooks));
    AQ_TRY(read_bounded(file, "nbits_per_codebook", AQ_MAX_BITS, &scheme->bits));
    AQ_TRY(read_bounded(file, "in_group_size", AQ_MAX_GROUP, &scheme->in_group));
    return read_bounded(file, "out_group_size", AQ_MAX_GROUP, &scheme->out_group);
}

/* ---- coded weights ---- */

static const char *part_path(const char *linear, const char *part,
                             char path[static AQ_DATASET_NAME_SIZE]) {
    snprintf(path, AQ_DATASET_NAME_SIZE, "tensors/%s/%s", linear, part);
    return path;
}

aq_status aq_layout_write_coded(const aq_h5 *file, const char *linear, const aq_coded_data *data) {
    char path[AQ_DATASET_NAME_SIZE];
    aq_status status;
    void *codes = NULL;
    AQ_STEP(aq_coded_data_pack(data, false, &codes));
    AQ_STEP(aq_h5_write(file, part_path(linear, "codes", path), aq_code_dtype(&data->scheme),
                        aq_coded_data_codes(data), codes));
    AQ_STEP(aq_h5_write(file, part_path(linear, "codebooks", path), AQ_F16,
                        aq_coded_data_codebooks(data), data->codebooks));
    AQ_STEP(aq_h5_write(file, part_path(linear, "scales", path), AQ_F16, aq_coded_data_scales(data),
                        data->scales));
done:
    free(codes);
    return status;
}

static aq_status read_codes(const aq_h5 *file, const char *linear, aq_coded_data *data) {
    char path[AQ_DATASET_NAME_SIZE];
    aq_dtype dtype = aq_code_dtype(&data->scheme);
    aq_shape shape = aq_coded_data_codes(data);
    void *packed = malloc(aq_shape_count(shape) * aq_dtype_size(dtype));
    AQ_REQUIRE(packed, AQ_MEMORY, "out of memory for the codes of %s", linear);
    aq_status status = aq_h5_read(file, part_path(linear, "codes", path), dtype, shape, packed);
    if (status == AQ_OK) aq_coded_data_unpack(data, false, packed);
    free(packed);
    return status;
}

static aq_status read_parts(const aq_h5 *file, const char *linear, aq_coded_data *data) {
    char path[AQ_DATASET_NAME_SIZE];
    AQ_TRY(read_codes(file, linear, data));
    AQ_TRY(aq_h5_read(file, part_path(linear, "codebooks", path), AQ_F16,
                      aq_coded_data_codebooks(data), data->codebooks));
    AQ_TRY(aq_h5_read(file, part_path(linear, "scales", path), AQ_F16, aq_coded_data_scales(data),
                      data->scales));
    aq_status status = aq_coded_data_check(data, linear);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s", file->path);
}

aq_status aq_layout_read_coded(const aq_h5 *file, const char *linear, const aq_scheme *scheme,
                               const aq_linear_shape *shape, aq_coded_data *data) {
    AQ_TRY(aq_coded_data_new(scheme, shape->out, shape->in, data));
    aq_status status = read_parts(file, linear, data);
    if (status != AQ_OK) aq_coded_data_free(data);
    return status;
}

aq_status aq_layout_look_coded(const aq_h5 *file, const char *linear, const aq_scheme *scheme,
                               const aq_linear_shape *shape) {
    char path[AQ_DATASET_NAME_SIZE];
    aq_status status = aq_scheme_check(scheme, shape->out, shape->in);
    if (status != AQ_OK) return aq_error_at(AQ_FORMAT, "%s: %s", file->path, linear);
    const aq_coded_data expected = aq_coded_data_outline(scheme, shape->out, shape->in);
    AQ_TRY(aq_h5_check(file, part_path(linear, "codes", path), aq_code_dtype(scheme),
                       aq_coded_data_codes(&expected)));
    AQ_TRY(aq_h5_check(file, part_path(linear, "codebooks", path), AQ_F16,
                       aq_coded_data_codebooks(&expected)));
    return aq_h5_check(file, part_path(linear, "scales", path), AQ_F16,
                       aq_coded_data_scales(&expected));
}

/* ---- vectors ---- */

bool aq_layout_vector(const aq_model_shape *shape, size_t block, int vector,
                      char name[static AQ_NAME_SIZE], size_t *length) {
    if (vector < AQ_NORM_COUNT) {
        aq_norm_name(block, (aq_norm_kind)vector, name);
        *length = shape->hidden;
        return true;
    }
    aq_linear_kind linear = (aq_linear_kind)(vector - AQ_NORM_COUNT);
    aq_linear_name(shape, block, linear, ".bias", name);
    *length = shape->linears[linear].out;
    return shape->linears[linear].bias;
}

aq_status aq_layout_write_vector(const aq_h5 *file, const char *name, size_t length,
                                 const uint16_t *halves) {
    char path[AQ_DATASET_NAME_SIZE];
    aq_tensor_path(name, path);
    return aq_h5_write(file, path, AQ_F16, AQ_DIMS(length), halves);
}

aq_status aq_layout_read_vector(const aq_h5 *file, const char *name, size_t length,
                                uint16_t *halves) {
    char path[AQ_DATASET_NAME_SIZE];
    aq_tensor_path(name, path);
    AQ_TRY(aq_h5_read(file, path, AQ_F16, AQ_DIMS(length), halves));
    aq_status status = aq_halves_check(halves, length, name);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s", file->path);
}
