/* Fuzz targets: each fuzz_<format>.c gives arbitrary bytes to a reader of files, which must neither
 * crash, read past them, overflow nor leak; whether it accepts them does not matter.
 *
 * The function has the name that libFuzzer calls. Where libFuzzer is not used, main.c calls it.
 */
#ifndef AQ_TESTS_FUZZ_H
#define AQ_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0. `bytes` are borrowed and nothing may be read behind the last one. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The length of the text in these bytes: up to and with the last closing brace. Formats that store
 * a header's length are also tried with this one, since a random length rarely fits. */
static inline size_t aq_fuzz_text_length(const uint8_t *bytes, size_t size) {
    while (size > 0 && bytes[size - 1] != '}') size--;
    return size;
}

/* Reads the ends of a piece of the input, so that the sanitizer sees one that lies outside. */
static inline void aq_fuzz_touch(const unsigned char *bytes, size_t size) {
    if (size == 0) return;
    (void)*(const volatile unsigned char *)bytes;
    (void)*(const volatile unsigned char *)(bytes + size - 1);
}

#endif
