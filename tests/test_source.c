#include "model/source.h"

#include "base/file.h"
#include "checkpoint.h"
#include "model/block.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG                                                                                     \
    "{\"model_type\": \"llama\", \"hidden_size\": 8, \"intermediate_size\": 12, "                  \
    "\"num_hidden_layers\": 2, \"vocab_size\": 10, \"max_position_embeddings\": 64, "              \
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1"

enum { HIDDEN = 8, VOCAB = 10 };

static char *path_in(const char *folder, const char *name) {
    char *path;
    AQ_CHECK(aq_file_join(folder, name, &path));
    return path;
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

static void check_values(const aq_tensor *tensor, const aq_test_tensor_spec *expected) {
    float *values = aq_test_host(tensor);
    CU_ASSERT_EQUAL_FATAL(aq_tensor_count(tensor), aq_test_piece_count(expected));
    CU_ASSERT_TRUE(tensor->dtype == AQ_F32 && tensor->home == aq_test_backend());
    int different = 0;
    for (size_t i = 0; i < aq_test_piece_count(expected); i++)
        different += values[i] != aq_test_piece_value(expected, i);
    CU_ASSERT_EQUAL(different, 0);
    free(values);
}

static void check_every_tensor(const char *folder, const aq_test_checkpoint *written) {
    aq_source *source = open_source(folder);
    CU_ASSERT_STRING_EQUAL(source->kind, "dense");
    for (int i = 0; i < written->count; i++) {
        const aq_test_tensor_spec *expected = &written->pieces[i];
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
        aq_test_checkpoint written = aq_test_model(CONFIG "}", dtypes[i]);
        check_every_tensor(aq_test_write_single(&written), &written);
    }
}

static void source_reads_shards_and_biases(void) {
    aq_test_checkpoint written =
        aq_test_model(CONFIG ", \"attention_bias\": true, \"mlp_bias\": true}", "BF16");
    check_every_tensor(aq_test_write_shards(&written), &written);
}

static void source_linear_is_the_blocks_weight(void) {
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "BF16");
    aq_source *source = open_source(aq_test_write_single(&written));
    aq_tensor weight;
    AQ_CHECK(aq_source_linear(source, 1, AQ_LINEAR_DOWN, aq_test_backend(), &weight));
    check_values(&weight, aq_test_piece_find(&written, "model.layers.1.mlp.down_proj.weight"));
    aq_tensor_free(&weight);
    aq_source_close(source);
}

static void source_tied_head_is_the_embedding(void) {
    aq_test_checkpoint written = aq_test_model(CONFIG ", \"tie_word_embeddings\": true}", "BF16");
    aq_source *source = open_source(aq_test_write_single(&written));
    aq_tensor head;
    AQ_CHECK(
        aq_source_tensor(source, AQ_HEAD_NAME, AQ_DIMS(VOCAB, HIDDEN), aq_test_backend(), &head));
    check_values(&head, aq_test_piece_find(&written, AQ_EMBEDDING_NAME));
    aq_tensor_free(&head);
    aq_source_close(source);
}

static void source_embeds_tokens(void) {
    static const int32_t tokens[] = {9, 0, 9, 3};
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "F16");
    const aq_test_tensor_spec *table = aq_test_piece_find(&written, AQ_EMBEDDING_NAME);
    aq_source *source = open_source(aq_test_write_single(&written));
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(4, HIDDEN), &x));
    AQ_CHECK(aq_source_embed(source, tokens, 4, &x));
    float *values = aq_test_host(&x);
    for (size_t i = 0; i < 4 * HIDDEN; i++)
        CU_ASSERT_EQUAL(values[i], aq_test_piece_value(table, (size_t)tokens[i / HIDDEN] * HIDDEN +
                                                                  i % HIDDEN));
    static const int32_t outside[] = {1, 10, 2, 3}, negative[] = {1, 2, 3, -1};
    AQ_CHECK_FAILS(aq_source_embed(source, outside, 4, &x), AQ_INVALID, "token 1 is 10");
    AQ_CHECK_FAILS(aq_source_embed(source, negative, 4, &x), AQ_INVALID, "token 3 is -1");
    AQ_CHECK_FAILS(aq_source_embed(source, tokens, 3, &x), AQ_SHAPE, "embedding of 3 tokens");
    free(values);
    aq_tensor_free(&x);
    aq_source_close(source);
}

static void source_reads_files_of_the_folder_alone(void) {
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "F16");
    const char *folder = aq_test_write_single(&written);
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
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "BF16");
    for (int i = 0; i < 3; i++) {
        const char *folder = aq_test_write_single(&written);
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
    aq_test_checkpoint written = aq_test_model(CONFIG ", \"tie_word_embeddings\": true}", "BF16");
    aq_test_piece_remove(&written, AQ_EMBEDDING_NAME);
    aq_test_piece_add(&written, AQ_EMBEDDING_NAME, VOCAB, HIDDEN);
    const char *folder = aq_test_write_single(&written);
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
        aq_test_checkpoint written = aq_test_model(CONFIG ", \"attention_bias\": true}", "F16");
        aq_test_piece_remove(&written, names[i]);
        check_refused(aq_test_write_single(&written), AQ_MISSING, names[i]);
    }
}

