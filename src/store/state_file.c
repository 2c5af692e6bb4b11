#include "store/state_file.h"

#include "base/digest.h"
#include "store/layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATE_FORMAT "aqlm-mpi state"

enum { PATH_SIZE = 64, PARTS = 4 };

/* ---- what both kinds have ---- */

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

/* ---- tuning ---- */

static aq_tensor *part_of(const aq_parameter *parameter, int part, const char **name) {
    static const char *const names[PARTS] = {"value", "best", "first_moment", "second_moment"};
    const aq_tensor *tensors[PARTS] = {&parameter->value, &parameter->kept,
                                       &parameter->moments.first, &parameter->moments.second};
    *name = names[part];
    return (aq_tensor *)tensors[part];
}

static aq_tensor *entry_of(const aq_parameters *parameters, int entry, char path[PATH_SIZE]) {
    const char *part;
    aq_tensor *tensor = part_of(&parameters->list[entry / PARTS], entry % PARTS, &part);
    snprintf(path, PATH_SIZE, "parameters/%d/%s", entry / PARTS, part);
    return tensor;
}

static aq_status write_numbers(const aq_h5 *file, const aq_tune_state *state) {
    AQ_TRY(aq_h5_write_long(file, "/", "epochs", state->epochs));
    AQ_TRY(aq_h5_write_long(file, "/", "best_epoch", state->best_epoch));
    AQ_TRY(aq_h5_write_long(file, "/", "retries", state->retries));
    AQ_TRY(aq_h5_write_long(file, "/", "step", state->step));
    AQ_TRY(aq_h5_write_double(file, "/", "learning_rate", state->learning_rate));
    AQ_TRY(aq_h5_write_double(file, "/", "start_error", state->start_error));
    AQ_TRY(aq_h5_write_double(file, "/", "best_error", state->best_error));
    return aq_h5_write_double(file, "/", "target_square", state->target_square);
}

static aq_status write_tuning(const aq_h5 *file, const aq_state_facts *facts,
                              const aq_parameters *parameters, const aq_tune_state *state) {
    char path[PATH_SIZE];
    AQ_TRY(write_head(file, facts, "tuning", &parameters->coded->linears[0].scheme));
    AQ_TRY(write_numbers(file, state));
    for (int i = 0; i < parameters->count * PARTS; i++) {
        const aq_tensor *tensor = entry_of(parameters, i, path);
        AQ_TRY(write_tensor(file, path, tensor));
    }
    return AQ_OK;
}

aq_status aq_tuning_state_write(const char *path, const aq_state_facts *facts,
                                const aq_parameters *parameters, const aq_tune_state *state) {
    aq_h5 file;
    AQ_TRY(aq_h5_create(path, &file));
    return finish(&file, write_tuning(&file, facts, parameters, state));
}

static aq_status read_count(const aq_h5 *file, const char *key, int *value) {
    long number;
    AQ_TRY(aq_h5_read_long(file, "/", key, &number));
    AQ_REQUIRE(number >= 0 && number <= INT32_MAX, AQ_FORMAT, "%s: %s is %ld", file->path, key,
               number);
    *value = (int)number;
    return AQ_OK;
}

static aq_status read_positive(const aq_h5 *file, const char *key, double *value) {
    AQ_TRY(aq_h5_read_double(file, "/", key, value));
    AQ_REQUIRE(isfinite(*value) && *value >= 0, AQ_FORMAT, "%s: %s is %g", file->path, key, *value);
    return AQ_OK;
}

static aq_status read_numbers(const aq_h5 *file, aq_tune_state *state) {
    AQ_TRY(read_count(file, "epochs", &state->epochs));
    AQ_TRY(read_count(file, "best_epoch", &state->best_epoch));
    AQ_TRY(read_count(file, "retries", &state->retries));
    AQ_TRY(read_count(file, "step", &state->step));
    AQ_TRY(read_positive(file, "learning_rate", &state->learning_rate));
    AQ_TRY(read_positive(file, "start_error", &state->start_error));
    AQ_TRY(read_positive(file, "best_error", &state->best_error));
    return read_positive(file, "target_square", &state->target_square);
}

/* All values in host memory, one tensor behind another. */
static size_t total_bytes(const aq_parameters *parameters) {
    char path[PATH_SIZE];
    size_t bytes = 0;
    for (int i = 0; i < parameters->count * PARTS; i++)
        bytes += aq_tensor_bytes(entry_of(parameters, i, path));
    return bytes;
}

static aq_status read_values(const aq_h5 *file, aq_parameters *parameters, char *host) {
    char path[PATH_SIZE], *at = host;
    for (int i = 0; i < parameters->count * PARTS; i++) {
        const aq_tensor *tensor = entry_of(parameters, i, path);
        AQ_TRY(aq_h5_read(file, path, AQ_F32, shape_of(tensor), at));
        at += aq_tensor_bytes(tensor);
    }
    at = host;
    for (int i = 0; i < parameters->count * PARTS; i++) {
        aq_tensor *tensor = entry_of(parameters, i, path);
        AQ_TRY(aq_tensor_upload(tensor, at, aq_tensor_bytes(tensor)));
        at += aq_tensor_bytes(tensor);
    }
    return AQ_OK;
}

static aq_status read_tuning(const aq_h5 *file, const aq_state_facts *facts,
                             aq_parameters *parameters, aq_tune_state *state) {
    aq_tune_state read;
    AQ_TRY(check_head(file, facts, "tuning", &parameters->coded->linears[0].scheme));
    AQ_TRY(read_numbers(file, &read));
    char *host = malloc(total_bytes(parameters));
    AQ_REQUIRE(host, AQ_MEMORY, "out of memory");
    aq_status status = read_values(file, parameters, host);
    free(host);
    if (status == AQ_OK) *state = read;
    return status;
}

aq_status aq_tuning_state_read(const char *path, const aq_state_facts *facts,
                               aq_parameters *parameters, aq_tune_state *state) {
    aq_h5 file;
    AQ_TRY(open_state(path, &file));
    aq_status status = read_tuning(&file, facts, parameters, state);
    aq_h5_close(&file);
    return status;
}
