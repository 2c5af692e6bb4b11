#include "base/launch.h"

#include <stddef.h>
#include <stdlib.h>

static const char *launcher; /* NULL: none */
static int rank;

/* Read before main: MPI_Init sets the same variables in a process that nobody launched. */
__attribute__((constructor)) static void read_environment(void) {
    static const char *const variables[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"};
    const char *others = getenv("SLURM_PROCID") ? "srun" : "mpiexec";
    for (size_t i = 0; i < sizeof variables / sizeof *variables && !launcher; i++) {
        const char *text = getenv(variables[i]);
        if (!text) continue;
        launcher = i == 0 ? "mpirun" : others;
        rank = (int)strtol(text, NULL, 10);
    }
}

int aq_launch_rank(void) {
    return rank;
}

bool aq_launched(void) {
    return launcher != NULL;
}

const char *aq_launcher(void) {
    return launcher;
}
