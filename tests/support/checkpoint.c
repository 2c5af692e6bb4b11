#include "checkpoint.h"

#include "base/file.h"
#include "base/half.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_TEXT = 16384 };

size_t aq_test_piece_count(const aq_test_tensor_spec *tensor) {
    return tensor->rows * (tensor->columns ? tensor->columns : 1);
}

float aq_test_piece_value(const aq_test_tensor_spec *tensor, size_t index) {
    size_t salt = strlen(tensor->name) + tensor->rows;
    return (float)((index * 7 + salt * 3) % 64) / 8 - 4;
}

void aq_test_piece_add(aq_test_checkpoint *written, const char *name, size_t rows, size_t columns) {
    aq_test_tensor_spec *tensor = &written->pieces[written->count++];
    CU_ASSERT_TRUE_FATAL(written->count <= AQ_TEST_MOST_TENSORS);
    *tensor = (aq_test_tensor_spec){.rows = rows, .columns = columns};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
}

aq_test_checkpoint aq_test_model(const char *config, const char *dtype) {
    aq_test_checkpoint written = {.config = config, .dtype = dtype};
    aq_model_shape shape;
    char name[AQ_NAME_SIZE];
    AQ_CHECK(aq_model_shape_parse(config, strlen(config), &shape));
    aq_test_piece_add(&written, AQ_EMBEDDING_NAME, shape.vocab, shape.hidden);
    aq_test_piece_add(&written, AQ_FINAL_NORM_NAME, shape.hidden, 0);
    if (!shape.tied_embeddings)
        aq_test_piece_add(&written, AQ_HEAD_NAME, shape.vocab, shape.hidden);
    for (size_t block = 0; block < shape.blocks; block++) {
        for (int norm = 0; norm < AQ_NORM_COUNT; norm++) {
            aq_norm_name(block, (aq_norm_kind)norm, name);
            aq_test_piece_add(&written, name, shape.hidden, 0);
        }
        for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++) {
            aq_linear_name(&shape, block, (aq_linear_kind)linear, ".weight", name);
            aq_test_piece_add(&written, name, shape.linears[linear].out, shape.linears[linear].in);
            aq_linear_name(&shape, block, (aq_linear_kind)linear, ".bias", name);
            if (shape.linears[linear].bias)
                aq_test_piece_add(&written, name, shape.linears[linear].out, 0);
        }
    }
    return written;
}

aq_test_tensor_spec *aq_test_piece_find(aq_test_checkpoint *written, const char *name) {
    for (int i = 0; i < written->count; i++)
        if (strcmp(written->pieces[i].name, name) == 0) return &written->pieces[i];
    CU_FAIL_FATAL("no such tensor");
    return NULL;
}

void aq_test_piece_remove(aq_test_checkpoint *written, const char *name) {
    *aq_test_piece_find(written, name) = written->pieces[--written->count];
}

static size_t store_value(const char *dtype, float value, char *target) {
    if (strcmp(dtype, "F32") == 0) {
        memcpy(target, &value, sizeof value);
        return sizeof value;
    }
    bool half = strcmp(dtype, "F16") == 0;
    uint16_t bits = half ? aq_half_from_float(value) : aq_bfloat_from_float(value);
    memcpy(target, &bits, sizeof bits);
    return sizeof bits;
}

void aq_test_write_file(const char *folder, const char *name, const void *bytes, size_t size) {
    char *path;
    AQ_CHECK(aq_file_join(folder, name, &path));
    AQ_CHECK(aq_file_replace(path, bytes, size));
    free(path);
}

/* A safetensors file as it grows. */
typedef struct image {
    char header[MOST_TEXT], data[MOST_TEXT];
    size_t header_size, data_size;
} image;

static void append_tensor(const aq_test_tensor_spec *tensor, const char *dtype, image *file) {
    char columns[24] = "";
    size_t begin = file->data_size;
    CU_ASSERT_TRUE_FATAL(begin + 4 * aq_test_piece_count(tensor) <= MOST_TEXT);
    for (size_t i = 0; i < aq_test_piece_count(tensor); i++)
        file->data_size +=
            store_value(dtype, aq_test_piece_value(tensor, i), file->data + file->data_size);
    if (tensor->columns) snprintf(columns, sizeof columns, ", %zu", tensor->columns);
    file->header_size += (size_t)snprintf(
        file->header + file->header_size, MOST_TEXT - file->header_size,
        "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%zu%s], \"data_offsets\": [%zu, %zu]}",
        begin ? ", " : "{", tensor->name, dtype, tensor->rows, columns, begin, file->data_size);
    CU_ASSERT_TRUE_FATAL(file->header_size < MOST_TEXT - 8);
}

/* Writes the pieces of one shard; the header's odd length makes all of them unaligned. */
static void write_tensors(const aq_test_checkpoint *written, const char *folder, const char *name,
                          int shard) {
    static char bytes[8 + 2 * MOST_TEXT];
    image file = {.header_size = 0};
    for (int i = 0; i < written->count; i++)
        if (written->pieces[i].shard == shard)
            append_tensor(&written->pieces[i], written->dtype, &file);
    const char *end = file.header_size % 2 ? " }" : "}";
    memcpy(file.header + file.header_size, end, strlen(end));
    file.header_size += strlen(end);
    for (int i = 0; i < 8; i++) bytes[i] = (char)(file.header_size >> (8 * i));
    memcpy(bytes + 8, file.header, file.header_size);
    memcpy(bytes + 8 + file.header_size, file.data, file.data_size);
    aq_test_write_file(folder, name, bytes, 8 + file.header_size + file.data_size);
}

const char *aq_test_model_folder(void) {
    static char folder[512];
    static int number;
    snprintf(folder, sizeof folder, "%s/model-%d", aq_test_folder(), number++);
    CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
    return folder;
}

const char *aq_test_write_single(const aq_test_checkpoint *written) {
    const char *folder = aq_test_model_folder();
    aq_test_write_file(folder, "config.json", written->config, strlen(written->config));
    write_tensors(written, folder, "model.safetensors", 0);
    return folder;
}

const char *aq_test_write_shards(aq_test_checkpoint *written) {
    static const char *const names[] = {"part-a.safetensors", "part-b.safetensors",
                                        "part-c.safetensors"};
    static char index[MOST_TEXT];
    const char *folder = aq_test_model_folder();
    size_t used = (size_t)snprintf(index, sizeof index, "{\"weight_map\": {");
    for (int i = 0; i < written->count; i++) {
        written->pieces[i].shard = i % 3;
        used += (size_t)snprintf(index + used, sizeof index - used, "%s\"%s\": \"%s\"",
                                 i ? ", " : "", written->pieces[i].name, names[i % 3]);
    }
    used += (size_t)snprintf(index + used, sizeof index - used, "}}");
    aq_test_write_file(folder, "config.json", written->config, strlen(written->config));
    aq_test_write_file(folder, "model.safetensors.index.json", index, used);
    for (int shard = 0; shard < 3; shard++) write_tensors(written, folder, names[shard], shard);
    return folder;
}
