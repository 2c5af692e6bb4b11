#include "store/export_config.h"

#include "base/json.h"
#include "store/layout.h"

#include <stdlib.h>
#include <string.h>

/* ---- rotary settings ---- */

static const char *rope_name(aq_rope_kind kind) {
    static const char *const names[] = {
        [AQ_ROPE_DEFAULT] = "default", [AQ_ROPE_LINEAR] = "linear", [AQ_ROPE_LLAMA3] = "llama3"};
    return names[kind];
}

/* What rope_scaling and rope_parameters have in common. */
static json_t *rope_scaling(const aq_rope *rope) {
    json_t *scaling = json_pack("{s:s}", "rope_type", rope_name(rope->kind));
    if (rope->kind != AQ_ROPE_DEFAULT)
        json_object_set_new(scaling, "factor", json_real(rope->factor));
    if (rope->kind != AQ_ROPE_LLAMA3) return scaling;
    json_object_set_new(scaling, "low_freq_factor", json_real(rope->low_factor));
    json_object_set_new(scaling, "high_freq_factor", json_real(rope->high_factor));
    json_object_set_new(scaling, "original_max_position_embeddings",
                        json_integer((json_int_t)rope->original_length));
    return scaling;
}

static void set_rope(json_t *config, const aq_rope *rope) {
    json_t *parameters = rope_scaling(rope);
    json_object_set_new(parameters, "rope_theta", json_real(rope->theta));
    json_object_set_new(config, "rope_parameters", parameters);
    json_object_set_new(config, "rope_theta", json_real(rope->theta));
    json_object_set_new(config, "rope_scaling",
                        rope->kind == AQ_ROPE_DEFAULT ? json_null() : rope_scaling(rope));
}

/* ---- quantization ---- */

/* Both spellings: transformers 4 compares "lm_head.weight", transformers 5 "lm_head". */
static void add_weight(json_t *list, const char *weight) {
    const size_t suffix = strlen(".weight");
    json_array_append_new(list, json_stringn(weight, strlen(weight) - suffix));
    json_array_append_new(list, json_string(weight));
}

static json_t *dense_weights(const aq_model_shape *shape) {
    json_t *list = json_array();
    char name[AQ_NAME_SIZE];
    add_weight(list, AQ_EMBEDDING_NAME);
    for (size_t block = 0; block < shape->blocks; block++)
        for (int norm = 0; norm < AQ_NORM_COUNT; norm++) {
            aq_norm_name(block, (aq_norm_kind)norm, name);
            add_weight(list, name);
        }
    add_weight(list, AQ_FINAL_NORM_NAME);
    add_weight(list, AQ_HEAD_NAME);
    return list;
}

static json_t *quantization(const aq_model_shape *shape, const aq_scheme *scheme) {
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:o}", "quant_method", "aqlm", "nbits_per_codebook",
                     scheme->bits, "num_codebooks", scheme->codebooks, "out_group_size",
                     scheme->out_group, "in_group_size", scheme->in_group,
                     "linear_weights_not_to_quantize", dense_weights(shape));
}

/* ---- the whole ---- */

static aq_status edit(json_t *config, const aq_model_shape *shape, const aq_scheme *scheme,
                      char **text) {
    set_rope(config, &shape->rope);
    json_object_set_new(config, "dtype", json_string("float16"));
    json_object_set_new(config, "torch_dtype", json_string("float16"));
    json_object_set_new(config, "quantization_config", quantization(shape, scheme));
    bool complete = json_object_get(config, "quantization_config") != NULL;
    *text = complete ? json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    AQ_REQUIRE(*text, AQ_MEMORY, "no memory for config.json");
    return AQ_OK;
}

aq_status aq_export_config(aq_source *source, const aq_scheme *scheme, char **text) {
    char *original;
    size_t size;
    json_t *config = NULL;
    AQ_TRY(source->read_file(source, "config.json", &original, &size));
    aq_status status = aq_json_load(original, size, &config);
    if (status == AQ_OK) status = edit(config, &source->shape, scheme, text);
    json_decref(config);
    free(original);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s: config.json", source->path);
}
