#include "model/tune_block.h"
#include "random_block.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCES = 32, TRAINING = 24, MOST_EPOCHS = 16 };

/* A dense block's inputs and outputs, and its coarsely coded form. */
typedef struct problem {
    aq_block block;
    aq_coded_block coded;
    aq_activations inputs, targets;
} problem;

static problem new_problem(aq_backend *backend) {
    problem self = {.block = aq_test_block(backend, 1)};
    size_t hidden = self.block.shape->hidden;
    AQ_CHECK(
        aq_activations_new(backend, SEQUENCES, AQ_TEST_LENGTH, hidden, SIZE_MAX, &self.inputs));
    AQ_CHECK(
        aq_activations_new(backend, SEQUENCES, AQ_TEST_LENGTH, hidden, SIZE_MAX, &self.targets));
    size_t count = SEQUENCES * AQ_TEST_LENGTH * hidden;
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = (float)aq_random_normal(77, AQ_STREAM_TEST, i);
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(backend, AQ_F32, AQ_DIMS(SEQUENCES * AQ_TEST_LENGTH, hidden), &x));
    AQ_CHECK(aq_tensor_upload(&x, values, count * sizeof *values));
    AQ_CHECK(aq_activations_write(&self.inputs, 0, SEQUENCES, &x));
    AQ_CHECK(aq_activations_forward(&self.block, &self.inputs, NULL, 0, &self.targets));
    self.coded = aq_test_coded_block(&self.block);
    aq_tensor_free(&x);
    free(values);
    return self;
}

static void free_problem(problem *self) {
    aq_block_free(&self->block);
    aq_coded_block_free(&self->coded);
    aq_activations_free(&self->inputs);
    aq_activations_free(&self->targets);
}

static aq_tune_settings usual_settings(void) {
    return (aq_tune_settings){.epochs = 4,
                              .batch = 5,
                              .patience = 3,
                              .learning_rate = 1e-2,
                              .training = TRAINING,
                              .seed = 3};
}

static aq_tune_report tune(problem *self, const aq_tune_settings *settings) {
    aq_tune_report report;
    AQ_CHECK(aq_tune_block(&self->coded, &self->block, &self->inputs, &self->targets, settings,
                           aq_team_alone(), &report));
    return report;
}

/* Of the values that `coded` holds now, on the held-out sequences. */
static double held_out_error(problem *self) {
    double error;
    AQ_CHECK(aq_coded_block_decode(&self->coded, &self->block));
    AQ_CHECK(aq_block_error(&self->block, &self->inputs, &self->targets,
                            (aq_rows){TRAINING, SEQUENCES - TRAINING}, aq_team_alone(), &error));
    return error;
}

/* All that tuning may change, one after another. */
typedef struct snapshot {
    float values[8192];
    size_t count;
} snapshot;

static void add_tensor(const aq_tensor *tensor, snapshot *all) {
    if (!tensor->data) return;
    size_t count = aq_tensor_count(tensor);
    CU_ASSERT_TRUE_FATAL(all->count + count <= sizeof all->values / sizeof *all->values);
    AQ_CHECK(aq_tensor_download(tensor, all->values + all->count, aq_tensor_bytes(tensor)));
    all->count += count;
}

static snapshot snapshot_of(const aq_coded_block *coded) {
    snapshot all = {.count = 0};
    for (int n = 0; n < AQ_NORM_COUNT; n++) add_tensor(&coded->norms[n], &all);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        add_tensor(&coded->linears[l].codebooks, &all);
        add_tensor(&coded->linears[l].scales, &all);
        add_tensor(&coded->biases[l], &all);
    }
    return all;
}

static bool same(const snapshot *a, const snapshot *b) {
    return a->count == b->count && memcmp(a->values, b->values, a->count * sizeof(float)) == 0;
}

