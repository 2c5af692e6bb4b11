#include "store/block_file.h"

#include "store/block_parts.h"
#include "store/halves.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static aq_status write_linear(const aq_h5 *file, const aq_coded_block *block,
                              aq_linear_kind linear) {
    const aq_linear_shape *shape = &block->shape->linears[linear];
    char name[AQ_NAME_SIZE], path[AQ_DATASET_NAME_SIZE];
    aq_linear_name(block->shape, block->index, linear, "", name);
    aq_tensor_path(name, path);
    aq_coded_data data;
    AQ_TRY(aq_coded_data_new(&block->linears[linear].scheme, shape->out, shape->in, &data));
    aq_status status;
    AQ_STEP(aq_coded_data_download(&block->linears[linear], name, &data));
    AQ_STEP(aq_layout_write_coded(file, name, &data));
    AQ_STEP(aq_h5_write_double(file, path, "error", block->layer_errors[linear]));
done:
    aq_coded_data_free(&data);
    return status;
}

static aq_status write_vector(const aq_h5 *file, const aq_tensor *values, const char *name) {
    size_t length = aq_tensor_count(values);
    uint16_t *halves = malloc(length * sizeof *halves);
    AQ_REQUIRE(halves, AQ_MEMORY, "out of memory");
    aq_status status = aq_halves_download(values, name, halves);
    if (status == AQ_OK) status = aq_layout_write_vector(file, name, length, halves);
    free(halves);
    return status;
}

static aq_status write_head(const aq_h5 *file, const aq_coded_block *block,
                            const aq_block_origin *origin) {
    AQ_TRY(aq_layout_write_head(file, AQ_BLOCK_FORMAT, &block->linears[0].scheme));
    AQ_TRY(aq_h5_write_text(file, "/", "fingerprint", origin->fingerprint));
    if (origin->settings) AQ_TRY(aq_h5_write_text(file, "/", "settings", origin->settings));
    AQ_TRY(aq_h5_write_long(file, "/", "index", (long)block->index));
    AQ_TRY(aq_h5_write_double(file, "/", "fitted_error", block->fitted_error));
    return aq_h5_write_double(file, "/", "error", block->error);
}

static const aq_tensor *vector_of(const aq_coded_block *block, int vector) {
    return vector < AQ_NORM_COUNT ? &block->norms[vector] : &block->biases[vector - AQ_NORM_COUNT];
}

static aq_status write_contents(const aq_h5 *file, const aq_coded_block *block,
                                const aq_block_origin *origin) {
    char name[AQ_NAME_SIZE];
    size_t length;
    AQ_TRY(write_head(file, block, origin));
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++)
        AQ_TRY(write_linear(file, block, (aq_linear_kind)linear));
    for (int vector = 0; vector < AQ_VECTOR_COUNT; vector++)
        if (aq_layout_vector(block->shape, block->index, vector, name, &length))
            AQ_TRY(write_vector(file, vector_of(block, vector), name));
    return AQ_OK;
}

aq_status aq_block_file_write(const char *path, const aq_coded_block *block,
                              const aq_block_origin *origin) {
    aq_h5 file;
    AQ_TRY(aq_h5_create(path, &file));
    aq_status status = write_contents(&file, block, origin);
    if (status == AQ_OK) return aq_h5_commit(&file);
    aq_h5_close(&file);
    return status;
}

/* ---- reading ---- */

static aq_status check_fingerprint(const aq_h5 *file, const char *fingerprint) {
    char *stored;
    AQ_TRY(aq_h5_read_text(file, "/", "fingerprint", &stored));
    aq_status status = AQ_OK;
    if (strcmp(stored, fingerprint) != 0)
        status =
            AQ_FAIL(AQ_FORMAT, "%s: made with other settings (fingerprint %.64s, expected %.64s)",
                    file->path, stored, fingerprint);
    free(stored);
    return status;
}

aq_status aq_block_file_fingerprint(const char *path, char **fingerprint) {
    aq_h5 file;
    *fingerprint = NULL;
    AQ_TRY(aq_h5_open(path, &file));
    aq_status status = aq_h5_read_text(&file, "/", "fingerprint", fingerprint);
    aq_h5_close(&file);
    return status;
}

