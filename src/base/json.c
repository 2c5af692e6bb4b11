#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

aq_status aq_json_load(const char *text, size_t length, json_t **object) {
    json_error_t error;
    *object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    AQ_REQUIRE(*object, AQ_FORMAT, "not valid JSON: line %d, column %d: %s", error.line,
               error.column, error.text);
    if (json_is_object(*object)) return AQ_OK;
    json_decref(*object);
    *object = NULL;
    return AQ_FAIL(AQ_FORMAT, "expected a JSON object, found another value");
}

const json_t *aq_json_get(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

aq_status aq_json_unexpected(const char *key, const char *expected, const json_t *value) {
    char *found = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    aq_status status =
        AQ_FAIL(AQ_FORMAT, "%s: expected %s, found %.60s", key, expected, found ? found : "?");
    free(found);
    return status;
}

static aq_status missing(const char *key) {
    return AQ_FAIL(AQ_MISSING, "the key %s is missing", key);
}

aq_status aq_json_size_or(const json_t *object, const char *key, size_t limit, size_t fallback,
                          size_t *value) {
    const json_t *found = aq_json_get(object, key);
    json_int_t number = json_integer_value(found);
    *value = found ? (size_t)number : fallback;
    if (!found || (json_is_integer(found) && number >= 1 && (size_t)number <= limit)) return AQ_OK;
    char expected[64];
    snprintf(expected, sizeof expected, "an integer from 1 to %zu", limit);
    return aq_json_unexpected(key, expected, found);
}

aq_status aq_json_size(const json_t *object, const char *key, size_t limit, size_t *value) {
    return aq_json_get(object, key) ? aq_json_size_or(object, key, limit, 0, value) : missing(key);
}

aq_status aq_json_positive_or(const json_t *object, const char *key, double fallback,
                              double *value) {
    const json_t *found = aq_json_get(object, key);
    *value = found ? json_number_value(found) : fallback;
    if (!found || (json_is_number(found) && isfinite(*value) && *value > 0)) return AQ_OK;
    return aq_json_unexpected(key, "a number above 0", found);
}

aq_status aq_json_positive(const json_t *object, const char *key, double *value) {
    return aq_json_get(object, key) ? aq_json_positive_or(object, key, 0, value) : missing(key);
}

aq_status aq_json_flag_or(const json_t *object, const char *key, bool fallback, bool *value) {
    const json_t *found = aq_json_get(object, key);
    *value = found ? json_is_true(found) : fallback;
    if (!found || json_is_boolean(found)) return AQ_OK;
    return aq_json_unexpected(key, "true or false", found);
}

aq_status aq_json_text_or(const json_t *object, const char *key, const char *fallback,
                          const char **value) {
    const json_t *found = aq_json_get(object, key);
    *value = found ? json_string_value(found) : fallback;
    return !found || *value ? AQ_OK : aq_json_unexpected(key, "a text", found);
}

aq_status aq_json_text(const json_t *object, const char *key, const char **value) {
    return aq_json_get(object, key) ? aq_json_text_or(object, key, NULL, value) : missing(key);
}

aq_status aq_json_object(const json_t *object, const char *key, const json_t **value) {
    *value = aq_json_get(object, key);
    if (!*value) return missing(key);
    return json_is_object(*value) ? AQ_OK : aq_json_unexpected(key, "an object", *value);
}

aq_status aq_json_array(const json_t *object, const char *key, const json_t **value) {
    *value = aq_json_get(object, key);
    if (!*value) return missing(key);
    return json_is_array(*value) ? AQ_OK : aq_json_unexpected(key, "an array", *value);
}
