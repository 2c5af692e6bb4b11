#include "base/file.h"
#include "base/half.h"
#include "model/shards.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG                                                                                     \
    "{\"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 12, "                  \
    "\"num_hidden_layers\": 2, \"vocab_size\": 10, \"max_position_embeddings\": 64, "              \
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1"

enum { HIDDEN = 8, VOCAB = 10, MOST_TENSORS = 32, MOST_TEXT = 16384 };

/* A tensor of the model that a case writes; columns 0: one dimension. */
typedef struct piece {
    char name[AQ_NAME_SIZE];
    size_t rows, columns;
    int shard;
} piece;

typedef struct model {
    const char *config, *dtype;
    piece pieces[MOST_TENSORS];
    int count;
} model;

static size_t count_of(const piece *tensor) {
    return tensor->rows * (tensor->columns ? tensor->columns : 1);
}

/* Exact in every dtype, and different from tensor to tensor. */
static float value_of(const piece *tensor, size_t index) {
    size_t salt = strlen(tensor->name) + tensor->rows;
    return (float)((index * 7 + salt * 3) % 64) / 8 - 4;
}

static void add_piece(model *written, const char *name, size_t rows, size_t columns) {
    piece *tensor = &written->pieces[written->count++];
    CU_ASSERT_TRUE_FATAL(written->count <= MOST_TENSORS);
    *tensor = (piece){.rows = rows, .columns = columns};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
}

/* Every tensor that the config asks for. */
static model model_of(const char *config, const char *dtype) {
    model written = {.config = config, .dtype = dtype};
    aq_model_shape shape;
    char name[AQ_NAME_SIZE];
    AQ_CHECK(aq_model_shape_parse(config, strlen(config), &shape));
    add_piece(&written, AQ_EMBEDDING_NAME, shape.vocab, shape.hidden);
    add_piece(&written, AQ_FINAL_NORM_NAME, shape.hidden, 0);
    if (!shape.tied_embeddings) add_piece(&written, AQ_HEAD_NAME, shape.vocab, shape.hidden);
    for (size_t block = 0; block < shape.blocks; block++) {
        for (int norm = 0; norm < AQ_NORM_COUNT; norm++) {
            aq_norm_name(block, (aq_norm_kind)norm, name);
            add_piece(&written, name, shape.hidden, 0);
        }
        for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++) {
            aq_linear_name(&shape, block, (aq_linear_kind)linear, ".weight", name);
            add_piece(&written, name, shape.linears[linear].out, shape.linears[linear].in);
            aq_linear_name(&shape, block, (aq_linear_kind)linear, ".bias", name);
            if (shape.linears[linear].bias) add_piece(&written, name, shape.linears[linear].out, 0);
        }
    }
    return written;
}

static piece *piece_of(model *written, const char *name) {
    for (int i = 0; i < written->count; i++)
        if (strcmp(written->pieces[i].name, name) == 0) return &written->pieces[i];
    CU_FAIL_FATAL("no such tensor");
    return NULL;
}

static void remove_piece(model *written, const char *name) {
    *piece_of(written, name) = written->pieces[--written->count];
}

static size_t store_value(const char *dtype, float value, char *target) {
    if (strcmp(dtype, "F32") == 0) {
        memcpy(target, &value, sizeof value);
        return sizeof value;
    }
    bool half = strcmp(dtype, "F16") == 0;
    uint16_t bits = half ? aq_half_from_float(value) : aq_bfloat_from_float(value);
    memcpy(target, &bits, sizeof bits);
    return sizeof bits;
}

static char *path_in(const char *folder, const char *name) {
    char *path;
    AQ_CHECK(aq_file_join(folder, name, &path));
    return path;
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t size) {
    char *path = path_in(folder, name);
    AQ_CHECK(aq_file_replace(path, bytes, size));
    free(path);
}

