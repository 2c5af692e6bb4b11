#include "base/launch.h"

#include <stddef.h>
#include <stdlib.h>

static bool launched;
static int rank;

/* Read before main: MPI_Init sets the same variables in a process that nobody launched. */
__attribute__((constructor)) static void read_environment(void) {
    static const char *const variables[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables && !launched; i++) {
        const char *text = getenv(variables[i]);
        launched = text != NULL;
        rank = text ? (int)strtol(text, NULL, 10) : 0;
    }
}

int aq_launch_rank(void) {
    return rank;
}

bool aq_launched(void) {
    return launched;
}
