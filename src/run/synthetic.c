#include "run/synthetic.h"

#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE = 1 << 16, MOST_WIDTH = 1 << 17 };

/* ---- numbers ---- */

static uint64_t draw(uint64_t stream, uint64_t index) {
    return aq_random(stream, AQ_STREAM_TEST, index);
}

/* Normal numbers from a table: a tensor of a large layer has hundreds of millions. */
static aq_status fill_normal(float *values, size_t count, double deviation, uint64_t stream) {
    float *table = malloc(TABLE * sizeof *table);
    AQ_REQUIRE(table, AQ_MEMORY, "no memory for a table of normal numbers");
    for (size_t i = 0; i < TABLE; i++)
        table[i] = (float)(deviation * aq_random_normal(1, AQ_STREAM_TEST, i));
#pragma omp parallel for
    for (size_t i = 0; i < count; i++) values[i] = table[draw(stream, i) % TABLE];
    free(table);
    return AQ_OK;
}

/* A new tensor with `values`, which are freed whatever is returned. */
static aq_status take_values(aq_backend *backend, aq_shape shape, float *values,
                             aq_tensor *tensor) {
    aq_status status = aq_tensor_new(backend, AQ_F32, shape, tensor);
    if (status == AQ_OK) status = aq_tensor_upload(tensor, values, aq_tensor_bytes(tensor));
    free(values);
    return status;
}

aq_status aq_synthetic_normal(aq_backend *backend, aq_shape shape, double deviation,
                              uint64_t stream, aq_tensor *tensor) {
    size_t count = aq_shape_count(shape);
    float *values = malloc(count * sizeof *values);
    AQ_REQUIRE(values, AQ_MEMORY, "no memory for %zu numbers", count);
    aq_status status = fill_normal(values, count, deviation, stream);
    if (status == AQ_OK) return take_values(backend, shape, values, tensor);
    free(values);
    return status;
}

/* ---- a layer ---- */

static aq_status make_weight(aq_backend *backend, size_t out, size_t in, uint64_t seed,
                             aq_tensor *weight) {
    float *values = malloc(out * in * sizeof *values);
    AQ_REQUIRE(values, AQ_MEMORY, "no memory for %zu weights", out * in);
    aq_status status = fill_normal(values, out * in, 0.02, aq_mix(seed));
    if (status != AQ_OK) {
        free(values);
        return status;
    }
#pragma omp parallel for
    for (size_t r = 0; r < out; r++) {
        float size = (float)exp(0.5 * aq_random_normal(seed, AQ_STREAM_TEST, r));
        for (size_t c = 0; c < in; c++)
            values[r * in + c] *= draw(seed + 1, c) % 100 == 0 ? 3 * size : size;
    }
    return take_values(backend, AQ_DIMS(out, in), values, weight);
}

/* Row i of A: entry k is sign(i) sqrt(2/n) cos(pi k (2 m + 1) / 2n) / sqrt(k + 1), m = place(i).
 * The cosines are the orthogonal DCT, so A A' has the eigenvalues 1 / (k + 1). */
static void fill_root(float *values, size_t n, uint64_t seed, const uint32_t *place,
                      const double *cosines) {
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) {
        double sign = draw(seed + 2, i) % 2 ? 1 : -1;
        for (size_t k = 0; k < n; k++) {
            double factor = sqrt((k ? 2.0 : 1.0) / (double)n / (double)(k + 1));
            size_t angle = k * (2 * (size_t)place[i] + 1) % (4 * n);
            values[i * n + k] = (float)(sign * factor * cosines[angle]);
        }
    }
}

static aq_status make_root(aq_backend *backend, size_t n, uint64_t seed, aq_tensor *root) {
    float *values = malloc(n * n * sizeof *values);
    double *cosines = malloc(4 * n * sizeof *cosines);
    uint32_t *place = malloc(n * sizeof *place);
    aq_status status = AQ_OK;
    AQ_NEED(values && cosines && place, AQ_MEMORY, "no memory for a Gram matrix of %zu columns", n);
    for (size_t a = 0; a < 4 * n; a++) cosines[a] = cos(M_PI * (double)a / (2 * (double)n));
    aq_random_order(seed + 3, AQ_STREAM_TEST, (uint32_t)n, place);
    fill_root(values, n, seed, place, cosines);
    status = take_values(backend, AQ_DIMS(n, n), values, root);
    values = NULL;
done:
    free(values);
    free(cosines);
    free(place);
    return status;
}

static aq_status make_gram(aq_backend *backend, size_t in, uint64_t seed, aq_tensor *gram) {
    const aq_product square = {.transpose_b = true, .alpha = 1, .precision = AQ_PRECISE};
    aq_tensor root;
    AQ_TRY(make_root(backend, in, seed, &root));
    aq_status status = aq_tensor_new(backend, AQ_F32, AQ_DIMS(in, in), gram);
    if (status == AQ_OK) status = aq_matmul(&root, &root, &square, gram);
    aq_tensor_free(&root);
    return status;
}

