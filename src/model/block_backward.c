#include "model/block.h"

aq_status aq_block_grad_new(const aq_block *block, aq_block_grad *grad) {
    *grad = (aq_block_grad){0};
    aq_backend *home = block->norms[0].home;
    aq_status status = AQ_OK;
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        AQ_STEP(aq_tensor_zeros(home, AQ_F32, AQ_DIMS(block->shape->hidden), &grad->norms[n]));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &block->shape->linears[l];
        AQ_STEP(aq_tensor_zeros(home, AQ_F32, AQ_DIMS(linear->out, linear->in), &grad->weights[l]));
        if (block->biases[l].data)
            AQ_STEP(aq_tensor_zeros(home, AQ_F32, AQ_DIMS(linear->out), &grad->biases[l]));
    }
done:
    if (status != AQ_OK) aq_block_grad_free(grad);
    return status;
}

aq_status aq_block_grad_zero(aq_block_grad *grad) {
    for (int n = 0; n < AQ_NORM_COUNT; n++) AQ_TRY(aq_fill(0, &grad->norms[n]));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        AQ_TRY(aq_fill(0, &grad->weights[l]));
        if (grad->biases[l].data) AQ_TRY(aq_fill(0, &grad->biases[l]));
    }
    return AQ_OK;
}

void aq_block_grad_free(aq_block_grad *grad) {
    for (int n = 0; n < AQ_NORM_COUNT; n++) aq_tensor_free(&grad->norms[n]);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        aq_tensor_free(&grad->weights[l]);
        aq_tensor_free(&grad->biases[l]);
    }
}

/* What a backward pass works on: the tape's views, and gradients in buffers that it has used up. */
typedef struct backward {
    const aq_block *block;
    aq_attention attention;
    aq_tape pass;
    aq_block_grad *grad;
    aq_tensor dgated, dattention, dq, dk, dv; /* in the weights' type, */
    aq_tensor dh;                             /* F32 */
    aq_tensor spare;                          /* BF16 [T, hidden], or empty with F32 weights */
} backward;

/* The start of one of the tape's buffers for a gradient that products read or write. */
static aq_tensor product_buffer(const backward *back, const aq_tensor *buffer, size_t width) {
    aq_tensor view = aq_tape_buffer(buffer, back->pass.x.shape[0], width);
    view.dtype = back->block->weights[0].dtype;
    return view;
}

/* The attention's input is BF16 [T, hidden] in a buffer for F32: what is behind it. */
static aq_tensor spare_half(const backward *back, const aq_tensor *buffer) {
    size_t tokens = back->pass.x.shape[0], hidden = back->pass.x.shape[1];
    aq_tensor all = aq_tape_buffer(buffer, tokens, hidden);
    all.dtype = AQ_BF16;
    all.shape[0] *= 2;
    return aq_tensor_rows(&all, tokens, tokens);
}

/* The gradient dy [T, hidden] as products read it: itself, or a copy in BF16. */
static aq_status product_operand(backward *back, const aq_tensor *dy, aq_tensor *operand) {
    *operand = back->spare.data ? back->spare : *dy;
    operand->owned = false;
    return back->spare.data ? aq_convert(dy, 1, operand) : AQ_OK;
}

/* Adds the gradients by the linear's weight and bias: dy' x with x the linear's tap; `operand` is
 * dy as products read it. */
static aq_status add_parameter_grad(const backward *back, aq_linear_kind linear,
                                    const aq_tensor *operand, const aq_tensor *dy) {
    const aq_product how = {
        .transpose_a = true, .alpha = 1, .beta = 1, .precision = back->block->precision};
    const aq_tensor *x = &back->pass.taps[back->block->shape->linears[linear].tap];
    AQ_TRY(aq_matmul(operand, x, &how, &back->grad->weights[linear]));
    if (!back->block->biases[linear].data) return AQ_OK;
    return aq_bias_grad(dy, &back->grad->biases[linear]);
}

/* dx = dy W + beta dx. */
static aq_status input_grad(const backward *back, aq_linear_kind linear, const aq_tensor *dy,
                            float beta, aq_tensor *dx) {
    const aq_product how = {.alpha = 1, .beta = beta, .precision = back->block->precision};
    return aq_matmul(dy, &back->block->weights[linear], &how, dx);
}

static aq_status add_norm_grad(const backward *back, aq_norm_kind norm, const aq_tensor *x,
                               const aq_tensor *dnormed, aq_tensor *dx) {
    return aq_rms_norm_grad(x, &back->block->norms[norm], &back->pass.inverse[norm], dnormed, dx,
                            &back->grad->norms[norm]);
}

