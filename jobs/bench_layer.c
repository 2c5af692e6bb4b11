/* aqlm-mpi bench layer: the fit of one linear layer. */
#include "bench.h"
#include "jobs.h"
#include "run/config_table.h"
#include "store/layer_file.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_SETTING = 0x2001 };

/* Options that are settings of a quantize job under a shorter name; their argp keys count from
 * FIRST_SETTING in this order. */
static const char *const setting_keys[] = {
    "quantizer.scheme", "quantizer.group",     "quantizer.out_group",         "quantizer.beam",
    "quantizer.rounds", "quantizer.tolerance", "quantizer.kmeans_iterations", "run.seed",
    "run.backend",      "quantizer.solver"};

enum { SETTINGS = sizeof setting_keys / sizeof *setting_keys, ROUNDS = FIRST_SETTING + 4 };

static const struct argp_option option_list[] = {
    {"input", 'i', "FILE.h5", 0, "The layer: datasets weight [out, in] and gram [in, in]", 0},
    {"scheme", FIRST_SETTING, "MxB", 0, "Codebooks x bits of a code (2x8)", 0},
    {"group", FIRST_SETTING + 1, "N", 0, "Columns that share a code (8)", 0},
    {"out-group", FIRST_SETTING + 2, "N", 0, "Rows that share a code and a scale (1)", 0},
    {"beam", FIRST_SETTING + 3, "N", 0, "Hypotheses a row in the code search (1)", 0},
    {"rounds", ROUNDS, "N", 0, "Run exactly N rounds; without it the rule stops", 0},
    {"tolerance", FIRST_SETTING + 5, "X", 0,
     "The rule: a round that gains less than this share is the last (0.01)", 0},
    {"kmeans-iterations", FIRST_SETTING + 6, "N", 0, "Iterations of k-means (100)", 0},
    {"seed", FIRST_SETTING + 7, "N", 0, "Seed of all random numbers (0)", 0},
    {"backend", FIRST_SETTING + 8, "NAME", 0, "auto, cpu or cuda (auto)", 0},
    {"solver", FIRST_SETTING + 9, "NAME", 0, "Of codebooks and scales: cg or adam (cg)", 0},
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

typedef struct bench_options {
    const char *input;
    aq_config config; /* whose defaults and bounds hold here too */
    bool exact_rounds, json;
} bench_options;

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    bench_options *options = state->input;
    if (key == 'i') {
        options->input = argument;
    } else if (key == 'j') {
        options->json = true;
    } else if (key >= FIRST_SETTING && key < FIRST_SETTING + SETTINGS) {
        options->exact_rounds |= key == ROUNDS;
        const aq_setting *setting = aq_setting_find(setting_keys[key - FIRST_SETTING]);
        return (error_t)aq_setting_set(setting, argument, &options->config);
    } else {
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp layer_line = {
    .options = option_list,
    .parser = parse_option,
    .doc = "Fits one linear layer and prints its relative error after k-means and after every "
           "round, the round where the rule stops, and the seconds of every phase.",
};

/* ---- results ---- */

/* What a run prints: all rounds, and where the rule stops whether or not it was obeyed. */
static aq_status print_json(const aq_fit_report *report, int stop_round) {
    json_t *errors = json_array();
    for (int i = 0; i < report->rounds; i++)
        json_array_append_new(errors, json_real(report->round_errors[i]));
    json_t *round = stop_round ? json_integer(stop_round) : json_null();
    json_t *error = stop_round ? json_real(report->round_errors[stop_round - 1]) : json_null();
    json_t *object = json_pack("{s:f, s:o, s:o, s:o, s:{s:f, s:f, s:f, s:f}}", "kmeans_error",
                               report->kmeans_error, "round_errors", errors, "stop_round", round,
                               "stop_error", error, "seconds", "kmeans", report->seconds_kmeans,
                               "codebooks", report->seconds_codebooks, "codes",
                               report->seconds_codes, "total", report->seconds_total);
    AQ_REQUIRE(object, AQ_MEMORY, "no memory for the result");
    json_dumpf(object, stdout, JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(object);
    return AQ_OK;
}

static void print_text(const aq_fit_report *report, int stop_round, double tolerance) {
    printf("after k-means   %.6f\n", report->kmeans_error);
    for (int i = 0; i < report->rounds; i++)
        printf("after round %3d %.6f%s\n", i + 1, report->round_errors[i],
               i + 1 == stop_round ? "  <- the rule stops here" : "");
    if (!stop_round) printf("no round gained less than %g of the error before it\n", tolerance);
    printf("seconds: k-means %.2f, codebooks %.2f, codes %.2f, total %.2f\n",
           report->seconds_kmeans, report->seconds_codebooks, report->seconds_codes,
           report->seconds_total);
}

/* ---- the run ---- */

static aq_status fit(const bench_options *options, aq_backend *backend, aq_fit_report *report) {
    aq_fit_settings settings = aq_config_fit(&options->config);
    settings.seed = (uint64_t)options->config.run.seed;
    if (options->exact_rounds)
        settings.tolerance = 0;
    else
        settings.rounds = AQ_MAX_ROUNDS;
    aq_tensor weight, gram;
    aq_coded coded;
    AQ_TRY(aq_layer_file_read(options->input, backend, &weight, &gram));
    aq_status status = aq_fit_layer(&weight, &gram, &settings, aq_team_alone(), &coded, report);
    if (status == AQ_OK) aq_coded_free(&coded);
    aq_tensor_free(&weight);
    aq_tensor_free(&gram);
    return status;
}

static aq_status bench_layer(const bench_options *options) {
    double tolerance = options->config.quantizer.tolerance;
    AQ_REQUIRE(options->input, AQ_INVALID, "bench layer: --input FILE.h5 is missing");
    AQ_REQUIRE(options->exact_rounds || tolerance > 0, AQ_INVALID,
               "bench layer: a tolerance of 0 never stops; --rounds N says how far to go");
    aq_backend *backend;
    aq_fit_report report;
    AQ_TRY(aq_job_backend(options->config.run.backend, 0, &backend));
    aq_status status = fit(options, backend, &report);
    aq_backend_close(backend);
    AQ_TRY(status);
    int stop_round = aq_fit_stop_round(&report, tolerance);
    if (options->json) return print_json(&report, stop_round);
    print_text(&report, stop_round, tolerance);
    return AQ_OK;
}

aq_status aq_bench_layer(int argc, char **argv) {
    bench_options options = {0};
    AQ_TRY(aq_config_new(&options.config));
    aq_status status = aq_job_parse(&layer_line, argc, argv, &options);
    if (status == AQ_OK) status = bench_layer(&options);
    aq_config_free(&options.config);
    return status;
}
