#include "base/file.h"
#include "base/map_table.h"
#include "jobs.h"
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 1 << 16 };

static const char *new_file(void) {
    static char path[512];
    static const char zeros[BYTES];
    snprintf(path, sizeof path, "%s/mapped", aq_test_folder());
    AQ_CHECK(aq_file_write(path, zeros, BYTES));
    return path;
}

/* What a child does, and how it ends. */
typedef void (*deed)(const char *path);

typedef struct outcome {
    int status; /* as of waitpid */
    char text[1024];
} outcome;

static outcome outcome_of(deed act, const char *path) {
    outcome result = {0};
    int ends[2];
    fflush(stdout);
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        aq_job_catch_map_faults();
        act(path);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t count;
         (count = read(ends[0], result.text + length, sizeof result.text - 1 - length)) > 0;)
        length += (size_t)count;
    close(ends[0]);
    CU_ASSERT_EQUAL(waitpid(child, &result.status, 0), child);
    return result;
}

static int last_byte(const aq_map *map) {
    return *(const volatile unsigned char *)(map->bytes + map->size - 1);
}

static void read_what_was_cut(const char *path) {
    aq_map map;
    if (aq_file_map(path, &map) != AQ_OK || last_byte(&map) != 0) _exit(7);
    if (truncate(path, 100) != 0) _exit(8);
    last_byte(&map);
}

static void a_truncated_file_is_one_line_with_its_path(void) {
    const char *path = new_file();
    char expected[1024];
    snprintf(
        expected, sizeof expected,
        "aqlm-mpi: error: a file that is being read was truncated or its storage failed (%s)\n",
        path);
    outcome result = outcome_of(read_what_was_cut, path);
    CU_ASSERT_TRUE(WIFEXITED(result.status) && WEXITSTATUS(result.status) == 1);
    CU_ASSERT_STRING_EQUAL(result.text, expected);
}

static void read_what_was_forgotten(const char *path) {
    aq_map map;
    if (aq_file_map(path, &map) != AQ_OK) _exit(7);
    aq_map_forget(map.bytes);
    if (truncate(path, 100) != 0) _exit(8);
    last_byte(&map);
}

static void a_file_that_is_not_noted_has_no_path(void) {
    outcome result = outcome_of(read_what_was_forgotten, new_file());
    CU_ASSERT_TRUE(WIFEXITED(result.status) && WEXITSTATUS(result.status) == 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(result.text, "storage failed\n"));
}

/* The table has room again for each. */
static void map_many(const char *path) {
    aq_map map;
    for (int i = 0; i < 5000; i++) {
        if (aq_file_map(path, &map) != AQ_OK) _exit(7);
        aq_file_unmap(&map);
    }
    read_what_was_cut(path);
}

static void unmapped_files_are_forgotten(void) {
    const char *path = new_file();
    CU_ASSERT_PTR_NOT_NULL(strstr(outcome_of(map_many, path).text, path));
}

static void raise_it(const char *path) {
    (void)path;
    raise(SIGBUS);
}

static void a_signal_from_outside_still_kills(void) {
    outcome result = outcome_of(raise_it, NULL);
    CU_ASSERT_TRUE(WIFSIGNALED(result.status) && WTERMSIG(result.status) == SIGBUS);
    CU_ASSERT_STRING_EQUAL(result.text, "");
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(a_truncated_file_is_one_line_with_its_path),
        AQ_CASE(a_file_that_is_not_noted_has_no_path),
        AQ_CASE(unmapped_files_are_forgotten),
        AQ_CASE(a_signal_from_outside_still_kills),
    };
    return aq_test_main("map_fault", cases, sizeof cases / sizeof *cases, argc, argv);
}
