/* Host memory under control groups: fake /proc and /sys trees. */
#include "base/memory.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char root[512];

/* Writes `text` as ROOT/path, making its folders. */
static void put(const char *path, const char *text) {
    char command[2048];
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s/%s')\" && printf '%s' >'%s/%s'",
             root, path, text, root, path);
    CU_ASSERT_EQUAL_FATAL(system(command), 0);
}

/* A machine with 1000 MB, of which 800 are free. */
static void start(const char *name) {
    snprintf(root, sizeof root, "%s/%s", aq_test_folder(), name);
    put("proc/meminfo", "MemTotal: 1024000 kB\\nMemFree: 1 kB\\nMemAvailable: 819200 kB\\n");
}

enum { MIB = 1 << 20 };

static void check(size_t free_mib, size_t total_mib) {
    size_t free_bytes = 0, total_bytes = 0;
    AQ_CHECK(aq_host_memory(root, &free_bytes, &total_bytes));
    CU_ASSERT_EQUAL(free_bytes / MIB, free_mib);
    CU_ASSERT_EQUAL(total_bytes / MIB, total_mib);
}

static void put_group(const char *folder, const char *limit, const char *usage, const char *stat) {
    char path[256];
    bool second = strstr(folder, "/memory") == NULL;
    snprintf(path, sizeof path, "%s/%s", folder, second ? "memory.max" : "memory.limit_in_bytes");
    put(path, limit);
    snprintf(path, sizeof path, "%s/%s", folder,
             second ? "memory.current" : "memory.usage_in_bytes");
    put(path, usage);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    put(path, stat);
}

static void without_groups_it_is_the_machines(void) {
    start("plain");
    check(800, 1000);
}

static void a_group_of_version_2_limits(void) {
    start("v2");
    put("proc/self/cgroup", "0::/slurm/job_7/step_0\\n");
    put_group("sys/fs/cgroup/slurm/job_7/step_0", "314572800", "104857600", "anon 1\\n");
    check(200, 300);
}

static void the_tightest_group_on_the_way_up_counts(void) {
    start("up");
    put("proc/self/cgroup", "0::/slurm/job_7/step_0\\n");
    put_group("sys/fs/cgroup/slurm/job_7/step_0", "max", "104857600", "");
    put_group("sys/fs/cgroup/slurm/job_7", "209715200", "188743680", "");
    put_group("sys/fs/cgroup/slurm", "524288000", "104857600", "");
    check(20, 200);
}

static void cached_files_are_free(void) {
    start("caches");
    put("proc/self/cgroup", "0::/box\\n");
    put_group("sys/fs/cgroup/box", "314572800", "293601280",
              "anon 5\\ninactive_file 104857600\\nactive_file 52428800\\n");
    check(170, 300);
}

static void a_group_of_version_1_limits(void) {
    start("v1");
    put("proc/self/cgroup", "9:name=systemd:/\\n4:cpu,memory:/slurm/uid_0/job_7\\n0::/\\n");
    put_group("sys/fs/cgroup/memory/slurm/uid_0/job_7", "419430400", "209715200",
              "total_inactive_file 52428800\\ntotal_active_file 0\\n");
    put_group("sys/fs/cgroup/memory", "9223372036854771712", "1048576000", "");
    check(250, 400);
}

static void a_container_that_sees_only_its_own_root(void) {
    start("container");
    put("proc/self/cgroup", "4:memory:/docker/0702f138\\n");
    put_group("sys/fs/cgroup/memory", "104857600", "10485760", "");
    check(90, 100);
}

static void a_group_over_its_limit_has_nothing_left(void) {
    start("over");
    put("proc/self/cgroup", "0::/box\\n");
    put_group("sys/fs/cgroup/box", "104857600", "209715200", "");
    check(0, 100);
}

static void a_machine_that_says_nothing_is_an_error(void) {
    size_t free_bytes, total_bytes;
    AQ_CHECK_FAILS(aq_host_memory("/not/there", &free_bytes, &total_bytes), AQ_FORMAT,
                   "/not/there/proc/meminfo");
    AQ_CHECK(aq_host_memory("", &free_bytes, &total_bytes));
    CU_ASSERT(free_bytes > 0 && free_bytes <= total_bytes);
    CU_ASSERT(aq_host_memory_peak() > MIB);
    CU_ASSERT(aq_host_memory_held() > MIB);
    CU_ASSERT(aq_host_memory_held() <= aq_host_memory_peak() + MIB);
}

static const aq_case cases[] = {
    {"without_groups_it_is_the_machines", without_groups_it_is_the_machines},
    {"a_group_of_version_2_limits", a_group_of_version_2_limits},
    {"the_tightest_group_on_the_way_up_counts", the_tightest_group_on_the_way_up_counts},
    {"cached_files_are_free", cached_files_are_free},
    {"a_group_of_version_1_limits", a_group_of_version_1_limits},
    {"a_container_that_sees_only_its_own_root", a_container_that_sees_only_its_own_root},
    {"a_group_over_its_limit_has_nothing_left", a_group_over_its_limit_has_nothing_left},
    {"a_machine_that_says_nothing_is_an_error", a_machine_that_says_nothing_is_an_error},
};

int main(int argc, char **argv) {
    return aq_test_main("memory", cases, sizeof cases / sizeof *cases, argc, argv);
}
