/* Codebooks by conjugate gradients, scales by Newton's step: the inside of
 * aq_codebook_solver_run.
 *
 * With codes and scales fixed L is quadratic in all codebooks together: with P the decoding, A = 2
 * P' (. H) P / out, and b - A x = -dL/d codebooks. A step takes one product with H and one sum over
 * the lists of codes (METHOD, "Beyond the published rounds"). Preconditioned by A's diagonal, which
 * is what makes entries with many vectors and with few converge alike, ten steps do where two
 * hundred without it do not.
 *
 * A round begins with the one float32 product that it takes, D H; scales and the first residual
 * follow from it and from W H, which stays the same for a layer. Products of the steps are AQ_FAST,
 * because an error in them is relative to the step, not to the weight.
 */
#ifndef AQ_QUANT_CODEBOOK_CG_H
#define AQ_QUANT_CODEBOOK_CG_H

#include "quant/codebook_solver.h"

/* Steps of a round at most. A round ends before when r . z has fallen to a millionth: what is left
 * to gain is below rounding, and going on would follow directions that change nothing (a constant
 * moved from one codebook to another) until they overflow. */
enum { AQ_CG_STEPS = 30 };
#define AQ_CG_TOLERANCE 1e-6

/* Products of a round besides the steps': precise ones. */
enum { AQ_CG_PRODUCTS = 1 };

/* Takes a product. solver->cg, the rest of *solver being made. */
aq_status aq_cg_state_new(aq_codebook_solver *solver);
void aq_cg_state_free(aq_cg_state *state);

/* One round for `part`, the member's own rows of a coded weight whose codes solver->index lists.
 * Scales first, then codebooks. Collective over the team; waits in every step. */
aq_status aq_codebook_cg_run(aq_codebook_solver *solver, const aq_watch *watch, aq_coded *part);

#endif
