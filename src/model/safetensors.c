#include "model/safetensors.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/* The limit of the reference implementation. */
enum { LENGTH_SIZE = 8, MOST_HEADER = 100 * 1000 * 1000 };

static const struct {
    const char *name;
    size_t size;
} types[] = {
#define TYPE_ROW(name, size) {#name, size},
    AQ_SAFETENSOR_TYPES(TYPE_ROW)
#undef TYPE_ROW
};

const char *aq_safetensor_type_name(aq_safetensor_type type) {
    return types[type].name;
}

static aq_status parse_type(const json_t *entry, aq_safetensor_type *type) {
    const char *name;
    AQ_TRY(aq_json_text(entry, "dtype", &name));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0) {
            *type = (aq_safetensor_type)i;
            return AQ_OK;
        }
    return AQ_FAIL(AQ_FORMAT, "unknown dtype %s", name);
}

/* An entry of an array as a size; -1 comes out for anything but an integer from 0. */
static json_int_t size_at(const json_t *array, size_t index) {
    const json_t *value = json_array_get(array, index);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value)
                                                                    : -1;
}

static aq_status parse_shape(const json_t *entry, aq_safetensor *tensor) {
    const json_t *shape;
    AQ_TRY(aq_json_array(entry, "shape", &shape));
    AQ_REQUIRE(json_array_size(shape) <= AQ_SAFETENSOR_DIMS, AQ_FORMAT,
               "%zu dimensions, expected at most %d", json_array_size(shape), AQ_SAFETENSOR_DIMS);
    tensor->ndim = (int)json_array_size(shape);
    tensor->size = types[tensor->type].size;
    for (int i = 0; i < tensor->ndim; i++) {
        json_int_t dim = size_at(shape, (size_t)i);
        if (dim < 0) return aq_json_unexpected("shape", "integers from 0", shape);
        tensor->dims[i] = (size_t)dim;
        AQ_REQUIRE(!__builtin_mul_overflow(tensor->size, tensor->dims[i], &tensor->size), AQ_FORMAT,
                   "the product of the shape's sizes overflows");
    }
    return AQ_OK;
}

/* `tensor->size` is what the shape asks for; the offsets must agree with it and with the file. */
static aq_status parse_offsets(const json_t *entry, const unsigned char *data, size_t data_size,
                               aq_safetensor *tensor) {
    const json_t *offsets;
    AQ_TRY(aq_json_array(entry, "data_offsets", &offsets));
    json_int_t begin = size_at(offsets, 0), end = size_at(offsets, 1);
    if (json_array_size(offsets) != 2 || begin < 0 || end < begin)
        return aq_json_unexpected("data_offsets", "[begin, end]", offsets);
    AQ_REQUIRE((size_t)end <= data_size, AQ_FORMAT,
               "data_offsets end at %lld, the file holds %zu bytes of data", (long long)end,
               data_size);
    AQ_REQUIRE((size_t)(end - begin) == tensor->size, AQ_FORMAT,
               "data_offsets span %lld bytes, its shape and dtype need %zu",
               (long long)(end - begin), tensor->size);
    tensor->bytes = data + begin;
    return AQ_OK;
}

static aq_status parse_tensor(const json_t *entry, const unsigned char *data, size_t data_size,
                              aq_safetensor *tensor) {
    AQ_REQUIRE(json_is_object(entry), AQ_FORMAT, "expected an object");
    AQ_TRY(parse_type(entry, &tensor->type));
    AQ_TRY(parse_shape(entry, tensor));
    return parse_offsets(entry, data, data_size, tensor);
}

static int by_place(const void *left, const void *right) {
    const aq_safetensor *a = left, *b = right;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
    return (a->size > b->size) - (a->size < b->size);
}

static int by_name(const void *left, const void *right) {
    const aq_safetensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static aq_status check_overlap(aq_safetensors *file) {
    qsort(file->tensors, file->count, sizeof *file->tensors, by_place);
    for (size_t i = 1; i < file->count; i++) {
        const aq_safetensor *before = &file->tensors[i - 1], *tensor = &file->tensors[i];
        AQ_REQUIRE(before->bytes + before->size <= tensor->bytes, AQ_FORMAT,
                   "tensors %.120s and %.120s overlap", before->name, tensor->name);
    }
    return AQ_OK;
}

static aq_status parse_tensors(json_t *header, const unsigned char *data, size_t data_size,
                               aq_safetensors *file) {
    const char *name;
    json_t *entry;
    file->tensors = calloc(json_object_size(header) + 1, sizeof *file->tensors);
    AQ_REQUIRE(file->tensors, AQ_MEMORY, "no memory for the header");
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        aq_safetensor *tensor = &file->tensors[file->count++];
        tensor->name = strdup(name);
        AQ_REQUIRE(tensor->name, AQ_MEMORY, "no memory for the header");
        aq_status status = parse_tensor(entry, data, data_size, tensor);
        if (status != AQ_OK) return aq_error_at(AQ_FORMAT, "tensor %.120s", name);
    }
    AQ_TRY(check_overlap(file));
    qsort(file->tensors, file->count, sizeof *file->tensors, by_name);
    return AQ_OK;
}

