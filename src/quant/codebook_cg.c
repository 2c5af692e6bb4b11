#include "quant/codebook_cg.h"

/* result = 2 / out x H */
static aq_status multiply(const aq_codebook_solver *solver, const aq_tensor *x,
                          aq_precision precision, aq_tensor *result) {
    const aq_product how = {.alpha = 2 / (float)solver->out, .precision = precision};
    return aq_matmul(x, solver->gram, &how, result);
}

aq_status aq_cg_state_new(aq_codebook_solver *solver) {
    aq_cg_state *state = &solver->cg;
    const size_t *entries = solver->codebooks_grad.shape;
    const aq_shape shape = AQ_DIMS(entries[0], entries[1], entries[2], entries[3]);
    aq_backend *backend = solver->codebooks_grad.home;
    AQ_TRY(aq_tensor_new(backend, AQ_F32, shape, &state->diagonal));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, shape, &state->residual));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, shape, &state->direction));
    const aq_shape layer = AQ_DIMS(solver->weight.shape[0], solver->weight.shape[1]);
    AQ_TRY(aq_tensor_new(backend, AQ_F32, layer, &state->fixed));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(solver->own.count), &state->curvatures));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(solver->own.count), &state->scales));
    AQ_TRY(aq_tensor_new(backend, AQ_F64, AQ_DIMS(3), &state->numbers));
    return multiply(solver, &solver->weight, AQ_PRECISE, &state->fixed);
}

void aq_cg_state_free(aq_cg_state *state) {
    aq_tensor_free(&state->diagonal);
    aq_tensor_free(&state->residual);
    aq_tensor_free(&state->direction);
    aq_tensor_free(&state->fixed);
    aq_tensor_free(&state->curvatures);
    aq_tensor_free(&state->scales);
    aq_tensor_free(&state->numbers);
}

static aq_status gather_codebooks(aq_codebook_solver *solver, const aq_coded *part) {
    AQ_TRY(aq_coded_grad(part, &solver->index.orders, &solver->index.offsets, &solver->gradient,
                         &solver->codebooks_grad, NULL));
    return aq_team_sum(solver->team, &solver->codebooks_grad);
}

static aq_status gather_scales(const aq_codebook_solver *solver, const aq_coded *part,
                               const aq_tensor *gradient, aq_tensor *scales) {
    return aq_coded_grad(part, &solver->index.orders, &solver->index.offsets, gradient, NULL,
                         scales);
}

/* Q H = D H + W H, so curvatures take no product of their own. */
static aq_status step_scales(aq_codebook_solver *solver, aq_coded *part) {
    aq_cg_state *cg = &solver->cg;
    AQ_TRY(gather_scales(solver, part, &solver->gradient, &solver->scales_grad));
    AQ_TRY(gather_scales(solver, part, &cg->fixed, &cg->curvatures));
    AQ_TRY(aq_axpby(1, &solver->scales_grad, 1, &cg->curvatures));
    AQ_TRY(aq_tensor_copy(&part->scales, &cg->scales));
    AQ_TRY(aq_scales_step(&solver->scales_grad, &cg->curvatures, &part->scales));
    return aq_gradient_rescale(&cg->scales, &part->scales, &cg->fixed, &solver->gradient);
}

static aq_conjugate conjugate_of(aq_codebook_solver *solver, aq_coded *part) {
    return (aq_conjugate){.diagonal = &solver->cg.diagonal,
                          .solution = &part->codebooks,
                          .residual = &solver->cg.residual,
                          .direction = &solver->cg.direction,
                          .numbers = &solver->cg.numbers};
}

/* numbers[0] = r . z, and numbers[2] = p . A p of the step before. */
static aq_status read_numbers(const aq_codebook_solver *solver, double numbers[3]) {
    return aq_tensor_download(&solver->cg.numbers, numbers, 3 * sizeof *numbers);
}

static aq_status begin(aq_codebook_solver *solver, aq_coded *part, double numbers[3]) {
    aq_cg_state *cg = &solver->cg;
    const aq_conjugate state = conjugate_of(solver, part);
    AQ_TRY(aq_coded_difference(part, &solver->weight, &solver->difference));
    AQ_TRY(multiply(solver, &solver->difference, AQ_PRECISE, &solver->gradient));
    AQ_TRY(step_scales(solver, part));
    AQ_TRY(aq_coded_diagonal(part, &solver->index.orders, &solver->index.offsets, solver->gram,
                             &cg->diagonal));
    AQ_TRY(aq_team_sum(solver->team, &cg->diagonal));
    AQ_TRY(gather_codebooks(solver, part));
    AQ_TRY(aq_axpby(-1, &solver->codebooks_grad, 0, &cg->residual));
    AQ_TRY(aq_conjugate_step(&state, NULL));
    return read_numbers(solver, numbers);
}

static aq_status take_step(aq_codebook_solver *solver, aq_coded *part, double numbers[3]) {
    const aq_conjugate state = conjugate_of(solver, part);
    aq_coded along = *part;
    along.codebooks = solver->cg.direction;
    AQ_TRY(aq_decode(&along, &solver->difference));
    AQ_TRY(multiply(solver, &solver->difference, AQ_FAST, &solver->gradient));
    AQ_TRY(gather_codebooks(solver, &along));
    AQ_TRY(aq_conjugate_step(&state, &solver->codebooks_grad));
    return read_numbers(solver, numbers);
}

/* Numbers that are not finite end the steps too; the layer's error then tells of them. */
aq_status aq_codebook_cg_run(aq_codebook_solver *solver, const aq_watch *watch, aq_coded *part) {
    double numbers[3];
    AQ_TRY(begin(solver, part, numbers));
    double least = AQ_CG_TOLERANCE * numbers[0];
    for (int i = 0; i < AQ_CG_STEPS && numbers[0] > least; i++) {
        AQ_TRY(take_step(solver, part, numbers));
        AQ_TRY(aq_watch_step(watch, "codebooks", i + 1, AQ_CG_STEPS));
        if (!(numbers[2] > 0)) break;
    }
    return AQ_OK;
}
