/* What every CUnit suite shares: one main, one backend, one temporary folder, data of the tests.
 */
#ifndef AQ_TESTS_SUITE_H
#define AQ_TESTS_SUITE_H

#include "base/random.h"
#include "tensor/ops.h"

#include <CUnit/CUnit.h>

typedef struct aq_case {
    const char *name; /* a statement: "kmeans_takes_the_lowest_index_on_ties" */
    void (*run)(void);
} aq_case;

/* {"name", name}: a case named like its function. */
#define AQ_CASE(function)                                                                          \
    { #function, function }

/* Leaves a case that has nothing to judge here, saying why. */
#define AQ_SKIP_IF(condition, reason)                                                              \
    do {                                                                                           \
        if (condition) {                                                                           \
            aq_test_note_skipped(reason);                                                          \
            return;                                                                                \
        }                                                                                          \
    } while (0)
void aq_test_note_skipped(const char *reason);

/* Runs the cases and returns main's exit status: 0 only if every assertion of every case passed; 77
 * (ctest: skipped) if nothing failed and every case was skipped. `argv[1]` may name one case (or
 * "cpu" / "cuda" in suites with a backend, then argv[2] the case).
 */
int aq_test_main(const char *suite, const aq_case *cases, int count, int argc, char **argv);

/* The same for suites that compute: opens the backend that argv[1] names (cpu without one); exits
 * with 77 where "cuda" cannot be had. */
int aq_test_backend_main(const char *suite, const aq_case *cases, int count, int argc, char **argv);

/* The suite's backend; and another one in its place, the caller's to close. */
aq_backend *aq_test_backend(void);
void aq_test_use_backend(aq_backend *backend);

/* Asserts success and prints the error's text otherwise. */
#define AQ_CHECK(call)                                                                             \
    do {                                                                                           \
        aq_status aq_check_status = (call);                                                        \
        if (aq_check_status != AQ_OK) printf("\n    %s: %s\n", #call, aq_error_text());            \
        CU_ASSERT_EQUAL_FATAL(aq_check_status, AQ_OK);                                             \
    } while (0)

/* Asserts failure with this code and a text that contains `part`. */
#define AQ_CHECK_FAILS(call, code, part)                                                           \
    do {                                                                                           \
        CU_ASSERT_EQUAL((call), (code));                                                           \
        if (!strstr(aq_error_text(), (part))) printf("\n    text: %s\n", aq_error_text());         \
        CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), (part)));                                   \
    } while (0)

/* F32 tensor of normal numbers (stream AQ_STREAM_TEST, index from 0). */
aq_tensor aq_test_normal(aq_shape shape, uint64_t seed);

/* A tensor made from / read into host memory (malloc'd by the callee for `host`). */
aq_tensor aq_test_tensor(aq_dtype dtype, aq_shape shape, const void *host);
void *aq_test_host(const aq_tensor *tensor);

/* An empty folder of this process under TMPDIR, removed at exit; the folders tests/data and
 * examples; the folder of larger models (AQLM_SHARED or ../shared beside the checkout), NULL where
 * it is missing. */
const char *aq_test_folder(void);

/* Removes PATH.sha256: who changes a file on purpose asks what its reader says without it. */
void aq_test_forget_digest(const char *path);

/* Turns a bit of the byte at `at` (from the end if negative) of a file, which must be there. */
void aq_test_flip(const char *path, long at);

const char *aq_test_data(void);
const char *aq_test_examples(void);
const char *aq_test_shared(void);

#endif
