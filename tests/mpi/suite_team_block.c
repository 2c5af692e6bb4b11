/* Whole blocks by a team whose members hold different sequences, against one rank alone with all.
 */
#include "coded_model.h"
#include "random_block.h"
#include "small_backend.h"
#include "team_suite.h"

#include "run/session.h"

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCES = 32, TRAINING = 23, MOST_EPOCHS = 8 };

static bool is_near(double x, double expected, double share) {
    bool near = fabs(x - expected) <= share * fabs(expected);
    if (!near) printf("\n    %.9g is not within %g of %.9g\n", x, share, expected);
    return near;
}

static bool same_everywhere(const aq_tensor *x) {
    void *mine = aq_test_host(x);
    aq_tensor first = aq_test_tensor(x->dtype, AQ_DIMS(aq_tensor_count(x)), mine);
    AQ_CHECK(aq_team_share(aq_test_team(), 0, &first));
    void *theirs = aq_test_host(&first);
    bool same = memcmp(mine, theirs, aq_tensor_bytes(x)) == 0;
    aq_tensor_free(&first);
    free(mine), free(theirs);
    return same;
}

static bool same_block_everywhere(const aq_coded_block *coded) {
    bool same = true;
    for (int n = 0; n < AQ_NORM_COUNT; n++) same = same_everywhere(&coded->norms[n]) && same;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        same = same_everywhere(&coded->linears[l].codes) && same;
        same = same_everywhere(&coded->linears[l].codebooks) && same;
        same = same_everywhere(&coded->linears[l].scales) && same;
        if (coded->biases[l].data) same = same_everywhere(&coded->biases[l]) && same;
    }
    return same;
}

/* ---- tuning and quantizing a random block ---- */

typedef struct problem {
    aq_block block;
    aq_coded_block coded;
    aq_activations inputs, targets;
} problem;

/* Sequence number `index` of all: the same values for whoever holds it. */
static void write_sequence(aq_activations *inputs, size_t place, size_t index) {
    aq_tensor x = aq_test_normal(AQ_DIMS(AQ_TEST_LENGTH, inputs->hidden), 100 + index);
    AQ_CHECK(aq_activations_write(inputs, place, 1, &x));
    aq_tensor_free(&x);
}

static problem new_problem(const aq_team *team) {
    aq_backend *backend = aq_test_backend();
    problem self = {.block = aq_test_block(backend, 1)};
    size_t hidden = self.block.shape->hidden, own = aq_team_sequences(team, SEQUENCES);
    AQ_CHECK(aq_activations_new(backend, own, AQ_TEST_LENGTH, hidden, SIZE_MAX, &self.inputs));
    AQ_CHECK(aq_activations_new(backend, own, AQ_TEST_LENGTH, hidden, SIZE_MAX, &self.targets));
    for (size_t i = 0; i < own; i++)
        write_sequence(&self.inputs, i, i * (size_t)team->size + (size_t)team->rank);
    AQ_CHECK(aq_activations_forward(&self.block, &self.inputs, NULL, 0, &self.targets));
    self.coded = aq_test_coded_block(&self.block);
    return self;
}

static void free_problem(problem *self) {
    aq_block_free(&self->block);
    aq_coded_block_free(&self->coded);
    aq_activations_free(&self->inputs);
    aq_activations_free(&self->targets);
}

static aq_tune_settings tune_settings(int batch) {
    return (aq_tune_settings){.epochs = 4,
                              .batch = batch,
                              .patience = 3,
                              .learning_rate = 1e-2,
                              .training = TRAINING,
                              .seed = 3};
}

typedef struct history {
    int epochs;
    double training[MOST_EPOCHS], validation[MOST_EPOCHS];
} history;

static aq_status go_on(const aq_watch *watch, const char *phase, int done, int total) {
    (void)watch, (void)phase, (void)done, (void)total;
    return AQ_OK;
}

static void note_epoch(const aq_watch *watch, int epoch, double training, double validation,
                       double seconds) {
    history *self = watch->state;
    (void)seconds;
    self->training[epoch] = training;
    self->validation[epoch] = validation;
    self->epochs++;
}

static aq_tune_report tune(problem *self, aq_tune_settings settings, const aq_team *team,
                           history *heard) {
    const aq_watch watch = {.step = go_on, .epoch = note_epoch, .state = heard};
    aq_tune_report report;
    *heard = (history){0};
    settings.watch = &watch;
    AQ_CHECK(aq_tune_block(&self->coded, &self->block, &self->inputs, &self->targets, &settings,
                           team, &report));
    return report;
}

