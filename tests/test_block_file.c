#include "coded_model.h"
#include "store/block_file.h"
#include "store/h5.h"
#include "suite.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const aq_scheme small = {.codebooks = 1, .bits = 4, .in_group = 4, .out_group = 1};
static const aq_scheme tall = {.codebooks = 2, .bits = 3, .in_group = 8, .out_group = 2};
static const aq_scheme wide = {.codebooks = 1, .bits = 9, .in_group = 8, .out_group = 1};

static aq_model_shape shape_of(const char *folder) {
    aq_source *source;
    AQ_CHECK(aq_dense_source_open(folder, &source));
    aq_model_shape shape = source->shape;
    aq_source_close(source);
    return shape;
}

static bool same_bits(const aq_tensor *a, const aq_tensor *b) {
    if (!a->data || !b->data) return a->data == b->data;
    size_t bytes = aq_tensor_bytes(a);
    if (bytes != aq_tensor_bytes(b) || a->dtype != b->dtype || a->ndim != b->ndim) return false;
    void *left = aq_test_host(a), *right = aq_test_host(b);
    bool same = memcmp(left, right, bytes) == 0;
    free(left);
    free(right);
    return same;
}

static void expect_same_block(const aq_coded_block *a, const aq_coded_block *b) {
    CU_ASSERT(a->error == b->error && a->fitted_error == b->fitted_error);
    for (int n = 0; n < AQ_NORM_COUNT; n++) CU_ASSERT(same_bits(&a->norms[n], &b->norms[n]));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        CU_ASSERT(same_bits(&a->linears[l].codes, &b->linears[l].codes));
        CU_ASSERT(same_bits(&a->linears[l].codebooks, &b->linears[l].codebooks));
        CU_ASSERT(same_bits(&a->linears[l].scales, &b->linears[l].scales));
        CU_ASSERT(same_bits(&a->biases[l], &b->biases[l]));
        CU_ASSERT(a->layer_errors[l] == b->layer_errors[l]);
    }
}

static void check_round_trip(const char *folder, const aq_scheme *scheme) {
    char path[AQ_TEST_PATH];
    aq_model_shape shape = shape_of(folder);
    aq_coded_block written = aq_test_random_block(&shape, 1, scheme), read;
    AQ_CHECK(aq_block_file_write(aq_test_path("trip.h5", path), &written, AQ_TEST_ORIGIN));
    AQ_CHECK(
        aq_block_file_read(path, &shape, 1, scheme, AQ_TEST_FINGERPRINT, aq_test_backend(), &read));
    expect_same_block(&written, &read);
    aq_coded_block_free(&written);
    aq_coded_block_free(&read);
}

static void a_block_comes_back_bit_for_bit(void) {
    check_round_trip(aq_test_biased_model(), &small);
}

static void groups_of_rows_come_back(void) {
    check_round_trip(aq_test_biased_model(), &tall);
}

static void codes_of_more_than_a_byte_come_back(void) {
    check_round_trip(aq_test_tied_model(), &wide);
}

/* A written block file of the biased model under `name`. */
static const char *write_sample(const aq_model_shape *shape, const char *name,
                                char path[static AQ_TEST_PATH]) {
    aq_coded_block block = aq_test_random_block(shape, 1, &small);
    AQ_CHECK(aq_block_file_write(aq_test_path(name, path), &block, AQ_TEST_ORIGIN));
    aq_coded_block_free(&block);
    return path;
}

static void a_file_of_another_block_scheme_or_run_is_refused(void) {
    char path[AQ_TEST_PATH];
    aq_model_shape shape = shape_of(aq_test_biased_model());
    aq_backend *backend = aq_test_backend();
    aq_coded_block block;
    write_sample(&shape, "sample.h5", path);
    AQ_CHECK_FAILS(
        aq_block_file_read(path, &shape, 0, &small, AQ_TEST_FINGERPRINT, backend, &block),
        AQ_FORMAT, "sample.h5: holds block 1, expected block 0");
    AQ_CHECK_FAILS(aq_block_file_read(path, &shape, 1, &tall, AQ_TEST_FINGERPRINT, backend, &block),
                   AQ_SHAPE, "expected 2x3");
    AQ_CHECK_FAILS(aq_block_file_read(path, &shape, 1, &small, "fedc", backend, &block), AQ_FORMAT,
                   "made with other settings");
    aq_model_shape wider = shape;
    wider.hidden = 32;
    AQ_CHECK_FAILS(
        aq_block_file_read(path, &wider, 1, &small, AQ_TEST_FINGERPRINT, backend, &block), AQ_SHAPE,
        "dataset tensors/model.layers.1.input_layernorm.weight is F16 [16], expected F16 [32]");
    wider = shape;
    wider.linears[AQ_LINEAR_Q].in = 32;
    AQ_CHECK_FAILS(
        aq_block_file_read(path, &wider, 1, &small, AQ_TEST_FINGERPRINT, backend, &block), AQ_SHAPE,
        "self_attn.q_proj/codes is U8 [32, 4, 1], expected U8 [32, 8, 1]");
    AQ_CHECK_FAILS(
        aq_block_file_read("/none.h5", &shape, 1, &small, AQ_TEST_FINGERPRINT, backend, &block),
        AQ_MISSING, "/none.h5");
}

