/* One row a setting, and the calls that treat a setting by its row alone.
 *
 * For config.c, config_yaml.c and jobs with an option a setting. Adding a setting means a field in
 * aq_config and a row in the table.
 */
#ifndef AQ_RUN_CONFIG_TABLE_H
#define AQ_RUN_CONFIG_TABLE_H

#include "run/config.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum aq_setting_kind {
    AQ_SETTING_PATH,    /* char *, owned; NULL until set */
    AQ_SETTING_NAME,    /* char *, owned; one of the choices */
    AQ_SETTING_CHOICE,  /* an enum: the place in the choices */
    AQ_SETTING_INTEGER, /* long */
    AQ_SETTING_COUNT,   /* int */
    AQ_SETTING_REAL,    /* double */
    AQ_SETTING_SCHEME   /* aq_scheme, of which codebooks and bits */
} aq_setting_kind;

typedef struct aq_setting {
    const char *key;
    aq_setting_kind kind;
    size_t offset;       /* in aq_config */
    double least, most;  /* bounds of numbers, both allowed */
    const char *choices; /* "auto|cpu|cuda" */
    const char *initial; /* the default as text; NULL: the user must set it */
    bool changes_result; /* part of what makes two runs the same run */
    const char *help;
} aq_setting;

enum { AQ_SETTING_TEXT = 64 }; /* room for any setting but a path as text */

extern const aq_setting aq_settings[];
extern const size_t aq_setting_count;

/* The row of a key; NULL if there is none. */
const aq_setting *aq_setting_find(const char *key);

/* True if keys start with `name` and a dot. */
bool aq_setting_is_section(const char *name);

/* INVALID for a key that is in no row, naming its nearest neighbour or saying that it is a section.
 */
aq_status aq_setting_unknown(const char *key);

/* Sets from text; INVALID naming key, what was expected and what was found (then unchanged). */
aq_status aq_setting_set(const aq_setting *setting, const char *text, aq_config *config);

/* The value as text that aq_setting_set reads back to the same value; NULL for a path that is not
 * set. `room` (AQ_SETTING_TEXT bytes) may hold the result. */
const char *aq_setting_text(const aq_setting *setting, const aq_config *config, char *room);

/* The value of a number's row as a number. */
double aq_setting_number(const aq_setting *setting, const aq_config *config);

/* What may be written for the setting: "1 to 16", "auto, cpu or cuda", "MxB such as 2x8" ... */
void aq_setting_expected(const aq_setting *setting, char *text, size_t size);

void aq_setting_free(const aq_setting *setting, aq_config *config);

#endif
