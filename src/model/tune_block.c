#include "model/tune_block.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "model/parameters.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_RETRIES = 3 };

/* An epoch that is over; number 0: none. */
typedef struct epoch_facts {
    int number;
    double training_error, error, seconds;
} epoch_facts;

typedef struct block_tuner {
    aq_coded_block *coded;
    aq_block *block; /* its dense form */
    const aq_tune_settings *settings;
    aq_comparison comparison;
    aq_parameters parameters;
    uint32_t *order;      /* of the training sequences in an epoch, stratum by stratum */
    uint32_t *batch;      /* own sequences of the batch at work, numbered as this member does */
    double target_square; /* mean square of all training targets */
    aq_adam_step adam;
    double start;       /* aq_seconds */
    epoch_facts untold; /* its state may not be kept yet */
    aq_tune_report *report;
} block_tuner;

static aq_status check_settings(const aq_tune_settings *settings) {
    AQ_REQUIRE(settings->training >= 1, AQ_INVALID, "tuning without a training sequence");
    AQ_REQUIRE(settings->epochs >= 0 && settings->batch >= 1 && settings->patience >= 1, AQ_INVALID,
               "tuning of %d epochs with batches of %d and a patience of %d", settings->epochs,
               settings->batch, settings->patience);
    AQ_REQUIRE(isfinite(settings->learning_rate) && settings->learning_rate > 0, AQ_INVALID,
               "tuning with a learning rate of %g", settings->learning_rate);
    return AQ_OK;
}

static aq_status tuner_new(block_tuner *tuner, const aq_activations *inputs,
                           const aq_activations *targets, const aq_team *team) {
    const aq_tune_settings *settings = tuner->settings;
    tuner->adam = (aq_adam_step){.learning_rate = (float)settings->learning_rate,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.95f,
                                 .epsilon = 1e-8f};
    tuner->order = malloc(settings->training * sizeof *tuner->order);
    tuner->batch = malloc(settings->training * sizeof *tuner->batch);
    AQ_REQUIRE(tuner->order && tuner->batch, AQ_MEMORY, "no memory for the order of %zu sequences",
               settings->training);
    AQ_TRY(aq_comparison_new(tuner->block, inputs, targets, team, &tuner->comparison));
    AQ_REQUIRE(settings->training <= tuner->comparison.sequences, AQ_INVALID,
               "%zu training sequences of %zu", settings->training, tuner->comparison.sequences);
    return aq_parameters_new(tuner->coded, tuner->block, &tuner->parameters);
}

static void tuner_free(block_tuner *tuner) {
    free(tuner->order);
    free(tuner->batch);
    aq_comparison_free(&tuner->comparison);
    aq_parameters_free(&tuner->parameters);
}

/* Adds the gradients of own sequences: the loss is the mean squared difference of all `count`
 * sequences of the batch over target_square. */
static aq_status add_gradients(block_tuner *tuner, size_t own, size_t count) {
    aq_comparison *comparison = &tuner->comparison;
    const aq_activations *inputs = comparison->inputs;
    double values = (double)count * (double)inputs->length * (double)inputs->hidden;
    float factor = (float)(2 / (values * tuner->target_square));
    for (size_t done = 0; done < own; done += comparison->micro) {
        size_t part = own - done < comparison->micro ? own - done : comparison->micro;
        aq_tensor dy;
        AQ_TRY(aq_comparison_batch(comparison, tuner->batch + done, part, own - done - part, factor,
                                   &dy));
        AQ_TRY(aq_block_backward(tuner->block, part, inputs->length, &comparison->tape, &dy,
                                 &tuner->parameters.grad));
    }
    return AQ_OK;
}

static aq_status optimizer_step(block_tuner *tuner, size_t own, size_t count) {
    AQ_TRY(aq_coded_block_decode(tuner->coded, tuner->block));
    AQ_TRY(aq_parameters_zero_grad(&tuner->parameters));
    AQ_TRY(add_gradients(tuner, own, count));
    tuner->adam.step++;
    return aq_parameters_step(&tuner->parameters, &tuner->adam, tuner->comparison.team);
}

/* ---- batches ---- */

/* Stratum k of `batch` strata holds the training sequences k, k + batch, k + 2 batch ...; a batch
 * takes one of each. So the batches are the same for a team of any size, and where the size divides
 * the batch, members have equal parts of it. */
static aq_rows stratum_of(const aq_tune_settings *settings, size_t k) {
    size_t batch = (size_t)settings->batch;
    size_t each = settings->training / batch, longer = settings->training % batch;
    return (aq_rows){.first = k * each + (k < longer ? k : longer), .count = each + (k < longer)};
}

