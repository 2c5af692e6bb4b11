#include "base/digest.h"
#include "base/file.h"
#include "coded_model.h"
#include "run/restarts.h"
#include "store/model_file.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A prepared run directory "name" with all block files, for the tied example model. */
typedef struct fixture {
    aq_config config;
    aq_source *source;
    aq_tokens tokens;
    aq_run_directory directory;
} fixture;

static void set(aq_config *config, const char *key, const char *value) {
    char assignment[AQ_TEST_PATH + 64];
    snprintf(assignment, sizeof assignment, "%s=%s", key, value);
    AQ_CHECK(aq_config_set(assignment, config));
}

static void write_block(const fixture *made, size_t index) {
    aq_coded_block block =
        aq_test_random_block(&made->source->shape, index, &made->directory.scheme);
    AQ_CHECK(aq_run_directory_write_block(&made->directory, &block));
    aq_coded_block_free(&block);
}

static void reopen(fixture *made) {
    aq_run_directory_close(&made->directory);
    AQ_CHECK(aq_run_directory_open(&made->config, made->source, &made->tokens, &made->directory));
    AQ_CHECK(aq_run_directory_prepare(&made->directory, &made->config));
}

static fixture fixture_new(const char *name) {
    fixture made = {0};
    char path[AQ_TEST_PATH], tokens[AQ_TEST_PATH + 32];
    snprintf(tokens, sizeof tokens, "%s/calibration.npy", aq_test_tied_model());
    AQ_CHECK(aq_config_new(&made.config));
    set(&made.config, "model", aq_test_tied_model());
    set(&made.config, "output", aq_test_path(name, path));
    set(&made.config, "calibration.tokens", tokens);
    set(&made.config, "quantizer.scheme", "1x4");
    set(&made.config, "run.backend", "cpu");
    AQ_CHECK(aq_dense_source_open(made.config.model, &made.source));
    const aq_token_cut cut = {.length = 16, .sequences = 4, .vocab = made.source->shape.vocab};
    AQ_CHECK(aq_tokens_read(tokens, &cut, &made.tokens));
    reopen(&made);
    for (size_t i = 0; i < made.source->shape.blocks; i++) write_block(&made, i);
    AQ_CHECK(aq_run_directory_gather(&made.directory));
    return made;
}

static void fixture_free(fixture *made) {
    aq_run_directory_close(&made->directory);
    aq_tokens_free(&made->tokens);
    aq_source_close(made->source);
    aq_config_free(&made->config);
}

static bool exists(const fixture *made, const char *name) {
    char path[AQ_TEST_PATH];
    snprintf(path, sizeof path, "%.300s/%.100s", made->directory.path, name);
    return access(path, F_OK) == 0;
}

/* How many of the block files are there. */
static size_t count_blocks(const fixture *made) {
    char name[64];
    size_t count = 0;
    for (size_t i = 0; i < made->source->shape.blocks; i++) {
        snprintf(name, sizeof name, "blocks/block-%04zu.h5", i);
        count += exists(made, name);
    }
    return count;
}

static aq_restart request(fixture *made, const char *blocks, const char *key, const char *value) {
    aq_restart restart = {0};
    AQ_CHECK(aq_restart_parse(blocks, &restart));
    if (key) set(&made->config, key, value);
    AQ_CHECK(aq_restart_split(&made->config, &restart));
    return restart;
}

