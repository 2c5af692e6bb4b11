#include "base/file.h"
#include "base/write_behind.h"
#include "random_block.h"
#include "store/tuning_state.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEQUENCES = 12, TRAINING = 8, EPOCHS = 5, PATH = 512 };

static const aq_state_facts facts = {.block = 3, .fingerprint = "0123456789abcdef"};

static const char *path_of(const char *name, char path[static PATH]) {
    snprintf(path, PATH, "%s/%s", aq_test_folder(), name);
    return path;
}

static bool same_tensor(const aq_tensor *a, const aq_tensor *b) {
    char *bytes_a = aq_test_host(a), *bytes_b = aq_test_host(b);
    bool same = aq_tensor_bytes(a) == aq_tensor_bytes(b) &&
                memcmp(bytes_a, bytes_b, aq_tensor_bytes(a)) == 0;
    free(bytes_a);
    free(bytes_b);
    return same;
}

/* ---- layers ---- */

static aq_status read_layer(const char *path, const aq_state_facts *whose, const char *name,
                            const aq_coded *like, aq_layer_state *layer) {
    const aq_linear_shape *shape = &aq_test_shape()->linears[AQ_LINEAR_UP];
    *layer = (aq_layer_state){.name = name};
    return aq_layer_state_read(path, whose, shape, &like->scheme, aq_test_backend(), layer);
}

static void a_layer_reads_back_to_the_bit(void) {
    char path[PATH];
    aq_block block = aq_test_block(aq_test_backend(), 1);
    aq_coded_block coded = aq_test_coded_block(&block);
    const aq_coded *up = &coded.linears[AQ_LINEAR_UP];
    const aq_layer_state written = {.name = "mlp.up_proj", .coded = *up, .error = 0.1 / 3};
    AQ_CHECK(aq_layer_state_write(path_of("layer.h5", path), &facts, &written));
    aq_layer_state read;
    AQ_CHECK(read_layer(path, &facts, "mlp.up_proj", up, &read));
    CU_ASSERT_EQUAL(read.error, 0.1 / 3);
    CU_ASSERT_TRUE(same_tensor(&read.coded.codes, &up->codes));
    CU_ASSERT_TRUE(same_tensor(&read.coded.codebooks, &up->codebooks));
    CU_ASSERT_TRUE(same_tensor(&read.coded.scales, &up->scales));
    aq_coded_free(&read.coded);
    aq_coded_block_free(&coded);
    aq_block_free(&block);
}

static void anothers_and_damaged_layers_are_refused(void) {
    char path[PATH];
    aq_block block = aq_test_block(aq_test_backend(), 1);
    aq_coded_block coded = aq_test_coded_block(&block);
    const aq_coded *up = &coded.linears[AQ_LINEAR_UP];
    const aq_state_facts other = {.block = 4, .fingerprint = facts.fingerprint};
    const aq_state_facts foreign = {.block = 3, .fingerprint = "f"};
    aq_layer_state layer = {.name = "mlp.up_proj", .coded = *up, .error = 0.5};
    AQ_CHECK_FAILS(read_layer(path_of("none.h5", path), &facts, "mlp.up_proj", up, &layer),
                   AQ_MISSING, "none.h5");
    layer = (aq_layer_state){.name = "mlp.up_proj", .coded = *up, .error = 0.5};
    AQ_CHECK(aq_layer_state_write(path_of("refused.h5", path), &facts, &layer));
    AQ_CHECK_FAILS(read_layer(path, &foreign, "mlp.up_proj", up, &layer), AQ_FORMAT, "fingerprint");
    AQ_CHECK_FAILS(read_layer(path, &other, "mlp.up_proj", up, &layer), AQ_FORMAT, "block 3");
    AQ_CHECK_FAILS(read_layer(path, &facts, "mlp.gate_proj", up, &layer), AQ_FORMAT, "part");
    aq_test_flip(path, -3);
    AQ_CHECK_FAILS(read_layer(path, &facts, "mlp.up_proj", up, &layer), AQ_FORMAT, "damaged");
    aq_coded_block_free(&coded);
    aq_block_free(&block);
}

