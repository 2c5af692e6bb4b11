#include "base/file.h"
#include "random_block.h"
#include "run/quantize_block.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEQUENCES = 12, HELD_OUT = 4, BLOCK = 5, PATH = 640 };

/* A block with what it reads, in a run directory "name" of the suite's folder. */
typedef struct fixture {
    aq_block block;
    aq_activations inputs, targets;
    aq_run_directory directory; /* its path and fingerprint only */
    aq_quantize_report report;
    aq_coded_block coded;
    int events; /* of the kind "taken_up" */
} fixture;

static void load(fixture *made) {
    aq_backend *backend = aq_test_backend();
    made->block = aq_test_block(backend, 1);
    size_t hidden = made->block.shape->hidden;
    AQ_CHECK(
        aq_activations_new(backend, SEQUENCES, AQ_TEST_LENGTH, hidden, SIZE_MAX, &made->inputs));
    AQ_CHECK(
        aq_activations_new(backend, SEQUENCES, AQ_TEST_LENGTH, hidden, SIZE_MAX, &made->targets));
    aq_tensor x = aq_test_normal(AQ_DIMS(SEQUENCES * AQ_TEST_LENGTH, hidden), 2);
    AQ_CHECK(aq_activations_write(&made->inputs, 0, SEQUENCES, &x));
    aq_tensor_free(&x);
}

static const char *inside(const fixture *made, const char *name, char path[static PATH]) {
    snprintf(path, PATH, "%.400s/work/block-0005/%.100s", made->directory.path, name);
    return path;
}

static void count_events(fixture *made, const char *path) {
    char line[4096];
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        made->events += strstr(line, "\"event\":\"taken_up\"") != NULL;
    fclose(file);
    unlink(path);
}

static void quantize(fixture *made, bool keeps) {
    aq_block_keep keep;
    char path[PATH];
    AQ_CHECK(aq_block_keep_new(&made->directory, BLOCK, aq_team_alone(), &keep));
    aq_quantize_settings settings = {
        .seed = 9,
        .validation = HELD_OUT,
        .fit = {.scheme = {.codebooks = 2, .bits = 3, .in_group = 4, .out_group = 1},
                .beam = 1,
                .kmeans_iterations = 5,
                .kmeans_starts = 1,
                .rounds = 2,
                .adam_steps = 10,
                .learning_rate = 1e-3},
        .tune = {.epochs = 3, .batch = 4, .patience = 2, .learning_rate = 1e-3},
        .keep = keeps ? &keep : NULL};
    snprintf(path, sizeof path, "%s/events", aq_test_folder());
    AQ_CHECK(aq_metrics_open(path, 0, &settings.metrics));
    load(made);
    const aq_block_work work = {
        .index = BLOCK, .block = &made->block, .inputs = &made->inputs, .targets = &made->targets};
    AQ_CHECK(aq_quantize_block(&work, &settings, aq_team_alone(), &made->coded, &made->report));
    aq_metrics_close(settings.metrics);
    count_events(made, path);
    aq_block_keep_free(&keep);
    aq_block_free(&made->block);
    aq_activations_free(&made->inputs);
    aq_activations_free(&made->targets);
}

static fixture fixture_new(const char *name) {
    fixture made = {.directory = {.fingerprint = "0123456789abcdef"}};
    AQ_CHECK(aq_file_join(aq_test_folder(), name, &made.directory.path));
    return made;
}

static void fixture_free(fixture *made) {
    aq_coded_block_free(&made->coded);
    free(made->directory.path);
}

/* Begins the block anew with what is kept by now. */
static void again(fixture *made) {
    aq_coded_block_free(&made->coded);
    made->events = 0;
    quantize(made, true);
}

static bool same_tensor(const aq_tensor *a, const aq_tensor *b) {
    char *bytes_a = aq_test_host(a), *bytes_b = aq_test_host(b);
    bool same = aq_tensor_bytes(a) == aq_tensor_bytes(b) &&
                memcmp(bytes_a, bytes_b, aq_tensor_bytes(a)) == 0;
    free(bytes_a);
    free(bytes_b);
    return same;
}

static bool same_block(const aq_coded_block *a, const aq_coded_block *b) {
    bool same = a->error == b->error && a->fitted_error == b->fitted_error;
    for (int n = 0; n < AQ_NORM_COUNT; n++) same = same && same_tensor(&a->norms[n], &b->norms[n]);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        same = same && a->layer_errors[l] == b->layer_errors[l] &&
               same_tensor(&a->linears[l].codes, &b->linears[l].codes) &&
               same_tensor(&a->linears[l].codebooks, &b->linears[l].codebooks) &&
               same_tensor(&a->linears[l].scales, &b->linears[l].scales);
    return same;
}

static fixture undisturbed(void) {
    fixture made = fixture_new("undisturbed");
    quantize(&made, false);
    return made;
}

static void without_a_keep_nothing_is_written(void) {
    fixture made = undisturbed();
    CU_ASSERT_NOT_EQUAL(access(made.directory.path, F_OK), 0);
    CU_ASSERT_EQUAL(made.events, 0);
    fixture_free(&made);
}

static void forget(const fixture *made, const char *name) {
    char path[PATH];
    CU_ASSERT_EQUAL(unlink(inside(made, name, path)), 0);
}

static void forget_layer(const fixture *made, int linear) {
    char name[128], path[PATH];
    snprintf(name, sizeof name, "%.100s.h5", aq_test_shape()->linears[linear].name);
    forget(made, name);
    aq_test_forget_digest(inside(made, name, path));
}

