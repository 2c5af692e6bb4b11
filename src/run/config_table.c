#include "run/config_table.h"

#include "base/closest.h"
#include "quant/coded_weight.h"
#include "quant/fit_layer.h"
#include "run/lanes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_INTEGERS 9007199254740992.0 /* 2^53: JSON readers hold integers as doubles */

#define FIELD(kind_, field) .kind = AQ_SETTING_##kind_, .offset = offsetof(aq_config, field)
#define RANGE(least_, most_) .least = (least_), .most = (most_)

/* clang-format off */
const aq_setting aq_settings[] = {
    {"model", FIELD(PATH, model), .help = "Hugging Face folder to quantize"},
    {"output", FIELD(PATH, output), .help = "run directory"},

    {"calibration.tokens", FIELD(PATH, calibration.tokens), .help = ".npy file of token numbers"},
    {"calibration.sequences", FIELD(INTEGER, calibration.sequences), RANGE(1, 1e8),
     .initial = "1024", .changes_result = true, .help = "sequences that are used"},
    {"calibration.length", FIELD(INTEGER, calibration.length), RANGE(2, 1 << 20),
     .initial = "4096", .changes_result = true, .help = "tokens a sequence"},
    {"calibration.validation", FIELD(INTEGER, calibration.validation), RANGE(0, 1e8),
     .initial = "128", .changes_result = true,
     .help = "how many of them are held out, the last ones"},

    {"quantizer.scheme", FIELD(SCHEME, quantizer.scheme),
     .initial = "2x8", .changes_result = true, .help = "codebooks x bits of a code"},
    {"quantizer.group", FIELD(COUNT, quantizer.scheme.in_group), RANGE(1, 1024),
     .initial = "8", .changes_result = true, .help = "columns that share a code"},
    {"quantizer.out_group", FIELD(COUNT, quantizer.scheme.out_group), RANGE(1, 1024),
     .initial = "1", .changes_result = true, .help = "rows that share a code and a scale"},
    {"quantizer.beam", FIELD(INTEGER, quantizer.beam), RANGE(1, AQ_MAX_BEAM),
     .initial = "1", .changes_result = true, .help = "hypotheses a row in the code search"},
    {"quantizer.search", FIELD(CHOICE, quantizer.search), .choices = "beam|pairs|auto",
     .initial = "auto", .changes_result = true,
     .help = "codes singly or in pairs"},
    {"quantizer.tolerance", FIELD(REAL, quantizer.tolerance), RANGE(0, 1),
     .initial = "0.01", .changes_result = true,
     .help = "a lower gain ends the rounds; 0: none does"},
    {"quantizer.rounds", FIELD(INTEGER, quantizer.rounds), RANGE(1, AQ_MAX_ROUNDS),
     .initial = "100", .changes_result = true, .help = "rounds of fitting, at most"},
    {"quantizer.noise", FIELD(REAL, quantizer.noise), RANGE(0, 1),
     .initial = "0", .changes_result = true,
     .help = "on codebooks in the first 4/5 of the rounds"},
    {"quantizer.kmeans_iterations", FIELD(INTEGER, quantizer.kmeans_iterations), RANGE(1, 1e4),
     .initial = "100", .changes_result = true, .help = "iterations of k-means at the start"},
    {"quantizer.kmeans_starts", FIELD(INTEGER, quantizer.kmeans_starts), RANGE(1, 100),
     .initial = "4", .changes_result = true,
     .help = "random starts of k-means; the best counts"},
    {"quantizer.solver", FIELD(CHOICE, quantizer.solver), .choices = "cg|adam",
     .initial = "cg", .changes_result = true, .help = "of codebooks and scales"},
    {"quantizer.adam_steps", FIELD(INTEGER, quantizer.adam_steps), RANGE(1, 1e5),
     .initial = "100", .changes_result = true, .help = "Adam's steps a round"},
    {"quantizer.learning_rate", FIELD(REAL, quantizer.learning_rate), RANGE(1e-9, 1),
     .initial = "1e-4", .changes_result = true, .help = "of these steps"},

    {"tuning.epochs", FIELD(INTEGER, tuning.epochs), RANGE(0, 1e4),
     .initial = "10", .changes_result = true, .help = "epochs of block tuning, at most; 0: none"},
    {"tuning.batch", FIELD(INTEGER, tuning.batch), RANGE(1, 1 << 16),
     .initial = "32", .changes_result = true, .help = "sequences a step"},
    {"tuning.patience", FIELD(INTEGER, tuning.patience), RANGE(1, 1e4),
     .initial = "3", .changes_result = true,
     .help = "epochs without improvement that end it"},
    {"tuning.learning_rate", FIELD(REAL, tuning.learning_rate), RANGE(1e-9, 1),
     .initial = "1e-4", .changes_result = true, .help = "of block tuning"},
    {"tuning.precision", FIELD(CHOICE, tuning.precision), .choices = "half|fast",
     .initial = "half", .changes_result = true,
     .help = "a GPU's bfloat16 or TF32"},

    {"run.backend", FIELD(NAME, run.backend), .choices = "auto|cpu|cuda",
     .initial = "auto", .help = "what computes"},
    {"run.inputs", FIELD(CHOICE, run.inputs), .choices = "dense|quantized",
     .initial = "dense", .changes_result = true, .help = "whose outputs feed a block"},
    {"run.seed", FIELD(INTEGER, run.seed), RANGE(0, EXACT_INTEGERS),
     .initial = "0", .changes_result = true, .help = "of all random numbers"},
    {"run.team_size", FIELD(INTEGER, run.team_size), RANGE(1, 4096),
     .initial = "1", .help = "ranks that work on a block together"},
    {"run.share_gpus", FIELD(CHOICE, run.share_gpus), .choices = "no|yes",
     .initial = "no", .help = "may ranks share a GPU?"},
    {"run.silence_seconds", FIELD(INTEGER, run.silence_seconds), RANGE(2, 86400),
     .initial = "60", .help = "a rank not heard of is lost"},
    {"run.hang_seconds", FIELD(INTEGER, run.hang_seconds), RANGE(2, 1e7),
     .initial = "600", .help = "so is one without progress"},
    {"run.snapshot_every", FIELD(INTEGER, run.snapshot_every), RANGE(0, 1e6),
     .initial = "0", .help = "blocks between activations on disk; 0: none"},
    {"run.threads", FIELD(INTEGER, run.threads), RANGE(0, 4096),
     .initial = "0", .help = "CPU threads a process; 0: its share"},
    {"run.lanes", FIELD(INTEGER, run.lanes), RANGE(0, AQ_MAX_LANES),
     .initial = "0", .help = "layers fitted at a time; 0: chosen"},
    {"run.device_memory", FIELD(INTEGER, run.device_memory), RANGE(0, 1e9),
     .initial = "0", .help = "GPU MB for activations; 0: half of the free"},
};
/* clang-format on */

