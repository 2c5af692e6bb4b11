#include "base/launch.h"

#include <stddef.h>
#include <stdlib.h>

static const char *rank_text(void) {
    static const char *const variables[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (getenv(variables[i])) return getenv(variables[i]);
    return NULL;
}

int aq_launch_rank(void) {
    const char *text = rank_text();
    return text ? (int)strtol(text, NULL, 10) : 0;
}

bool aq_launched(void) {
    return rank_text() != NULL;
}
