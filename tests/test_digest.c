#include "base/digest.h"
#include "base/file.h"
#include "base/stop.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static char *path_of(const char *name) {
    char *path;
    AQ_CHECK(aq_file_join(aq_test_folder(), name, &path));
    return path;
}

static char *text_of(const char *path) {
    char *text;
    size_t size;
    AQ_CHECK(aq_file_read(path, 10000, &text, &size));
    return text;
}

/* Makes "NAME.partial" hold `text` and returns its path. */
static char *new_partial(const char *path, const char *text) {
    char *temporary;
    AQ_CHECK(aq_file_temporary(path, &temporary));
    AQ_CHECK(aq_file_write(temporary, text, strlen(text)));
    return temporary;
}

static bool matches(const char *path) {
    bool known;
    aq_status status = aq_digest_verify(path, NULL, &known);
    CU_ASSERT_TRUE(known);
    return status == AQ_OK;
}

static void digests_are_sha256(void) {
    char digest[AQ_DIGEST_SIZE], *path = path_of("abc");
    AQ_CHECK(aq_digest_bytes("abc", 3, digest));
    CU_ASSERT_STRING_EQUAL(digest, ABC);
    AQ_CHECK(aq_file_replace(path, "abc", 3));
    AQ_CHECK(aq_digest_file(path, NULL, digest));
    CU_ASSERT_STRING_EQUAL(digest, ABC);
    AQ_CHECK(aq_file_replace(path, "", 0));
    AQ_CHECK(aq_digest_file(path, NULL, digest));
    CU_ASSERT_STRING_EQUAL(digest, NOTHING);
    free(path);
}

/* 150 MB: three pieces of a tree. */
static void large_files_have_the_digest_of_their_bytes(void) {
    enum { SIZE = 150 * 1000 * 1000 };
    char *path = path_of("large"), *bytes = calloc(SIZE, 1);
    char whole[AQ_DIGEST_SIZE], file[AQ_DIGEST_SIZE], tree[AQ_DIGEST_SIZE], other[AQ_DIGEST_SIZE];
    AQ_CHECK(aq_file_write(path, bytes, SIZE));
    AQ_CHECK(aq_digest_bytes(bytes, SIZE, whole));
    AQ_CHECK(aq_digest_file(path, NULL, file));
    CU_ASSERT_STRING_EQUAL(whole, file);
    AQ_CHECK(aq_digest_tree(path, NULL, tree));
    bytes[SIZE - 1] = 1;
    AQ_CHECK(aq_file_write(path, bytes, SIZE));
    AQ_CHECK(aq_digest_tree(path, NULL, other));
    CU_ASSERT_STRING_NOT_EQUAL(tree, other);
    unlink(path);
    free(bytes);
    free(path);
}

static void a_replaced_file_has_its_digest_beside_it(void) {
    char *path = path_of("kept"), *beside = path_of("kept.sha256");
    AQ_CHECK(aq_digest_replace(path, "older", 5));
    AQ_CHECK(aq_digest_replace(path, "abc", 3));
    char *line = text_of(beside);
    CU_ASSERT_STRING_EQUAL(line, ABC "  kept\n");
    CU_ASSERT_TRUE(matches(path));
    free(line);
    free(path);
    free(beside);
}

static void every_flipped_byte_is_seen(void) {
    char *path = path_of("flipped");
    char text[] = "one sentence";
    bool known;
    AQ_CHECK(aq_digest_replace(path, text, strlen(text)));
    for (size_t i = 0; i < strlen(text); i++) {
        text[i] ^= 4;
        AQ_CHECK(aq_file_write(path, text, strlen(text)));
        AQ_CHECK_FAILS(aq_digest_verify(path, NULL, &known), AQ_FORMAT, "flipped: damaged");
        text[i] ^= 4;
    }
    AQ_CHECK(aq_file_write(path, text, 0));
    AQ_CHECK_FAILS(aq_digest_verify(path, NULL, &known), AQ_FORMAT, "flipped: damaged");
    free(path);
}

