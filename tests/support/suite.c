#include "suite.h"

#include <CUnit/Basic.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Under AddressSanitizer an allocation that cannot be had fails as it does without. Weak, because
 * the emulated backend needs more. */
__attribute__((weak)) const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

static aq_backend *backend;

/* LeakSanitizer asks for these: HDF5 loses some memory over a damaged file, Open MPI always. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5\nleak:libmpi\nleak:libopen-pal\nleak:libopen-rte\nleak:libpmix\n";
}

aq_backend *aq_test_backend(void) {
    return backend;
}

void aq_test_use_backend(aq_backend *other) {
    backend = other;
}

static int skipped;

void aq_test_note_skipped(const char *reason) {
    skipped++;
    printf("skipped: %s; ", reason);
}

/* CU_basic_run_tests returns 0 whatever the assertions say, and a suite whose setup failed has no
 * failed assertions: the failure records hold both. */
int aq_test_main(const char *suite, const aq_case *cases, int count, int argc, char **argv) {
    const char *only = argc > 1 ? argv[argc - 1] : NULL;
    if (only && (strcmp(only, "cpu") == 0 || strcmp(only, "cuda") == 0)) only = NULL;
    if (CU_initialize_registry() != CUE_SUCCESS) return 1;
    CU_pSuite registered = CU_add_suite(suite, NULL, NULL);
    int added = 0;
    for (int i = 0; registered && i < count; i++)
        if (!only || strcmp(only, cases[i].name) == 0)
            added += CU_add_test(registered, cases[i].name, cases[i].run) != NULL;
    CU_basic_set_mode(CU_BRM_VERBOSE);
    bool ran = added > 0 && CU_basic_run_tests() == CUE_SUCCESS;
    bool passed = ran && CU_get_number_of_failure_records() == 0 &&
                  CU_get_number_of_tests_run() == (unsigned)added;
    CU_cleanup_registry();
    if (skipped > 0) printf("skipped: %d of %d cases\n", skipped, added);
    return !passed ? 1 : skipped == added ? 77 : 0;
}

int aq_test_backend_main(const char *suite, const aq_case *cases, int count, int argc,
                         char **argv) {
    bool cuda = argc > 1 && strcmp(argv[1], "cuda") == 0;
    if (cuda && aq_cuda_device_count() == 0) {
        printf("skipped: no CUDA device\n");
        return 77;
    }
    aq_status status = cuda ? aq_cuda_open(0, &backend) : aq_cpu_open(0, &backend);
    if (status != AQ_OK) {
        printf("cannot open the backend: %s\n", aq_error_text());
        return 1;
    }
    int result = aq_test_main(suite, cases, count, argc, argv);
    aq_backend_close(backend);
    return result;
}

aq_tensor aq_test_tensor(aq_dtype dtype, aq_shape shape, const void *host) {
    aq_tensor tensor;
    AQ_CHECK(aq_tensor_new(backend, dtype, shape, &tensor));
    AQ_CHECK(aq_tensor_upload(&tensor, host, aq_tensor_bytes(&tensor)));
    return tensor;
}

void *aq_test_host(const aq_tensor *tensor) {
    void *host = malloc(aq_tensor_bytes(tensor));
    AQ_CHECK(aq_tensor_download(tensor, host, aq_tensor_bytes(tensor)));
    return host;
}

aq_tensor aq_test_normal(aq_shape shape, uint64_t seed) {
    size_t count = 1;
    for (int i = 0; i < shape.ndim; i++) count *= shape.dims[i];
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = (float)aq_random_normal(seed, AQ_STREAM_TEST, i);
    aq_tensor tensor = aq_test_tensor(AQ_F32, shape, values);
    free(values);
    return tensor;
}

static char folder[256];

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk) {
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

static void remove_folder(void) {
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *aq_test_folder(void) {
    if (folder[0]) return folder;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/aqlm-test-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(folder)) abort();
    atexit(remove_folder);
    return folder;
}

const char *aq_test_data(void) {
    return AQLM_TEST_DATA;
}

const char *aq_test_examples(void) {
    return AQLM_TEST_EXAMPLES;
}

const char *aq_test_shared(void) {
    const char *path = getenv("AQLM_SHARED");
    if (!path) path = AQLM_TEST_SHARED;
    return access(path, R_OK) == 0 ? path : NULL;
}

void aq_test_forget_digest(const char *path) {
    char beside[4096];
    snprintf(beside, sizeof beside, "%s.sha256", path);
    unlink(beside);
}

void aq_test_flip(const char *path, long at) {
    FILE *file = fopen(path, "r+b");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    int from = at < 0 ? SEEK_END : SEEK_SET;
    fseek(file, at, from);
    int byte = getc(file);
    fseek(file, at, from);
    putc(byte ^ 1, file);
    fclose(file);
}
