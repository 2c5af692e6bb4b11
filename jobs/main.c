/* aqlm-mpi: finds the command and hands over. */
#include "base/closest.h"
#include "jobs.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *argp_program_version = "aqlm-mpi " AQLM_VERSION;

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} command;

static const command commands[] = {
    {"quantize", aq_job_quantize, "Quantize a model into a run directory"},
    {"plan", aq_job_plan, "Tell what a job will take, before it runs"},
    {"evaluate", aq_job_evaluate, "Print the perplexity of a model"},
    {"status", aq_job_status, "Show where a run stands"},
    {"export", aq_job_export, "Write a quantized model as a Hugging Face AQLM folder"},
    {"bench", aq_job_bench, "Measure a part of the program"},
    {"info", aq_job_info, "Show what a checkpoint holds"},
    {0},
};

enum { COMMANDS = sizeof commands / sizeof *commands - 1 };

static const char *command_name(size_t index) {
    return commands[index].name;
}

/* argp frees what this returns, unless it is `text` itself. */
static char *list_commands(int key, const char *text, void *input) {
    char *list = NULL;
    size_t size = 0;
    (void)input;
    FILE *stream = key == ARGP_KEY_HELP_POST_DOC ? open_memstream(&list, &size) : NULL;
    if (!stream) return (char *)text;
    fputs("Commands:\n", stream);
    for (const command *each = commands; each->name; each++)
        fprintf(stream, "  %-10s %s\n", each->name, each->help);
    fputs("\n`aqlm-mpi COMMAND --help' tells more about each.", stream);
    fclose(stream);
    return list;
}

static error_t parse_nothing(int key, char *argument, struct argp_state *state) {
    (void)key, (void)argument, (void)state;
    return ARGP_ERR_UNKNOWN;
}

static const struct argp top_level = {
    .parser = parse_nothing,
    .args_doc = "COMMAND [ARGUMENT...]",
    .doc = "Quantizes Llama checkpoints to 2-bit AQLM models.",
    .help_filter = list_commands,
};

static int run_command(const command *found, int argc, char **argv) {
    char name[64];
    snprintf(name, sizeof name, "aqlm-mpi %s", found->name);
    argv[0] = name;
    return found->run(argc, argv);
}

static int dispatch(int argc, char **argv) {
    for (const command *each = commands; each->name; each++)
        if (strcmp(each->name, argv[0]) == 0) return run_command(each, argc, argv);
    const char *closest = aq_closest(argv[0], command_name, COMMANDS);
    if (closest)
        AQ_FAIL(AQ_INVALID, "unknown command %s: did you mean %s?", argv[0], closest);
    else
        AQ_FAIL(AQ_INVALID, "unknown command %s: aqlm-mpi --help lists all", argv[0]);
    return aq_job_fail();
}

int main(int argc, char **argv) {
    char name[] = "aqlm-mpi";
    aq_job_catch_map_faults();
    signal(SIGXFSZ,
           SIG_IGN); /* a file that reaches a limit fails to be written: that can be told */
    if (argc > 1 && argv[1][0] != '-') {
        int result = dispatch(argc - 1, argv + 1);
        if (fflush(stdout) == 0 && !ferror(stdout)) return result;
        AQ_FAIL(AQ_IO, "cannot write the results to standard output");
        return aq_job_fail();
    }
    if (argc > 0) argv[0] = name;
    if (aq_job_parse(&top_level, argc, argv, NULL) == AQ_OK)
        AQ_FAIL(AQ_INVALID, "which command? aqlm-mpi --help lists all");
    return aq_job_fail();
}