static void tuning_lowers_the_held_out_error(void) {
    problem self = new_problem(aq_test_backend());
    double before = held_out_error(&self);
    snapshot start = snapshot_of(&self.coded);
    aq_tune_settings settings = usual_settings();
    aq_tune_report report = tune(&self, &settings);
    double after = held_out_error(&self);
    CU_ASSERT_DOUBLE_EQUAL(report.start_error, before, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(report.best_error, after, 1e-12);
    CU_ASSERT_TRUE(after < 0.9 * before);
    CU_ASSERT_EQUAL(report.epochs, 4);
    CU_ASSERT_EQUAL(report.retries, 0);
    snapshot end = snapshot_of(&self.coded);
    size_t changed = 0;
    for (size_t i = 0; i < start.count; i++) changed += start.values[i] != end.values[i];
    CU_ASSERT_TRUE(changed > start.count * 9 / 10);
    free_problem(&self);
}

/* Rounded products cost little of what tuning gains. */
static void half_precision_tunes_as_well(void) {
    double errors[2];
    for (int half = 0; half < 2; half++) {
        problem self = new_problem(aq_test_backend());
        aq_tune_settings settings = usual_settings();
        settings.precision = half ? AQ_HALF : AQ_PRECISE;
        aq_tune_report report = tune(&self, &settings);
        CU_ASSERT_EQUAL(report.retries, 0);
        CU_ASSERT_EQUAL(self.block.precision, AQ_PRECISE);
        errors[half] = held_out_error(&self);
        CU_ASSERT_DOUBLE_EQUAL(report.best_error, errors[half], 0.02 * errors[half]);
        free_problem(&self);
    }
    CU_ASSERT_DOUBLE_EQUAL(errors[1], errors[0], 0.05 * errors[0]);
}

static void without_epochs_nothing_changes(void) {
    problem self = new_problem(aq_test_backend());
    snapshot start = snapshot_of(&self.coded);
    aq_tune_settings settings = usual_settings();
    settings.epochs = 0;
    aq_tune_report report = tune(&self, &settings);
    snapshot end = snapshot_of(&self.coded);
    CU_ASSERT_TRUE(same(&start, &end));
    CU_ASSERT_EQUAL(report.epochs, 0);
    CU_ASSERT_EQUAL(report.best_epoch, 0);
    CU_ASSERT_EQUAL(report.best_error, report.start_error);
    CU_ASSERT_DOUBLE_EQUAL(report.start_error, held_out_error(&self), 1e-12);
    free_problem(&self);
}

/* A rate at which every epoch makes things worse: epoch 0 is kept, and patience ends the rest. */
static void the_best_epoch_is_kept_and_patience_ends_the_rest(void) {
    problem self = new_problem(aq_test_backend());
    snapshot start = snapshot_of(&self.coded);
    aq_tune_settings settings = usual_settings();
    settings.epochs = 10;
    settings.patience = 2;
    settings.learning_rate = 10;
    aq_tune_report report = tune(&self, &settings);
    snapshot end = snapshot_of(&self.coded);
    CU_ASSERT_TRUE(same(&start, &end));
    CU_ASSERT_EQUAL(report.epochs, 2);
    CU_ASSERT_EQUAL(report.best_epoch, 0);
    CU_ASSERT_EQUAL(report.best_error, report.start_error);
    free_problem(&self);
}

/* The values of a long run's best epoch are those of a run that ends there. */
static void the_kept_values_are_those_of_the_best_epoch(void) {
    problem self = new_problem(aq_test_backend());
    aq_tune_settings settings = usual_settings();
    settings.epochs = 30;
    settings.learning_rate = 5e-2;
    aq_tune_report report = tune(&self, &settings);
    snapshot kept = snapshot_of(&self.coded);
    CU_ASSERT_TRUE_FATAL(report.best_epoch >= 1 && report.best_epoch < report.epochs);
    free_problem(&self);
    self = new_problem(aq_test_backend());
    settings.epochs = report.best_epoch;
    tune(&self, &settings);
    snapshot again = snapshot_of(&self.coded);
    CU_ASSERT_TRUE(same(&kept, &again));
    free_problem(&self);
}

static void without_held_out_sequences_the_training_error_decides(void) {
    problem self = new_problem(aq_test_backend());
    aq_tune_settings settings = usual_settings();
    settings.training = SEQUENCES;
    aq_tune_report report = tune(&self, &settings);
    double error;
    AQ_CHECK(aq_block_error(&self.block, &self.inputs, &self.targets, (aq_rows){0, SEQUENCES},
                            aq_team_alone(), &error));
    CU_ASSERT_DOUBLE_EQUAL(report.best_error, error, 1e-12);
    CU_ASSERT_TRUE(report.best_error < report.start_error);
    free_problem(&self);
}

/* 1e4 overflows within an epoch; with a thousandth of it the values are merely bad. */
static void a_loss_that_is_not_finite_is_retried_with_a_lower_rate(void) {
    problem self = new_problem(aq_test_backend());
    snapshot start = snapshot_of(&self.coded);
    aq_tune_settings settings = usual_settings();
    settings.epochs = 1;
    settings.learning_rate = 1e4;
    aq_tune_report report = tune(&self, &settings);
    snapshot end = snapshot_of(&self.coded);
    CU_ASSERT_TRUE(report.retries >= 1 && report.retries <= 3);
    CU_ASSERT_EQUAL(report.best_epoch, 0);
    CU_ASSERT_TRUE(same(&start, &end));
    settings.learning_rate = 1e30;
    AQ_CHECK_FAILS(aq_tune_block(&self.coded, &self.block, &self.inputs, &self.targets, &settings,
                                 aq_team_alone(), &report),
                   AQ_NUMERIC, "after 3 retries");
    end = snapshot_of(&self.coded);
    CU_ASSERT_TRUE(same(&start, &end));
    free_problem(&self);
}

static snapshot tuned_on(aq_backend *backend, uint64_t seed) {
    problem self = new_problem(backend);
    aq_tune_settings settings = usual_settings();
    settings.seed = seed;
    tune(&self, &settings);
    snapshot result = snapshot_of(&self.coded);
    free_problem(&self);
    return result;
}

static void equal_seeds_give_equal_bits(void) {
    snapshot a = tuned_on(aq_test_backend(), 5), b = tuned_on(aq_test_backend(), 5);
    snapshot c = tuned_on(aq_test_backend(), 6);
    CU_ASSERT_TRUE(same(&a, &b));
    CU_ASSERT_FALSE(same(&a, &c));
}

static void threads_do_not_change_bits(void) {
    aq_backend *one, *three;
    AQ_CHECK(aq_cpu_open(1, &one));
    AQ_CHECK(aq_cpu_open(3, &three));
    snapshot a = tuned_on(one, 5), b = tuned_on(three, 5);
    CU_ASSERT_TRUE(same(&a, &b));
    aq_backend_close(one);
    aq_backend_close(three);
}

typedef struct history {
    aq_watch watch;
    int epochs, last_step, total;
    double validation[MOST_EPOCHS], training[MOST_EPOCHS];
} history;

static aq_status note_step(const aq_watch *watch, const char *phase, int done, int total) {
    history *self = watch->state;
    CU_ASSERT_STRING_EQUAL(phase, "tuning");
    CU_ASSERT_EQUAL(done, self->last_step + 1);
    self->last_step = done;
    self->total = total;
    return self->total > 40 && done > 2 ? AQ_FAIL(AQ_STOPPED, "stopped") : AQ_OK;
}

static void note_epoch(const aq_watch *watch, int epoch, double training, double validation,
                       double seconds) {
    history *self = watch->state;
    CU_ASSERT_EQUAL(epoch, self->epochs);
    CU_ASSERT_TRUE(seconds >= 0);
    self->training[epoch] = training;
    self->validation[epoch] = validation;
    self->epochs++;
}

static void the_watch_hears_of_every_step_and_epoch(void) {
    problem self = new_problem(aq_test_backend());
    history heard = {.watch = {.step = note_step, .epoch = note_epoch}};
    heard.watch.state = &heard;
    aq_tune_settings settings = usual_settings();
    settings.watch = &heard.watch;
    aq_tune_report report = tune(&self, &settings);
    CU_ASSERT_EQUAL(heard.epochs, 5);
    CU_ASSERT_EQUAL(heard.last_step, 4 * 5);
    CU_ASSERT_EQUAL(heard.total, 4 * 5);
    CU_ASSERT_EQUAL(heard.validation[0], report.start_error);
    CU_ASSERT_EQUAL(heard.validation[report.best_epoch], report.best_error);
    for (int epoch = 1; epoch < 5; epoch++)
        CU_ASSERT_TRUE(heard.training[epoch] < heard.training[epoch - 1]);
    settings.epochs = 9;
    heard = (history){.watch = heard.watch};
    AQ_CHECK_FAILS(aq_tune_block(&self.coded, &self.block, &self.inputs, &self.targets, &settings,
                                 aq_team_alone(), &report),
                   AQ_STOPPED, "stopped");
    free_problem(&self);
}

static void check_refused(problem *self, aq_tune_settings settings, const char *text) {
    aq_tune_report report;
    AQ_CHECK_FAILS(aq_tune_block(&self->coded, &self->block, &self->inputs, &self->targets,
                                 &settings, aq_team_alone(), &report),
                   AQ_INVALID, text);
}

static void settings_out_of_range_fail(void) {
    problem self = new_problem(aq_test_backend());
    aq_tune_settings settings = usual_settings();
    settings.training = SEQUENCES + 1;
    check_refused(&self, settings, "33 training sequences of 32");
    settings = usual_settings();
    settings.batch = 0;
    check_refused(&self, settings, "batches of 0");
    settings = usual_settings();
    settings.learning_rate = NAN;
    check_refused(&self, settings, "learning rate of nan");
    free_problem(&self);
}

static void a_start_that_is_not_finite_fails(void) {
    problem self = new_problem(aq_test_backend());
    AQ_CHECK(aq_fill(NAN, &self.coded.norms[AQ_NORM_MLP]));
    aq_tune_settings settings = usual_settings();
    aq_tune_report report;
    AQ_CHECK_FAILS(aq_tune_block(&self.coded, &self.block, &self.inputs, &self.targets, &settings,
                                 aq_team_alone(), &report),
                   AQ_NUMERIC, "before block tuning is");
    free_problem(&self);
}

static void a_dense_block_has_no_error_but_rounding(void) {
    problem self = new_problem(aq_test_backend());
    double error;
    AQ_CHECK(aq_block_error(&self.block, &self.inputs, &self.targets, (aq_rows){0, SEQUENCES},
                            aq_team_alone(), &error));
    CU_ASSERT_TRUE(error > 0 && error < 1e-5);
    AQ_CHECK_FAILS(aq_block_error(&self.block, &self.inputs, &self.targets,
                                  (aq_rows){SEQUENCES - 1, 2}, aq_team_alone(), &error),
                   AQ_INVALID, "2 sequences from 31 on, of 32");
    free_problem(&self);
}

static void rounding_keeps_float16_values_and_names_what_does_not_fit(void) {
    problem self = new_problem(aq_test_backend());
    AQ_CHECK(aq_coded_block_round(&self.coded));
    snapshot once = snapshot_of(&self.coded);
    AQ_CHECK(aq_coded_block_round(&self.coded));
    snapshot twice = snapshot_of(&self.coded);
    CU_ASSERT_TRUE(same(&once, &twice));
    AQ_CHECK(aq_fill(70000, &self.coded.biases[AQ_LINEAR_K]));
    AQ_CHECK_FAILS(aq_coded_block_round(&self.coded), AQ_NUMERIC,
                   "model.layers.0.self_attn.k_proj.bias");
    AQ_CHECK(aq_fill(70000, &self.coded.linears[AQ_LINEAR_DOWN].scales));
    AQ_CHECK(aq_fill(1, &self.coded.biases[AQ_LINEAR_K]));
    AQ_CHECK_FAILS(aq_coded_block_round(&self.coded), AQ_NUMERIC, "model.layers.0.mlp.down_proj");
    free_problem(&self);
}

/* 1x4 over groups of 4 in all linears: bits weighted by weights, computed by hand. */
static void bits_are_averaged_over_weights(void) {
    problem self = new_problem(aq_test_backend());
    double weights = 32 * 16 + 16 * 16 * 2 + 16 * 32 + 24 * 16 * 3;
    double rows = 32 + 16 + 16 + 16 + 24 + 24 + 16;
    double expected = 1 + 16.0 * 7 * 16 * 4 / weights + 16 * rows / weights;
    CU_ASSERT_DOUBLE_EQUAL(aq_coded_block_bits(&self.coded), expected, 1e-12);
    free_problem(&self);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"tuning_lowers_the_held_out_error", tuning_lowers_the_held_out_error},
        {"half_precision_tunes_as_well", half_precision_tunes_as_well},
        {"without_epochs_nothing_changes", without_epochs_nothing_changes},
        {"the_best_epoch_is_kept_and_patience_ends_the_rest",
         the_best_epoch_is_kept_and_patience_ends_the_rest},
        {"the_kept_values_are_those_of_the_best_epoch",
         the_kept_values_are_those_of_the_best_epoch},
        {"without_held_out_sequences_the_training_error_decides",
         without_held_out_sequences_the_training_error_decides},
        {"a_loss_that_is_not_finite_is_retried_with_a_lower_rate",
         a_loss_that_is_not_finite_is_retried_with_a_lower_rate},
        {"equal_seeds_give_equal_bits", equal_seeds_give_equal_bits},
        {"threads_do_not_change_bits", threads_do_not_change_bits},
        {"the_watch_hears_of_every_step_and_epoch", the_watch_hears_of_every_step_and_epoch},
        {"settings_out_of_range_fail", settings_out_of_range_fail},
        {"a_start_that_is_not_finite_fails", a_start_that_is_not_finite_fails},
        {"a_dense_block_has_no_error_but_rounding", a_dense_block_has_no_error_but_rounding},
        {"rounding_keeps_float16_values_and_names_what_does_not_fit",
         rounding_keeps_float16_values_and_names_what_does_not_fit},
        {"bits_are_averaged_over_weights", bits_are_averaged_over_weights},
    };
    return aq_test_backend_main("tune_block", cases, sizeof cases / sizeof *cases, argc, argv);
}
