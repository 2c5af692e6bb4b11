#include "model/shape.h"

#include "base/json.h"
#include "model/rope.h"

#include <stdio.h>
#include <string.h>

/* Far above every model that exists, and so low that no product of two of them overflows. */
enum {
    MOST_BLOCKS = 10000,
    MOST_HIDDEN = 1 << 20,
    MOST_FFN = 1 << 22,
    MOST_HEADS = 1 << 12,
    MOST_HEAD_DIM = 1 << 12,
    MOST_VOCAB = 1 << 24,
    MOST_LENGTH = 1 << 28
};

static aq_status parse_type(const json_t *config, aq_model_shape *shape) {
    static const char *const known[] = {"llama", "mistral", "qwen2"};
    const char *type;
    AQ_TRY(aq_json_text(config, "model_type", &type));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(type, known[i]) == 0) {
            snprintf(shape->model_type, sizeof shape->model_type, "%s", type);
            return AQ_OK;
        }
    return AQ_FAIL(AQ_UNSUPPORTED, "model_type %s: expected llama, mistral or qwen2", type);
}

static bool is_type(const aq_model_shape *shape, const char *type) {
    return strcmp(shape->model_type, type) == 0;
}

static aq_status parse_heads(const json_t *config, aq_model_shape *shape) {
    AQ_TRY(aq_json_size(config, "num_attention_heads", MOST_HEADS, &shape->heads));
    AQ_TRY(
        aq_json_size_or(config, "num_key_value_heads", MOST_HEADS, shape->heads, &shape->kv_heads));
    AQ_REQUIRE(shape->heads % shape->kv_heads == 0, AQ_FORMAT,
               "num_key_value_heads %zu does not divide num_attention_heads %zu", shape->kv_heads,
               shape->heads);
    if (!aq_json_get(config, "head_dim"))
        AQ_REQUIRE(shape->hidden % shape->heads == 0, AQ_FORMAT,
                   "num_attention_heads %zu does not divide hidden_size %zu (and there is no "
                   "head_dim)",
                   shape->heads, shape->hidden);
    AQ_TRY(aq_json_size_or(config, "head_dim", MOST_HEAD_DIM, shape->hidden / shape->heads,
                           &shape->head_dim));
    AQ_REQUIRE(shape->head_dim % 2 == 0 && shape->head_dim <= MOST_HEAD_DIM, AQ_FORMAT,
               "head_dim %zu: expected an even number up to %d", shape->head_dim, MOST_HEAD_DIM);
    return AQ_OK;
}

static aq_status parse_sizes(const json_t *config, aq_model_shape *shape) {
    double epsilon;
    AQ_TRY(aq_json_size(config, "hidden_size", MOST_HIDDEN, &shape->hidden));
    AQ_TRY(aq_json_size(config, "intermediate_size", MOST_FFN, &shape->ffn));
    AQ_TRY(aq_json_size(config, "num_hidden_layers", MOST_BLOCKS, &shape->blocks));
    AQ_TRY(aq_json_size(config, "vocab_size", MOST_VOCAB, &shape->vocab));
    AQ_TRY(aq_json_size(config, "max_position_embeddings", MOST_LENGTH, &shape->max_length));
    AQ_TRY(aq_json_positive_or(config, "rms_norm_eps", 1e-6, &epsilon));
    AQ_REQUIRE(epsilon < 1, AQ_FORMAT, "rms_norm_eps: expected a number below 1, found %g",
               epsilon);
    shape->norm_epsilon = (float)epsilon;
    AQ_TRY(aq_json_flag_or(config, "tie_word_embeddings", false, &shape->tied_embeddings));
    return parse_heads(config, shape);
}

static aq_status check_activation(const json_t *config) {
    const char *activation;
    AQ_TRY(aq_json_text_or(config, "hidden_act", "silu", &activation));
    AQ_REQUIRE(strcmp(activation, "silu") == 0, AQ_UNSUPPORTED, "hidden_act %s: expected silu",
               activation);
    return AQ_OK;
}

