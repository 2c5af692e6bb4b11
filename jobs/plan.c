/* aqlm-mpi plan: what a quantize job will take, from its settings and the model's config.json. */
#include "plan.h"

#include "base/file.h"
#include "base/memory.h"
#include "config_options.h"
#include "jobs.h"
#include "model/source.h"
#include "run/config_table.h"
#include "run/room.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPTION_RANKS = 0x2001,
    OPTION_NODE_RANKS,
    OPTION_GPU,
    OPTION_RATES,
    OPTION_NODE_MEMORY,
    MOST_RANKS = 1 << 20,
    MOST_GIGABYTES = 1 << 30,
    MOST_CONFIG = 1 << 24
};

/* Open MPI's memory in a process, which a plan does without. */
static const size_t mpi_bytes = (size_t)12 << 20;

typedef struct plan_options {
    aq_config_options config;
    const char *gpu, *rates;
    long ranks, node_ranks; /* 0: not given */
    double node_memory;     /* GB; 0: not given */
    bool json;
} plan_options;

static const struct argp_option option_list[] = {
    {"ranks", OPTION_RANKS, "R", 0, "Processes of the job (1)", 0},
    {"ranks-per-node", OPTION_NODE_RANKS, "N", 0, "Of them on one node (all, at most 8)", 0},
    {"gpu", OPTION_GPU, "NAME", 0, "Plan for this GPU: h100, h200, a100 or a longer name", 0},
    {"rates", OPTION_RATES, "FILE", 0, "Rates that `aqlm-mpi bench rates --out FILE' measured", 0},
    {"node-memory", OPTION_NODE_MEMORY, "GB", 0, "Host memory of a node (this machine's)", 0},
    AQ_SET_ROW,
    AQ_BACKEND_ROW,
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    plan_options *options = state->input;
    switch (key) {
    case OPTION_RANKS:
        return (error_t)aq_job_number_of("--ranks", argument, 1, MOST_RANKS, &options->ranks);
    case OPTION_NODE_RANKS:
        return (error_t)aq_job_number_of("--ranks-per-node", argument, 1, MOST_RANKS,
                                         &options->node_ranks);
    case OPTION_NODE_MEMORY:
        return (error_t)aq_job_real_of("--node-memory", argument, MOST_GIGABYTES,
                                       &options->node_memory);
    case OPTION_GPU:
        options->gpu = argument;
        return 0;
    case OPTION_RATES:
        options->rates = argument;
        return 0;
    case 'j':
        options->json = true;
        return 0;
    default:
        return aq_config_options_take(key, argument, &options->config);
    }
}

static const struct argp command_line = {
    .options = option_list,
    .parser = parse_option,
    .args_doc = "CONFIG.yaml",
    .doc =
        "Tells what a quantize job will take: memory of GPUs and nodes, disk, network and time; "
        "and what does not fit, and which setting to change. Needs no GPU, and of the model only "
        "config.json. Exits with 1 if it does not fit.",
};

/* ---- the subject ---- */

static aq_status read_config(const plan_options *options, aq_config *config) {
    aq_config_options given = options->config;
    if (options->gpu && !given.backend) given.backend = "cuda";
    AQ_TRY(aq_config_options_read(&given, "plan", config));
    return aq_config_check(config);
}

static aq_status read_shape(const char *model, aq_model_shape *shape) {
    char *path, *text;
    size_t size;
    AQ_REQUIRE(asprintf(&path, "%s/config.json", model) >= 0, AQ_MEMORY, "out of memory");
    aq_status status = aq_file_read(path, MOST_CONFIG, &text, &size);
    if (status == AQ_OK) {
        status = aq_model_shape_parse(text, size, shape);
        if (status != AQ_OK) aq_error_at(status, "%s", path);
        free(text);
    }
    free(path);
    return status;
}

static void find_missing(aq_plan_subject *subject) {
    aq_source *source;
    if (aq_dense_source_open(subject->config.model, &source) == AQ_OK)
        aq_source_close(source);
    else
        snprintf(subject->missing, sizeof subject->missing, "the model's weights: %s",
                 aq_error_text());
    if (!subject->missing[0] && access(subject->config.calibration.tokens, R_OK) != 0)
        snprintf(subject->missing, sizeof subject->missing, "the calibration tokens: %s",
                 subject->config.calibration.tokens);
}

