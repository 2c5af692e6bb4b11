/* Reading JSON that somebody else wrote: jansson parses, these calls check.
 *
 * Every getter names the key, what was expected and what was found. A key whose value is null
 * counts as absent. Getters that end in _or return `fallback` for an absent key, the others fail
 * with MISSING. A value of the wrong kind or out of range is FORMAT.
 */
#ifndef AQ_BASE_JSON_H
#define AQ_BASE_JSON_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Parses `length` bytes that must hold one JSON object without duplicate keys and nothing else;
 * FORMAT with line and reason. *object is the caller's (json_decref), NULL after a failure. */
aq_status aq_json_load(const char *text, size_t length, json_t **object);

/* The value of a key, or NULL if it is absent or null; borrowed. */
const json_t *aq_json_get(const json_t *object, const char *key);

/* An integer from 1 to `limit`. */
aq_status aq_json_size(const json_t *object, const char *key, size_t limit, size_t *value);
aq_status aq_json_size_or(const json_t *object, const char *key, size_t limit, size_t fallback,
                          size_t *value);

/* A finite number above 0. */
aq_status aq_json_positive(const json_t *object, const char *key, double *value);
aq_status aq_json_positive_or(const json_t *object, const char *key, double fallback,
                              double *value);

aq_status aq_json_flag_or(const json_t *object, const char *key, bool fallback, bool *value);

/* Texts are borrowed from the object. */
aq_status aq_json_text(const json_t *object, const char *key, const char **value);
aq_status aq_json_text_or(const json_t *object, const char *key, const char *fallback,
                          const char **value);

/* Objects and arrays are borrowed too. */
aq_status aq_json_object(const json_t *object, const char *key, const json_t **value);
aq_status aq_json_array(const json_t *object, const char *key, const json_t **value);

/* FORMAT: "key: expected <expected>, found <the value, shortened>". */
aq_status aq_json_unexpected(const char *key, const char *expected, const json_t *value);

#endif