static void check_tuning(aq_tune_settings settings) {
    problem shared = new_problem(aq_test_team()), alone = new_problem(aq_team_alone());
    history heard, expected;
    aq_tune_report report = tune(&shared, settings, aq_test_team(), &heard);
    aq_tune_report wanted = tune(&alone, settings, aq_team_alone(), &expected);
    CU_ASSERT_TRUE(is_near(report.start_error, wanted.start_error, 1e-6));
    CU_ASSERT_EQUAL(report.epochs, wanted.epochs);
    CU_ASSERT_EQUAL(report.best_epoch, wanted.best_epoch);
    for (int epoch = 0; epoch < expected.epochs; epoch++) {
        CU_ASSERT_TRUE(is_near(heard.training[epoch], expected.training[epoch], 1e-4));
        CU_ASSERT_TRUE(is_near(heard.validation[epoch], expected.validation[epoch], 1e-4));
    }
    CU_ASSERT_TRUE(same_block_everywhere(&shared.coded));
    free_problem(&shared), free_problem(&alone);
}

static void tuning_by_a_team_is_that_of_one_rank(void) {
    static const int batches[] = {1, 4, 6, 7, 32};
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
        check_tuning(tune_settings(batches[i]));
}

static void without_held_out_sequences_it_is_too(void) {
    aq_tune_settings settings = tune_settings(6);
    settings.training = SEQUENCES;
    check_tuning(settings);
}

static void fewer_training_sequences_than_members_are_fine(void) {
    aq_tune_settings settings = tune_settings(6);
    settings.training = 1;
    check_tuning(settings);
}

static void a_loss_that_is_not_finite_is_retried_by_all(void) {
    problem self = new_problem(aq_test_team());
    aq_tune_settings settings = tune_settings(4);
    settings.learning_rate = 1e4;
    history heard;
    aq_tune_report report = tune(&self, settings, aq_test_team(), &heard);
    double retries = report.retries;
    AQ_CHECK(aq_team_sum_number(aq_test_team(), aq_test_backend(), &retries));
    CU_ASSERT_TRUE(report.retries >= 1 && report.retries <= 3);
    CU_ASSERT_EQUAL(retries, report.retries * aq_test_team()->size);
    CU_ASSERT_TRUE(same_block_everywhere(&self.coded));
    free_problem(&self);
}

/* Members hold 32, 16, 11 ... sequences. */
static void members_with_wrong_sequences_are_refused(void) {
    if (aq_test_team()->size == 1) return;
    problem self = new_problem(&(aq_team){.rank = 0, .size = aq_test_team()->rank + 1});
    double error;
    aq_status status =
        aq_team_agree(aq_test_team(), aq_block_error(&self.block, &self.inputs, &self.targets,
                                                     (aq_rows){0, 1}, aq_test_team(), &error));
    CU_ASSERT_EQUAL(status, AQ_SHAPE);
    free_problem(&self);
}

static const aq_quantize_settings quantize_settings = {
    .seed = 7,
    .validation = SEQUENCES - TRAINING,
    .fit = {.scheme = {.codebooks = 2, .bits = 3, .in_group = 4, .out_group = 1},
            .beam = 1,
            .kmeans_iterations = 5,
            .kmeans_starts = 2,
            .rounds = 2,
            .adam_steps = 10,
            .learning_rate = 1e-3},
    .tune = {.epochs = 2, .batch = 4, .patience = 2, .learning_rate = 1e-3}};

static aq_status quantize(problem *self, const aq_team *team, aq_coded_block *coded) {
    const aq_block_work work = {
        .index = 5, .block = &self->block, .inputs = &self->inputs, .targets = &self->targets};
    aq_quantize_report report;
    return aq_team_agree(team, aq_quantize_block(&work, &quantize_settings, team, coded, &report));
}

static void a_block_by_a_team_is_as_good_as_by_one_rank(void) {
    problem shared = new_problem(aq_test_team()), alone = new_problem(aq_team_alone());
    aq_coded_block coded, expected;
    AQ_CHECK(quantize(&shared, aq_test_team(), &coded));
    AQ_CHECK(quantize(&alone, aq_team_alone(), &expected));
    CU_ASSERT_TRUE(same_block_everywhere(&coded));
    CU_ASSERT_TRUE(is_near(coded.error, expected.error, 1e-2));
    CU_ASSERT_TRUE(is_near(coded.fitted_error, expected.fitted_error, 1e-2));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        CU_ASSERT_TRUE(is_near(coded.layer_errors[l], expected.layer_errors[l], 1e-2));
    aq_coded_block_free(&coded), aq_coded_block_free(&expected);
    free_problem(&shared), free_problem(&alone);
}

