/* A Hugging Face folder of unquantized weights as a source. */
#include "base/json.h"
#include "model/folder.h"

#include <stdlib.h>

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

static aq_status check_config(aq_source *source) {
    char *text;
    size_t size;
    AQ_TRY(source->read_file(source, "config.json", &text, &size));
    aq_status status = refuse_quantized(text, size);
    free(text);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s/config.json", source->path);
}

aq_status aq_dense_source_open(const char *folder, aq_source **source) {
    AQ_TRY(aq_folder_open(folder, "dense", source));
    aq_status status = check_config(*source);
    if (status == AQ_OK) status = check_tensors(*source);
    if (status == AQ_OK) return AQ_OK;
    aq_source_close(*source);
    *source = NULL;
    return status;
}
