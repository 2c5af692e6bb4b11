/* What every command needs: its command line, its error line, its backend. */
#include "base/launch.h"
#include "jobs.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_USAGE = 0x10001, STATUS_STOPPED = 75 /* EX_TEMPFAIL of sysexits.h */ };

typedef struct command_line {
    void *input;
    const char *bad_option;
} command_line;

static const struct argp_option added_options[] = {
    {"help", '?', NULL, 0, "Give this help", -1},
    {"usage", OPTION_USAGE, NULL, 0, "Give a short usage message", -1},
    {"version", 'V', NULL, 0, "Print the program's version", -1},
    {0},
};

/* argp is silent about everything, help included, while NO_ERRS is set. */
static void print_help(struct argp_state *state, unsigned what) {
    state->flags &= ~(unsigned)ARGP_NO_ERRS;
    argp_state_help(state, stdout, what | ARGP_HELP_EXIT_OK);
}

/* In "-ab" argp stands before the word, otherwise behind it. */
static const char *last_word(const struct argp_state *state) {
    const char *word = state->argv[state->next - 1];
    return word[0] == '-' || state->next == state->argc ? word : state->argv[state->next];
}

static error_t parse_added(int key, char *argument, struct argp_state *state) {
    command_line *line = state->input;
    (void)argument;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = line->input;
        return 0;
    case '?':
        print_help(state, ARGP_HELP_STD_HELP);
        return 0;
    case OPTION_USAGE:
        print_help(state, ARGP_HELP_USAGE);
        return 0;
    case 'V':
        puts(argp_program_version);
        exit(0);
    case ARGP_KEY_ERROR:
        line->bad_option = last_word(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

aq_status aq_job_parse(const struct argp *argp, int argc, char **argv, void *input) {
    const struct argp_child job[] = {{.argp = argp}, {0}};
    const struct argp whole = {added_options, parse_added, .children = job};
    command_line line = {.input = input};
    int next = argc;
    error_t error = argp_parse(&whole, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, &next, &line);
    AQ_REQUIRE(error != ENOMEM, AQ_MEMORY, "out of memory while reading the command line");
    AQ_REQUIRE(error != EINVAL, AQ_INVALID,
               "option %s is unknown, ambiguous or lacks its value; %s --help lists all",
               line.bad_option, argv[0]);
    if (error) return (aq_status)error;
    AQ_REQUIRE(next == argc, AQ_INVALID, "unexpected argument %s; %s --help shows the usage",
               argv[next], argv[0]);
    return AQ_OK;
}

aq_status aq_job_number_of(const char *option, const char *text, long least, long most,
                           long *number) {
    char *end;
    *number = strtol(text, &end, 10);
    AQ_REQUIRE(end != text && !*end && *number >= least && *number <= most, AQ_INVALID,
               "%s: expected an integer from %ld to %ld, found \"%s\"", option, least, most, text);
    return AQ_OK;
}

aq_status aq_job_real_of(const char *option, const char *text, double most, double *number) {
    char *end;
    *number = strtod(text, &end);
    AQ_REQUIRE(end != text && !*end && *number > 0 && *number <= most, AQ_INVALID,
               "%s: expected a number above 0 and up to %g, found \"%s\"", option, most, text);
    return AQ_OK;
}

json_t *aq_job_number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

void aq_job_print_json(json_t *object, size_t flags) {
    char *text = json_dumps(object, flags | JSON_ENCODE_ANY);
    puts(text ? text : "null");
    free(text);
    json_decref(object);
}

int aq_job_fail(void) {
    if (aq_launch_rank() == 0) fprintf(stderr, "aqlm-mpi: error: %s\n", aq_error_text());
    return 1;
}

static bool needs_quotes(const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_-+=.,:/@%";
    return !*word || word[strspn(word, plain)];
}

/* As a shell reads it back: 'it'\''s'. */
static void print_word(const char *word) {
    if (!needs_quotes(word)) {
        fputs(word, stderr);
        return;
    }
    putc('\'', stderr);
    for (; *word; word++) fputs(*word == '\'' ? "'\\''" : (char[]){*word, 0}, stderr);
    putc('\'', stderr);
}

/* As it was typed: main has put the command's name in the place of argv[0]. */
static void print_command_line(void) {
    char *word = NULL;
    size_t size = 0;
    FILE *words = fopen("/proc/self/cmdline", "re");
    while (words && getdelim(&word, &size, 0, words) > 0) {
        putc(' ', stderr);
        print_word(word);
    }
    free(word);
    if (words) fclose(words);
}

int aq_job_stopped(int ranks) {
    if (aq_launch_rank() != 0) return STATUS_STOPPED;
    fprintf(stderr, "aqlm-mpi: %s; to go on:", aq_error_text());
    if (aq_launched()) fprintf(stderr, " %s -n %d", aq_launcher(), ranks);
    print_command_line();
    putc('\n', stderr);
    return STATUS_STOPPED;
}

static aq_status open_cuda(int device, aq_backend **backend) {
    int devices = aq_cuda_device_count();
    return aq_cuda_open(devices ? device % devices : 0, backend);
}

aq_status aq_job_backend(const char *name, int device, aq_backend **backend) {
    if (!name || strcmp(name, "auto") == 0) name = aq_cuda_device_count() ? "cuda" : "cpu";
    if (strcmp(name, "cpu") == 0) return aq_cpu_open(0, backend);
    if (strcmp(name, "cuda") == 0) return open_cuda(device, backend);
    return AQ_FAIL(AQ_INVALID, "backend %s is unknown: expected auto, cpu or cuda", name);
}
