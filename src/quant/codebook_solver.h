/* Better codebooks and scales for fixed codes (METHOD section 2.2).
 *
 *     L = tr(D H D') / out,  D = Q - W,  dL/dQ = 2 D H / out
 *
 * Two ways. Conjugate gradients solve for all codebooks at once, scales have a step of their own
 * before (codebook_cg.h). Adam steps codebooks and scales together; its moments go on from round to
 * round. Of a team each member takes its own rows' part of the gradients and steps their scales;
 * all step the codebooks along the sum.
 */
#ifndef AQ_QUANT_CODEBOOK_SOLVER_H
#define AQ_QUANT_CODEBOOK_SOLVER_H

#include "base/watch.h"
#include "quant/adam.h"
#include "quant/coded_weight.h"
#include "tensor/team.h"

typedef enum aq_solver_kind { AQ_SOLVER_CG, AQ_SOLVER_ADAM } aq_solver_kind;

/* What conjugate gradients keep during a run; F32 of the codebooks' shape unless said. */
typedef struct aq_cg_state {
    aq_tensor diagonal, residual, direction;
    aq_tensor fixed;              /* of own rows: 2 W H / out */
    aq_tensor curvatures, scales; /* F32 [own row groups]; scales before a round */
    aq_tensor numbers;            /* F64 [3] */
} aq_cg_state;

typedef struct aq_codebook_solver {
    aq_solver_kind kind;
    const aq_team *team;            /* borrowed */
    const aq_tensor *gram;          /* borrowed: [in, in] */
    aq_rows own;                    /* row groups that this member works on */
    aq_tensor weight;               /* view of their rows */
    size_t out;                     /* rows of the whole weight */
    aq_tensor difference, gradient; /* of own rows: D, dL/dQ; free for others between calls */
    aq_code_index index;            /* of own rows' codes */
    aq_tensor codebooks_grad, scales_grad;
    aq_cg_state cg; /* empty with Adam */

    /* Adam; empty with conjugate gradients: */
    float learning_rate; /* may be changed between calls */
    int steps;           /* done since the moments were zero */
    aq_moments codebooks, scales;
} aq_codebook_solver;

/* `coded` gives the shapes only; all members hold the whole of both weights. Freed with
 * aq_codebook_solver_free ({0} is fine). */
aq_status aq_codebook_solver_new(aq_solver_kind kind, const aq_coded *coded,
                                 const aq_tensor *weight, const aq_tensor *gram,
                                 const aq_team *team, aq_codebook_solver *solver);
void aq_codebook_solver_free(aq_codebook_solver *solver);

/* Forgets Adam's moments. */
aq_status aq_codebook_solver_reset(aq_codebook_solver *solver);

/* One round: `steps` steps of Adam (betas 0 and 0.95) or as many of conjugate gradients as it
 * takes, whatever `steps` is. Codes stay, and so do scales of zero rows. Collective over the team.
 * Phase "codebooks" of `watch` (NULL: nobody watches). */
aq_status aq_codebook_solver_run(aq_codebook_solver *solver, int steps, const aq_watch *watch,
                                 aq_coded *coded);

#endif
