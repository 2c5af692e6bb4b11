/* An exported Hugging Face AQLM folder as a source: a folder whose coded weights are read too. */
#include "base/json.h"
#include "model/folder.h"
#include "store/coded_data.h"
#include "store/layout.h"
#include "store/model_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct folder_state {
    aq_source *folder; /* owned: files and tensors that are stored as such */
    aq_scheme scheme;
} folder_state;

static aq_status find(aq_source *source, const char *name, aq_stored *stored) {
    aq_source *folder = ((folder_state *)source->state)->folder;
    return folder->find(folder, name, stored);
}

static aq_status read_file(aq_source *source, const char *name, char **bytes, size_t *size) {
    aq_source *folder = ((folder_state *)source->state)->folder;
    return folder->read_file(folder, name, bytes, size);
}

static void close_state(aq_source *source) {
    folder_state *state = source->state;
    aq_source_close(state->folder);
    free(state);
}

/* ---- coded weights ---- */

static aq_status find_part(aq_source *source, const char *linear, const char *part,
                           const aq_safetensor **tensor) {
    char name[AQ_DATASET_NAME_SIZE];
    snprintf(name, sizeof name, "%s.%s", linear, part);
    return aq_shards_find(aq_folder_shards(((folder_state *)source->state)->folder), name, tensor);
}

static aq_status expect_part(aq_source *source, const aq_safetensor *tensor,
                             aq_safetensor_type type, aq_shape shape) {
    aq_shape stored = {.ndim = tensor->ndim};
    char found[AQ_SHAPE_TEXT_SIZE] = "of many dimensions", wanted[AQ_SHAPE_TEXT_SIZE];
    bool fits = tensor->ndim >= 1 && tensor->ndim <= AQ_MAX_DIMS;
    if (fits) {
        memcpy(stored.dims, tensor->dims, (size_t)tensor->ndim * sizeof *stored.dims);
        aq_shape_text(stored, found);
    }
    AQ_REQUIRE(fits && tensor->type == type && aq_shape_same(stored, shape), AQ_SHAPE,
               "%s: tensor %s is %s %s, expected %s %s", source->path, tensor->name,
               aq_safetensor_type_name(tensor->type), found, aq_safetensor_type_name(type),
               aq_shape_text(shape, wanted));
    return AQ_OK;
}

/* The three parts of a linear, with the types and shapes that `data` asks for. */
typedef struct coded_parts {
    const aq_safetensor *codes, *codebooks, *scales;
} coded_parts;

static aq_status find_parts(aq_source *source, const char *linear, const aq_coded_data *data,
                            coded_parts *parts) {
    AQ_TRY(find_part(source, linear, "codes", &parts->codes));
    AQ_TRY(find_part(source, linear, "codebooks", &parts->codebooks));
    AQ_TRY(find_part(source, linear, "scales", &parts->scales));
    aq_safetensor_type type =
        aq_code_dtype(&data->scheme) == AQ_U8 ? AQ_SAFETENSOR_I8 : AQ_SAFETENSOR_I16;
    AQ_TRY(expect_part(source, parts->codes, type, aq_coded_data_codes(data)));
    AQ_TRY(expect_part(source, parts->codebooks, AQ_SAFETENSOR_F16, aq_coded_data_codebooks(data)));
    return expect_part(source, parts->scales, AQ_SAFETENSOR_F16, AQ_DIMS(data->rows, 1, 1, 1));
}

static aq_status read_parts(aq_source *source, const char *linear, aq_coded_data *data) {
    coded_parts parts;
    AQ_TRY(find_parts(source, linear, data, &parts));
    memcpy(data->codebooks, parts.codebooks->bytes, parts.codebooks->size);
    memcpy(data->scales, parts.scales->bytes, parts.scales->size);
    aq_coded_data_unpack(data, true, parts.codes->bytes);
    aq_status status = aq_coded_data_check(data, linear);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s", source->path);
}

static aq_status read_coded(aq_source *source, const char *linear, aq_backend *backend,
                            aq_coded *coded) {
    const aq_linear_shape *shape = aq_layout_find_linear(&source->shape, linear);
    AQ_REQUIRE(shape, AQ_MISSING, "%s: no linear %s", source->path, linear);
    aq_coded_data data;
    AQ_TRY(
        aq_coded_data_new(&((folder_state *)source->state)->scheme, shape->out, shape->in, &data));
    aq_status status = read_parts(source, linear, &data);
    if (status == AQ_OK) status = aq_coded_data_upload(&data, backend, coded);
    aq_coded_data_free(&data);
    return status;
}

