/* aqlm-mpi bench: finds what is to be measured and hands over. */
#include "bench.h"

#include "jobs.h"

#include <stdio.h>
#include <string.h>

typedef struct bench_part {
    const char *name;
    aq_status (*run)(int argc, char **argv);
} bench_part;

static const bench_part parts[] = {
    {"layer", aq_bench_layer}, {"tune", aq_bench_tune},   {"block", aq_bench_block},
    {"relay", aq_bench_relay}, {"rates", aq_bench_rates}, {"coordinator", aq_bench_coordinator},
};

static error_t parse_nothing(int key, char *argument, struct argp_state *state) {
    (void)key, (void)argument, (void)state;
    return ARGP_ERR_UNKNOWN;
}

static const struct argp bench_line = {
    .parser = parse_nothing,
    .args_doc = "layer|tune|block|relay|rates|coordinator [OPTION...]",
    .doc = "Measures one part of the program: layer: the fit of one linear layer; tune: block "
           "tuning of one sequence; block: a whole block, and the model made of such; "
           "relay: handing activations over between ranks; rates: what plan estimates time from; "
           "coordinator: what it costs to coordinate many ranks. "
           "`aqlm-mpi bench PART --help' tells more.",
};

static const bench_part *find_part(const char *name) {
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].name, name) == 0) return &parts[i];
    return NULL;
}

int aq_job_bench(int argc, char **argv) {
    const bench_part *part = argc > 1 ? find_part(argv[1]) : NULL;
    char name[64];
    if (part) {
        snprintf(name, sizeof name, "aqlm-mpi bench %s", part->name);
        argv[1] = name;
        return part->run(argc - 1, argv + 1) == AQ_OK ? 0 : aq_job_fail();
    }
    if (aq_job_parse(&bench_line, argc, argv, NULL) == AQ_OK)
        AQ_FAIL(AQ_INVALID, "bench: what is to be measured? expected layer, tune, block, relay, "
                            "rates or coordinator");
    return aq_job_fail();
}
