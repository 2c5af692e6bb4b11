/* aqlm-mpi bench tune: one sequence's way through a block in tuning. */
#include "bench.h"
#include "bench_table.h"
#include "jobs.h"
#include "model/parameters.h"
#include "run/config_table.h"
#include "run/synthetic.h"

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
    {"shape", OPTION_SHAPE, "NAME", 0, "Of the block: llama-2-7b or llama-2-70b", 0},
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

/* ---- what is timed ---- */

enum { PHASES = 5 };

typedef struct subject {
    aq_model_shape shape;
    aq_block block;
    aq_coded_block coded;
    aq_parameters parameters;
    aq_tape tape;
    aq_tensor x, y;
    size_t length;
    aq_machine machine;
    aq_bench_row rows[PHASES];
} subject;

static aq_status forward(void *state) {
    subject *self = state;
    return aq_block_forward(&self->block, 1, self->length, &self->x, &self->tape, NULL, &self->y);
}

static aq_status forward_backward(void *state) {
    subject *self = state;
    AQ_TRY(forward(state));
    return aq_block_backward(&self->block, 1, self->length, &self->tape, &self->y,
                             &self->parameters.grad);
}

static aq_status decode(void *state) {
    subject *self = state;
    return aq_coded_block_decode(&self->coded, &self->block);
}

static aq_status update(void *state) {
    subject *self = state;
    const aq_adam_step step = {1e-6f, 0.9f, 0.95f, 1e-8f, 1};
    AQ_TRY(aq_parameters_step(&self->parameters, &step, aq_team_alone()));
    return aq_parameters_zero_grad(&self->parameters);
}

static aq_status make_subject(const tune_options *options, aq_backend *backend, subject *self) {
    const aq_scheme *scheme = &options->config.quantizer.scheme;
    aq_shape rows = AQ_DIMS(self->length, self->shape.hidden);
    AQ_TRY(aq_synthetic_block(backend, &self->shape, self->length, AQ_FAST, &self->block));
    AQ_TRY(aq_synthetic_coded(backend, &self->shape, scheme, &self->coded));
    AQ_TRY(aq_parameters_new(&self->coded, &self->block, &self->parameters));
    AQ_TRY(aq_tape_new(&self->shape, 1, self->length, backend, &self->tape));
    AQ_TRY(aq_synthetic_normal(backend, rows, 1, 0, &self->x));
    return aq_tensor_new(backend, AQ_F32, rows, &self->y);
}

static void free_subject(subject *self) {
    aq_parameters_free(&self->parameters);
    aq_block_free(&self->block);
    aq_coded_block_free(&self->coded);
    aq_tape_free(&self->tape);
    aq_tensor_free(&self->x);
    aq_tensor_free(&self->y);
}

static aq_status time_phases(const tune_options *options, aq_backend *backend, subject *self) {
    static const struct {
        const char *name;
        aq_timed call;
    } phases[] = {{"decode", decode},
                  {"forward", forward},
                  {"forward + backward", forward_backward},
                  {"gradients and Adam", update}};
    const aq_scheme *scheme = &options->config.quantizer.scheme;
    const aq_work ahead = aq_work_forward(&self->shape, self->length);
    const aq_work back = aq_work_backward(&self->shape, self->length);
    const aq_work work[] = {aq_work_decode(&self->shape, scheme),
                            ahead,
                            {.halves = ahead.halves + back.halves},
                            aq_work_update(&self->shape, scheme)};
    aq_bench_row *rows = self->rows;
    for (int i = 0; i < 4; i++) {
        rows[i] = (aq_bench_row){.phase = phases[i].name, .work = work[i]};
        AQ_TRY(
            aq_time_median(backend, phases[i].call, self, (int)options->repeats, &rows[i].seconds));
    }
    rows[4] = (aq_bench_row){"backward", rows[2].seconds - rows[1].seconds, back};
    return AQ_OK;
}

/* ---- results ---- */

static void print_json(aq_backend *backend, const tune_options *options, const subject *self) {
    json_t *rows = json_array();
    for (int i = 0; i < PHASES; i++)
        json_array_append_new(rows, aq_bench_row_json(&self->rows[i], &self->machine));
    aq_job_print_json(json_pack("{ss sI so so so}", "shape", options->shape, "seqlen",
                                (json_int_t)options->length, "machine",
                                aq_bench_machine_json(backend, &self->machine), "phases", rows,
                                "peak_memory", aq_bench_peak_json(backend)),
                      JSON_REAL_PRECISION(9));
}

static void print_text(aq_backend *backend, const subject *self) {
    aq_bench_print_head(backend, &self->machine);
    for (int i = 0; i < PHASES; i++) aq_bench_print_row(&self->rows[i], &self->machine);
    aq_bench_print_peak(backend);
}

static aq_status run(const tune_options *options, aq_backend *backend, subject *self) {
    AQ_TRY(aq_machine_measure(backend, &self->machine));
    AQ_TRY(make_subject(options, backend, self));
    AQ_TRY(time_phases(options, backend, self));
    if (options->json)
        print_json(backend, options, self);
    else
        print_text(backend, self);
    return AQ_OK;
}

static aq_status bench_tune(const tune_options *options) {
    subject self = {.length = (size_t)options->length};
    aq_backend *backend;
    AQ_REQUIRE(options->shape, AQ_INVALID, "bench tune: --shape NAME is missing");
    AQ_TRY(aq_synthetic_shape(options->shape, &self.shape));
    AQ_TRY(aq_job_backend(options->config.run.backend, 0, &backend));
    aq_status status = run(options, backend, &self);
    free_subject(&self);
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
