#include "base/json.h"
#include "coded_model.h"
#include "model/shards.h"
#include "store/export.h"
#include "store/h5.h"
#include "store/model_file.h"
#include "suite.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const aq_scheme small = {.codebooks = 1, .bits = 4, .in_group = 4, .out_group = 1};
static const aq_scheme tall = {.codebooks = 2, .bits = 3, .in_group = 8, .out_group = 2};
static const aq_scheme usual = {.codebooks = 2, .bits = 8, .in_group = 8, .out_group = 1};
static const aq_scheme wide = {.codebooks = 1, .bits = 9, .in_group = 8, .out_group = 1};

enum { ONE_FILE = 1 << 30 };

/* Gathers a model and exports it; the folder's path. */
static const char *exported(const char *dense, const aq_scheme *scheme, const char *name,
                            size_t shard_bytes, char folder[static AQ_TEST_PATH]) {
    char file[128], path[AQ_TEST_PATH];
    snprintf(file, sizeof file, "%s.h5", name);
    aq_test_gather(dense, scheme, file, path);
    AQ_CHECK(aq_export(path, aq_test_path(name, folder), shard_bytes));
    return folder;
}

static bool same_weights(aq_source *a, aq_source *b) {
    bool same = a->shape.blocks == b->shape.blocks;
    for (size_t i = 0; same && i < a->shape.blocks * AQ_LINEAR_COUNT; i++) {
        aq_linear_kind kind = (aq_linear_kind)(i % AQ_LINEAR_COUNT);
        aq_tensor left, right;
        AQ_CHECK(aq_source_linear(a, i / AQ_LINEAR_COUNT, kind, aq_test_backend(), &left));
        AQ_CHECK(aq_source_linear(b, i / AQ_LINEAR_COUNT, kind, aq_test_backend(), &right));
        void *first = aq_test_host(&left), *second = aq_test_host(&right);
        same = memcmp(first, second, aq_tensor_bytes(&left)) == 0;
        free(first);
        free(second);
        aq_tensor_free(&left);
        aq_tensor_free(&right);
    }
    return same;
}

static void check_same_model(const char *dense, const aq_scheme *scheme, const char *name) {
    char file[128], path[AQ_TEST_PATH], folder[AQ_TEST_PATH];
    aq_source *gathered, *source;
    snprintf(file, sizeof file, "%s.h5", name);
    exported(dense, scheme, name, ONE_FILE, folder);
    AQ_CHECK(aq_model_open(aq_test_path(file, path), &gathered));
    AQ_CHECK(aq_model_open(folder, &source));
    CU_ASSERT_STRING_EQUAL(source->kind, "aqlm-folder");
    CU_ASSERT_EQUAL(memcmp(source->scheme, scheme, sizeof *scheme), 0);
    CU_ASSERT(same_weights(gathered, source));
    aq_source_close(gathered);
    aq_source_close(source);
}

static void a_folder_holds_the_weights_of_the_file(void) {
    check_same_model(aq_test_biased_model(), &small, "plain");
    check_same_model(aq_test_biased_model(), &tall, "tall");
}

static void codes_of_8_and_9_bits_survive_the_sign(void) {
    check_same_model(aq_test_tied_model(), &usual, "eight");
    check_same_model(aq_test_tied_model(), &wide, "nine");
}

static void expect_tensor(const aq_shards *shards, const char *name, aq_safetensor_type type,
                          aq_shape shape) {
    const aq_safetensor *tensor;
    AQ_CHECK(aq_shards_find(shards, name, &tensor));
    CU_ASSERT_EQUAL(tensor->type, type);
    CU_ASSERT_EQUAL_FATAL(tensor->ndim, shape.ndim);
    for (int i = 0; i < shape.ndim; i++) CU_ASSERT_EQUAL(tensor->dims[i], shape.dims[i]);
}

