/* Notes what a process has its GPU do, interval by interval. tools/gpu_timeline.py runs a command
 * with it and reads what it writes.
 *
 * The driver loads it into every process that has CUDA_INJECTION64_PATH set to its path. Records go
 * to $GPU_TIMELINE.PID, a line each, times in nanoseconds since 1970:
 *
 *     begin TIME RANK          CUDA was initialized; the rank that mpirun gave, or 0
 *     name ID TEXT             of a kernel, mangled, or of a copy; before its first use
 *     kernel START END ID      likewise "copy" and "fill"
 *     end TIME LOST            the process ended; records that found no room
 */
#include <cupti.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if CUPTI_API_VERSION >= 130000
typedef CUpti_ActivityKernel10 kernel_record;
#else
typedef CUpti_ActivityKernel9 kernel_record;
#endif
typedef CUpti_ActivityMemcpy6 copy_record; /* these have not changed from CUDA 12 to 13 */
typedef CUpti_ActivityMemset4 fill_record;

enum { BUFFER = 8 << 20, NAMES = 1 << 14 };

static struct timeline {
    FILE *file;
    pthread_mutex_t lock; /* CUPTI hands buffers over on a thread of its own */
    int64_t shift;        /* from CUPTI's clock to Unix time */
    uint64_t lost;
    const char *names[NAMES]; /* by the address of their text, which CUPTI keeps */
} timeline = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int64_t unix_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The name's place in the table is its number. */
static unsigned number_of(const char *name) {
    unsigned place = (unsigned)((uintptr_t)name / 8 % NAMES), tried = 0;
    while (timeline.names[place] && timeline.names[place] != name && tried++ < NAMES)
        place = (place + 1) % NAMES;
    if (timeline.names[place] == name || tried > NAMES) return place;
    timeline.names[place] = name;
    fprintf(timeline.file, "name %u %s\n", place, name);
    return place;
}

static void note(const char *kind, uint64_t start, uint64_t end, const char *name) {
    unsigned number = number_of(name);
    fprintf(timeline.file, "%s %" PRId64 " %" PRId64 " %u\n", kind, (int64_t)start + timeline.shift,
            (int64_t)end + timeline.shift, number);
}

static const char *copy_name(unsigned kind) {
    switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
        return "host to device";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
        return "device to host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
        return "device to device";
    default:
        return "another copy";
    }
}

static void note_record(const CUpti_Activity *record) {
    if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
        const copy_record *copy = (const copy_record *)record;
        note("copy", copy->start, copy->end, copy_name(copy->copyKind));
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
        const fill_record *fill = (const fill_record *)record;
        note("fill", fill->start, fill->end, "fill");
    } else if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
        const kernel_record *kernel = (const kernel_record *)record;
        note("kernel", kernel->start, kernel->end, kernel->name ? kernel->name : "unnamed");
    }
}

static void CUPTIAPI give_buffer(uint8_t **buffer, size_t *size, size_t *most_records) {
    *buffer = aligned_alloc(8, BUFFER);
    *size = *buffer ? BUFFER : 0;
    *most_records = 0;
}

static void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size,
                                 size_t used) {
    CUpti_Activity *record = NULL;
    size_t lost = 0;
    (void)size;
    pthread_mutex_lock(&timeline.lock);
    while (timeline.file && cuptiActivityGetNextRecord(buffer, used, &record) == CUPTI_SUCCESS)
        note_record(record);
    if (cuptiActivityGetNumDroppedRecords(context, stream, &lost) == CUPTI_SUCCESS)
        timeline.lost += lost;
    pthread_mutex_unlock(&timeline.lock);
    free(buffer);
}

static void finish(void) {
    int64_t now = unix_time();
    cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    pthread_mutex_lock(&timeline.lock);
    fprintf(timeline.file, "end %" PRId64 " %" PRIu64 "\n", now, timeline.lost);
    if (fclose(timeline.file) != 0) perror("gpu_timeline");
    timeline.file = NULL;
    pthread_mutex_unlock(&timeline.lock);
}

static FILE *open_file(void) {
    const char *path = getenv("GPU_TIMELINE");
    char name[4096];
    snprintf(name, sizeof name, "%s.%ld", path ? path : "gpu_timeline", (long)getpid());
    FILE *file = fopen(name, "w");
    if (!file) perror(name);
    return file;
}

static CUptiResult start(void) {
    const CUpti_ActivityKind kinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                        CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET};
    uint64_t now = 0;
    CUptiResult result = cuptiGetTimestamp(&now);
    timeline.shift = unix_time() - (int64_t)now;
    if (result == CUPTI_SUCCESS) result = cuptiActivityRegisterCallbacks(give_buffer, take_buffer);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && result == CUPTI_SUCCESS; i++)
        result = cuptiActivityEnable(kinds[i]);
    return result;
}

/* The driver's entry. A process that cannot be watched goes on without. */
int InitializeInjection(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *why = "";
    timeline.file = open_file();
    if (!timeline.file) return 1;
    fprintf(timeline.file, "begin %" PRId64 " %s\n", unix_time(), rank ? rank : "0");
    CUptiResult result = start();
    if (result != CUPTI_SUCCESS && cuptiGetResultString(result, &why) == CUPTI_SUCCESS)
        fprintf(stderr, "gpu_timeline: CUPTI does not start: %s\n", why);
    atexit(finish);
    return 1;
}
