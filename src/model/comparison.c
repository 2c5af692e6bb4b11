#include "model/comparison.h"

#include "base/stop.h"

#include <stdlib.h>

static aq_status check_shapes(const aq_block *block, const aq_activations *inputs,
                              const aq_activations *targets) {
    AQ_REQUIRE(inputs->sequences == targets->sequences && inputs->length == targets->length &&
                   inputs->hidden == targets->hidden && inputs->hidden == block->shape->hidden,
               AQ_SHAPE,
               "inputs of %zu x %zu x %zu and targets of %zu x %zu x %zu activations for a block "
               "of width %zu",
               inputs->sequences, inputs->length, inputs->hidden, targets->sequences,
               targets->length, targets->hidden, block->shape->hidden);
    return AQ_OK;
}

static aq_status make_buffers(aq_comparison *comparison) {
    const aq_activations *inputs = comparison->inputs;
    size_t sequences = inputs->sequences;
    comparison->all = malloc(sequences * sizeof *comparison->all);
    AQ_REQUIRE(comparison->all, AQ_MEMORY, "no memory for a list of %zu sequences", sequences);
    for (size_t i = 0; i < sequences; i++) comparison->all[i] = (uint32_t)i;
    AQ_TRY(aq_tape_new(comparison->block->shape, comparison->micro, inputs->length, inputs->backend,
                       &comparison->tape));
    aq_shape rows = AQ_DIMS(comparison->micro * inputs->length, inputs->hidden);
    AQ_TRY(aq_tensor_new(inputs->backend, AQ_F32, rows, &comparison->target));
    AQ_TRY(aq_tensor_new(inputs->backend, AQ_F32, rows, &comparison->y));
    return aq_tensor_zeros(inputs->backend, AQ_F64, AQ_DIMS(2), &comparison->sums);
}

/* A session that was given other sequences than its place says would compare the wrong ones. */
static aq_status count_sequences(aq_comparison *comparison) {
    const aq_team *team = comparison->team;
    size_t own = comparison->inputs->sequences;
    double all = (double)own;
    AQ_TRY(aq_team_sum_number(team, comparison->inputs->backend, &all));
    comparison->sequences = (size_t)all;
    AQ_REQUIRE(aq_team_sequences(team, comparison->sequences) == own, AQ_SHAPE,
               "member %d of a team of %d holds %zu of %zu sequences", team->rank, team->size, own,
               comparison->sequences);
    return AQ_OK;
}

aq_status aq_comparison_new(const aq_block *block, const aq_activations *inputs,
                            const aq_activations *targets, const aq_team *team,
                            aq_comparison *comparison) {
    AQ_TRY(check_shapes(block, inputs, targets));
    size_t micro = aq_micro_batch(inputs->length);
    *comparison = (aq_comparison){.block = block,
                                  .inputs = inputs,
                                  .targets = targets,
                                  .team = team,
                                  .micro = micro < inputs->sequences ? micro : inputs->sequences};
    aq_status status = make_buffers(comparison);
    if (status == AQ_OK) status = count_sequences(comparison);
    if (status != AQ_OK) aq_comparison_free(comparison);
    return status;
}

void aq_comparison_free(aq_comparison *comparison) {
    free(comparison->all);
    comparison->all = NULL;
    aq_tape_free(&comparison->tape);
    aq_tensor_free(&comparison->target);
    aq_tensor_free(&comparison->y);
    aq_tensor_free(&comparison->sums);
}

aq_status aq_comparison_batch(aq_comparison *comparison, const uint32_t *list, size_t count,
                              size_t next, float factor, aq_tensor *y) {
    size_t length = comparison->inputs->length;
    aq_tensor x = aq_tape_buffer(&comparison->tape.x, count * length, comparison->inputs->hidden);
    aq_tensor target = aq_tensor_rows(&comparison->target, 0, count * length);
    aq_tensor difference = aq_tensor_rows(&comparison->sums, 0, 1);
    aq_tensor square = aq_tensor_rows(&comparison->sums, 1, 1);
    *y = aq_tensor_rows(&comparison->y, 0, count * length);
    AQ_TRY(aq_activations_read(comparison->inputs, list, count, &x));
    AQ_TRY(aq_activations_expect(comparison->targets, list, count));
    AQ_TRY(aq_activations_expect(comparison->inputs, list + count, next));
    AQ_TRY(aq_block_forward(comparison->block, count, length, &x, &comparison->tape, NULL, y));
    AQ_TRY(aq_activations_read(comparison->targets, list, count, &target));
    AQ_TRY(aq_dot_add(&target, &target, 1, &square));
    AQ_TRY(aq_axpby(-factor, &target, factor, y));
    return aq_dot_add(y, y, 1 / ((double)factor * factor), &difference);
}

aq_status aq_comparison_read(aq_comparison *comparison, aq_difference *sums) {
    double values[2];
    AQ_TRY(aq_team_sum(comparison->team, &comparison->sums));
    AQ_TRY(aq_tensor_download(&comparison->sums, values, sizeof values));
    *sums = (aq_difference){.difference = values[0], .target = values[1]};
    return aq_fill(0, &comparison->sums);
}

aq_status aq_comparison_measure(aq_comparison *comparison, aq_rows range, aq_difference *sums) {
    const aq_team *team = comparison->team;
    size_t micro = comparison->micro, sequences = comparison->sequences;
    AQ_REQUIRE(range.count > 0 && range.first < sequences && range.count <= sequences - range.first,
               AQ_INVALID, "%zu sequences from %zu on, of %zu", range.count, range.first,
               sequences);
    AQ_TRY(aq_fill(0, &comparison->sums));
    size_t end = aq_team_sequences(team, range.first + range.count);
    for (size_t done = aq_team_sequences(team, range.first); done < end; done += micro) {
        size_t batch = end - done < micro ? end - done : micro;
        aq_tensor y;
        AQ_TRY(aq_stop_check());
        AQ_TRY(aq_comparison_batch(comparison, comparison->all + done, batch, end - done - batch, 1,
                                   &y));
    }
    return aq_comparison_read(comparison, sums);
}

double aq_relative_error(const aq_difference *sums) {
    return sums->difference == 0 ? 0 : sums->difference / sums->target;
}

aq_status aq_block_error(const aq_block *block, const aq_activations *inputs,
                         const aq_activations *targets, aq_rows range, const aq_team *team,
                         double *error) {
    aq_comparison comparison;
    AQ_TRY(aq_comparison_new(block, inputs, targets, team, &comparison));
    aq_difference sums;
    aq_status status = aq_comparison_measure(&comparison, range, &sums);
    aq_comparison_free(&comparison);
    if (status == AQ_OK) *error = aq_relative_error(&sums);
    return status;
}
