/* The gathered file as a source of weights. */
#include "store/hdf5_source.h"

#include "base/stop.h"

#include <stdlib.h>
#include <string.h>

typedef struct hdf5_state {
    aq_h5 file;
    aq_scheme scheme;
    char found[AQ_NAME_SIZE]; /* name of the tensor that `stored` holds; "" before the first */
    aq_stored stored;         /* its bytes are owned */
} hdf5_state;

/* ---- tensors ---- */

static aq_status look_tensor(const aq_h5 *file, const char *name, aq_dtype *dtype,
                             aq_shape *shape) {
    char path[AQ_DATASET_NAME_SIZE];
    aq_tensor_path(name, path);
    AQ_TRY(aq_h5_look(file, path, dtype, shape));
    AQ_REQUIRE(*dtype == AQ_F32 || *dtype == AQ_F16 || *dtype == AQ_BF16, AQ_FORMAT,
               "%s: tensor %s is %s, expected F32, F16 or BF16", file->path, name,
               aq_dtype_name(*dtype));
    return AQ_OK;
}

static aq_status read_tensor(const aq_h5 *file, const char *name, aq_stored *stored) {
    char path[AQ_DATASET_NAME_SIZE];
    aq_tensor_path(name, path);
    AQ_TRY(look_tensor(file, name, &stored->dtype, &stored->shape));
    stored->size = aq_shape_count(stored->shape) * aq_dtype_size(stored->dtype);
    void *bytes = malloc(stored->size);
    AQ_REQUIRE(bytes, AQ_MEMORY, "%s: out of memory: %zu bytes for %s", file->path, stored->size,
               name);
    aq_status status = aq_h5_read(file, path, stored->dtype, stored->shape, bytes);
    if (status != AQ_OK)
        free(bytes);
    else
        stored->bytes = bytes;
    return status;
}

static void forget_found(hdf5_state *state) {
    free((void *)state->stored.bytes);
    state->stored = (aq_stored){0};
    state->found[0] = '\0';
}

/* Embeddings are asked for again and again: the last tensor stays. */
static aq_status find(aq_source *source, const char *name, aq_stored *stored) {
    hdf5_state *state = source->state;
    if (source->shape.tied_embeddings && strcmp(name, AQ_HEAD_NAME) == 0) name = AQ_EMBEDDING_NAME;
    if (strcmp(state->found, name) != 0) {
        forget_found(state);
        AQ_TRY(read_tensor(&state->file, name, &state->stored));
        strncpy(state->found, name, AQ_NAME_SIZE - 1);
    }
    *stored = state->stored;
    return AQ_OK;
}

/* ---- coded weights and files ---- */

aq_status aq_hdf5_source_data(aq_source *source, const char *linear, aq_coded_data *data) {
    hdf5_state *state = source->state;
    const aq_linear_shape *shape = aq_layout_find_linear(&source->shape, linear);
    AQ_REQUIRE(shape, AQ_MISSING, "%s: no linear %s", source->path, linear);
    return aq_layout_read_coded(&state->file, linear, &state->scheme, shape, data);
}

static aq_status read_coded(aq_source *source, const char *linear, aq_backend *backend,
                            aq_coded *coded) {
    aq_coded_data data;
    AQ_TRY(aq_hdf5_source_data(source, linear, &data));
    aq_status status = aq_coded_data_upload(&data, backend, coded);
    aq_coded_data_free(&data);
    return status;
}

static aq_status read_file(aq_source *source, const char *name, char **bytes, size_t *size) {
    enum { FILE_LIMIT = 1 << 28 };
    const aq_h5 *file = &((hdf5_state *)source->state)->file;
    char path[AQ_DATASET_NAME_SIZE];
    aq_dtype dtype;
    aq_shape shape;
    aq_file_path(name, path);
    AQ_TRY(aq_h5_look(file, path, &dtype, &shape));
    *size = shape.dims[0];
    AQ_REQUIRE(dtype == AQ_U8 && shape.ndim == 1 && *size <= FILE_LIMIT, AQ_FORMAT,
               "%s: dataset %s is not a row of at most %d bytes", file->path, path, FILE_LIMIT);
    *bytes = calloc(*size + 1, 1);
    AQ_REQUIRE(*bytes, AQ_MEMORY, "%s: out of memory: %zu bytes for %s", file->path, *size, name);
    aq_status status = aq_h5_read(file, path, dtype, shape, *bytes);
    if (status == AQ_OK) return AQ_OK;
    free(*bytes);
    *bytes = NULL;
    return status;
}

/* ---- opening ---- */

static aq_status check_tensor(const aq_h5 *file, const char *name, aq_shape expected) {
    aq_dtype dtype;
    aq_shape shape;
    AQ_TRY(look_tensor(file, name, &dtype, &shape));
    char found[AQ_SHAPE_TEXT_SIZE], wanted[AQ_SHAPE_TEXT_SIZE];
    AQ_REQUIRE(aq_shape_same(shape, expected), AQ_SHAPE,
               "%s: tensor %s has shape %s, config.json asks for %s", file->path, name,
               aq_shape_text(shape, found), aq_shape_text(expected, wanted));
    return AQ_OK;
}

static aq_status check_ends(const aq_h5 *file, const aq_model_shape *shape) {
    const aq_shape table = AQ_DIMS(shape->vocab, shape->hidden);
    AQ_TRY(check_tensor(file, AQ_EMBEDDING_NAME, table));
    AQ_TRY(check_tensor(file, AQ_FINAL_NORM_NAME, AQ_DIMS(shape->hidden)));
    return shape->tied_embeddings ? AQ_OK : check_tensor(file, AQ_HEAD_NAME, table);
}

static aq_status check_block(const hdf5_state *state, const aq_model_shape *shape, size_t block) {
    char name[AQ_NAME_SIZE];
    size_t length;
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++) {
        aq_linear_name(shape, block, (aq_linear_kind)linear, "", name);
        AQ_TRY(aq_layout_look_coded(&state->file, name, &state->scheme, &shape->linears[linear]));
    }
    for (int vector = 0; vector < AQ_VECTOR_COUNT; vector++)
        if (aq_layout_vector(shape, block, vector, name, &length))
            AQ_TRY(check_tensor(&state->file, name, AQ_DIMS(length)));
    return AQ_OK;
}

static aq_status read_shape(aq_source *source) {
    char *text;
    size_t size;
    AQ_TRY(read_file(source, "config.json", &text, &size));
    aq_status status = aq_model_shape_parse(text, size, &source->shape);
    free(text);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s: config.json", source->path);
}

static aq_status load(aq_source *source) {
    hdf5_state *state = source->state;
    AQ_TRY(aq_h5_open_verified(source->path, &aq_stop_watch, &state->file));
    AQ_TRY(aq_layout_read_head(&state->file, AQ_MODEL_FORMAT, &state->scheme));
    source->scheme = &state->scheme;
    AQ_TRY(read_shape(source));
    AQ_TRY(check_ends(&state->file, &source->shape));
    for (size_t block = 0; block < source->shape.blocks; block++)
        AQ_TRY(check_block(state, &source->shape, block));
    return AQ_OK;
}

static void close_state(aq_source *source) {
    hdf5_state *state = source->state;
    forget_found(state);
    aq_h5_close(&state->file);
    free(state);
}

aq_status aq_model_file_open(const char *path, aq_source **source) {
    const aq_source like = {.kind = "aqlm-hdf5",
                            .find = find,
                            .read_coded = read_coded,
                            .read_file = read_file,
                            .close = close_state};
    return aq_source_new(&like, path, sizeof(hdf5_state), load, source);
}
