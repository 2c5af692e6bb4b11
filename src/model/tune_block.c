#include "model/tune_block.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "model/parameters.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_RETRIES = 3 };

typedef struct block_tuner {
    aq_coded_block *coded;
    aq_block *block; /* its dense form */
    const aq_tune_settings *settings;
    aq_comparison comparison;
    aq_parameters parameters;
    uint32_t *order;      /* of the training sequences in an epoch */
    double target_square; /* mean square of all training targets */
    aq_adam_step adam;
    double start; /* aq_seconds */
    aq_tune_report *report;
} block_tuner;

static aq_status check_settings(const aq_tune_settings *settings, size_t sequences) {
    AQ_REQUIRE(settings->training >= 1 && settings->training <= sequences, AQ_INVALID,
               "%zu training sequences of %zu", settings->training, sequences);
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
    AQ_REQUIRE(tuner->order, AQ_MEMORY, "no memory for the order of %zu sequences",
               settings->training);
    AQ_TRY(aq_comparison_new(tuner->block, inputs, targets, team, &tuner->comparison));
    return aq_parameters_new(tuner->coded, tuner->block, &tuner->parameters);
}

static void tuner_free(block_tuner *tuner) {
    free(tuner->order);
    aq_comparison_free(&tuner->comparison);
    aq_parameters_free(&tuner->parameters);
}

/* Adds the gradients of the batch's loss: mean squared difference over target_square. */
static aq_status add_gradients(block_tuner *tuner, const uint32_t *batch, size_t count) {
    aq_comparison *comparison = &tuner->comparison;
    const aq_activations *inputs = comparison->inputs;
    size_t micro = comparison->micro, stride = micro * (size_t)comparison->team->size;
    double values = (double)count * (double)inputs->length * (double)inputs->hidden;
    float factor = (float)(2 / (values * tuner->target_square));
    for (size_t done = micro * (size_t)comparison->team->rank; done < count; done += stride) {
        size_t part = count - done < micro ? count - done : micro;
        aq_tensor dy;
        AQ_TRY(aq_comparison_batch(comparison, batch + done, part, factor, &dy));
        AQ_TRY(aq_block_backward(tuner->block, part, inputs->length, &comparison->tape, &dy,
                                 &tuner->parameters.grad));
    }
    return AQ_OK;
}

static aq_status optimizer_step(block_tuner *tuner, const uint32_t *batch, size_t count) {
    AQ_TRY(aq_coded_block_decode(tuner->coded, tuner->block));
    AQ_TRY(aq_parameters_zero_grad(&tuner->parameters));
    AQ_TRY(add_gradients(tuner, batch, count));
    tuner->adam.step++;
    return aq_parameters_step(&tuner->parameters, &tuner->adam, tuner->comparison.team);
}

/* *error is that of the training sequences, each measured in the step that used it. */
static aq_status train_epoch(block_tuner *tuner, int epoch, double *error) {
    const aq_tune_settings *settings = tuner->settings;
    size_t training = settings->training, batch = (size_t)settings->batch;
    int steps = (int)((training - 1) / batch + 1);
    aq_random_order(aq_random(settings->seed, AQ_STREAM_BATCHES, (uint64_t)epoch),
                    AQ_STREAM_BATCHES, (uint32_t)training, tuner->order);
    for (int step = 0; step < steps; step++) {
        size_t first = (size_t)step * batch;
        size_t count = training - first < batch ? training - first : batch;
        AQ_TRY(optimizer_step(tuner, tuner->order + first, count));
        AQ_TRY(aq_watch_step(settings->watch, "tuning", (epoch - 1) * steps + step + 1,
                             settings->epochs * steps));
    }
    aq_difference sums;
    AQ_TRY(aq_comparison_read(&tuner->comparison, &sums));
    *error = aq_relative_error(&sums);
    return AQ_OK;
}

/* The error that decides, of the present values: on the held-out sequences, without any on the
 * training sequences. */
static aq_status deciding_error(block_tuner *tuner, double *error) {
    size_t training = tuner->settings->training, all = tuner->comparison.inputs->sequences;
    aq_difference sums;
    AQ_TRY(aq_coded_block_decode(tuner->coded, tuner->block));
    if (training < all)
        AQ_TRY(aq_comparison_measure(&tuner->comparison, training, all - training, &sums));
    else
        AQ_TRY(aq_comparison_measure(&tuner->comparison, 0, training, &sums));
    *error = aq_relative_error(&sums);
    return AQ_OK;
}

static void tell_epoch(const block_tuner *tuner, int epoch, double training_error, double error) {
    aq_watch_epoch(tuner->settings->watch, epoch, training_error, error,
                   aq_seconds() - tuner->start);
}

/* Epoch 0: the errors before tuning, and the loss's normalizer. */
static aq_status measure_start(block_tuner *tuner) {
    const aq_activations *inputs = tuner->comparison.inputs;
    size_t training = tuner->settings->training;
    double values = (double)training * (double)inputs->length * (double)inputs->hidden, error;
    AQ_TRY(deciding_error(tuner, &error));
    aq_difference sums;
    AQ_TRY(aq_comparison_measure(&tuner->comparison, 0, training, &sums));
    tuner->target_square = sums.target / values;
    AQ_REQUIRE(isfinite(error) && isfinite(sums.difference) && tuner->target_square > 0, AQ_NUMERIC,
               "the error before block tuning is %g, the targets' mean square %g", error,
               tuner->target_square);
    tuner->report->start_error = tuner->report->best_error = error;
    tell_epoch(tuner, 0, aq_relative_error(&sums), error);
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
    aq_log_warn("block tuning: the error of epoch %d is not finite; going back to epoch %d with a "
                "learning rate of %g",
                epoch, tuner->report->best_epoch, (double)tuner->adam.learning_rate);
    return AQ_OK;
}

static aq_status save(const block_tuner *tuner) {
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
    return keeper ? keeper->save(keeper, &tuner->parameters, &state) : AQ_OK;
}

static aq_status finish_epoch(block_tuner *tuner, int epoch, double error) {
    aq_tune_report *report = tuner->report;
    report->epochs = epoch;
    if (error < report->best_error) {
        report->best_error = error;
        report->best_epoch = epoch;
        AQ_TRY(aq_parameters_keep(&tuner->parameters));
    }
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
        AQ_TRY(finish_epoch(tuner, epoch, error));
        tell_epoch(tuner, epoch++, training_error, error);
    }
    AQ_TRY(aq_parameters_restore(&tuner->parameters));
    return aq_coded_block_decode(tuner->coded, tuner->block);
}

aq_status aq_tune_block(aq_coded_block *coded, aq_block *block, const aq_activations *inputs,
                        const aq_activations *targets, const aq_tune_settings *settings,
                        const aq_team *team, aq_tune_report *report) {
    *report = (aq_tune_report){0};
    AQ_TRY(check_settings(settings, inputs->sequences));
    block_tuner tuner = {.coded = coded,
                         .block = block,
                         .settings = settings,
                         .start = aq_seconds(),
                         .report = report};
    aq_status status = tuner_new(&tuner, inputs, targets, team);
    if (status == AQ_OK) status = tune(&tuner);
    tuner_free(&tuner);
    report->seconds = aq_seconds() - tuner.start;
    return status;
}
