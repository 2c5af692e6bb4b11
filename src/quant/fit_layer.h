/* Fits one linear layer: scales, residual k-means, then rounds of better codebooks and a code pass.
 *
 * Minimizes L = tr(D H D') / out with D = Q - W (METHOD sections 1 and 2; AQLM, arXiv 2401.06118).
 * Errors are relative: tr(D H D') / tr(W H W').
 */
#ifndef AQ_QUANT_FIT_LAYER_H
#define AQ_QUANT_FIT_LAYER_H

#include "base/watch.h"
#include "quant/code_search.h"
#include "quant/codebook_solver.h"
#include "tensor/team.h"

enum {
    AQ_MAX_ROUNDS = 1000,
    AQ_TRIAL_ITERATIONS = 20 /* of each start of k-means; then the best one goes on alone */
};

typedef struct aq_fit_settings {
    aq_scheme scheme;
    int beam; /* hypotheses a row, 1 .. AQ_MAX_BEAM */
    aq_search_kind search;
    bool exact_kmeans, exact_codes; /* float32 throughout, not tensor cores, in either search */
    int kmeans_iterations;          /* 100 */
    int kmeans_starts;              /* of which the one of least error goes on: 4 */
    int rounds;                     /* at most (or exactly: see tolerance) */
    double tolerance; /* stop after a round that gains less than this share; 0: never stop early */
    double noise;     /* on codebooks during the search (quant/noise.h); 0: none */
    aq_solver_kind solver;
    int adam_steps;        /* a round: 100 */
    double learning_rate;  /* Adam's, 1e-4; betas 0 and 0.95, AMSGrad */
    uint64_t seed;         /* of this layer: all random numbers derive from it */
    const aq_watch *watch; /* borrowed; NULL: nobody watches */
} aq_fit_settings;

typedef struct aq_fit_report {
    double kmeans_error;
    double round_errors[AQ_MAX_ROUNDS];
    double round_codebooks[AQ_MAX_ROUNDS], round_codes[AQ_MAX_ROUNDS]; /* seconds */
    int rounds;                                                        /* done */
    int noisy;      /* so many rounds at the start are noisy, and none of them is the last */
    int stop_round; /* counted from 1; the round that gained less than tolerance, 0 if none did */
    double error;   /* of the result, codebooks and scales in float32 */
    int retries;    /* times a NaN or infinite loss was answered with a lower learning rate */
    double seconds_kmeans, seconds_codebooks, seconds_codes, seconds_total;
} aq_fit_report;

/* weight [out, in], gram [in, in] F32 (borrowed); *coded is made here and the caller's to free.
 * Collective over `team`, whose members all bring the same weight and Gram matrix and get the same
 * result. The result is the round with the least error. A loss that is not finite is
 * NUMERIC; Adam restores the round's start before and goes on with a tenth of the learning rate, at
 * most 3 times, saying so in the log. A weight whose error is already 0 stops at once. INVALID if
 * the scheme does not fit. */
aq_status aq_fit_layer(const aq_tensor *weight, const aq_tensor *gram,
                       const aq_fit_settings *settings, const aq_team *team, aq_coded *coded,
                       aq_fit_report *report);

/* Iterations of k-means, of all starts and codebooks together, at most. */
int aq_fit_kmeans_iterations(const aq_fit_settings *settings);

/* The first round of a report without noise that gained less than the share `tolerance` of the
 * error before it (k-means' before the first); 0 if none did or tolerance is 0. */
int aq_fit_stop_round(const aq_fit_report *report, double tolerance);

/* tr(D H D') / tr(W H W') in float64 sums; 0 / 0 is 0. Collective over `team`. */
aq_status aq_layer_error(const aq_coded *coded, const aq_tensor *weight, const aq_tensor *gram,
                         const aq_team *team, double *error);

#endif
