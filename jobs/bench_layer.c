/* aqlm-mpi bench layer: the fit of one linear layer. */
#include "bench.h"
#include "bench_table.h"
#include "jobs.h"
#include "run/config_table.h"
#include "run/synthetic.h"
#include "store/layer_file.h"

#include "run/time_layer.h"

#include <stdio.h>
#include <string.h>

enum { OPTION_SHAPE = 0x2001, OPTION_REPEAT, OPTION_EXACT, FIRST_SETTING, MOST_REPEATS = 1000 };

/* Options that are settings of a quantize job under a shorter name; their argp keys count from
 * FIRST_SETTING in this order. */
static const char *const setting_keys[] = {
    "quantizer.scheme", "quantizer.group",     "quantizer.out_group",         "quantizer.beam",
    "quantizer.rounds", "quantizer.tolerance", "quantizer.kmeans_iterations", "run.seed",
    "run.backend",      "quantizer.solver",    "quantizer.kmeans_starts",     "quantizer.noise",
    "quantizer.search"};

enum {
    SETTINGS = sizeof setting_keys / sizeof *setting_keys,
    ROUNDS = FIRST_SETTING + 4,
    STARTS = FIRST_SETTING + 10
};

static const struct argp_option option_list[] = {
    {"input", 'i', "FILE.h5", 0, "The layer: datasets weight [out, in] and gram [in, in]", 0},
    {"shape", OPTION_SHAPE, "OUTxIN", 0, "Or a made-up one, whose phases are timed: 4096x4096", 0},
    {"repeat", OPTION_REPEAT, "N", 0,
     "With --shape: take the median of N runs of k-means, and of N rounds (5)", 0},
    {"scheme", FIRST_SETTING, "MxB", 0, "Codebooks x bits of a code (2x8)", 0},
    {"group", FIRST_SETTING + 1, "N", 0, "Columns that share a code (8)", 0},
    {"out-group", FIRST_SETTING + 2, "N", 0, "Rows that share a code and a scale (1)", 0},
    {"beam", FIRST_SETTING + 3, "N", 0, "Hypotheses a row in the code search (1)", 0},
    {"rounds", ROUNDS, "N", 0, "Run exactly N rounds; without it the rule stops", 0},
    {"tolerance", FIRST_SETTING + 5, "X", 0,
     "The rule: a round that gains less than this share is the last (0.01)", 0},
    {"kmeans-iterations", FIRST_SETTING + 6, "N", 0, "Iterations of k-means (100)", 0},
    {"kmeans-starts", STARTS, "N", 0, "Starts of k-means (4; with --shape 1)", 0},
    {"seed", FIRST_SETTING + 7, "N", 0, "Seed of all random numbers (0)", 0},
    {"backend", FIRST_SETTING + 8, "NAME", 0, "auto, cpu or cuda (auto)", 0},
    {"solver", FIRST_SETTING + 9, "NAME", 0, "Of codebooks and scales: cg or adam (cg)", 0},
    {"noise", FIRST_SETTING + 11, "X", 0,
     "On codebooks during the search, falling over 4/5 of the rounds (0)", 0},
    {"search", FIRST_SETTING + 12, "NAME", 0,
     "Of codes: beam, pairs of two codebooks at once, or auto (beam)", 0},
    {"exact", OPTION_EXACT, "PART", 0,
     "Search in float32 throughout, without tensor cores: k-means, codes or all", 0},
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

typedef struct bench_options {
    const char *input;
    size_t out, in; /* of a made-up layer; 0: none */
    long repeats;
    aq_config config; /* whose defaults and bounds hold here too */
    bool exact_kmeans, exact_codes, exact_rounds, starts, json;
} bench_options;

static error_t set_one(int key, const char *text, bench_options *options) {
    const aq_setting *setting = aq_setting_find(setting_keys[key - FIRST_SETTING]);
    options->exact_rounds |= key == ROUNDS;
    options->starts |= key == STARTS;
    return (error_t)aq_setting_set(setting, text, &options->config);
}

static aq_status read_exact(const char *text, bench_options *options) {
    bool all = strcmp(text, "all") == 0;
    options->exact_kmeans = all || strcmp(text, "k-means") == 0;
    options->exact_codes = all || strcmp(text, "codes") == 0;
    AQ_REQUIRE(options->exact_kmeans || options->exact_codes, AQ_INVALID,
               "--exact: expected k-means, codes or all, found %s", text);
    return AQ_OK;
}

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    bench_options *options = state->input;
    if (key >= FIRST_SETTING && key < FIRST_SETTING + SETTINGS)
        return set_one(key, argument, options);
    switch (key) {
    case 'i':
        options->input = argument;
        return 0;
    case 'j':
        options->json = true;
        return 0;
    case OPTION_SHAPE:
        return (error_t)aq_bench_read_layer(argument, &options->out, &options->in);
    case OPTION_EXACT:
        return (error_t)read_exact(argument, options);
    case OPTION_REPEAT:
        return (error_t)aq_job_number_of("--repeat", argument, 1, MOST_REPEATS, &options->repeats);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp layer_line = {
    .options = option_list,
    .parser = parse_option,
    .doc = "Fits one linear layer and prints its relative error after k-means and after every "
           "round, the round where the rule stops, and the seconds of every phase. With --shape "
           "also how fast each phase is, beside the floor that this machine sets.",
};

/* ---- results ---- */

enum { PHASES = 5 };

/* What is printed: the report, where the rule stops whether or not it was obeyed, and of a made-up
 * layer the phases' times. */
typedef struct bench_result {
    aq_fit_report report;
    int stop_round;
    aq_machine machine;
    aq_bench_row rows[PHASES];
    int row_count;
} bench_result;

static json_t *rows_json(const bench_result *result) {
    json_t *rows = json_array();
    for (int i = 0; i < result->row_count; i++)
        json_array_append_new(rows, aq_bench_row_json(&result->rows[i], &result->machine));
    return rows;
}

static aq_status print_json(aq_backend *backend, const bench_result *result) {
    const aq_fit_report *report = &result->report;
    json_t *errors = json_array();
    for (int i = 0; i < report->rounds; i++)
        json_array_append_new(errors, json_real(report->round_errors[i]));
    int stop = result->stop_round;
    json_t *round = stop ? json_integer(stop) : json_null();
    json_t *error = stop ? json_real(report->round_errors[stop - 1]) : json_null();
    json_t *object = json_pack("{s:f, s:o, s:o, s:o, s:{s:f, s:f, s:f, s:f}}", "kmeans_error",
                               report->kmeans_error, "round_errors", errors, "stop_round", round,
                               "stop_error", error, "seconds", "kmeans", report->seconds_kmeans,
                               "codebooks", report->seconds_codebooks, "codes",
                               report->seconds_codes, "total", report->seconds_total);
    AQ_REQUIRE(object, AQ_MEMORY, "no memory for the result");
    if (result->row_count) {
        json_object_set_new(object, "machine", aq_bench_machine_json(backend, &result->machine));
        json_object_set_new(object, "phases", rows_json(result));
        json_object_set_new(object, "peak_memory", aq_bench_peak_json(backend));
    }
    aq_job_print_json(object, JSON_REAL_PRECISION(9));
    return AQ_OK;
}

static void print_text(aq_backend *backend, const bench_result *result, double tolerance) {
    const aq_fit_report *report = &result->report;
    if (result->row_count) aq_bench_print_head(backend, &result->machine);
    for (int i = 0; i < result->row_count; i++)
        aq_bench_print_row(&result->rows[i], &result->machine);
    if (result->row_count) aq_bench_print_peak(backend);
    printf("after k-means   %.6f\n", report->kmeans_error);
    for (int i = 0; i < report->rounds; i++)
        printf("after round %3d %.6f%s\n", i + 1, report->round_errors[i],
               i + 1 == result->stop_round ? "  <- the rule stops here" : "");
    if (!result->stop_round)
        printf("no round gained less than %g of the error before it\n", tolerance);
    printf("seconds: k-means %.2f, codebooks %.2f, codes %.2f, total %.2f\n",
           report->seconds_kmeans, report->seconds_codebooks, report->seconds_codes,
           report->seconds_total);
}

/* ---- the run ---- */

static aq_work pass_work(const bench_options *options) {
    const aq_fit_settings fit = aq_config_fit(&options->config);
    return fit.search == AQ_SEARCH_PAIRS
               ? aq_work_pairs(&fit.scheme, options->out, options->in)
               : aq_work_codes(&fit.scheme, options->out, options->in, fit.beam);
}

/* The rows of the table of times. */
static void fill_rows(const bench_options *options, const aq_layer_times *times,
                      bench_result *result) {
    const aq_scheme *scheme = &options->config.quantizer.scheme;
    const aq_work iteration = aq_work_kmeans(scheme, options->out, options->in);
    const aq_work step = aq_work_codebooks(options->out, options->in);
    int iterations = times->iterations, steps = times->steps;
    const aq_bench_row rows[PHASES] = {
        {"k-means iteration", times->kmeans / iterations, iteration},
        {"k-means", times->kmeans, aq_work_times(&iteration, iterations)},
        {"codebook step", times->codebooks / (steps ? steps : 1), step},
        {"codebook round", times->codebooks, aq_work_times(&step, steps)},
        {"code pass", times->codes, pass_work(options)}};
    memcpy(result->rows, rows, sizeof rows);
    result->row_count = result->report.rounds ? PHASES : 2;
}

static aq_status make_layer(const bench_options *options, aq_backend *backend, aq_tensor *weight,
                            aq_tensor *gram) {
    if (options->input) return aq_layer_file_read(options->input, backend, weight, gram);
    return aq_synthetic_layer(backend, options->out, options->in,
                              (uint64_t)options->config.run.seed, weight, gram);
}

/* Without --rounds the rule decides; but a made-up layer has as many rounds as a median takes. */
static aq_fit_settings settings_of(const bench_options *options) {
    aq_fit_settings settings = aq_config_fit(&options->config);
    settings.seed = (uint64_t)options->config.run.seed;
    settings.exact_kmeans = options->exact_kmeans;
    settings.exact_codes = options->exact_codes;
    if (options->out && !options->starts) settings.kmeans_starts = 1;
    if (options->exact_rounds || options->out) settings.tolerance = 0;
    if (!options->exact_rounds)
        settings.rounds = options->out ? (int)options->repeats : AQ_MAX_ROUNDS;
    return settings;
}

static aq_status run(const bench_options *options, aq_backend *backend, bench_result *result) {
    const aq_fit_settings settings = settings_of(options);
    aq_tensor weight = {0}, gram = {0};
    aq_layer_times times;
    aq_status status;
    AQ_STEP(make_layer(options, backend, &weight, &gram));
    AQ_STEP(aq_time_layer(&weight, &gram, &settings, options->out ? (int)options->repeats : 1,
                          &result->report, &times));
    if (options->out) fill_rows(options, &times, result);
done:
    aq_tensor_free(&weight);
    aq_tensor_free(&gram);
    return status;
}

static aq_status check_options(const bench_options *options) {
    AQ_REQUIRE(options->input || options->out, AQ_INVALID,
               "bench layer: --input FILE.h5 or --shape OUTxIN is missing");
    AQ_REQUIRE(!options->input || !options->out, AQ_INVALID,
               "bench layer: --input and --shape both say what is to be fitted: give one");
    if (options->out)
        AQ_TRY(aq_scheme_check(&options->config.quantizer.scheme, options->out, options->in));
    AQ_REQUIRE(options->exact_rounds || options->config.quantizer.noise == 0, AQ_INVALID,
               "bench layer: noise falls over the rounds; --rounds N says how many");
    AQ_REQUIRE(options->out || options->exact_rounds || options->config.quantizer.tolerance > 0,
               AQ_INVALID,
               "bench layer: a tolerance of 0 never stops; --rounds N says how far to go");
    return AQ_OK;
}

static aq_status bench_layer(const bench_options *options) {
    double tolerance = options->config.quantizer.tolerance;
    aq_backend *backend;
    bench_result result = {0};
    AQ_TRY(check_options(options));
    const char *name = options->config.run.backend;
    AQ_TRY(options->out ? aq_bench_open(name, &result.machine, &backend)
                        : aq_job_backend(name, 0, &backend));
    aq_status status = run(options, backend, &result);
    if (status == AQ_OK) {
        result.stop_round = aq_fit_stop_round(&result.report, tolerance);
        if (options->json)
            status = print_json(backend, &result);
        else
            print_text(backend, &result, tolerance);
    }
    aq_backend_close(backend);
    return status;
}

aq_status aq_bench_layer(int argc, char **argv) {
    bench_options options = {.repeats = 5};
    AQ_TRY(aq_config_new(&options.config));
    options.config.quantizer.search = AQ_SEARCH_BEAM;
    aq_status status = aq_job_parse(&layer_line, argc, argv, &options);
    if (status == AQ_OK) status = bench_layer(&options);
    aq_config_free(&options.config);
    return status;
}