/* ---- opening ---- */

static aq_status read_number(const json_t *config, const char *key, size_t limit, size_t fallback,
                             int *value) {
    size_t number;
    AQ_TRY(aq_json_size_or(config, key, limit, fallback, &number));
    *value = (int)number;
    return AQ_OK;
}

/* The defaults are those of transformers' AqlmConfig. */
static aq_status parse_scheme(const json_t *root, aq_scheme *scheme) {
    const json_t *config;
    const char *method;
    AQ_TRY(aq_json_object(root, "quantization_config", &config));
    AQ_TRY(aq_json_text(config, "quant_method", &method));
    AQ_REQUIRE(strcmp(method, "aqlm") == 0, AQ_UNSUPPORTED,
               "quantization_config: quant_method is %.40s, expected aqlm", method);
    AQ_TRY(read_number(config, "num_codebooks", AQ_MAX_CODEBOOKS, 1, &scheme->codebooks));
    AQ_TRY(read_number(config, "nbits_per_codebook", AQ_MAX_BITS, 16, &scheme->bits));
    AQ_TRY(read_number(config, "in_group_size", AQ_MAX_GROUP, 8, &scheme->in_group));
    return read_number(config, "out_group_size", AQ_MAX_GROUP, 1, &scheme->out_group);
}

static aq_status read_scheme(aq_source *source, aq_scheme *scheme) {
    char *text;
    size_t size;
    json_t *root = NULL;
    AQ_TRY(read_file(source, "config.json", &text, &size));
    aq_status status = aq_json_load(text, size, &root);
    if (status == AQ_OK) status = parse_scheme(root, scheme);
    json_decref(root);
    free(text);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s/config.json", source->path);
}

static aq_status check_linear(aq_source *source, size_t block, aq_linear_kind kind) {
    const aq_linear_shape *shape = &source->shape.linears[kind];
    char name[AQ_NAME_SIZE];
    coded_parts parts;
    aq_linear_name(&source->shape, block, kind, "", name);
    aq_status status = aq_scheme_check(source->scheme, shape->out, shape->in);
    if (status != AQ_OK) return aq_error_at(AQ_FORMAT, "%s: %s", source->path, name);
    const aq_coded_data expected = aq_coded_data_outline(source->scheme, shape->out, shape->in);
    return find_parts(source, name, &expected, &parts);
}

static aq_status check_tensors(aq_source *source) {
    const aq_model_shape *shape = &source->shape;
    const aq_shape table = AQ_DIMS(shape->vocab, shape->hidden);
    char name[AQ_NAME_SIZE];
    size_t length;
    AQ_TRY(aq_source_check(source, AQ_EMBEDDING_NAME, table));
    AQ_TRY(aq_source_check(source, AQ_FINAL_NORM_NAME, AQ_DIMS(shape->hidden)));
    AQ_TRY(aq_source_check(source, AQ_HEAD_NAME, table));
    for (size_t block = 0; block < shape->blocks; block++) {
        for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++)
            AQ_TRY(check_linear(source, block, (aq_linear_kind)linear));
        for (int vector = 0; vector < AQ_VECTOR_COUNT; vector++)
            if (aq_layout_vector(shape, block, vector, name, &length))
                AQ_TRY(aq_source_check(source, name, AQ_DIMS(length)));
    }
    return AQ_OK;
}

static aq_status load(aq_source *source) {
    folder_state *state = source->state;
    AQ_TRY(aq_folder_open(source->path, source->kind, &state->folder));
    source->shape = state->folder->shape;
    AQ_TRY(read_scheme(source, &state->scheme));
    source->scheme = &state->scheme;
    return check_tensors(source);
}

aq_status aq_aqlm_folder_open(const char *folder, aq_source **source) {
    const aq_source like = {.kind = "aqlm-folder",
                            .find = find,
                            .read_coded = read_coded,
                            .read_file = read_file,
                            .close = close_state};
    return aq_source_new(&like, folder, sizeof(folder_state), load, source);
}
