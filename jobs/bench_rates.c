/* aqlm-mpi bench rates: how fast this machine does the steps of a job, for `aqlm-mpi plan`. */
#include "bench.h"

#include "base/file.h"
#include "jobs.h"
#include "run/measure_rates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct rates_options {
    const char *backend, *out;
    bool json;
} rates_options;

static const struct argp_option option_list[] = {
    {"backend", 'b', "NAME", 0, "auto, cpu or cuda (auto)", 0},
    {"out", 'o', "FILE.json", 0, "Write them, for `aqlm-mpi plan --rates'", 0},
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    rates_options *options = state->input;
    if (key == 'b')
        options->backend = argument;
    else if (key == 'o')
        options->out = argument;
    else if (key == 'j')
        options->json = true;
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static const struct argp rates_line = {
    .options = option_list,
    .parser = parse_option,
    .doc =
        "Measures for half a minute how fast this machine does the steps of a quantize job: what "
        "a step costs at least, and how much work it does a second.",
};

static void print_pair(const char *what, double step, double rate, const char *unit) {
    printf("%-24s %12.1f %12.4g %s\n", what, 1e6 * step, rate, unit);
}

static void print_text(const aq_rates *rates) {
    printf("%s (%s)\n\n%-24s %12s %12s\n", rates->device, rates->backend, "", "us a step",
           "a second");
    print_pair("k-means iteration", rates->kmeans_step, rates->kmeans_scores, "scores");
    print_pair("codebook step", rates->codebooks_step, rates->codebooks_flops, "FLOP");
    print_pair("  float32 product", 0, rates->precise_flops, "FLOP");
    print_pair("code pass, a group", rates->codes_step, rates->codes_scores, "scores");
    print_pair("  residuals", 0, rates->residual_flops, "FLOP");
    print_pair("forward pass", rates->forward_step, rates->forward_flops, "FLOP");
    print_pair("forward and backward", rates->training_step, rates->training_flops, "FLOP");
    print_pair("Gram sum", 0, rates->gram_flops, "FLOP");
    print_pair("copy", 0, rates->copy_bytes, "bytes");
}

static aq_status write_out(const char *path, const aq_rates *rates) {
    json_t *object = aq_rates_json(rates);
    char *text = object ? json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(object);
    AQ_REQUIRE(text, AQ_MEMORY, "no memory for the rates");
    aq_status status = aq_file_replace(path, text, strlen(text));
    free(text);
    return status;
}

static aq_status measure(const rates_options *options) {
    aq_backend *backend;
    aq_rates rates;
    AQ_TRY(aq_job_backend(options->backend, 0, &backend));
    aq_status status = aq_measure_rates(backend, &rates);
    aq_backend_close(backend);
    AQ_TRY(status);
    if (options->out) AQ_TRY(write_out(options->out, &rates));
    if (options->json)
        aq_job_print_json(aq_rates_json(&rates), JSON_REAL_PRECISION(6));
    else
        print_text(&rates);
    return AQ_OK;
}

aq_status aq_bench_rates(int argc, char **argv) {
    rates_options options = {0};
    AQ_TRY(aq_job_parse(&rates_line, argc, argv, &options));
    return measure(&options);
}
