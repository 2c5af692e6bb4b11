/* aqlm-mpi bench tune: one sequence's way through a block in tuning. */
#include "bench.h"
#include "bench_table.h"
#include "jobs.h"
#include "run/config_table.h"
#include "run/synthetic.h"
#include "run/time_tuning.h"

#include <stdio.h>
#include <string.h>

enum { OPTION_SHAPE = 0x2001, OPTION_REPEAT, OPTION_LENGTH, OPTION_SCHEME, OPTION_BACKEND };
enum { MOST_REPEATS = 1000, MOST_LENGTH = 1 << 20 };

typedef struct tune_options {
    const char *shape;
    long repeats, length;
    aq_config config;
    bool json;
} tune_options;

static const struct argp_option option_list[] = {
    {"shape", OPTION_SHAPE, "NAME", 0, "Of the block: llama-2-7b, llama-2-70b or HIDDENxFFNxHEADS",
     0},
    {"seqlen", OPTION_LENGTH, "N", 0, "Tokens of the sequence (4096)", 0},
    {"scheme", OPTION_SCHEME, "MxB", 0, "Codebooks x bits of a code (2x8)", 0},
    {"repeat", OPTION_REPEAT, "N", 0, "Take the median of N times (5)", 0},
    {"backend", OPTION_BACKEND, "NAME", 0, "auto, cpu or cuda (auto)", 0},
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    tune_options *options = state->input;
    switch (key) {
    case OPTION_SHAPE:
        options->shape = argument;
        return 0;
    case OPTION_LENGTH:
        return (error_t)aq_job_number_of("--seqlen", argument, 2, MOST_LENGTH, &options->length);
    case OPTION_REPEAT:
        return (error_t)aq_job_number_of("--repeat", argument, 1, MOST_REPEATS, &options->repeats);
    case OPTION_SCHEME:
        return (error_t)aq_setting_set(aq_setting_find("quantizer.scheme"), argument,
                                       &options->config);
    case OPTION_BACKEND:
        return (error_t)aq_setting_set(aq_setting_find("run.backend"), argument, &options->config);
    case 'j':
        options->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp tune_line = {
    .options = option_list,
    .parser = parse_option,
    .doc = "Times the steps of block tuning on one sequence and a block with random weights: how "
           "fast each is, beside the floor that this machine sets.",
};

enum { PHASES = 5 };

typedef struct tune_result {
    aq_machine machine;
    aq_bench_row rows[PHASES];
} tune_result;

static void fill_rows(const aq_tuning_subject *of, const aq_tuning_times *times,
                      tune_result *result) {
    const aq_work ahead = aq_work_forward(of->shape, of->length);
    const aq_work back = aq_work_backward(of->shape, of->length);
    const aq_bench_row rows[PHASES] = {
        {"decode, once a step", times->decode, aq_work_decode(of->shape, &of->scheme)},
        {"forward", times->forward, ahead},
        {"backward", times->backward, back},
        {"forward + backward", times->passes, {.halves = ahead.halves + back.halves}},
        {"update, once a step", times->update, aq_work_update(of->shape, &of->scheme)}};
    memcpy(result->rows, rows, sizeof rows);
}

/* ---- results ---- */

static void print_json(aq_backend *backend, const tune_options *options,
                       const tune_result *result) {
    json_t *rows = json_array();
    for (int i = 0; i < PHASES; i++)
        json_array_append_new(rows, aq_bench_row_json(&result->rows[i], &result->machine));
    aq_job_print_json(json_pack("{ss sI so so so}", "shape", options->shape, "seqlen",
                                (json_int_t)options->length, "machine",
                                aq_bench_machine_json(backend, &result->machine), "phases", rows,
                                "peak_memory", aq_bench_peak_json(backend)),
                      JSON_REAL_PRECISION(9));
}

static void print_text(aq_backend *backend, const tune_result *result) {
    aq_bench_print_head(backend, &result->machine);
    for (int i = 0; i < PHASES; i++) aq_bench_print_row(&result->rows[i], &result->machine);
    aq_bench_print_peak(backend);
}

static aq_status run(const tune_options *options, const aq_model_shape *shape, aq_backend *backend,
                     tune_result *result) {
    const aq_tuning_subject subject = {.shape = shape,
                                       .scheme = options->config.quantizer.scheme,
                                       .precision = AQ_HALF,
                                       .length = (size_t)options->length};
    aq_tuning_times times;
    AQ_TRY(aq_time_tuning(backend, &subject, (int)options->repeats, &times));
    fill_rows(&subject, &times, result);
    if (options->json)
        print_json(backend, options, result);
    else
        print_text(backend, result);
    return AQ_OK;
}

static aq_status bench_tune(const tune_options *options) {
    aq_block_kind kind;
    aq_backend *backend;
    tune_result result;
    AQ_REQUIRE(options->shape, AQ_INVALID, "bench tune: --shape NAME is missing");
    AQ_TRY(aq_synthetic_kind(options->shape, &kind));
    AQ_REQUIRE(kind.experts == 1, AQ_INVALID,
               "bench tune: %s has experts, which are timed by bench block only", options->shape);
    AQ_TRY(aq_bench_open(options->config.run.backend, &result.machine, &backend));
    aq_status status = run(options, &kind.shape, backend, &result);
    aq_backend_close(backend);
    return status;
}

aq_status aq_bench_tune(int argc, char **argv) {
    tune_options options = {.repeats = 5, .length = 4096};
    AQ_TRY(aq_config_new(&options.config));
    aq_status status = aq_job_parse(&tune_line, argc, argv, &options);
    if (status == AQ_OK) status = bench_tune(&options);
    aq_config_free(&options.config);
    return status;
}