const size_t aq_setting_count = sizeof aq_settings / sizeof *aq_settings;

static void *field_of(const aq_setting *setting, aq_config *config) {
    return (char *)config + setting->offset;
}

static const void *value_of(const aq_setting *setting, const aq_config *config) {
    return (const char *)config + setting->offset;
}

static bool is_text(const aq_setting *setting) {
    return setting->kind == AQ_SETTING_PATH || setting->kind == AQ_SETTING_NAME;
}

const aq_setting *aq_setting_find(const char *key) {
    for (size_t i = 0; i < aq_setting_count; i++)
        if (strcmp(aq_settings[i].key, key) == 0) return &aq_settings[i];
    return NULL;
}

bool aq_setting_is_section(const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i < aq_setting_count; i++)
        if (strncmp(aq_settings[i].key, name, length) == 0 && aq_settings[i].key[length] == '.')
            return true;
    return false;
}

static const char *key_of(size_t index) {
    return aq_settings[index].key;
}

aq_status aq_setting_unknown(const char *key) {
    AQ_REQUIRE(!aq_setting_is_section(key), AQ_INVALID,
               "%s is a section: its settings are indented below it, or written %s.<setting>", key,
               key);
    const char *closest = aq_closest(key, key_of, aq_setting_count);
    if (!closest) return AQ_FAIL(AQ_INVALID, "unknown key %s", key);
    return AQ_FAIL(AQ_INVALID, "unknown key %s: did you mean %s?", key, closest);
}

/* The place of `text` in "first|second|third", -1 if it is not there. */
static int choice_index(const char *choices, const char *text) {
    size_t length = strlen(text);
    for (int index = 0; choices; index++) {
        const char *end = strchr(choices, '|');
        size_t size = end ? (size_t)(end - choices) : strlen(choices);
        if (size == length && strncmp(choices, text, size) == 0) return index;
        choices = end ? end + 1 : NULL;
    }
    return -1;
}

static const char *choice_text(const char *choices, int index, char *room) {
    while (index-- > 0) choices = strchr(choices, '|') + 1;
    snprintf(room, AQ_SETTING_TEXT, "%.*s", (int)strcspn(choices, "|"), choices);
    return room;
}

