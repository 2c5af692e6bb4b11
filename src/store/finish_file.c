#include "store/finish_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

aq_status aq_sync_path(const char *path) {
    int descriptor = open(path, O_RDONLY);
    AQ_REQUIRE(descriptor >= 0, AQ_IO, "%s: cannot be opened: %s", path, strerror(errno));
    int failure = fsync(descriptor) == 0 ? 0 : errno;
    close(descriptor);
    AQ_REQUIRE(!failure, AQ_IO, "%s: cannot be written to the disk: %s", path, strerror(failure));
    return AQ_OK;
}

aq_status aq_finish_file(const char *temporary, const char *path) {
    AQ_TRY(aq_sync_path(temporary));
    AQ_REQUIRE(rename(temporary, path) == 0, AQ_IO, "%s: cannot be renamed to %s: %s", temporary,
               path, strerror(errno));
    char *copy = strdup(path);
    AQ_REQUIRE(copy, AQ_MEMORY, "out of memory");
    aq_status status = aq_sync_path(dirname(copy));
    free(copy);
    return status;
}
