#include "model/block.h"

#include <stdlib.h>

static aq_status load_rope(const aq_model_shape *shape, size_t length, aq_backend *backend,
                           aq_block *block) {
    size_t half = shape->head_dim / 2;
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(length, half), &block->cosines));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(length, half), &block->sines));
    size_t bytes = aq_tensor_bytes(&block->cosines);
    float *cosines = malloc(bytes), *sines = malloc(bytes);
    aq_status status = AQ_OK;
    AQ_NEED(cosines && sines, AQ_MEMORY, "no memory for rotary tables of %zu positions", length);
    aq_rope_tables(shape, length, cosines, sines);
    AQ_STEP(aq_tensor_upload(&block->cosines, cosines, bytes));
    AQ_STEP(aq_tensor_upload(&block->sines, sines, bytes));
done:
    free(cosines);
    free(sines);
    return status;
}

static aq_status load_parameters(aq_source *source, size_t index, aq_backend *backend,
                                 aq_block *block) {
    const aq_model_shape *shape = &source->shape;
    char name[AQ_NAME_SIZE];
    for (int n = 0; n < AQ_NORM_COUNT; n++) {
        aq_norm_name(index, n, name);
        AQ_TRY(aq_source_tensor(source, name, AQ_DIMS(shape->hidden), backend, &block->norms[n]));
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        AQ_TRY(aq_source_linear(source, index, l, backend, &block->weights[l]));
        if (!shape->linears[l].bias) continue;
        aq_linear_name(shape, index, l, ".bias", name);
        AQ_TRY(aq_source_tensor(source, name, AQ_DIMS(shape->linears[l].out), backend,
                                &block->biases[l]));
    }
    return AQ_OK;
}

aq_status aq_block_load(aq_source *source, size_t index, size_t length, aq_precision precision,
                        aq_backend *backend, aq_block *block) {
    *block = (aq_block){.shape = &source->shape, .precision = precision};
    AQ_REQUIRE(length <= source->shape.max_length, AQ_INVALID,
               "%s: sequences of %zu tokens, the model takes at most %zu", source->path, length,
               source->shape.max_length);
    aq_status status = load_parameters(source, index, backend, block);
    if (status == AQ_OK) status = load_rope(block->shape, length, backend, block);
    if (status != AQ_OK) aq_block_free(block);
    return status;
}

void aq_block_free(aq_block *block) {
    for (int n = 0; n < AQ_NORM_COUNT; n++) aq_tensor_free(&block->norms[n]);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        aq_tensor_free(&block->weights[l]);
        aq_tensor_free(&block->biases[l]);
    }
    aq_tensor_free(&block->cosines);
    aq_tensor_free(&block->sines);
}

void aq_block_set_halves(aq_block *block, bool halves) {
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) block->weights[l].dtype = halves ? AQ_BF16 : AQ_F32;
}

bool aq_block_can_halve(const aq_block *block) {
    const aq_attention attention = aq_block_attention(block, 1, 1);
    return aq_attention_halves(block->norms[0].home, &attention);
}

bool aq_block_halves(const aq_block *block) {
    return block->weights[0].dtype == AQ_BF16;
}

aq_status aq_block_cut_tape(const aq_block *block, const aq_tape *tape, size_t sequences,
                            size_t length, aq_tape *pass) {
    AQ_TRY(aq_tape_cut(tape, block->shape, sequences, length, pass));
    aq_tensor *const products[] = {&pass->q, &pass->k, &pass->v, &pass->gate, &pass->up};
    for (int t = 0; t < AQ_TAP_COUNT; t++) pass->taps[t].dtype = block->weights[0].dtype;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        products[i]->dtype = block->weights[0].dtype;
    return AQ_OK;
}

aq_attention aq_block_attention(const aq_block *block, size_t sequences, size_t length) {
    return (aq_attention){.sequences = sequences,
                          .length = length,
                          .heads = block->shape->heads,
                          .kv_heads = block->shape->kv_heads,
                          .head_dim = block->shape->head_dim,
                          .precision = block->precision};
}

static aq_status call_tapper(const aq_tapper *tapper, aq_tap tap, const aq_tape *pass) {
    return tapper ? tapper->see(tapper->state, tap, &pass->taps[tap]) : AQ_OK;
}

