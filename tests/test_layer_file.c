/* Layer problems read from HDF5: types, shapes, and files that are not what they should be. */
#include "suite.h"

#include "store/h5.h"
#include "store/layer_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OUT = 3, IN = 4 };

static const char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s.h5", aq_test_folder(), name);
    return path;
}

typedef struct matrix {
    const char *name;
    aq_dtype dtype;
    aq_shape shape;
    const void *values;
} matrix;

static const char *write_file(const char *name, const matrix *matrices, size_t count) {
    aq_h5 file;
    AQ_CHECK(aq_h5_create(path_of(name), &file));
    for (size_t i = 0; i < count; i++)
        AQ_CHECK(aq_h5_write(&file, matrices[i].name, matrices[i].dtype, matrices[i].shape,
                             matrices[i].values));
    AQ_CHECK(aq_h5_commit(&file));
    return path_of(name);
}

static const float weight_values[OUT * IN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -12};
static const double gram_values[IN * IN] = {1, 0, 0, 0.5, 0, 1, 0, 0, 0, 0, 1, 0, 0.5, 0, 0, 1};

static void expect_failure(const char *path, aq_status code, const char *part) {
    aq_tensor weight, gram;
    AQ_CHECK_FAILS(aq_layer_file_read(path, aq_test_backend(), &weight, &gram), code, part);
    CU_ASSERT(!weight.data && !gram.data);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), path));
}

static void mixed_types_are_read_as_float32(void) {
    uint16_t halves[OUT * IN] = {0x3c00, 0x4000, 0xc200};
    const matrix gram = {"gram", AQ_F64, AQ_DIMS(IN, IN), gram_values};
    const matrix files[][2] = {{{"weight", AQ_F32, AQ_DIMS(OUT, IN), weight_values}, gram},
                               {{"weight", AQ_F16, AQ_DIMS(OUT, IN), halves}, gram}};
    static const float expected[2][3] = {{1, 2, 3}, {1, 2, -3}};
    for (size_t i = 0; i < 2; i++) {
        aq_tensor weight, read_gram;
        AQ_CHECK(aq_layer_file_read(write_file("mixed", files[i], 2), aq_test_backend(), &weight,
                                    &read_gram));
        CU_ASSERT(weight.dtype == AQ_F32 && weight.shape[0] == OUT && weight.shape[1] == IN);
        float *host = aq_test_host(&weight), *square = aq_test_host(&read_gram);
        CU_ASSERT_EQUAL(memcmp(host, expected[i], sizeof expected[i]), 0);
        for (size_t k = 0; k < IN * IN; k++) CU_ASSERT_EQUAL(square[k], (float)gram_values[k]);
        free(host), free(square);
        aq_tensor_free(&weight), aq_tensor_free(&read_gram);
    }
}

static void matrices_that_do_not_go_together_are_refused(void) {
    const matrix weight = {"weight", AQ_F32, AQ_DIMS(OUT, IN), weight_values};
    const matrix gram = {"gram", AQ_F64, AQ_DIMS(IN, IN), gram_values};
    const matrix other = {"gram", AQ_F64, AQ_DIMS(2, 8), gram_values};
    const matrix flat = {"gram", AQ_F64, AQ_DIMS(IN * IN), gram_values};
    const matrix codes = {"weight", AQ_I32, AQ_DIMS(OUT, IN), weight_values};
    expect_failure(write_file("other", (matrix[]){weight, other}, 2), AQ_SHAPE,
                   "gram is 2 x 8, expected 4 x 4");
    expect_failure(write_file("flat", (matrix[]){weight, flat}, 2), AQ_SHAPE,
                   "gram has 1 dimensions");
    expect_failure(write_file("codes", (matrix[]){codes, gram}, 2), AQ_FORMAT, "weight is I32");
    expect_failure(write_file("lonely", (matrix[]){weight}, 1), AQ_MISSING, "gram");
    expect_failure(write_file("headless", (matrix[]){gram}, 1), AQ_MISSING, "weight");
}

static void values_that_float32_cannot_hold_are_refused(void) {
    static const double bad[] = {NAN, INFINITY, 1e300};
    const matrix weight = {"weight", AQ_F32, AQ_DIMS(OUT, IN), weight_values};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double values[IN * IN];
        memcpy(values, gram_values, sizeof values);
        values[5] = bad[i];
        const matrix gram = {"gram", AQ_F64, AQ_DIMS(IN, IN), values};
        expect_failure(write_file("bad", (matrix[]){weight, gram}, 2), AQ_NUMERIC,
                       "gram has 1 values");
    }
}

static void a_shape_larger_than_memory_is_refused(void) {
    aq_h5 file;
    AQ_CHECK(aq_h5_create(path_of("huge"), &file));
    hsize_t dims[2] = {(hsize_t)1 << 24, (hsize_t)1 << 30}, chunk[2] = {1, 1024};
    hid_t space = H5Screate_simple(2, dims, NULL), layout = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(layout, 2, chunk);
    hid_t dataset =
        H5Dcreate2(file.id, "weight", H5T_IEEE_F32LE, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    CU_ASSERT(dataset >= 0);
    H5Dclose(dataset), H5Pclose(layout), H5Sclose(space);
    AQ_CHECK(aq_h5_commit(&file));
    expect_failure(path_of("huge"), AQ_MEMORY, "16777216 x 1073741824");
}

static void damaged_files_are_refused(void) {
    expect_failure(path_of("absent"), AQ_MISSING, "No such file");
    const matrix both[] = {{"weight", AQ_F32, AQ_DIMS(OUT, IN), weight_values},
                           {"gram", AQ_F64, AQ_DIMS(IN, IN), gram_values}};
    const char *path = write_file("cut", both, 2);
    CU_ASSERT_EQUAL(truncate(path, 600), 0);
    expect_failure(path, AQ_FORMAT, "damaged or truncated");
    CU_ASSERT_EQUAL(truncate(path, 4), 0);
    expect_failure(path, AQ_FORMAT, "not an HDF5 file");
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"mixed_types_are_read_as_float32", mixed_types_are_read_as_float32},
        {"matrices_that_do_not_go_together_are_refused",
         matrices_that_do_not_go_together_are_refused},
        {"values_that_float32_cannot_hold_are_refused",
         values_that_float32_cannot_hold_are_refused},
        {"a_shape_larger_than_memory_is_refused", a_shape_larger_than_memory_is_refused},
        {"damaged_files_are_refused", damaged_files_are_refused},
    };
    return aq_test_backend_main("store/layer_file", cases, sizeof cases / sizeof *cases, argc,
                                argv);
}