/* From the gradient by y to that by x2, in place. */
static aq_status mlp_backward(backward *back, aq_tensor *dy) {
    aq_tape *pass = &back->pass;
    aq_tensor out;
    AQ_TRY(product_operand(back, dy, &out));
    AQ_TRY(add_parameter_grad(back, AQ_LINEAR_DOWN, &out, dy));
    AQ_TRY(input_grad(back, AQ_LINEAR_DOWN, &out, 0, &back->dgated));
    AQ_TRY(aq_silu_gate_grad(&back->dgated, &pass->gate, &pass->up, &pass->gate, &pass->up));
    AQ_TRY(add_parameter_grad(back, AQ_LINEAR_GATE, &pass->gate, &pass->gate));
    AQ_TRY(add_parameter_grad(back, AQ_LINEAR_UP, &pass->up, &pass->up));
    AQ_TRY(input_grad(back, AQ_LINEAR_GATE, &pass->gate, 0, &back->dh));
    AQ_TRY(input_grad(back, AQ_LINEAR_UP, &pass->up, 1, &back->dh));
    return add_norm_grad(back, AQ_NORM_MLP, &pass->x2, &back->dh, dy);
}

static aq_status rotate_back(const backward *back, size_t heads, aq_tensor *x) {
    const aq_attention *shape = &back->attention;
    aq_tensor view =
        aq_tensor_reshape(x, AQ_DIMS(shape->sequences, shape->length, heads, shape->head_dim));
    return aq_rotate(&back->block->cosines, &back->block->sines, true, &view);
}

/* From the gradient by the attention's output to those by q, k, v before rotation. */
static aq_status heads_backward(backward *back) {
    const aq_tape *pass = &back->pass;
    const aq_attention_tape kept = {.q = &pass->q,
                                    .k = &pass->k,
                                    .v = &pass->v,
                                    .out = &pass->taps[AQ_TAP_ATTENTION_OUT],
                                    .log_sums = &pass->log_sums};
    AQ_TRY(aq_causal_attention_grad(&back->attention, &kept, &back->dattention, &back->dq,
                                    &back->dk, &back->dv));
    AQ_TRY(rotate_back(back, back->attention.heads, &back->dq));
    return rotate_back(back, back->attention.kv_heads, &back->dk);
}

/* The gradients of one linear that reads the attention's input, added to (beta 1) that of its
 * input.
 */
static aq_status head_linear_backward(const backward *back, aq_linear_kind linear,
                                      const aq_tensor *dy, float beta, aq_tensor *dh) {
    AQ_TRY(add_parameter_grad(back, linear, dy, dy));
    return input_grad(back, linear, dy, beta, dh);
}

/* From the gradient by x2 to that by x, in place. */
static aq_status attention_backward(backward *back, aq_tensor *dy) {
    aq_tensor out;
    AQ_TRY(product_operand(back, dy, &out));
    AQ_TRY(add_parameter_grad(back, AQ_LINEAR_O, &out, dy));
    AQ_TRY(input_grad(back, AQ_LINEAR_O, &out, 0, &back->dattention));
    AQ_TRY(heads_backward(back));
    AQ_TRY(head_linear_backward(back, AQ_LINEAR_Q, &back->dq, 0, &back->dh));
    AQ_TRY(head_linear_backward(back, AQ_LINEAR_K, &back->dk, 1, &back->dh));
    AQ_TRY(head_linear_backward(back, AQ_LINEAR_V, &back->dv, 1, &back->dh));
    return add_norm_grad(back, AQ_NORM_ATTENTION, &back->pass.x, &back->dh, dy);
}

static aq_status run_backward(backward *back, aq_tape *tape, aq_tensor *dy) {
    const aq_model_shape *shape = back->block->shape;
    size_t tokens = back->pass.x.shape[0], q = back->pass.q.shape[1], kv = back->pass.k.shape[1];
    back->dgated = product_buffer(back, &tape->taps[AQ_TAP_MLP_OUT], shape->ffn);
    back->dh = aq_tape_buffer(&tape->taps[AQ_TAP_MLP_IN], tokens, shape->hidden);
    if (aq_block_halves(back->block))
        back->spare = spare_half(back, &tape->taps[AQ_TAP_ATTENTION_IN]);
    AQ_TRY(mlp_backward(back, dy));
    /* The MLP's part of the tape is used up; its buffers take the gradients of the heads, and x2's
     * that by the attention's input. */
    back->dattention = product_buffer(back, &tape->gate, q);
    back->dq = product_buffer(back, &tape->up, q);
    back->dk = product_buffer(back, &tape->taps[AQ_TAP_MLP_IN], kv);
    back->dv = product_buffer(back, &tape->taps[AQ_TAP_MLP_OUT], kv);
    back->dh = aq_tape_buffer(&tape->x2, tokens, shape->hidden);
    return attention_backward(back, dy);
}

aq_status aq_block_backward(const aq_block *block, size_t sequences, size_t length, aq_tape *tape,
                            aq_tensor *dy, aq_block_grad *grad) {
    backward back = {
        .block = block, .attention = aq_block_attention(block, sequences, length), .grad = grad};
    AQ_TRY(aq_block_cut_tape(block, tape, sequences, length, &back.pass));
    return run_backward(&back, tape, dy);
}
