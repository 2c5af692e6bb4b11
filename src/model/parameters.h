/* The parameters of a coded block under Adam: what tuning changes, and its memory of each.
 *
 * Codebooks and scales of all linears, norm weights, biases; codes stay.
 */
#ifndef AQ_MODEL_PARAMETERS_H
#define AQ_MODEL_PARAMETERS_H

#include "model/coded_block.h"
#include "quant/adam.h"
#include "tensor/team.h"

enum { AQ_MAX_PARAMETERS = AQ_NORM_COUNT + 3 * AQ_LINEAR_COUNT };

/* One tensor: its value belongs to the coded block. */
typedef struct aq_parameter {
    aq_tensor value;    /* view of the coded block's tensor */
    aq_tensor gradient; /* owned, or view of the block gradient's tensor */
    aq_moments moments;
    aq_tensor kept; /* copy of the best value so far */
} aq_parameter;

typedef struct aq_parameters {
    const aq_coded_block *coded; /* borrowed; its tensors' contents change */
    aq_block_grad grad;          /* by the dense form */
    aq_code_index indices[AQ_LINEAR_COUNT];
    aq_parameter list[AQ_MAX_PARAMETERS];
    int count;
} aq_parameters;

/* `block` is the dense form of `coded`. Moments are zero, nothing is kept yet. */
aq_status aq_parameters_new(aq_coded_block *coded, const aq_block *block,
                            aq_parameters *parameters);
void aq_parameters_free(aq_parameters *parameters);

/* All gradients by the dense form to zero: the start of an optimizer step. */
aq_status aq_parameters_zero_grad(aq_parameters *parameters);

/* One Adam step of every parameter along the gradients that `grad` holds, summed over the team:
 * members hold the gradients of their own sequences. */
aq_status aq_parameters_step(aq_parameters *parameters, const aq_adam_step *step,
                             const aq_team *team);

/* Copies all values aside; brings them back; forgets the moments. */
aq_status aq_parameters_keep(aq_parameters *parameters);
aq_status aq_parameters_restore(aq_parameters *parameters);
aq_status aq_parameters_forget(aq_parameters *parameters);

#endif