/* Overwrites the first bytes of a dataset of the file. */
static void damage(const char *path, const char *dataset, hid_t type, const void *element) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t id = H5Dopen2(file, dataset, H5P_DEFAULT), space = H5Dget_space(id);
    const hsize_t start[4] = {0}, count[4] = {1, 1, 1, 1}, one = 1;
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    hid_t memory = H5Screate_simple(1, &one, NULL);
    CU_ASSERT_FATAL(H5Dwrite(id, type, memory, space, H5P_DEFAULT, element) >= 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(id);
    H5Fclose(file);
    aq_test_forget_digest(path);
}

static void a_code_past_the_codebook_is_refused(void) {
    char path[AQ_TEST_PATH];
    aq_model_shape shape = shape_of(aq_test_biased_model());
    aq_coded_block block;
    const uint8_t code = 16;
    write_sample(&shape, "code.h5", path);
    damage(path, "tensors/model.layers.1.mlp.up_proj/codes", H5T_STD_U8LE, &code);
    AQ_CHECK_FAILS(
        aq_block_file_read(path, &shape, 1, &small, AQ_TEST_FINGERPRINT, aq_test_backend(), &block),
        AQ_FORMAT,
        "code.h5: model.layers.1.mlp.up_proj.codes: code 16 at position 0 is not below "
        "16");
}

static void a_value_that_is_not_finite_is_refused_when_read(void) {
    char path[AQ_TEST_PATH];
    aq_model_shape shape = shape_of(aq_test_biased_model());
    aq_coded_block block;
    const float nan = NAN;
    write_sample(&shape, "nan.h5", path);
    damage(path, "tensors/model.layers.1.mlp.up_proj/scales", H5T_IEEE_F32LE, &nan);
    AQ_CHECK_FAILS(
        aq_block_file_read(path, &shape, 1, &small, AQ_TEST_FINGERPRINT, aq_test_backend(), &block),
        AQ_NUMERIC, "model.layers.1.mlp.up_proj.scales: NaN or infinity at position 0");
}

static void a_damaged_file_is_refused_by_its_digest(void) {
    char path[AQ_TEST_PATH];
    aq_model_shape shape = shape_of(aq_test_biased_model());
    aq_coded_block block;
    write_sample(&shape, "flipped.h5", path);
    aq_test_flip(path, -1);
    AQ_CHECK_FAILS(
        aq_block_file_read(path, &shape, 1, &small, AQ_TEST_FINGERPRINT, aq_test_backend(), &block),
        AQ_FORMAT, "flipped.h5: damaged: its SHA-256");
}

static int entries_in_folder(void) {
    int count = 0;
    DIR *folder = opendir(aq_test_folder());
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

static void a_value_past_float16_is_an_error_and_leaves_no_file(void) {
    char path[AQ_TEST_PATH];
    aq_model_shape shape = shape_of(aq_test_biased_model());
    aq_coded_block block = aq_test_random_block(&shape, 1, &small);
    const float large = 70000;
    aq_test_poke(&block.linears[AQ_LINEAR_UP].codebooks, 3, &large);
    int before = entries_in_folder();
    AQ_CHECK_FAILS(aq_block_file_write(aq_test_path("large.h5", path), &block, AQ_TEST_ORIGIN),
                   AQ_NUMERIC, "model.layers.1.mlp.up_proj.codebooks: value 70000 at position 3");
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    CU_ASSERT_EQUAL(entries_in_folder(), before);
    aq_coded_block_free(&block);
}

static void a_failed_write_keeps_the_older_file(void) {
    char path[AQ_TEST_PATH];
    size_t size_before, size_after;
    aq_model_shape shape = shape_of(aq_test_biased_model());
    char *before = aq_test_slurp(write_sample(&shape, "kept.h5", path), &size_before);
    aq_coded_block block = aq_test_random_block(&shape, 1, &small);
    const float large = 70000;
    aq_test_poke(&block.norms[AQ_NORM_MLP], 0, &large);
    AQ_CHECK_FAILS(aq_block_file_write(path, &block, AQ_TEST_ORIGIN), AQ_NUMERIC,
                   "post_attention_layernorm.weight");
    char *after = aq_test_slurp(path, &size_after);
    CU_ASSERT(size_before == size_after && memcmp(before, after, size_before) == 0);
    AQ_CHECK_FAILS(aq_block_file_write("/none/block.h5", &block, AQ_TEST_ORIGIN), AQ_IO,
                   "/none/block.h5: cannot be created: No such file or directory");
    free(before);
    free(after);
    aq_coded_block_free(&block);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"a_block_comes_back_bit_for_bit", a_block_comes_back_bit_for_bit},
        {"groups_of_rows_come_back", groups_of_rows_come_back},
        {"codes_of_more_than_a_byte_come_back", codes_of_more_than_a_byte_come_back},
        {"a_file_of_another_block_scheme_or_run_is_refused",
         a_file_of_another_block_scheme_or_run_is_refused},
        {"a_code_past_the_codebook_is_refused", a_code_past_the_codebook_is_refused},
        {"a_value_that_is_not_finite_is_refused_when_read",
         a_value_that_is_not_finite_is_refused_when_read},
        {"a_damaged_file_is_refused_by_its_digest", a_damaged_file_is_refused_by_its_digest},
        {"a_value_past_float16_is_an_error_and_leaves_no_file",
         a_value_past_float16_is_an_error_and_leaves_no_file},
        {"a_failed_write_keeps_the_older_file", a_failed_write_keeps_the_older_file},
    };
    return aq_test_backend_main("block_file", cases, sizeof cases / sizeof *cases, argc, argv);
}
