/* Checks of the ops' arguments, private to ops*.c.
 *
 * An operand is written like the contract in ops.h: its name, its type, and one letter a dimension.
 * A letter stands for the same size in all operands of a call, so {"a", a, AQ_F32, "mk"} and {"b",
 * b, AQ_F32, "kn"} say that b must have as many rows as a has columns.
 */
#ifndef AQ_TENSOR_OPS_CHECK_H
#define AQ_TENSOR_OPS_CHECK_H

#include "tensor/ops.h"

typedef struct aq_operand {
    const char *name;
    const aq_tensor *tensor;
    aq_dtype dtype;
    const char *dims; /* NULL: any dimensions */
} aq_operand;

/* SHAPE, with the op's name and both sides, unless all operands are non-empty, live in one backend
 * and have their types and dimensions. */
aq_status aq_operands_check(const char *op, const aq_operand *operands, int count);

/* SHAPE unless both have equally many elements. */
aq_status aq_counts_check(const char *op, const aq_operand *left, const aq_operand *right);

/* SHAPE unless codes, codebooks and scales agree with the scheme and with each other. */
aq_status aq_coded_check(const char *op, const aq_coded *coded);

/* coded as above, and x [out, in] of its size and home. */
aq_status aq_coded_weight_check(const char *op, const aq_coded *coded, const char *name,
                                const aq_tensor *x);

/* aq_shape_text of a tensor. */
const char *aq_tensor_text(const aq_tensor *tensor, char text[AQ_SHAPE_TEXT_SIZE]);

#define AQ_CHECK_OPERANDS(op, ...)                                                                 \
    AQ_TRY(                                                                                        \
        aq_operands_check(op, (const aq_operand[]){__VA_ARGS__},                                   \
                          (int)(sizeof((const aq_operand[]){__VA_ARGS__}) / sizeof(aq_operand))))

#endif
