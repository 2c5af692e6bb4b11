#include "model/safetensors.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_FILE = 4096, LENGTH_SIZE = 8 };

/* A file with this header and `data_size` bytes of data 0, 1, 2 ... behind it. */
typedef struct image {
    unsigned char bytes[MOST_FILE];
    size_t size;
} image;

static image image_of(const char *header, size_t data_size) {
    image file = {.size = LENGTH_SIZE + strlen(header) + data_size};
    CU_ASSERT_TRUE_FATAL(file.size <= MOST_FILE);
    for (int i = 0; i < LENGTH_SIZE; i++)
        file.bytes[i] = (unsigned char)((uint64_t)strlen(header) >> (8 * i));
    memcpy(file.bytes + LENGTH_SIZE, header, strlen(header));
    for (size_t i = 0; i < data_size; i++) file.bytes[file.size - data_size + i] = (unsigned char)i;
    return file;
}

static void check_bytes_refused(const void *bytes, size_t size, const char *part) {
    /* In memory of exactly its size, so that reading past it is seen by the sanitizer. */
    void *copy = malloc(size + !size);
    memcpy(copy, bytes, size);
    aq_safetensors file;
    AQ_CHECK_FAILS(aq_safetensors_parse(copy, size, &file), AQ_FORMAT, part);
    CU_ASSERT_TRUE(file.tensors == NULL && file.count == 0);
    free(copy);
}

static void check_refused(const char *header, size_t data_size, const char *part) {
    image file = image_of(header, data_size);
    check_bytes_refused(file.bytes, file.size, part);
}

static void safetensors_tensors_are_found_by_name(void) {
    image bytes = image_of("{\"__metadata__\": {\"format\": \"pt\"}, "
                           "\"z\": {\"dtype\": \"BF16\", \"shape\": [2, 3], "
                           "\"data_offsets\": [1, 13]}, "
                           "\"a\": {\"dtype\": \"U8\", \"shape\": [], \"data_offsets\": [0, 1]}, "
                           "\"m\": {\"dtype\": \"I64\", \"shape\": [0, 4], "
                           "\"data_offsets\": [13, 13]}}  ",
                           13);
    aq_safetensors file;
    AQ_CHECK(aq_safetensors_parse(bytes.bytes, bytes.size, &file));
    CU_ASSERT_EQUAL(file.count, 3);
    const aq_safetensor *z = aq_safetensors_find(&file, "z");
    CU_ASSERT_PTR_NOT_NULL_FATAL(z);
    CU_ASSERT_TRUE(z->type == AQ_SAFETENSOR_BF16 && z->size == 12 && z->bytes[0] == 1);
    CU_ASSERT_TRUE(z->ndim == 2 && z->dims[0] == 2 && z->dims[1] == 3);
    const aq_safetensor *a = aq_safetensors_find(&file, "a");
    CU_ASSERT_TRUE(a && a->ndim == 0 && a->size == 1 && a->bytes[0] == 0);
    const aq_safetensor *m = aq_safetensors_find(&file, "m");
    CU_ASSERT_TRUE(m && m->size == 0);
    CU_ASSERT_PTR_NULL(aq_safetensors_find(&file, "__metadata__"));
    CU_ASSERT_PTR_NULL(aq_safetensors_find(&file, "b"));
    aq_safetensors_close(&file);
}

static void safetensors_truncated_header_is_refused(void) {
    image file =
        image_of("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1);
    check_bytes_refused(file.bytes, 0, "not a safetensors file: 0 bytes");
    for (size_t size = 1; size < LENGTH_SIZE; size++)
        check_bytes_refused(file.bytes, size, "not a safetensors file");
    for (size_t size = LENGTH_SIZE; size < file.size - 1; size++)
        check_bytes_refused(file.bytes, size, "truncated: its header takes");
    check_bytes_refused(file.bytes, file.size - 1, "tensor a: data_offsets end at 1");
}

static void safetensors_header_longer_than_the_file_is_refused(void) {
    image file = image_of("{}", 0);
    file.bytes[0] = 3;
    check_bytes_refused(file.bytes, file.size, "its header takes 3 bytes, 2 are there");
    memset(file.bytes, 0xff, LENGTH_SIZE);
    check_bytes_refused(file.bytes, file.size, "its header takes 18446744073709551615 bytes");
}

static void safetensors_header_that_is_not_json_is_refused(void) {
    check_refused("", 0, "safetensors header: not valid JSON");
    check_refused("{\"a\": ", 0, "safetensors header: not valid JSON");
    check_refused("[]", 0, "safetensors header: expected a JSON object");
    check_refused("{\"a\": {}, \"a\": {}}", 0, "duplicate");
    check_refused("{\"a\": 1}", 0, "tensor a: expected an object");
    check_refused("{\"a\": {}}", 0, "tensor a: the key dtype is missing");
}

static void safetensors_unknown_dtype_is_refused(void) {
    check_refused("{\"a\": {\"dtype\": \"F4\", \"shape\": [2], \"data_offsets\": [0, 1]}}", 1,
                  "tensor a: unknown dtype F4");
    check_refused("{\"a\": {\"dtype\": 7, \"shape\": [1], \"data_offsets\": [0, 1]}}", 1,
                  "tensor a: dtype: expected a text, found 7");
}

static void safetensors_bad_shape_is_refused(void) {
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [-1], \"data_offsets\": [0, 1]}}", 1,
                  "tensor a: shape: expected integers from 0, found [-1]");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1.0], \"data_offsets\": [0, 1]}}", 1,
                  "shape: expected integers");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": 1, \"data_offsets\": [0, 1]}}", 1,
                  "shape: expected an array");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1,1,1,1,1,1,1,1,1], "
                  "\"data_offsets\": [0, 1]}}",
                  1, "9 dimensions, expected at most 8");
    check_refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296], "
                  "\"data_offsets\": [0, 0]}}",
                  0, "overflows");
}