/* ---- tuning ---- */

/* A dense block's inputs and outputs, and its coarsely coded form. */
typedef struct problem {
    aq_block block;
    aq_coded_block coded;
    aq_activations inputs, targets;
} problem;

static problem problem_new(void) {
    aq_backend *backend = aq_test_backend();
    problem self = {.block = aq_test_block(backend, 1)};
    size_t hidden = self.block.shape->hidden;
    AQ_CHECK(
        aq_activations_new(backend, SEQUENCES, AQ_TEST_LENGTH, hidden, SIZE_MAX, &self.inputs));
    AQ_CHECK(
        aq_activations_new(backend, SEQUENCES, AQ_TEST_LENGTH, hidden, SIZE_MAX, &self.targets));
    aq_tensor x = aq_test_normal(AQ_DIMS(SEQUENCES * AQ_TEST_LENGTH, hidden), 7);
    AQ_CHECK(aq_activations_write(&self.inputs, 0, SEQUENCES, &x));
    AQ_CHECK(aq_activations_forward(&self.block, &self.inputs, NULL, 0, &self.targets));
    self.coded = aq_test_coded_block(&self.block);
    aq_tensor_free(&x);
    return self;
}

static void problem_free(problem *self) {
    aq_block_free(&self->block);
    aq_coded_block_free(&self->coded);
    aq_activations_free(&self->inputs);
    aq_activations_free(&self->targets);
}

/* A keeper over one file, which ends the tuning after `last` epochs. */
typedef struct keeping {
    char path[PATH], *image;
    aq_write_behind behind;
    int last, saves;
} keeping;

static aq_status load(const aq_tune_keeper *keeper, aq_parameters *parameters, aq_tune_state *state,
                      bool *found) {
    const keeping *self = keeper->state;
    aq_status status = aq_tuning_state_read(self->path, &facts, parameters, state);
    *found = status == AQ_OK;
    return status == AQ_MISSING ? AQ_OK : status;
}

static aq_status save(const aq_tune_keeper *keeper, const aq_parameters *parameters,
                      const aq_tune_state *state) {
    keeping *self = keeper->state;
    size_t bytes = aq_tuning_state_bytes(parameters);
    self->saves++;
    if (!self->image) self->image = malloc(bytes);
    AQ_TRY(aq_tuning_state_pack(&facts, parameters, state, self->image));
    AQ_TRY(aq_write_behind_start(&self->behind, self->path, self->image, bytes));
    AQ_REQUIRE(state->epochs != self->last, AQ_STOPPED, "killed");
    return AQ_OK;
}

static aq_status settle(const aq_tune_keeper *keeper) {
    keeping *self = keeper->state;
    return aq_write_behind_wait(&self->behind);
}

static aq_status tune(problem *self, keeping *kept, double rate, aq_tune_report *report) {
    const aq_tune_keeper keeper = {.load = load, .save = save, .settle = settle, .state = kept};
    const aq_tune_settings settings = {.epochs = EPOCHS,
                                       .batch = 3,
                                       .patience = 2,
                                       .learning_rate = rate,
                                       .training = TRAINING,
                                       .seed = 3,
                                       .keeper = kept ? &keeper : NULL};
    return aq_tune_block(&self->coded, &self->block, &self->inputs, &self->targets, &settings,
                         aq_team_alone(), report);
}

static bool same_block(const aq_coded_block *a, const aq_coded_block *b) {
    bool same = true;
    for (int n = 0; n < AQ_NORM_COUNT; n++) same = same && same_tensor(&a->norms[n], &b->norms[n]);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        same = same && same_tensor(&a->linears[l].codebooks, &b->linears[l].codebooks) &&
               same_tensor(&a->linears[l].scales, &b->linears[l].scales);
        if (a->biases[l].data) same = same && same_tensor(&a->biases[l], &b->biases[l]);
    }
    return same;
}

