#include "base/file.h"
#include "model/npy.h"
#include "model/tokens.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_FILE = 1024, PREFIX = 10 };

typedef struct image {
    unsigned char bytes[MOST_FILE];
    size_t size;
} image;

/* A version 1.0 file with this header. */
static image image_of(const char *header, const void *data, size_t data_size) {
    size_t length = strlen(header);
    image file = {.bytes = "\x93NUMPY\1", .size = PREFIX + length + data_size};
    CU_ASSERT_TRUE_FATAL(file.size <= MOST_FILE);
    file.bytes[8] = (unsigned char)length;
    file.bytes[9] = (unsigned char)(length >> 8);
    memcpy(file.bytes + PREFIX, header, length);
    memcpy(file.bytes + PREFIX + length, data, data_size);
    return file;
}

static image image_of_type(const char *type, const char *shape, const void *data,
                           size_t data_size) {
    char header[128];
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n",
             type, shape);
    return image_of(header, data, data_size);
}

/* The suite's one token file, written anew by each case. */
static char *write_image(const image *file) {
    char *path;
    AQ_CHECK(aq_file_join(aq_test_folder(), "tokens.npy", &path));
    AQ_CHECK(aq_file_replace(path, file->bytes, file->size));
    return path;
}

static aq_status read_image(const image *file, const aq_token_cut *cut, aq_tokens *tokens) {
    char *path = write_image(file);
    aq_status status = aq_tokens_read(path, cut, tokens);
    free(path);
    return status;
}

static void check_refused(const image *file, const aq_token_cut *cut, aq_status code,
                          const char *part) {
    aq_tokens tokens;
    AQ_CHECK_FAILS(read_image(file, cut, &tokens), code, part);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "tokens.npy: "));
    CU_ASSERT_TRUE(tokens.data == NULL && tokens.sequences == 0);
}

static const uint16_t seven[] = {10, 11, 12, 13, 14, 15, 16};
static const aq_token_cut threes = {.length = 3, .vocab = 100};

static void check_threes(const image *file) {
    aq_tokens tokens;
    AQ_CHECK(read_image(file, &threes, &tokens));
    CU_ASSERT_TRUE_FATAL(tokens.sequences == 2 && tokens.length == 3);
    for (int i = 0; i < 6; i++) CU_ASSERT_EQUAL(tokens.data[i], 10 + i);
    aq_tokens_free(&tokens);
}

static void tokens_of_every_type_are_widened(void) {
    int32_t i32[7];
    int64_t i64[7];
    for (int i = 0; i < 7; i++) i32[i] = (int32_t)(i64[i] = seven[i]);
    const image files[] = {image_of_type("<u2", "(7,)", seven, sizeof seven),
                           image_of_type("=u2", "(7,)", seven, sizeof seven),
                           image_of_type("<i4", "(7,)", i32, sizeof i32),
                           image_of_type("<i8", "(7,)", i64, sizeof i64)};
    for (int i = 0; i < 4; i++) check_threes(&files[i]);
}

static void tokens_header_spelling_does_not_matter(void) {
    const image files[] = {
        image_of("{\"shape\":(7,),\"fortran_order\":False,\"descr\":\"<u2\"}", seven, sizeof seven),
        image_of(" { 'descr' : '<u2' , 'fortran_order' : False , 'shape' : ( 7 , ) }  \n", seven,
                 sizeof seven)};
    for (int i = 0; i < 2; i++) check_threes(&files[i]);
}

static void tokens_versions_two_and_three_are_read(void) {
    image one = image_of_type("<u2", "(7,)", seven, sizeof seven);
    for (unsigned char version = 2; version <= 3; version++) {
        image file = {.size = one.size + 2};
        memcpy(file.bytes, one.bytes, PREFIX);
        file.bytes[6] = version;
        memcpy(file.bytes + PREFIX + 2, one.bytes + PREFIX, one.size - PREFIX);
        check_threes(&file);
    }
}

