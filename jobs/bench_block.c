/* aqlm-mpi bench block: what a whole block costs, and the model that is made of such blocks. */
#include "base/memory.h"
#include "bench.h"
#include "bench_table.h"
#include "jobs.h"
#include "run/config_table.h"
#include "run/needs.h"
#include "run/time_whole.h"

#include <stdio.h>
#include <string.h>

enum { OPTION_SHAPE = 0x2001, OPTION_REPEAT, OPTION_FULL, FIRST_SETTING, MOST_REPEATS = 1000 };

/* Options that are settings of a quantize job under a shorter name; their argp keys count from
 * FIRST_SETTING in this order. */
static const char *const setting_keys[] = {"quantizer.scheme",
                                           "quantizer.group",
                                           "quantizer.out_group",
                                           "quantizer.beam",
                                           "quantizer.rounds",
                                           "quantizer.kmeans_iterations",
                                           "quantizer.kmeans_starts",
                                           "quantizer.solver",
                                           "calibration.sequences",
                                           "calibration.validation",
                                           "calibration.length",
                                           "tuning.epochs",
                                           "tuning.batch",
                                           "tuning.precision",
                                           "run.seed",
                                           "run.backend"};

enum { SETTINGS = sizeof setting_keys / sizeof *setting_keys };

/* Where these differ from a job's defaults: exactly so many rounds, on so many sequences. */
static const char *const own_defaults[][2] = {{"quantizer.scheme", "1x16"},
                                              {"quantizer.rounds", "10"},
                                              {"calibration.sequences", "1024"},
                                              {"calibration.length", "4096"}};

static const struct argp_option option_list[] = {
    {"shape", OPTION_SHAPE, "NAME", 0,
     "Of the block: llama-2-7b, llama-2-70b, mixtral-8x7b, or HIDDENxFFNxHEADS", 0},
    {"full", OPTION_FULL, NULL, 0,
     "Quantize the block as a whole, as a job does, instead of timing and scaling parts", 0},
    {"repeat", OPTION_REPEAT, "N", 0, "Take the median of N times (5)", 0},
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {"scheme", FIRST_SETTING, "MxB", 0, "Codebooks x bits of a code (1x16)", 1},
    {"group", FIRST_SETTING + 1, "N", 0, "Columns that share a code (8)", 1},
    {"out-group", FIRST_SETTING + 2, "N", 0, "Rows that share a code and a scale (1)", 1},
    {"beam", FIRST_SETTING + 3, "N", 0, "Hypotheses in the code search (1)", 1},
    {"rounds", FIRST_SETTING + 4, "N", 0, "Rounds of every fit (10)", 1},
    {"kmeans-iterations", FIRST_SETTING + 5, "N", 0, "Iterations of k-means (100)", 1},
    {"kmeans-starts", FIRST_SETTING + 6, "N", 0, "Starts of k-means (4)", 1},
    {"solver", FIRST_SETTING + 7, "NAME", 0, "Of codebooks and scales: cg or adam (cg)", 1},
    {"sequences", FIRST_SETTING + 8, "N", 0, "That are fitted to and trained on (1024)", 1},
    {"validation", FIRST_SETTING + 9, "N", 0, "Sequences held out besides these (128)", 1},
    {"seqlen", FIRST_SETTING + 10, "N", 0, "Tokens of a sequence (4096)", 1},
    {"epochs", FIRST_SETTING + 11, "N", 0, "Of block tuning (10)", 1},
    {"batch", FIRST_SETTING + 12, "N", 0, "Sequences of a step of tuning (32)", 1},
    {"precision", FIRST_SETTING + 13, "NAME", 0, "Of its passes on a GPU: half or fast (half)", 1},
    {"seed", FIRST_SETTING + 14, "N", 0, "Seed of all random numbers (0)", 1},
    {"backend", FIRST_SETTING + 15, "NAME", 0, "auto, cpu or cuda (auto)", 1},
    {0},
};