static void order_epoch(block_tuner *tuner, int epoch) {
    const aq_tune_settings *settings = tuner->settings;
    uint64_t seed = aq_random(settings->seed, AQ_STREAM_BATCHES, (uint64_t)epoch);
    for (size_t k = 0; k < (size_t)settings->batch; k++) {
        aq_rows stratum = stratum_of(settings, k);
        if (stratum.count == 0) break; /* nor have those behind any */
        aq_random_order(aq_random(seed, AQ_STREAM_BATCHES, k), AQ_STREAM_BATCHES,
                        (uint32_t)stratum.count, tuner->order + stratum.first);
    }
}

/* The own sequences of batch number `step` into tuner->batch; *count of all members. */
static size_t take_batch(block_tuner *tuner, size_t step, size_t *count) {
    const aq_tune_settings *settings = tuner->settings;
    const aq_team *team = tuner->comparison.team;
    size_t batch = (size_t)settings->batch, size = (size_t)team->size, own = 0;
    *count = 0;
    for (size_t k = 0; k < batch; k++) {
        aq_rows stratum = stratum_of(settings, k);
        if (step >= stratum.count) break; /* those behind are no longer */
        size_t sequence = tuner->order[stratum.first + step] * batch + k;
        ++*count;
        if (sequence % size == (size_t)team->rank)
            tuner->batch[own++] = (uint32_t)(sequence / size);
    }
    return own;
}

/* *error is that of the training sequences, each measured in the step that used it. */
static aq_status train_epoch(block_tuner *tuner, int epoch, double *error) {
    const aq_tune_settings *settings = tuner->settings;
    int steps = (int)((settings->training - 1) / (size_t)settings->batch + 1);
    order_epoch(tuner, epoch);
    for (int step = 0; step < steps; step++) {
        size_t count, own = take_batch(tuner, (size_t)step, &count);
        AQ_TRY(optimizer_step(tuner, own, count));
        AQ_TRY(aq_watch_step(settings->watch, "tuning", (epoch - 1) * steps + step + 1,
                             settings->epochs * steps));
    }
    aq_difference sums;
    AQ_TRY(aq_comparison_read(&tuner->comparison, &sums));
    *error = aq_relative_error(&sums);
    return AQ_OK;
}

/* ---- epochs ---- */

/* The error that decides, of the present values: on the held-out sequences, without any on the
 * training sequences. */
static aq_status deciding_error(block_tuner *tuner, double *error) {
    size_t training = tuner->settings->training, all = tuner->comparison.sequences;
    const aq_rows trained = {0, training}, held_out = {training, all - training};
    aq_difference sums;
    AQ_TRY(aq_coded_block_decode(tuner->coded, tuner->block));
    AQ_TRY(aq_comparison_measure(&tuner->comparison, training < all ? held_out : trained, &sums));
    *error = aq_relative_error(&sums);
    return AQ_OK;
}

static epoch_facts facts_of(const block_tuner *tuner, int epoch, double training_error,
                            double error) {
    return (epoch_facts){epoch, training_error, error, aq_seconds() - tuner->start};
}

static void tell_epoch(const block_tuner *tuner, epoch_facts facts) {
    aq_watch_epoch(tuner->settings->watch, facts.number, facts.training_error, facts.error,
                   facts.seconds);
}

/* Epoch 0: the errors before tuning, and the loss's normalizer. */
static aq_status measure_start(block_tuner *tuner) {
    const aq_activations *inputs = tuner->comparison.inputs;
    size_t training = tuner->settings->training;
    double values = (double)training * (double)inputs->length * (double)inputs->hidden, error;
    AQ_TRY(deciding_error(tuner, &error));
    aq_difference sums;
    AQ_TRY(aq_comparison_measure(&tuner->comparison, (aq_rows){0, training}, &sums));
    tuner->target_square = sums.target / values;
    AQ_REQUIRE(isfinite(error) && isfinite(sums.difference) && tuner->target_square > 0, AQ_NUMERIC,
               "the error before block tuning is %g, the targets' mean square %g", error,
               tuner->target_square);
    tuner->report->start_error = tuner->report->best_error = error;
    tell_epoch(tuner, facts_of(tuner, 0, aq_relative_error(&sums), error));
    return aq_parameters_keep(&tuner->parameters);
}

/* The answer to a loss that is not finite: the best values again, and a lower rate. */
static aq_status retry_slower(block_tuner *tuner, int epoch) {
    AQ_TRY(aq_parameters_restore(&tuner->parameters));
    AQ_TRY(aq_parameters_forget(&tuner->parameters));
    AQ_REQUIRE(tuner->report->retries < MOST_RETRIES, AQ_NUMERIC,
               "block tuning: the error of epoch %d is not finite with a learning rate of %g, "
               "after %d retries",
               epoch, (double)tuner->adam.learning_rate, MOST_RETRIES);
    tuner->report->retries++;
    tuner->adam.step = 0;
    tuner->adam.learning_rate /= 10;
    if (tuner->comparison.team->rank == 0)
        aq_log_warn("block tuning: the error of epoch %d is not finite; going back to epoch %d "
                    "with a learning rate of %g",
                    epoch, tuner->report->best_epoch, (double)tuner->adam.learning_rate);
    return AQ_OK;
}

