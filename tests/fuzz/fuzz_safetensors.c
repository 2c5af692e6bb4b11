#include "fuzz.h"
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH_SIZE = 8 };

static void read_file(const uint8_t *bytes, size_t size) {
    aq_safetensors file;
    if (aq_safetensors_parse(bytes, size, &file) != AQ_OK) return;
    for (size_t i = 0; i < file.count; i++) {
        const aq_safetensor *tensor = aq_safetensors_find(&file, file.tensors[i].name);
        aq_stored stored;
        if (!tensor) abort();
        aq_fuzz_touch(tensor->bytes, tensor->size);
        (void)aq_safetensor_weights(tensor, &stored);
    }
    aq_safetensors_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    read_file(bytes, size);
    if (size <= LENGTH_SIZE) return 0;
    uint8_t *fixed = malloc(size);
    size_t length = aq_fuzz_text_length(bytes + LENGTH_SIZE, size - LENGTH_SIZE);
    memcpy(fixed, bytes, size);
    for (int i = 0; i < LENGTH_SIZE; i++) fixed[i] = (uint8_t)((uint64_t)length >> (8 * i));
    read_file(fixed, size);
    free(fixed);
    return 0;
}
