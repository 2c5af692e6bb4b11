#include "run/config_table.h"
#include "suite.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static aq_config fresh(void) {
    aq_config config;
    AQ_CHECK(aq_config_new(&config));
    return config;
}

static aq_config ready(void) {
    aq_config config = fresh();
    AQ_CHECK(aq_config_set("model=a model", &config));
    AQ_CHECK(aq_config_set("output=runs/x", &config));
    AQ_CHECK(aq_config_set("calibration.tokens=tokens.npy", &config));
    return config;
}

static const char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", aq_test_folder(), name);
    return path;
}

static aq_status read_bytes(const char *text, size_t size, aq_config *config) {
    const char *path = path_of("settings.yaml");
    FILE *file = fopen(path, "wb");
    fwrite(text, 1, size, file);
    fclose(file);
    return aq_config_read(path, config);
}

static void check_rejected(const char *text, aq_status code, const char *part) {
    aq_config config = fresh();
    AQ_CHECK_FAILS(read_bytes(text, strlen(text), &config), code, part);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "settings.yaml"));
    aq_config_free(&config);
}

static void defaults_are_the_published_ones(void) {
    aq_config config = fresh();
    CU_ASSERT_PTR_NULL(config.model);
    CU_ASSERT_EQUAL(config.calibration.sequences, 1024);
    CU_ASSERT_EQUAL(config.calibration.length, 4096);
    CU_ASSERT_EQUAL(config.calibration.validation, 128);
    CU_ASSERT_EQUAL(config.quantizer.scheme.in_group, 8);
    CU_ASSERT_EQUAL(config.quantizer.scheme.out_group, 1);
    CU_ASSERT_EQUAL(config.quantizer.tolerance, 0.01);
    CU_ASSERT_EQUAL(config.quantizer.kmeans_iterations, 100);
    CU_ASSERT_EQUAL(config.quantizer.learning_rate, 1e-4);
    CU_ASSERT_EQUAL(config.tuning.batch, 32);
    CU_ASSERT_STRING_EQUAL(config.run.backend, "auto");
    CU_ASSERT_EQUAL(config.run.inputs, AQ_INPUTS_DENSE);
    aq_config_free(&config);
}

static aq_search_kind search_of(const char *scheme, const char *beam, const char *lines) {
    aq_config config = fresh();
    char text[64];
    const char *const keys[] = {"scheme", "beam", "out_group"}, *values[] = {scheme, beam, lines};
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, "quantizer.%s=%s", keys[i], values[i]);
        AQ_CHECK(aq_config_set(text, &config));
    }
    aq_search_kind kind = aq_config_search(&config);
    AQ_CHECK(aq_config_set("quantizer.search=beam", &config));
    CU_ASSERT_EQUAL(aq_config_search(&config), AQ_SEARCH_BEAM);
    aq_config_free(&config);
    return kind;
}

static void pairs_are_searched_by_default_where_they_fit(void) {
    CU_ASSERT_EQUAL(search_of("2x8", "1", "1"), AQ_SEARCH_PAIRS);
    CU_ASSERT_EQUAL(search_of("2x4", "1", "1"), AQ_SEARCH_PAIRS);
    CU_ASSERT_EQUAL(search_of("2x8", "4", "1"), AQ_SEARCH_BEAM);
    CU_ASSERT_EQUAL(search_of("2x8", "1", "2"), AQ_SEARCH_BEAM);
    CU_ASSERT_EQUAL(search_of("1x16", "1", "1"), AQ_SEARCH_BEAM);
    CU_ASSERT_EQUAL(search_of("2x9", "1", "1"), AQ_SEARCH_BEAM);
}

static void yaml_sets_nested_keys_and_leaves_the_rest(void) {
    static const char text[] = "model: 'm'   # a comment\n"
                               "calibration: {tokens: t.npy, sequences: 12}\n"
                               "quantizer:\n  scheme: 1x16\n  out_group: 2\n  tolerance: 5e-3\n"
                               "tuning:\n"
                               "run.inputs: quantized\n"
                               "run:\n  seed: 9007199254740991\n  backend: \"cpu\"\n";
    aq_config config = fresh();
    AQ_CHECK(read_bytes(text, sizeof text - 1, &config));
    CU_ASSERT_STRING_EQUAL(config.model, "m");
    CU_ASSERT_STRING_EQUAL(config.calibration.tokens, "t.npy");
    CU_ASSERT_EQUAL(config.calibration.sequences, 12);
    CU_ASSERT_EQUAL(config.quantizer.scheme.codebooks, 1);
    CU_ASSERT_EQUAL(config.quantizer.scheme.bits, 16);
    CU_ASSERT_EQUAL(config.quantizer.scheme.out_group, 2);
    CU_ASSERT_EQUAL(config.quantizer.scheme.in_group, 8);
    CU_ASSERT_EQUAL(config.quantizer.tolerance, 5e-3);
    CU_ASSERT_EQUAL(config.run.seed, 9007199254740991);
    CU_ASSERT_EQUAL(config.run.inputs, AQ_INPUTS_QUANTIZED);
    CU_ASSERT_STRING_EQUAL(config.run.backend, "cpu");
    aq_config_free(&config);
}

