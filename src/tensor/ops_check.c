#include "tensor/ops_check.h"

#include <stdio.h>
#include <string.h>

const char *aq_tensor_text(const aq_tensor *tensor, char text[AQ_SHAPE_TEXT_SIZE]) {
    aq_shape shape = {.ndim = tensor->ndim};
    memcpy(shape.dims, tensor->shape, sizeof shape.dims);
    return aq_shape_text(shape, text);
}

/* Type, number of dimensions and home: what one operand can be told by itself. */
static aq_status check_alone(const char *op, const aq_operand *operand, const aq_operand *first) {
    const aq_tensor *x = operand->tensor;
    AQ_REQUIRE(x && x->data, AQ_SHAPE, "%s: %s is empty", op, operand->name);
    AQ_REQUIRE(x->home == first->tensor->home, AQ_SHAPE, "%s: %s and %s live in different backends",
               op, first->name, operand->name);
    AQ_REQUIRE(x->dtype == operand->dtype, AQ_SHAPE, "%s: %s is %s, expected %s", op, operand->name,
               aq_dtype_name(x->dtype), aq_dtype_name(operand->dtype));
    char text[AQ_SHAPE_TEXT_SIZE];
    AQ_REQUIRE(!operand->dims || (size_t)x->ndim == strlen(operand->dims), AQ_SHAPE,
               "%s: %s is %s, expected %zu dimensions", op, operand->name, aq_tensor_text(x, text),
               strlen(operand->dims));
    return AQ_OK;
}

/* Who gave a letter its size. */
typedef struct binding {
    const aq_operand *operand;
    size_t size;
} binding;

static aq_status check_letters(const char *op, const aq_operand *operand, binding *bindings) {
    for (int i = 0; operand->dims && operand->dims[i]; i++) {
        binding *bound = &bindings[(unsigned char)operand->dims[i]];
        size_t size = operand->tensor->shape[i];
        if (!bound->operand) *bound = (binding){operand, size};
        char left[AQ_SHAPE_TEXT_SIZE], right[AQ_SHAPE_TEXT_SIZE];
        AQ_REQUIRE(bound->size == size, AQ_SHAPE,
                   "%s: %s is %s, %s is %s: %zu and %zu must be equal", op, bound->operand->name,
                   aq_tensor_text(bound->operand->tensor, left), operand->name,
                   aq_tensor_text(operand->tensor, right), bound->size, size);
    }
    return AQ_OK;
}

aq_status aq_operands_check(const char *op, const aq_operand *operands, int count) {
    binding bindings[128] = {{0}};
    for (int i = 0; i < count; i++) {
        AQ_TRY(check_alone(op, &operands[i], &operands[0]));
        AQ_TRY(check_letters(op, &operands[i], bindings));
    }
    return AQ_OK;
}

aq_status aq_counts_check(const char *op, const aq_operand *left, const aq_operand *right) {
    const aq_operand both[] = {*left, *right};
    AQ_TRY(aq_operands_check(op, both, 2));
    char a[AQ_SHAPE_TEXT_SIZE], b[AQ_SHAPE_TEXT_SIZE];
    AQ_REQUIRE(aq_tensor_count(left->tensor) == aq_tensor_count(right->tensor), AQ_SHAPE,
               "%s: %s is %s, %s is %s: they need equally many elements", op, left->name,
               aq_tensor_text(left->tensor, a), right->name, aq_tensor_text(right->tensor, b));
    return AQ_OK;
}

aq_status aq_coded_check(const char *op, const aq_coded *coded) {
    AQ_CHECK_OPERANDS(op, {"scales", &coded->scales, AQ_F32, "r"},
                      {"codes", &coded->codes, AQ_U16, "rjm"},
                      {"codebooks", &coded->codebooks, AQ_F32, "mkol"});
    const aq_scheme *scheme = &coded->scheme;
    const size_t *shape = coded->codebooks.shape;
    char text[AQ_SHAPE_TEXT_SIZE];
    AQ_REQUIRE(scheme->bits >= 1 && scheme->bits <= 16 && shape[0] == (size_t)scheme->codebooks &&
                   shape[1] == (size_t)1 << scheme->bits && shape[2] == (size_t)scheme->out_group &&
                   shape[3] == (size_t)scheme->in_group,
               AQ_SHAPE, "%s: codebooks are %s, the scheme is %dx%d with groups of %d x %d", op,
               aq_tensor_text(&coded->codebooks, text), scheme->codebooks, scheme->bits,
               scheme->out_group, scheme->in_group);
    return AQ_OK;
}

aq_status aq_coded_weight_check(const char *op, const aq_coded *coded, const char *name,
                                const aq_tensor *x) {
    AQ_TRY(aq_coded_check(op, coded));
    AQ_CHECK_OPERANDS(op, {"scales", &coded->scales, AQ_F32, "r"}, {name, x, AQ_F32, "nc"});
    char text[AQ_SHAPE_TEXT_SIZE], codes[AQ_SHAPE_TEXT_SIZE];
    AQ_REQUIRE(x->shape[0] == coded->codes.shape[0] * (size_t)coded->scheme.out_group &&
                   x->shape[1] == coded->codes.shape[1] * (size_t)coded->scheme.in_group,
               AQ_SHAPE, "%s: %s is %s, codes are %s for groups of %d x %d", op, name,
               aq_tensor_text(x, text), aq_tensor_text(&coded->codes, codes),
               coded->scheme.out_group, coded->scheme.in_group);
    return AQ_OK;
}
