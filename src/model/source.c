#include "model/source.h"

#include "quant/coded_weight.h"

#include <stdlib.h>
#include <string.h>

/* Rows of the embedding are gathered in pieces of at most so many bytes (and at least one row). */
enum { GATHER_BYTES = 1 << 24 };

void aq_source_close(aq_source *source) {
    if (!source) return;
    source->close(source);
    free(source->path);
    free(source);
}

aq_status aq_source_new(const aq_source *like, const char *path, size_t state_size,
                        aq_status (*load)(aq_source *), aq_source **source) {
    aq_source *made = malloc(sizeof *made);
    char *copy = strdup(path);
    void *state = calloc(1, state_size);
    *source = NULL;
    if (!made || !copy || !state) {
        free(made);
        free(copy);
        free(state);
        return AQ_FAIL(AQ_MEMORY, "no memory for the table of model %s", path);
    }
    *made = *like;
    made->path = copy;
    made->state = state;
    aq_status status = load(made);
    if (status == AQ_OK)
        *source = made;
    else
        aq_source_close(made);
    return status;
}

static aq_status find(aq_source *source, const char *name, aq_shape shape, aq_stored *stored) {
    char found[AQ_SHAPE_TEXT_SIZE], expected[AQ_SHAPE_TEXT_SIZE];
    AQ_TRY(source->find(source, name, stored));
    AQ_REQUIRE(aq_shape_same(stored->shape, shape), AQ_SHAPE,
               "%s: tensor %s has shape %s, config.json asks for %s", source->path, name,
               aq_shape_text(stored->shape, found), aq_shape_text(shape, expected));
    return AQ_OK;
}

aq_status aq_source_check(aq_source *source, const char *name, aq_shape shape) {
    aq_stored stored;
    return find(source, name, shape, &stored);
}

static aq_status check_finite(const aq_source *source, const char *name, const aq_tensor *values) {
    size_t count;
    AQ_TRY(aq_count_nonfinite(values, &count));
    AQ_REQUIRE(count == 0, AQ_NUMERIC, "%s: tensor %s holds %zu values that are NaN or infinite",
               source->path, name, count);
    return AQ_OK;
}

/* Stored bytes -> F32 in the tensor's home, converted there. */
static aq_status upload(const aq_stored *stored, aq_tensor *tensor) {
    if (stored->dtype == AQ_F32) return aq_tensor_upload(tensor, stored->bytes, stored->size);
    aq_tensor raw;
    AQ_TRY(aq_tensor_new(tensor->home, stored->dtype, stored->shape, &raw));
    aq_status status = aq_tensor_upload(&raw, stored->bytes, stored->size);
    if (status == AQ_OK) status = aq_convert(&raw, 1, tensor);
    aq_tensor_free(&raw);
    return status;
}

aq_status aq_source_tensor(aq_source *source, const char *name, aq_shape shape, aq_backend *backend,
                           aq_tensor *tensor) {
    aq_stored stored;
    *tensor = (aq_tensor){0};
    AQ_TRY(find(source, name, shape, &stored));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, shape, tensor));
    aq_status status = upload(&stored, tensor);
    if (status == AQ_OK) status = check_finite(source, name, tensor);
    if (status != AQ_OK) aq_tensor_free(tensor);
    return status;
}

static aq_status read_decoded(aq_source *source, const char *name, aq_shape shape,
                              aq_backend *backend, aq_tensor *weight) {
    aq_coded coded;
    *weight = (aq_tensor){0};
    AQ_TRY(source->read_coded(source, name, backend, &coded));
    aq_status status = aq_tensor_new(backend, AQ_F32, shape, weight);
    if (status == AQ_OK) status = aq_decode(&coded, weight);
    if (status == AQ_OK) status = check_finite(source, name, weight);
    if (status != AQ_OK) aq_tensor_free(weight);
    aq_coded_free(&coded);
    return status;
}

aq_status aq_source_linear(aq_source *source, size_t block, aq_linear_kind linear,
                           aq_backend *backend, aq_tensor *weight) {
    const aq_linear_shape *shape = &source->shape.linears[linear];
    char name[AQ_NAME_SIZE];
    aq_linear_name(&source->shape, block, linear, source->read_coded ? "" : ".weight", name);
    aq_shape dims = AQ_DIMS(shape->out, shape->in);
    return source->read_coded ? read_decoded(source, name, dims, backend, weight)
                              : aq_source_tensor(source, name, dims, backend, weight);
}

static aq_status check_tokens(const aq_source *source, const int32_t *tokens, size_t count) {
    for (size_t i = 0; i < count; i++)
        AQ_REQUIRE(tokens[i] >= 0 && (size_t)tokens[i] < source->shape.vocab, AQ_INVALID,
                   "token %zu is %d, the vocabulary of %s has %zu", i, tokens[i], source->path,
                   source->shape.vocab);
    return AQ_OK;
}

/* Rows of `stored` for the tokens -> F32 x [count, hidden]; `rows` is scratch for count rows. */
static aq_status gather(const aq_stored *stored, const int32_t *tokens, char *rows, aq_tensor *x) {
    size_t row_bytes = stored->size / stored->shape.dims[0];
#pragma omp parallel for if (x->shape[0] * row_bytes >= GATHER_BYTES / 16)
    for (size_t i = 0; i < x->shape[0]; i++)
        memcpy(rows + i * row_bytes, (const char *)stored->bytes + (size_t)tokens[i] * row_bytes,
               row_bytes);
    const aq_stored piece = {.dtype = stored->dtype,
                             .shape = AQ_DIMS(x->shape[0], x->shape[1]),
                             .bytes = rows,
                             .size = x->shape[0] * row_bytes};
    return upload(&piece, x);
}

aq_status aq_source_embed(aq_source *source, const int32_t *tokens, size_t count, aq_tensor *x) {
    aq_stored stored;
    const aq_shape shape = AQ_DIMS(source->shape.vocab, source->shape.hidden);
    AQ_REQUIRE(count > 0 && aq_tensor_count(x) == count * source->shape.hidden, AQ_SHAPE,
               "embedding of %zu tokens into %zu numbers", count, aq_tensor_count(x));
    AQ_TRY(check_tokens(source, tokens, count));
    AQ_TRY(find(source, AQ_EMBEDDING_NAME, shape, &stored));
    size_t row_bytes = stored.size / source->shape.vocab, most = GATHER_BYTES / row_bytes;
    if (most < 1) most = 1;
    if (most > count) most = count;
    char *rows = malloc(most * row_bytes);
    AQ_REQUIRE(rows, AQ_MEMORY, "no memory for %zu bytes of embeddings", most * row_bytes);
    aq_tensor table = aq_tensor_reshape(x, AQ_DIMS(count, source->shape.hidden));
    aq_status status = AQ_OK;
    for (size_t first = 0; status == AQ_OK && first < count; first += most) {
        size_t length = count - first < most ? count - first : most;
        aq_tensor piece = aq_tensor_rows(&table, first, length);
        status = gather(&stored, tokens + first, rows, &piece);
    }
    free(rows);
    return status == AQ_OK ? check_finite(source, AQ_EMBEDDING_NAME, x) : status;
}
