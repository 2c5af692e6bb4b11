#include "store/state_file.h"

#include "base/digest.h"
#include "store/layout.h"

#include <stdlib.h>
#include <string.h>

#define STATE_FORMAT "aqlm-mpi state"

/* ---- the head ---- */

static aq_status write_head(const aq_h5 *file, const aq_state_facts *facts, const char *part,
                            const aq_scheme *scheme) {
    AQ_TRY(aq_layout_write_head(file, STATE_FORMAT, scheme));
    AQ_TRY(aq_h5_write_text(file, "/", "fingerprint", facts->fingerprint));
    AQ_TRY(aq_h5_write_text(file, "/", "part", part));
    return aq_h5_write_long(file, "/", "index", (long)facts->block);
}

static aq_status expect_text(const aq_h5 *file, const char *key, const char *expected) {
    char *text;
    AQ_TRY(aq_h5_read_text(file, "/", key, &text));
    aq_status status = AQ_OK;
    if (strcmp(text, expected) != 0)
        status =
            AQ_FAIL(AQ_FORMAT, "%s: %s is %.64s, expected %.64s", file->path, key, text, expected);
    free(text);
    return status;
}

static aq_status check_head(const aq_h5 *file, const aq_state_facts *facts, const char *part,
                            const aq_scheme *scheme) {
    aq_scheme stored;
    long index;
    AQ_TRY(aq_layout_read_head(file, STATE_FORMAT, &stored));
    AQ_TRY(expect_text(file, "fingerprint", facts->fingerprint));
    AQ_TRY(expect_text(file, "part", part));
    AQ_TRY(aq_h5_read_long(file, "/", "index", &index));
    AQ_REQUIRE(index >= 0 && (size_t)index == facts->block, AQ_FORMAT,
               "%s: of block %ld, expected block %zu", file->path, index, facts->block);
    AQ_REQUIRE(memcmp(&stored, scheme, sizeof stored) == 0, AQ_SHAPE, "%s: of another scheme",
               file->path);
    return AQ_OK;
}

static aq_shape shape_of(const aq_tensor *tensor) {
    aq_shape shape = {.ndim = tensor->ndim};
    for (int i = 0; i < tensor->ndim; i++) shape.dims[i] = tensor->shape[i];
    return shape;
}

static aq_status write_tensor(const aq_h5 *file, const char *name, const aq_tensor *tensor) {
    void *host = malloc(aq_tensor_bytes(tensor));
    AQ_REQUIRE(host, AQ_MEMORY, "out of memory");
    aq_status status = aq_tensor_download(tensor, host, aq_tensor_bytes(tensor));
    if (status == AQ_OK) status = aq_h5_write(file, name, tensor->dtype, shape_of(tensor), host);
    free(host);
    return status;
}

static aq_status read_tensor(const aq_h5 *file, const char *name, aq_tensor *tensor) {
    void *host = malloc(aq_tensor_bytes(tensor));
    AQ_REQUIRE(host, AQ_MEMORY, "out of memory");
    aq_status status = aq_h5_read(file, name, tensor->dtype, shape_of(tensor), host);
    if (status == AQ_OK) status = aq_tensor_upload(tensor, host, aq_tensor_bytes(tensor));
    free(host);
    return status;
}

/* What is read is used as it is: without a digest it counts for nothing. */
static aq_status open_state(const char *path, aq_h5 *file) {
    bool known;
    AQ_TRY(aq_digest_verify(path, NULL, &known));
    AQ_REQUIRE(known, AQ_FORMAT, "%s: no digest stands beside it", path);
    return aq_h5_open(path, file);
}

static aq_status finish(aq_h5 *file, aq_status written) {
    if (written == AQ_OK) return aq_h5_commit(file);
    aq_h5_close(file);
    return written;
}

/* ---- a layer ---- */

static aq_status write_layer(const aq_h5 *file, const aq_state_facts *facts,
                             const aq_layer_state *layer) {
    AQ_TRY(write_head(file, facts, layer->name, &layer->coded.scheme));
    AQ_TRY(aq_h5_write_double(file, "/", "error", layer->error));
    AQ_TRY(write_tensor(file, "codes", &layer->coded.codes));
    AQ_TRY(write_tensor(file, "codebooks", &layer->coded.codebooks));
    return write_tensor(file, "scales", &layer->coded.scales);
}

aq_status aq_layer_state_write(const char *path, const aq_state_facts *facts,
                               const aq_layer_state *layer) {
    aq_h5 file;
    AQ_TRY(aq_h5_create(path, &file));
    return finish(&file, write_layer(&file, facts, layer));
}

static aq_status read_layer(const aq_h5 *file, const aq_state_facts *facts, aq_layer_state *layer) {
    AQ_TRY(check_head(file, facts, layer->name, &layer->coded.scheme));
    AQ_TRY(aq_h5_read_double(file, "/", "error", &layer->error));
    AQ_TRY(read_tensor(file, "codes", &layer->coded.codes));
    AQ_TRY(read_tensor(file, "codebooks", &layer->coded.codebooks));
    return read_tensor(file, "scales", &layer->coded.scales);
}

aq_status aq_layer_state_read(const char *path, const aq_state_facts *facts,
                              const aq_linear_shape *shape, const aq_scheme *scheme,
                              aq_backend *backend, aq_layer_state *layer) {
    aq_h5 file;
    layer->coded = (aq_coded){0};
    AQ_TRY(open_state(path, &file));
    aq_status status = aq_coded_new(backend, scheme, shape->out, shape->in, &layer->coded);
    if (status == AQ_OK) status = read_layer(&file, facts, layer);
    if (status != AQ_OK) aq_coded_free(&layer->coded);
    aq_h5_close(&file);
    return status;
}
