#include "coded_model.h"
#include "store/h5.h"
#include "store/model_file.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const aq_scheme small = {.codebooks = 1, .bits = 4, .in_group = 4, .out_group = 1};
static const aq_scheme tall = {.codebooks = 2, .bits = 3, .in_group = 8, .out_group = 2};
static const aq_scheme usual = {.codebooks = 2, .bits = 8, .in_group = 8, .out_group = 1};

static const char *gathered(const aq_scheme *scheme, const char *name,
                            char path[static AQ_TEST_PATH]) {
    return aq_test_gather(aq_test_biased_model(), scheme, name, path);
}

/* Every linear decoded from the file equals the block that went in, decoded. */
static void expect_same_weights(aq_source *source, const aq_scheme *scheme) {
    for (size_t index = 0; index < source->shape.blocks; index++) {
        aq_coded_block block = aq_test_random_block(&source->shape, index, scheme);
        for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
            const aq_linear_shape *linear = &source->shape.linears[l];
            aq_tensor expected, found;
            AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(linear->out, linear->in),
                                   &expected));
            AQ_CHECK(aq_decode(&block.linears[l], &expected));
            AQ_CHECK(aq_source_linear(source, index, (aq_linear_kind)l, aq_test_backend(), &found));
            float *left = aq_test_host(&expected), *right = aq_test_host(&found);
            CU_ASSERT_EQUAL(memcmp(left, right, aq_tensor_bytes(&expected)), 0);
            free(left);
            free(right);
            aq_tensor_free(&expected);
            aq_tensor_free(&found);
        }
        aq_coded_block_free(&block);
    }
}

static void decoded_weights_are_those_that_went_in(void) {
    char path[AQ_TEST_PATH];
    aq_source *source;
    AQ_CHECK(aq_model_open(gathered(&tall, "decoded.h5", path), &source));
    CU_ASSERT_STRING_EQUAL(source->kind, "aqlm-hdf5");
    CU_ASSERT(source->scheme->codebooks == 2 && source->scheme->out_group == 2);
    expect_same_weights(source, &tall);
    aq_source_close(source);
}

static void expect_same_stored(aq_source *a, aq_source *b, const char *name) {
    aq_stored left, right;
    AQ_CHECK(a->find(a, name, &left));
    AQ_CHECK(b->find(b, name, &right));
    CU_ASSERT_EQUAL(left.dtype, right.dtype);
    CU_ASSERT(aq_shape_same(left.shape, right.shape));
    CU_ASSERT_EQUAL_FATAL(left.size, right.size);
    CU_ASSERT_EQUAL(memcmp(left.bytes, right.bytes, left.size), 0);
}

static void check_untouched(const char *folder, const aq_scheme *scheme, aq_dtype dtype) {
    char path[AQ_TEST_PATH];
    aq_source *dense, *source;
    aq_stored stored;
    AQ_CHECK(aq_dense_source_open(folder, &dense));
    AQ_CHECK(aq_model_open(aq_test_gather(folder, scheme, "untouched.h5", path), &source));
    expect_same_stored(dense, source, AQ_EMBEDDING_NAME);
    expect_same_stored(dense, source, AQ_FINAL_NORM_NAME);
    expect_same_stored(dense, source, AQ_HEAD_NAME);
    AQ_CHECK(source->find(source, AQ_EMBEDDING_NAME, &stored));
    CU_ASSERT_EQUAL(stored.dtype, dtype);
    aq_source_close(dense);
    aq_source_close(source);
}

static void untouched_tensors_keep_their_bits_and_type(void) {
    check_untouched(aq_test_biased_model(), &small, AQ_F32);
}

static void a_tied_head_is_the_embedding_and_stored_once(void) {
    char path[AQ_TEST_PATH];
    aq_h5 file;
    check_untouched(aq_test_tied_model(), &usual, AQ_BF16);
    AQ_CHECK(aq_h5_open(aq_test_path("untouched.h5", path), &file));
    aq_dtype dtype;
    aq_shape shape;
    AQ_CHECK_FAILS(aq_h5_look(&file, "tensors/lm_head.weight", &dtype, &shape), AQ_MISSING,
                   "lm_head");
    aq_h5_close(&file);
}

