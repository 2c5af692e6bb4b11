#include "model/folder.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_CONFIG = 1000 * 1000, MOST_FILE = 256 * 1000 * 1000 };

typedef struct folder_state {
    aq_shards *shards;
    aq_stored last; /* what `find` gave out last; its pages are given back at the next call */
} folder_state;

static void forget_last(folder_state *state) {
    if (state->last.bytes) aq_file_forget(state->last.bytes, state->last.size);
    state->last = (aq_stored){0};
}

/* A tied head is the embedding, also where the file holds a copy. */
static const char *stored_name(const aq_source *source, const char *name) {
    bool tied_head = source->shape.tied_embeddings && strcmp(name, AQ_HEAD_NAME) == 0;
    return tied_head ? AQ_EMBEDDING_NAME : name;
}

static aq_status find(aq_source *source, const char *name, aq_stored *stored) {
    folder_state *state = source->state;
    const aq_safetensor *tensor;
    AQ_TRY(aq_shards_find(state->shards, stored_name(source, name), &tensor));
    aq_status status = aq_safetensor_weights(tensor, stored);
    if (status != AQ_OK) return aq_error_at(status, "%s", source->path);
    forget_last(state);
    state->last = *stored;
    return AQ_OK;
}

static aq_status read_file(aq_source *source, const char *name, char **bytes, size_t *size) {
    char *path;
    AQ_REQUIRE(!strchr(name, '/'), AQ_INVALID, "%s: expected a file's name without a folder", name);
    AQ_TRY(aq_file_join(source->path, name, &path));
    aq_status status = aq_file_read(path, MOST_FILE, bytes, size);
    free(path);
    return status;
}

static void close_folder(aq_source *source) {
    folder_state *state = source->state;
    aq_shards_close(state->shards);
    free(state);
}

const aq_shards *aq_folder_shards(const aq_source *source) {
    return ((const folder_state *)source->state)->shards;
}

static aq_status read_config(aq_source *source) {
    char *path, *text = NULL;
    size_t size;
    AQ_TRY(aq_file_join(source->path, "config.json", &path));
    aq_status status = aq_file_read(path, MOST_CONFIG, &text, &size);
    if (status == AQ_OK) {
        status = aq_model_shape_parse(text, size, &source->shape);
        if (status != AQ_OK) aq_error_at(status, "%s", path);
    }
    free(text);
    free(path);
    return status;
}

static aq_status load(aq_source *source) {
    AQ_TRY(read_config(source));
    return aq_shards_open(source->path, &((folder_state *)source->state)->shards);
}

aq_status aq_folder_open(const char *folder, const char *kind, aq_source **source) {
    const aq_source like = {
        .kind = kind, .find = find, .read_file = read_file, .close = close_folder};
    return aq_source_new(&like, folder, sizeof(folder_state), load, source);
}
