/* Code passes: against exhaustive search where that is possible, by their loss everywhere else. */
#include "layer_problem.h"
#include "suite.h"

#include "quant/code_search.h"
#include "quant/kmeans.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static aq_coded start(const aq_test_layer *layer, aq_scheme scheme) {
    const aq_kmeans how = {.team = aq_team_alone(), .iterations = 5, .seed = 3};
    aq_coded coded;
    AQ_CHECK(aq_coded_new(aq_test_backend(), &scheme, layer->weight.shape[0],
                          layer->weight.shape[1], &coded));
    AQ_CHECK(aq_residual_kmeans(&layer->weight, &how, &coded));
    return coded;
}

typedef struct pass_choice {
    int beam;
    aq_search_kind kind;
    size_t chunk; /* rows of a chunk; 0: as the search chooses */
    uint64_t seed;
    const aq_team *team; /* NULL: alone */
} pass_choice;

static void run_pass(const aq_test_layer *layer, pass_choice choice, aq_coded *coded) {
    aq_code_search search;
    AQ_CHECK(aq_code_search_new(coded, &layer->weight, &layer->gram, choice.beam, &search));
    search.kind = choice.kind;
    if (choice.chunk) search.rows = choice.chunk;
    const aq_code_pass pass = {.seed = choice.seed,
                               .team = choice.team ? choice.team : aq_team_alone()};
    AQ_CHECK(aq_code_search_run(&search, &pass, coded));
    aq_code_search_free(&search);
}

/* The least loss of every row over all combinations of codes in its only group. */
static double *exhaustive_losses(const aq_test_layer *layer, const aq_coded *coded) {
    size_t rows = coded->codes.shape[0], codebooks = coded->codes.shape[2];
    size_t entries = coded->codebooks.shape[1], combinations = 1;
    for (size_t m = 0; m < codebooks; m++) combinations *= entries;
    uint16_t *codes = malloc(rows * codebooks * sizeof *codes);
    double *least = malloc(rows * sizeof *least);
    aq_coded trial = *coded;
    for (size_t c = 0; c < combinations; c++) {
        size_t rest = c;
        for (size_t m = 0; m < codebooks; m++, rest /= entries)
            for (size_t row = 0; row < rows; row++)
                codes[row * codebooks + m] = (uint16_t)(rest % entries);
        trial.codes = aq_test_tensor(AQ_U16, AQ_DIMS(rows, 1, codebooks), codes);
        double *losses = aq_test_row_losses(layer, &trial);
        for (size_t row = 0; row < rows; row++)
            if (c == 0 || losses[row] < least[row]) least[row] = losses[row];
        free(losses);
        aq_tensor_free(&trial.codes);
    }
    free(codes);
    return least;
}