static void tuned_norms_and_biases_are_float16(void) {
    char path[AQ_TEST_PATH];
    aq_source *source;
    aq_stored stored;
    AQ_CHECK(aq_model_open(gathered(&small, "tuned.h5", path), &source));
    AQ_CHECK(source->find(source, "model.layers.1.input_layernorm.weight", &stored));
    CU_ASSERT(stored.dtype == AQ_F16 && stored.size == 32);
    AQ_CHECK(source->find(source, "model.layers.1.self_attn.q_proj.bias", &stored));
    CU_ASSERT(stored.dtype == AQ_F16 && stored.size == 64);
    AQ_CHECK_FAILS(source->find(source, "model.layers.1.self_attn.q_proj.weight", &stored),
                   AQ_MISSING, "q_proj.weight");
    aq_source_close(source);
}

static void files_of_the_model_travel(void) {
    char path[AQ_TEST_PATH], original[AQ_TEST_PATH];
    size_t size, original_size;
    char *bytes;
    aq_source *source;
    aq_test_gather(aq_test_tied_model(), &usual, "files.h5", path);
    AQ_CHECK(aq_model_open(path, &source));
    const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                 "generation_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(original, sizeof original, "%.400s/%s", aq_test_tied_model(), names[i]);
        char *expected = aq_test_slurp(original, &original_size);
        AQ_CHECK(source->read_file(source, names[i], &bytes, &size));
        CU_ASSERT(size == original_size && memcmp(bytes, expected, size) == 0);
        free(bytes);
        free(expected);
    }
    AQ_CHECK_FAILS(source->read_file(source, "merges.txt", &bytes, &size), AQ_MISSING,
                   "merges.txt");
    AQ_CHECK_FAILS(source->read_file(source, "../tensors/x", &bytes, &size), AQ_MISSING, "x");
    aq_source_close(source);
}

static void equal_blocks_give_equal_bytes(void) {
    char first[AQ_TEST_PATH], second[AQ_TEST_PATH];
    size_t first_size, second_size;
    gathered(&small, "one.h5", first);
    sleep(1);
    gathered(&small, "other.h5", second);
    char *a = aq_test_slurp(first, &first_size), *b = aq_test_slurp(second, &second_size);
    CU_ASSERT_EQUAL_FATAL(first_size, second_size);
    CU_ASSERT_EQUAL(memcmp(a, b, first_size), 0);
    CU_ASSERT_PTR_NULL(memmem(a, first_size, "/tmp", 4));
    CU_ASSERT_PTR_NULL(memmem(a, first_size, AQ_TEST_FINGERPRINT, 16));
    free(a);
    free(b);
}

static void a_missing_or_foreign_block_stops_the_gathering(void) {
    char path[AQ_TEST_PATH], first[AQ_TEST_PATH], second[AQ_TEST_PATH];
    aq_source *source;
    gathered(&small, "source.h5", path);
    AQ_CHECK(aq_dense_source_open(aq_test_biased_model(), &source));
    const char *paths[2] = {aq_test_path("source.h5-0000.h5", first), "/none/block.h5"};
    aq_gather gather = {.block_paths = paths,
                        .source = source,
                        .scheme = small,
                        .settings = AQ_TEST_SETTINGS,
                        .fingerprint = AQ_TEST_FINGERPRINT,
                        .path = aq_test_path("never.h5", path)};
    AQ_CHECK_FAILS(aq_model_file_gather(&gather), AQ_MISSING, "/none/block.h5");
    paths[1] = first;
    AQ_CHECK_FAILS(aq_model_file_gather(&gather), AQ_FORMAT, "holds block 0, expected block 1");
    paths[1] = aq_test_path("source.h5-0001.h5", second);
    gather.settings = "not JSON";
    AQ_CHECK_FAILS(aq_model_file_gather(&gather), AQ_INVALID, "settings");
    gather.settings = AQ_TEST_SETTINGS;
    gather.fingerprint = "other";
    AQ_CHECK_FAILS(aq_model_file_gather(&gather), AQ_FORMAT, "made with other settings");
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    gather.fingerprint = AQ_TEST_FINGERPRINT;
    gather.path = "/none/model.h5";
    AQ_CHECK_FAILS(aq_model_file_gather(&gather), AQ_IO, "/none/model.h5");
    aq_source_close(source);
}

