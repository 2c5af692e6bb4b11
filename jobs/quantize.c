/* aqlm-mpi quantize: the main job, alone or under mpirun. */
#include "base/log.h"
#include "base/stop.h"
#include "config_options.h"
#include "dist/devices.h"
#include "dist/quantize_run.h"
#include "dist/start_check.h"
#include "jobs.h"
#include "run/config_table.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_SEED = 0x2001, OPTION_OUTPUT, OPTION_PROGRESS, OPTION_BREAK_LOCK, OPTION_RESTART };

typedef struct quantize_options {
    aq_config_options config;
    const char *seed, *output;
    aq_progress_mode progress;
    bool quiet, break_lock;
    aq_restart restart;
} quantize_options;

static const struct argp_option option_list[] = {
    AQ_SET_ROW,
    AQ_BACKEND_ROW,
    {"seed", OPTION_SEED, "N", 0, "Seed of all random numbers (run.seed)", 0},
    {"output", 'o', "DIR", 0, "The run directory (output)", 0},
    {"progress", OPTION_PROGRESS, "MODE", 0, "auto, live or plain (auto)", 0},
    {"restart-block", OPTION_RESTART, "B[,B...]", 0,
     "Redo these blocks of the run (repeatable); --set may give them other settings", 0},
    {"break-lock", OPTION_BREAK_LOCK, NULL, 0,
     "Take the run directory from a job that is dead for certain", 0},
    {"quiet", 'q', NULL, 0, "Show warnings and the summary only", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    quantize_options *options = state->input;
    switch (key) {
    case OPTION_SEED:
        options->seed = argument;
        return 0;
    case 'o':
        options->output = argument;
        return 0;
    case OPTION_PROGRESS:
        return (error_t)aq_progress_parse(argument, &options->progress);
    case OPTION_BREAK_LOCK:
        options->break_lock = true;
        return 0;
    case 'q':
        options->quiet = true;
        return 0;
    case OPTION_RESTART:
        return (error_t)aq_restart_parse(argument, &options->restart);
    default:
        return aq_config_options_take(key, argument, &options->config);
    }
}

/* argp frees what this returns, unless it is `text` itself. */
static char *list_settings(int key, const char *text, void *input) {
    char *list = NULL;
    size_t size = 0;
    (void)input;
    FILE *stream = key == ARGP_KEY_HELP_POST_DOC ? open_memstream(&list, &size) : NULL;
    if (!stream) return (char *)text;
    fputs("Keys of the configuration, each also for --set:\n", stream);
    aq_config_help(stream);
    fclose(stream);
    return list;
}

static const struct argp command_line = {
    .options = option_list,
    .parser = parse_option,
    .args_doc = "CONFIG.yaml",
    .doc = "Quantizes a dense Hugging Face model into a run directory; run again, it goes on where "
           "it was. An option beats --set, which beats the file.",
    .help_filter = list_settings,
};

static aq_status set_option(const char *key, const char *value, aq_config *config) {
    return value ? aq_setting_set(aq_setting_find(key), value, config) : AQ_OK;
}

static aq_status read_config(quantize_options *options, aq_config *config) {
    AQ_TRY(aq_config_options_read(&options->config, "quantize", config));
    AQ_TRY(set_option("run.seed", options->seed, config));
    AQ_TRY(set_option("output", options->output, config));
    AQ_TRY(aq_config_check(config));
    return options->restart.count ? aq_restart_split(config, &options->restart) : AQ_OK;
}

/* The result depends on the backend, so all ranks take the same: CUDA if every one has a device. */
static aq_status resolve_backend(const aq_ranks *ranks, aq_config *config) {
    bool everywhere = aq_ranks_all(ranks, aq_cuda_device_count() > 0);
    if (strcmp(config->run.backend, "auto") != 0) return AQ_OK;
    return set_option("run.backend", everywhere ? "cuda" : "cpu", config);
}

/* Where this rank computes, and how many processes share that: a GPU, or the node. */
static aq_status find_place(const aq_ranks *ranks, const aq_config *config,
                            aq_device_place *place) {
    *place = (aq_device_place){.sharers = ranks->local_size};
    if (strcmp(config->run.backend, "cuda") != 0) return AQ_OK;
    return aq_devices_place(ranks, config->run.share_gpus, place);
}

static aq_layout layout_of(const aq_ranks *ranks, const aq_config *config,
                           const aq_device_place *place) {
    return (aq_layout){.ranks = (size_t)ranks->size,
                       .node_ranks = (size_t)ranks->local_size,
                       .device_ranks = (size_t)place->sharers,
                       .team = (size_t)config->run.team_size,
                       .cuda = strcmp(config->run.backend, "cuda") == 0};
}

static aq_status open_backend(const aq_ranks *ranks, const aq_config *config, int device,
                              aq_backend **backend) {
    omp_set_num_threads(aq_ranks_threads(ranks, config->run.threads));
    return aq_job_backend(config->run.backend, device, backend);
}

static void print_blocks(const aq_schedule *schedule) {
    printf("%-8s %12s %10s %6s\n", "block", "error", "seconds", "rank");
    for (size_t i = 0; i < schedule->settings.blocks; i++) {
        const aq_schedule_entry *entry = &schedule->entries[i];
        if (entry->team == AQ_NOBODY)
            printf("%-8zu %12.6f %10s %6s\n", i, entry->error, "earlier", "");
        else
            printf("%-8zu %12.6f %10.1f %6d\n", i, entry->error, aq_phases_total(&entry->seconds),
                   aq_schedule_lead(schedule, i));
    }
}

static void print_phases(const aq_run_summary *summary) {
    printf("\n%-20s %10s\n", "phase", "seconds");
    for (int phase = 0; phase < AQ_PHASE_COUNT; phase++)
        printf("%-20s %10.1f\n", aq_phase_name((aq_phase)phase), summary->work.seconds[phase]);
    printf("%-20s %10.1f\n", "all blocks together", aq_phases_total(&summary->work));
    printf("%-20s %10.1f\n\n", "start to end", summary->seconds);
}

static void print_ranks(const aq_run_summary *summary) {
    const aq_rank_seconds *ranks = &summary->ranks;
    double total = ranks->forwarding + ranks->waiting + ranks->quantizing;
    double percent = total > 0 ? 100 / total : 0;
    printf("ranks: forwarding %.1f%%, waiting %.1f%%, quantizing %.1f%%; dense forward passes "
           "%.2f\n",
           percent * ranks->forwarding, percent * ranks->waiting, percent * ranks->quantizing,
           summary->dense_forward_passes);
}

static void print_summary(const aq_session *session, const aq_run_summary *summary) {
    const aq_run_directory *directory = &session->directory;
    size_t made = summary->schedule.settings.blocks - summary->earlier;
    if (!summary->gathered) {
        printf("%s is complete already; nothing was done\n", directory->path);
        return;
    }
    print_blocks(&summary->schedule);
    print_phases(summary);
    print_ranks(summary);
    printf("bits per weight: %.4f\n", aq_session_bits(session));
    printf("written: %s and %zu block %s in %s/blocks\n", directory->model_path, made,
           made == 1 ? "file" : "files", directory->path);
}

/* This rank may not be the one that reports errors, but it is the one that knows. */
static void say_lost(void) {
    fprintf(stderr, "aqlm-mpi: error: %s\n", aq_error_text());
}

static aq_status quantize(quantize_options *options, const aq_ranks *ranks, aq_config *config) {
    aq_backend *backend = NULL;
    aq_device_place place;
    aq_teams teams = {0};
    aq_session session = {0};
    aq_run_summary summary = {0};
    const aq_run_options run = {.progress = options->quiet ? NULL : &options->progress,
                                .restart = &options->restart,
                                .break_lock = options->break_lock,
                                .lost = say_lost};
    aq_status status;
    AQ_STEP(aq_ranks_agree(ranks, read_config(options, config)));
    AQ_STEP(aq_start_check(ranks, config));
    AQ_STEP(aq_ranks_agree(ranks, resolve_backend(ranks, config)));
    AQ_STEP(find_place(ranks, config, &place));
    AQ_STEP(aq_ranks_agree(ranks, open_backend(ranks, config, place.device, &backend)));
    const aq_layout layout = layout_of(ranks, config, &place);
    AQ_STEP(aq_ranks_agree(ranks, aq_session_open(config, backend, &layout, &session)));
    AQ_STEP(aq_teams_open(ranks, config->run.team_size, backend, &teams));
    AQ_STEP(aq_ranks_agree(ranks, aq_session_join(&session, &teams.team)));
    AQ_STEP(aq_quantize_run(&teams, &session, &run, &summary));
    if (ranks->rank == 0) print_summary(&session, &summary);
done:
    aq_run_summary_free(&summary);
    aq_session_close(&session);
    aq_teams_close(&teams);
    aq_backend_close(backend);
    return status;
}

static void name_rank(const aq_ranks *ranks) {
    char prefix[32] = "";
    if (ranks->rank > 0) snprintf(prefix, sizeof prefix, "rank %d: ", ranks->rank);
    aq_log_prefix(prefix);
}

static int quantize_on(quantize_options *options, const aq_ranks *ranks) {
    aq_config config;
    aq_log_quiet(options->quiet);
    name_rank(ranks);
    aq_status status = aq_config_new(&config);
    if (status == AQ_OK) status = quantize(options, ranks, &config);
    aq_config_free(&config);
    if (status == AQ_STOPPED) return aq_job_stopped(ranks->size);
    return status == AQ_OK ? 0 : aq_job_fail();
}

/* A faulty command line starts MPI too: ranks that were launched together leave together, or mpirun
 * would end rank 0 before it has said why. */
int aq_job_quantize(int argc, char **argv) {
    quantize_options options = {0};
    aq_ranks ranks;
    aq_stop_catch();
    bool understood = aq_job_parse(&command_line, argc, argv, &options) == AQ_OK;
    bool together = aq_ranks_open(&ranks) == AQ_OK;
    aq_job_catch_map_faults(); /* once more: Open MPI has put its own report in its place */
    int result = understood && together ? quantize_on(&options, &ranks) : aq_job_fail();
    aq_ranks_close();
    aq_restart_free(&options.restart);
    return result;
}