/* A job that was killed when `done` layers were finished left those, and no tuning. */
static void a_block_goes_on_behind_every_layer_to_the_same_bits(void) {
    fixture whole = undisturbed(), made = fixture_new("layers");
    quantize(&made, true);
    CU_ASSERT_EQUAL(made.report.layers_taken_up, 0);
    CU_ASSERT_EQUAL(made.events, 0);
    CU_ASSERT_TRUE(same_block(&whole.coded, &made.coded));
    for (int done = AQ_LINEAR_COUNT; done >= 0; done--) {
        forget(&made, "tuning.state");
        for (int l = done; l < AQ_LINEAR_COUNT; l++) forget_layer(&made, l);
        again(&made);
        CU_ASSERT_EQUAL(made.report.layers_taken_up, done);
        CU_ASSERT_EQUAL(made.report.epochs_taken_up, 0);
        CU_ASSERT_EQUAL(made.events, done > 0);
        CU_ASSERT_TRUE(same_block(&whole.coded, &made.coded));
    }
    fixture_free(&whole);
    fixture_free(&made);
}

static void a_tuned_block_is_only_rounded_and_measured(void) {
    fixture whole = undisturbed(), made = fixture_new("tuned");
    quantize(&made, true);
    again(&made);
    CU_ASSERT_EQUAL(made.report.layers_taken_up, AQ_LINEAR_COUNT);
    CU_ASSERT_EQUAL(made.report.epochs_taken_up, whole.report.epochs);
    CU_ASSERT_EQUAL(made.report.best_epoch, whole.report.best_epoch);
    CU_ASSERT_EQUAL(made.events, 1);
    CU_ASSERT_TRUE(same_block(&whole.coded, &made.coded));
    fixture_free(&whole);
    fixture_free(&made);
}

static void flip_last_byte(const fixture *made, const char *name) {
    char path[PATH];
    aq_test_flip(inside(made, name, path), -1);
}

static void damaged_files_are_set_aside_and_made_again(void) {
    char path[PATH];
    fixture whole = undisturbed(), made = fixture_new("damaged");
    quantize(&made, true);
    flip_last_byte(&made, "tuning.state");
    again(&made);
    CU_ASSERT_EQUAL(made.report.layers_taken_up, AQ_LINEAR_COUNT);
    CU_ASSERT_EQUAL(made.report.epochs_taken_up, 0);
    CU_ASSERT_TRUE(same_block(&whole.coded, &made.coded));
    CU_ASSERT_EQUAL(access(inside(&made, "tuning.state.damaged", path), F_OK), 0);
    flip_last_byte(&made, "self_attn.o_proj.h5");
    again(&made);
    CU_ASSERT_EQUAL(made.report.layers_taken_up, AQ_LINEAR_COUNT - 1);
    CU_ASSERT_EQUAL(made.report.epochs_taken_up, 0);
    CU_ASSERT_TRUE(same_block(&whole.coded, &made.coded));
    CU_ASSERT_EQUAL(access(inside(&made, "self_attn.o_proj.h5.damaged", path), F_OK), 0);
    again(&made);
    CU_ASSERT_EQUAL(made.report.epochs_taken_up, whole.report.epochs);
    fixture_free(&whole);
    fixture_free(&made);
}

static void a_file_without_its_digest_is_not_trusted(void) {
    char path[PATH];
    fixture made = fixture_new("untrusted");
    quantize(&made, true);
    aq_test_forget_digest(inside(&made, "mlp.up_proj.h5", path));
    again(&made);
    CU_ASSERT_EQUAL(made.report.layers_taken_up, AQ_LINEAR_COUNT - 1);
    fixture_free(&made);
}

static void what_other_settings_left_is_not_taken_up(void) {
    fixture made = fixture_new("foreign");
    quantize(&made, true);
    made.directory.fingerprint[3] ^= 1;
    again(&made);
    CU_ASSERT_EQUAL(made.report.layers_taken_up, 0);
    CU_ASSERT_EQUAL(made.report.epochs_taken_up, 0);
    fixture_free(&made);
}

static void a_discarded_folder_is_gone(void) {
    char path[PATH];
    fixture made = fixture_new("discarded");
    AQ_CHECK(aq_block_keep_discard(&made.directory, BLOCK));
    quantize(&made, true);
    CU_ASSERT_EQUAL(access(inside(&made, "tuning.state", path), F_OK), 0);
    AQ_CHECK(aq_block_keep_discard(&made.directory, BLOCK));
    CU_ASSERT_NOT_EQUAL(access(inside(&made, "", path), F_OK), 0);
    fixture_free(&made);
}

static const aq_case cases[] = {
    AQ_CASE(without_a_keep_nothing_is_written),
    AQ_CASE(a_block_goes_on_behind_every_layer_to_the_same_bits),
    AQ_CASE(a_tuned_block_is_only_rounded_and_measured),
    AQ_CASE(damaged_files_are_set_aside_and_made_again),
    AQ_CASE(a_file_without_its_digest_is_not_trusted),
    AQ_CASE(what_other_settings_left_is_not_taken_up),
    AQ_CASE(a_discarded_folder_is_gone),
};

int main(int argc, char **argv) {
    return aq_test_backend_main("block_keep", cases, sizeof cases / sizeof *cases, argc, argv);
}
