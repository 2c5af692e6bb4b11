#include "dist/start_check.h"

#include "base/digest.h"
#include "dist/polling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_SIZE = 64 };

/* What rank 0 has, and everybody gets to see. */
typedef struct start {
    char host[HOST_SIZE];
    char program[AQ_DIGEST_SIZE];
    size_t size; /* of its settings as text, with the end */
} start;

static aq_status describe(const aq_config *config, start *mine, char **settings) {
    FILE *stream = open_memstream(settings, &mine->size);
    AQ_REQUIRE(stream, AQ_MEMORY, "out of memory");
    aq_status status = aq_config_write(config, stream);
    fclose(stream);
    mine->size++;
    gethostname(mine->host, sizeof mine->host - 1);
    if (status == AQ_OK) status = aq_digest_file("/proc/self/exe", NULL, mine->program);
    return status;
}

static void pass_on(void *bytes, size_t size) {
    MPI_Request request;
    MPI_Ibcast(bytes, (int)size, MPI_BYTE, 0, MPI_COMM_WORLD, &request);
    aq_polling_wait(&request);
}

/* The two lines that differ first, the second one behind the first. */
static aq_status tell_difference(const start *mine, const char *settings, const char *theirs) {
    while (*settings && *settings == *theirs) settings++, theirs++;
    while (settings[-1] != '\n' && theirs[-1] != '\n') settings--, theirs--;
    settings += strspn(settings, " "), theirs += strspn(theirs, " ");
    return AQ_FAIL(
        AQ_INVALID, "on host %s: other settings than rank 0's, \"%.*s\" instead of \"%.*s\"",
        mine->host, (int)strcspn(settings, "\n"), settings, (int)strcspn(theirs, "\n"), theirs);
}

/* Room for a line break before the text, where looking back ends. */
static aq_status compare(const start *mine, const start *first, const char *settings,
                         const char *theirs) {
    AQ_REQUIRE(strcmp(mine->program, first->program) == 0, AQ_INVALID,
               "on host %s: another program file than rank 0's on host %s", mine->host,
               first->host);
    return strcmp(settings, theirs) == 0 ? AQ_OK : tell_difference(mine, settings, theirs);
}

aq_status aq_start_check(const aq_ranks *ranks, const aq_config *config) {
    start mine = {0}, first;
    char *settings = NULL, *theirs = NULL, *own = NULL;
    aq_status status;
    AQ_STEP(aq_ranks_agree(ranks, describe(config, &mine, &settings)));
    first = mine;
    pass_on(&first, sizeof first);
    theirs = malloc(first.size + 1), own = malloc(mine.size + 1);
    AQ_STEP(aq_ranks_agree(ranks, theirs && own ? AQ_OK : AQ_FAIL(AQ_MEMORY, "out of memory")));
    theirs[0] = own[0] = '\n';
    memcpy(own + 1, settings, mine.size);
    memcpy(theirs + 1, settings, mine.size < first.size ? mine.size : first.size);
    pass_on(theirs + 1, first.size);
    AQ_STEP(aq_ranks_agree(ranks, compare(&mine, &first, own + 1, theirs + 1)));
done:
    free(settings), free(theirs), free(own);
    return status;
}
