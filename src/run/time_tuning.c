#include "run/time_tuning.h"

#include "model/parameters.h"
#include "run/synthetic.h"

typedef struct tuning {
    const aq_tuning_subject *subject;
    aq_block block;
    aq_coded_block coded;
    aq_parameters parameters;
    aq_tape tape;
    aq_tensor x, y; /* [length, hidden] */
} tuning;

static aq_status forward(void *state) {
    tuning *self = state;
    return aq_block_forward(&self->block, 1, self->subject->length, &self->x, &self->tape, NULL,
                            &self->y);
}

/* What the gradient by y is does not change the work: y itself. */
static aq_status forward_backward(void *state) {
    tuning *self = state;
    AQ_TRY(forward(state));
    return aq_block_backward(&self->block, 1, self->subject->length, &self->tape, &self->y,
                             &self->parameters.grad);
}

static aq_status decode(void *state) {
    tuning *self = state;
    return aq_coded_block_decode(&self->coded, &self->block);
}

static aq_status update(void *state) {
    tuning *self = state;
    const aq_adam_step step = {1e-6f, 0.9f, 0.95f, 1e-8f, 1};
    AQ_TRY(aq_parameters_step(&self->parameters, &step, aq_team_alone()));
    return aq_parameters_zero_grad(&self->parameters);
}

static aq_status tuning_new(aq_backend *backend, tuning *self) {
    const aq_tuning_subject *of = self->subject;
    aq_shape rows = AQ_DIMS(of->length, of->shape->hidden);
    AQ_TRY(aq_synthetic_block(backend, of->shape, of->length, of->precision, &self->block));
    aq_block_set_halves(&self->block, aq_block_can_halve(&self->block)); /* decoded before passes */
    AQ_TRY(aq_synthetic_coded(backend, of->shape, &of->scheme, &self->coded));
    AQ_TRY(aq_parameters_new(&self->coded, &self->block, &self->parameters));
    AQ_TRY(aq_tape_new(of->shape, 1, of->length, backend, &self->tape));
    AQ_TRY(aq_synthetic_normal(backend, rows, 1, 0, &self->x));
    return aq_tensor_new(backend, AQ_F32, rows, &self->y);
}

static void tuning_free(tuning *self) {
    aq_parameters_free(&self->parameters);
    aq_block_free(&self->block);
    aq_coded_block_free(&self->coded);
    aq_tape_free(&self->tape);
    aq_tensor_free(&self->x);
    aq_tensor_free(&self->y);
}

aq_status aq_time_tuning(aq_backend *backend, const aq_tuning_subject *subject, int repeats,
                         aq_tuning_times *times) {
    tuning self = {.subject = subject};
    aq_status status;
    AQ_STEP(tuning_new(backend, &self));
    AQ_STEP(aq_time_median(backend, decode, &self, repeats, &times->decode));
    AQ_STEP(aq_time_median(backend, forward, &self, repeats, &times->forward));
    AQ_STEP(aq_time_median(backend, forward_backward, &self, repeats, &times->passes));
    AQ_STEP(aq_time_median(backend, update, &self, repeats, &times->update));
    times->backward = times->passes - times->forward;
done:
    tuning_free(&self);
    return status;
}
