#include "quant/codebook_solver.h"

#include "quant/codebook_cg.h"

static aq_status new_gradients(const aq_coded *coded, aq_codebook_solver *solver) {
    const size_t *entries = coded->codebooks.shape, *layer = solver->weight.shape;
    aq_backend *backend = coded->codebooks.home;
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(layer[0], layer[1]), &solver->difference));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(layer[0], layer[1]), &solver->gradient));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(entries[0], entries[1], entries[2], entries[3]),
                         &solver->codebooks_grad));
    return aq_tensor_new(backend, AQ_F32, AQ_DIMS(solver->own.count), &solver->scales_grad);
}

static aq_status new_memory(const aq_coded *part, aq_codebook_solver *solver) {
    if (solver->kind == AQ_SOLVER_CG) return aq_cg_state_new(solver);
    AQ_TRY(aq_moments_new(&part->codebooks, true, &solver->codebooks));
    return aq_moments_new(&part->scales, true, &solver->scales);
}

aq_status aq_codebook_solver_new(aq_solver_kind kind, const aq_coded *coded,
                                 const aq_tensor *weight, const aq_tensor *gram,
                                 const aq_team *team, aq_codebook_solver *solver) {
    *solver =
        (aq_codebook_solver){.kind = kind, .team = team, .gram = gram, .out = weight->shape[0]};
    size_t out_group = (size_t)coded->scheme.out_group;
    aq_rows own = solver->own = aq_team_rows(team, coded->codes.shape[0]);
    const aq_coded part = aq_coded_rows(coded, own.first, own.count);
    solver->weight = aq_tensor_rows(weight, own.first * out_group, own.count * out_group);
    aq_status status;
    AQ_STEP(new_gradients(coded, solver));
    AQ_STEP(aq_code_index_new(&part, &solver->index));
    AQ_STEP(new_memory(&part, solver));
done:
    if (status != AQ_OK) aq_codebook_solver_free(solver);
    return status;
}

void aq_codebook_solver_free(aq_codebook_solver *solver) {
    aq_tensor_free(&solver->difference);
    aq_tensor_free(&solver->gradient);
    aq_tensor_free(&solver->codebooks_grad);
    aq_tensor_free(&solver->scales_grad);
    aq_code_index_free(&solver->index);
    aq_cg_state_free(&solver->cg);
    aq_moments_free(&solver->codebooks);
    aq_moments_free(&solver->scales);
}

aq_status aq_codebook_solver_reset(aq_codebook_solver *solver) {
    if (solver->kind == AQ_SOLVER_CG) return AQ_OK;
    solver->steps = 0;
    AQ_TRY(aq_moments_reset(&solver->codebooks));
    return aq_moments_reset(&solver->scales);
}

static aq_status find_gradients(aq_codebook_solver *solver, const aq_coded *part) {
    const aq_product twice_mean = {.alpha = 2 / (float)solver->out, .precision = AQ_PRECISE};
    AQ_TRY(aq_coded_difference(part, &solver->weight, &solver->difference));
    AQ_TRY(aq_matmul(&solver->difference, solver->gram, &twice_mean, &solver->gradient));
    AQ_TRY(aq_coded_grad(part, &solver->index.orders, &solver->index.offsets, &solver->gradient,
                         &solver->codebooks_grad, &solver->scales_grad));
    return aq_team_sum(solver->team, &solver->codebooks_grad);
}

static aq_status take_step(aq_codebook_solver *solver, aq_coded *part) {
    AQ_TRY(find_gradients(solver, part));
    const aq_adam_step step = {.learning_rate = solver->learning_rate,
                               .beta1 = 0,
                               .beta2 = 0.95f,
                               .epsilon = 1e-8f,
                               .step = ++solver->steps};
    AQ_TRY(aq_moments_step(&step, &solver->codebooks_grad, &part->codebooks, &solver->codebooks));
    return aq_moments_step(&step, &solver->scales_grad, &part->scales, &solver->scales);
}

static aq_status run_adam(aq_codebook_solver *solver, int steps, const aq_watch *watch,
                          aq_coded *part) {
    for (int i = 0; i < steps; i++) {
        AQ_TRY(take_step(solver, part));
        AQ_TRY(aq_watch_step(watch, "codebooks", i + 1, steps));
    }
    return AQ_OK;
}

aq_status aq_codebook_solver_run(aq_codebook_solver *solver, int steps, const aq_watch *watch,
                                 aq_coded *coded) {
    aq_rows own = solver->own;
    aq_coded part = aq_coded_rows(coded, own.first, own.count);
    AQ_TRY(aq_code_index_update(&part, &solver->index));
    AQ_TRY(solver->kind == AQ_SOLVER_CG ? aq_codebook_cg_run(solver, watch, &part)
                                        : run_adam(solver, steps, watch, &part));
    return aq_team_gather_rows(solver->team, own.first, own.count, &coded->scales);
}