typedef struct block_options {
    const char *shape;
    long repeats;
    aq_config config;
    bool full, json;
} block_options;

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    block_options *options = state->input;
    if (key >= FIRST_SETTING && key < FIRST_SETTING + SETTINGS)
        return (error_t)aq_setting_set(aq_setting_find(setting_keys[key - FIRST_SETTING]), argument,
                                       &options->config);
    switch (key) {
    case OPTION_SHAPE:
        options->shape = argument;
        return 0;
    case OPTION_REPEAT:
        return (error_t)aq_job_number_of("--repeat", argument, 1, MOST_REPEATS, &options->repeats);
    case OPTION_FULL:
        options->full = true;
        return 0;
    case 'j':
        options->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp block_line = {
    .options = option_list,
    .parser = parse_option,
    .doc = "Times every layer's fit, the passes and the tuning of a made-up block, and tells what "
           "the block and its whole model take on one device, beside the floor that this machine "
           "sets. Parts that are all alike are timed and scaled, unless --full runs them all; the "
           "last lines say which.",
};

/* ---- results ---- */

typedef struct block_result {
    aq_block_kind kind;
    aq_block_subject subject;
    aq_block_cost cost;
    aq_whole_cost whole; /* with --full */
    aq_machine machine;
    bool full;
} block_result;

static const char *const phase_names[AQ_BLOCK_PHASES] = {
    [AQ_BLOCK_FORWARD] = "forward passes", [AQ_BLOCK_GRAM] = "Gram matrices",
    [AQ_BLOCK_KMEANS] = "k-means",         [AQ_BLOCK_CODEBOOKS] = "codebook rounds",
    [AQ_BLOCK_CODES] = "code passes",      [AQ_BLOCK_TUNING] = "block tuning"};

static aq_bench_row row_of(const block_result *result, int phase) {
    const aq_block_cost *cost = &result->cost;
    bool both = result->full && phase == AQ_BLOCK_FORWARD;
    const char *name = both ? "passes, Gram matrices" : phase_names[phase];
    return (aq_bench_row){name, cost->seconds[phase], cost->work[phase]};
}

/* Phases follow each other, so their floors add up. */
static double block_seconds(const block_result *result, double *floor) {
    double seconds = *floor = 0;
    for (int i = 0; i < AQ_BLOCK_PHASES; i++) {
        seconds += result->cost.seconds[i];
        *floor += aq_work_floor(&result->cost.work[i], &result->machine);
    }
    return result->full ? result->whole.seconds : seconds;
}

static double model_hours(const block_result *result, double seconds) {
    return (double)result->kind.shape.blocks * seconds / 3600;
}

static void print_timed_layers(const aq_block_cost *cost) {
    printf("\n%-26s %12s %12s %12s %12s\n", "layers", "k-means, s", "codebooks, s", "codes, s",
           "error");
    for (int i = 0; i < cost->layer_count; i++) {
        const aq_layer_cost *layer = &cost->layers[i];
        char name[64];
        snprintf(name, sizeof name, "%zu of %zux%zu", layer->count, layer->out, layer->in);
        printf("%-26s %12.4f %12.4f %12.4f %12.6f\n", name, layer->kmeans, layer->codebooks,
               layer->codes, layer->error);
    }
}

static const char *place_of(bool resident) {
    return resident ? "on the device" : "in host memory";
}

static void print_whole(const block_result *result) {
    const aq_whole_cost *whole = &result->whole;
    putchar('\n');
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        printf("%-26s error %.6f\n", result->kind.shape.linears[l].name, whole->layer_errors[l]);
    printf("%-26s error %.6f before tuning, %.6f behind it\n", "the block", whole->fitted_error,
           whole->error);
    printf("activations: %.2f GB of inputs %s, as many of targets %s; made up in %.1f s, not "
           "counted\n",
           1e-9 * (double)whole->activation_bytes, place_of(whole->inputs_resident),
           place_of(whole->targets_resident), whole->setup_seconds);
    printf("host memory: %.2f GB at most\n", 1e-9 * (double)aq_host_memory_peak());
}

static void print_assumptions(const block_result *result) {
    const aq_block_subject *of = &result->subject;
    const aq_fit_settings *fit = &of->fit;
    printf("\ncounted: %dx%d in groups of %d x %d, beam %d; %zu sequences of %zu tokens, %zu more "
           "held out; %d starts of %d iterations of k-means and %d rounds a layer; %d epochs in "
           "batches of %d; no files, no waiting\n",
           fit->scheme.codebooks, fit->scheme.bits, fit->scheme.out_group, fit->scheme.in_group,
           fit->beam, of->sequences, of->length, of->held_out, fit->kmeans_starts,
           fit->kmeans_iterations, fit->rounds, of->epochs, of->batch);
    if (result->full)
        printf("run: all of it; the floor counts every iteration of k-means, needed or not, and no "
               "codebook rounds\n");
    else
        printf("run: per shape one start, at most %d iterations and %d rounds, scaled (the errors "
               "are theirs); one step of Gram matrices, passes and tuning, scaled\n",
               AQ_TIMED_ITERATIONS, AQ_TIMED_ROUNDS);
    if (result->kind.experts > 1)
        printf("experts: %zu, of which a token sees %zu; passes of a dense block as wide as these, "
               "decoding and updates scaled to all weights, the router left out\n",
               result->kind.experts, result->kind.active);
}

static void print_text(aq_backend *backend, const block_result *result) {
    double floor, seconds = block_seconds(result, &floor);
    aq_bench_print_head(backend, &result->machine);
    for (int i = 0; i < AQ_BLOCK_PHASES; i++) {
        const aq_bench_row row = row_of(result, i);
        if (row.seconds > 0) aq_bench_print_row(&row, &result->machine);
    }
    printf("%-26s %12.2f %14s %12.2f %9.1f%%\n", "a block", seconds, "", floor,
           100 * floor / seconds);
    printf("%zu blocks: %.3g GPU-hours (floor %.3g)\n", result->kind.shape.blocks,
           model_hours(result, seconds), model_hours(result, floor));
    aq_bench_print_peak(backend);
    if (result->full)
        print_whole(result);
    else
        print_timed_layers(&result->cost);
    print_assumptions(result);
}

static json_t *whole_layers_json(const block_result *result) {
    json_t *layers = json_array();
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        json_array_append_new(layers,
                              json_pack("{ss sf}", "name", result->kind.shape.linears[l].name,
                                        "error", result->whole.layer_errors[l]));
    return layers;
}

static json_t *timed_layers_json(const aq_block_cost *cost) {
    json_t *layers = json_array();
    for (int i = 0; i < cost->layer_count; i++) {
        const aq_layer_cost *layer = &cost->layers[i];
        json_array_append_new(
            layers, json_pack("{sI sI sI sf sf sf sf si}", "out", (json_int_t)layer->out, "in",
                              (json_int_t)layer->in, "count", (json_int_t)layer->count, "kmeans",
                              layer->kmeans, "codebooks", layer->codebooks, "codes", layer->codes,
                              "error", layer->error, "rounds_run", layer->rounds));
    }
    return layers;
}

static json_t *assumptions_json(const block_result *result) {
    const aq_block_subject *of = &result->subject;
    const aq_fit_settings *fit = &of->fit;
    return json_pack("{si si si si si sI sI sI si si si si si sb}", "codebooks",
                     fit->scheme.codebooks, "bits", fit->scheme.bits, "group", fit->scheme.in_group,
                     "out_group", fit->scheme.out_group, "beam", fit->beam, "sequences",
                     (json_int_t)of->sequences, "seqlen", (json_int_t)of->length, "validation",
                     (json_int_t)of->held_out, "kmeans_starts", fit->kmeans_starts,
                     "kmeans_iterations", fit->kmeans_iterations, "rounds", fit->rounds, "epochs",
                     of->epochs, "batch", of->batch, "full", result->full);
}

static void print_json(aq_backend *backend, const char *shape, const block_result *result) {
    double floor, seconds = block_seconds(result, &floor);
    json_t *phases = json_array();
    for (int i = 0; i < AQ_BLOCK_PHASES; i++) {
        const aq_bench_row row = row_of(result, i);
        if (row.seconds > 0)
            json_array_append_new(phases, aq_bench_row_json(&row, &result->machine));
    }
    aq_job_print_json(
        json_pack("{ss so so so sI sf sf sf sf so so}", "shape", shape, "machine",
                  aq_bench_machine_json(backend, &result->machine), "layers",
                  result->full ? whole_layers_json(result) : timed_layers_json(&result->cost),
                  "phases", phases, "blocks", (json_int_t)result->kind.shape.blocks,
                  "block_seconds", seconds, "block_floor_seconds", floor, "gpu_hours",
                  model_hours(result, seconds), "floor_gpu_hours", model_hours(result, floor),
                  "assumptions", assumptions_json(result), "peak_memory",
                  aq_bench_peak_json(backend)),
        JSON_REAL_PRECISION(9));
}

/* ---- the run ---- */

static aq_block_subject subject_of(const block_options *options, const aq_block_kind *kind) {
    const aq_config *config = &options->config;
    aq_block_subject subject = {.kind = kind,
                                .fit = aq_config_fit(config),
                                .sequences = (size_t)config->calibration.sequences,
                                .held_out = (size_t)config->calibration.validation,
                                .length = (size_t)config->calibration.length,
                                .epochs = (int)config->tuning.epochs,
                                .batch = (int)config->tuning.batch,
                                .precision =
                                    config->tuning.precision == AQ_TUNING_HALF ? AQ_HALF : AQ_FAST,
                                .repeats = (int)options->repeats};
    subject.fit.seed = (uint64_t)config->run.seed;
    subject.fit.tolerance = 0;
    return subject;
}

/* What a job on this block would take, and how many lanes it would have. */
static int plan_job(const block_options *options, const aq_model_shape *shape,
                    const aq_backend *backend, size_t *stage_bytes) {
    aq_memory_needs needs;
    aq_config all = options->config;
    all.calibration.sequences += all.calibration.validation;
    const aq_layout layout = {.ranks = 1,
                              .node_ranks = 1,
                              .device_ranks = 1,
                              .team = 1,
                              .cuda = strcmp(aq_backend_name(backend), "cuda") == 0};
    aq_memory_needs_of(shape, &all, &layout, &needs);
    *stage_bytes = aq_needs_compute(&needs);
    return aq_needs_lanes(shape, &all, &layout);
}

static aq_status run_whole(const block_options *options, aq_backend *backend,
                           block_result *result) {
    const aq_progress_plan plan = {.blocks = 1, .workers = 1};
    aq_lanes lanes = {0};
    aq_whole_subject subject = {.block = result->subject,
                                .learning_rate = options->config.tuning.learning_rate,
                                .lanes = &lanes};
    int count = plan_job(options, &result->kind.shape, backend, &subject.stage_bytes);
    aq_status status;
    AQ_STEP(aq_lanes_open(backend, count, &lanes));
    AQ_STEP(aq_progress_begin(&plan, &subject.progress));
    AQ_STEP(aq_time_whole(backend, &subject, &result->whole));
    result->cost = result->whole.block;
done:
    aq_progress_end(subject.progress);
    aq_lanes_close(&lanes);
    return status;
}

static aq_status bench_block(const block_options *options) {
    block_result result = {.full = options->full};
    aq_backend *backend;
    AQ_REQUIRE(options->shape, AQ_INVALID, "bench block: --shape NAME is missing");
    AQ_TRY(aq_synthetic_kind(options->shape, &result.kind));
    result.subject = subject_of(options, &result.kind);
    AQ_TRY(aq_bench_open(options->config.run.backend, &result.machine, &backend));
    aq_status status = options->full ? run_whole(options, backend, &result)
                                     : aq_time_block(backend, &result.subject, &result.cost);
    if (status == AQ_OK && options->json)
        print_json(backend, options->shape, &result);
    else if (status == AQ_OK)
        print_text(backend, &result);
    aq_backend_close(backend);
    return status;
}

static aq_status set_defaults(aq_config *config) {
    for (size_t i = 0; i < sizeof own_defaults / sizeof *own_defaults; i++)
        AQ_TRY(aq_setting_set(aq_setting_find(own_defaults[i][0]), own_defaults[i][1], config));
    return AQ_OK;
}

aq_status aq_bench_block(int argc, char **argv) {
    block_options options = {.repeats = 5};
    AQ_TRY(aq_config_new(&options.config));
    aq_status status = set_defaults(&options.config);
    if (status == AQ_OK) status = aq_job_parse(&block_line, argc, argv, &options);
    if (status == AQ_OK) status = bench_block(&options);
    aq_config_free(&options.config);
    return status;
}