/* y = x W' + b + beta y with x the linear's tap. */
static aq_status apply_linear(const aq_block *block, aq_linear_kind linear, const aq_tape *pass,
                              float beta, aq_tensor *y) {
    const aq_product how = {
        .transpose_b = true, .alpha = 1, .beta = beta, .precision = block->precision};
    const aq_tensor *x = &pass->taps[block->shape->linears[linear].tap];
    AQ_TRY(aq_matmul(x, &block->weights[linear], &how, y));
    return block->biases[linear].data ? aq_bias_add(&block->biases[linear], y) : AQ_OK;
}

static aq_status rotate(const aq_block *block, const aq_attention *attention, size_t heads,
                        aq_tensor *x) {
    aq_tensor view = aq_tensor_reshape(
        x, AQ_DIMS(attention->sequences, attention->length, heads, attention->head_dim));
    return aq_rotate(&block->cosines, &block->sines, false, &view);
}

/* x2 = x + o(attention(rope(q(h1)), rope(k(h1)), v(h1))). */
static aq_status attention_forward(const aq_block *block, const aq_attention *attention,
                                   aq_tape *pass, const aq_tapper *tapper) {
    AQ_TRY(aq_rms_norm(&pass->x, &block->norms[AQ_NORM_ATTENTION], block->shape->norm_epsilon,
                       &pass->taps[AQ_TAP_ATTENTION_IN], &pass->inverse[AQ_NORM_ATTENTION]));
    AQ_TRY(call_tapper(tapper, AQ_TAP_ATTENTION_IN, pass));
    AQ_TRY(apply_linear(block, AQ_LINEAR_Q, pass, 0, &pass->q));
    AQ_TRY(apply_linear(block, AQ_LINEAR_K, pass, 0, &pass->k));
    AQ_TRY(apply_linear(block, AQ_LINEAR_V, pass, 0, &pass->v));
    AQ_TRY(rotate(block, attention, attention->heads, &pass->q));
    AQ_TRY(rotate(block, attention, attention->kv_heads, &pass->k));
    AQ_TRY(aq_causal_attention(attention, &pass->q, &pass->k, &pass->v,
                               &pass->taps[AQ_TAP_ATTENTION_OUT], &pass->log_sums));
    AQ_TRY(call_tapper(tapper, AQ_TAP_ATTENTION_OUT, pass));
    AQ_TRY(aq_tensor_copy(&pass->x, &pass->x2));
    return apply_linear(block, AQ_LINEAR_O, pass, 1, &pass->x2);
}

/* y = x2 + down(silu(gate(h2)) * up(h2)). */
static aq_status mlp_forward(const aq_block *block, aq_tape *pass, const aq_tapper *tapper,
                             aq_tensor *y) {
    AQ_TRY(aq_rms_norm(&pass->x2, &block->norms[AQ_NORM_MLP], block->shape->norm_epsilon,
                       &pass->taps[AQ_TAP_MLP_IN], &pass->inverse[AQ_NORM_MLP]));
    AQ_TRY(call_tapper(tapper, AQ_TAP_MLP_IN, pass));
    AQ_TRY(apply_linear(block, AQ_LINEAR_GATE, pass, 0, &pass->gate));
    AQ_TRY(apply_linear(block, AQ_LINEAR_UP, pass, 0, &pass->up));
    AQ_TRY(aq_silu_gate(&pass->gate, &pass->up, &pass->taps[AQ_TAP_MLP_OUT]));
    AQ_TRY(call_tapper(tapper, AQ_TAP_MLP_OUT, pass));
    AQ_TRY(aq_tensor_copy(&pass->x2, y));
    return apply_linear(block, AQ_LINEAR_DOWN, pass, 1, y);
}

aq_status aq_block_forward(const aq_block *block, size_t sequences, size_t length,
                           const aq_tensor *x, aq_tape *tape, const aq_tapper *tapper,
                           aq_tensor *y) {
    AQ_REQUIRE(length <= block->cosines.shape[0], AQ_SHAPE,
               "the block was loaded for sequences of at most %zu tokens, not %zu",
               block->cosines.shape[0], length);
    aq_attention attention = aq_block_attention(block, sequences, length);
    aq_tape pass;
    AQ_TRY(aq_block_cut_tape(block, tape, sequences, length, &pass));
    if (x->data != pass.x.data) AQ_TRY(aq_tensor_copy(x, &pass.x));
    AQ_TRY(attention_forward(block, &attention, &pass, tapper));
    return mlp_forward(block, &pass, tapper, y);
}
