#include "base/memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

/* What the two versions of control groups call the same things. */
typedef struct group_version {
    const char *folder; /* where the memory controller is mounted */
    const char *limit, *usage;
    const char
        *caches[2]; /* lines of memory.stat: pages of files, which are given up when needed */
} group_version;

static const group_version version_1 = {"sys/fs/cgroup/memory",
                                        "memory.limit_in_bytes",
                                        "memory.usage_in_bytes",
                                        {"total_inactive_file", "total_active_file"}};
static const group_version version_2 = {
    "sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file", "active_file"}};

/* The number behind `name` in a file of lines "name number"; false if there is none. */
static bool read_line_number(const char *path, const char *name, size_t *number) {
    char line[256], found[128];
    bool known = false;
    FILE *file = fopen(path, "re");
    while (file && !known && fgets(line, sizeof line, file))
        known = sscanf(line, "%127s %zu", found, number) == 2 && strcmp(found, name) == 0;
    if (file) fclose(file);
    return known;
}

/* False for a limit "max", too. */
static bool read_number(const char *path, size_t *number) {
    FILE *file = fopen(path, "re");
    bool known = file && fscanf(file, "%zu", number) == 1;
    if (file) fclose(file);
    return known;
}

static void path_in(char path[PATH_SIZE], const char *folder, const char *name) {
    if (snprintf(path, PATH_SIZE, "%s/%s", folder, name) >= PATH_SIZE) path[0] = 0;
}

static void apply_limit(const group_version *version, const char *folder, size_t *free_bytes,
                        size_t *total_bytes) {
    char path[PATH_SIZE];
    size_t limit, usage, cached, caches = 0;
    path_in(path, folder, version->limit);
    if (!read_number(path, &limit)) return;
    path_in(path, folder, version->usage);
    if (!read_number(path, &usage)) return;
    path_in(path, folder, "memory.stat");
    for (int i = 0; i < 2; i++)
        if (read_line_number(path, version->caches[i], &cached)) caches += cached;
    usage -= caches < usage ? caches : usage;
    size_t left = usage < limit ? limit - usage : 0;
    if (left < *free_bytes) *free_bytes = left;
    if (limit < *total_bytes) *total_bytes = limit;
}

/* A container may not see the upper folders of its own path: what is not there sets no limit. */
static void walk_up(const char *root, const group_version *version, char *group, size_t *free_bytes,
                    size_t *total_bytes) {
    char folder[PATH_SIZE];
    for (;;) {
        if (snprintf(folder, sizeof folder, "%s/%s%s", root, version->folder, group) < PATH_SIZE)
            apply_limit(version, folder, free_bytes, total_bytes);
        char *last = strrchr(group, '/');
        if (!last) return;
        *last = 0;
    }
}

static bool lists_memory(char *controllers) {
    char *rest = NULL;
    for (char *name = strtok_r(controllers, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        if (strcmp(name, "memory") == 0) return true;
    return false;
}

/* Lines "number:controllers:/path"; version 2 has number 0 and no controllers. */
static void apply_groups(const char *root, size_t *free_bytes, size_t *total_bytes) {
    char path[PATH_SIZE], line[PATH_SIZE];
    path_in(path, root, "proc/self/cgroup");
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'),
             *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        if (!*++controllers)
            walk_up(root, &version_2, group, free_bytes, total_bytes);
        else if (lists_memory(controllers))
            walk_up(root, &version_1, group, free_bytes, total_bytes);
    }
    if (file) fclose(file);
}

aq_status aq_host_memory(const char *root, size_t *free_bytes, size_t *total_bytes) {
    char path[PATH_SIZE];
    path_in(path, root, "proc/meminfo");
    /* MemAvailable counts caches that the kernel gives up, which sysinfo does not. */
    bool known = read_line_number(path, "MemTotal:", total_bytes) &&
                 read_line_number(path, "MemAvailable:", free_bytes);
    AQ_REQUIRE(known, AQ_FORMAT, "%s has no MemTotal and MemAvailable", path);
    *total_bytes *= 1024;
    *free_bytes *= 1024;
    apply_groups(root, free_bytes, total_bytes);
    return AQ_OK;
}

size_t aq_host_memory_peak(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? 1024 * (size_t)usage.ru_maxrss : 0;
}

size_t aq_host_memory_held(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    size_t mapped, held = 0;
    if (!file) return 0;
    if (fscanf(file, "%zu %zu", &mapped, &held) != 2) held = 0;
    fclose(file);
    return held * (size_t)sysconf(_SC_PAGESIZE);
}