static void tokens_rows_are_cut_or_flattened(void) {
    image file = image_of_type("<u2", "(2, 3)", seven, 6 * sizeof *seven);
    aq_token_cut cut = {.length = 2, .vocab = 100};
    static const int32_t cut_rows[] = {10, 11, 13, 14}, flat[] = {10, 11, 12, 13, 14, 15};
    aq_tokens tokens;
    AQ_CHECK(read_image(&file, &cut, &tokens));
    CU_ASSERT_EQUAL_FATAL(tokens.sequences, 2);
    CU_ASSERT_EQUAL(memcmp(tokens.data, cut_rows, sizeof cut_rows), 0);
    aq_tokens_free(&tokens);
    cut.flatten = 1;
    AQ_CHECK(read_image(&file, &cut, &tokens));
    CU_ASSERT_EQUAL_FATAL(tokens.sequences, 3);
    CU_ASSERT_EQUAL(memcmp(tokens.data, flat, sizeof flat), 0);
    aq_tokens_free(&tokens);
}

static void tokens_first_sequences_are_taken_and_the_others_not_checked(void) {
    static const uint16_t late[] = {1, 2, 3, 60000};
    image file = image_of_type("<u2", "(4,)", late, sizeof late);
    aq_token_cut cut = {.length = 1, .sequences = 3, .vocab = 100};
    aq_tokens tokens;
    AQ_CHECK(read_image(&file, &cut, &tokens));
    CU_ASSERT_TRUE(tokens.sequences == 3 && tokens.data[2] == 3);
    aq_tokens_free(&tokens);
    cut.sequences = 0;
    check_refused(&file, &cut, AQ_INVALID, "token 3 is 60000, outside the vocabulary of 100");
}

static void tokens_outside_the_vocabulary_are_refused(void) {
    static const int32_t negative[] = {1, -7, 3};
    static const int64_t huge[] = {1, 2, 1ll << 32};
    image file = image_of_type("<i4", "(3,)", negative, sizeof negative);
    check_refused(&file, &threes, AQ_INVALID, "token 1 is -7, outside the vocabulary of 100");
    file = image_of_type("<i8", "(3,)", huge, sizeof huge);
    check_refused(&file, &threes, AQ_INVALID, "token 2 is 4294967296, outside");
    const aq_token_cut exact = {.length = 7, .vocab = 16};
    file = image_of_type("<u2", "(7,)", seven, sizeof seven);
    check_refused(&file, &exact, AQ_INVALID, "token 6 is 16, outside the vocabulary of 16");
}

static void tokens_too_few_are_refused_with_both_numbers(void) {
    image file = image_of_type("<u2", "(7,)", seven, sizeof seven);
    aq_token_cut cut = {.length = 3, .sequences = 4, .vocab = 100};
    check_refused(&file, &cut, AQ_INVALID,
                  "expected at least 4 sequences of 3, found 2 (7 tokens)");
    cut = (aq_token_cut){.length = 8, .vocab = 100};
    check_refused(&file, &cut, AQ_INVALID,
                  "expected at least 1 sequences of 8, found 0 (7 tokens)");
    file = image_of_type("<u2", "(2, 3)", seven, 6 * sizeof *seven);
    cut = (aq_token_cut){.length = 4, .vocab = 100};
    check_refused(&file, &cut, AQ_INVALID, "rows of 3 tokens: expected at least 4");
    file = image_of_type("<u2", "(0,)", seven, 0);
    check_refused(&file, &threes, AQ_INVALID, "found 0 (0 tokens)");
}

static void tokens_wrong_types_are_refused(void) {
    static const char *const types[] = {"<f4", "|u1", "<u4", "<i2", "|u2", "", "<", "<u2,"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        image file = image_of_type(types[i], "(7,)", seven, sizeof seven);
        check_refused(&file, &threes, AQ_FORMAT, "expected <u2, <i4 or <i8");
    }
    image file = image_of_type(">u2", "(7,)", seven, sizeof seven);
    check_refused(&file, &threes, AQ_FORMAT, "big-endian type >u2");
    file = image_of("{'descr': [('x', '<u2')], 'fortran_order': False, 'shape': (7,), }", seven,
                    sizeof seven);
    check_refused(&file, &threes, AQ_FORMAT, "structured types are not read");
    file =
        image_of("{'descr': '<u2', 'fortran_order': True, 'shape': (7,), }", seven, sizeof seven);
    check_refused(&file, &threes, AQ_FORMAT, "Fortran order: expected C order");
}

