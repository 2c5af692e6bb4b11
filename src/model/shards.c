#include "model/shards.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"

enum { MOST_INDEX = 100 * 1000 * 1000 };

typedef struct shard {
    char *name;
    aq_safetensors file;
} shard;

/* A tensor that the index lists, and where it is. */
typedef struct entry {
    const char *name; /* the safetensor's own */
    const aq_safetensor *tensor;
} entry;

struct aq_shards {
    char *folder;
    shard *files;
    size_t file_count;
    entry *entries; /* in ascending order of their names */
    size_t entry_count;
};

static aq_status check_name(const char *name) {
    AQ_REQUIRE(*name && !strchr(name, '/') && strcmp(name, "..") != 0 && strcmp(name, ".") != 0,
               AQ_FORMAT, "shard name \"%.120s\": expected a file of the same folder", name);
    return AQ_OK;
}

static aq_status add_file(aq_shards *shards, const char *name) {
    shard *file = &shards->files[shards->file_count];
    char *path;
    AQ_TRY(aq_file_join(shards->folder, name, &path));
    aq_status status = aq_safetensors_open(path, &file->file);
    free(path);
    if (status != AQ_OK) return status;
    shards->file_count++;
    file->name = strdup(name);
    AQ_REQUIRE(file->name, AQ_MEMORY, "no memory for a shard's name");
    return AQ_OK;
}

static int by_text(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Opens each file that `map` (tensor -> file) names, once, in the order of their names. */
static aq_status add_files(aq_shards *shards, json_t *map, const char **names) {
    const char *tensor;
    json_t *value;
    size_t count = 0;
    json_object_foreach(map, tensor, value) {
        const char *name = json_string_value(value);
        if (!name) return aq_json_unexpected(tensor, "the name of a shard", value);
        AQ_TRY(check_name(name));
        names[count++] = name;
    }
    qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0) AQ_TRY(add_file(shards, names[i]));
    return AQ_OK;
}

static const shard *find_file(const aq_shards *shards, const char *name) {
    for (size_t i = 0; i < shards->file_count; i++)
        if (strcmp(shards->files[i].name, name) == 0) return &shards->files[i];
    return NULL;
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const entry *)left)->name, ((const entry *)right)->name);
}

static aq_status add_entries(aq_shards *shards, json_t *map) {
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const shard *file = find_file(shards, json_string_value(value));
        const aq_safetensor *tensor = file ? aq_safetensors_find(&file->file, name) : NULL;
        AQ_REQUIRE(tensor, AQ_MISSING, "shard %.120s has no tensor %.120s, which the index lists",
                   json_string_value(value), name);
        shards->entries[shards->entry_count++] = (entry){.name = tensor->name, .tensor = tensor};
    }
    qsort(shards->entries, shards->entry_count, sizeof *shards->entries, by_name);
    return AQ_OK;
}

static aq_status read_map(aq_shards *shards, json_t *map) {
    size_t count = json_object_size(map);
    const char **names = calloc(count + 1, sizeof *names);
    shards->files = calloc(count + 1, sizeof *shards->files);
    shards->entries = calloc(count + 1, sizeof *shards->entries);
    bool allocated = names && shards->files && shards->entries;
    aq_status status = allocated ? add_files(shards, map, names)
                                 : AQ_FAIL(AQ_MEMORY, "no memory for %zu tensors", count);
    free(names);
    return status == AQ_OK ? add_entries(shards, map) : status;
}

static aq_status parse_index(aq_shards *shards, const char *text, size_t size) {
    const json_t *map;
    json_t *index;
    AQ_TRY(aq_json_load(text, size, &index));
    aq_status status = aq_json_object(index, "weight_map", &map);
    if (status == AQ_OK) status = read_map(shards, json_object_get(index, "weight_map"));
    json_decref(index);
    return status;
}

static aq_status open_index(aq_shards *shards, const char *path) {
    char *text;
    size_t size;
    AQ_TRY(aq_file_read(path, MOST_INDEX, &text, &size));
    aq_status status = parse_index(shards, text, size);
    free(text);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s", path);
}

static aq_status open_single(aq_shards *shards) {
    shards->files = calloc(1, sizeof *shards->files);
    AQ_REQUIRE(shards->files, AQ_MEMORY, "no memory for a file's table");
    AQ_TRY(add_file(shards, SINGLE_FILE));
    const aq_safetensors *file = &shards->files[0].file;
    shards->entries = calloc(file->count + 1, sizeof *shards->entries);
    AQ_REQUIRE(shards->entries, AQ_MEMORY, "no memory for %zu tensors", file->count);
    for (size_t i = 0; i < file->count; i++)
        shards->entries[i] = (entry){.name = file->tensors[i].name, .tensor = &file->tensors[i]};
    shards->entry_count = file->count;
    return AQ_OK;
}

/* As Hugging Face does: the single file, if it is there, is the model. */
static aq_status open_files(aq_shards *shards, const char *folder) {
    char *single = NULL, *index = NULL;
    aq_status status = AQ_OK;
    shards->folder = strdup(folder);
    AQ_NEED(shards->folder, AQ_MEMORY, "no memory for a path");
    AQ_STEP(aq_file_join(folder, SINGLE_FILE, &single));
    AQ_STEP(aq_file_join(folder, INDEX_FILE, &index));
    bool has_single = access(single, F_OK) == 0;
    AQ_NEED(has_single || access(index, F_OK) == 0, AQ_MISSING,
            "%s: neither " SINGLE_FILE " nor " INDEX_FILE " is there", folder);
    AQ_STEP(has_single ? open_single(shards) : open_index(shards, index));
done:
    free(single);
    free(index);
    return status;
}

aq_status aq_shards_open(const char *folder, aq_shards **shards) {
    *shards = calloc(1, sizeof **shards);
    AQ_REQUIRE(*shards, AQ_MEMORY, "no memory for a model's table");
    aq_status status = open_files(*shards, folder);
    if (status == AQ_OK) return AQ_OK;
    aq_shards_close(*shards);
    *shards = NULL;
    return status;
}

void aq_shards_close(aq_shards *shards) {
    if (!shards) return;
    for (size_t i = 0; i < shards->file_count; i++) {
        aq_safetensors_close(&shards->files[i].file);
        free(shards->files[i].name);
    }
    free(shards->files);
    free(shards->entries);
    free(shards->folder);
    free(shards);
}

size_t aq_shards_count(const aq_shards *shards) {
    return shards->file_count;
}

const char *aq_shards_name(const aq_shards *shards, size_t index) {
    return shards->files[index].name;
}

aq_status aq_shards_find(const aq_shards *shards, const char *name, const aq_safetensor **tensor) {
    const entry key = {.name = name};
    const entry *found = bsearch(&key, shards->entries, shards->entry_count, sizeof key, by_name);
    AQ_REQUIRE(found, AQ_MISSING, "%s: there is no tensor %.120s", shards->folder, name);
    *tensor = found->tensor;
    return AQ_OK;
}