static aq_status header_length(const unsigned char *bytes, size_t size, size_t *length) {
    AQ_REQUIRE(size >= LENGTH_SIZE, AQ_FORMAT,
               "not a safetensors file: %zu bytes, the header's length alone takes 8", size);
    *length = 0;
    for (int i = LENGTH_SIZE - 1; i >= 0; i--) *length = *length << 8 | bytes[i];
    AQ_REQUIRE(*length <= size - LENGTH_SIZE, AQ_FORMAT,
               "not a safetensors file, or truncated: its header takes %zu bytes, %zu are there",
               *length, size - LENGTH_SIZE);
    AQ_REQUIRE(*length <= MOST_HEADER, AQ_FORMAT, "the header takes %zu bytes, expected at most %d",
               *length, MOST_HEADER);
    return AQ_OK;
}

aq_status aq_safetensors_parse(const void *bytes, size_t size, aq_safetensors *file) {
    const unsigned char *start = bytes;
    json_t *header;
    size_t length = 0;
    *file = (aq_safetensors){0};
    AQ_TRY(header_length(start, size, &length));
    aq_status status = aq_json_load((const char *)start + LENGTH_SIZE, length, &header);
    if (status != AQ_OK) return aq_error_at(status, "safetensors header");
    size_t data = LENGTH_SIZE + length;
    status = parse_tensors(header, start + data, size - data, file);
    json_decref(header);
    if (status != AQ_OK) aq_safetensors_close(file);
    return status;
}

aq_status aq_safetensors_open(const char *path, aq_safetensors *file) {
    aq_map map;
    *file = (aq_safetensors){0};
    AQ_TRY(aq_file_map(path, &map));
    aq_status status = aq_safetensors_parse(map.bytes, map.size, file);
    if (status == AQ_OK) {
        file->map = map;
        return AQ_OK;
    }
    aq_file_unmap(&map);
    return aq_error_at(status, "%s", path);
}

void aq_safetensors_close(aq_safetensors *file) {
    for (size_t i = 0; i < file->count; i++) free(file->tensors[i].name);
    free(file->tensors);
    aq_file_unmap(&file->map);
    *file = (aq_safetensors){0};
}

const aq_safetensor *aq_safetensors_find(const aq_safetensors *file, const char *name) {
    size_t first = 0, end = file->count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        int order = strcmp(name, file->tensors[middle].name);
        if (order == 0) return &file->tensors[middle];
        if (order < 0)
            end = middle;
        else
            first = middle + 1;
    }
    return NULL;
}

aq_status aq_safetensor_weights(const aq_safetensor *tensor, aq_stored *stored) {
    bool known = true;
    *stored = (aq_stored){.bytes = tensor->bytes, .size = tensor->size};
    if (tensor->type == AQ_SAFETENSOR_F32)
        stored->dtype = AQ_F32;
    else if (tensor->type == AQ_SAFETENSOR_F16)
        stored->dtype = AQ_F16;
    else if (tensor->type == AQ_SAFETENSOR_BF16)
        stored->dtype = AQ_BF16;
    else
        known = false;
    AQ_REQUIRE(known, AQ_SHAPE, "tensor %.120s: dtype %s, expected F32, F16 or BF16", tensor->name,
               types[tensor->type].name);
    AQ_REQUIRE(tensor->ndim >= 1 && tensor->ndim <= AQ_MAX_DIMS, AQ_SHAPE,
               "tensor %.120s: %d dimensions, expected 1 to %d", tensor->name, tensor->ndim,
               AQ_MAX_DIMS);
    stored->shape.ndim = tensor->ndim;
    for (int i = 0; i < tensor->ndim; i++) stored->shape.dims[i] = tensor->dims[i];
    return AQ_OK;
}
