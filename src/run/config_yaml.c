/* Reads and writes settings as YAML through libyaml's events. */
#include "base/file.h"
#include "run/config_table.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { LONGEST_KEY = 128, LARGEST_FILE = 1 << 20 };

typedef struct yaml_reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the last one; owned */
    aq_config *config;
    bool *seen; /* a flag a row */
} yaml_reader;

/* Line of the last event, from 1. */
static unsigned line_of(const yaml_reader *reader) {
    return (unsigned)reader->event.start_mark.line + 1;
}

static aq_status at_line(const yaml_reader *reader, aq_status status) {
    return aq_error_at(status, "line %u", line_of(reader));
}

static aq_status next_event(yaml_reader *reader) {
    yaml_parser_t *parser = &reader->parser;
    yaml_event_delete(&reader->event);
    if (yaml_parser_parse(parser, &reader->event)) return AQ_OK;
    memset(&reader->event, 0, sizeof reader->event);
    AQ_REQUIRE(parser->error != YAML_MEMORY_ERROR, AQ_MEMORY, "out of memory");
    return AQ_FAIL(AQ_FORMAT, "line %zu: not YAML: %s", parser->problem_mark.line + 1,
                   parser->problem ? parser->problem : "unknown reason");
}

/* The last event's scalar; text with a zero byte inside is nobody's key or value. */
static aq_status scalar_text(const yaml_reader *reader, const char *what, const char **text) {
    const char *value = (const char *)reader->event.data.scalar.value;
    AQ_REQUIRE(reader->event.type == YAML_SCALAR_EVENT, AQ_FORMAT,
               "line %u: %s: expected one plain value, found %s", line_of(reader), what,
               reader->event.type == YAML_ALIAS_EVENT ? "an alias" : "a list or a mapping");
    AQ_REQUIRE(strlen(value) == reader->event.data.scalar.length, AQ_FORMAT,
               "line %u: %s: holds a zero byte", line_of(reader), what);
    *text = value;
    return AQ_OK;
}

static bool is_null(const yaml_reader *reader) {
    const char *value = (const char *)reader->event.data.scalar.value;
    return reader->event.type == YAML_SCALAR_EVENT &&
           reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*value || strcmp(value, "~") == 0 || strcmp(value, "null") == 0);
}

static aq_status set_once(yaml_reader *reader, const aq_setting *setting) {
    bool *seen = &reader->seen[setting - aq_settings];
    const char *text = NULL;
    AQ_REQUIRE(!*seen, AQ_INVALID, "line %u: %s stands there twice", line_of(reader), setting->key);
    *seen = true;
    AQ_REQUIRE(!is_null(reader), AQ_INVALID, "line %u: %s has no value", line_of(reader),
               setting->key);
    AQ_TRY(scalar_text(reader, setting->key, &text));
    aq_status status = aq_setting_set(setting, text, reader->config);
    return status == AQ_OK ? AQ_OK : at_line(reader, status);
}

static aq_status read_section(yaml_reader *reader, const char *section);

/* The value of `key` has been met. A section may be empty: all its lines may be comments. An
 * unknown one is left to its first key, whose nearest neighbour shows both. */
static aq_status read_value(yaml_reader *reader, const char *key) {
    const aq_setting *setting = aq_setting_find(key);
    if (setting) return set_once(reader, setting);
    bool known = aq_setting_is_section(key);
    if (known && is_null(reader)) return AQ_OK;
    if (reader->event.type == YAML_MAPPING_START_EVENT) {
        AQ_TRY(read_section(reader, key));
        if (known) return AQ_OK;
    }
    return at_line(reader, aq_setting_unknown(key));
}

/* `section` is "" at the top; its mapping has just begun. */
static aq_status read_section(yaml_reader *reader, const char *section) {
    const char *name = NULL;
    char key[LONGEST_KEY];
    AQ_TRY(next_event(reader));
    while (reader->event.type != YAML_MAPPING_END_EVENT) {
        AQ_TRY(scalar_text(reader, "a key", &name));
        int used = snprintf(key, sizeof key, "%s%s%s", section, *section ? "." : "", name);
        AQ_REQUIRE(used < LONGEST_KEY, AQ_INVALID, "line %u: unknown key %.40s...", line_of(reader),
                   key);
        AQ_TRY(next_event(reader));
        AQ_TRY(read_value(reader, key));
        AQ_TRY(next_event(reader));
    }
    return AQ_OK;
}

static aq_status read_document(yaml_reader *reader) {
    AQ_TRY(next_event(reader)); /* the stream starts */
    AQ_TRY(next_event(reader));
    AQ_REQUIRE(reader->event.type == YAML_DOCUMENT_START_EVENT, AQ_INVALID,
               "holds no settings: expected lines such as \"model: path\"");
    AQ_TRY(next_event(reader));
    AQ_REQUIRE(reader->event.type == YAML_MAPPING_START_EVENT, AQ_FORMAT,
               "line %u: expected settings as \"key: value\" lines", line_of(reader));
    AQ_TRY(read_section(reader, ""));
    AQ_TRY(next_event(reader)); /* the document ends */
    AQ_TRY(next_event(reader));
    AQ_REQUIRE(reader->event.type == YAML_STREAM_END_EVENT, AQ_FORMAT,
               "line %u: a second document starts; expected one", line_of(reader));
    return AQ_OK;
}

