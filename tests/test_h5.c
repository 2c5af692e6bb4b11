#include "base/file.h"
#include "coded_model.h"
#include "store/h5.h"
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* A committed file with one dataset of each kind of interest. */
static const char *write_sample(const char *name, char path[static AQ_TEST_PATH]) {
    const uint16_t halves[6] = {0, 0x3c00, 0x8001, 0x7bff, 0x0400, 0xbc00};
    const float floats[3] = {1.0f, -2.5f, 1e-30f};
    aq_h5 file;
    AQ_CHECK(aq_h5_create(aq_test_path(name, path), &file));
    AQ_CHECK(aq_h5_write(&file, "tensors/a.b/codebooks", AQ_F16, AQ_DIMS(2, 3), halves));
    AQ_CHECK(aq_h5_write(&file, "tensors/bf", AQ_BF16, AQ_DIMS(6), halves));
    AQ_CHECK(aq_h5_write(&file, "tensors/u16", AQ_U16, AQ_DIMS(6), halves));
    AQ_CHECK(aq_h5_write(&file, "floats", AQ_F32, AQ_DIMS(3), floats));
    AQ_CHECK(aq_h5_write_text(&file, "/", "settings", "{\"a\": 1}"));
    AQ_CHECK(aq_h5_write_long(&file, "/", "index", 7));
    AQ_CHECK(aq_h5_write_double(&file, "tensors/a.b", "error", 0.1));
    AQ_CHECK(aq_h5_commit(&file));
    return path;
}

static void what_is_written_is_read_back(void) {
    char path[AQ_TEST_PATH];
    aq_h5 file;
    AQ_CHECK(aq_h5_open(write_sample("sample.h5", path), &file));
    uint16_t halves[6];
    AQ_CHECK(aq_h5_read(&file, "tensors/a.b/codebooks", AQ_F16, AQ_DIMS(2, 3), halves));
    CU_ASSERT(halves[1] == 0x3c00 && halves[2] == 0x8001 && halves[5] == 0xbc00);
    AQ_CHECK(aq_h5_read(&file, "tensors/bf", AQ_BF16, AQ_DIMS(6), halves));
    float floats[3];
    AQ_CHECK(aq_h5_read(&file, "floats", AQ_F32, AQ_DIMS(3), floats));
    CU_ASSERT(floats[1] == -2.5f && floats[2] == 1e-30f);
    char *text;
    long index;
    double error;
    AQ_CHECK(aq_h5_read_text(&file, "/", "settings", &text));
    CU_ASSERT_STRING_EQUAL(text, "{\"a\": 1}");
    free(text);
    AQ_CHECK(aq_h5_read_long(&file, "/", "index", &index));
    AQ_CHECK(aq_h5_read_double(&file, "tensors/a.b", "error", &error));
    CU_ASSERT(index == 7 && error == 0.1);
    aq_h5_close(&file);
}

static void another_type_or_shape_is_refused_with_both(void) {
    char path[AQ_TEST_PATH];
    aq_h5 file;
    uint16_t data[6];
    AQ_CHECK(aq_h5_open(write_sample("sample.h5", path), &file));
    AQ_CHECK_FAILS(aq_h5_read(&file, "tensors/bf", AQ_U16, AQ_DIMS(6), data), AQ_SHAPE,
                   "dataset tensors/bf is BF16 [6], expected U16 [6]");
    AQ_CHECK_FAILS(aq_h5_read(&file, "tensors/u16", AQ_U16, AQ_DIMS(3, 2), data), AQ_SHAPE,
                   "U16 [6], expected U16 [3, 2]");
    AQ_CHECK_FAILS(aq_h5_read(&file, "tensors/none", AQ_U16, AQ_DIMS(6), data), AQ_MISSING,
                   "no dataset tensors/none");
    AQ_CHECK_FAILS(aq_h5_read(&file, "none/none", AQ_U16, AQ_DIMS(6), data), AQ_MISSING,
                   "none/none");
    long value;
    AQ_CHECK_FAILS(aq_h5_read_long(&file, "/", "settings", &value), AQ_FORMAT, "integer");
    AQ_CHECK_FAILS(aq_h5_read_long(&file, "/", "none", &value), AQ_MISSING, "none");
    aq_h5_close(&file);
}

