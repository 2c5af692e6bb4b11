#include "quant/codebook_solver.h"

aq_status aq_codebook_solver_new(const aq_coded *coded, const aq_tensor *weight,
                                 const aq_tensor *gram, aq_codebook_solver *solver) {
    *solver = (aq_codebook_solver){.weight = weight, .gram = gram};
    const aq_tensor *codebooks = &coded->codebooks;
    aq_shape layer = AQ_DIMS(weight->shape[0], weight->shape[1]);
    aq_status status;
    AQ_STEP(aq_tensor_new(weight->home, AQ_F32, layer, &solver->difference));
    AQ_STEP(aq_tensor_new(weight->home, AQ_F32, layer, &solver->gradient));
    AQ_STEP(aq_tensor_new(
        weight->home, AQ_F32,
        AQ_DIMS(codebooks->shape[0], codebooks->shape[1], codebooks->shape[2], codebooks->shape[3]),
        &solver->codebooks_grad));
    AQ_STEP(
        aq_tensor_new(weight->home, AQ_F32, AQ_DIMS(coded->scales.shape[0]), &solver->scales_grad));
    AQ_STEP(aq_code_index_new(coded, &solver->index));
    AQ_STEP(aq_moments_new(&coded->codebooks, true, &solver->codebooks));
    AQ_STEP(aq_moments_new(&coded->scales, true, &solver->scales));
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
    aq_moments_free(&solver->codebooks);
    aq_moments_free(&solver->scales);
}

aq_status aq_codebook_solver_reset(aq_codebook_solver *solver) {
    solver->steps = 0;
    AQ_TRY(aq_moments_reset(&solver->codebooks));
    return aq_moments_reset(&solver->scales);
}

static aq_status find_gradients(aq_codebook_solver *solver, const aq_coded *coded) {
    const aq_product twice_mean = {.alpha = 2 / (float)solver->weight->shape[0],
                                   .precision = AQ_PRECISE};
    AQ_TRY(aq_coded_difference(coded, solver->weight, &solver->difference));
    AQ_TRY(aq_matmul(&solver->difference, solver->gram, &twice_mean, &solver->gradient));
    return aq_coded_grad(coded, &solver->index.orders, &solver->index.offsets, &solver->gradient,
                         &solver->codebooks_grad, &solver->scales_grad);
}

static aq_status take_step(aq_codebook_solver *solver, aq_coded *coded) {
    AQ_TRY(find_gradients(solver, coded));
    const aq_adam_step step = {.learning_rate = solver->learning_rate,
                               .beta1 = 0,
                               .beta2 = 0.95f,
                               .epsilon = 1e-8f,
                               .step = ++solver->steps};
    AQ_TRY(aq_moments_step(&step, &solver->codebooks_grad, &coded->codebooks, &solver->codebooks));
    return aq_moments_step(&step, &solver->scales_grad, &coded->scales, &solver->scales);
}

aq_status aq_codebook_solver_run(aq_codebook_solver *solver, int steps, const aq_watch *watch,
                                 aq_coded *coded) {
    AQ_TRY(aq_code_index_update(coded, &solver->index));
    for (int i = 0; i < steps; i++) {
        AQ_TRY(take_step(solver, coded));
        AQ_TRY(aq_watch_step(watch, "codebooks", i + 1, steps));
    }
    return AQ_OK;
}
