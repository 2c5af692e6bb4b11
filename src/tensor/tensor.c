#include "tensor/tensor.h"

#include "tensor/backend.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

size_t aq_shape_count(aq_shape shape) {
    size_t count = 1;
    for (int i = 0; i < shape.ndim; i++) count *= shape.dims[i];
    return count;
}

bool aq_shape_same(aq_shape a, aq_shape b) {
    return a.ndim == b.ndim && memcmp(a.dims, b.dims, (size_t)a.ndim * sizeof *a.dims) == 0;
}

const char *aq_shape_text(aq_shape shape, char text[AQ_SHAPE_TEXT_SIZE]) {
    int used = snprintf(text, AQ_SHAPE_TEXT_SIZE, "[");
    for (int i = 0; i < shape.ndim; i++)
        used += snprintf(text + used, AQ_SHAPE_TEXT_SIZE - (size_t)used, i ? ", %zu" : "%zu",
                         shape.dims[i]);
    snprintf(text + used, AQ_SHAPE_TEXT_SIZE - (size_t)used, "]");
    return text;
}

size_t aq_dtype_size(aq_dtype dtype) {
    switch (dtype) {
    case AQ_F64:
        return 8;
    case AQ_F32:
    case AQ_U32:
    case AQ_I32:
        return 4;
    case AQ_F16:
    case AQ_BF16:
    case AQ_U16:
        return 2;
    case AQ_U8:
        return 1;
    }
    return 0;
}

const char *aq_dtype_name(aq_dtype dtype) {
    static const char *const names[] = {"F32", "F64", "F16", "BF16", "U8", "U16", "U32", "I32"};
    return names[dtype];
}

/* Bytes of a shape; false if a dimension is 0 or the product overflows. */
static bool shape_bytes(aq_shape shape, aq_dtype dtype, size_t *bytes) {
    *bytes = aq_dtype_size(dtype);
    for (int i = 0; i < shape.ndim; i++)
        if (shape.dims[i] == 0 || __builtin_mul_overflow(*bytes, shape.dims[i], bytes))
            return false;
    return shape.ndim >= 1 && shape.ndim <= AQ_MAX_DIMS;
}

static void set_shape(aq_tensor *tensor, aq_shape shape) {
    tensor->ndim = shape.ndim;
    for (int i = 0; i < AQ_MAX_DIMS; i++) tensor->shape[i] = i < shape.ndim ? shape.dims[i] : 1;
}

aq_status aq_tensor_new(aq_backend *home, aq_dtype dtype, aq_shape shape, aq_tensor *tensor) {
    *tensor = (aq_tensor){0};
    size_t bytes;
    AQ_REQUIRE(shape_bytes(shape, dtype, &bytes), AQ_INVALID,
               "a tensor of %d dimensions starting with %zu has no valid size", shape.ndim,
               shape.dims[0]);
    void *data;
    AQ_TRY(home->ops->allocate(home, bytes, &data));
    *tensor = (aq_tensor){.home = home, .data = data, .dtype = dtype, .owned = true};
    set_shape(tensor, shape);
    return AQ_OK;
}

aq_status aq_tensor_zeros(aq_backend *home, aq_dtype dtype, aq_shape shape, aq_tensor *tensor) {
    AQ_TRY(aq_tensor_new(home, dtype, shape, tensor));
    aq_status status = home->ops->zero(home, tensor->data, aq_tensor_bytes(tensor));
    if (status != AQ_OK) aq_tensor_free(tensor);
    return status;
}

void aq_tensor_free(aq_tensor *tensor) {
    if (tensor->owned) tensor->home->ops->release(tensor->home, tensor->data);
    *tensor = (aq_tensor){0};
}

size_t aq_tensor_count(const aq_tensor *tensor) {
    if (!tensor->data) return 0;
    size_t count = 1;
    for (int i = 0; i < tensor->ndim; i++) count *= tensor->shape[i];
    return count;
}

size_t aq_tensor_bytes(const aq_tensor *tensor) {
    return aq_tensor_count(tensor) * aq_dtype_size(tensor->dtype);
}

aq_tensor aq_tensor_rows(const aq_tensor *tensor, size_t first, size_t count) {
    assert(first + count <= tensor->shape[0] && count > 0);
    aq_tensor view = *tensor;
    size_t row_bytes = aq_tensor_bytes(tensor) / tensor->shape[0];
    view.data = (char *)tensor->data + first * row_bytes;
    view.shape[0] = count;
    view.owned = false;
    return view;
}

aq_tensor aq_tensor_seen_from(aq_backend *backend, const aq_tensor *tensor) {
    aq_tensor view = *tensor;
    view.home = backend;
    view.owned = false;
    return view;
}

aq_tensor aq_tensor_reshape(const aq_tensor *tensor, aq_shape shape) {
    aq_tensor view = *tensor;
    set_shape(&view, shape);
    view.owned = false;
    assert(aq_tensor_count(&view) == aq_tensor_count(tensor));
    return view;
}

aq_status aq_tensor_upload(aq_tensor *tensor, const void *host, size_t bytes) {
    AQ_REQUIRE(bytes == aq_tensor_bytes(tensor), AQ_SHAPE,
               "upload of %zu bytes into a tensor of %zu", bytes, aq_tensor_bytes(tensor));
    AQ_TRY(tensor->home->ops->upload(tensor->home, tensor->data, host, bytes));
    return tensor->home->ops->finish(tensor->home);
}

aq_status aq_tensor_download(const aq_tensor *tensor, void *host, size_t bytes) {
    AQ_REQUIRE(bytes == aq_tensor_bytes(tensor), AQ_SHAPE,
               "download of %zu bytes from a tensor of %zu", bytes, aq_tensor_bytes(tensor));
    AQ_TRY(tensor->home->ops->download(tensor->home, tensor->data, host, bytes));
    return tensor->home->ops->finish(tensor->home);
}

aq_status aq_tensor_upload_queued(aq_tensor *tensor, const void *host) {
    return tensor->home->ops->upload(tensor->home, tensor->data, host, aq_tensor_bytes(tensor));
}

aq_status aq_tensor_upload_ahead(aq_tensor *tensor, const void *host) {
    return tensor->home->ops->upload_ahead(tensor->home, tensor->data, host,
                                           aq_tensor_bytes(tensor));
}

aq_status aq_tensor_download_queued(const aq_tensor *tensor, void *host) {
    return tensor->home->ops->download(tensor->home, tensor->data, host, aq_tensor_bytes(tensor));
}

aq_status aq_tensor_copy(const aq_tensor *source, aq_tensor *target) {
    AQ_REQUIRE(source->home == target->home && aq_tensor_bytes(source) == aq_tensor_bytes(target),
               AQ_SHAPE, "copy of %zu bytes to a tensor of %zu", aq_tensor_bytes(source),
               aq_tensor_bytes(target));
    return source->home->ops->copy(source->home, source->data, target->data,
                                   aq_tensor_bytes(source));
}