static void tensors_have_the_names_shapes_and_types_of_the_format(void) {
    char folder[AQ_TEST_PATH];
    aq_shards *shards;
    exported(aq_test_biased_model(), &tall, "names", ONE_FILE, folder);
    AQ_CHECK(aq_shards_open(folder, &shards));
    expect_tensor(shards, "model.layers.1.mlp.down_proj.codes", AQ_SAFETENSOR_I8, AQ_DIMS(8, 3, 2));
    expect_tensor(shards, "model.layers.1.mlp.down_proj.codebooks", AQ_SAFETENSOR_F16,
                  AQ_DIMS(2, 8, 2, 8));
    expect_tensor(shards, "model.layers.1.mlp.down_proj.scales", AQ_SAFETENSOR_F16,
                  AQ_DIMS(8, 1, 1, 1));
    expect_tensor(shards, "model.layers.0.self_attn.q_proj.bias", AQ_SAFETENSOR_F16, AQ_DIMS(32));
    expect_tensor(shards, "model.layers.0.input_layernorm.weight", AQ_SAFETENSOR_F16, AQ_DIMS(16));
    expect_tensor(shards, "model.embed_tokens.weight", AQ_SAFETENSOR_F16, AQ_DIMS(29, 16));
    expect_tensor(shards, "lm_head.weight", AQ_SAFETENSOR_F16, AQ_DIMS(29, 16));
    const aq_safetensor *codes;
    AQ_CHECK(aq_shards_find(shards, "model.layers.0.mlp.up_proj.codes", &codes));
    for (size_t i = 0; i < codes->size; i++)
        CU_ASSERT((int8_t)codes->bytes[i] >= -4 && (int8_t)codes->bytes[i] < 4);
    aq_shards_close(shards);
}

static json_t *read_json(const char *folder, const char *name) {
    char path[AQ_TEST_PATH];
    size_t size;
    json_t *object;
    snprintf(path, sizeof path, "%.400s/%s", folder, name);
    char *text = aq_test_slurp(path, &size);
    AQ_CHECK(aq_json_load(text, size, &object));
    free(text);
    return object;
}

static bool lists(const json_t *array, const char *text) {
    size_t i;
    const json_t *value;
    json_array_foreach(array, i,
                       value) if (strcmp(json_string_value(value), text) == 0) return true;
    return false;
}

static void the_config_says_what_transformers_4_and_5_read(void) {
    char folder[AQ_TEST_PATH];
    json_t *config = read_json(exported(aq_test_biased_model(), &tall, "config", ONE_FILE, folder),
                               "config.json");
    const char *type, *torch_type, *method, *rope, *other_rope, *model_type;
    int bits, books, in_group, out_group;
    double theta, other_theta, factor, other_factor;
    const json_t *kept;
    CU_ASSERT_EQUAL(
        json_unpack(config,
                    "{s:s, s:s, s:s, s:{s:s, s:i, s:i, s:i, s:i, s:o}, s:f, s:{s:s, s:f},"
                    " s:{s:s, s:f, s:f}}",
                    "dtype", &type, "torch_dtype", &torch_type, "model_type", &model_type,
                    "quantization_config", "quant_method", &method, "nbits_per_codebook", &bits,
                    "num_codebooks", &books, "in_group_size", &in_group, "out_group_size",
                    &out_group, "linear_weights_not_to_quantize", &kept, "rope_theta", &theta,
                    "rope_scaling", "rope_type", &rope, "factor", &factor, "rope_parameters",
                    "rope_type", &other_rope, "rope_theta", &other_theta, "factor", &other_factor),
        0);
    CU_ASSERT_STRING_EQUAL(type, "float16");
    CU_ASSERT_STRING_EQUAL(torch_type, "float16");
    CU_ASSERT_STRING_EQUAL(method, "aqlm");
    CU_ASSERT(bits == 3 && books == 2 && in_group == 8 && out_group == 2);
    CU_ASSERT(strcmp(rope, "llama3") == 0 && strcmp(other_rope, "llama3") == 0);
    CU_ASSERT(theta == 100 && other_theta == 100 && factor == 4 && other_factor == 4);
    CU_ASSERT(lists(kept, "lm_head") && lists(kept, "lm_head.weight"));
    CU_ASSERT(lists(kept, "model.embed_tokens") && lists(kept, "model.norm.weight"));
    CU_ASSERT(lists(kept, "model.layers.1.post_attention_layernorm.weight"));
    CU_ASSERT_FALSE(lists(kept, "model.layers.1.mlp.up_proj"));
    json_decref(config);
}

