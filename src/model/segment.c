#include "model/segment.h"

#include "base/log.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* In front of the data, on a page of its own. */
typedef struct header {
    unsigned char token[AQ_SEGMENT_TOKEN];
    atomic_uint readers; /* other processes that map it */
} header;

enum { PAGE = 4096, HEADER = PAGE, PIECE = 64 << 20 };

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* Gives the mapping its pages, by all threads: one alone takes seconds for some gigabytes. */
static int populate(const aq_segment *segment, int how) {
    char *start = (char *)segment->data - HEADER;
    size_t bytes = (HEADER + segment->bytes + PAGE - 1) / PAGE * PAGE;
    size_t pieces = (bytes - 1) / PIECE + 1;
    int failure = 0;
#pragma omp parallel for schedule(dynamic) reduction(max : failure) if (pieces > 1)
    for (size_t i = 0; i < pieces; i++) {
        size_t size = i + 1 < pieces ? PIECE : bytes - i * PIECE;
        int mine;
        do mine = madvise(start + i * PIECE, size, how) == 0 ? 0 : errno;
        while (mine == EINTR || mine == EAGAIN);
        failure = mine > failure ? mine : failure;
    }
    return failure;
}

/* All pages are made now: memory that is missing is an error here, not a signal at its first use.
 */
static int make_pages(const aq_segment *segment) {
    madvise((char *)segment->data - HEADER, HEADER + segment->bytes, MADV_HUGEPAGE);
    int failure = populate(segment, MADV_POPULATE_WRITE);
    if (failure != EINVAL) return failure;
    return posix_fallocate(segment->file, 0, (off_t)(HEADER + segment->bytes)); /* Linux < 5.14 */
}

/* The kernel would take everybody's memory before it says that there is not enough. */
static aq_status check_room(size_t bytes) {
    size_t free_bytes, total;
    AQ_TRY(aq_host_memory("", &free_bytes, &total));
    AQ_REQUIRE(bytes <= free_bytes, AQ_MEMORY,
               "activations need %.3f GB of host memory, but only %.3f of %.3f GB are free",
               1e-9 * (double)bytes, 1e-9 * (double)free_bytes, 1e-9 * (double)total);
    return AQ_OK;
}

void aq_segment_pin(aq_segment *segment) {
    if (segment->pinned) return;
    segment->pinned = aq_host_pin(segment->backend, segment->data, segment->bytes) == AQ_OK;
    if (!segment->pinned)
        aq_log_warn("activations are moved slowly: their %.3f GB of host memory cannot be pinned "
                    "(%s)",
                    1e-9 * (double)segment->bytes, aq_error_text());
}

static int map_file(aq_segment *segment) {
    void *start =
        mmap(NULL, HEADER + segment->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment->file, 0);
    if (start == MAP_FAILED) return errno;
    segment->data = (char *)start + HEADER;
    return 0;
}

static header *header_of(const aq_segment *segment) {
    return (header *)((char *)segment->data - HEADER);
}

static int make(aq_segment *segment) {
    segment->file = memfd_create("aqlm-activations", MFD_CLOEXEC);
    if (segment->file < 0) return errno;
    int failure = ftruncate(segment->file, (off_t)(HEADER + segment->bytes)) == 0 ? 0 : errno;
    if (!failure) failure = map_file(segment);
    if (!failure) failure = make_pages(segment);
    if (!failure && getrandom(header_of(segment)->token, AQ_SEGMENT_TOKEN, 0) != AQ_SEGMENT_TOKEN)
        failure = errno;
    if (failure) aq_segment_free(segment);
    return failure;
}

aq_status aq_segment_new(aq_backend *backend, size_t bytes, aq_segment *segment) {
    *segment = (aq_segment){0};
    AQ_TRY(check_room(bytes));
    *segment = (aq_segment){.backend = backend, .bytes = bytes, .file = -1};
    int failure = make(segment);
    AQ_REQUIRE(!failure, AQ_MEMORY, "%.3f GB of host memory for activations cannot be had: %s",
               1e-9 * (double)bytes, strerror(failure));
    return AQ_OK;
}

struct aq_segment_maker {
    pthread_t thread;
    aq_backend *backend;
    size_t bytes;
    aq_segment segment;
};

static void *run_maker(void *state) {
    aq_segment_maker *self = state;
    (void)aq_segment_new(self->backend, self->bytes, &self->segment);
    return NULL;
}

aq_segment_maker *aq_segment_begin(aq_backend *backend, size_t bytes) {
    aq_segment_maker *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    *self = (aq_segment_maker){.backend = backend, .bytes = bytes};
    if (pthread_create(&self->thread, NULL, run_maker, self) == 0) return self;
    free(self);
    return NULL;
}

void aq_segment_end(aq_segment_maker *maker, aq_segment *segment) {
    *segment = (aq_segment){0};
    if (!maker) return;
    pthread_join(maker->thread, NULL);
    *segment = maker->segment;
    free(maker);
}

bool aq_segment_is_read(const aq_segment *segment) {
    return segment->data && (segment->shared || atomic_load(&header_of(segment)->readers) > 0);
}

void aq_segment_free(aq_segment *segment) {
    if (segment->data && segment->pinned) aq_host_unpin(segment->backend, segment->data);
    if (segment->data && segment->shared) atomic_fetch_sub(&header_of(segment)->readers, 1);
    if (segment->data) munmap(header_of(segment), HEADER + segment->bytes);
    if (segment->bytes && segment->file >= 0) close(segment->file);
    *segment = (aq_segment){0};
}

aq_status aq_segment_describe(const aq_segment *segment, aq_segment_name *name) {
    struct stat found;
    AQ_REQUIRE(fstat(segment->file, &found) == 0, AQ_IO, "a segment of activations is lost: %s",
               strerror(errno));
    *name = (aq_segment_name){.process = (long)getpid(),
                              .file = segment->file,
                              .device = (uint64_t)found.st_dev,
                              .inode = (uint64_t)found.st_ino,
                              .bytes = segment->bytes};
    memcpy(name->token, header_of(segment)->token, AQ_SEGMENT_TOKEN);
    return AQ_OK;
}

static bool is_named(int file, const aq_segment_name *name) {
    struct stat found;
    return fstat(file, &found) == 0 && (uint64_t)found.st_dev == name->device &&
           (uint64_t)found.st_ino == name->inode && (uint64_t)found.st_size == HEADER + name->bytes;
}

/* The mapping holds the memory; the descriptor is not needed behind it. */
static bool map_named(const aq_segment_name *name, aq_segment *segment) {
    if (!is_named(segment->file, name) || map_file(segment) != 0) return false;
    close(segment->file);
    segment->file = -1;
    if (memcmp(header_of(segment)->token, name->token, AQ_SEGMENT_TOKEN) != 0) return false;
    atomic_fetch_add(&header_of(segment)->readers, 1);
    segment->shared = true;
    (void)populate(segment, MADV_POPULATE_READ); /* else its first use does */
    return true;
}

aq_status aq_segment_map(aq_backend *backend, const aq_segment_name *name, aq_segment *segment) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/%d", name->process, name->file);
    *segment = (aq_segment){.backend = backend, .bytes = name->bytes};
    segment->file = open(path, O_RDWR | O_CLOEXEC);
    int failure = segment->file < 0 ? errno : 0;
    if (segment->file < 0 || !map_named(name, segment)) {
        aq_segment_free(segment);
        return AQ_FAIL(AQ_MISSING, "%s: not the memory that was named%s%s", path,
                       failure ? ": " : "", failure ? strerror(failure) : "");
    }
    return AQ_OK;
}