static void safetensors_wrong_size_for_the_shape_is_refused(void) {
    check_refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}", 8,
                  "tensor a: data_offsets span 4 bytes, its shape and dtype need 8");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [0], \"data_offsets\": [0, 1]}}", 1,
                  "span 1 bytes, its shape and dtype need 0");
}

static void safetensors_offsets_outside_the_file_are_refused(void) {
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [3, 5]}}", 4,
                  "tensor a: data_offsets end at 5, the file holds 4 bytes of data");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], "
                  "\"data_offsets\": [9223372036854775806, 9223372036854775807]}}",
                  4, "the file holds 4 bytes");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [-1, 0]}}", 4,
                  "data_offsets: expected [begin, end], found [-1,0]");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [2, 1]}}", 4,
                  "expected [begin, end], found [2,1]");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1, 2]}}", 4,
                  "expected [begin, end]");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1]}}", 4, "data_offsets is missing");
}

static void safetensors_overlapping_tensors_are_refused(void) {
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, "
                  "\"b\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [3, 7]}}",
                  8, "tensors a and b overlap");
    check_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, 8]}, "
                  "\"b\": {\"dtype\": \"U8\", \"shape\": [0], \"data_offsets\": [2, 2]}}",
                  8, "overlap");
}

static void safetensors_only_floats_are_weights(void) {
    image bytes = image_of("{\"i\": {\"dtype\": \"I8\", \"shape\": [1], \"data_offsets\": [0, 1]},"
                           "\"f\": {\"dtype\": \"F16\", \"shape\": [1,2], \"data_offsets\": [1, 5]}"
                           ",\"s\": {\"dtype\": \"F32\", \"shape\": [], \"data_offsets\": [5, 9]}}",
                           9);
    aq_safetensors file;
    aq_stored stored;
    AQ_CHECK(aq_safetensors_parse(bytes.bytes, bytes.size, &file));
    AQ_CHECK(aq_safetensor_weights(aq_safetensors_find(&file, "f"), &stored));
    CU_ASSERT_TRUE(stored.dtype == AQ_F16 && stored.size == 4 && stored.shape.ndim == 2);
    AQ_CHECK_FAILS(aq_safetensor_weights(aq_safetensors_find(&file, "i"), &stored), AQ_SHAPE,
                   "tensor i: dtype I8, expected F32, F16 or BF16");
    AQ_CHECK_FAILS(aq_safetensor_weights(aq_safetensors_find(&file, "s"), &stored), AQ_SHAPE,
                   "tensor s: 0 dimensions");
    aq_safetensors_close(&file);
}

static void safetensors_file_errors_carry_the_path(void) {
    char *path;
    aq_safetensors file;
    AQ_CHECK(aq_file_join(aq_test_folder(), "bad.safetensors", &path));
    AQ_CHECK_FAILS(aq_safetensors_open(path, &file), AQ_MISSING, "bad.safetensors: cannot open");
    AQ_CHECK(aq_file_replace(path, "", 0));
    AQ_CHECK_FAILS(aq_safetensors_open(path, &file), AQ_FORMAT,
                   "bad.safetensors: not a safetensors file: 0 bytes");
    free(path);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(safetensors_tensors_are_found_by_name),
                                    AQ_CASE(safetensors_truncated_header_is_refused),
                                    AQ_CASE(safetensors_header_longer_than_the_file_is_refused),
                                    AQ_CASE(safetensors_header_that_is_not_json_is_refused),
                                    AQ_CASE(safetensors_unknown_dtype_is_refused),
                                    AQ_CASE(safetensors_bad_shape_is_refused),
                                    AQ_CASE(safetensors_wrong_size_for_the_shape_is_refused),
                                    AQ_CASE(safetensors_offsets_outside_the_file_are_refused),
                                    AQ_CASE(safetensors_overlapping_tensors_are_refused),
                                    AQ_CASE(safetensors_only_floats_are_weights),
                                    AQ_CASE(safetensors_file_errors_carry_the_path)};
    return aq_test_main("safetensors", cases, sizeof cases / sizeof *cases, argc, argv);
}