static void a_tied_head_is_listed_and_not_stored(void) {
    char folder[AQ_TEST_PATH];
    aq_shards *shards;
    const aq_safetensor *tensor;
    exported(aq_test_tied_model(), &usual, "tied", ONE_FILE, folder);
    json_t *config = read_json(folder, "config.json");
    const json_t *quantization = json_object_get(config, "quantization_config");
    CU_ASSERT(lists(json_object_get(quantization, "linear_weights_not_to_quantize"), "lm_head"));
    AQ_CHECK(aq_shards_open(folder, &shards));
    AQ_CHECK_FAILS(aq_shards_find(shards, "lm_head.weight", &tensor), AQ_MISSING, "lm_head");
    aq_shards_close(shards);
    json_decref(config);
}

static void shards_are_cut_at_the_size_and_indexed(void) {
    enum { SHARD = 3000 };
    char folder[AQ_TEST_PATH], path[AQ_TEST_PATH];
    exported(aq_test_biased_model(), &small, "shards", SHARD, folder);
    json_t *index = read_json(folder, "model.safetensors.index.json");
    const char *name;
    json_t *value;
    long long total = 0;
    json_object_foreach(json_object_get(index, "weight_map"), name, value) {
        struct stat facts;
        snprintf(path, sizeof path, "%.300s/%.100s", folder, json_string_value(value));
        CU_ASSERT_EQUAL(stat(path, &facts), 0);
        aq_safetensors file;
        AQ_CHECK(aq_safetensors_open(path, &file));
        size_t bytes = 0;
        for (size_t i = 0; i < file.count; i++) bytes += file.tensors[i].size;
        const aq_safetensor *tensor = aq_safetensors_find(&file, name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(tensor);
        CU_ASSERT(bytes <= SHARD);
        total += (long long)tensor->size;
        aq_safetensors_close(&file);
    }
    CU_ASSERT_EQUAL(
        json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")),
        total);
    CU_ASSERT(json_object_size(json_object_get(index, "weight_map")) > 50);
    json_decref(index);
}

static int entries(const char *folder) {
    int count = -2;
    DIR *listing = opendir(folder);
    while (readdir(listing)) count++;
    closedir(listing);
    return count;
}

static void a_folder_that_is_not_empty_is_refused_and_kept(void) {
    char model[AQ_TEST_PATH], folder[AQ_TEST_PATH], file[AQ_TEST_PATH + 8];
    aq_test_gather(aq_test_biased_model(), &small, "kept.h5", model);
    mkdir(aq_test_path("kept", folder), 0777);
    snprintf(file, sizeof file, "%s/mine", folder);
    fclose(fopen(file, "w"));
    AQ_CHECK_FAILS(aq_export(model, folder, ONE_FILE), AQ_INVALID, "the folder is not empty");
    CU_ASSERT_EQUAL(entries(folder), 1);
    AQ_CHECK_FAILS(aq_export(model, file, ONE_FILE), AQ_INVALID, "Not a directory");
    unlink(file);
    AQ_CHECK(aq_export(model, folder, ONE_FILE));
    CU_ASSERT(entries(folder) >= 3);
}

static void a_failed_export_leaves_nothing(void) {
    char model[AQ_TEST_PATH], folder[AQ_TEST_PATH];
    aq_test_gather(aq_test_biased_model(), &small, "failed.h5", model);
    hid_t file = H5Fopen(model, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t dataset = H5Dopen2(file, "tensors/lm_head.weight", H5P_DEFAULT);
    float head[29 * 16] = {0};
    head[17] = 1e6f;
    CU_ASSERT_FATAL(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, head) >= 0);
    H5Dclose(dataset);
    H5Fclose(file);
    aq_test_forget_digest(model);
    int before = entries(aq_test_folder());
    AQ_CHECK_FAILS(aq_export(model, aq_test_path("failed", folder), ONE_FILE), AQ_NUMERIC,
                   "lm_head.weight: value 1e+06 at position 17 does not fit float16");
    CU_ASSERT_EQUAL(entries(aq_test_folder()), before);
    AQ_CHECK_FAILS(aq_export(model, "/none/folder", ONE_FILE), AQ_IO, "/none/folder");
    AQ_CHECK_FAILS(aq_export("/none/model.h5", folder, ONE_FILE), AQ_MISSING, "/none/model.h5");
    CU_ASSERT_EQUAL(entries(aq_test_folder()), before);
}

/* Changes the quantization_config of an exported folder and expects a refusal. */
static void check_config(const char *folder, const char *key, json_t *value, aq_status code,
                         const char *text) {
    char path[AQ_TEST_PATH];
    json_t *config = read_json(folder, "config.json"), *changed = json_deep_copy(config);
    json_object_set_new(json_object_get(changed, "quantization_config"), key, value);
    snprintf(path, sizeof path, "%.400s/config.json", folder);
    json_dump_file(changed, path, 0);
    aq_source *source;
    AQ_CHECK_FAILS(aq_model_open(folder, &source), code, text);
    json_dump_file(config, path, 0);
    json_decref(config);
    json_decref(changed);
}

static void a_folder_whose_config_disagrees_is_refused(void) {
    char folder[AQ_TEST_PATH];
    aq_source *source;
    exported(aq_test_biased_model(), &small, "wrong", ONE_FILE, folder);
    check_config(folder, "quant_method", json_string("gptq"), AQ_UNSUPPORTED, "gptq");
    check_config(folder, "num_codebooks", json_integer(2), AQ_SHAPE, "codes is I8 [32, 4, 1]");
    check_config(folder, "num_codebooks", json_integer(17), AQ_FORMAT, "num_codebooks");
    check_config(folder, "in_group_size", json_integer(5), AQ_FORMAT, "does not divide");
    check_config(folder, "nbits_per_codebook", json_integer(16), AQ_FORMAT, "65536 entries");
    AQ_CHECK(aq_model_open(folder, &source));
    aq_source_close(source);
}

static void a_signed_code_out_of_range_is_refused(void) {
    char folder[AQ_TEST_PATH], path[AQ_TEST_PATH];
    aq_shards *shards;
    const aq_safetensor *codes;
    size_t size;
    exported(aq_test_biased_model(), &small, "signed", ONE_FILE, folder);
    AQ_CHECK(aq_shards_open(folder, &shards));
    AQ_CHECK(aq_shards_find(shards, "model.layers.0.self_attn.q_proj.codes", &codes));
    snprintf(path, sizeof path, "%.400s/model.safetensors", folder);
    char *bytes = aq_test_slurp(path, &size);
    char *found = memmem(bytes, size, codes->bytes, codes->size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(found);
    aq_shards_close(shards);
    found[5] = 8;
    FILE *file = fopen(path, "wb");
    fwrite(bytes, 1, size, file);
    fclose(file);
    free(bytes);
    aq_source *source;
    aq_tensor weight;
    AQ_CHECK(aq_model_open(folder, &source));
    AQ_CHECK_FAILS(aq_source_linear(source, 0, AQ_LINEAR_Q, aq_test_backend(), &weight), AQ_FORMAT,
                   "q_proj.codes: code 65535 at position 5 is not below 16");
    aq_source_close(source);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"a_folder_holds_the_weights_of_the_file", a_folder_holds_the_weights_of_the_file},
        {"codes_of_8_and_9_bits_survive_the_sign", codes_of_8_and_9_bits_survive_the_sign},
        {"tensors_have_the_names_shapes_and_types_of_the_format",
         tensors_have_the_names_shapes_and_types_of_the_format},
        {"the_config_says_what_transformers_4_and_5_read",
         the_config_says_what_transformers_4_and_5_read},
        {"a_tied_head_is_listed_and_not_stored", a_tied_head_is_listed_and_not_stored},
        {"shards_are_cut_at_the_size_and_indexed", shards_are_cut_at_the_size_and_indexed},
        {"a_folder_that_is_not_empty_is_refused_and_kept",
         a_folder_that_is_not_empty_is_refused_and_kept},
        {"a_failed_export_leaves_nothing", a_failed_export_leaves_nothing},
        {"a_folder_whose_config_disagrees_is_refused", a_folder_whose_config_disagrees_is_refused},
        {"a_signed_code_out_of_range_is_refused", a_signed_code_out_of_range_is_refused},
    };
    return aq_test_backend_main("export", cases, sizeof cases / sizeof *cases, argc, argv);
}
