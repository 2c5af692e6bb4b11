#include "run/restarts.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "run/config_table.h"
#include "run/snapshots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the request ---- */

aq_status aq_restart_parse(const char *text, aq_restart *restart) {
    for (const char *at = text; at;) {
        char *end;
        errno = 0;
        unsigned long block = strtoul(at, &end, 10);
        bool number = *at >= '0' && *at <= '9' && errno == 0 && (*end == 0 || *end == ',');
        AQ_REQUIRE(number, AQ_INVALID, "--restart-block: expected 3 or 3,5,7, found %.40s", text);
        AQ_REQUIRE(restart->count < AQ_MAX_RESTARTS, AQ_INVALID, "more than %d blocks to restart",
                   AQ_MAX_RESTARTS);
        restart->blocks[restart->count++] = block;
        at = *end ? end + 1 : NULL;
    }
    return AQ_OK;
}

void aq_restart_free(aq_restart *restart) {
    json_decref(restart->settings);
    *restart = (aq_restart){0};
}

/* All blocks must fit together in one file, and what feeds them must be what it was. */
static bool may_differ(const char *key) {
    static const char *const fixed[] = {"quantizer.scheme", "quantizer.group",
                                        "quantizer.out_group"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (strcmp(key, fixed[i]) == 0) return false;
    return strncmp(key, "quantizer.", 10) == 0 || strncmp(key, "tuning.", 7) == 0 ||
           strcmp(key, "run.seed") == 0;
}

static aq_status split_setting(const aq_setting *setting, const aq_config *of_run,
                               aq_config *config, aq_restart *restart) {
    char old_room[AQ_SETTING_TEXT], new_room[AQ_SETTING_TEXT];
    const char *old_text = aq_setting_text(setting, of_run, old_room);
    const char *new_text = aq_setting_text(setting, config, new_room);
    if (strcmp(old_text, new_text) == 0) return AQ_OK;
    AQ_REQUIRE(may_differ(setting->key), AQ_INVALID,
               "--restart-block: %s was %s and is now %s, but a block can differ from its run only "
               "in run.seed and in settings of quantizer and tuning, scheme and groups apart",
               setting->key, old_text, new_text);
    AQ_REQUIRE(json_object_set_new(restart->settings, setting->key, json_string(new_text)) == 0,
               AQ_MEMORY, "out of memory");
    return aq_setting_set(setting, old_text, config);
}

static aq_status split(const aq_config *of_run, aq_config *config, aq_restart *restart) {
    for (size_t i = 0; i < aq_setting_count; i++)
        if (aq_settings[i].changes_result)
            AQ_TRY(split_setting(&aq_settings[i], of_run, config, restart));
    return AQ_OK;
}

aq_status aq_restart_split(aq_config *config, aq_restart *restart) {
    char *path;
    aq_config of_run;
    AQ_REQUIRE(restart->settings = json_object(), AQ_MEMORY, "out of memory");
    AQ_TRY(aq_config_new(&of_run));
    aq_status status;
    AQ_STEP(aq_file_join(config->output, "config.yaml", &path));
    status = aq_config_read(path, &of_run);
    free(path);
    if (status != AQ_OK) {
        aq_error_at(status, "--restart-block needs a run that was begun");
        goto done;
    }
    AQ_STEP(split(&of_run, config, restart));
done:
    aq_config_free(&of_run);
    return status;
}

/* ---- restarts.json ---- */

static aq_status path_of(const aq_run_directory *directory, char **path) {
    return aq_file_join(directory->path, "restarts.json", path);
}

static aq_status write_file(const aq_run_directory *directory) {
    char *path, *text = json_dumps(directory->restarts, JSON_SORT_KEYS | JSON_INDENT(1));
    AQ_REQUIRE(text, AQ_MEMORY, "out of memory");
    aq_status status = path_of(directory, &path);
    if (status == AQ_OK) {
        status = aq_digest_replace(path, text, strlen(text));
        free(path);
    }
    free(text);
    return status;
}

static aq_status new_request(aq_run_directory *directory, const aq_restart *restart) {
    json_t *settings = json_object(), *requested = json_array();
    if (directory->restarts)
        json_object_update(settings, json_object_get(directory->restarts, "settings"));
    for (size_t i = 0; i < restart->count; i++) {
        char name[24];
        size_t block = restart->blocks[i];
        snprintf(name, sizeof name, "%zu", block);
        json_array_append_new(requested, json_integer((json_int_t)block));
        if (json_object_size(restart->settings))
            json_object_set(settings, name, restart->settings);
        else
            json_object_del(settings, name);
    }
    json_decref(directory->restarts);
    directory->restarts =
        json_pack("{so so sb}", "settings", settings, "requested", requested, "cleared", 0);
    AQ_REQUIRE(directory->restarts, AQ_MEMORY, "out of memory");
    return write_file(directory);
}

static bool is_requested(const json_t *requested, size_t block) {
    size_t i;
    json_t *value;
    json_array_foreach(requested, i, value) {
        if (json_integer_value(value) == (json_int_t)block) return true;
    }
    return false;
}

/* The same blocks with the same settings: an interrupted job's command, given again. */
static bool is_same(const aq_run_directory *directory, const aq_restart *restart) {
    const json_t *requested = json_object_get(directory->restarts, "requested");
    const json_t *settings = json_object_get(directory->restarts, "settings");
    if (json_array_size(requested) != restart->count || restart->count == 0) return false;
    for (size_t i = 0; i < restart->count; i++) {
        char name[24];
        snprintf(name, sizeof name, "%zu", restart->blocks[i]);
        json_t *noted = json_object_get(settings, name);
        bool same =
            noted ? json_equal(noted, restart->settings) : json_object_size(restart->settings) == 0;
        if (!same || !is_requested(requested, restart->blocks[i])) return false;
    }
    return true;
}

/* ---- what is redone ---- */

static aq_status replace(const char *path) {
    char *aside;
    if (access(path, F_OK) != 0) return AQ_OK;
    AQ_TRY(aq_digest_set_aside(path, "replaced", &aside));
    aq_log_info("%s is made again; the old one is now %s", path, aside);
    free(aside);
    return AQ_OK;
}

static aq_status replace_block(const aq_run_directory *directory, size_t block) {
    char *path, *folder;
    AQ_TRY(aq_run_directory_block_path(directory, block, &path));
    aq_status status = replace(path);
    free(path);
    AQ_TRY(status);
    AQ_TRY(aq_run_directory_work_path(directory, block, &folder));
    status = aq_file_remove_folder(folder);
    free(folder);
    return status;
}

static aq_status clear(aq_run_directory *directory, aq_inputs inputs) {
    const json_t *requested = json_object_get(directory->restarts, "requested");
    bool later = false;
    if (json_array_size(requested) == 0) return AQ_OK;
    if (json_is_true(json_object_get(directory->restarts, "cleared"))) return AQ_OK;
    for (size_t block = 0; block < directory->source->shape.blocks; block++) {
        bool chosen = is_requested(requested, block);
        if (chosen && inputs == AQ_INPUTS_QUANTIZED && !later) {
            aq_snapshots_discard(directory, block);
            later = true;
        }
        if (chosen || later) AQ_TRY(replace_block(directory, block));
    }
    AQ_TRY(replace(directory->model_path));
    AQ_REQUIRE(json_object_set_new(directory->restarts, "cleared", json_true()) == 0, AQ_MEMORY,
               "out of memory");
    return write_file(directory);
}

aq_status aq_restarts_begin(aq_run_directory *directory, const aq_restart *restart,
                            aq_inputs inputs) {
    for (size_t i = 0; restart && i < restart->count; i++)
        AQ_REQUIRE(restart->blocks[i] < directory->source->shape.blocks, AQ_INVALID,
                   "--restart-block %zu: the model's blocks are 0 to %zu", restart->blocks[i],
                   directory->source->shape.blocks - 1);
    AQ_TRY(clear(directory, inputs)); /* what a job left that died before it did */
    if (!restart || restart->count == 0 || is_same(directory, restart)) return AQ_OK;
    AQ_TRY(new_request(directory, restart));
    return clear(directory, inputs);
}

aq_status aq_restarts_end(aq_run_directory *directory) {
    if (json_array_size(json_object_get(directory->restarts, "requested")) == 0) return AQ_OK;
    AQ_REQUIRE(json_object_set_new(directory->restarts, "requested", json_array()) == 0, AQ_MEMORY,
               "out of memory");
    return write_file(directory);
}

/* ---- a block's settings ---- */

aq_status aq_restarts_config(const aq_run_directory *directory, size_t index,
                             const aq_config *config, aq_config *effective) {
    const char *key;
    json_t *value;
    *effective = *config;
    json_object_foreach(aq_run_directory_other_settings(directory, index), key, value) {
        const aq_setting *setting = aq_setting_find(key);
        AQ_REQUIRE(setting && may_differ(key) && json_is_string(value), AQ_FORMAT,
                   "%s/restarts.json: %.60s is no setting of a block", directory->path, key);
        AQ_TRY(aq_setting_set(setting, json_string_value(value), effective));
    }
    return AQ_OK;
}
