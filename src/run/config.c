#include "run/config.h"

#include "run/config_table.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

aq_status aq_config_new(aq_config *config) {
    *config = (aq_config){0};
    for (size_t i = 0; i < aq_setting_count; i++) {
        const aq_setting *setting = &aq_settings[i];
        aq_status status =
            setting->initial ? aq_setting_set(setting, setting->initial, config) : AQ_OK;
        if (status == AQ_OK) continue;
        aq_config_free(config);
        return status;
    }
    return AQ_OK;
}

void aq_config_free(aq_config *config) {
    for (size_t i = 0; i < aq_setting_count; i++) aq_setting_free(&aq_settings[i], config);
}

aq_status aq_config_set(const char *assignment, aq_config *config) {
    const char *equals = strchr(assignment, '=');
    AQ_REQUIRE(equals, AQ_INVALID, "--set: expected key=value, found %s", assignment);
    char *key = strndup(assignment, (size_t)(equals - assignment));
    AQ_REQUIRE(key, AQ_MEMORY, "out of memory");
    const aq_setting *setting = aq_setting_find(key);
    aq_status status =
        setting ? aq_setting_set(setting, equals + 1, config) : aq_setting_unknown(key);
    free(key);
    return status;
}

static aq_status check_required(const aq_config *config) {
    char room[AQ_SETTING_TEXT];
    for (size_t i = 0; i < aq_setting_count; i++)
        AQ_REQUIRE(aq_setting_text(&aq_settings[i], config, room), AQ_INVALID,
                   "%s is not set: expected %s", aq_settings[i].key, aq_settings[i].help);
    return AQ_OK;
}

aq_status aq_config_check(const aq_config *config) {
    AQ_TRY(check_required(config));
    AQ_REQUIRE(config->calibration.validation < config->calibration.sequences, AQ_INVALID,
               "calibration.validation is %ld of calibration.sequences %ld: at least one sequence "
               "must be left to fit",
               config->calibration.validation, config->calibration.sequences);
    AQ_TRY(aq_search_kind_check(aq_config_search(config), &config->quantizer.scheme,
                                (int)config->quantizer.beam));
    AQ_REQUIRE(strcmp(config->model, config->output) != 0, AQ_INVALID,
               "output and model are the same folder: %s", config->model);
    return AQ_OK;
}

aq_search_kind aq_config_search(const aq_config *config) {
    const aq_scheme *scheme = &config->quantizer.scheme;
    if (config->quantizer.search != AQ_SEARCH_AUTO) return (aq_search_kind)config->quantizer.search;
    bool fit = scheme->out_group == 1 && aq_search_pairs_fit(scheme, (int)config->quantizer.beam);
    return fit ? AQ_SEARCH_PAIRS : AQ_SEARCH_BEAM;
}

aq_fit_settings aq_config_fit(const aq_config *config) {
    return (aq_fit_settings){.scheme = config->quantizer.scheme,
                             .beam = (int)config->quantizer.beam,
                             .search = aq_config_search(config),
                             .kmeans_iterations = (int)config->quantizer.kmeans_iterations,
                             .kmeans_starts = (int)config->quantizer.kmeans_starts,
                             .rounds = (int)config->quantizer.rounds,
                             .tolerance = config->quantizer.tolerance,
                             .noise = config->quantizer.noise,
                             .solver = (aq_solver_kind)config->quantizer.solver,
                             .adam_steps = (int)config->quantizer.adam_steps,
                             .learning_rate = config->quantizer.learning_rate};
}

void aq_config_help(FILE *file) {
    for (size_t i = 0; i < aq_setting_count; i++) {
        const aq_setting *setting = &aq_settings[i];
        char start[AQ_SETTING_TEXT];
        snprintf(start, sizeof start, "%s=%s", setting->key,
                 setting->initial ? setting->initial : "PATH");
        fprintf(file, "  %-31s %s", start, setting->help);
        if (setting->choices) fprintf(file, " (%s)", setting->choices);
        fputc('\n', file);
    }
}

static json_t *setting_json(const aq_setting *setting, const aq_config *config) {
    char room[AQ_SETTING_TEXT];
    if (setting->kind == AQ_SETTING_REAL) return json_real(aq_setting_number(setting, config));
    if (setting->kind == AQ_SETTING_INTEGER || setting->kind == AQ_SETTING_COUNT)
        return json_integer((json_int_t)aq_setting_number(setting, config));
    return json_string(aq_setting_text(setting, config, room));
}

aq_status aq_config_settings(const aq_config *config, char **json) {
    json_t *object = json_object();
    bool whole = object != NULL;
    for (size_t i = 0; i < aq_setting_count && whole; i++) {
        const aq_setting *setting = &aq_settings[i];
        if (!setting->changes_result) continue;
        whole = json_object_set_new(object, setting->key, setting_json(setting, config)) == 0;
    }
    *json = whole ? json_dumps(object, JSON_SORT_KEYS | JSON_INDENT(2) | JSON_REAL_PRECISION(15))
                  : NULL;
    json_decref(object);
    AQ_REQUIRE(*json, AQ_MEMORY, "out of memory");
    return AQ_OK;
}

aq_status aq_config_same_result(const aq_config *old_config, const aq_config *new_config) {
    char old_room[AQ_SETTING_TEXT], new_room[AQ_SETTING_TEXT];
    for (size_t i = 0; i < aq_setting_count; i++) {
        const aq_setting *setting = &aq_settings[i];
        if (!setting->changes_result) continue;
        const char *old_text = aq_setting_text(setting, old_config, old_room);
        const char *new_text = aq_setting_text(setting, new_config, new_room);
        AQ_REQUIRE(strcmp(old_text, new_text) == 0, AQ_INVALID, "%s was %s and is now %s",
                   setting->key, old_text, new_text);
    }
    return AQ_OK;
}