aq_status aq_synthetic_layer(aq_backend *backend, size_t out, size_t in, uint64_t seed,
                             aq_tensor *weight, aq_tensor *gram) {
    AQ_TRY(make_weight(backend, out, in, seed, weight));
    aq_status status = make_gram(backend, in, seed, gram);
    if (status != AQ_OK) aq_tensor_free(weight);
    return status;
}

/* ---- shapes ---- */

void aq_synthetic_llama(size_t hidden, size_t ffn, size_t heads, size_t kv_heads, size_t blocks,
                        aq_model_shape *shape) {
    size_t keys = hidden / heads * kv_heads;
    *shape = (aq_model_shape){
        .model_type = "llama",
        .blocks = blocks,
        .hidden = hidden,
        .ffn = ffn,
        .heads = heads,
        .kv_heads = kv_heads,
        .head_dim = hidden / heads,
        .vocab = 1,
        .max_length = SIZE_MAX,
        .norm_epsilon = 1e-5f,
        .rope = {.kind = AQ_ROPE_DEFAULT, .theta = 1e4},
        .linears = {{"self_attn.q_proj", hidden, hidden, false, AQ_TAP_ATTENTION_IN},
                    {"self_attn.k_proj", keys, hidden, false, AQ_TAP_ATTENTION_IN},
                    {"self_attn.v_proj", keys, hidden, false, AQ_TAP_ATTENTION_IN},
                    {"self_attn.o_proj", hidden, hidden, false, AQ_TAP_ATTENTION_OUT},
                    {"mlp.gate_proj", ffn, hidden, false, AQ_TAP_MLP_IN},
                    {"mlp.up_proj", ffn, hidden, false, AQ_TAP_MLP_IN},
                    {"mlp.down_proj", hidden, ffn, false, AQ_TAP_MLP_OUT}}};
}

static const struct known {
    const char *name;
    size_t hidden, ffn, heads, kv_heads, blocks, experts, active; /* ffn: of one expert */
} known_kinds[] = {{"llama-2-7b", 4096, 11008, 32, 32, 32, 1, 1},
                   {"llama-2-70b", 8192, 28672, 64, 8, 80, 1, 1},
                   {"mixtral-8x7b", 4096, 14336, 32, 8, 32, 8, 2}};

/* hidden x ffn x heads; heads have an even number of columns, for rotations. */
static bool read_sizes(const char *text, struct known *sizes) {
    char end;
    *sizes = (struct known){.blocks = 1, .experts = 1, .active = 1};
    if (strspn(text, "0123456789x") != strlen(text) ||
        sscanf(text, "%zux%zux%zu%c", &sizes->hidden, &sizes->ffn, &sizes->heads, &end) != 3)
        return false;
    sizes->kv_heads = sizes->heads;
    return sizes->heads >= 1 && sizes->hidden >= 1 && sizes->hidden <= MOST_WIDTH &&
           sizes->ffn >= 1 && sizes->ffn <= MOST_WIDTH && sizes->hidden % (2 * sizes->heads) == 0;
}

static void fill_kind(const struct known *sizes, aq_block_kind *kind) {
    kind->experts = sizes->experts;
    kind->active = sizes->active;
    aq_synthetic_llama(sizes->hidden, sizes->ffn * sizes->active, sizes->heads, sizes->kv_heads,
                       sizes->blocks, &kind->shape);
}

aq_status aq_synthetic_kind(const char *name, aq_block_kind *kind) {
    char names[256] = "";
    struct known sizes;
    for (size_t i = 0; i < sizeof known_kinds / sizeof *known_kinds; i++) {
        fill_kind(&known_kinds[i], kind);
        if (strcmp(name, known_kinds[i].name) == 0) return AQ_OK;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s, ", known_kinds[i].name);
    }
    AQ_REQUIRE(read_sizes(name, &sizes), AQ_INVALID,
               "the shape \"%s\" is not known: expected one of %sor HIDDENxFFNxHEADS such as "
               "64x128x4, with an even number of columns a head",
               name, names);
    fill_kind(&sizes, kind);
    return AQ_OK;
}

/* ---- a block ---- */

static aq_status make_turns(aq_backend *backend, const aq_model_shape *shape, size_t length,
                            aq_block *block) {
    size_t half = shape->head_dim / 2, bytes = length * half * sizeof(float);
    float *cosines = malloc(bytes), *sines = malloc(bytes);
    aq_status status = AQ_OK;
    AQ_NEED(cosines && sines, AQ_MEMORY, "no memory for rotations of %zu tokens", length);
    aq_rope_tables(shape, length, cosines, sines);
    AQ_STEP(aq_tensor_new(backend, AQ_F32, AQ_DIMS(length, half), &block->cosines));
    AQ_STEP(aq_tensor_new(backend, AQ_F32, AQ_DIMS(length, half), &block->sines));
    AQ_STEP(aq_tensor_upload(&block->cosines, cosines, bytes));
    AQ_STEP(aq_tensor_upload(&block->sines, sines, bytes));
done:
    free(cosines);
    free(sines);
    return status;
}

