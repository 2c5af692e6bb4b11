#include "fuzz.h"
#include "model/shape.h"

#include <stdlib.h>

enum { LENGTH = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    aq_model_shape shape;
    if (aq_model_shape_parse((const char *)bytes, size, &shape) != AQ_OK) return 0;
    size_t count = LENGTH * shape.head_dim / 2;
    float *cosines = malloc(count * sizeof *cosines), *sines = malloc(count * sizeof *sines);
    char name[AQ_NAME_SIZE];
    aq_linear_name(&shape, shape.blocks - 1, AQ_LINEAR_DOWN, ".weight", name);
    aq_rope_tables(&shape, LENGTH, cosines, sines);
    free(cosines);
    free(sines);
    return 0;
}