static aq_status check_head(const aq_h5 *file, const aq_block_facts *facts) {
    aq_scheme scheme;
    long index;
    AQ_TRY(aq_layout_read_head(file, AQ_BLOCK_FORMAT, &scheme));
    AQ_TRY(check_fingerprint(file, facts->fingerprint));
    AQ_TRY(aq_h5_read_long(file, "/", "index", &index));
    AQ_REQUIRE(index >= 0 && (size_t)index == facts->index, AQ_FORMAT,
               "%s: holds block %ld, expected block %zu", file->path, index, facts->index);
    AQ_REQUIRE(memcmp(&scheme, facts->scheme, sizeof scheme) == 0, AQ_SHAPE,
               "%s: scheme is %dx%d in groups of %d x %d, expected %dx%d in groups of %d x %d",
               file->path, scheme.codebooks, scheme.bits, scheme.out_group, scheme.in_group,
               facts->scheme->codebooks, facts->scheme->bits, facts->scheme->out_group,
               facts->scheme->in_group);
    return AQ_OK;
}

aq_status aq_block_parts_open(const char *path, const aq_block_facts *facts, aq_h5 *file) {
    AQ_TRY(aq_h5_open_verified(path, NULL, file));
    aq_status status = check_head(file, facts);
    if (status != AQ_OK) aq_h5_close(file);
    return status;
}

aq_status aq_block_parts_error(const aq_h5 *file, const char *object, const char *key,
                               double *error) {
    AQ_TRY(aq_h5_read_double(file, object, key, error));
    AQ_REQUIRE(isfinite(*error) && *error >= 0, AQ_FORMAT, "%s: %s of %s is %g, not an error",
               file->path, key, object, *error);
    return AQ_OK;
}

aq_status aq_block_parts_settings(const aq_h5 *file, char **settings) {
    aq_status status = aq_h5_read_text(file, "/", "settings", settings);
    return status == AQ_MISSING ? AQ_OK : status;
}

static aq_status read_linear(const aq_h5 *file, aq_linear_kind linear, aq_backend *backend,
                             aq_coded_block *block, const aq_scheme *scheme) {
    char name[AQ_NAME_SIZE], path[AQ_DATASET_NAME_SIZE];
    aq_linear_name(block->shape, block->index, linear, "", name);
    aq_tensor_path(name, path);
    AQ_TRY(aq_block_parts_error(file, path, "error", &block->layer_errors[linear]));
    aq_coded_data data;
    AQ_TRY(aq_layout_read_coded(file, name, scheme, &block->shape->linears[linear], &data));
    aq_status status = aq_coded_data_upload(&data, backend, &block->linears[linear]);
    aq_coded_data_free(&data);
    return status;
}

static aq_status read_vector(const aq_h5 *file, const char *name, size_t length,
                             aq_backend *backend, aq_tensor *values) {
    uint16_t *halves = malloc(length * sizeof *halves);
    AQ_REQUIRE(halves, AQ_MEMORY, "out of memory");
    aq_status status = aq_layout_read_vector(file, name, length, halves);
    if (status == AQ_OK) status = aq_halves_upload(halves, AQ_DIMS(length), backend, values);
    free(halves);
    return status;
}

static aq_status read_contents(const aq_h5 *file, const aq_scheme *scheme, aq_backend *backend,
                               aq_coded_block *block) {
    char name[AQ_NAME_SIZE];
    size_t length;
    AQ_TRY(aq_block_parts_error(file, "/", "error", &block->error));
    AQ_TRY(aq_block_parts_error(file, "/", "fitted_error", &block->fitted_error));
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++)
        AQ_TRY(read_linear(file, (aq_linear_kind)linear, backend, block, scheme));
    for (int vector = 0; vector < AQ_VECTOR_COUNT; vector++)
        if (aq_layout_vector(block->shape, block->index, vector, name, &length))
            AQ_TRY(read_vector(file, name, length, backend, (aq_tensor *)vector_of(block, vector)));
    return AQ_OK;
}

aq_status aq_block_file_read(const char *path, const aq_model_shape *shape, size_t index,
                             const aq_scheme *scheme, const char *fingerprint, aq_backend *backend,
                             aq_coded_block *block) {
    *block = (aq_coded_block){.shape = shape, .index = index};
    aq_h5 file;
    AQ_TRY(aq_block_parts_open(
        path, &(aq_block_facts){.index = index, .scheme = scheme, .fingerprint = fingerprint},
        &file));
    aq_status status = read_contents(&file, scheme, backend, block);
    aq_h5_close(&file);
    if (status != AQ_OK) aq_coded_block_free(block);
    return status;
}
