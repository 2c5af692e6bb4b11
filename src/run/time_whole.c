#include "run/time_whole.h"

#include "base/clock.h"
#include "run/quantize_block.h"

#include <string.h>

/* What else may take some of a GPU's memory: code, other libraries' workspaces, gaps. */
#define SPARE_BYTES ((size_t)4 << 30)

typedef struct problem {
    aq_block block;
    aq_activations inputs, targets;
} problem;

static aq_status make_activations(aq_backend *backend, const aq_whole_subject *of,
                                  aq_whole_cost *cost, problem *self) {
    size_t sequences = of->block.sequences + of->block.held_out, length = of->block.length;
    size_t hidden = of->block.kind->shape.hidden, free_bytes, total_bytes;
    size_t bytes = cost->activation_bytes = sequences * length * hidden * sizeof(uint16_t);
    size_t others = of->stage_bytes + SPARE_BYTES;
    AQ_TRY(aq_backend_memory(backend, &free_bytes, &total_bytes));
    size_t room = free_bytes > others ? free_bytes - others : 0;
    AQ_TRY(aq_activations_new(backend, sequences, length, hidden, room, &self->inputs));
    room = room > bytes ? room - bytes : 0;
    AQ_TRY(aq_activations_new(backend, sequences, length, hidden, room, &self->targets));
    cost->inputs_resident = self->inputs.resident.data != NULL;
    cost->targets_resident = self->targets.resident.data != NULL;
    return aq_synthetic_inputs(&self->inputs, of->block.fit.seed);
}

static aq_status make_problem(aq_backend *backend, const aq_whole_subject *of, aq_whole_cost *cost,
                              problem *self) {
    double start = aq_seconds();
    AQ_TRY(make_activations(backend, of, cost, self));
    AQ_TRY(aq_synthetic_block(backend, &of->block.kind->shape, of->block.length, AQ_FAST,
                              &self->block));
    AQ_TRY(aq_finish(backend));
    cost->setup_seconds = aq_seconds() - start;
    return AQ_OK;
}

static void problem_free(problem *self) {
    aq_block_free(&self->block);
    aq_activations_free(&self->inputs);
    aq_activations_free(&self->targets);
}

static void fill_seconds(const aq_phases *phases, aq_block_cost *cost) {
    cost->seconds[AQ_BLOCK_FORWARD] = phases->seconds[AQ_PHASE_FORWARD];
    cost->seconds[AQ_BLOCK_KMEANS] = phases->seconds[AQ_PHASE_KMEANS];
    cost->seconds[AQ_BLOCK_CODEBOOKS] = phases->seconds[AQ_PHASE_CODEBOOKS];
    cost->seconds[AQ_BLOCK_CODES] = phases->seconds[AQ_PHASE_CODES];
    cost->seconds[AQ_BLOCK_TUNING] = phases->seconds[AQ_PHASE_TUNING];
    cost->work[AQ_BLOCK_FORWARD].products += cost->work[AQ_BLOCK_GRAM].products;
    cost->work[AQ_BLOCK_FORWARD].bytes += cost->work[AQ_BLOCK_GRAM].bytes;
    cost->work[AQ_BLOCK_GRAM] = (aq_work){0};
}

static aq_quantize_settings settings_of(const aq_whole_subject *of) {
    const aq_block_subject *block = &of->block;
    return (aq_quantize_settings){.seed = block->fit.seed,
                                  .validation = block->held_out,
                                  .fit = block->fit,
                                  .tune = {.epochs = block->epochs,
                                           .batch = block->batch,
                                           .patience = block->epochs > 0 ? block->epochs : 1,
                                           .learning_rate = of->learning_rate,
                                           .precision = block->precision},
                                  .lanes = of->lanes,
                                  .progress = of->progress};
}

static aq_status quantize(const aq_whole_subject *of, problem *self, aq_whole_cost *cost) {
    const aq_quantize_settings settings = settings_of(of);
    const aq_block_work work = {
        .block = &self->block, .inputs = &self->inputs, .targets = &self->targets};
    aq_coded_block coded;
    aq_quantize_report report;
    double start = aq_seconds();
    AQ_TRY(aq_quantize_block(&work, &settings, aq_team_alone(), &coded, &report));
    cost->seconds = aq_seconds() - start;
    fill_seconds(&report.seconds, &cost->block);
    memcpy(cost->layer_errors, coded.layer_errors, sizeof cost->layer_errors);
    cost->fitted_error = coded.fitted_error;
    cost->error = coded.error;
    aq_coded_block_free(&coded);
    return AQ_OK;
}

aq_status aq_time_whole(aq_backend *backend, const aq_whole_subject *subject, aq_whole_cost *cost) {
    problem self = {0};
    *cost = (aq_whole_cost){0};
    AQ_REQUIRE(subject->block.kind->experts == 1, AQ_INVALID,
               "blocks with experts cannot be run as a whole, only be timed by their parts");
    aq_block_count(&subject->block, &cost->block);
    AQ_TRY(aq_block_check(&subject->block, &cost->block));
    aq_status status = make_problem(backend, subject, cost, &self);
    if (status == AQ_OK) status = quantize(subject, &self, cost);
    problem_free(&self);
    return status;
}