/* A window as long as the sequences hides nothing, so it only bounds their length. */
static aq_status parse_window(const json_t *config, aq_model_shape *shape) {
    bool uses_window;
    size_t window;
    AQ_TRY(aq_json_flag_or(config, "use_sliding_window", false, &uses_window));
    AQ_REQUIRE(!uses_window, AQ_UNSUPPORTED,
               "use_sliding_window true: expected false (full attention)");
    if (!is_type(shape, "mistral")) return AQ_OK;
    AQ_TRY(aq_json_size_or(config, "sliding_window", MOST_LENGTH, shape->max_length, &window));
    if (window < shape->max_length) shape->max_length = window;
    return AQ_OK;
}

static aq_status list_linears(const json_t *config, aq_model_shape *shape) {
    size_t queries = shape->heads * shape->head_dim, keys = shape->kv_heads * shape->head_dim;
    size_t hidden = shape->hidden, ffn = shape->ffn;
    bool qkv = is_type(shape, "qwen2"), out = false, mlp = false;
    if (is_type(shape, "llama")) {
        AQ_TRY(aq_json_flag_or(config, "attention_bias", false, &out));
        AQ_TRY(aq_json_flag_or(config, "mlp_bias", false, &mlp));
        qkv = out;
    }
    const aq_linear_shape linears[AQ_LINEAR_COUNT] = {
        [AQ_LINEAR_Q] = {"self_attn.q_proj", queries, hidden, qkv, AQ_TAP_ATTENTION_IN},
        [AQ_LINEAR_K] = {"self_attn.k_proj", keys, hidden, qkv, AQ_TAP_ATTENTION_IN},
        [AQ_LINEAR_V] = {"self_attn.v_proj", keys, hidden, qkv, AQ_TAP_ATTENTION_IN},
        [AQ_LINEAR_O] = {"self_attn.o_proj", hidden, queries, out, AQ_TAP_ATTENTION_OUT},
        [AQ_LINEAR_GATE] = {"mlp.gate_proj", ffn, hidden, mlp, AQ_TAP_MLP_IN},
        [AQ_LINEAR_UP] = {"mlp.up_proj", ffn, hidden, mlp, AQ_TAP_MLP_IN},
        [AQ_LINEAR_DOWN] = {"mlp.down_proj", hidden, ffn, mlp, AQ_TAP_MLP_OUT}};
    memcpy(shape->linears, linears, sizeof linears);
    return AQ_OK;
}

static aq_status parse_config(const json_t *config, aq_model_shape *shape) {
    AQ_TRY(parse_type(config, shape));
    AQ_TRY(parse_sizes(config, shape));
    AQ_TRY(check_activation(config));
    AQ_TRY(parse_window(config, shape));
    AQ_TRY(aq_rope_parse(config, &shape->rope));
    return list_linears(config, shape);
}

aq_status aq_model_shape_parse(const char *text, size_t length, aq_model_shape *shape) {
    json_t *config;
    *shape = (aq_model_shape){0};
    AQ_TRY(aq_json_load(text, length, &config));
    aq_status status = parse_config(config, shape);
    json_decref(config);
    return status;
}

void aq_linear_name(const aq_model_shape *shape, size_t block, aq_linear_kind linear,
                    const char *suffix, char *name) {
    snprintf(name, AQ_NAME_SIZE, "model.layers.%zu.%s%s", block, shape->linears[linear].name,
             suffix);
}

void aq_norm_name(size_t block, aq_norm_kind norm, char *name) {
    static const char *const names[AQ_NORM_COUNT] = {
        [AQ_NORM_ATTENTION] = "input_layernorm", [AQ_NORM_MLP] = "post_attention_layernorm"};
    snprintf(name, AQ_NAME_SIZE, "model.layers.%zu.%s.weight", block, names[norm]);
}
