#include "coded_model.h"
#include "run/run_directory.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A run directory "name" of the suite's folder, for the tied example model. */
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

static void open_directory(fixture *made) {
    AQ_CHECK(aq_run_directory_open(&made->config, made->source, &made->tokens, &made->directory));
}

static fixture fixture_new(const char *name) {
    fixture made;
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
    open_directory(&made);
    return made;
}

static void reopen(fixture *made) {
    aq_run_directory_close(&made->directory);
    open_directory(made);
}

static void fixture_free(fixture *made) {
    aq_run_directory_close(&made->directory);
    aq_tokens_free(&made->tokens);
    aq_source_close(made->source);
    aq_config_free(&made->config);
}

static aq_status prepare(fixture *made) {
    return aq_run_directory_prepare(&made->directory, &made->config);
}

/* A path inside the run directory. */
static const char *inside(const fixture *made, const char *name, char path[static AQ_TEST_PATH]) {
    snprintf(path, AQ_TEST_PATH, "%.300s/%.128s", made->directory.path, name);
    return path;
}

static bool exists(const fixture *made, const char *name) {
    char path[AQ_TEST_PATH];
    return access(inside(made, name, path), F_OK) == 0;
}

static void write_text(const fixture *made, const char *name, const char *text) {
    char path[AQ_TEST_PATH];
    FILE *file = fopen(inside(made, name, path), "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
}

static void write_block(const fixture *made, size_t index) {
    aq_coded_block block =
        aq_test_random_block(&made->source->shape, index, &made->directory.scheme);
    AQ_CHECK(aq_run_directory_write_block(&made->directory, &block));
    aq_coded_block_free(&block);
}

static bool finished(const fixture *made, size_t index, double *error) {
    return aq_run_directory_finished(&made->directory, index, aq_test_backend(), error);
}

static void directory_is_made_with_its_parents(void) {
    fixture made = fixture_new("deep/er/run");
    AQ_CHECK(prepare(&made));
    CU_ASSERT_TRUE(exists(&made, "config.yaml"));
    CU_ASSERT_TRUE(exists(&made, "identity.txt"));
    CU_ASSERT_TRUE(exists(&made, "blocks"));
    AQ_CHECK(prepare(&made));
    fixture_free(&made);
}

static void resolved_config_reads_back(void) {
    fixture made = fixture_new("resolved");
    char path[AQ_TEST_PATH];
    aq_config again;
    AQ_CHECK(prepare(&made));
    AQ_CHECK(aq_config_new(&again));
    AQ_CHECK(aq_config_read(inside(&made, "config.yaml", path), &again));
    AQ_CHECK(aq_config_same_result(&again, &made.config));
    CU_ASSERT_STRING_EQUAL(again.run.backend, "cpu");
    aq_config_free(&again);
    fixture_free(&made);
}

static void other_settings_are_refused_by_name(void) {
    fixture made = fixture_new("settings");
    AQ_CHECK(prepare(&made));
    set(&made.config, "quantizer.beam", "3");
    reopen(&made);
    AQ_CHECK_FAILS(prepare(&made), AQ_INVALID, "quantizer.beam");
    set(&made.config, "quantizer.beam", "1");
    set(&made.config, "run.threads", "7");
    reopen(&made);
    AQ_CHECK(prepare(&made));
    fixture_free(&made);
}

static void another_backend_is_refused(void) {
    fixture made = fixture_new("backend");
    AQ_CHECK(prepare(&made));
    set(&made.config, "run.backend", "cuda");
    reopen(&made);
    AQ_CHECK_FAILS(prepare(&made), AQ_INVALID, "another run.backend (cpu; now cuda)");
    fixture_free(&made);
}

static void other_tokens_are_refused(void) {
    fixture made = fixture_new("tokens");
    AQ_CHECK(prepare(&made));
    made.tokens.data[5] ^= 1;
    reopen(&made);
    AQ_CHECK_FAILS(prepare(&made), AQ_INVALID, "another calibration.tokens");
    fixture_free(&made);
}

static void another_model_is_refused(void) {
    fixture made = fixture_new("model");
    AQ_CHECK(prepare(&made));
    aq_source_close(made.source);
    AQ_CHECK(aq_dense_source_open(aq_test_biased_model(), &made.source));
    reopen(&made);
    AQ_CHECK_FAILS(prepare(&made), AQ_INVALID, "another model");
    fixture_free(&made);
}

/* Takes a copy of the model, at a path of its own, for the source. */
static void use_copy(fixture *made, const char *name, char folder[static AQ_TEST_PATH]) {
    char command[3 * AQ_TEST_PATH];
    snprintf(command, sizeof command, "cp -r '%s' '%s'", aq_test_tied_model(),
             aq_test_path(name, folder));
    CU_ASSERT_EQUAL_FATAL(system(command), 0);
    aq_source_close(made->source);
    AQ_CHECK(aq_dense_source_open(folder, &made->source));
    reopen(made);
}

static void another_path_of_the_model_is_taken_and_a_changed_file_named(void) {
    fixture made = fixture_new("copied");
    char folder[AQ_TEST_PATH], file[AQ_TEST_PATH + 32], first[AQ_FINGERPRINT_SIZE];
    AQ_CHECK(prepare(&made));
    memcpy(first, made.directory.fingerprint, sizeof first);
    use_copy(&made, "model-copy", folder);
    AQ_CHECK(prepare(&made));
    CU_ASSERT_STRING_EQUAL(made.directory.fingerprint, first);
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    aq_test_flip(file, -5);
    reopen(&made);
    AQ_CHECK_FAILS(prepare(&made), AQ_INVALID, "another model (its model.safetensors had");
    fixture_free(&made);
}

static void ranks_that_join_get_the_fingerprint(void) {
    fixture made = fixture_new("joined");
    char first[AQ_FINGERPRINT_SIZE];
    AQ_CHECK_FAILS(aq_run_directory_join(&made.directory), AQ_MISSING, "identity.txt");
    AQ_CHECK(prepare(&made));
    memcpy(first, made.directory.fingerprint, sizeof first);
    reopen(&made);
    CU_ASSERT_STRING_EQUAL(made.directory.fingerprint, "");
    AQ_CHECK(aq_run_directory_join(&made.directory));
    CU_ASSERT_STRING_EQUAL(made.directory.fingerprint, first);
    fixture_free(&made);
}

/* With the block files as witnesses; without config.yaml likewise. */
static void a_damaged_config_is_written_again_by_the_same_job_only(void) {
    fixture made = fixture_new("config");
    char path[AQ_TEST_PATH];
    double error;
    AQ_CHECK(prepare(&made));
    write_block(&made, 1);
    for (int i = 0; i < 3; i++) {
        const char *name = i == 1 ? "identity.txt" : "config.yaml";
        if (i < 2) aq_test_flip(inside(&made, name, path), -5);
        if (i == 2) CU_ASSERT_EQUAL(unlink(inside(&made, name, path)), 0);
        set(&made.config, "quantizer.rounds", "77");
        reopen(&made);
        AQ_CHECK_FAILS(prepare(&made), AQ_INVALID, i == 1 ? "quantizer.rounds" : "block-0001.h5");
        set(&made.config, "quantizer.rounds", "100");
        reopen(&made);
        AQ_CHECK(prepare(&made));
        CU_ASSERT_TRUE(finished(&made, 1, &error));
    }
    CU_ASSERT_TRUE(exists(&made, "config.yaml.damaged"));
    CU_ASSERT_TRUE(exists(&made, "identity.txt.damaged"));
    fixture_free(&made);
}

static void refusal_leaves_everything_as_it_is(void) {
    fixture made = fixture_new("untouched");
    AQ_CHECK(prepare(&made));
    write_text(&made, "blocks/block-0001.h5.partial", "half");
    set(&made.config, "run.seed", "9");
    reopen(&made);
    AQ_CHECK_FAILS(prepare(&made), AQ_INVALID, "run.seed");
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0001.h5.partial"));
    fixture_free(&made);
}

static void temporary_files_of_an_earlier_run_go_away(void) {
    fixture made = fixture_new("temporary");
    AQ_CHECK(prepare(&made));
    write_text(&made, "model.aqlm.h5.partial", "half");
    write_text(&made, "blocks/block-0001.h5.partial", "half");
    write_text(&made, "notes.txt", "mine");
    AQ_CHECK(prepare(&made));
    CU_ASSERT_FALSE(exists(&made, "model.aqlm.h5.partial"));
    CU_ASSERT_FALSE(exists(&made, "blocks/block-0001.h5.partial"));
    CU_ASSERT_TRUE(exists(&made, "notes.txt"));
    fixture_free(&made);
}

static void written_blocks_are_finished(void) {
    fixture made = fixture_new("blocks");
    double error = 0;
    AQ_CHECK(prepare(&made));
    write_block(&made, 2);
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0002.h5"));
    CU_ASSERT_FALSE(finished(&made, 1, &error));
    CU_ASSERT_TRUE(finished(&made, 2, &error));
    CU_ASSERT_EQUAL(error, 0.125 / 3);
    fixture_free(&made);
}

static void damaged_and_foreign_blocks_are_not_finished(void) {
    fixture made = fixture_new("damaged");
    double error;
    char from[AQ_TEST_PATH], to[AQ_TEST_PATH];
    AQ_CHECK(prepare(&made));
    write_text(&made, "blocks/block-0000.h5", "not HDF5");
    CU_ASSERT_FALSE(finished(&made, 0, &error));
    write_block(&made, 1);
    CU_ASSERT_EQUAL(rename(inside(&made, "blocks/block-0001.h5", from),
                           inside(&made, "blocks/block-0002.h5", to)),
                    0);
    CU_ASSERT_FALSE(finished(&made, 2, &error));
    write_block(&made, 3);
    made.directory.fingerprint[0] ^= 1;
    CU_ASSERT_FALSE(finished(&made, 3, &error));
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0000.h5.damaged"));
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0003.h5.damaged"));
    CU_ASSERT_FALSE(exists(&made, "blocks/block-0003.h5"));
    fixture_free(&made);
}

/* The settings on disk are the same, but the block says that there were others. */
static void a_whole_block_of_other_settings_is_refused(void) {
    fixture made = fixture_new("version");
    AQ_CHECK(prepare(&made));
    made.directory.fingerprint[0] ^= 1;
    write_block(&made, 1);
    reopen(&made);
    AQ_CHECK_FAILS(prepare(&made), AQ_INVALID, "another version of this program");
    CU_ASSERT_TRUE(exists(&made, "blocks/block-0001.h5"));
    fixture_free(&made);
}

static void gathering_needs_every_block(void) {
    fixture made = fixture_new("gather");
    AQ_CHECK(prepare(&made));
    for (size_t i = 0; i < made.source->shape.blocks - 1; i++) write_block(&made, i);
    CU_ASSERT_NOT_EQUAL(aq_run_directory_gather(&made.directory), AQ_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "block-0003.h5"));
    CU_ASSERT_FALSE(exists(&made, "model.aqlm.h5"));
    write_block(&made, made.source->shape.blocks - 1);
    AQ_CHECK(aq_run_directory_gather(&made.directory));
    CU_ASSERT_TRUE(exists(&made, "model.aqlm.h5"));
    fixture_free(&made);
}

