#include "store/safetensors_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static aq_status no_memory(void) {
    return AQ_FAIL(AQ_MEMORY, "no memory for a safetensors header");
}

aq_status aq_safetensors_writer_new(const char *path, aq_safetensors_writer *writer) {
    *writer = (aq_safetensors_writer){
        .path = strdup(path), .header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt")};
    if (writer->path && writer->header) return AQ_OK;
    aq_safetensors_writer_close(writer);
    return no_memory();
}

void aq_safetensors_writer_close(aq_safetensors_writer *writer) {
    if (writer->file) fclose(writer->file);
    json_decref(writer->header);
    free(writer->path);
    *writer = (aq_safetensors_writer){0};
}

aq_status aq_safetensors_announce(aq_safetensors_writer *writer, const char *name,
                                  const char *dtype, aq_shape shape, size_t bytes) {
    json_t *dims = json_array();
    for (int i = 0; i < shape.ndim; i++)
        json_array_append_new(dims, json_integer((json_int_t)shape.dims[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", dims, "data_offsets",
                              (json_int_t)writer->size, (json_int_t)(writer->size + bytes));
    if (json_object_set_new(writer->header, name, entry) != 0) return no_memory();
    writer->size += bytes;
    return AQ_OK;
}

static aq_status put(aq_safetensors_writer *writer, const void *bytes, size_t size) {
    AQ_REQUIRE(fwrite(bytes, 1, size, writer->file) == size, AQ_IO, "%s: cannot be written: %s",
               writer->path, strerror(errno));
    return AQ_OK;
}

/* The header is filled up with spaces, so that the data starts at a multiple of 8. */
static aq_status put_header(aq_safetensors_writer *writer, const char *text) {
    uint64_t length = strlen(text), padded = (length + 7) / 8 * 8;
    AQ_TRY(put(writer, &padded, sizeof padded));
    AQ_TRY(put(writer, text, length));
    return put(writer, "       ", padded - length);
}

aq_status aq_safetensors_begin(aq_safetensors_writer *writer) {
    writer->file = fopen(writer->path, "wbxe");
    AQ_REQUIRE(writer->file, AQ_IO, "%s: cannot be created: %s", writer->path, strerror(errno));
    char *text = json_dumps(writer->header, JSON_COMPACT);
    if (!text) return no_memory();
    aq_status status = put_header(writer, text);
    free(text);
    return status;
}

aq_status aq_safetensors_append(aq_safetensors_writer *writer, const void *bytes, size_t size) {
    writer->written += size;
    return put(writer, bytes, size);
}

aq_status aq_safetensors_finish(aq_safetensors_writer *writer) {
    AQ_REQUIRE(writer->written == writer->size, AQ_INVALID,
               "%s: %zu bytes of tensors came, %zu were announced", writer->path, writer->written,
               writer->size);
    bool durable = fflush(writer->file) == 0 && fsync(fileno(writer->file)) == 0;
    AQ_REQUIRE(durable, AQ_IO, "%s: cannot be written: %s", writer->path, strerror(errno));
    return AQ_OK;
}