static void an_unknown_key_names_its_nearest_neighbour_and_line(void) {
    check_rejected("model: m\nquantizer:\n  bema: 4\n", AQ_INVALID,
                   "line 3: unknown key quantizer.bema: did you mean quantizer.beam?");
    check_rejected("quantiser:\n  beam: 4\n", AQ_INVALID, "did you mean quantizer.beam?");
    check_rejected("modell: m\n", AQ_INVALID, "did you mean model?");
    check_rejected("xyzzy: 1\n", AQ_INVALID, "unknown key xyzzy");
    check_rejected("other: {}\n", AQ_INVALID, "unknown key other");
    check_rejected("a: {a: {a: {a: {a: {a: {a: 1}}}}}}\n", AQ_INVALID, "unknown key a.a.a.a.a.a.a");
    check_rejected("tuning: 3\n", AQ_INVALID, "tuning is a section");
}

static void values_of_the_wrong_kind_are_refused(void) {
    check_rejected("run:\n  seed: seven\n", AQ_INVALID, "line 2: run.seed: expected an integer");
    check_rejected("quantizer: {beam: 1.5}\n", AQ_INVALID, "found \"1.5\"");
    check_rejected("quantizer: {beam: 1-2}\n", AQ_INVALID, "found \"1-2\"");
    check_rejected("quantizer: {beam: 0x4}\n", AQ_INVALID, "found \"0x4\"");
    check_rejected("quantizer: {tolerance: nan}\n", AQ_INVALID, "a number from 0 to 1");
    check_rejected("quantizer: {scheme: 8}\n", AQ_INVALID, "quantizer.scheme");
    check_rejected("run: {inputs: both}\n", AQ_INVALID, "dense|quantized");
    check_rejected("run: {backend: gpu}\n", AQ_INVALID, "auto|cpu|cuda");
    check_rejected("model:\n", AQ_INVALID, "model has no value");
    check_rejected("model: ''\n", AQ_INVALID, "model: expected a path");
    check_rejected("model: [a, b]\n", AQ_FORMAT, "expected one plain value");
    check_rejected("model: {a: b}\n", AQ_FORMAT, "expected one plain value");
    check_rejected("model: &x m\noutput: *x\n", AQ_FORMAT, "line 2: output: expected one plain");
    check_rejected("? [a]\n: b\n", AQ_FORMAT, "a key: expected one plain value");
    check_rejected("model: \"a\\0b\"\n", AQ_FORMAT, "zero byte");
}

static void values_out_of_bounds_are_refused(void) {
    check_rejected("quantizer: {beam: 0}\n", AQ_INVALID, "from 1 to 16, found \"0\"");
    check_rejected("quantizer: {beam: 17}\n", AQ_INVALID, "from 1 to 16");
    check_rejected("quantizer: {scheme: 2x17}\n", AQ_INVALID, "2x17");
    check_rejected("quantizer: {group: 0}\n", AQ_INVALID, "quantizer.group");
    check_rejected("quantizer: {tolerance: -0.1}\n", AQ_INVALID, "quantizer.tolerance");
    check_rejected("run: {seed: 99999999999999999999}\n", AQ_INVALID, "run.seed");
    check_rejected("calibration: {sequences: -3}\n", AQ_INVALID, "calibration.sequences");
    check_rejected("tuning: {learning_rate: 0}\n", AQ_INVALID, "tuning.learning_rate");
}