/* Removes or renames what stands under a name in the file. */
static void unlink_object(const char *path, const char *name) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    CU_ASSERT_FATAL(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    H5Fclose(file);
    aq_test_forget_digest(path);
}

static void check_without(const char *dataset) {
    char path[AQ_TEST_PATH];
    aq_source *source;
    unlink_object(gathered(&small, "without.h5", path), dataset);
    AQ_CHECK_FAILS(aq_model_open(path, &source), AQ_MISSING, dataset);
    CU_ASSERT_PTR_NULL(source);
}

static void what_is_missing_in_the_file_is_named_when_it_is_opened(void) {
    check_without("files/config.json");
    check_without("tensors/model.norm.weight");
    check_without("tensors/lm_head.weight");
    check_without("tensors/model.layers.1.mlp.down_proj/scales");
    check_without("tensors/model.layers.0.self_attn.k_proj.bias");
    check_without("tensors/model.layers.0.post_attention_layernorm.weight");
}

static void set_number(const char *path, const char *key, long value) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t attribute = H5Aopen(file, key, H5P_DEFAULT);
    CU_ASSERT_FATAL(H5Awrite(attribute, H5T_NATIVE_LONG, &value) >= 0);
    H5Aclose(attribute);
    H5Fclose(file);
    aq_test_forget_digest(path);
}

static void check_number(const char *key, long value, aq_status code, const char *text) {
    char path[AQ_TEST_PATH];
    aq_source *source;
    set_number(gathered(&small, "number.h5", path), key, value);
    AQ_CHECK_FAILS(aq_model_open(path, &source), code, text);
}

static void a_scheme_that_does_not_fit_is_refused(void) {
    check_number("version", 2, AQ_FORMAT, "attribute version is 2");
    check_number("nbits_per_codebook", 0, AQ_FORMAT, "nbits_per_codebook is 0, expected 1 to 16");
    check_number("nbits_per_codebook", 8, AQ_FORMAT, "codebook of 256 entries");
    check_number("num_codebooks", 1 << 30, AQ_FORMAT, "num_codebooks");
    check_number("in_group_size", 5, AQ_FORMAT, "5 does not divide");
    check_number("in_group_size", -4, AQ_FORMAT, "in_group_size is -4");
    check_number("in_group_size", 8, AQ_SHAPE, "codes");
    check_number("out_group_size", 2, AQ_SHAPE, "codes");
}

static void other_files_are_not_taken_for_models(void) {
    char path[AQ_TEST_PATH], block[AQ_TEST_PATH];
    aq_source *source;
    gathered(&small, "whole.h5", path);
    AQ_CHECK_FAILS(aq_model_open(aq_test_path("whole.h5-0000.h5", block), &source), AQ_FORMAT,
                   "'aqlm-mpi block', expected 'aqlm-mpi model'");
    AQ_CHECK_FAILS(aq_model_open("/none/model.h5", &source), AQ_MISSING, "/none/model.h5");
    snprintf(path, sizeof path, "%.400s/config.json", aq_test_biased_model());
    AQ_CHECK_FAILS(aq_model_open(path, &source), AQ_FORMAT, "not an HDF5 file");
    AQ_CHECK_FAILS(aq_model_open(aq_test_folder(), &source), AQ_MISSING, "config.json");
    AQ_CHECK(aq_model_open(aq_test_biased_model(), &source));
    CU_ASSERT_STRING_EQUAL(source->kind, "dense");
    CU_ASSERT_PTR_NULL(source->scheme);
    aq_source_close(source);
}

