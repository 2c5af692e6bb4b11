/* Whether a run directory may be taken up, and making it ready (run/run_directory.h). */
#include "base/digest.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop.h"
#include "run/run_directory.h"
#include "store/block_file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what a job left that died ---- */

static bool is_temporary(const char *name) {
    static const char suffix[] = ".partial"; /* as aq_file_temporary names them */
    size_t length = strlen(name);
    return length >= sizeof suffix && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

/* What a job left that died while it wrote. */
static aq_status remove_temporary_files(const char *folder) {
    DIR *entries = opendir(folder);
    if (!entries && errno == ENOENT) return AQ_OK;
    AQ_REQUIRE(entries, AQ_IO, "%s: cannot be listed: %s", folder, strerror(errno));
    int failure = 0;
    for (struct dirent *entry; (entry = readdir(entries));)
        if (is_temporary(entry->d_name) && unlinkat(dirfd(entries), entry->d_name, 0) != 0)
            failure = errno;
    closedir(entries);
    AQ_REQUIRE(!failure, AQ_IO, "%s: a temporary file of an earlier run cannot be removed: %s",
               folder, strerror(failure));
    return AQ_OK;
}

/* In work/ they lie one folder deeper. */
static aq_status remove_temporary_work(const aq_run_directory *directory) {
    aq_status status = AQ_OK;
    for (size_t i = 0; status == AQ_OK && i < directory->source->shape.blocks; i++) {
        char *folder;
        AQ_TRY(aq_run_directory_work_path(directory, i, &folder));
        status = remove_temporary_files(folder);
        free(folder);
    }
    return status;
}

/* ---- config.yaml and identity.txt ---- */

/* The files, as an earlier job left them. */
typedef struct earlier {
    char *config_path, *identity_path;
    char *identity;      /* text; NULL: missing or damaged */
    bool has_config;     /* it is there and whole */
    char *config_damage; /* why config.yaml cannot be used; NULL: it can, or is not there */
    char *identity_damage;
} earlier;

static void earlier_free(earlier *files) {
    free(files->config_path);
    free(files->identity_path);
    free(files->identity);
    free(files->config_damage);
    free(files->identity_damage);
}

/* AQ_OK, MISSING or damaged: then *damage says how. */
static aq_status look_at(const char *path, char **damage) {
    bool known;
    aq_status status = aq_digest_verify(path, NULL, &known);
    if (status == AQ_OK || status == AQ_MISSING) return status;
    *damage = strdup(aq_error_text());
    return status;
}

static aq_status read_earlier(const aq_run_directory *directory, earlier *files) {
    size_t size;
    AQ_TRY(aq_file_join(directory->path, "config.yaml", &files->config_path));
    AQ_TRY(aq_file_join(directory->path, "identity.txt", &files->identity_path));
    files->has_config = look_at(files->config_path, &files->config_damage) == AQ_OK;
    if (look_at(files->identity_path, &files->identity_damage) != AQ_OK) return AQ_OK;
    return aq_file_read(files->identity_path, AQ_IDENTITY_LIMIT, &files->identity, &size);
}

static aq_status read_restarts(aq_run_directory *directory) {
    char *path, *text = NULL;
    size_t size;
    bool known;
    AQ_TRY(aq_file_join(directory->path, "restarts.json", &path));
    aq_status status = aq_digest_verify(path, NULL, &known);
    if (status == AQ_OK) status = aq_file_read(path, AQ_IDENTITY_LIMIT, &text, &size);
    json_decref(directory->restarts);
    directory->restarts = NULL;
    if (status == AQ_OK) status = aq_json_load(text, size, &directory->restarts);
    if (status == AQ_MISSING) status = AQ_OK;
    if (status != AQ_OK)
        aq_error_at(status,
                    "which blocks were restarted with other settings cannot be read; finished ones "
                    "keep theirs if you remove %s",
                    path);
    free(text);
    free(path);
    return status;
}

static aq_status check_settings(const char *path, const aq_config *config) {
    aq_config old_config;
    AQ_TRY(aq_config_new(&old_config));
    aq_status status = aq_config_read(path, &old_config);
    if (status == AQ_OK) {
        status = aq_config_same_result(&old_config, config);
        if (status != AQ_OK) aq_error_at(status, "%s: the run was made with other settings", path);
    }
    if (status == AQ_OK && old_config.run.team_size != config->run.team_size)
        aq_log_warn("run.team_size was %ld and is now %ld: as good, but not the same to the bit",
                    old_config.run.team_size, config->run.team_size);
    aq_config_free(&old_config);
    return status;
}

static void fill_fingerprint(aq_run_directory *directory, const char *identity) {
    char key[AQ_IDENTITY_KEY_SIZE];
    uint64_t hash = AQ_HASH_START;
    aq_identity_key(identity, key);
    hash = aq_hash_bytes(hash, directory->settings, strlen(directory->settings));
    hash = aq_hash_bytes(hash, key, strlen(key));
    snprintf(directory->fingerprint, sizeof directory->fingerprint, "%016" PRIx64, hash);
}

/* A whole file of another job is not to be set aside as a damaged one would be. */
static aq_status check_block(const aq_run_directory *directory, size_t index, const char *why) {
    char *path, *fingerprint;
    bool known;
    AQ_TRY(aq_run_directory_block_path(directory, index, &path));
    (void)aq_block_file_fingerprint(path, &fingerprint);
    aq_status status = AQ_OK;
    if (fingerprint && strcmp(fingerprint, directory->fingerprint) != 0 &&
        aq_digest_verify(path, &aq_stop_watch, &known) == AQ_OK)
        status = AQ_FAIL(AQ_INVALID,
                         "%s; and %s was made with other settings, model or tokens than those of "
                         "this command: give it those of the run",
                         why, path);
    free(fingerprint);
    free(path);
    return status;
}

/* What the two files do not say any more, or not to this version, the fingerprints of the block
 * files do. */
static aq_status check_blocks(const aq_run_directory *directory, const earlier *files) {
    const char *why = files->config_damage     ? files->config_damage
                      : files->identity_damage ? files->identity_damage
                      : !files->has_config     ? "config.yaml is missing"
                      : !files->identity
                          ? "identity.txt is missing"
                          : "another version of this program, whose settings are not "
                            "these, began the run";
    for (size_t i = 0; i < directory->source->shape.blocks; i++)
        AQ_TRY(check_block(directory, i, why));
    return AQ_OK;
}

static aq_status set_damaged_aside(const char *path, const char *damage) {
    char *aside;
    if (!damage) return AQ_OK;
    AQ_TRY(aq_digest_set_aside(path, "damaged", &aside));
    aq_log_warn("%s; renamed to %s and written again: the block files are of this very job", damage,
                aside);
    free(aside);
    return AQ_OK;
}

static void warn_if_moved(const aq_run_directory *directory, const char *identity) {
    char was[AQ_IDENTITY_LINE], is[AQ_IDENTITY_LINE];
    if (aq_identity_moved(identity, directory->machine, was, is))
        aq_log_warn("%s was begun on another machine (%s; here %s): what is made here need not be "
                    "the same to the last bit",
                    directory->path, was, is);
}

/* *identity is the text for identity.txt. Settings are compared first: hashing may take minutes. */
static aq_status check_earlier(aq_run_directory *directory, const aq_config *config,
                               const earlier *files, char **identity) {
    const aq_identity_facts facts = {.model = directory->source->path,
                                     .tokens = directory->tokens,
                                     .backend = directory->backend,
                                     .machine = directory->machine,
                                     .gpus = directory->gpus,
                                     .watch = &aq_stop_watch};
    if (files->has_config) AQ_TRY(check_settings(files->config_path, config));
    AQ_TRY(aq_identity_make(&facts, files->identity, identity));
    if (files->identity) AQ_TRY(aq_identity_same(files->identity_path, files->identity, *identity));
    fill_fingerprint(directory, *identity);
    AQ_TRY(check_blocks(directory, files));
    warn_if_moved(directory, *identity);
    return AQ_OK;
}

static aq_status write_config(const char *path, const aq_config *config) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    AQ_REQUIRE(stream, AQ_MEMORY, "out of memory");
    aq_status status = aq_config_write(config, stream);
    if (fclose(stream) != 0 && status == AQ_OK) status = AQ_FAIL(AQ_MEMORY, "out of memory");
    if (status == AQ_OK) status = aq_digest_replace(path, text, size);
    free(text);
    return status;
}