aq_status aq_config_parse(const char *text, size_t size, aq_config *config) {
    yaml_reader reader = {.config = config, .seen = calloc(aq_setting_count, sizeof(bool))};
    aq_status status = AQ_OK;
    AQ_REQUIRE(reader.seen, AQ_MEMORY, "out of memory");
    bool ready = yaml_parser_initialize(&reader.parser);
    AQ_NEED(ready, AQ_MEMORY, "out of memory");
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
    status = read_document(&reader);
done:
    yaml_event_delete(&reader.event);
    if (ready) yaml_parser_delete(&reader.parser);
    free(reader.seen);
    return status;
}

aq_status aq_config_read(const char *path, aq_config *config) {
    char *text;
    size_t size;
    AQ_TRY(aq_file_read(path, LARGEST_FILE, &text, &size));
    aq_status status = aq_config_parse(text, size, config);
    free(text);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s", path);
}

/* Sends one event; emitters take the event over, even when they fail. */
static bool emit(yaml_emitter_t *emitter, yaml_event_t *event, int initialized) {
    return initialized && yaml_emitter_emit(emitter, event);
}

static bool emit_scalar(yaml_emitter_t *emitter, const char *text, bool quoted) {
    yaml_event_t event;
    yaml_scalar_style_t style = quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE;
    return emit(emitter, &event,
                yaml_scalar_event_initialize(&event, NULL, NULL, (const unsigned char *)text,
                                             (int)strlen(text), true, true, style));
}

static bool open_mapping(yaml_emitter_t *emitter) {
    yaml_event_t event;
    return emit(
        emitter, &event,
        yaml_mapping_start_event_initialize(&event, NULL, NULL, true, YAML_BLOCK_MAPPING_STYLE));
}

static bool close_mapping(yaml_emitter_t *emitter) {
    yaml_event_t event;
    return emit(emitter, &event, yaml_mapping_end_event_initialize(&event));
}

static size_t section_length(const aq_setting *setting) {
    const char *dot = strchr(setting->key, '.');
    return dot ? (size_t)(dot - setting->key) : 0;
}

static bool same_section(const aq_setting *one, const aq_setting *other) {
    size_t length = section_length(one);
    return length == section_length(other) && strncmp(one->key, other->key, length) == 0;
}

/* Closes the section of `previous` (NULL at the start) and opens that of `setting`. */
static bool change_section(yaml_emitter_t *emitter, const aq_setting *previous,
                           const aq_setting *setting) {
    char name[LONGEST_KEY];
    if (previous && same_section(previous, setting)) return true;
    if (previous && section_length(previous) && !close_mapping(emitter)) return false;
    snprintf(name, sizeof name, "%.*s", (int)section_length(setting), setting->key);
    return !*name || (emit_scalar(emitter, name, false) && open_mapping(emitter));
}

static bool emit_setting(yaml_emitter_t *emitter, const aq_setting *setting,
                         const aq_config *config) {
    char room[AQ_SETTING_TEXT];
    const char *text = aq_setting_text(setting, config, room);
    size_t section = section_length(setting);
    return !text || (emit_scalar(emitter, setting->key + section + (section > 0), false) &&
                     emit_scalar(emitter, text, setting->kind == AQ_SETTING_PATH));
}

/* Rows of a section stand together in the table. */
static bool emit_settings(yaml_emitter_t *emitter, const aq_config *config) {
    const aq_setting *previous = NULL;
    for (size_t i = 0; i < aq_setting_count; i++) {
        if (!change_section(emitter, previous, &aq_settings[i])) return false;
        if (!emit_setting(emitter, &aq_settings[i], config)) return false;
        previous = &aq_settings[i];
    }
    return !section_length(previous) || close_mapping(emitter);
}

static bool emit_document(yaml_emitter_t *emitter, const aq_config *config) {
    yaml_event_t event;
    return emit(emitter, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) &&
           emit(emitter, &event,
                yaml_document_start_event_initialize(&event, NULL, NULL, NULL, true)) &&
           open_mapping(emitter) && emit_settings(emitter, config) && close_mapping(emitter) &&
           emit(emitter, &event, yaml_document_end_event_initialize(&event, true)) &&
           emit(emitter, &event, yaml_stream_end_event_initialize(&event));
}

aq_status aq_config_write(const aq_config *config, FILE *file) {
    yaml_emitter_t emitter;
    AQ_REQUIRE(yaml_emitter_initialize(&emitter), AQ_MEMORY, "out of memory");
    yaml_emitter_set_output_file(&emitter, file);
    yaml_emitter_set_unicode(&emitter, true);
    yaml_emitter_set_width(&emitter, -1);
    bool written = emit_document(&emitter, config) && fflush(file) == 0;
    yaml_emitter_delete(&emitter);
    AQ_REQUIRE(written, AQ_IO,
               "the settings cannot be written (a path that is not UTF-8 text, or "
               "no room)");
    return AQ_OK;
}
