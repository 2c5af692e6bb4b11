/* aqlm-mpi evaluate: the perplexity of a model. */
#include "jobs.h"
#include "model/npy.h"
#include "model/perplexity.h"
#include "store/model_file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct evaluate_options {
    const char *model, *tokens, *backend, *logits;
    long length;
    bool json;
} evaluate_options;

enum { MOST_LENGTH = 1 << 24 };

static const struct argp_option option_list[] = {
    {"tokens", 't', "FILE.npy", 0, "Tokens to predict: uint16, int32 or int64", 0},
    {"seqlen", 'l', "N", 0, "Tokens a sequence (512)", 0},
    {"backend", 'b', "NAME", 0, "auto, cpu or cuda (auto)", 0},
    {"logits", 'o', "FILE.npy", 0,
     "Write the first sequence's logits there too: float32 [N, vocabulary]", 0},
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    evaluate_options *options = state->input;
    switch (key) {
    case 't':
        options->tokens = argument;
        return 0;
    case 'l':
        return (error_t)aq_job_number_of("--seqlen", argument, 2, MOST_LENGTH, &options->length);
    case 'b':
        options->backend = argument;
        return 0;
    case 'o':
        options->logits = argument;
        return 0;
    case 'j':
        options->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (options->model) return ARGP_ERR_UNKNOWN;
        options->model = argument;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp command_line = {
    .options = option_list,
    .parser = parse_option,
    .args_doc = "MODEL",
    .doc = "Prints the perplexity of MODEL: a dense Hugging Face folder, a model.aqlm.h5, or an "
           "exported AQLM folder.",
};

static aq_status show_step(const aq_watch *watch, const char *phase, int done, int total) {
    (void)watch;
    fprintf(stderr, "\r%s: block %d of %d", phase, done, total);
    return AQ_OK;
}

static aq_status measure(const evaluate_options *options, aq_source *source, aq_backend *backend,
                         aq_perplexity_report *report) {
    size_t vocab = source->shape.vocab;
    const size_t length = (size_t)options->length;
    const aq_token_cut cut = {.length = length, .vocab = vocab, .flatten = true};
    const aq_watch terminal = {.step = show_step};
    aq_perplexity_settings settings = {.precision = AQ_PRECISE,
                                       .watch = isatty(STDERR_FILENO) ? &terminal : NULL};
    aq_tokens tokens = {0};
    aq_status status;
    if (options->logits) settings.logits = calloc(length, vocab * sizeof(float));
    AQ_NEED(settings.logits || !options->logits, AQ_MEMORY, "no memory for the logits");
    AQ_STEP(aq_tokens_read(options->tokens, &cut, &tokens));
    status = aq_perplexity(source, &tokens, &settings, backend, report);
    if (settings.watch) fputs("\r\033[K", stderr);
    if (status == AQ_OK && options->logits)
        status = aq_npy_write(options->logits, settings.logits, length, vocab);
done:
    free(settings.logits);
    aq_tokens_free(&tokens);
    return status;
}

static aq_status print_json(const aq_perplexity_report *report, const aq_backend *backend) {
    json_t *object = json_pack("{s:f, s:I, s:f, s:s}", "perplexity", report->perplexity, "tokens",
                               (json_int_t)report->tokens, "seconds", report->seconds, "backend",
                               aq_backend_name(backend));
    AQ_REQUIRE(object, AQ_MEMORY, "no memory for the result");
    json_dumpf(object, stdout, JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(object);
    return AQ_OK;
}

static aq_status evaluate(const evaluate_options *options) {
    AQ_REQUIRE(options->model, AQ_INVALID, "evaluate: which MODEL? --help shows the usage");
    AQ_REQUIRE(options->tokens, AQ_INVALID, "evaluate: --tokens FILE.npy is missing");
    aq_source *source = NULL;
    aq_backend *backend = NULL;
    aq_perplexity_report report;
    aq_status status;
    AQ_STEP(aq_job_backend(options->backend, 0, &backend));
    AQ_STEP(aq_model_open(options->model, &source));
    AQ_STEP(measure(options, source, backend, &report));
    if (options->json)
        AQ_STEP(print_json(&report, backend));
    else
        printf("perplexity %.4f over %zu tokens in %.1f s on %s\n", report.perplexity,
               report.tokens, report.seconds, aq_backend_name(backend));
done:
    aq_source_close(source);
    aq_backend_close(backend);
    return status;
}

int aq_job_evaluate(int argc, char **argv) {
    evaluate_options options = {.length = 512};
    if (aq_job_parse(&command_line, argc, argv, &options) != AQ_OK) return aq_job_fail();
    return evaluate(&options) == AQ_OK ? 0 : aq_job_fail();
}
