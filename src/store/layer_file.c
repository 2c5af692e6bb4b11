#include "store/layer_file.h"

#include "store/h5.h"

#include <stdlib.h>

static aq_status look_at_matrix(const aq_h5 *file, const char *name, aq_dtype *dtype,
                                aq_shape *shape) {
    AQ_TRY(aq_h5_look(file, name, dtype, shape));
    AQ_REQUIRE(*dtype == AQ_F16 || *dtype == AQ_F32 || *dtype == AQ_F64, AQ_FORMAT,
               "%s: dataset %s is %s, expected float16, float32 or float64", file->path, name,
               aq_dtype_name(*dtype));
    AQ_REQUIRE(shape->ndim == 2, AQ_SHAPE, "%s: dataset %s has %d dimensions, expected 2",
               file->path, name, shape->ndim);
    return AQ_OK;
}

/* A header of a few bytes can claim any shape: believe it only as far as memory goes. */
static aq_status check_room(const aq_h5 *file, const char *name, aq_shape shape,
                            aq_backend *backend) {
    size_t bytes, free_bytes, total_bytes;
    AQ_TRY(aq_backend_memory(backend, &free_bytes, &total_bytes));
    bool overflow = __builtin_mul_overflow(shape.dims[0], shape.dims[1], &bytes) ||
                    __builtin_mul_overflow(bytes, sizeof(double) + sizeof(float), &bytes);
    AQ_REQUIRE(!overflow && bytes <= free_bytes, AQ_MEMORY,
               "%s: dataset %s is %zu x %zu, more than %zu bytes of free memory hold", file->path,
               name, shape.dims[0], shape.dims[1], free_bytes);
    return AQ_OK;
}

/* The values under their own type. */
static aq_status read_values(const aq_h5 *file, const char *name, aq_shape shape,
                             aq_tensor *values) {
    size_t bytes = aq_tensor_bytes(values);
    void *host = malloc(bytes);
    AQ_REQUIRE(host, AQ_MEMORY, "%s: no memory for the %zu bytes of dataset %s", file->path, bytes,
               name);
    aq_status status = aq_h5_read(file, name, values->dtype, shape, host);
    if (status == AQ_OK) status = aq_tensor_upload(values, host, bytes);
    free(host);
    return status;
}

static aq_status read_matrix(const aq_h5 *file, const char *name, aq_backend *backend,
                             aq_tensor *matrix) {
    aq_dtype dtype;
    aq_shape shape;
    AQ_TRY(look_at_matrix(file, name, &dtype, &shape));
    AQ_TRY(check_room(file, name, shape, backend));
    aq_tensor values = {0};
    size_t unfit;
    aq_status status;
    AQ_STEP(aq_tensor_new(backend, dtype, shape, &values));
    AQ_STEP(read_values(file, name, shape, &values));
    AQ_STEP(aq_tensor_new(backend, AQ_F32, shape, matrix));
    AQ_STEP(aq_convert(&values, 1, matrix));
    AQ_STEP(aq_count_nonfinite(matrix, &unfit));
    AQ_NEED(unfit == 0, AQ_NUMERIC,
            "%s: dataset %s has %zu values that are NaN, infinite or past float32's range",
            file->path, name, unfit);
done:
    aq_tensor_free(&values);
    return status;
}

static aq_status read_layer(const aq_h5 *file, aq_backend *backend, aq_tensor *weight,
                            aq_tensor *gram) {
    AQ_TRY(read_matrix(file, "weight", backend, weight));
    AQ_TRY(read_matrix(file, "gram", backend, gram));
    size_t in = weight->shape[1];
    AQ_REQUIRE(gram->shape[0] == in && gram->shape[1] == in, AQ_SHAPE,
               "%s: dataset gram is %zu x %zu, expected %zu x %zu for a weight of %zu x %zu",
               file->path, gram->shape[0], gram->shape[1], in, in, weight->shape[0], in);
    return AQ_OK;
}

aq_status aq_layer_file_read(const char *path, aq_backend *backend, aq_tensor *weight,
                             aq_tensor *gram) {
    aq_h5 file;
    *weight = *gram = (aq_tensor){0};
    AQ_TRY(aq_h5_open(path, &file));
    aq_status status = read_layer(&file, backend, weight, gram);
    aq_h5_close(&file);
    if (status != AQ_OK) {
        aq_tensor_free(weight);
        aq_tensor_free(gram);
    }
    return status;
}
