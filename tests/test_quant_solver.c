/* A round of better codebooks and scales, codes fixed. */
#include "layer_problem.h"
#include "suite.h"

#include "quant/codebook_cg.h"
#include "quant/kmeans.h"

#include <math.h>
#include <stdlib.h>

enum { OUT = 48, IN = 64 };

static const aq_scheme usual = {2, 4, 8, 1};

static aq_coded clustered(const aq_test_layer *layer, aq_scheme scheme) {
    const aq_kmeans how = {.iterations = 5, .seed = 3, .team = aq_team_alone()};
    aq_coded coded;
    AQ_CHECK(aq_coded_new(aq_test_backend(), &scheme, OUT, IN, &coded));
    AQ_CHECK(aq_residual_kmeans(&layer->weight, &how, &coded));
    return coded;
}

static void solve(aq_solver_kind kind, const aq_test_layer *layer, int rounds, aq_coded *coded) {
    aq_codebook_solver solver;
    AQ_CHECK(aq_codebook_solver_new(kind, coded, &layer->weight, &layer->gram, aq_team_alone(),
                                    &solver));
    solver.learning_rate = 1e-3f;
    for (int i = 0; i < rounds; i++) AQ_CHECK(aq_codebook_solver_run(&solver, 100, NULL, coded));
    aq_codebook_solver_free(&solver);
}

static void every_scheme_gets_better(void) {
    static const aq_scheme schemes[] = {{1, 4, 8, 1},  {2, 4, 8, 1}, {3, 3, 8, 1}, {2, 4, 4, 1},
                                        {2, 3, 16, 1}, {2, 4, 8, 2}, {1, 1, 8, 1}, {1, 6, 4, 4}};
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 200, 1);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        aq_coded coded = clustered(&layer, schemes[i]), slow = clustered(&layer, schemes[i]);
        double before = aq_test_loss(&layer, &coded);
        solve(AQ_SOLVER_CG, &layer, 1, &coded);
        solve(AQ_SOLVER_ADAM, &layer, 1, &slow);
        double loss = aq_test_loss(&layer, &coded);
        CU_ASSERT(loss < 0.999 * before);
        CU_ASSERT(loss < aq_test_loss(&layer, &slow));
        aq_coded_free(&coded), aq_coded_free(&slow);
    }
    aq_test_layer_free(&layer);
}

/* The loss with `step` times a random direction added to one of the parts. */
static double loss_beside(const aq_test_layer *layer, const aq_coded *coded, aq_tensor *part,
                          float step, uint64_t seed) {
    aq_tensor way = aq_test_normal(AQ_DIMS(aq_tensor_count(part)), seed);
    AQ_CHECK(aq_axpby(step, &way, 1, part));
    double loss = aq_test_loss(layer, coded);
    AQ_CHECK(aq_axpby(-step, &way, 1, part));
    aq_tensor_free(&way);
    return loss;
}

static void after_some_rounds_no_way_leads_down(void) {
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 200, 1);
    aq_coded coded = clustered(&layer, usual);
    solve(AQ_SOLVER_CG, &layer, 8, &coded);
    double loss = aq_test_loss(&layer, &coded);
    for (uint64_t seed = 1; seed <= 4; seed++)
        for (float step = -2e-3f; step <= 2e-3f; step += 4e-3f) {
            CU_ASSERT(loss_beside(&layer, &coded, &coded.codebooks, step, seed) > loss);
            CU_ASSERT(loss_beside(&layer, &coded, &coded.scales, 10 * step, seed) > loss);
        }
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

/* Fewer inputs than columns, rows of zeros, entries without vectors, a constant to shift about. */
static void hard_problems_stay_finite(void) {
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 5, 1);
    aq_tensor rows = aq_tensor_rows(&layer.weight, 7, 2);
    AQ_CHECK(aq_fill(0, &rows));
    aq_coded coded = clustered(&layer, (aq_scheme){2, 8, 8, 1});
    float *scales = aq_test_host(&coded.scales);
    double before = aq_test_loss(&layer, &coded);
    solve(AQ_SOLVER_CG, &layer, 20, &coded);
    float *after = aq_test_host(&coded.scales);
    CU_ASSERT(aq_test_loss(&layer, &coded) < before);
    CU_ASSERT(after[7] == scales[7] && after[8] == scales[8]);
    size_t unfit;
    AQ_CHECK(aq_count_nonfinite(&coded.codebooks, &unfit));
    CU_ASSERT_EQUAL(unfit, 0);
    free(scales), free(after);
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

static aq_status count_steps(const aq_watch *watch, const char *phase, int done, int total) {
    (void)phase;
    *(int *)watch->state = done;
    CU_ASSERT(done <= total);
    return AQ_OK;
}

static void a_solved_problem_takes_few_steps(void) {
    aq_test_layer layer = aq_test_layer_new(OUT, IN, 200, 1);
    aq_coded coded = clustered(&layer, usual);
    aq_codebook_solver solver;
    int steps = 0;
    const aq_watch watch = {.step = count_steps, .state = &steps};
    AQ_CHECK(aq_codebook_solver_new(AQ_SOLVER_CG, &coded, &layer.weight, &layer.gram,
                                    aq_team_alone(), &solver));
    AQ_CHECK(aq_codebook_solver_run(&solver, 0, &watch, &coded));
    CU_ASSERT(steps > 3 && steps < AQ_CG_STEPS);
    aq_codebook_solver_free(&solver);
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(every_scheme_gets_better), AQ_CASE(after_some_rounds_no_way_leads_down),
        AQ_CASE(hard_problems_stay_finite), AQ_CASE(a_solved_problem_takes_few_steps)};
    return aq_test_backend_main("quant/codebook_solver", cases, sizeof cases / sizeof *cases, argc,
                                argv);
}