static void write_bytes(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    CU_ASSERT_EQUAL_FATAL(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static aq_status read_everything(const char *path) {
    aq_source *source;
    AQ_TRY(aq_model_open(path, &source));
    aq_status status = AQ_OK;
    for (size_t i = 0; status == AQ_OK && i < source->shape.blocks * AQ_LINEAR_COUNT; i++) {
        aq_tensor weight;
        status =
            aq_source_linear(source, i / AQ_LINEAR_COUNT, (aq_linear_kind)(i % AQ_LINEAR_COUNT),
                             aq_test_backend(), &weight);
        if (status == AQ_OK) aq_tensor_free(&weight);
    }
    aq_source_close(source);
    return status;
}

static void truncated_files_are_refused(void) {
    char path[AQ_TEST_PATH], cut[AQ_TEST_PATH];
    size_t size;
    char *bytes = aq_test_slurp(gathered(&small, "long.h5", path), &size);
    aq_test_path("short.h5", cut);
    for (uint64_t seed = 0; seed < 40; seed++) {
        write_bytes(cut, bytes, aq_random_below(aq_random(seed, AQ_STREAM_TEST, 0), size));
        CU_ASSERT_EQUAL(read_everything(cut), AQ_FORMAT);
    }
    free(bytes);
}

/* What HDF5's checksums do not cover either: attributes, padding. */
static void any_changed_byte_is_seen_where_the_digest_is(void) {
    char path[AQ_TEST_PATH];
    size_t size;
    char *bytes = aq_test_slurp(gathered(&small, "watched.h5", path), &size);
    aq_source *source;
    for (uint64_t seed = 0; seed < 40; seed++) {
        size_t at = aq_random_below(aq_random(seed, AQ_STREAM_TEST, 0), size);
        bytes[at] ^= 1;
        write_bytes(path, bytes, size);
        AQ_CHECK_FAILS(aq_model_open(path, &source), AQ_FORMAT, "watched.h5: damaged");
        bytes[at] ^= 1;
    }
    free(bytes);
}

/* A byte of padding may change without harm, so that reading may succeed, but it must end. */
static void changed_bytes_never_break_the_reader(void) {
    char path[AQ_TEST_PATH], changed[AQ_TEST_PATH];
    size_t size;
    char *bytes = aq_test_slurp(gathered(&small, "sound.h5", path), &size);
    int refused = 0;
    aq_test_path("changed.h5", changed);
    for (uint64_t seed = 0; seed < 60; seed++) {
        char *copy = malloc(size);
        memcpy(copy, bytes, size);
        for (uint64_t i = 0; i < 16; i++)
            copy[aq_random_below(aq_random(seed, AQ_STREAM_TEST, 2 * i), size)] =
                (char)aq_random(seed, AQ_STREAM_TEST, 2 * i + 1);
        write_bytes(changed, copy, size);
        refused += read_everything(changed) != AQ_OK;
        free(copy);
    }
    CU_ASSERT(refused > 0);
    free(bytes);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"decoded_weights_are_those_that_went_in", decoded_weights_are_those_that_went_in},
        {"untouched_tensors_keep_their_bits_and_type", untouched_tensors_keep_their_bits_and_type},
        {"a_tied_head_is_the_embedding_and_stored_once",
         a_tied_head_is_the_embedding_and_stored_once},
        AQ_CASE(any_changed_byte_is_seen_where_the_digest_is),
        {"tuned_norms_and_biases_are_float16", tuned_norms_and_biases_are_float16},
        {"files_of_the_model_travel", files_of_the_model_travel},
        {"equal_blocks_give_equal_bytes", equal_blocks_give_equal_bytes},
        {"a_missing_or_foreign_block_stops_the_gathering",
         a_missing_or_foreign_block_stops_the_gathering},
        {"what_is_missing_in_the_file_is_named_when_it_is_opened",
         what_is_missing_in_the_file_is_named_when_it_is_opened},
        {"a_scheme_that_does_not_fit_is_refused", a_scheme_that_does_not_fit_is_refused},
        {"truncated_files_are_refused", truncated_files_are_refused},
        {"changed_bytes_never_break_the_reader", changed_bytes_never_break_the_reader},
        {"other_files_are_not_taken_for_models", other_files_are_not_taken_for_models},
    };
    return aq_test_backend_main("model_file", cases, sizeof cases / sizeof *cases, argc, argv);
}