static void a_file_without_digest_is_told_from_none(void) {
    char *path = path_of("alone");
    bool known = true;
    AQ_CHECK_FAILS(aq_digest_verify(path, NULL, &known), AQ_MISSING, "alone");
    AQ_CHECK(aq_file_write(path, "x", 1));
    AQ_CHECK(aq_digest_verify(path, NULL, &known));
    CU_ASSERT_FALSE(known);
    free(path);
}

/* A crash between the two renames: the digest names both, and either file matches it. */
static void both_files_match_while_one_replaces_the_other(void) {
    char *path = path_of("pair"), *beside = path_of("pair.sha256");
    AQ_CHECK(aq_digest_replace(path, "old", 3));
    char *old_line = text_of(beside), *temporary = new_partial(path, "new"), *both;
    AQ_CHECK(aq_digest_commit(temporary, path, NULL));
    char *new_line = text_of(beside);
    CU_ASSERT_TRUE(asprintf(&both, "%s%s", new_line, old_line) > 0);
    AQ_CHECK(aq_file_replace(beside, both, strlen(both)));
    CU_ASSERT_TRUE(matches(path));
    AQ_CHECK(aq_file_replace(path, "old", 3));
    CU_ASSERT_TRUE(matches(path));
    AQ_CHECK(aq_file_replace(path, "odd", 3));
    CU_ASSERT_FALSE(matches(path));
    free(both);
    free(old_line);
    free(new_line);
    free(temporary);
    free(beside);
    free(path);
}

static void a_failed_commit_leaves_what_was_there(void) {
    char *path = path_of("stays"), *temporary;
    AQ_CHECK(aq_digest_replace(path, "first", 5));
    AQ_CHECK(aq_file_temporary(path, &temporary));
    CU_ASSERT_NOT_EQUAL(aq_digest_commit(temporary, path, NULL), AQ_OK); /* it is not there */
    CU_ASSERT_TRUE(matches(path));
    free(temporary);
    temporary = new_partial(path, "second");
    aq_stop_request();
    CU_ASSERT_EQUAL(aq_digest_commit(temporary, path, &aq_stop_watch), AQ_STOPPED);
    CU_ASSERT_NOT_EQUAL(access(temporary, F_OK), 0);
    CU_ASSERT_TRUE(matches(path));
    free(temporary);
    free(path);
}

static void files_set_aside_get_names_of_their_own(void) {
    char *path = path_of("bad"), *beside = path_of("bad.sha256"), *first, *second;
    AQ_CHECK(aq_digest_replace(path, "1", 1));
    AQ_CHECK(aq_digest_set_aside(path, "damaged", &first));
    AQ_CHECK(aq_digest_replace(path, "2", 1));
    AQ_CHECK(aq_digest_set_aside(path, "damaged", &second));
    char *one = text_of(first), *two = text_of(second);
    CU_ASSERT_STRING_EQUAL(strrchr(first, '/'), "/bad.damaged");
    CU_ASSERT_STRING_EQUAL(strrchr(second, '/'), "/bad.damaged-2");
    CU_ASSERT_STRING_EQUAL(one, "1");
    CU_ASSERT_STRING_EQUAL(two, "2");
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
    CU_ASSERT_NOT_EQUAL(access(beside, F_OK), 0);
    AQ_CHECK(aq_digest_remove(path));
    free(one);
    free(two);
    free(first);
    free(second);
    free(beside);
    free(path);
}

static const aq_case cases[] = {
    AQ_CASE(digests_are_sha256),
    AQ_CASE(large_files_have_the_digest_of_their_bytes),
    AQ_CASE(a_replaced_file_has_its_digest_beside_it),
    AQ_CASE(every_flipped_byte_is_seen),
    AQ_CASE(a_file_without_digest_is_told_from_none),
    AQ_CASE(both_files_match_while_one_replaces_the_other),
    AQ_CASE(files_set_aside_get_names_of_their_own),
    AQ_CASE(a_failed_commit_leaves_what_was_there), /* last: it asks the process to stop */
};

int main(int argc, char **argv) {
    return aq_test_main("digest", cases, sizeof cases / sizeof *cases, argc, argv);
}