/* Writes the pieces of one shard; the header's length makes all of them unaligned. */
static void write_tensors(const model *written, const char *folder, const char *name, int shard) {
    static char header[MOST_TEXT], data[MOST_TEXT], file[2 * MOST_TEXT];
    size_t length = 8, used = 0;
    memcpy(header, "\0\0\0\0\0\0\0\0{", 10);
    for (int i = 0; i < written->count; i++) {
        const piece *tensor = &written->pieces[i];
        if (tensor->shard != shard) continue;
        size_t begin = used;
        for (size_t k = 0; k < count_of(tensor); k++)
            used += store_value(written->dtype, value_of(tensor, k), data + used);
        char columns[24] = "";
        if (tensor->columns) snprintf(columns, sizeof columns, ", %zu", tensor->columns);
        length += (size_t)snprintf(header + length, sizeof header - length,
                                   "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%zu%s], "
                                   "\"data_offsets\": [%zu, %zu]}",
                                   length == 8 ? "{" : ", ", tensor->name, written->dtype,
                                   tensor->rows, columns, begin, used);
    }
    length += (size_t)snprintf(header + length, sizeof header - length, length % 2 ? " }" : "}");
    for (int i = 0; i < 8; i++) header[i] = (char)((length - 8) >> (8 * i));
    memcpy(file, header, length);
    memcpy(file + length, data, used);
    write_file(folder, name, file, length + used);
}

static const char *new_folder(void) {
    static char folder[512];
    static int number;
    snprintf(folder, sizeof folder, "%s/model-%d", aq_test_folder(), number++);
    CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
    return folder;
}

static const char *write_single(const model *written) {
    const char *folder = new_folder();
    write_file(folder, "config.json", written->config, strlen(written->config));
    write_tensors(written, folder, "model.safetensors", 0);
    return folder;
}

/* Tensors dealt out to three shards in turn, whatever block they belong to. */
static const char *write_shards(model *written) {
    static const char *const names[] = {"part-a.safetensors", "part-b.safetensors",
                                        "part-c.safetensors"};
    static char index[MOST_TEXT];
    const char *folder = new_folder();
    size_t used = (size_t)snprintf(index, sizeof index, "{\"weight_map\": {");
    for (int i = 0; i < written->count; i++) {
        written->pieces[i].shard = i % 3;
        used += (size_t)snprintf(index + used, sizeof index - used, "%s\"%s\": \"%s\"",
                                 i ? ", " : "", written->pieces[i].name, names[i % 3]);
    }
    used += (size_t)snprintf(index + used, sizeof index - used, "}}");
    write_file(folder, "config.json", written->config, strlen(written->config));
    write_file(folder, "model.safetensors.index.json", index, used);
    for (int shard = 0; shard < 3; shard++) write_tensors(written, folder, names[shard], shard);
    return folder;
}

static aq_source *open_source(const char *folder) {
    aq_source *source = NULL;
    AQ_CHECK(aq_dense_source_open(folder, &source));
    CU_ASSERT_PTR_NOT_NULL_FATAL(source);
    return source;
}

static void check_refused(const char *folder, aq_status code, const char *part) {
    aq_source *source;
    AQ_CHECK_FAILS(aq_dense_source_open(folder, &source), code, part);
    CU_ASSERT_PTR_NULL(source);
}

static void check_values(const aq_tensor *tensor, const piece *expected) {
    float *values = aq_test_host(tensor);
    CU_ASSERT_EQUAL_FATAL(aq_tensor_count(tensor), count_of(expected));
    CU_ASSERT_TRUE(tensor->dtype == AQ_F32 && tensor->home == aq_test_backend());
    int different = 0;
    for (size_t i = 0; i < count_of(expected); i++) different += values[i] != value_of(expected, i);
    CU_ASSERT_EQUAL(different, 0);
    free(values);
}

static void check_every_tensor(const char *folder, const model *written) {
    aq_source *source = open_source(folder);
    CU_ASSERT_STRING_EQUAL(source->kind, "dense");
    for (int i = 0; i < written->count; i++) {
        const piece *expected = &written->pieces[i];
        aq_shape shape = expected->columns ? AQ_DIMS(expected->rows, expected->columns)
                                           : AQ_DIMS(expected->rows);
        aq_tensor tensor;
        AQ_CHECK(aq_source_tensor(source, expected->name, shape, aq_test_backend(), &tensor));
        check_values(&tensor, expected);
        aq_tensor_free(&tensor);
    }
    aq_source_close(source);
}

