/* Adam's memory of one parameter, for the fit of layers and the tuning of blocks.
 *
 * The step itself is the op aq_adam (Kingma and Ba 2015; AMSGrad: Reddi et al. 2018).
 */
#ifndef AQ_QUANT_ADAM_H
#define AQ_QUANT_ADAM_H

#include "tensor/ops.h"

/* Running means, each F32 with as many elements as the parameter. */
typedef struct aq_moments {
    aq_tensor first;   /* of the gradient */
    aq_tensor second;  /* of its square */
    aq_tensor largest; /* largest `second` so far: AMSGrad; empty for plain Adam */
} aq_moments;

/* All zero, in the parameter's backend. {0} may be freed. */
aq_status aq_moments_new(const aq_tensor *parameter, bool amsgrad, aq_moments *moments);
void aq_moments_free(aq_moments *moments);

/* Back to zero, for a parameter that starts again (with step->step = 1). */
aq_status aq_moments_reset(aq_moments *moments);

/* What aq_adam_many takes of one parameter; all borrowed. */
aq_adam_tensors aq_moments_tensors(const aq_tensor *grad, aq_tensor *parameter,
                                   aq_moments *moments);

/* One step of `parameter` along `grad`, equal counts; parameter and moments updated. */
aq_status aq_moments_step(const aq_adam_step *step, const aq_tensor *grad, aq_tensor *parameter,
                          aq_moments *moments);

#endif
