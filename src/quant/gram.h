/* Gram matrices of a linear's inputs: H = X'X / n over all calibration tokens.
 *
 * Linears that read the same input share one. Sums are float64 (METHOD section 2) and stay with the
 * backend; members of a team sum their own tokens and meet in `finish`.
 */
#ifndef AQ_QUANT_GRAM_H
#define AQ_QUANT_GRAM_H

#include "tensor/ops.h"
#include "tensor/team.h"

typedef struct aq_gram_sum {
    aq_tensor sum; /* F64 [in, in]: X'X of the rows seen */
    size_t rows;   /* seen by this member */
} aq_gram_sum;

/* A sum of nothing for inputs of `in` columns; freed with aq_gram_sum_free ({0} is fine). */
aq_status aq_gram_sum_new(aq_backend *backend, size_t in, aq_gram_sum *gram);
void aq_gram_sum_free(aq_gram_sum *gram);

/* Adds the rows of x [n, in]. */
aq_status aq_gram_sum_add(const aq_tensor *x, aq_gram_sum *gram);

/* *mean = H, F32 [in, in], made here and the caller's to free; the sum is used up (it then holds
 * the team's). Collective over `team`. NUMERIC with `what` (whose inputs: "self_attn.q_proj") if
 * inputs were not finite or H does not fit into float32, INVALID if nobody saw a row. Waits. */
aq_status aq_gram_sum_finish(aq_gram_sum *gram, const aq_team *team, const char *what,
                             aq_tensor *mean);

#endif