static void tokens_wrong_shapes_are_refused(void) {
    static const struct {
        const char *shape, *part;
    } bad[] = {{"()", "no dimensions"},
               {"(1, 1, 7)", "more than 2 dimensions"},
               {"(6,)", "need 12 bytes of data, the file holds 14"},
               {"(8,)", "need 16 bytes of data, the file holds 14"},
               {"(7)", "expected a comma"},
               {"(7", "expected a size"},
               {"(-7,)", "expected a size"},
               {"(,)", "expected a size"},
               {"7", "expected a tuple"},
               {"(18446744073709551623,)", "expected a size"},
               {"(4294967296, 4294967296)", "overflows"},
               {"(9223372036854775811,)", "overflows"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        image file = image_of_type("<u2", bad[i].shape, seven, sizeof seven);
        check_refused(&file, &threes, AQ_FORMAT, bad[i].part);
    }
}

static void tokens_malformed_headers_are_refused(void) {
    static const char *const headers[] = {
        "",
        "{}",
        "{'descr': '<u2', 'fortran_order': False}",
        "{'descr': '<u2', 'descr': '<u2', 'fortran_order': False, 'shape': (7,)}",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (7,), 'more': 1}",
        "{'descr': '<u2', 'fortran_order': 0, 'shape': (7,)}",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (7,)} x",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (7,)",
        "{'descr': '<u2",
        "{'descr' '<u2', 'fortran_order': False, 'shape': (7,)}",
        "{'descr': '<u2' 'fortran_order': False, 'shape': (7,)}",
        "{descr: '<u2', 'fortran_order': False, 'shape': (7,)}"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        image file = image_of(headers[i], seven, sizeof seven);
        check_refused(&file, &threes, AQ_FORMAT, ".npy header: ");
    }
}

static void tokens_every_truncation_is_refused(void) {
    image file = image_of_type("<u2", "(7,)", seven, sizeof seven);
    for (size_t size = 0; size < file.size; size++) {
        /* In memory of exactly its size, so that reading past it is seen by the sanitizer. */
        unsigned char *copy = malloc(size + !size);
        memcpy(copy, file.bytes, size);
        aq_npy array;
        CU_ASSERT_EQUAL(aq_npy_parse(copy, size, &array), AQ_FORMAT);
        free(copy);
    }
}

static void tokens_other_files_are_refused(void) {
    image file = image_of_type("<u2", "(7,)", seven, sizeof seven);
    file.bytes[6] = 4;
    check_refused(&file, &threes, AQ_FORMAT, ".npy version 4.0: expected 1.0, 2.0 or 3.0");
    file.bytes[0] = 'P';
    check_refused(&file, &threes, AQ_FORMAT, "not a .npy file");
    aq_tokens tokens;
    AQ_CHECK_FAILS(aq_tokens_read("/nowhere/x.npy", &threes, &tokens), AQ_MISSING,
                   "/nowhere/x.npy: cannot open");
}

static uint64_t hash_of(const image *file, size_t length) {
    const aq_token_cut cut = {.length = length, .vocab = 100};
    aq_tokens tokens;
    AQ_CHECK(read_image(file, &cut, &tokens));
    uint64_t hash = aq_tokens_hash(&tokens);
    aq_tokens_free(&tokens);
    return hash;
}

static void tokens_hash_sees_values_and_sizes_alone(void) {
    static const int32_t same[] = {10, 11, 12, 13, 14, 15}, other[] = {10, 11, 12, 13, 14, 16};
    image file = image_of_type("<u2", "(7,)", seven, sizeof seven);
    image same_file = image_of_type("<i4", "(6,)", same, sizeof same);
    image other_file = image_of_type("<i4", "(6,)", other, sizeof other);
    CU_ASSERT_EQUAL(hash_of(&file, 3), hash_of(&same_file, 3));
    CU_ASSERT_NOT_EQUAL(hash_of(&file, 3), hash_of(&other_file, 3));
    CU_ASSERT_NOT_EQUAL(hash_of(&same_file, 3), hash_of(&same_file, 2));
}

