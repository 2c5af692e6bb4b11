#include "base/file.h"
#include "base/sealed_file.h"
#include "base/write_behind.h"
#include "suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = 512, SIZE = 100000 };

static const char *path_of(const char *name, char path[static PATH]) {
    snprintf(path, PATH, "%s/%s", aq_test_folder(), name);
    return path;
}

static void fill(char *bytes, int seed) {
    for (int i = 0; i < SIZE; i++) bytes[i] = (char)(i * seed >> 3);
}

static bool holds(const char *path, const char *bytes) {
    char *read;
    if (aq_sealed_read(path, SIZE, &read) != AQ_OK) return false;
    bool same = memcmp(read, bytes, SIZE - AQ_SEAL) == 0;
    free(read);
    return same;
}

static void a_sealed_file_reads_back(void) {
    static char bytes[SIZE];
    char path[PATH];
    fill(bytes, 3);
    AQ_CHECK(aq_sealed_write(path_of("sealed", path), bytes, SIZE));
    CU_ASSERT_TRUE(holds(path, bytes));
    fill(bytes, 5);
    CU_ASSERT_FALSE(holds(path, bytes));
    AQ_CHECK(aq_sealed_write(path, bytes, SIZE));
    CU_ASSERT_TRUE(holds(path, bytes));
}

/* Anywhere: in what is sealed, in the seal, or at its end. */
static void a_damaged_one_is_refused(void) {
    static const long places[] = {0, SIZE / 2, SIZE - AQ_SEAL - 1, SIZE - AQ_SEAL, SIZE - 1};
    static char bytes[SIZE];
    char path[PATH], *read;
    path_of("damaged", path);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        AQ_CHECK(aq_sealed_write(path, bytes, SIZE));
        aq_test_flip(path, places[i]);
        AQ_CHECK_FAILS(aq_sealed_read(path, SIZE, &read), AQ_FORMAT, "damaged");
    }
    AQ_CHECK(aq_sealed_write(path, bytes, SIZE));
    AQ_CHECK_FAILS(aq_sealed_read(path, SIZE - 1, &read), AQ_FORMAT, "longer");
    AQ_CHECK_FAILS(aq_sealed_read(path, SIZE + 1, &read), AQ_FORMAT, "expected 100001");
    AQ_CHECK_FAILS(aq_sealed_read(path_of("none", path), SIZE, &read), AQ_MISSING, "none");
}

static void writes_follow_each_other_and_end_with_the_last(void) {
    static char first[SIZE], second[SIZE];
    char path[PATH];
    aq_write_behind behind = {0};
    AQ_CHECK(aq_write_behind_wait(&behind));
    path_of("behind", path);
    fill(second, 11);
    for (int i = 0; i < 20; i++) {
        fill(first, 7 + i);
        AQ_CHECK(aq_write_behind_start(&behind, path, first, SIZE));
        AQ_CHECK(aq_write_behind_start(&behind, path, second, SIZE));
        AQ_CHECK(aq_write_behind_wait(&behind));
        CU_ASSERT_TRUE(holds(path, second));
    }
    aq_write_behind_free(&behind);
}

/* A pipe at the file's temporary name holds the writer up until somebody reads it: were it not
 * written beside, nobody would come to that. */
static void work_goes_on_while_a_file_is_written(void) {
    static char bytes[SIZE];
    char path[PATH], *temporary;
    aq_write_behind behind = {0};
    alarm(60);
    AQ_CHECK(aq_file_temporary(path_of("slow", path), &temporary));
    CU_ASSERT_EQUAL_FATAL(mkfifo(temporary, 0600), 0);
    AQ_CHECK(aq_write_behind_start(&behind, path, bytes, SIZE));
    int pipe = open(temporary, O_RDWR); /* as a writer, too: no end is ever told */
    CU_ASSERT_TRUE_FATAL(pipe >= 0);
    for (ssize_t got = 0, count; got < SIZE; got += count) {
        char read_bytes[4096];
        count = read(pipe, read_bytes, sizeof read_bytes);
        CU_ASSERT_TRUE_FATAL(count > 0);
    }
    AQ_CHECK_FAILS(aq_write_behind_wait(&behind), AQ_IO, "flush"); /* as pipes cannot be */
    close(pipe);
    free(temporary);
    alarm(0);
    aq_write_behind_free(&behind);
}

static void a_failure_is_told_once_and_leaves_the_older_file(void) {
    static char bytes[SIZE];
    char path[PATH], blocked[PATH + 64];
    aq_write_behind behind = {0};
    fill(bytes, 3);
    AQ_CHECK(aq_sealed_write(path_of("older", path), bytes, SIZE));
    snprintf(blocked, sizeof blocked, "%s.%ld.partial", path, (long)getpid());
    CU_ASSERT_EQUAL(mkdir(blocked, 0700), 0);
    AQ_CHECK(aq_write_behind_start(&behind, path, bytes, SIZE));
    AQ_CHECK_FAILS(aq_write_behind_start(&behind, path, bytes, SIZE), AQ_IO, "older");
    AQ_CHECK(aq_write_behind_wait(&behind));
    CU_ASSERT_TRUE(holds(path, bytes));
    CU_ASSERT_EQUAL(rmdir(blocked), 0);
    AQ_CHECK(aq_write_behind_start(&behind, path, bytes, SIZE));
    AQ_CHECK(aq_write_behind_wait(&behind));
    aq_write_behind_free(&behind);
}

static const aq_case cases[] = {
    AQ_CASE(a_sealed_file_reads_back),
    AQ_CASE(a_damaged_one_is_refused),
    AQ_CASE(writes_follow_each_other_and_end_with_the_last),
    AQ_CASE(work_goes_on_while_a_file_is_written),
    AQ_CASE(a_failure_is_told_once_and_leaves_the_older_file),
};

int main(int argc, char **argv) {
    return aq_test_main("write_behind", cases, sizeof cases / sizeof *cases, argc, argv);
}