static void a_sequence_that_is_not_finite_ends_the_block_for_all(void) {
    problem self = new_problem(aq_test_team());
    bool last = aq_test_team()->rank + 1 == aq_test_team()->size;
    aq_tensor x = aq_test_normal(AQ_DIMS(AQ_TEST_LENGTH, self.inputs.hidden), 1);
    AQ_CHECK(aq_fill(INFINITY, &x));
    if (last) AQ_CHECK(aq_activations_write(&self.inputs, 0, 1, &x));
    aq_coded_block coded;
    AQ_CHECK_FAILS(quantize(&self, aq_test_team(), &coded), AQ_NUMERIC, "NaN or infinity");
    AQ_CHECK(aq_team_agree(aq_test_team(), AQ_OK));
    aq_tensor_free(&x);
    free_problem(&self);
}

/* ---- sessions ---- */

enum { BLOCKS = 4 };

/* A folder that all members know. */
static void share_folder(char path[AQ_TEST_PATH], const char *name) {
    char own[AQ_TEST_PATH];
    snprintf(path, AQ_TEST_PATH, "%s", aq_test_path(name, own));
    MPI_Bcast(path, AQ_TEST_PATH, MPI_BYTE, 0, MPI_COMM_WORLD);
}

static aq_config job(const char *path, const char *inputs) {
    aq_config config;
    char text[5][AQ_TEST_PATH + 64];
    AQ_CHECK(aq_config_new(&config));
    snprintf(text[0], sizeof *text, "model=%s", aq_test_tied_model());
    snprintf(text[1], sizeof *text, "calibration.tokens=%s/calibration.npy", aq_test_tied_model());
    snprintf(text[2], sizeof *text, "output=%s", path);
    snprintf(text[3], sizeof *text, "run.inputs=%s", inputs);
    snprintf(text[4], sizeof *text, "run.backend=%s", aq_backend_name(aq_test_backend()));
    const char *rest[] = {
        text[0],
        text[1],
        text[2],
        text[3],
        text[4],
        "calibration.sequences=13",
        "calibration.length=64",
        "calibration.validation=4",
        "quantizer.scheme=2x4",
        "quantizer.kmeans_iterations=3",
        "quantizer.kmeans_starts=1",
        "quantizer.rounds=1",
        strcmp(inputs, "dense") == 0 ? "quantizer.solver=cg" : "quantizer.solver=adam",
        strcmp(inputs, "dense") == 0 ? "quantizer.search=auto" : "quantizer.search=beam",
        "quantizer.adam_steps=5",
        "tuning.epochs=2",
        "tuning.batch=4"};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        AQ_CHECK(aq_config_set(rest[i], &config));
    return config;
}

static aq_layout layout_of(const aq_team *team) {
    bool cuda = strcmp(aq_backend_name(aq_test_backend()), "cuda") == 0;
    size_t size = (size_t)team->size;
    return (aq_layout){.ranks = size,
                       .node_ranks = size,
                       .device_ranks = cuda ? 1 : size,
                       .team = size,
                       .cuda = cuda};
}

static void run_session(aq_session *session, const aq_team *team, double errors[BLOCKS]) {
    AQ_CHECK(aq_session_begin(session, team->rank, NULL));
    AQ_CHECK(aq_session_join(session, team));
    for (size_t b = 0; b < BLOCKS; b++) {
        aq_task task = {.block = b, .start = b, .source = AQ_SOURCE_EMBEDDINGS};
        if (b > 0) task.source = AQ_SOURCE_TEAM;
        aq_block_outcome outcome = {.error = NAN};
        AQ_CHECK(aq_session_quantize(session, &task, &outcome));
        errors[b] = outcome.error;
    }
}

/* All blocks of the example into the run directory; everybody waits for the last file. */
static void run_job(const char *path, const char *inputs, const aq_team *team,
                    double errors[BLOCKS]) {
    aq_config config = job(path, inputs);
    aq_session session;
    const aq_layout layout = layout_of(team);
    AQ_CHECK(aq_session_open(&config, aq_test_backend(), &layout, &session));
    if (team->rank == 0) AQ_CHECK(aq_run_directory_prepare(&session.directory, &config));
    AQ_CHECK(aq_team_agree(team, AQ_OK));
    run_session(&session, team, errors);
    for (size_t b = 0; b < BLOCKS; b++) {
        double error;
        CU_ASSERT_TRUE(aq_run_directory_finished(&session.directory, b, aq_test_backend(), &error));
        CU_ASSERT_EQUAL(error, errors[b]);
    }
    if (team->rank == 0) AQ_CHECK(aq_run_directory_gather(&session.directory));
    AQ_CHECK(aq_team_agree(team, AQ_OK));
    aq_session_close(&session);
    aq_config_free(&config);
}

