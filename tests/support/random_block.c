#include "random_block.h"

#include "suite.h"

#include <math.h>
#include <stdlib.h>

const aq_model_shape *aq_test_shape(void) {
    static const aq_model_shape shape = {
        .model_type = "llama",
        .blocks = 1,
        .hidden = 16,
        .ffn = 24,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 8,
        .vocab = 29,
        .max_length = 64,
        .norm_epsilon = 1e-5f,
        .rope = {.kind = AQ_ROPE_DEFAULT, .theta = 100},
        .linears = {{"self_attn.q_proj", 32, 16, true, AQ_TAP_ATTENTION_IN},
                    {"self_attn.k_proj", 16, 16, true, AQ_TAP_ATTENTION_IN},
                    {"self_attn.v_proj", 16, 16, true, AQ_TAP_ATTENTION_IN},
                    {"self_attn.o_proj", 16, 32, false, AQ_TAP_ATTENTION_OUT},
                    {"mlp.gate_proj", 24, 16, false, AQ_TAP_MLP_IN},
                    {"mlp.up_proj", 24, 16, false, AQ_TAP_MLP_IN},
                    {"mlp.down_proj", 16, 24, false, AQ_TAP_MLP_OUT}}};
    return &shape;
}

/* F32 of mean + deviation * normal numbers. */
static aq_tensor normal(aq_backend *backend, aq_shape shape, float mean, float deviation,
                        uint64_t seed) {
    aq_tensor tensor;
    AQ_CHECK(aq_tensor_new(backend, AQ_F32, shape, &tensor));
    size_t count = aq_tensor_count(&tensor);
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = mean + deviation * (float)aq_random_normal(seed, AQ_STREAM_TEST, i);
    AQ_CHECK(aq_tensor_upload(&tensor, values, aq_tensor_bytes(&tensor)));
    free(values);
    return tensor;
}

static void add_rope(aq_backend *backend, aq_block *block) {
    float cosines[AQ_TEST_LENGTH * 4], sines[AQ_TEST_LENGTH * 4];
    aq_rope_tables(block->shape, AQ_TEST_LENGTH, cosines, sines);
    AQ_CHECK(aq_tensor_new(backend, AQ_F32, AQ_DIMS(AQ_TEST_LENGTH, 4), &block->cosines));
    AQ_CHECK(aq_tensor_new(backend, AQ_F32, AQ_DIMS(AQ_TEST_LENGTH, 4), &block->sines));
    AQ_CHECK(aq_tensor_upload(&block->cosines, cosines, sizeof cosines));
    AQ_CHECK(aq_tensor_upload(&block->sines, sines, sizeof sines));
}

aq_block aq_test_block(aq_backend *backend, uint64_t seed) {
    const aq_model_shape *shape = aq_test_shape();
    aq_block block = {.shape = shape, .precision = AQ_PRECISE};
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        block.norms[n] = normal(backend, AQ_DIMS(shape->hidden), 1, 0.1f, seed++);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        float deviation = 1 / sqrtf((float)linear->in);
        block.weights[l] = normal(backend, AQ_DIMS(linear->out, linear->in), 0, deviation, seed++);
        if (linear->bias) block.biases[l] = normal(backend, AQ_DIMS(linear->out), 0, 0.1f, seed++);
    }
    add_rope(backend, &block);
    return block;
}

/* The first 2^bits vectors serve as codebook. */
static void code_linear(const aq_tensor *weight, aq_coded *coded) {
    const aq_scheme scheme = {.codebooks = 1, .bits = 4, .in_group = 4, .out_group = 1};
    size_t vectors = aq_tensor_count(weight) / 4, entries = 16;
    AQ_CHECK(aq_coded_new(weight->home, &scheme, weight->shape[0], weight->shape[1], coded));
    aq_tensor points, norms;
    AQ_CHECK(aq_tensor_new(weight->home, AQ_F32, AQ_DIMS(vectors, 4), &points));
    AQ_CHECK(aq_tensor_new(weight->home, AQ_F32, AQ_DIMS(entries), &norms));
    AQ_CHECK(aq_group_norms(weight, &coded->scales));
    AQ_CHECK(aq_scaled_vectors(weight, &coded->scales, 4, &points));
    aq_tensor first = aq_tensor_rows(&points, 0, entries);
    AQ_CHECK(aq_tensor_copy(&first, &coded->codebooks));
    aq_tensor flat = aq_tensor_reshape(&coded->codebooks, AQ_DIMS(entries, 1, 4));
    AQ_CHECK(aq_entry_norms(&flat, NULL, 0, &norms));
    flat = aq_tensor_reshape(&coded->codebooks, AQ_DIMS(entries, 4));
    aq_tensor codes = aq_tensor_reshape(&coded->codes, AQ_DIMS(vectors, 1));
    AQ_CHECK(aq_nearest(&points, &flat, &norms, 0, AQ_FAST, &codes));
    aq_tensor_free(&points);
    aq_tensor_free(&norms);
}

static aq_tensor copy_of(const aq_tensor *source) {
    aq_tensor copy;
    AQ_CHECK(aq_tensor_new(source->home, AQ_F32, AQ_DIMS(source->shape[0]), &copy));
    AQ_CHECK(aq_tensor_copy(source, &copy));
    return copy;
}

aq_coded_block aq_test_coded_block(const aq_block *block) {
    aq_coded_block coded = {.shape = block->shape};
    for (int n = 0; n < AQ_NORM_COUNT; n++) coded.norms[n] = copy_of(&block->norms[n]);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        code_linear(&block->weights[l], &coded.linears[l]);
        if (block->biases[l].data) coded.biases[l] = copy_of(&block->biases[l]);
    }
    return coded;
}