static void files_that_are_not_settings_are_refused(void) {
    aq_config config = fresh();
    AQ_CHECK_FAILS(aq_config_read("/no/such/file.yaml", &config), AQ_MISSING, "/no/such/file.yaml");
    CU_ASSERT_NOT_EQUAL(aq_config_read(aq_test_folder(), &config), AQ_OK);
    aq_config_free(&config);
    check_rejected("", AQ_INVALID, "holds no settings");
    check_rejected("# only a comment\n", AQ_INVALID, "holds no settings");
    check_rejected("just text\n", AQ_FORMAT, "expected settings");
    check_rejected("- model\n", AQ_FORMAT, "expected settings");
    check_rejected("model: a\nmodel: b\n", AQ_INVALID, "line 2: model stands there twice");
    check_rejected("run: {seed: 1}\nrun: {seed: 1}\n", AQ_INVALID, "run.seed stands there twice");
    check_rejected("model: a\n---\nmodel: b\n", AQ_FORMAT, "second document");
    check_rejected("model: [a\n", AQ_FORMAT, "expected one plain value");
    check_rejected("model: \"a\nrun: 1\n", AQ_FORMAT, "not YAML");
    check_rejected("model:\ta\n\tb: c\n", AQ_FORMAT, "not YAML");
    check_rejected("model: \xff\xfe\n", AQ_FORMAT, "not YAML");
}

/* Every beginning of a file, and every file with one byte changed, is read or refused, never more.
 */
static void damaged_files_do_no_harm(void) {
    static const char text[] =
        "model: &a 'm'\nquantizer: {scheme: 2x8, beam: 4}\nrun:\n  seed: 1\n";
    static const char bytes[] = "\0\t\n {}[]&*!'\":-?#%@`|>\xff\xc3";
    char changed[sizeof text];
    for (size_t i = 0; i < sizeof text; i++) {
        aq_config config = fresh();
        read_bytes(text, i, &config);
        memcpy(changed, text, sizeof text);
        changed[i] = bytes[aq_random_below(aq_random(1, AQ_STREAM_TEST, i), sizeof bytes - 1)];
        read_bytes(changed, sizeof text - 1, &config);
        CU_ASSERT(config.quantizer.beam == 1 || config.quantizer.beam == 4);
        aq_config_free(&config);
    }
}

static void set_takes_key_and_value(void) {
    aq_config config = fresh();
    AQ_CHECK(aq_config_set("model=a=b", &config));
    CU_ASSERT_STRING_EQUAL(config.model, "a=b");
    AQ_CHECK(aq_config_set("model=c", &config));
    CU_ASSERT_STRING_EQUAL(config.model, "c");
    AQ_CHECK(aq_config_set("quantizer.scheme=3x5", &config));
    CU_ASSERT_EQUAL(config.quantizer.scheme.bits, 5);
    AQ_CHECK_FAILS(aq_config_set("quantizer.scheme", &config), AQ_INVALID, "key=value");
    AQ_CHECK_FAILS(aq_config_set("=3", &config), AQ_INVALID, "unknown key");
    AQ_CHECK_FAILS(aq_config_set("quantizer.bema=3", &config), AQ_INVALID, "quantizer.beam");
    AQ_CHECK_FAILS(aq_config_set("quantizer=3", &config), AQ_INVALID, "section");
    aq_config_free(&config);
}

static void the_check_sees_what_no_single_setting_can(void) {
    aq_config config = fresh();
    AQ_CHECK_FAILS(aq_config_check(&config), AQ_INVALID, "model is not set");
    aq_config_free(&config);
    config = ready();
    AQ_CHECK(aq_config_check(&config));
    AQ_CHECK(aq_config_set("calibration.sequences=128", &config));
    AQ_CHECK_FAILS(aq_config_check(&config), AQ_INVALID, "validation is 128");
    AQ_CHECK(aq_config_set("calibration.validation=0", &config));
    AQ_CHECK(aq_config_check(&config));
    AQ_CHECK(aq_config_set("output=a model", &config));
    AQ_CHECK_FAILS(aq_config_check(&config), AQ_INVALID, "same folder");
    aq_config_free(&config);
}

static char *text_of(const aq_config *config) {
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    AQ_CHECK(aq_config_write(config, stream));
    fclose(stream);
    return text;
}

static void what_is_written_reads_back_the_same(void) {
    aq_config config = ready(), copy = fresh();
    AQ_CHECK(aq_config_set("model=/x y/'\"\\\n\t#: \xc3\xbc\xe2\x80\xa8/z", &config));
    AQ_CHECK(aq_config_set("output=null", &config));
    AQ_CHECK(aq_config_set("tuning.learning_rate=0.000123456789012345678", &config));
    AQ_CHECK(aq_config_set("run.inputs=quantized", &config));
    AQ_CHECK(aq_config_set("run.device_memory=12345", &config));
    char *text = text_of(&config);
    AQ_CHECK(read_bytes(text, strlen(text), &copy));
    char *again = text_of(&copy);
    CU_ASSERT_STRING_EQUAL(text, again);
    CU_ASSERT_STRING_EQUAL(config.model, copy.model);
    CU_ASSERT_STRING_EQUAL(copy.output, "null");
    CU_ASSERT_EQUAL(config.tuning.learning_rate, copy.tuning.learning_rate);
    CU_ASSERT_EQUAL(copy.run.device_memory, 12345);
    free(text);
    free(again);
    aq_config_free(&config);
    aq_config_free(&copy);
}