/* What was saved last is kept now: its epoch may be told. */
static aq_status settle(block_tuner *tuner) {
    const aq_tune_keeper *keeper = tuner->settings->keeper;
    if (keeper) AQ_TRY(keeper->settle(keeper));
    if (tuner->untold.number) tell_epoch(tuner, tuner->untold);
    tuner->untold = (epoch_facts){0};
    return AQ_OK;
}

static aq_status save(block_tuner *tuner) {
    const aq_tune_report *report = tuner->report;
    const aq_tune_keeper *keeper = tuner->settings->keeper;
    const aq_tune_state state = {.epochs = report->epochs,
                                 .best_epoch = report->best_epoch,
                                 .retries = report->retries,
                                 .step = tuner->adam.step,
                                 .learning_rate = (double)tuner->adam.learning_rate,
                                 .start_error = report->start_error,
                                 .best_error = report->best_error,
                                 .target_square = tuner->target_square};
    return keeper ? keeper->save(keeper, &tuner->parameters, &state) : settle(tuner);
}

static aq_status finish_epoch(block_tuner *tuner, epoch_facts facts) {
    aq_tune_report *report = tuner->report;
    AQ_TRY(settle(tuner)); /* the epoch before */
    report->epochs = facts.number;
    if (facts.error < report->best_error) {
        report->best_error = facts.error;
        report->best_epoch = facts.number;
        AQ_TRY(aq_parameters_keep(&tuner->parameters));
    }
    tuner->untold = facts;
    return save(tuner);
}

/* From where an earlier process came to, or from the start. */
static aq_status begin(block_tuner *tuner) {
    const aq_tune_keeper *keeper = tuner->settings->keeper;
    aq_tune_state state;
    bool found = false;
    if (keeper) AQ_TRY(keeper->load(keeper, &tuner->parameters, &state, &found));
    if (!found) return measure_start(tuner);
    *tuner->report = (aq_tune_report){.epochs = state.epochs,
                                      .taken_up = state.epochs,
                                      .best_epoch = state.best_epoch,
                                      .start_error = state.start_error,
                                      .best_error = state.best_error,
                                      .retries = state.retries};
    tuner->target_square = state.target_square;
    tuner->adam.step = state.step;
    tuner->adam.learning_rate = (float)state.learning_rate;
    return AQ_OK;
}

static aq_status tune(block_tuner *tuner) {
    const aq_tune_settings *settings = tuner->settings;
    AQ_TRY(begin(tuner));
    int epoch = tuner->report->epochs + 1;
    while (epoch <= settings->epochs && epoch - tuner->report->best_epoch <= settings->patience) {
        double training_error, error;
        AQ_TRY(train_epoch(tuner, epoch, &training_error));
        AQ_TRY(deciding_error(tuner, &error));
        if (!isfinite(training_error) || !isfinite(error)) {
            AQ_TRY(retry_slower(tuner, epoch));
            continue;
        }
        AQ_TRY(finish_epoch(tuner, facts_of(tuner, epoch++, training_error, error)));
    }
    return aq_parameters_restore(&tuner->parameters);
}

/* Also a tuning that is stopped leaves its last epoch on the disk. */
static aq_status settle_last(block_tuner *tuner, aq_status tuned) {
    if (tuned != AQ_OK && tuned != AQ_STOPPED) return tuned;
    aq_status settled = settle(tuner);
    if (settled == AQ_OK) return tuned;
    /* A team has agreed to stop by now, and its members go on saying so. */
    if (tuned == AQ_STOPPED && tuner->comparison.team->size > 1) aq_log_warn("%s", aq_error_text());
    return settled;
}

aq_status aq_tune_block(aq_coded_block *coded, aq_block *block, const aq_activations *inputs,
                        const aq_activations *targets, const aq_tune_settings *settings,
                        const aq_team *team, aq_tune_report *report) {
    *report = (aq_tune_report){0};
    AQ_TRY(check_settings(settings));
    block_tuner tuner = {.coded = coded,
                         .block = block,
                         .settings = settings,
                         .start = aq_seconds(),
                         .report = report};
    const aq_precision before = block->precision;
    block->precision = settings->precision;
    aq_block_set_halves(block, aq_block_can_halve(block));
    aq_status status = tuner_new(&tuner, inputs, targets, team);
    if (status == AQ_OK) status = tune(&tuner);
    status = settle_last(&tuner, status);
    block->precision = before;
    aq_block_set_halves(block, false);
    if (status == AQ_OK) status = aq_coded_block_decode(coded, block);
    tuner_free(&tuner);
    report->seconds = aq_seconds() - tuner.start;
    return status;
}