static void source_reads_every_dtype_exactly(void) {
    static const char *const dtypes[] = {"F32", "F16", "BF16"};
    for (int i = 0; i < 3; i++) {
        model written = model_of(CONFIG "}", dtypes[i]);
        check_every_tensor(write_single(&written), &written);
    }
}

static void source_reads_shards_and_biases(void) {
    model written = model_of(CONFIG ", \"attention_bias\": true, \"mlp_bias\": true}", "BF16");
    check_every_tensor(write_shards(&written), &written);
}

static void source_linear_is_the_blocks_weight(void) {
    model written = model_of(CONFIG "}", "BF16");
    aq_source *source = open_source(write_single(&written));
    aq_tensor weight;
    AQ_CHECK(aq_source_linear(source, 1, AQ_LINEAR_DOWN, aq_test_backend(), &weight));
    check_values(&weight, piece_of(&written, "model.layers.1.mlp.down_proj.weight"));
    aq_tensor_free(&weight);
    aq_source_close(source);
}

static void source_tied_head_is_the_embedding(void) {
    model written = model_of(CONFIG ", \"tie_word_embeddings\": true}", "BF16");
    aq_source *source = open_source(write_single(&written));
    aq_tensor head;
    AQ_CHECK(
        aq_source_tensor(source, AQ_HEAD_NAME, AQ_DIMS(VOCAB, HIDDEN), aq_test_backend(), &head));
    check_values(&head, piece_of(&written, AQ_EMBEDDING_NAME));
    aq_tensor_free(&head);
    aq_source_close(source);
}

static void source_embeds_tokens(void) {
    static const int32_t tokens[] = {9, 0, 9, 3};
    model written = model_of(CONFIG "}", "F16");
    const piece *table = piece_of(&written, AQ_EMBEDDING_NAME);
    aq_source *source = open_source(write_single(&written));
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(4, HIDDEN), &x));
    AQ_CHECK(aq_source_embed(source, tokens, 4, &x));
    float *values = aq_test_host(&x);
    for (size_t i = 0; i < 4 * HIDDEN; i++)
        CU_ASSERT_EQUAL(values[i],
                        value_of(table, (size_t)tokens[i / HIDDEN] * HIDDEN + i % HIDDEN));
    static const int32_t outside[] = {1, 10, 2, 3}, negative[] = {1, 2, 3, -1};
    AQ_CHECK_FAILS(aq_source_embed(source, outside, 4, &x), AQ_INVALID, "token 1 is 10");
    AQ_CHECK_FAILS(aq_source_embed(source, negative, 4, &x), AQ_INVALID, "token 3 is -1");
    AQ_CHECK_FAILS(aq_source_embed(source, tokens, 3, &x), AQ_SHAPE, "embedding of 3 tokens");
    free(values);
    aq_tensor_free(&x);
    aq_source_close(source);
}

static void source_reads_files_of_the_folder_alone(void) {
    model written = model_of(CONFIG "}", "F16");
    const char *folder = write_single(&written);
    aq_source *source = open_source(folder);
    char *bytes;
    size_t size;
    AQ_CHECK(source->read_file(source, "config.json", &bytes, &size));
    CU_ASSERT_STRING_EQUAL(bytes, CONFIG "}");
    free(bytes);
    AQ_CHECK_FAILS(source->read_file(source, "tokenizer.json", &bytes, &size), AQ_MISSING,
                   "tokenizer.json");
    AQ_CHECK_FAILS(source->read_file(source, "../config.json", &bytes, &size), AQ_INVALID,
                   "without a folder");
    aq_source_close(source);
}