/* Killed after epoch `last` and begun anew, tuning at `rate` comes to the bits of `whole`. */
static void check_resumed_at(int last, double rate, const problem *whole,
                             const aq_tune_report *expected) {
    problem first = problem_new(), second = problem_new();
    keeping kept = {.last = last};
    aq_tune_report report;
    snprintf(kept.path, sizeof kept.path, "%s/tuning-%g-%d.state", aq_test_folder(), rate, last);
    CU_ASSERT_EQUAL(tune(&first, &kept, rate, &report), AQ_STOPPED);
    CU_ASSERT_EQUAL(kept.saves, last);
    kept.last = 0;
    AQ_CHECK(tune(&second, &kept, rate, &report));
    CU_ASSERT_EQUAL(kept.saves, expected->epochs);
    CU_ASSERT_EQUAL(report.taken_up, last);
    CU_ASSERT_EQUAL(report.epochs, expected->epochs);
    CU_ASSERT_EQUAL(report.best_epoch, expected->best_epoch);
    CU_ASSERT_EQUAL(report.retries, expected->retries);
    CU_ASSERT_EQUAL(report.start_error, expected->start_error);
    CU_ASSERT_EQUAL(report.best_error, expected->best_error);
    CU_ASSERT_TRUE(same_block(&second.coded, &whole->coded));
    free(kept.image);
    problem_free(&first);
    problem_free(&second);
}

static void check_rate(double rate, bool retried) {
    problem whole = problem_new();
    aq_tune_report report;
    AQ_CHECK(tune(&whole, NULL, rate, &report));
    CU_ASSERT_EQUAL(report.retries > 0, retried);
    for (int last = 1; last <= report.epochs; last++) check_resumed_at(last, rate, &whole, &report);
    problem_free(&whole);
}

static void tuning_goes_on_behind_every_epoch_to_the_same_bits(void) {
    check_rate(1e-2, false);
}

static void tuning_that_gets_worse_goes_on_too(void) {
    check_rate(1, false);
}

static void tuning_that_was_retried_goes_on_at_its_lower_rate(void) {
    check_rate(1e4, true);
}

static void anothers_and_damaged_tuning_changes_nothing(void) {
    problem self = problem_new(), untouched = problem_new();
    const aq_state_facts foreign = {.block = 3, .fingerprint = "f"};
    keeping kept = {.last = 1};
    aq_tune_report report;
    aq_tune_state state;
    aq_parameters parameters;
    path_of("tuning.state", kept.path);
    CU_ASSERT_EQUAL(tune(&self, &kept, 1e-2, &report), AQ_STOPPED);
    AQ_CHECK(aq_parameters_new(&untouched.coded, &untouched.block, &parameters));
    AQ_CHECK_FAILS(aq_tuning_state_read(kept.path, &foreign, &parameters, &state), AQ_FORMAT,
                   "fingerprint");
    aq_test_flip(kept.path, 3000);
    AQ_CHECK_FAILS(aq_tuning_state_read(kept.path, &facts, &parameters, &state), AQ_FORMAT,
                   "damaged");
    aq_parameters_free(&parameters);
    problem fresh = problem_new();
    CU_ASSERT_TRUE(same_block(&untouched.coded, &fresh.coded));
    free(kept.image);
    problem_free(&fresh);
    problem_free(&self);
    problem_free(&untouched);
}

static const aq_case cases[] = {
    AQ_CASE(a_layer_reads_back_to_the_bit),
    AQ_CASE(anothers_and_damaged_layers_are_refused),
    AQ_CASE(tuning_goes_on_behind_every_epoch_to_the_same_bits),
    AQ_CASE(tuning_that_gets_worse_goes_on_too),
    AQ_CASE(tuning_that_was_retried_goes_on_at_its_lower_rate),
    AQ_CASE(anothers_and_damaged_tuning_changes_nothing),
};

int main(int argc, char **argv) {
    return aq_test_backend_main("state_file", cases, sizeof cases / sizeof *cases, argc, argv);
}