static void source_shape_that_disagrees_with_the_config_is_refused(void) {
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "F16");
    aq_test_piece_find(&written, "model.layers.1.mlp.up_proj.weight")->columns = 7;
    check_refused(aq_test_write_single(&written), AQ_SHAPE,
                  "tensor model.layers.1.mlp.up_proj.weight has shape [12, 7], config.json asks "
                  "for [12, 8]");
    written = aq_test_model(CONFIG "}", "F16");
    aq_test_piece_find(&written, AQ_FINAL_NORM_NAME)->columns = 1;
    check_refused(aq_test_write_single(&written), AQ_SHAPE,
                  "has shape [8, 1], config.json asks for [8]");
}

static void source_dtype_that_is_no_float_is_refused(void) {
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "I16");
    check_refused(aq_test_write_single(&written), AQ_SHAPE,
                  "tensor model.embed_tokens.weight: dtype I16, expected F32, F16 or BF16");
}

static void source_quantized_config_is_refused(void) {
    aq_test_checkpoint written =
        aq_test_model(CONFIG ", \"quantization_config\": {\"quant_method\": \"aqlm\"}}", "F16");
    check_refused(aq_test_write_single(&written), AQ_UNSUPPORTED,
                  "config.json: the model is quantized already (quantization_config, quant_method "
                  "aqlm)");
}

static void source_missing_files_are_refused(void) {
    check_refused("/nowhere/at-all", AQ_MISSING, "/nowhere/at-all/config.json: cannot open");
    const char *folder = aq_test_model_folder();
    aq_test_write_file(folder, "config.json", CONFIG "}", strlen(CONFIG "}"));
    check_refused(folder, AQ_MISSING, "neither model.safetensors nor model.safetensors.index.json");
    aq_test_write_file(folder, "config.json", "{\"model_type\": \"gpt2\"}", 22);
    check_refused(folder, AQ_UNSUPPORTED, "config.json: model_type gpt2");
}

static void source_missing_shard_is_refused(void) {
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "F16");
    const char *folder = aq_test_write_shards(&written);
    char *path = path_in(folder, "part-b.safetensors");
    CU_ASSERT_EQUAL(unlink(path), 0);
    check_refused(folder, AQ_MISSING, "part-b.safetensors: cannot open: No such file");
    free(path);
}

static void check_index_refused(const char *index, aq_status code, const char *part) {
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "F16");
    const char *folder = aq_test_write_shards(&written);
    aq_test_write_file(folder, "model.safetensors.index.json", index, strlen(index));
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

static void source_blocks_take_no_longer_sequences_than_the_model(void) {
    aq_test_checkpoint written = aq_test_model(CONFIG "}", "BF16");
    aq_source *source = open_source(aq_test_write_single(&written));
    aq_block block;
    AQ_CHECK(aq_block_load(source, 1, 64, AQ_PRECISE, aq_test_backend(), &block));
    aq_block_free(&block);
    AQ_CHECK_FAILS(aq_block_load(source, 1, 65, AQ_PRECISE, aq_test_backend(), &block), AQ_INVALID,
                   "sequences of 65 tokens, the model takes at most 64");
    aq_source_close(source);
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

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(source_reads_every_dtype_exactly),
        AQ_CASE(source_reads_shards_and_biases),
        AQ_CASE(source_linear_is_the_blocks_weight),
        AQ_CASE(source_tied_head_is_the_embedding),
        AQ_CASE(source_embeds_tokens),
        AQ_CASE(source_reads_files_of_the_folder_alone),
        AQ_CASE(source_nan_and_infinity_name_the_tensor),
        AQ_CASE(source_nan_in_an_embedding_is_found_when_its_row_is_used),
        AQ_CASE(source_missing_tensor_is_refused),
        AQ_CASE(source_shape_that_disagrees_with_the_config_is_refused),
        AQ_CASE(source_dtype_that_is_no_float_is_refused),
        AQ_CASE(source_quantized_config_is_refused),
        AQ_CASE(source_missing_files_are_refused),
        AQ_CASE(source_missing_shard_is_refused),
        AQ_CASE(source_bad_index_is_refused),
        AQ_CASE(source_blocks_take_no_longer_sequences_than_the_model),
        AQ_CASE(source_reads_the_tiny_example)};
    return aq_test_backend_main("source", cases, sizeof cases / sizeof *cases, argc, argv);
}