/* Overwrites one value, whatever its place: the last one of the file. */
static void spoil_last_value(const char *folder, uint16_t bits) {
    char *path = path_in(folder, "model.safetensors");
    FILE *file = fopen(path, "r+b");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fseek(file, -2, SEEK_END), 0);
    CU_ASSERT_EQUAL(fwrite(&bits, 1, 2, file), 2);
    CU_ASSERT_EQUAL(fclose(file), 0);
    free(path);
}

static void source_nan_and_infinity_name_the_tensor(void) {
    static const uint16_t bad[] = {0x7fc0, 0x7f80, 0xff80}; /* NaN, both infinities */
    model written = model_of(CONFIG "}", "BF16");
    for (int i = 0; i < 3; i++) {
        const char *folder = write_single(&written);
        spoil_last_value(folder, bad[i]);
        aq_source *source = open_source(folder);
        aq_tensor weight;
        AQ_CHECK_FAILS(aq_source_linear(source, 1, AQ_LINEAR_DOWN, aq_test_backend(), &weight),
                       AQ_NUMERIC,
                       "tensor model.layers.1.mlp.down_proj.weight holds 1 values that are NaN or "
                       "infinite");
        CU_ASSERT_PTR_NULL(weight.data);
        aq_source_close(source);
    }
}

static void source_nan_in_an_embedding_is_found_when_its_row_is_used(void) {
    model written = model_of(CONFIG ", \"tie_word_embeddings\": true}", "BF16");
    remove_piece(&written, AQ_EMBEDDING_NAME);
    add_piece(&written, AQ_EMBEDDING_NAME, VOCAB, HIDDEN);
    const char *folder = write_single(&written);
    spoil_last_value(folder, 0x7fc0);
    aq_source *source = open_source(folder);
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(1, HIDDEN), &x));
    AQ_CHECK(aq_source_embed(source, (const int32_t[]){VOCAB - 2}, 1, &x));
    AQ_CHECK_FAILS(aq_source_embed(source, (const int32_t[]){VOCAB - 1}, 1, &x), AQ_NUMERIC,
                   AQ_EMBEDDING_NAME);
    aq_tensor_free(&x);
    aq_source_close(source);
}

static void source_missing_tensor_is_refused(void) {
    static const char *const names[] = {AQ_EMBEDDING_NAME,
                                        AQ_FINAL_NORM_NAME,
                                        AQ_HEAD_NAME,
                                        "model.layers.1.input_layernorm.weight",
                                        "model.layers.1.self_attn.k_proj.bias",
                                        "model.layers.0.mlp.gate_proj.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        model written = model_of(CONFIG ", \"attention_bias\": true}", "F16");
        remove_piece(&written, names[i]);
        check_refused(write_single(&written), AQ_MISSING, names[i]);
    }
}

static void source_shape_that_disagrees_with_the_config_is_refused(void) {
    model written = model_of(CONFIG "}", "F16");
    piece_of(&written, "model.layers.1.mlp.up_proj.weight")->columns = 7;
    check_refused(write_single(&written), AQ_SHAPE,
                  "tensor model.layers.1.mlp.up_proj.weight has shape [12, 7], config.json asks "
                  "for [12, 8]");
    written = model_of(CONFIG "}", "F16");
    piece_of(&written, AQ_FINAL_NORM_NAME)->columns = 1;
    check_refused(write_single(&written), AQ_SHAPE, "has shape [8, 1], config.json asks for [8]");
}

static void source_dtype_that_is_no_float_is_refused(void) {
    model written = model_of(CONFIG "}", "I16");
    check_refused(write_single(&written), AQ_SHAPE,
                  "tensor model.embed_tokens.weight: dtype I16, expected F32, F16 or BF16");
}

static void source_quantized_config_is_refused(void) {
    model written =
        model_of(CONFIG ", \"quantization_config\": {\"quant_method\": \"aqlm\"}}", "F16");
    check_refused(write_single(&written), AQ_UNSUPPORTED,
                  "config.json: the model is quantized already (quantization_config, quant_method "
                  "aqlm)");
}

