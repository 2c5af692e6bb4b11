#include "run/run_directory.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/stop.h"
#include "store/block_file.h"
#include "store/model_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

aq_status aq_run_directory_open(const aq_config *config, aq_source *source, const aq_tokens *tokens,
                                aq_run_directory *directory) {
    *directory = (aq_run_directory){.source = source, .scheme = config->quantizer.scheme};
    aq_status status = AQ_OK;
    directory->path = strdup(config->output);
    AQ_NEED(directory->path, AQ_MEMORY, "out of memory");
    AQ_STEP(aq_file_join(config->output, "metrics.jsonl", &directory->metrics_path));
    AQ_STEP(aq_file_join(config->output, "model.aqlm.h5", &directory->model_path));
    AQ_STEP(aq_config_settings(config, &directory->settings));
    directory->tokens = aq_tokens_hash(tokens);
    directory->backend = strdup(config->run.backend);
    AQ_NEED(directory->backend, AQ_MEMORY, "out of memory");
done:
    if (status != AQ_OK) aq_run_directory_close(directory);
    return status;
}

void aq_run_directory_close(aq_run_directory *directory) {
    free(directory->path);
    free(directory->metrics_path);
    free(directory->model_path);
    free(directory->settings);
    json_decref(directory->restarts);
    free(directory->backend);
    *directory = (aq_run_directory){0};
}

json_t *aq_run_directory_other_settings(const aq_run_directory *directory, size_t index) {
    char name[24];
    snprintf(name, sizeof name, "%zu", index);
    return json_object_get(json_object_get(directory->restarts, "settings"), name);
}

void aq_run_directory_block_fingerprint(const aq_run_directory *directory, size_t index,
                                        char fingerprint[static AQ_FINGERPRINT_SIZE]) {
    const char *key;
    json_t *value;
    uint64_t hash =
        aq_hash_bytes(AQ_HASH_START, directory->fingerprint, strlen(directory->fingerprint));
    memcpy(fingerprint, directory->fingerprint, AQ_FINGERPRINT_SIZE);
    json_object_foreach(aq_run_directory_other_settings(directory, index), key, value) {
        const char *text = json_string_value(value);
        hash = aq_hash_bytes(hash, key, strlen(key));
        hash = aq_hash_bytes(hash, text ? text : "", text ? strlen(text) : 0);
        snprintf(fingerprint, AQ_FINGERPRINT_SIZE, "%016" PRIx64, hash);
    }
}

aq_status aq_run_directory_block_path(const aq_run_directory *directory, size_t index,
                                      char **path) {
    char name[48];
    snprintf(name, sizeof name, "blocks/block-%04zu.h5", index);
    return aq_file_join(directory->path, name, path);
}

aq_status aq_run_directory_work_path(const aq_run_directory *directory, size_t index, char **path) {
    char name[48];
    snprintf(name, sizeof name, "work/block-%04zu", index);
    return aq_file_join(directory->path, name, path);
}

aq_status aq_run_directory_make(const aq_run_directory *directory) {
    return aq_file_make_folder(directory->path);
}

/* A file that cannot be used must not be taken for the block's again. */
static void set_aside(const char *path, const char *then) {
    char *aside, *reason = strdup(aq_error_text());
    if (aq_digest_set_aside(path, "damaged", &aside) == AQ_OK) {
        aq_log_warn("%s; renamed to %s, %s", reason ? reason : path, aside, then);
        free(aside);
    } else {
        aq_log_warn("%s; %s; %s", reason ? reason : path, aq_error_text(), then);
    }
    free(reason);
}

static void warn_without_digest(const char *path) {
    char *beside;
    if (asprintf(&beside, "%s.sha256", path) < 0) return;
    if (access(beside, F_OK) != 0)
        aq_log_warn("%s has no digest beside it: only HDF5's own checksums were compared", path);
    free(beside);
}

static bool reads_back(const aq_run_directory *directory, size_t index, const char *path,
                       aq_backend *backend, double *error) {
    char then[64];
    aq_coded_block block;
    aq_status status = aq_run_directory_read_block(directory, index, backend, &block);
    if (status == AQ_OK) {
        warn_without_digest(path);
        *error = block.error;
        aq_coded_block_free(&block);
        return true;
    }
    snprintf(then, sizeof then, "block %zu is quantized again", index);
    if (status == AQ_MEMORY || status == AQ_DEVICE)
        aq_log_warn("%s; %s", aq_error_text(), then);
    else
        set_aside(path, then);
    return false;
}

/* What a job left that died between a block's file and the end of its folder. */
static void discard_work(const aq_run_directory *directory, size_t index) {
    char *folder = NULL;
    aq_status status = aq_run_directory_work_path(directory, index, &folder);
    if (status == AQ_OK) status = aq_file_remove_folder(folder);
    if (status != AQ_OK) aq_log_warn("%s", aq_error_text());
    free(folder);
}

bool aq_run_directory_finished(const aq_run_directory *directory, size_t index, aq_backend *backend,
                               double *error) {
    char *path;
    if (aq_run_directory_block_path(directory, index, &path) != AQ_OK) return false;
    bool finished = access(path, F_OK) == 0 && reads_back(directory, index, path, backend, error);
    if (finished) discard_work(directory, index);
    free(path);
    return finished;
}

bool aq_run_directory_gathered(const aq_run_directory *directory) {
    aq_source *model;
    aq_status status = aq_model_file_open(directory->model_path, &model);
    if (status == AQ_OK) aq_source_close(model);
    if (status != AQ_OK && status != AQ_MISSING && status != AQ_STOPPED)
        set_aside(directory->model_path, "it is gathered again");
    return status == AQ_OK;
}

aq_status aq_run_directory_read_block(const aq_run_directory *directory, size_t index,
                                      aq_backend *backend, aq_coded_block *block) {
    char *path;
    AQ_TRY(aq_run_directory_block_path(directory, index, &path));
    aq_status status =
        aq_block_file_read(path, &directory->source->shape, index, &directory->scheme,
                           directory->fingerprint, backend, block);
    free(path);
    return status;
}

aq_status aq_run_directory_write_block(const aq_run_directory *directory,
                                       const aq_coded_block *block) {
    char *path;
    AQ_TRY(aq_run_directory_block_path(directory, block->index, &path));
    json_t *other = aq_run_directory_other_settings(directory, block->index);
    char *settings = other ? json_dumps(other, JSON_SORT_KEYS) : NULL;
    const aq_block_origin origin = {.fingerprint = directory->fingerprint, .settings = settings};
    aq_status status = aq_block_file_write(path, block, &origin);
    free(settings);
    free(path);
    return status;
}

static void free_paths(char **paths, size_t count) {
    for (size_t i = 0; paths && i < count; i++) free(paths[i]);
    free(paths);
}

aq_status aq_run_directory_gather(const aq_run_directory *directory) {
    size_t blocks = directory->source->shape.blocks;
    char **paths = calloc(blocks, sizeof *paths);
    AQ_REQUIRE(paths, AQ_MEMORY, "out of memory");
    aq_status status;
    for (size_t i = 0; i < blocks; i++)
        AQ_STEP(aq_run_directory_block_path(directory, i, &paths[i]));
    const aq_gather gather = {.block_paths = (const char *const *)paths,
                              .source = directory->source,
                              .scheme = directory->scheme,
                              .settings = directory->settings,
                              .fingerprint = directory->fingerprint,
                              .path = directory->model_path,
                              .watch = &aq_stop_watch};
    AQ_STEP(aq_model_file_gather(&gather));
done:
    free_paths(paths, blocks);
    return status;
}
