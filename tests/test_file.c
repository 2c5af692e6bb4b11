#include "base/file.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *path_of(const char *name) {
    char *path;
    AQ_CHECK(aq_file_join(aq_test_folder(), name, &path));
    return path;
}

static void check_content(const char *path, const char *expected) {
    char *bytes;
    size_t size;
    AQ_CHECK(aq_file_read(path, 1000, &bytes, &size));
    CU_ASSERT_EQUAL(size, strlen(expected));
    CU_ASSERT_STRING_EQUAL(bytes, expected);
    free(bytes);
}

static void file_replace_writes_and_overwrites(void) {
    char *path = path_of("replaced"), *temporary;
    AQ_CHECK(aq_file_replace(path, "one", 3));
    check_content(path, "one");
    AQ_CHECK(aq_file_replace(path, "", 0));
    check_content(path, "");
    AQ_CHECK(aq_file_temporary(path, &temporary));
    CU_ASSERT_NOT_EQUAL(access(temporary, F_OK), 0);
    free(temporary);
    free(path);
}

static void file_replace_leaves_nothing_after_a_failure(void) {
    char *folder = path_of("a-folder"), *inside = path_of("nowhere/file"), *temporary;
    CU_ASSERT_EQUAL_FATAL(mkdir(folder, 0700), 0);
    AQ_CHECK_FAILS(aq_file_replace(folder, "x", 1), AQ_IO, folder);
    AQ_CHECK(aq_file_temporary(folder, &temporary));
    CU_ASSERT_NOT_EQUAL(access(temporary, F_OK), 0);
    AQ_CHECK_FAILS(aq_file_replace(inside, "x", 1), AQ_MISSING, "No such file or directory");
    free(temporary);
    free(inside);
    free(folder);
}

static void file_errors_name_path_and_reason(void) {
    char *path = path_of("absent"), *big = path_of("big"), *bytes;
    size_t size;
    aq_map map;
    AQ_CHECK_FAILS(aq_file_map(path, &map), AQ_MISSING, "absent: cannot open: No such file");
    AQ_CHECK_FAILS(aq_file_read(path, 10, &bytes, &size), AQ_MISSING, "absent: cannot open");
    AQ_CHECK_FAILS(aq_file_map(aq_test_folder(), &map), AQ_IO, "not a regular file");
    AQ_CHECK(aq_file_replace(big, "12345678901", 11));
    AQ_CHECK_FAILS(aq_file_read(big, 10, &bytes, &size), AQ_INVALID,
                   "11 bytes, expected at most 10");
    CU_ASSERT_PTR_NULL(bytes);
    free(big);
    free(path);
}

static void file_pipe_is_refused_without_waiting(void) {
    char *path = path_of("pipe");
    aq_map map;
    CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);
    AQ_CHECK_FAILS(aq_file_map(path, &map), AQ_IO, "not a regular file");
    free(path);
}

static void file_join_adds_one_slash(void) {
    static const char *const folders[] = {"a/b", "a/b/"};
    for (int i = 0; i < 2; i++) {
        char *path;
        AQ_CHECK(aq_file_join(folders[i], "c", &path));
        CU_ASSERT_STRING_EQUAL(path, "a/b/c");
        free(path);
    }
}

/* KB of mapped files that are in memory for this process. */
static long resident_files(void) {
    char line[128];
    long result = -1;
    FILE *facts = fopen("/proc/self/status", "r");
    while (facts && fgets(line, sizeof line, facts))
        if (sscanf(line, "RssFile: %ld", &result) == 1) break;
    if (facts) fclose(facts);
    return result;
}

static void file_forget_gives_memory_back_and_keeps_the_bytes(void) {
    enum { SIZE = 16 << 20 };
    char *path = path_of("mapped"), *bytes = malloc(SIZE);
    aq_map map;
    for (int i = 0; i < SIZE; i++) bytes[i] = (char)(i * 31 >> 3);
    AQ_CHECK(aq_file_replace(path, bytes, SIZE));
    AQ_CHECK(aq_file_map(path, &map));
    CU_ASSERT_EQUAL(map.size, SIZE);
    CU_ASSERT_EQUAL(memcmp(map.bytes, bytes, SIZE), 0);
    long before = resident_files();
    aq_file_forget(map.bytes + 1, SIZE - 1);
    CU_ASSERT_TRUE(before < 0 || resident_files() < before - SIZE / 1024 / 2);
    CU_ASSERT_EQUAL(memcmp(map.bytes, bytes, SIZE), 0);
    aq_file_unmap(&map);
    free(bytes);
    free(path);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(file_replace_writes_and_overwrites),
                                    AQ_CASE(file_replace_leaves_nothing_after_a_failure),
                                    AQ_CASE(file_errors_name_path_and_reason),
                                    AQ_CASE(file_pipe_is_refused_without_waiting),
                                    AQ_CASE(file_join_adds_one_slash),
                                    AQ_CASE(file_forget_gives_memory_back_and_keeps_the_bytes)};
    return aq_test_main("file", cases, sizeof cases / sizeof *cases, argc, argv);
}
