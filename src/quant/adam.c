#include "quant/adam.h"

static bool is_empty(const aq_tensor *tensor) {
    return aq_tensor_count(tensor) == 0;
}

aq_status aq_moments_new(const aq_tensor *parameter, bool amsgrad, aq_moments *moments) {
    *moments = (aq_moments){0};
    aq_shape shape = AQ_DIMS(aq_tensor_count(parameter));
    aq_status status;
    AQ_STEP(aq_tensor_zeros(parameter->home, AQ_F32, shape, &moments->first));
    AQ_STEP(aq_tensor_zeros(parameter->home, AQ_F32, shape, &moments->second));
    if (amsgrad) AQ_STEP(aq_tensor_zeros(parameter->home, AQ_F32, shape, &moments->largest));
done:
    if (status != AQ_OK) aq_moments_free(moments);
    return status;
}

void aq_moments_free(aq_moments *moments) {
    aq_tensor_free(&moments->first);
    aq_tensor_free(&moments->second);
    aq_tensor_free(&moments->largest);
}

aq_status aq_moments_reset(aq_moments *moments) {
    AQ_TRY(aq_fill(0, &moments->first));
    AQ_TRY(aq_fill(0, &moments->second));
    return is_empty(&moments->largest) ? AQ_OK : aq_fill(0, &moments->largest);
}

aq_adam_tensors aq_moments_tensors(const aq_tensor *grad, aq_tensor *parameter,
                                   aq_moments *moments) {
    return (aq_adam_tensors){.grad = grad,
                             .parameter = parameter,
                             .first = &moments->first,
                             .second = &moments->second,
                             .largest = is_empty(&moments->largest) ? NULL : &moments->largest};
}

aq_status aq_moments_step(const aq_adam_step *step, const aq_tensor *grad, aq_tensor *parameter,
                          aq_moments *moments) {
    const aq_adam_tensors tensors = aq_moments_tensors(grad, parameter, moments);
    return aq_adam_many(step, &tensors, 1);
}
