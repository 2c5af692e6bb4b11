#include "fuzz.h"
#include "model/npy.h"

#include <stdlib.h>
#include <string.h>

enum { PREFIX = 10 };

static void read_file(const uint8_t *bytes, size_t size) {
    aq_npy array;
    if (aq_npy_parse(bytes, size, &array) != AQ_OK) return;
    aq_fuzz_touch(array.data, array.rows * array.columns * array.element_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    read_file(bytes, size);
    if (size <= PREFIX) return 0;
    uint8_t *fixed = malloc(size);
    size_t length = aq_fuzz_text_length(bytes + PREFIX, size - PREFIX);
    memcpy(fixed, bytes, size);
    memcpy(fixed, "\x93NUMPY\1", 8);
    fixed[8] = (uint8_t)length;
    fixed[9] = (uint8_t)(length >> 8);
    read_file(fixed, size);
    free(fixed);
    return 0;
}
