#include "run/room.h"

#include "base/memory.h"

#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static double gigabytes(size_t bytes) {
    return (double)bytes * 1e-9;
}

/* A team's members hold different sequences: between teams boundaries are shared, inside not. */
size_t aq_room_host_boundaries(const aq_memory_needs *needs, const aq_layout *layout,
                               bool resident) {
    size_t ranks = layout->node_ranks, members = layout->team < ranks ? layout->team : ranks;
    if (resident) return layout->ranks > layout->team ? ranks * needs->boundary : 0;
    return (ranks + members) * needs->boundary;
}

static aq_status require(size_t needed, size_t free_bytes, size_t processes, const char *what,
                         const aq_memory_needs *needs) {
    AQ_REQUIRE(needed <= free_bytes, AQ_MEMORY,
               "quantizing needs about %.2f GB of %s memory (the weights of a block %.2f, "
               "activations at one boundary %.2f) for %zu %s, but %.2f GB are free; fewer "
               "processes a node, a lower calibration.sequences or calibration.length, or a higher "
               "run.team_size need less",
               gigabytes(needed), what, gigabytes(needs->weights), gigabytes(needs->boundary),
               processes, processes == 1 ? "process" : "processes", gigabytes(free_bytes));
    return AQ_OK;
}

aq_status aq_room_check_memory(const aq_memory_needs *needs, const aq_layout *layout,
                               const aq_config *config, aq_backend *backend,
                               size_t *activation_bytes) {
    size_t free_bytes, total, processes = layout->device_ranks, compute = aq_needs_compute(needs);
    size_t node = layout->node_ranks, host = aq_needs_host_compute(needs);
    AQ_TRY(aq_backend_memory(backend, &free_bytes, &total));
    *activation_bytes = SIZE_MAX;
    if (strcmp(aq_backend_name(backend), "cpu") == 0)
        return require(node * host + aq_room_host_boundaries(needs, layout, false), free_bytes,
                       node, "host", needs);

    size_t budget = (size_t)config->run.device_memory * 1000 * 1000, both = 2 * needs->boundary;
    *activation_bytes = budget ? budget : free_bytes / processes / 2;
    bool resident = both <= *activation_bytes;
    AQ_TRY(require(processes * (compute + (resident ? both : 0)), free_bytes, processes,
                   aq_backend_name(backend), needs));
    AQ_TRY(aq_host_memory("", &free_bytes, &total));
    host = node * needs->saving + aq_room_host_boundaries(needs, layout, resident);
    return require(host, free_bytes, node, "host", needs);
}

size_t aq_room_on_disk(const char *path) {
    char *folder = strdup(path), *above = folder;
    if (!folder) return SIZE_MAX;
    while (access(above, F_OK) != 0 && strcmp(above, ".") != 0 && strcmp(above, "/") != 0)
        above = dirname(above);
    struct statvfs found;
    bool known = statvfs(above, &found) == 0 && found.f_blocks > 0; /* /proc has none */
    free(folder);
    return known ? (size_t)found.f_bavail * found.f_frsize : SIZE_MAX;
}

aq_status aq_room_check_disk(size_t bytes, const char *path) {
    size_t room = aq_room_on_disk(path);
    AQ_REQUIRE(bytes <= room, AQ_IO,
               "%s: the run's files need about %.2f GB, but its file system has %.2f GB left", path,
               gigabytes(bytes), gigabytes(room));
    return AQ_OK;
}