static void equal_contents_are_equal_bytes_at_any_time(void) {
    char first[AQ_TEST_PATH], second[AQ_TEST_PATH];
    size_t first_size, second_size;
    write_sample("first.h5", first);
    sleep(1);
    write_sample("second.h5", second);
    char *a = aq_test_slurp(first, &first_size), *b = aq_test_slurp(second, &second_size);
    CU_ASSERT_EQUAL_FATAL(first_size, second_size);
    CU_ASSERT_EQUAL(memcmp(a, b, first_size), 0);
    free(a);
    free(b);
}

static void a_flipped_bit_fails_the_checksum(void) {
    char path[AQ_TEST_PATH], damaged[AQ_TEST_PATH];
    size_t size;
    char *bytes = aq_test_slurp(write_sample("sample.h5", path), &size);
    const float value = -2.5f;
    char *at = memmem(bytes, size, &value, sizeof value);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    *at ^= 1;
    FILE *out = fopen(aq_test_path("damaged.h5", damaged), "wb");
    fwrite(bytes, 1, size, out);
    fclose(out);
    free(bytes);
    aq_h5 file;
    float floats[3];
    AQ_CHECK(aq_h5_open(damaged, &file));
    AQ_CHECK_FAILS(aq_h5_read(&file, "floats", AQ_F32, AQ_DIMS(3), floats), AQ_IO, "damaged");
    aq_h5_close(&file);
}

static void files_that_are_not_hdf5_are_refused(void) {
    char path[AQ_TEST_PATH], cut[AQ_TEST_PATH];
    size_t size;
    aq_h5 file;
    AQ_CHECK_FAILS(aq_h5_open(aq_test_path("absent.h5", path), &file), AQ_MISSING, "absent.h5");
    char *bytes = aq_test_slurp(write_sample("sample.h5", path), &size);
    FILE *out = fopen(aq_test_path("cut.h5", cut), "wb");
    fwrite(bytes, 1, size / 2, out);
    fclose(out);
    free(bytes);
    AQ_CHECK_FAILS(aq_h5_open(cut, &file), AQ_FORMAT, "damaged or truncated");
    truncate(cut, 5);
    AQ_CHECK_FAILS(aq_h5_open(cut, &file), AQ_FORMAT, "not an HDF5 file");
    aq_h5_close(&file);
}

static void nothing_stands_under_the_name_before_the_commit(void) {
    char path[AQ_TEST_PATH], *temporary;
    aq_test_path("later.h5", path);
    AQ_CHECK(aq_file_temporary(path, &temporary));
    const uint8_t byte = 1;
    aq_h5 file;
    AQ_CHECK(aq_h5_create(path, &file));
    AQ_CHECK(aq_h5_write(&file, "a/b", AQ_U8, AQ_DIMS(1), &byte));
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    CU_ASSERT_EQUAL(access(temporary, F_OK), 0);
    aq_h5_close(&file);
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    CU_ASSERT_NOT_EQUAL(access(temporary, F_OK), 0);
    free(temporary);
}

static void a_place_that_cannot_be_written_is_named(void) {
    char path[AQ_TEST_PATH], *temporary;
    aq_h5 file;
    AQ_CHECK_FAILS(aq_h5_create(aq_test_path("none/file.h5", path), &file), AQ_IO,
                   "none/file.h5: cannot be created: No such file or directory");
    mkdir(aq_test_path("occupied", path), 0777);
    AQ_CHECK(aq_h5_create(path, &file));
    AQ_CHECK_FAILS(aq_h5_commit(&file), AQ_IO, "occupied");
    AQ_CHECK(aq_file_temporary(path, &temporary));
    CU_ASSERT_NOT_EQUAL(access(temporary, F_OK), 0);
    free(temporary);
}

