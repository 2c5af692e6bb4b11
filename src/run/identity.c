#include "run/identity.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_BYTES = 4096, SAMPLES = 3 };

/* Pieces from the start, the middle and the end: two models of one shape differ somewhere there,
 * and most of the file stays unread. */
static uint64_t hash_samples(uint64_t hash, const aq_stored *stored) {
    const char *bytes = stored->bytes;
    size_t size = stored->size < SAMPLE_BYTES ? stored->size : SAMPLE_BYTES;
    for (size_t i = 0; i < SAMPLES; i++)
        hash = aq_hash_bytes(hash, bytes + (stored->size - size) / (SAMPLES - 1) * i, size);
    return hash;
}

static aq_status hash_tensor(aq_source *source, const char *name, uint64_t *hash) {
    aq_stored stored;
    AQ_TRY(source->find(source, name, &stored));
    *hash = aq_hash_bytes(*hash, name, strlen(name));
    *hash = aq_hash_bytes(*hash, aq_dtype_name(stored.dtype), strlen(aq_dtype_name(stored.dtype)));
    *hash = aq_hash_bytes(*hash, stored.shape.dims,
                          (size_t)stored.shape.ndim * sizeof *stored.shape.dims);
    *hash = hash_samples(*hash, &stored);
    return AQ_OK;
}

static aq_status hash_block(aq_source *source, size_t block, uint64_t *hash) {
    char name[AQ_NAME_SIZE];
    for (int n = 0; n < AQ_NORM_COUNT; n++) {
        aq_norm_name(block, (aq_norm_kind)n, name);
        AQ_TRY(hash_tensor(source, name, hash));
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        aq_linear_name(&source->shape, block, (aq_linear_kind)l, ".weight", name);
        AQ_TRY(hash_tensor(source, name, hash));
        if (!source->shape.linears[l].bias) continue;
        aq_linear_name(&source->shape, block, (aq_linear_kind)l, ".bias", name);
        AQ_TRY(hash_tensor(source, name, hash));
    }
    return AQ_OK;
}

static aq_status hash_model(aq_source *source, uint64_t *hash) {
    char *config;
    size_t size;
    AQ_TRY(source->read_file(source, "config.json", &config, &size));
    *hash = aq_hash_bytes(AQ_HASH_START, config, size);
    free(config);
    AQ_TRY(hash_tensor(source, AQ_EMBEDDING_NAME, hash));
    AQ_TRY(hash_tensor(source, AQ_FINAL_NORM_NAME, hash));
    if (!source->shape.tied_embeddings) AQ_TRY(hash_tensor(source, AQ_HEAD_NAME, hash));
    for (size_t block = 0; block < source->shape.blocks; block++)
        AQ_TRY(hash_block(source, block, hash));
    return AQ_OK;
}

aq_status aq_identity_write(aq_source *source, const aq_tokens *tokens, const char *backend,
                            char *text) {
    uint64_t model;
    AQ_TRY(hash_model(source, &model));
    snprintf(text, AQ_IDENTITY_SIZE,
             "model %016" PRIx64 "\ncalibration.tokens %016" PRIx64 "\nrun.backend %s\n", model,
             aq_tokens_hash(tokens), backend);
    return AQ_OK;
}

/* The value of the line "key value", at most 31 characters; "" if there is none. */
static const char *value_of(const char *text, const char *key, char value[32]) {
    const char *line = strstr(text, key);
    if (!line || sscanf(line + strlen(key), " %31s", value) != 1) value[0] = 0;
    return value;
}

aq_status aq_identity_same(const char *where, const char *old_text, const char *new_text) {
    static const char *const keys[] = {"model", "calibration.tokens", "run.backend"};
    char old_value[32], new_value[32];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        AQ_REQUIRE(strcmp(value_of(old_text, keys[i], old_value),
                          value_of(new_text, keys[i], new_value)) == 0,
                   AQ_INVALID, "%s: the run was made with another %s (%s; now %s)", where, keys[i],
                   old_value, new_value);
    return AQ_OK;
}
