/* aqlm-mpi info: what a checkpoint holds, as a table or as JSON. */
#include "jobs.h"
#include "store/checkpoint_info.h"

#include <math.h>
#include <stdio.h>

typedef struct info_options {
    const char *path;
    bool json;
} info_options;

static const struct argp_option option_list[] = {
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    info_options *options = state->input;
    switch (key) {
    case 'j':
        options->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (options->path) return ARGP_ERR_UNKNOWN;
        options->path = argument;
        return 0;
    case ARGP_KEY_END:
        return options->path ? 0 : (error_t)AQ_FAIL(AQ_INVALID, "expected FILE_OR_DIR");
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp command_line = {
    .options = option_list,
    .parser = parse_option,
    .args_doc = "FILE_OR_DIR",
    .doc = "Shows what FILE_OR_DIR holds: a dense Hugging Face folder, a model.aqlm.h5, or an "
           "exported AQLM folder.",
};

/* ---- JSON ---- */

static json_t *json_layer(const aq_layer_info *layer) {
    return json_pack("{s:s, s:o, s:f, s:I}", "name", layer->name, "error",
                     aq_job_number(layer->error), "bits_per_weight", layer->bits, "bytes",
                     (json_int_t)layer->bytes);
}

static json_t *json_block(const aq_block_info *block, size_t index) {
    json_t *layers = json_array();
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++)
        json_array_append_new(layers, json_layer(&block->layers[linear]));
    return json_pack("{s:I, s:o, s:f, s:I, s:o}", "index", (json_int_t)index, "error",
                     aq_job_number(block->error), "bits_per_weight", block->bits, "bytes",
                     (json_int_t)block->bytes, "layers", layers);
}

static json_t *json_architecture(const aq_model_shape *shape) {
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "model_type",
                     shape->model_type, "blocks", (json_int_t)shape->blocks, "hidden",
                     (json_int_t)shape->hidden, "ffn", (json_int_t)shape->ffn, "heads",
                     (json_int_t)shape->heads, "kv_heads", (json_int_t)shape->kv_heads, "head_dim",
                     (json_int_t)shape->head_dim, "vocab", (json_int_t)shape->vocab,
                     "tied_embeddings", (int)shape->tied_embeddings);
}

static json_t *json_scheme(const aq_checkpoint_info *info) {
    if (!info->coded) return json_null();
    return json_sprintf("%dx%d", info->scheme.codebooks, info->scheme.bits);
}

/* A member of the report, new, or null. */
static json_t *reported(const aq_checkpoint_info *info, const char *key) {
    json_t *value = json_object_get(info->report, key);
    return value ? json_incref(value) : json_null();
}

static json_t *json_info(const aq_checkpoint_info *info) {
    json_t *blocks = json_array();
    for (size_t index = 0; index < info->shape.blocks; index++)
        json_array_append_new(blocks, json_block(&info->blocks[index], index));
    json_t *group = info->coded ? json_integer(info->scheme.in_group) : json_null();
    json_t *out_group = info->coded ? json_integer(info->scheme.out_group) : json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:o}", "kind", info->kind,
                     "architecture", json_architecture(&info->shape), "scheme", json_scheme(info),
                     "group", group, "out_group", out_group, "bits_per_weight", info->bits,
                     "program", reported(info, "program"), "settings", reported(info, "settings"),
                     "blocks", blocks);
}

/* ---- table ---- */

static const char *error_text(double error, char text[static 32]) {
    if (isfinite(error))
        snprintf(text, 32, "%.5f", error);
    else
        snprintf(text, 32, "-");
    return text;
}

static void print_head(const aq_checkpoint_info *info) {
    const aq_model_shape *shape = &info->shape;
    printf("%s, %s: %zu blocks, hidden %zu, ffn %zu, %zu heads (%zu for keys) of %zu, "
           "vocabulary %zu%s\n",
           info->kind, shape->model_type, shape->blocks, shape->hidden, shape->ffn, shape->heads,
           shape->kv_heads, shape->head_dim, shape->vocab,
           shape->tied_embeddings ? ", tied embeddings" : "");
    if (info->coded)
        printf("scheme %dx%d, groups of %d x %d\n", info->scheme.codebooks, info->scheme.bits,
               info->scheme.out_group, info->scheme.in_group);
    printf("%.4f bits per weight\n\n", info->bits);
}

static void print_block(const aq_block_info *block, size_t index) {
    char error[32];
    printf("block %-38zu %9s %9.4f %12zu\n", index, error_text(block->error, error), block->bits,
           block->bytes);
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++) {
        const aq_layer_info *layer = &block->layers[linear];
        printf("  %-42s %9s %9.4f %12zu\n", layer->name, error_text(layer->error, error),
               layer->bits, layer->bytes);
    }
}

static void print_table(const aq_checkpoint_info *info) {
    print_head(info);
    printf("%-44s %9s %9s %12s\n", "", "error", "bits", "bytes");
    for (size_t index = 0; index < info->shape.blocks; index++)
        print_block(&info->blocks[index], index);
    if (!info->report) return;
    printf("\nmade by ");
    aq_job_print_json(reported(info, "program"), 0);
    aq_job_print_json(reported(info, "settings"), JSON_INDENT(2));
}

int aq_job_info(int argc, char **argv) {
    info_options options = {0};
    aq_checkpoint_info info;
    aq_status status = aq_job_parse(&command_line, argc, argv, &options);
    if (status == AQ_OK) status = aq_checkpoint_info_read(options.path, &info);
    if (status != AQ_OK) return aq_job_fail();
    if (options.json)
        aq_job_print_json(json_info(&info), JSON_COMPACT);
    else
        print_table(&info);
    aq_checkpoint_info_free(&info);
    return 0;
}