/* ---- the machine ---- */

static aq_status rates_of_this_gpu(aq_rates *rates) {
    aq_backend *backend;
    char name[AQ_DEVICE_NAME];
    AQ_TRY(aq_cuda_open(0, &backend));
    aq_backend_device(backend, name, sizeof name);
    aq_backend_close(backend);
    return aq_rates_built_in(name, rates);
}

/* A GPU is planned for where one is named, asked for or there. */
static aq_status find_rates(const plan_options *options, const char *backend,
                            aq_plan_subject *subject) {
    aq_rates *rates = &subject->machine.rates;
    bool cuda = strcmp(backend, "cuda") == 0, cpu = strcmp(backend, "cpu") == 0;
    subject->rates_from = options->rates ? options->rates : "built-in rates";
    AQ_REQUIRE(!cpu || !options->gpu, AQ_INVALID, "--gpu %s does not go with run.backend cpu",
               options->gpu);
    AQ_REQUIRE(!options->gpu || !options->rates, AQ_INVALID,
               "--gpu and --rates both say what the machine is: give one");
    if (options->rates)
        AQ_TRY(aq_rates_read(options->rates, rates));
    else if (options->gpu)
        AQ_TRY(aq_rates_built_in(options->gpu, rates));
    else if (!cpu && aq_cuda_device_count() > 0)
        AQ_TRY(rates_of_this_gpu(rates));
    else
        AQ_TRY(aq_rates_built_in(cuda ? "h100" : "cpu", rates));
    AQ_REQUIRE(strcmp(backend, "auto") == 0 || strcmp(backend, rates->backend) == 0, AQ_INVALID,
               "run.backend is %s, but the rates are those of %s (%s)", backend, rates->device,
               rates->backend);
    return AQ_OK;
}

static aq_status find_machine(const plan_options *options, aq_plan_subject *subject) {
    aq_plan_machine *machine = &subject->machine;
    size_t free_bytes, total;
    AQ_TRY(find_rates(options, subject->config.run.backend, subject));
    AQ_TRY(aq_host_memory("", &free_bytes, &total));
    machine->node_memory =
        options->node_memory > 0 ? (size_t)(1e9 * options->node_memory) : free_bytes;
    machine->disk_room = aq_room_on_disk(subject->config.output);
    bool cuda = strcmp(machine->rates.backend, "cuda") == 0;
    machine->process =
        mpi_bytes + (cuda ? (size_t)machine->rates.process_memory : aq_host_memory_peak());
    return AQ_OK;
}

static aq_layout layout_of(const plan_options *options, const aq_plan_subject *subject) {
    size_t ranks = options->ranks ? (size_t)options->ranks : 1;
    size_t node = options->node_ranks ? (size_t)options->node_ranks : 8;
    bool cuda = strcmp(subject->machine.rates.backend, "cuda") == 0;
    if (node > ranks) node = ranks;
    return (aq_layout){.ranks = ranks,
                       .node_ranks = node,
                       .device_ranks = cuda ? 1 : node,
                       .team = (size_t)subject->config.run.team_size,
                       .cuda = cuda};
}

static aq_status make_plan(const plan_options *options, aq_plan_subject *subject, aq_plan *plan) {
    AQ_TRY(read_config(options, &subject->config));
    AQ_TRY(read_shape(subject->config.model, &subject->shape));
    find_missing(subject);
    AQ_TRY(find_machine(options, subject));
    const aq_layout layout = layout_of(options, subject);
    return aq_plan_make(&subject->shape, &subject->config, &layout, &subject->machine, plan);
}

int aq_job_plan(int argc, char **argv) {
    plan_options options = {0};
    aq_plan_subject subject = {0};
    aq_plan plan;
    if (aq_job_parse(&command_line, argc, argv, &options) != AQ_OK) return aq_job_fail();
    aq_status status = aq_config_new(&subject.config);
    if (status == AQ_OK) status = make_plan(&options, &subject, &plan);
    if (status == AQ_OK)
        options.json ? aq_plan_print_json(&subject, &plan) : aq_plan_print(&subject, &plan);
    aq_config_free(&subject.config);
    if (status != AQ_OK) return aq_job_fail();
    return aq_plan_fits(&plan) ? 0 : 1;
}