static void lists_of_blocks_are_read(void) {
    aq_restart restart = {0};
    AQ_CHECK(aq_restart_parse("3", &restart));
    AQ_CHECK(aq_restart_parse("0,12", &restart));
    CU_ASSERT_EQUAL(restart.count, 3);
    CU_ASSERT_TRUE(restart.blocks[0] == 3 && restart.blocks[1] == 0 && restart.blocks[2] == 12);
    static const char *const bad[] = {"", "x", "3,", "-1", "3-5", "3,,4", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        AQ_CHECK_FAILS(aq_restart_parse(bad[i], &restart), AQ_INVALID, "expected 3 or 3,5,7");
}

static void chosen_blocks_and_the_gathered_file_are_set_aside_once(void) {
    fixture made = fixture_new("chosen");
    aq_restart restart = request(&made, "1", "quantizer.rounds", "7");
    AQ_CHECK(aq_restarts_begin(&made.directory, &restart, AQ_INPUTS_DENSE));
    CU_ASSERT_EQUAL(count_blocks(&made), made.source->shape.blocks - 1);
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0001.h5.replaced"));
    CU_ASSERT_FALSE(exists(&made, "model.aqlm.h5"));
    write_block(&made, 1);
    reopen(&made); /* interrupted before it was gathered, and given again */
    AQ_CHECK(aq_restarts_begin(&made.directory, &restart, AQ_INPUTS_DENSE));
    AQ_CHECK(aq_restarts_begin(&made.directory, NULL, AQ_INPUTS_DENSE));
    CU_ASSERT_EQUAL(count_blocks(&made), made.source->shape.blocks);
    AQ_CHECK(aq_restarts_end(&made.directory));
    reopen(&made);
    AQ_CHECK(aq_restarts_begin(&made.directory, &restart, AQ_INPUTS_DENSE));
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0001.h5.replaced-2"));
    aq_restart_free(&restart);
    fixture_free(&made);
}

static void write_restarts(const fixture *made, const char *text) {
    char path[AQ_TEST_PATH];
    snprintf(path, sizeof path, "%.300s/restarts.json", made->directory.path);
    AQ_CHECK(aq_digest_replace(path, text, strlen(text)));
}

/* A job that died when it had noted the request, before it set anything aside. */
static void a_request_that_was_only_noted_is_carried_out(void) {
    fixture made = fixture_new("noted");
    write_restarts(&made, "{\"settings\": {}, \"requested\": [1], \"cleared\": false}");
    reopen(&made);
    AQ_CHECK(aq_restarts_begin(&made.directory, NULL, AQ_INPUTS_DENSE));
    CU_ASSERT_EQUAL(count_blocks(&made), made.source->shape.blocks - 1);
    CU_ASSERT_FALSE(exists(&made, "blocks/block-0001.h5"));
    write_block(&made, 1);
    AQ_CHECK(aq_restarts_begin(&made.directory, NULL, AQ_INPUTS_DENSE));
    CU_ASSERT_EQUAL(count_blocks(&made), made.source->shape.blocks);
    fixture_free(&made);
}

static void damaged_notes_are_refused_with_what_to_do(void) {
    fixture made = fixture_new("notes");
    char path[AQ_TEST_PATH];
    aq_config effective;
    snprintf(path, sizeof path, "%.300s/restarts.json", made.directory.path);
    write_restarts(&made, "{\"settings\": {\"1\": {\"model\": \"x\"}}}");
    reopen(&made);
    AQ_CHECK_FAILS(aq_restarts_config(&made.directory, 1, &made.config, &effective), AQ_FORMAT,
                   "restarts.json: model is no setting of a block");
    AQ_CHECK(aq_file_write(path, "{}", 2));
    AQ_CHECK_FAILS(aq_run_directory_prepare(&made.directory, &made.config), AQ_FORMAT,
                   "finished ones keep theirs if you remove");
    CU_ASSERT_EQUAL(count_blocks(&made), made.source->shape.blocks);
    AQ_CHECK(aq_digest_remove(path));
    AQ_CHECK(aq_run_directory_prepare(&made.directory, &made.config));
    fixture_free(&made);
}

static void later_blocks_follow_where_inputs_are_quantized(void) {
    fixture made = fixture_new("later");
    aq_restart restart = request(&made, "2", NULL, NULL);
    AQ_CHECK(aq_restarts_begin(&made.directory, &restart, AQ_INPUTS_QUANTIZED));
    CU_ASSERT_EQUAL(count_blocks(&made), 2);
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0000.h5"));
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0001.h5"));
    aq_restart_free(&restart);
    fixture_free(&made);
}

static void only_chosen_blocks_get_the_other_settings(void) {
    fixture made = fixture_new("effective");
    aq_config effective;
    double error;
    char run[AQ_FINGERPRINT_SIZE], own[AQ_FINGERPRINT_SIZE];
    aq_restart restart = request(&made, "1", "tuning.learning_rate", "0.25");
    CU_ASSERT_EQUAL(made.config.tuning.learning_rate, 1e-4); /* the run's again */
    AQ_CHECK(aq_restarts_begin(&made.directory, &restart, AQ_INPUTS_DENSE));
    write_block(&made, 1);
    reopen(&made);
    for (size_t i = 0; i < 3; i++) {
        AQ_CHECK(aq_restarts_config(&made.directory, i, &made.config, &effective));
        CU_ASSERT_EQUAL(effective.tuning.learning_rate, i == 1 ? 0.25 : 1e-4);
        aq_run_directory_block_fingerprint(&made.directory, i, own);
        memcpy(run, made.directory.fingerprint, sizeof run);
        CU_ASSERT_EQUAL(strcmp(run, own) == 0, i != 1);
        CU_ASSERT_TRUE(aq_run_directory_finished(&made.directory, i, aq_test_backend(), &error));
    }
    aq_restart_free(&restart);
    fixture_free(&made);
}

static void the_report_tells_which_block_differs(void) {
    fixture made = fixture_new("report");
    aq_source *model;
    char *report;
    size_t size;
    aq_restart restart = request(&made, "1", "run.seed", "12");
    AQ_CHECK(aq_restarts_begin(&made.directory, &restart, AQ_INPUTS_DENSE));
    write_block(&made, 1);
    AQ_CHECK(aq_run_directory_gather(&made.directory));
    AQ_CHECK(aq_model_file_open(made.directory.model_path, &model));
    AQ_CHECK(model->read_file(model, "aqlm_mpi.json", &report, &size));
    const char *second = strstr(report, "\"index\": 1"), *third = strstr(report, "\"index\": 2");
    const char *differs = strstr(report, "\"run.seed\": \"12\"");
    CU_ASSERT_TRUE(second && third && differs && differs > second && differs < third);
    free(report);
    aq_source_close(model);
    aq_restart_free(&restart);
    fixture_free(&made);
}

static void what_all_blocks_share_is_refused(void) {
    fixture made = fixture_new("refused");
    static const char *const keys[][2] = {{"quantizer.scheme", "2x4"},
                                          {"quantizer.group", "4"},
                                          {"calibration.sequences", "3"},
                                          {"run.inputs", "quantized"}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        aq_restart restart = {0};
        char path[AQ_TEST_PATH];
        aq_config config;
        AQ_CHECK(aq_restart_parse("1", &restart));
        AQ_CHECK(aq_config_new(&config));
        snprintf(path, sizeof path, "%.300s/config.yaml", made.directory.path);
        AQ_CHECK(aq_config_read(path, &config));
        set(&config, keys[i][0], keys[i][1]);
        AQ_CHECK_FAILS(aq_restart_split(&config, &restart), AQ_INVALID, keys[i][0]);
        aq_config_free(&config);
        aq_restart_free(&restart);
    }
    aq_restart restart = request(&made, "99", NULL, NULL);
    AQ_CHECK_FAILS(aq_restarts_begin(&made.directory, &restart, AQ_INPUTS_DENSE), AQ_INVALID,
                   "the model's blocks are 0 to 3");
    CU_ASSERT_EQUAL(count_blocks(&made), made.source->shape.blocks);
    CU_ASSERT_FALSE(exists(&made, "restarts.json"));
    aq_restart_free(&restart);
    fixture_free(&made);
}

static void a_run_must_be_there(void) {
    fixture made = fixture_new("there");
    char path[AQ_TEST_PATH];
    aq_restart restart = {.blocks = {1}, .count = 1};
    set(&made.config, "output", aq_test_path("nowhere", path));
    AQ_CHECK_FAILS(aq_restart_split(&made.config, &restart), AQ_MISSING, "nowhere/config.yaml");
    aq_restart_free(&restart);
    fixture_free(&made);
}

static const aq_case cases[] = {
    AQ_CASE(lists_of_blocks_are_read),
    AQ_CASE(chosen_blocks_and_the_gathered_file_are_set_aside_once),
    AQ_CASE(a_request_that_was_only_noted_is_carried_out),
    AQ_CASE(damaged_notes_are_refused_with_what_to_do),
    AQ_CASE(later_blocks_follow_where_inputs_are_quantized),
    AQ_CASE(only_chosen_blocks_get_the_other_settings),
    AQ_CASE(the_report_tells_which_block_differs),
    AQ_CASE(what_all_blocks_share_is_refused),
    AQ_CASE(a_run_must_be_there),
};

int main(int argc, char **argv) {
    return aq_test_backend_main("restarts", cases, sizeof cases / sizeof *cases, argc, argv);
}