static void a_file_in_the_way_is_named(void) {
    fixture made = fixture_new("file");
    FILE *file = fopen(made.directory.path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fclose(file);
    AQ_CHECK_FAILS(prepare(&made), AQ_IO, "Not a directory");
    fixture_free(&made);
}

static const aq_case cases[] = {
    {"directory_is_made_with_its_parents", directory_is_made_with_its_parents},
    {"resolved_config_reads_back", resolved_config_reads_back},
    {"other_settings_are_refused_by_name", other_settings_are_refused_by_name},
    {"another_backend_is_refused", another_backend_is_refused},
    {"other_tokens_are_refused", other_tokens_are_refused},
    {"another_model_is_refused", another_model_is_refused},
    AQ_CASE(another_path_of_the_model_is_taken_and_a_changed_file_named),
    AQ_CASE(ranks_that_join_get_the_fingerprint),
    AQ_CASE(a_damaged_config_is_written_again_by_the_same_job_only),
    {"refusal_leaves_everything_as_it_is", refusal_leaves_everything_as_it_is},
    {"temporary_files_of_an_earlier_run_go_away", temporary_files_of_an_earlier_run_go_away},
    {"written_blocks_are_finished", written_blocks_are_finished},
    {"damaged_and_foreign_blocks_are_not_finished", damaged_and_foreign_blocks_are_not_finished},
    {"a_whole_block_of_other_settings_is_refused", a_whole_block_of_other_settings_is_refused},
    {"gathering_needs_every_block", gathering_needs_every_block},
    {"a_file_in_the_way_is_named", a_file_in_the_way_is_named},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("run_directory", cases, sizeof cases / sizeof *cases, argc, argv);
}