/* config.yaml last: with it the directory counts as made. */
static aq_status write_both(const earlier *files, const aq_config *config, const char *identity) {
    AQ_TRY(set_damaged_aside(files->identity_path, files->identity_damage));
    AQ_TRY(set_damaged_aside(files->config_path, files->config_damage));
    AQ_TRY(aq_digest_replace(files->identity_path, identity, strlen(identity)));
    return write_config(files->config_path, config);
}

static aq_status clear(const aq_run_directory *directory) {
    aq_status status;
    char *blocks = NULL, *snapshots = NULL;
    AQ_STEP(aq_file_join(directory->path, "blocks", &blocks));
    AQ_STEP(aq_file_join(directory->path, "snapshots", &snapshots));
    AQ_STEP(aq_file_make_folder(blocks));
    AQ_STEP(remove_temporary_files(directory->path));
    AQ_STEP(remove_temporary_files(blocks));
    AQ_STEP(remove_temporary_files(snapshots));
    AQ_STEP(remove_temporary_work(directory));
done:
    free(blocks);
    free(snapshots);
    return status;
}

aq_status aq_run_directory_prepare(aq_run_directory *directory, const aq_config *config) {
    aq_status status;
    earlier files = {0};
    char *identity = NULL;
    AQ_STEP(read_earlier(directory, &files));
    AQ_STEP(check_earlier(directory, config, &files, &identity));
    AQ_STEP(read_restarts(directory));
    AQ_STEP(clear(directory));
    AQ_STEP(write_both(&files, config, identity));
done:
    if (status != AQ_OK) directory->fingerprint[0] = 0;
    earlier_free(&files);
    free(identity);
    return status;
}

aq_status aq_run_directory_join(aq_run_directory *directory) {
    earlier files = {0};
    aq_status status = read_earlier(directory, &files);
    if (status == AQ_OK && !files.identity)
        status = AQ_FAIL(AQ_MISSING, "%s: %s", files.identity_path,
                         files.identity_damage ? files.identity_damage : "is not there");
    if (status == AQ_OK) fill_fingerprint(directory, files.identity);
    if (status == AQ_OK) warn_if_moved(directory, files.identity);
    if (status == AQ_OK) status = read_restarts(directory);
    earlier_free(&files);
    return status;
}