/* One column group, so that a pass can be compared with trying everything. */
static void expect_optimum(size_t out, aq_scheme scheme, pass_choice how, size_t samples) {
    aq_test_layer layer = aq_test_layer_new(out, (size_t)scheme.in_group, samples, 1);
    aq_coded coded = start(&layer, scheme);
    double *least = exhaustive_losses(&layer, &coded);
    run_pass(&layer, how, &coded);
    double *found = aq_test_row_losses(&layer, &coded);
    for (size_t row = 0; row < coded.codes.shape[0]; row++)
        CU_ASSERT(found[row] <= least[row] * (1 + 1e-4) + 1e-6);
    free(least), free(found);
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

static void one_codebook_finds_the_best_entry(void) {
    expect_optimum(64, (aq_scheme){1, 5, 8, 1}, (pass_choice){.beam = 1}, 100);
    expect_optimum(64, (aq_scheme){1, 5, 4, 1}, (pass_choice){.beam = 4}, 100);
    expect_optimum(64, (aq_scheme){1, 5, 16, 1}, (pass_choice){.beam = 1}, 100);
}

static void groups_of_rows_find_the_best_entry(void) {
    expect_optimum(64, (aq_scheme){1, 4, 8, 2}, (pass_choice){.beam = 1}, 100);
    expect_optimum(64, (aq_scheme){1, 4, 4, 4}, (pass_choice){.beam = 2}, 100);
}

static void a_singular_gram_matrix_finds_the_best_entry(void) {
    expect_optimum(64, (aq_scheme){1, 5, 8, 1}, (pass_choice){.beam = 1}, 3);
    expect_optimum(64, (aq_scheme){2, 2, 8, 1}, (pass_choice){.beam = 4}, 2);
}

/* With as many hypotheses as entries nothing is lost between two codebooks. */
static void a_full_beam_finds_the_best_pair(void) {
    expect_optimum(64, (aq_scheme){2, 2, 8, 1}, (pass_choice){.beam = 4}, 100);
    expect_optimum(64, (aq_scheme){2, 4, 8, 1}, (pass_choice){.beam = 16}, 100);
    expect_optimum(32, (aq_scheme){3, 2, 8, 1}, (pass_choice){.beam = 16}, 100);
}

static const aq_scheme several[] = {
    {1, 5, 8, 1}, {2, 4, 8, 1}, {3, 3, 4, 1}, {2, 4, 16, 1}, {2, 4, 8, 2}};
enum { SEVERAL = sizeof several / sizeof *several };

static void no_row_ever_gets_worse(void) {
    aq_test_layer layer = aq_test_layer_new(48, 64, 200, 1);
    for (size_t i = 0; i < SEVERAL; i++) {
        aq_coded coded = start(&layer, several[i]);
        for (uint64_t pass = 0; pass < 3; pass++) {
            double *before = aq_test_row_losses(&layer, &coded);
            run_pass(&layer, (pass_choice){.beam = 1, .seed = pass}, &coded);
            double *after = aq_test_row_losses(&layer, &coded);
            for (size_t row = 0; row < coded.codes.shape[0]; row++)
                CU_ASSERT(after[row] <= before[row] * (1 + 1e-4));
            free(before), free(after);
        }
        aq_coded_free(&coded);
    }
    aq_test_layer_free(&layer);
}

static void a_wider_beam_loses_less(void) {
    aq_test_layer layer = aq_test_layer_new(48, 64, 200, 1);
    for (size_t i = 0; i < SEVERAL; i++) {
        double losses[4], before;
        for (int width = 0; width < 3; width++) {
            aq_coded coded = start(&layer, several[i]);
            before = aq_test_loss(&layer, &coded);
            run_pass(&layer, (pass_choice){.beam = 1 << (2 * width)}, &coded);
            losses[width] = aq_test_loss(&layer, &coded);
            aq_coded_free(&coded);
        }
        CU_ASSERT(losses[0] < 0.9 * before);
        CU_ASSERT(losses[1] < losses[0]);
        CU_ASSERT(losses[2] < losses[1]);
    }
    aq_test_layer_free(&layer);
}

static void pairs_find_the_best_pair_and_no_row_gets_worse(void) {
    const pass_choice pairs = {.beam = 1, .kind = AQ_SEARCH_PAIRS};
    expect_optimum(64, (aq_scheme){2, 4, 8, 1}, pairs, 100);
    expect_optimum(64, (aq_scheme){2, 3, 8, 2}, pairs, 100);
    expect_optimum(64, (aq_scheme){2, 2, 8, 1}, pairs, 2);
    aq_test_layer layer = aq_test_layer_new(48, 64, 200, 1);
    aq_coded beam = start(&layer, several[1]), coded = start(&layer, several[1]);
    run_pass(&layer, (pass_choice){.beam = 1}, &beam);
    for (uint64_t pass = 0; pass < 3; pass++) {
        double *before = aq_test_row_losses(&layer, &coded);
        run_pass(&layer, (pass_choice){.beam = 1, .seed = pass, .kind = AQ_SEARCH_PAIRS}, &coded);
        double *after = aq_test_row_losses(&layer, &coded);
        for (size_t row = 0; row < coded.codes.shape[0]; row++)
            CU_ASSERT(after[row] <= before[row] * (1 + 1e-4));
        if (pass == 0) CU_ASSERT(aq_test_loss(&layer, &coded) < aq_test_loss(&layer, &beam));
        free(before), free(after);
    }
    aq_coded_free(&beam), aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

static void pairs_need_two_small_codebooks_and_no_beam(void) {
    const aq_scheme one = {1, 8, 8, 1}, two = {2, 8, 8, 1}, large = {2, 9, 8, 1};
    AQ_CHECK(aq_search_kind_check(AQ_SEARCH_PAIRS, &two, 1));
    AQ_CHECK(aq_search_kind_check(AQ_SEARCH_BEAM, &large, 4));
    AQ_CHECK_FAILS(aq_search_kind_check(AQ_SEARCH_PAIRS, &one, 1), AQ_INVALID, "found 1x8 and 1");
    AQ_CHECK_FAILS(aq_search_kind_check(AQ_SEARCH_PAIRS, &large, 1), AQ_INVALID, "found 2x9");
    AQ_CHECK_FAILS(aq_search_kind_check(AQ_SEARCH_PAIRS, &two, 4), AQ_INVALID, "2x8 and 4");
}

static void chunks_change_nothing_but_memory(void) {
    aq_test_layer layer = aq_test_layer_new(48, 64, 200, 1);
    for (int beam = 1; beam <= 3; beam += 2) {
        aq_coded whole = start(&layer, several[1]), pieces = start(&layer, several[1]);
        run_pass(&layer, (pass_choice){.beam = beam}, &whole);
        run_pass(&layer, (pass_choice){.beam = beam, .chunk = 7}, &pieces);
        double all = aq_test_loss(&layer, &whole);
        CU_ASSERT_DOUBLE_EQUAL(all, aq_test_loss(&layer, &pieces), 1e-3 * all);
        aq_coded_free(&whole), aq_coded_free(&pieces);
    }
    aq_test_layer_free(&layer);
}

static aq_status note_rows(const aq_team *team, size_t first, size_t count, aq_tensor *x) {
    CU_ASSERT_EQUAL(x->dtype, AQ_U16);
    size_t *seen = team->state;
    seen[0] = first, seen[1] = count;
    return AQ_OK;
}

static void a_member_of_a_team_works_its_own_rows(void) {
    aq_test_layer layer = aq_test_layer_new(48, 64, 200, 1);
    aq_coded coded = start(&layer, several[1]);
    double *before = aq_test_row_losses(&layer, &coded);
    size_t seen[2];
    aq_team team = *aq_team_alone();
    team.size = 3, team.rank = 1, team.state = seen;
    team.gather_rows = note_rows;
    run_pass(&layer, (pass_choice){.beam = 1, .team = &team}, &coded);
    CU_ASSERT(seen[0] == 16 && seen[1] == 16);
    double *after = aq_test_row_losses(&layer, &coded);
    for (size_t row = 0; row < 48; row++)
        CU_ASSERT_EQUAL(after[row] < before[row], row >= 16 && row < 32);
    free(before), free(after);
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

static void zero_rows_stay_zero(void) {
    aq_test_layer layer = aq_test_layer_new(48, 64, 200, 1);
    aq_tensor rows = aq_tensor_rows(&layer.weight, 5, 3);
    AQ_CHECK(aq_fill(0, &rows));
    aq_coded coded = start(&layer, several[1]);
    run_pass(&layer, (pass_choice){.beam = 4}, &coded);
    float *decoded = aq_test_decode(&coded);
    for (size_t i = 5 * 64; i < 8 * 64; i++) CU_ASSERT(fabsf(decoded[i]) < 1e-7f);
    free(decoded);
    aq_coded_free(&coded);
    aq_test_layer_free(&layer);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"one_codebook_finds_the_best_entry", one_codebook_finds_the_best_entry},
        {"groups_of_rows_find_the_best_entry", groups_of_rows_find_the_best_entry},
        {"a_singular_gram_matrix_finds_the_best_entry",
         a_singular_gram_matrix_finds_the_best_entry},
        {"a_full_beam_finds_the_best_pair", a_full_beam_finds_the_best_pair},
        {"no_row_ever_gets_worse", no_row_ever_gets_worse},
        {"a_wider_beam_loses_less", a_wider_beam_loses_less},
        {"pairs_find_the_best_pair_and_no_row_gets_worse",
         pairs_find_the_best_pair_and_no_row_gets_worse},
        {"pairs_need_two_small_codebooks_and_no_beam", pairs_need_two_small_codebooks_and_no_beam},
        {"chunks_change_nothing_but_memory", chunks_change_nothing_but_memory},
        {"a_member_of_a_team_works_its_own_rows", a_member_of_a_team_works_its_own_rows},
        {"zero_rows_stay_zero", zero_rows_stay_zero},
    };
    return aq_test_backend_main("quant/code_search", cases, sizeof cases / sizeof *cases, argc,
                                argv);
}
