#include "model/npy.h"

#include "base/file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAGIC_SIZE = 6, MOST_TEXT = 32 };

/* What is left of the header's text. */
typedef struct reader {
    const char *at, *end;
} reader;

static void skip_spaces(reader *text) {
    while (text->at < text->end && strchr(" \t\n", *text->at) && *text->at) text->at++;
}

/* Takes `symbol` if it comes next, spaces aside. */
static bool take(reader *text, char symbol) {
    skip_spaces(text);
    if (text->at == text->end || *text->at != symbol) return false;
    text->at++;
    return true;
}

static bool take_word(reader *text, const char *word) {
    skip_spaces(text);
    size_t length = strlen(word);
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length) != 0)
        return false;
    text->at += length;
    return true;
}

/* A quoted text without escapes. */
static aq_status take_text(reader *text, char value[MOST_TEXT]) {
    char quote = take(text, '\'') ? '\'' : '"';
    AQ_REQUIRE(quote == '\'' || take(text, '"'), AQ_FORMAT,
               ".npy header: expected a quoted text (structured types are not read)");
    size_t length = 0;
    while (text->at < text->end && *text->at != quote && length < MOST_TEXT - 1)
        value[length++] = *text->at++;
    value[length] = 0;
    AQ_REQUIRE(take(text, quote), AQ_FORMAT, ".npy header: the text \"%s...\" does not end", value);
    return AQ_OK;
}

static aq_status take_number(reader *text, size_t *value) {
    bool fits = true, any = false;
    *value = 0;
    skip_spaces(text);
    for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++, any = true)
        fits = fits && !__builtin_mul_overflow(*value, (size_t)10, value) &&
               !__builtin_add_overflow(*value, (size_t)(*text->at - '0'), value);
    AQ_REQUIRE(any && fits, AQ_FORMAT, ".npy header: expected a size inside 'shape'");
    return AQ_OK;
}

static aq_status take_type(reader *text, aq_npy *array) {
    static const struct {
        const char *name;
        aq_npy_type type;
        size_t size;
    } known[] = {{"u2", AQ_NPY_U16, 2}, {"i4", AQ_NPY_I32, 4}, {"i8", AQ_NPY_I64, 8}};
    char name[MOST_TEXT];
    AQ_TRY(take_text(text, name));
    AQ_REQUIRE(name[0] != '>', AQ_FORMAT,
               "big-endian type %s: expected little-endian <u2, <i4 or "
               "<i8",
               name);
    /* '=' is the writer's own order; the machines that this program runs on are little-endian. */
    bool ordered = name[0] == '<' || name[0] == '=';
    for (size_t i = 0; ordered && i < sizeof known / sizeof *known; i++)
        if (strcmp(name + 1, known[i].name) == 0) {
            array->type = known[i].type;
            array->element_size = known[i].size;
            return AQ_OK;
        }
    return AQ_FAIL(AQ_FORMAT, "type %s: expected <u2, <i4 or <i8 (uint16, int32 or int64)", name);
}

static aq_status take_order(reader *text) {
    bool fortran = take_word(text, "True");
    AQ_REQUIRE(fortran || take_word(text, "False"), AQ_FORMAT,
               ".npy header: expected True or False for 'fortran_order'");
    AQ_REQUIRE(!fortran, AQ_FORMAT, "the array is in Fortran order: expected C order");
    return AQ_OK;
}

static aq_status take_shape(reader *text, aq_npy *array) {
    size_t sizes[2] = {1, 1};
    AQ_REQUIRE(take(text, '('), AQ_FORMAT, ".npy header: expected a tuple for 'shape'");
    array->ndim = 0;
    while (!take(text, ')')) {
        AQ_REQUIRE(array->ndim < 2, AQ_FORMAT, "more than 2 dimensions: expected 1 or 2");
        AQ_TRY(take_number(text, &sizes[array->ndim++]));
        if (take(text, ',')) continue;
        AQ_REQUIRE(array->ndim > 1 && take(text, ')'), AQ_FORMAT,
                   ".npy header: expected a comma inside 'shape'");
        break;
    }
    AQ_REQUIRE(array->ndim > 0, AQ_FORMAT, "no dimensions: expected 1 or 2");
    array->rows = array->ndim == 2 ? sizes[0] : 1;
    array->columns = sizes[array->ndim - 1];
    return AQ_OK;
}

enum { KEY_TYPE = 1, KEY_ORDER = 2, KEY_SHAPE = 4, ALL_KEYS = 7 };

static aq_status take_item(reader *text, aq_npy *array, int *keys) {
    char name[MOST_TEXT];
    AQ_TRY(take_text(text, name));
    int key = strcmp(name, "descr") == 0           ? KEY_TYPE
              : strcmp(name, "fortran_order") == 0 ? KEY_ORDER
              : strcmp(name, "shape") == 0         ? KEY_SHAPE
                                                   : 0;
    AQ_REQUIRE(key && !(*keys & key) && take(text, ':'), AQ_FORMAT,
               ".npy header: unexpected key '%s'", name);
    *keys |= key;
    if (key == KEY_TYPE) return take_type(text, array);
    return key == KEY_ORDER ? take_order(text) : take_shape(text, array);
}