static void tokens_of_the_tiny_example_are_read(void) {
    char *path;
    const aq_token_cut cut = {.length = 512, .sequences = 128, .vocab = 4096};
    aq_tokens tokens;
    AQ_CHECK(aq_file_join(aq_test_examples(), "tiny-llama/calibration.npy", &path));
    AQ_CHECK(aq_tokens_read(path, &cut, &tokens));
    CU_ASSERT_EQUAL(tokens.sequences, 128);
    aq_tokens_free(&tokens);
    free(path);
}

static void a_written_matrix_is_numpys(void) {
    static const float values[] = {1, -2.5f, 3, 4, 5, 6};
    static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    char *path, *bytes;
    size_t size;
    AQ_CHECK(aq_file_join(aq_test_folder(), "matrix.npy", &path));
    AQ_CHECK(aq_npy_write(path, values, 2, 3));
    AQ_CHECK(aq_file_read(path, MOST_FILE, &bytes, &size));
    CU_ASSERT_EQUAL_FATAL(size, 128 + sizeof values);
    CU_ASSERT_EQUAL(memcmp(bytes, "\x93NUMPY\1\0\x76\0", PREFIX), 0);
    CU_ASSERT_EQUAL(memcmp(bytes + PREFIX, dict, strlen(dict)), 0);
    CU_ASSERT_EQUAL(strspn(bytes + PREFIX + strlen(dict), " "), 128 - PREFIX - strlen(dict) - 1);
    CU_ASSERT_EQUAL(bytes[127], '\n');
    CU_ASSERT_EQUAL(memcmp(bytes + 128, values, sizeof values), 0);
    AQ_CHECK_FAILS(aq_npy_write("/no/such/matrix.npy", values, 2, 3), AQ_IO, "/no/such/matrix.npy");
    free(bytes);
    free(path);
}

static void tokens_are_dealt_out_to_the_members_of_a_team(void) {
    const image file = image_of_type("<u2", "(7,)", seven, sizeof seven);
    const aq_token_cut ones = {.length = 1, .vocab = 100};
    aq_tokens tokens;
    for (size_t member = 0; member < 3; member++) {
        AQ_CHECK(read_image(&file, &ones, &tokens));
        AQ_CHECK(aq_tokens_take_part(&tokens, member, 3));
        CU_ASSERT_EQUAL(tokens.sequences, member ? 2 : 3);
        for (size_t i = 0; i < tokens.sequences; i++) {
            size_t number = tokens.numbering.first + i * (1 + tokens.numbering.skipped);
            CU_ASSERT_EQUAL(number, member + 3 * i);
            CU_ASSERT_EQUAL(tokens.data[i], (int32_t)(10 + number));
        }
        aq_tokens_free(&tokens);
    }
    AQ_CHECK(read_image(&file, &threes, &tokens));
    AQ_CHECK_FAILS(aq_tokens_take_part(&tokens, 0, 3), AQ_INVALID, "a team of 3 ranks");
    aq_tokens_free(&tokens);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(tokens_of_every_type_are_widened),
        AQ_CASE(tokens_header_spelling_does_not_matter),
        AQ_CASE(tokens_versions_two_and_three_are_read),
        AQ_CASE(tokens_rows_are_cut_or_flattened),
        AQ_CASE(tokens_first_sequences_are_taken_and_the_others_not_checked),
        AQ_CASE(tokens_outside_the_vocabulary_are_refused),
        AQ_CASE(tokens_too_few_are_refused_with_both_numbers),
        AQ_CASE(tokens_wrong_types_are_refused),
        AQ_CASE(tokens_wrong_shapes_are_refused),
        AQ_CASE(tokens_malformed_headers_are_refused),
        AQ_CASE(tokens_every_truncation_is_refused),
        AQ_CASE(tokens_other_files_are_refused),
        AQ_CASE(tokens_hash_sees_values_and_sizes_alone),
        AQ_CASE(tokens_of_the_tiny_example_are_read),
        AQ_CASE(tokens_are_dealt_out_to_the_members_of_a_team),
        AQ_CASE(a_written_matrix_is_numpys)};
    return aq_test_main("tokens", cases, sizeof cases / sizeof *cases, argc, argv);
}