/* `near`: quantized inputs carry the difference of one block's codes into the next. Some short
 * steps of Adam tip fewer codes than a solved problem does, and one code fewer than a pair. */
static void check_job(const char *inputs, double near) {
    char path[AQ_TEST_PATH], own[AQ_TEST_PATH], name[64];
    double errors[BLOCKS], expected[BLOCKS];
    snprintf(name, sizeof name, "team-%s", inputs);
    share_folder(path, name);
    run_job(path, inputs, aq_test_team(), errors);
    snprintf(name, sizeof name, "alone-%s", inputs);
    if (aq_test_team()->rank == 0) {
        run_job(aq_test_path(name, own), inputs, aq_team_alone(), expected);
        for (size_t b = 0; b < BLOCKS; b++) CU_ASSERT_TRUE(is_near(errors[b], expected[b], near));
    }
    AQ_CHECK(aq_team_agree(aq_test_team(), AQ_OK));
}

static void a_team_quantizes_a_model_with_dense_inputs(void) {
    check_job("dense", 1e-2);
}

static void a_team_quantizes_a_model_with_quantized_inputs(void) {
    check_job("quantized", 3e-2);
}

/* Block 0 with memory of which the last member has so little. */
static double quantize_with(size_t limit, size_t device_bytes, const char *name, size_t *peak) {
    char path[AQ_TEST_PATH];
    bool last = aq_test_team()->rank + 1 == aq_test_team()->size;
    const aq_task task = {.source = AQ_SOURCE_EMBEDDINGS};
    const aq_layout layout = layout_of(aq_test_team());
    aq_small_backend small;
    aq_session session;
    aq_block_outcome outcome = {.error = NAN};
    share_folder(path, name);
    aq_config config = job(path, "dense");
    AQ_CHECK(aq_config_set("calibration.sequences=60", &config));
    aq_small_backend_open(last ? limit : SIZE_MAX, &small);
    AQ_CHECK(aq_session_open(&config, &small.backend, &layout, &session));
    if (aq_test_team()->rank == 0) AQ_CHECK(aq_run_directory_prepare(&session.directory, &config));
    AQ_CHECK(aq_team_agree(aq_test_team(), AQ_OK));
    AQ_CHECK(aq_session_begin(&session, aq_test_team()->rank, NULL));
    AQ_CHECK(aq_session_join(&session, aq_test_team()));
    session.activation_bytes = device_bytes;
    AQ_CHECK(aq_session_quantize(&session, &task, &outcome));
    *peak = small.peak;
    aq_session_close(&session);
    aq_small_backend_close(&small);
    aq_config_free(&config);
    return outcome.error;
}

static void a_member_short_of_memory_lets_all_try_again(void) {
    size_t plenty, host, small;
    if (strcmp(aq_backend_name(aq_test_backend()), "cpu") != 0) return;
    double expected = quantize_with(SIZE_MAX, SIZE_MAX, "plenty", &plenty);
    CU_ASSERT_EQUAL(quantize_with(SIZE_MAX, 0, "host", &host), expected);
    CU_ASSERT_TRUE(host < plenty);
    size_t limit = host + (plenty - host) / 2;
    CU_ASSERT_EQUAL(quantize_with(limit, SIZE_MAX, "small", &small), expected);
    bool last = aq_test_team()->rank + 1 == aq_test_team()->size;
    CU_ASSERT_TRUE(!last || small <= limit);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(tuning_by_a_team_is_that_of_one_rank),
        AQ_CASE(without_held_out_sequences_it_is_too),
        AQ_CASE(fewer_training_sequences_than_members_are_fine),
        AQ_CASE(a_loss_that_is_not_finite_is_retried_by_all),
        AQ_CASE(members_with_wrong_sequences_are_refused),
        AQ_CASE(a_block_by_a_team_is_as_good_as_by_one_rank),
        AQ_CASE(a_sequence_that_is_not_finite_ends_the_block_for_all),
        AQ_CASE(a_team_quantizes_a_model_with_dense_inputs),
        AQ_CASE(a_team_quantizes_a_model_with_quantized_inputs),
        AQ_CASE(a_member_short_of_memory_lets_all_try_again),
    };
    return aq_test_team_main("team_block", cases, sizeof cases / sizeof *cases, argc, argv);
}