void aq_setting_expected(const aq_setting *setting, char *text, size_t size) {
    switch (setting->kind) {
    case AQ_SETTING_PATH:
        snprintf(text, size, "a path");
        break;
    case AQ_SETTING_NAME:
    case AQ_SETTING_CHOICE:
        snprintf(text, size, "%s", setting->choices);
        break;
    case AQ_SETTING_INTEGER:
    case AQ_SETTING_COUNT:
        snprintf(text, size, "an integer from %.0f to %.0f", setting->least, setting->most);
        break;
    case AQ_SETTING_REAL:
        snprintf(text, size, "a number from %g to %g", setting->least, setting->most);
        break;
    case AQ_SETTING_SCHEME:
        snprintf(text, size, "codebooks x bits, such as 2x8");
    }
}

static aq_status unexpected(const aq_setting *setting, const char *text) {
    char expected[AQ_SETTING_TEXT];
    aq_setting_expected(setting, expected, sizeof expected);
    return AQ_FAIL(AQ_INVALID, "%s: expected %s, found \"%.100s\"", setting->key, expected, text);
}

/* strtod and strtol take more than a setting is: spaces, hexadecimals, "nan". */
static bool parse_number(const aq_setting *setting, const char *text, double *number) {
    bool real = setting->kind == AQ_SETTING_REAL;
    char *end;
    if (!*text || text[strspn(text, real ? "0123456789+-.eE" : "0123456789-")]) return false;
    *number = strtod(text, &end);
    return *end == 0 && *number >= setting->least && *number <= setting->most;
}

static aq_status set_text(const aq_setting *setting, const char *text, aq_config *config) {
    char **field = field_of(setting, config), *copy = strdup(text);
    AQ_REQUIRE(copy, AQ_MEMORY, "out of memory");
    free(*field);
    *field = copy;
    return AQ_OK;
}

static aq_status set_number(const aq_setting *setting, const char *text, aq_config *config) {
    double number;
    if (!parse_number(setting, text, &number)) return unexpected(setting, text);
    void *field = field_of(setting, config);
    if (setting->kind == AQ_SETTING_INTEGER) *(long *)field = (long)number;
    if (setting->kind == AQ_SETTING_COUNT) *(int *)field = (int)number;
    if (setting->kind == AQ_SETTING_REAL) *(double *)field = number;
    return AQ_OK;
}

aq_status aq_setting_set(const aq_setting *setting, const char *text, aq_config *config) {
    bool chosen = !setting->choices || choice_index(setting->choices, text) >= 0;
    if (!*text || !chosen) return unexpected(setting, text);
    if (is_text(setting)) return set_text(setting, text, config);
    if (setting->kind == AQ_SETTING_SCHEME) {
        aq_status status = aq_scheme_parse(text, field_of(setting, config));
        return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s", setting->key);
    }
    if (setting->kind != AQ_SETTING_CHOICE) return set_number(setting, text, config);
    *(unsigned *)field_of(setting, config) = (unsigned)choice_index(setting->choices, text);
    return AQ_OK;
}

double aq_setting_number(const aq_setting *setting, const aq_config *config) {
    const void *value = value_of(setting, config);
    if (setting->kind == AQ_SETTING_INTEGER) return (double)*(const long *)value;
    return setting->kind == AQ_SETTING_COUNT ? *(const int *)value : *(const double *)value;
}

/* The shortest text that reads back to the same value. */
static const char *number_text(double number, char *room) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(room, AQ_SETTING_TEXT, "%.*g", digits, number);
        if (strtod(room, NULL) == number) break;
    }
    return room;
}

const char *aq_setting_text(const aq_setting *setting, const aq_config *config, char *room) {
    const void *value = value_of(setting, config);
    if (is_text(setting)) return *(char *const *)value;
    if (setting->kind == AQ_SETTING_CHOICE)
        return choice_text(setting->choices, (int)*(const unsigned *)value, room);
    if (setting->kind == AQ_SETTING_REAL)
        return number_text(aq_setting_number(setting, config), room);
    const aq_scheme *scheme = value;
    if (setting->kind == AQ_SETTING_SCHEME)
        snprintf(room, AQ_SETTING_TEXT, "%dx%d", scheme->codebooks, scheme->bits);
    else
        snprintf(room, AQ_SETTING_TEXT, "%.0f", aq_setting_number(setting, config));
    return room;
}

void aq_setting_free(const aq_setting *setting, aq_config *config) {
    if (!is_text(setting)) return;
    char **field = field_of(setting, config);
    free(*field);
    *field = NULL;
}
