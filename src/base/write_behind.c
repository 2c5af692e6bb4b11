#include "base/write_behind.h"

#include "base/sealed_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An error's text belongs to the thread that met it: it is carried over. */
static void *write_it(void *state) {
    aq_write_behind *self = state;
    self->status = aq_sealed_write(self->path, self->bytes, self->size);
    if (self->status != AQ_OK) snprintf(self->text, sizeof self->text, "%s", aq_error_text());
    return NULL;
}

static void join(aq_write_behind *behind) {
    if (behind->busy) pthread_join(behind->thread, NULL);
    behind->busy = false;
    free(behind->path);
    behind->path = NULL;
}

aq_status aq_write_behind_start(aq_write_behind *behind, const char *path, void *bytes,
                                size_t size) {
    AQ_TRY(aq_write_behind_wait(behind));
    behind->path = strdup(path);
    AQ_REQUIRE(behind->path, AQ_MEMORY, "out of memory");
    behind->bytes = bytes;
    behind->size = size;
    behind->busy = pthread_create(&behind->thread, NULL, write_it, behind) == 0;
    if (!behind->busy) write_it(behind); /* no thread to be had: slower, no worse */
    return AQ_OK;
}

aq_status aq_write_behind_wait(aq_write_behind *behind) {
    join(behind);
    aq_status status = behind->status;
    behind->status = AQ_OK;
    return status == AQ_OK ? AQ_OK : AQ_FAIL(status, "%s", behind->text);
}

void aq_write_behind_free(aq_write_behind *behind) {
    join(behind);
    behind->status = AQ_OK;
}
