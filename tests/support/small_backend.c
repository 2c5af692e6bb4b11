#include "small_backend.h"

#include "suite.h"

#include <malloc.h>

static aq_small_backend *self_of(aq_backend *backend) {
    return (aq_small_backend *)backend;
}

static aq_status allocate(aq_backend *backend, size_t bytes, void **data) {
    aq_small_backend *self = self_of(backend);
    *data = NULL;
    AQ_REQUIRE(self->used + bytes <= self->limit, AQ_MEMORY, "the small backend is full");
    AQ_TRY(self->cpu->ops->allocate(self->cpu, bytes, data));
    self->used += malloc_usable_size(*data);
    if (self->used > self->peak) self->peak = self->used;
    return AQ_OK;
}

static void release(aq_backend *backend, void *data) {
    aq_small_backend *self = self_of(backend);
    self->used -= malloc_usable_size(data);
    self->cpu->ops->release(self->cpu, data);
}

void aq_small_backend_open(size_t limit, aq_small_backend *made) {
    *made = (aq_small_backend){.limit = limit};
    AQ_CHECK(aq_cpu_open(0, &made->cpu));
    made->ops = *made->cpu->ops;
    made->ops.allocate = allocate;
    made->ops.release = release;
    made->backend = *made->cpu;
    made->backend.ops = &made->ops;
}

void aq_small_backend_close(aq_small_backend *made) {
    CU_ASSERT_EQUAL(made->used, 0);
    aq_backend_close(made->cpu);
}