static void a_path_that_yaml_cannot_hold_is_refused(void) {
    aq_config config = ready();
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    AQ_CHECK(aq_config_set("model=\xff", &config));
    AQ_CHECK_FAILS(aq_config_write(&config, stream), AQ_IO, "UTF-8");
    fclose(stream);
    free(text);
    aq_config_free(&config);
}

static void settings_hold_what_changes_the_result_and_no_place(void) {
    aq_config config = ready();
    char *settings, *others;
    AQ_CHECK(aq_config_settings(&config, &settings));
    CU_ASSERT_PTR_NOT_NULL(strstr(settings, "\"quantizer.scheme\": \"2x8\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(settings, "\"run.seed\": 0"));
    CU_ASSERT_PTR_NULL(strstr(settings, "tokens.npy"));
    CU_ASSERT_PTR_NULL(strstr(settings, "run.threads"));
    AQ_CHECK(aq_config_set("output=elsewhere", &config));
    AQ_CHECK(aq_config_set("run.threads=7", &config));
    AQ_CHECK(aq_config_settings(&config, &others));
    CU_ASSERT_STRING_EQUAL(settings, others);
    free(settings);
    free(others);
    aq_config_free(&config);
}

static void runs_with_other_results_are_told_apart(void) {
    aq_config one = ready(), other = ready();
    AQ_CHECK(aq_config_set("model=elsewhere", &other));
    AQ_CHECK(aq_config_set("run.device_memory=1", &other));
    AQ_CHECK(aq_config_same_result(&one, &other));
    AQ_CHECK(aq_config_set("quantizer.beam=4", &other));
    AQ_CHECK_FAILS(aq_config_same_result(&one, &other), AQ_INVALID,
                   "quantizer.beam was 1 and is now 4");
    aq_config_free(&one);
    aq_config_free(&other);
}

static void help_has_one_short_line_a_setting(void) {
    char *text = NULL;
    size_t size, lines = 0;
    FILE *stream = open_memstream(&text, &size);
    aq_config_help(stream);
    fclose(stream);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "  quantizer.beam=1 "));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "  model=PATH "));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "(dense|quantized)"));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        CU_ASSERT(strlen(line) <= 78);
        lines++;
    }
    CU_ASSERT_EQUAL(lines, aq_setting_count);
    free(text);
}

static void every_recipe_can_be_read(void) {
    char folder[512], path[1024];
    snprintf(folder, sizeof folder, "%s/../../configs", aq_test_data());
    DIR *recipes = opendir(folder);
    int count = 0;
    CU_ASSERT_PTR_NOT_NULL_FATAL(recipes);
    for (struct dirent *entry; (entry = readdir(recipes));) {
        if (entry->d_name[0] == '.') continue;
        aq_config config = fresh();
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        AQ_CHECK(aq_config_read(path, &config));
        AQ_CHECK(aq_config_check(&config));
        aq_config_free(&config);
        count++;
    }
    closedir(recipes);
    CU_ASSERT(count >= 7);
}

#define CASE(name)                                                                                 \
    { #name, name }

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        CASE(defaults_are_the_published_ones),
        CASE(pairs_are_searched_by_default_where_they_fit),
        CASE(yaml_sets_nested_keys_and_leaves_the_rest),
        CASE(an_unknown_key_names_its_nearest_neighbour_and_line),
        CASE(values_of_the_wrong_kind_are_refused),
        CASE(values_out_of_bounds_are_refused),
        CASE(files_that_are_not_settings_are_refused),
        CASE(damaged_files_do_no_harm),
        CASE(set_takes_key_and_value),
        CASE(the_check_sees_what_no_single_setting_can),
        CASE(what_is_written_reads_back_the_same),
        CASE(a_path_that_yaml_cannot_hold_is_refused),
        CASE(settings_hold_what_changes_the_result_and_no_place),
        CASE(runs_with_other_results_are_told_apart),
        CASE(help_has_one_short_line_a_setting),
        CASE(every_recipe_can_be_read),
    };
    return aq_test_main("config", cases, sizeof cases / sizeof *cases, argc, argv);
}
