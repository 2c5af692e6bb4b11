#include "store/report.h"

#include "base/json.h"

#include <string.h>

aq_status aq_report_add_block(json_t *blocks, size_t index, double error, double fitted_error,
                              json_t **layers) {
    json_t *block = json_pack("{s:I, s:f, s:f, s:[]}", "index", (json_int_t)index, "error", error,
                              "fitted_error", fitted_error, "layers");
    AQ_REQUIRE(block && json_array_append_new(blocks, block) == 0, AQ_MEMORY, "out of memory");
    *layers = json_object_get(block, "layers");
    return AQ_OK;
}

aq_status aq_report_add_settings(json_t *blocks, const char *settings) {
    json_t *parsed, *block = json_array_get(blocks, json_array_size(blocks) - 1);
    AQ_TRY(aq_json_load(settings, strlen(settings), &parsed));
    AQ_REQUIRE(json_object_set_new(block, "settings", parsed) == 0, AQ_MEMORY, "out of memory");
    return AQ_OK;
}

aq_status aq_report_add_layer(json_t *layers, const char *name, double error) {
    json_t *layer = json_pack("{s:s, s:f}", "name", name, "error", error);
    AQ_REQUIRE(layer && json_array_append_new(layers, layer) == 0, AQ_MEMORY, "out of memory");
    return AQ_OK;
}

aq_status aq_report_text(const char *settings, json_t *blocks, char **text) {
    json_t *parsed;
    aq_status status = aq_json_load(settings, strlen(settings), &parsed);
    if (status != AQ_OK) return aq_error_at(AQ_INVALID, "settings");
    json_t *report = json_pack("{s:s, s:o, s:O}", "program", "aqlm-mpi " AQLM_VERSION, "settings",
                               parsed, "blocks", blocks);
    *text = report ? json_dumps(report, JSON_INDENT(1)) : NULL;
    json_decref(report);
    AQ_REQUIRE(*text, AQ_MEMORY, "out of memory");
    return AQ_OK;
}

static const json_t *find_layer(const json_t *block, const char *name) {
    size_t i;
    json_t *layer;
    json_array_foreach(json_object_get(block, "layers"), i, layer) {
        const char *own = json_string_value(json_object_get(layer, "name"));
        if (own && strcmp(own, name) == 0) return layer;
    }
    return NULL;
}

bool aq_report_error(const json_t *report, size_t index, const char *name, double *error) {
    const json_t *found = json_array_get(json_object_get(report, "blocks"), index);
    if (name) found = find_layer(found, name);
    const json_t *value = json_object_get(found, "error");
    *error = json_number_value(value);
    return json_is_number(value);
}