static void source_missing_files_are_refused(void) {
    check_refused("/nowhere/at-all", AQ_MISSING, "/nowhere/at-all/config.json: cannot open");
    const char *folder = new_folder();
    write_file(folder, "config.json", CONFIG "}", strlen(CONFIG "}"));
    check_refused(folder, AQ_MISSING, "neither model.safetensors nor model.safetensors.index.json");
    write_file(folder, "config.json", "{\"model_type\": \"gpt2\"}", 22);
    check_refused(folder, AQ_UNSUPPORTED, "config.json: model_type gpt2");
}

static void source_missing_shard_is_refused(void) {
    model written = model_of(CONFIG "}", "F16");
    const char *folder = write_shards(&written);
    char *path = path_in(folder, "part-b.safetensors");
    CU_ASSERT_EQUAL(unlink(path), 0);
    check_refused(folder, AQ_MISSING, "part-b.safetensors: cannot open: No such file");
    free(path);
}

static void check_index_refused(const char *index, aq_status code, const char *part) {
    model written = model_of(CONFIG "}", "F16");
    const char *folder = write_shards(&written);
    write_file(folder, "model.safetensors.index.json", index, strlen(index));
    check_refused(folder, code, part);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), folder));
}

static void source_bad_index_is_refused(void) {
    check_index_refused("{\"weight_map\": {\"model.norm.bias\": \"part-a.safetensors\"}}",
                        AQ_MISSING,
                        "shard part-a.safetensors has no tensor model.norm.bias, which the index "
                        "lists");
    check_index_refused("{\"weight_map\": {\"a\": \"../model-0/model.safetensors\"}}", AQ_FORMAT,
                        "expected a file of the same folder");
    check_index_refused("{\"weight_map\": {\"a\": \"..\"}}", AQ_FORMAT, "same folder");
    check_index_refused("{\"weight_map\": {\"a\": \"\"}}", AQ_FORMAT, "same folder");
    check_index_refused("{\"weight_map\": {\"a\": 1}}", AQ_FORMAT, "the name of a shard");
    check_index_refused("{\"weight_map\": []}", AQ_FORMAT, "weight_map: expected an object");
    check_index_refused("{}", AQ_MISSING, "weight_map");
    check_index_refused("{", AQ_FORMAT, "not valid JSON");
    check_index_refused("{\"weight_map\": {}}", AQ_MISSING, AQ_EMBEDDING_NAME);
}

static void source_reads_the_tiny_example(void) {
    char *folder = path_in(aq_test_examples(), "tiny-llama");
    aq_source *source = open_source(folder);
    aq_tensor weight;
    double square;
    AQ_CHECK(aq_source_linear(source, 3, AQ_LINEAR_Q, aq_test_backend(), &weight));
    AQ_CHECK(aq_dot(&weight, &weight, &square));
    CU_ASSERT_TRUE(isfinite(square) && square > 1);
    aq_tensor_free(&weight);
    aq_source_close(source);
    free(folder);
}

#define CASE(name)                                                                                 \
    { #name, name }

int main(int argc, char **argv) {
    static const aq_case cases[] = {CASE(source_reads_every_dtype_exactly),
                                    CASE(source_reads_shards_and_biases),
                                    CASE(source_linear_is_the_blocks_weight),
                                    CASE(source_tied_head_is_the_embedding),
                                    CASE(source_embeds_tokens),
                                    CASE(source_reads_files_of_the_folder_alone),
                                    CASE(source_nan_and_infinity_name_the_tensor),
                                    CASE(source_nan_in_an_embedding_is_found_when_its_row_is_used),
                                    CASE(source_missing_tensor_is_refused),
                                    CASE(source_shape_that_disagrees_with_the_config_is_refused),
                                    CASE(source_dtype_that_is_no_float_is_refused),
                                    CASE(source_quantized_config_is_refused),
                                    CASE(source_missing_files_are_refused),
                                    CASE(source_missing_shard_is_refused),
                                    CASE(source_bad_index_is_refused),
                                    CASE(source_reads_the_tiny_example)};
    return aq_test_backend_main("source", cases, sizeof cases / sizeof *cases, argc, argv);
}
