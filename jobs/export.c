/* aqlm-mpi export: a gathered checkpoint as a Hugging Face AQLM folder. */
#include "store/export.h"
#include "jobs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct export_options {
    const char *model, *out;
    size_t shard_bytes;
} export_options;

static const struct argp_option option_list[] = {
    {"out", 'o', "DIR", 0, "The folder to make; it must be new or empty", 0},
    {"shard-size", 's', "SIZE", 0, "Bytes of tensors a file at most, as in 500MB or 5GB (5GB)", 0},
    {0},
};

/* Sizes are decimal: GB = 10^9. */
static aq_status parse_size(const char *text, size_t *bytes) {
    static const struct {
        const char *name;
        size_t factor;
    } units[] = {{"", 1},         {"B", 1},           {"KB", 1000},
                 {"MB", 1000000}, {"GB", 1000000000}, {"TB", 1000000000000}};
    char *unit;
    errno = 0;
    unsigned long long number = strtoull(text, &unit, 10);
    bool valid = unit != text && text[0] != '-' && errno == 0;
    for (size_t i = 0; valid && i < sizeof units / sizeof *units; i++)
        if (strcmp(unit, units[i].name) == 0 &&
            !__builtin_mul_overflow(number, units[i].factor, bytes) && *bytes > 0)
            return AQ_OK;
    return AQ_FAIL(AQ_INVALID,
                   "--shard-size: expected a size as in 5GB, 500MB or 1000000, found %s", text);
}

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    export_options *options = state->input;
    switch (key) {
    case 'o':
        options->out = argument;
        return 0;
    case 's':
        return (error_t)parse_size(argument, &options->shard_bytes);
    case ARGP_KEY_ARG:
        if (options->model) return ARGP_ERR_UNKNOWN;
        options->model = argument;
        return 0;
    case ARGP_KEY_END:
        if (options->model && options->out) return 0;
        return (error_t)AQ_FAIL(AQ_INVALID, "expected MODEL.aqlm.h5 --out DIR");
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp command_line = {
    .options = option_list,
    .parser = parse_option,
    .args_doc = "MODEL.aqlm.h5",
    .doc = "Writes MODEL.aqlm.h5 as a Hugging Face AQLM folder, which transformers opens.",
};

int aq_job_export(int argc, char **argv) {
    export_options options = {.shard_bytes = 5000000000};
    aq_status status = aq_job_parse(&command_line, argc, argv, &options);
    if (status == AQ_OK) status = aq_export(options.model, options.out, options.shard_bytes);
    if (status != AQ_OK) return aq_job_fail();
    printf("wrote %s\n", options.out);
    return 0;
}