static aq_status parse_dict(reader *text, aq_npy *array) {
    int keys = 0;
    AQ_REQUIRE(take(text, '{'), AQ_FORMAT, ".npy header: expected a dict");
    while (!take(text, '}')) {
        AQ_TRY(take_item(text, array, &keys));
        if (take(text, ',')) continue;
        AQ_REQUIRE(take(text, '}'), AQ_FORMAT, ".npy header: expected a comma or the dict's end");
        break;
    }
    skip_spaces(text);
    AQ_REQUIRE(text->at == text->end && keys == ALL_KEYS, AQ_FORMAT,
               ".npy header: expected exactly 'descr', 'fortran_order' and 'shape'");
    return AQ_OK;
}

/* Where the header's text begins and ends. */
static aq_status find_header(const unsigned char *bytes, size_t size, size_t *begin, size_t *end) {
    AQ_REQUIRE(size >= MAGIC_SIZE + 2 && memcmp(bytes, "\x93NUMPY", MAGIC_SIZE) == 0, AQ_FORMAT,
               "not a .npy file");
    int major = bytes[MAGIC_SIZE], minor = bytes[MAGIC_SIZE + 1];
    AQ_REQUIRE(major >= 1 && major <= 3 && minor == 0, AQ_FORMAT,
               ".npy version %d.%d: expected 1.0, 2.0 or 3.0", major, minor);
    size_t length_size = major == 1 ? 2 : 4, length = 0;
    *begin = MAGIC_SIZE + 2 + length_size;
    AQ_REQUIRE(size >= *begin, AQ_FORMAT, "the .npy header is truncated");
    for (size_t i = 1; i <= length_size; i++) length = length << 8 | bytes[*begin - i];
    AQ_REQUIRE(length <= size - *begin, AQ_FORMAT,
               "the .npy header is truncated: it takes %zu bytes, %zu are there", length,
               size - *begin);
    *end = *begin + length;
    return AQ_OK;
}

aq_status aq_npy_parse(const void *bytes, size_t size, aq_npy *array) {
    size_t begin = 0, end = 0, needed;
    *array = (aq_npy){0};
    AQ_TRY(find_header(bytes, size, &begin, &end));
    reader text = {.at = (const char *)bytes + begin, .end = (const char *)bytes + end};
    AQ_TRY(parse_dict(&text, array));
    bool overflow = __builtin_mul_overflow(array->rows, array->columns, &needed) ||
                    __builtin_mul_overflow(needed, array->element_size, &needed);
    AQ_REQUIRE(!overflow, AQ_FORMAT, "the product of the shape's sizes overflows");
    AQ_REQUIRE(needed == size - end, AQ_FORMAT,
               "shape and type need %zu bytes of data, the file holds %zu", needed, size - end);
    array->data = (const unsigned char *)bytes + end;
    return AQ_OK;
}

/* ---- writing ---- */

/* Magic, version, length and dict, padded with spaces so that the data begins at a multiple of 64.
 */
enum { HEADER = 128, HEADER_PREFIX = 10 };

static void make_header(char header[HEADER + 1], size_t rows, size_t columns) {
    char dict[HEADER - HEADER_PREFIX];
    snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
             rows, columns);
    memcpy(header, "\x93NUMPY\1\0\0\0", HEADER_PREFIX);
    header[HEADER_PREFIX - 2] = HEADER - HEADER_PREFIX;
    snprintf(header + HEADER_PREFIX, HEADER + 1 - HEADER_PREFIX, "%-*s\n",
             HEADER - HEADER_PREFIX - 1, dict);
}

static aq_status write_matrix(const char *path, const float *values, size_t rows, size_t columns) {
    char header[HEADER + 1];
    make_header(header, rows, columns);
    FILE *file = fopen(path, "wbe");
    bool written = file && fwrite(header, HEADER, 1, file) == 1 &&
                   fwrite(values, sizeof *values, rows * columns, file) == rows * columns;
    int code = errno;
    if (file && fclose(file) != 0 && written) {
        written = false;
        code = errno;
    }
    AQ_REQUIRE(written, AQ_IO, "%s: cannot write: %s", path, strerror(code));
    return AQ_OK;
}

aq_status aq_npy_write(const char *path, const float *values, size_t rows, size_t columns) {
    char *temporary;
    AQ_TRY(aq_file_temporary(path, &temporary));
    aq_status status = write_matrix(temporary, values, rows, columns);
    if (status == AQ_OK)
        status = aq_file_commit(temporary, path);
    else
        unlink(temporary);
    free(temporary);
    return status;
}
