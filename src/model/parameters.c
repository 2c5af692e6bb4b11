#include "model/parameters.h"

static aq_tensor view_of(const aq_tensor *tensor) {
    aq_tensor view = *tensor;
    view.owned = false;
    return view;
}

static aq_shape shape_of(const aq_tensor *tensor) {
    aq_shape shape = {.ndim = tensor->ndim};
    for (int i = 0; i < tensor->ndim; i++) shape.dims[i] = tensor->shape[i];
    return shape;
}

/* `gradient` is the tensor that the backward pass adds to; NULL: one of its own is made. */
static aq_status add_parameter(aq_parameters *parameters, const aq_tensor *value,
                               const aq_tensor *gradient) {
    aq_parameter *parameter = &parameters->list[parameters->count++];
    aq_shape shape = shape_of(value);
    parameter->value = view_of(value);
    if (gradient)
        parameter->gradient = view_of(gradient);
    else
        AQ_TRY(aq_tensor_new(value->home, AQ_F32, shape, &parameter->gradient));
    AQ_TRY(aq_moments_new(value, false, &parameter->moments));
    return aq_tensor_new(value->home, AQ_F32, shape, &parameter->kept);
}

/* Codebooks and scales come first, two a linear, in the order of the linears: update_gradients
 * finds them by that. */
static aq_status list_parameters(aq_parameters *parameters) {
    const aq_coded_block *coded = parameters->coded;
    const aq_block_grad *grad = &parameters->grad;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        AQ_TRY(aq_code_index_new(&coded->linears[l], &parameters->indices[l]));
        AQ_TRY(aq_code_index_update(&coded->linears[l], &parameters->indices[l]));
        AQ_TRY(add_parameter(parameters, &coded->linears[l].codebooks, NULL));
        AQ_TRY(add_parameter(parameters, &coded->linears[l].scales, NULL));
    }
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        AQ_TRY(add_parameter(parameters, &coded->norms[n], &grad->norms[n]));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        if (coded->biases[l].data)
            AQ_TRY(add_parameter(parameters, &coded->biases[l], &grad->biases[l]));
    return AQ_OK;
}

aq_status aq_parameters_new(aq_coded_block *coded, const aq_block *block,
                            aq_parameters *parameters) {
    *parameters = (aq_parameters){.coded = coded};
    aq_status status = aq_block_grad_new(block, &parameters->grad);
    if (status == AQ_OK) status = list_parameters(parameters);
    if (status != AQ_OK) aq_parameters_free(parameters);
    return status;
}

void aq_parameters_free(aq_parameters *parameters) {
    for (int i = 0; i < parameters->count; i++) {
        aq_parameter *parameter = &parameters->list[i];
        aq_tensor_free(&parameter->gradient);
        aq_moments_free(&parameter->moments);
        aq_tensor_free(&parameter->kept);
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) aq_code_index_free(&parameters->indices[l]);
    aq_block_grad_free(&parameters->grad);
    parameters->count = 0;
}

aq_status aq_parameters_zero_grad(aq_parameters *parameters) {
    return aq_block_grad_zero(&parameters->grad);
}

/* From the gradients by decoded weights to those by codebooks and scales. */
static aq_status update_gradients(aq_parameters *parameters) {
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_code_index *index = &parameters->indices[l];
        AQ_TRY(aq_coded_grad(&parameters->coded->linears[l], &index->orders, &index->offsets,
                             &parameters->grad.weights[l], &parameters->list[2 * l].gradient,
                             &parameters->list[2 * l + 1].gradient));
    }
    return AQ_OK;
}

aq_status aq_parameters_step(aq_parameters *parameters, const aq_adam_step *step,
                             const aq_team *team) {
    aq_adam_tensors list[AQ_MAX_PARAMETERS];
    AQ_TRY(update_gradients(parameters));
    for (int i = 0; i < parameters->count; i++) {
        aq_parameter *parameter = &parameters->list[i];
        AQ_TRY(aq_team_sum(team, &parameter->gradient));
        list[i] = aq_moments_tensors(&parameter->gradient, &parameter->value, &parameter->moments);
    }
    return aq_adam_many(step, list, (size_t)parameters->count);
}

aq_status aq_parameters_keep(aq_parameters *parameters) {
    for (int i = 0; i < parameters->count; i++)
        AQ_TRY(aq_tensor_copy(&parameters->list[i].value, &parameters->list[i].kept));
    return AQ_OK;
}

aq_status aq_parameters_restore(aq_parameters *parameters) {
    for (int i = 0; i < parameters->count; i++)
        AQ_TRY(aq_tensor_copy(&parameters->list[i].kept, &parameters->list[i].value));
    return AQ_OK;
}

aq_status aq_parameters_forget(aq_parameters *parameters) {
    for (int i = 0; i < parameters->count; i++)
        AQ_TRY(aq_moments_reset(&parameters->list[i].moments));
    return AQ_OK;
}
