/* A Hugging Face folder of unquantized weights as a source. */
#include "base/json.h"
#include "model/shards.h"
#include "model/source.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_CONFIG = 1000 * 1000, MOST_FILE = 256 * 1000 * 1000 };

typedef struct dense {
    aq_shards *shards;
    aq_stored last; /* what `find` gave out last; its pages are given back at the next call */
} dense;

static void forget_last(dense *state) {
    if (state->last.bytes) aq_file_forget(state->last.bytes, state->last.size);
    state->last = (aq_stored){0};
}

/* A tied head is the embedding, also where the file holds a copy. */
static const char *stored_name(const aq_source *source, const char *name) {
    bool tied_head = source->shape.tied_embeddings && strcmp(name, AQ_HEAD_NAME) == 0;
    return tied_head ? AQ_EMBEDDING_NAME : name;
}

static aq_status find(aq_source *source, const char *name, aq_stored *stored) {
    dense *state = source->state;
    const aq_safetensor *tensor;
    AQ_TRY(aq_shards_find(state->shards, stored_name(source, name), &tensor));
    aq_status status = aq_safetensor_weights(tensor, stored);
    if (status != AQ_OK) return aq_error_at(status, "%s", source->path);
    forget_last(state);
    state->last = *stored;
    return AQ_OK;
}

static aq_status read_file(aq_source *source, const char *name, char **bytes, size_t *size) {
    char *path;
    AQ_REQUIRE(!strchr(name, '/'), AQ_INVALID, "%s: expected a file's name without a folder", name);
    AQ_TRY(aq_file_join(source->path, name, &path));
    aq_status status = aq_file_read(path, MOST_FILE, bytes, size);
    free(path);
    return status;
}

static void close_dense(aq_source *source) {
    dense *state = source->state;
    if (!state) return;
    aq_shards_close(state->shards);
    free(state);
}

static aq_status check_linear(aq_source *source, size_t block, aq_linear_kind kind) {
    const aq_linear_shape *linear = &source->shape.linears[kind];
    char name[AQ_NAME_SIZE];
    aq_linear_name(&source->shape, block, kind, ".weight", name);
    AQ_TRY(aq_source_check(source, name, AQ_DIMS(linear->out, linear->in)));
    if (!linear->bias) return AQ_OK;
    aq_linear_name(&source->shape, block, kind, ".bias", name);
    return aq_source_check(source, name, AQ_DIMS(linear->out));
}

static aq_status check_block(aq_source *source, size_t block) {
    char name[AQ_NAME_SIZE];
    for (int norm = 0; norm < AQ_NORM_COUNT; norm++) {
        aq_norm_name(block, (aq_norm_kind)norm, name);
        AQ_TRY(aq_source_check(source, name, AQ_DIMS(source->shape.hidden)));
    }
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++)
        AQ_TRY(check_linear(source, block, (aq_linear_kind)linear));
    return AQ_OK;
}

static aq_status check_tensors(aq_source *source) {
    size_t vocab = source->shape.vocab, hidden = source->shape.hidden;
    AQ_TRY(aq_source_check(source, AQ_EMBEDDING_NAME, AQ_DIMS(vocab, hidden)));
    for (size_t block = 0; block < source->shape.blocks; block++)
        AQ_TRY(check_block(source, block));
    AQ_TRY(aq_source_check(source, AQ_FINAL_NORM_NAME, AQ_DIMS(hidden)));
    return aq_source_check(source, AQ_HEAD_NAME, AQ_DIMS(vocab, hidden));
}

static aq_status refuse_quantized(const char *text, size_t size) {
    json_t *config;
    AQ_TRY(aq_json_load(text, size, &config));
    const json_t *found = aq_json_get(config, "quantization_config");
    const char *method = json_string_value(json_object_get(found, "quant_method"));
    aq_status status = AQ_OK;
    if (found)
        status = AQ_FAIL(AQ_UNSUPPORTED,
                         "the model is quantized already (quantization_config, quant_method %s), "
                         "expected an unquantized one",
                         method ? method : "unknown");
    json_decref(config);
    return status;
}

static aq_status read_config(aq_source *source) {
    char *path, *text = NULL;
    size_t size;
    AQ_TRY(aq_file_join(source->path, "config.json", &path));
    aq_status status = aq_file_read(path, MOST_CONFIG, &text, &size);
    if (status == AQ_OK) {
        status = refuse_quantized(text, size);
        if (status == AQ_OK) status = aq_model_shape_parse(text, size, &source->shape);
        if (status != AQ_OK) aq_error_at(status, "%s", path);
    }
    free(text);
    free(path);
    return status;
}

static aq_status open_dense(aq_source *source, const char *folder) {
    dense *state = calloc(1, sizeof *state);
    source->state = state;
    source->path = strdup(folder);
    AQ_REQUIRE(state && source->path, AQ_MEMORY, "no memory for a model's table");
    AQ_TRY(read_config(source));
    AQ_TRY(aq_shards_open(folder, &state->shards));
    return check_tensors(source);
}

aq_status aq_dense_source_open(const char *folder, aq_source **source) {
    *source = calloc(1, sizeof **source);
    AQ_REQUIRE(*source, AQ_MEMORY, "no memory for a model's table");
    **source =
        (aq_source){.kind = "dense", .find = find, .read_file = read_file, .close = close_dense};
    aq_status status = open_dense(*source, folder);
    if (status == AQ_OK) return AQ_OK;
    aq_source_close(*source);
    *source = NULL;
    return status;
}