static void a_full_disk_is_reported_and_leaves_nothing(void) {
    enum { ROOM = 100000, COUNT = 1 << 20 };
    char path[AQ_TEST_PATH], *temporary;
    struct rlimit before, small;
    float *values = calloc(COUNT, sizeof *values);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = (struct rlimit){.rlim_cur = ROOM, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    aq_h5 file;
    AQ_CHECK(aq_h5_create(aq_test_path("full.h5", path), &file));
    aq_status status = aq_h5_write(&file, "values", AQ_F32, AQ_DIMS(COUNT), values);
    if (status == AQ_OK)
        status = aq_h5_commit(&file);
    else
        aq_h5_close(&file);
    setrlimit(RLIMIT_FSIZE, &before);
    CU_ASSERT_EQUAL(status, AQ_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "full.h5"));
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    AQ_CHECK(aq_file_temporary(path, &temporary));
    CU_ASSERT_NOT_EQUAL(access(temporary, F_OK), 0);
    free(temporary);
    free(values);
}

static void a_link_to_another_file_is_refused(void) {
    char target[AQ_TEST_PATH], path[AQ_TEST_PATH];
    write_sample("target.h5", target);
    aq_h5 file;
    AQ_CHECK(aq_h5_create(aq_test_path("linked.h5", path), &file));
    CU_ASSERT(H5Lcreate_external(target, "floats", file.id, "floats", H5P_DEFAULT, H5P_DEFAULT) >=
              0);
    AQ_CHECK(aq_h5_commit(&file));
    AQ_CHECK(aq_h5_open(path, &file));
    float floats[3];
    AQ_CHECK_FAILS(aq_h5_read(&file, "floats", AQ_F32, AQ_DIMS(3), floats), AQ_FORMAT,
                   "outside this file");
    aq_h5_close(&file);
}

static void large_datasets_are_cut_into_chunks_of_a_mebibyte(void) {
    char path[AQ_TEST_PATH];
    size_t rows = 3, columns = 400000;
    float *values = malloc(rows * columns * sizeof *values);
    for (size_t i = 0; i < rows * columns; i++) values[i] = (float)i;
    aq_h5 file;
    AQ_CHECK(aq_h5_create(aq_test_path("large.h5", path), &file));
    AQ_CHECK(aq_h5_write(&file, "large", AQ_F32, AQ_DIMS(rows, columns), values));
    AQ_CHECK(aq_h5_commit(&file));
    AQ_CHECK(aq_h5_open(path, &file));
    hid_t dataset = H5Dopen2(file.id, "large", H5P_DEFAULT);
    hid_t layout = H5Dget_create_plist(dataset);
    hsize_t chunk[2];
    CU_ASSERT_EQUAL(H5Pget_chunk(layout, 2, chunk), 2);
    CU_ASSERT(chunk[0] == 1 && chunk[1] == 262144);
    CU_ASSERT(
        H5Pget_filter_by_id2(layout, H5Z_FILTER_FLETCHER32, NULL, NULL, NULL, 0, NULL, NULL) >= 0);
    H5Pclose(layout);
    H5Dclose(dataset);
    memset(values, 0, rows * columns * sizeof *values);
    AQ_CHECK(aq_h5_read(&file, "large", AQ_F32, AQ_DIMS(rows, columns), values));
    CU_ASSERT(values[rows * columns - 1] == (float)(rows * columns - 1));
    free(values);
    aq_h5_close(&file);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"what_is_written_is_read_back", what_is_written_is_read_back},
        {"another_type_or_shape_is_refused_with_both", another_type_or_shape_is_refused_with_both},
        {"equal_contents_are_equal_bytes_at_any_time", equal_contents_are_equal_bytes_at_any_time},
        {"a_flipped_bit_fails_the_checksum", a_flipped_bit_fails_the_checksum},
        {"files_that_are_not_hdf5_are_refused", files_that_are_not_hdf5_are_refused},
        {"nothing_stands_under_the_name_before_the_commit",
         nothing_stands_under_the_name_before_the_commit},
        {"a_place_that_cannot_be_written_is_named", a_place_that_cannot_be_written_is_named},
        {"a_full_disk_is_reported_and_leaves_nothing", a_full_disk_is_reported_and_leaves_nothing},
        {"a_link_to_another_file_is_refused", a_link_to_another_file_is_refused},
        {"large_datasets_are_cut_into_chunks_of_a_mebibyte",
         large_datasets_are_cut_into_chunks_of_a_mebibyte},
    };
    return aq_test_main("h5", cases, sizeof cases / sizeof *cases, argc, argv);
}