static aq_status fill_block(aq_backend *backend, size_t length, aq_block *block) {
    const aq_model_shape *shape = block->shape;
    for (int n = 0; n < AQ_NORM_COUNT; n++) {
        AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(shape->hidden), &block->norms[n]));
        AQ_TRY(aq_fill(1, &block->norms[n]));
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        AQ_TRY(make_weight(backend, linear->out, linear->in, (uint64_t)l, &block->weights[l]));
    }
    return make_turns(backend, shape, length, block);
}

aq_status aq_synthetic_block(aq_backend *backend, const aq_model_shape *shape, size_t length,
                             aq_precision precision, aq_block *block) {
    *block = (aq_block){.shape = shape, .precision = precision};
    aq_status status = fill_block(backend, length, block);
    if (status != AQ_OK) aq_block_free(block);
    return status;
}

static aq_status draw_codes(const aq_scheme *scheme, aq_tensor *codes) {
    size_t count = aq_tensor_count(codes), mask = ((size_t)1 << scheme->bits) - 1;
    uint16_t *values = malloc(count * sizeof *values);
    AQ_REQUIRE(values, AQ_MEMORY, "no memory for %zu codes", count);
    for (size_t i = 0; i < count; i++) values[i] = (uint16_t)(draw(0, i) & mask);
    aq_status status = aq_tensor_upload(codes, values, count * sizeof *values);
    free(values);
    return status;
}

static aq_status make_coded(aq_backend *backend, const aq_linear_shape *linear,
                            const aq_scheme *scheme, aq_coded *coded) {
    AQ_TRY(aq_coded_new(backend, scheme, linear->out, linear->in, coded));
    AQ_TRY(draw_codes(scheme, &coded->codes));
    AQ_TRY(aq_fill(0.02f, &coded->scales));
    aq_tensor entries;
    aq_shape shape = AQ_DIMS(aq_tensor_count(&coded->codebooks));
    AQ_TRY(aq_synthetic_normal(backend, shape, 1 / sqrt(scheme->codebooks), 0, &entries));
    aq_status status = aq_tensor_copy(&entries, &coded->codebooks);
    aq_tensor_free(&entries);
    return status;
}

static aq_status fill_coded(aq_backend *backend, const aq_scheme *scheme, aq_coded_block *coded) {
    const aq_model_shape *shape = coded->shape;
    for (int n = 0; n < AQ_NORM_COUNT; n++) {
        AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(shape->hidden), &coded->norms[n]));
        AQ_TRY(aq_fill(1, &coded->norms[n]));
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        AQ_TRY(make_coded(backend, &shape->linears[l], scheme, &coded->linears[l]));
    return AQ_OK;
}

aq_status aq_synthetic_coded(aq_backend *backend, const aq_model_shape *shape,
                             const aq_scheme *scheme, aq_coded_block *coded) {
    *coded = (aq_coded_block){.shape = shape};
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        aq_status fits = aq_scheme_check(scheme, shape->linears[l].out, shape->linears[l].in);
        if (fits != AQ_OK) return aq_error_at(fits, "%s", shape->linears[l].name);
    }
    aq_status status = fill_coded(backend, scheme, coded);
    if (status != AQ_OK) aq_coded_block_free(coded);
    return status;
}

/* ---- inputs ---- */

/* Normal numbers times the root of a Gram matrix whose trace is 1 + 1/2 + ... + 1/n. */
static aq_status make_text(aq_backend *backend, size_t tokens, size_t n, uint64_t seed,
                           aq_tensor *text) {
    aq_tensor root = {0}, numbers = {0};
    aq_status status;
    double trace = 0;
    for (size_t k = 1; k <= n; k++) trace += 1 / (double)k;
    const aq_product spread = {
        .transpose_b = true, .alpha = (float)sqrt((double)n / trace), .precision = AQ_FAST};
    AQ_STEP(make_root(backend, n, seed, &root));
    AQ_STEP(aq_synthetic_normal(backend, AQ_DIMS(tokens, n), 1, seed + 4, &numbers));
    AQ_STEP(aq_tensor_new(backend, AQ_F32, AQ_DIMS(tokens, n), text));
    AQ_STEP(aq_matmul(&numbers, &root, &spread, text));
done:
    aq_tensor_free(&root);
    aq_tensor_free(&numbers);
    if (status != AQ_OK) aq_tensor_free(text);
    return status;
}

aq_status aq_synthetic_inputs(aq_activations *activations, uint64_t seed) {
    enum { TEXT = 16 }; /* sequences */
    size_t length = activations->length, tokens = TEXT * length;
    aq_tensor text = {0};
    AQ_TRY(make_text(activations->backend, tokens, activations->hidden, seed, &text));
    aq_status status = AQ_OK;
    for (size_t s = 0; s < activations->sequences && status == AQ_OK; s++) {
        size_t first = draw(seed + 5, s) % (tokens - length + 1);
        const aq_tensor piece = aq_tensor_rows(&text, first, length);
        status = aq_activations_write(activations, s, 1, &piece);
    }
    aq_tensor_free(&text);
    return status;
}
