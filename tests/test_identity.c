#include "base/file.h"
#include "checkpoint.h"
#include "coded_model.h"
#include "run/identity.h"
#include "suite.h"
#include "tensor/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *make_on(const aq_backend *machine, const char *backend, uint64_t tokens,
                     const char *known) {
    const aq_identity_facts facts = {
        .model = aq_test_tied_model(), .tokens = tokens, .backend = backend, .machine = machine};
    char *text = NULL;
    AQ_CHECK(aq_identity_make(&facts, known, &text));
    return text;
}

static char *make(const char *backend, uint64_t tokens, const char *known) {
    return make_on(aq_test_backend(), backend, tokens, known);
}

static void equal_contents_are_the_same_run(void) {
    char *one = make("cpu", 5, NULL), *two = make("cpu", 5, NULL), *three = make("cpu", 6, NULL);
    char key[AQ_IDENTITY_KEY_SIZE], other[AQ_IDENTITY_KEY_SIZE];
    AQ_CHECK(aq_identity_same("there", one, two));
    AQ_CHECK_FAILS(aq_identity_same("there", one, three), AQ_INVALID,
                   "there: the run was made with another calibration.tokens (0000000000000005; now "
                   "0000000000000006)");
    aq_identity_key(one, key);
    aq_identity_key(two, other);
    CU_ASSERT_STRING_EQUAL(key, other);
    CU_ASSERT_PTR_NOT_NULL(strstr(key, "calibration.tokens 0000000000000005\nrun.backend cpu\n"));
    free(one);
    free(two);
    free(three);
}

/* A text that claims other contents for a file of the same size and time is believed. */
static void files_are_read_again_only_if_size_or_time_changed(void) {
    char *text = make("cpu", 5, NULL), *name = strstr(text, " model.safetensors");
    CU_ASSERT_PTR_NOT_NULL_FATAL(name);
    char *line = name;
    while (strncmp(line, "\nfile ", 6) != 0) line--;
    char kept = line[6];
    line[6] = kept == '0' ? '1' : '0';
    char *believed = make("cpu", 5, text), *fresh = make("cpu", 5, NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(believed, line));
    AQ_CHECK_FAILS(aq_identity_same("there", believed, fresh), AQ_INVALID, "another model");
    char *time = name - 1;
    *time = *time == '0' ? '1' : '0';
    char *read = make("cpu", 5, text);
    AQ_CHECK(aq_identity_same("there", fresh, read));
    free(text);
    free(believed);
    free(fresh);
    free(read);
}

static void another_machine_is_told_and_the_first_one_remembered(void) {
    char was[AQ_IDENTITY_LINE], is[AQ_IDENTITY_LINE];
    char *text = make("cpu", 5, NULL);
    CU_ASSERT_FALSE(aq_identity_moved(text, aq_test_backend(), was, is));
    char *kernels = strstr(text, "machine.kernels ");
    CU_ASSERT_PTR_NOT_NULL_FATAL(kernels);
    memcpy(kernels + strlen("machine.kernels "), "Strange", 7);
    CU_ASSERT_TRUE(aq_identity_moved(text, aq_test_backend(), was, is));
    CU_ASSERT_EQUAL(strncmp(was, "Strange", 7), 0);
    CU_ASSERT_STRING_EQUAL(is, aq_backend_kernels(aq_test_backend()));
    char *again = make("cpu", 5, text);
    CU_ASSERT_STRING_EQUAL(again, text);
    free(text);
    free(again);
}

static void say_h100(const aq_backend *backend, char *name, size_t size) {
    (void)backend;
    snprintf(name, size, "NVIDIA H100 80GB HBM3");
}

static void say_h200(const aq_backend *backend, char *name, size_t size) {
    (void)backend;
    snprintf(name, size, "NVIDIA H200");
}

/* Two GPU models that no other fact tells apart. */
static const aq_ops h100_ops = {.device = say_h100}, h200_ops = {.device = say_h200};
static const aq_backend h100 = {.name = "cuda", .kernels = "same", .ops = &h100_ops};
static const aq_backend h200 = {.name = "cuda", .kernels = "same", .ops = &h200_ops};

static void another_gpu_is_told_by_its_name(void) {
    char was[AQ_IDENTITY_LINE], is[AQ_IDENTITY_LINE];
    char *text = make_on(&h100, "cuda", 5, NULL), *again = make_on(&h200, "cuda", 5, text);
    CU_ASSERT_FALSE(aq_identity_moved(text, &h100, was, is));
    CU_ASSERT_TRUE(aq_identity_moved(text, &h200, was, is));
    CU_ASSERT_STRING_EQUAL(was, "NVIDIA H100 80GB HBM3");
    CU_ASSERT_STRING_EQUAL(is, "NVIDIA H200");
    CU_ASSERT_STRING_EQUAL(again, text);
    AQ_CHECK(aq_identity_same("there", text, again));
    free(text);
    free(again);
}

static void gpus_of_several_kinds_are_all_at_home(void) {
    char was[AQ_IDENTITY_LINE], is[AQ_IDENTITY_LINE];
    const aq_identity_facts facts = {.model = aq_test_tied_model(),
                                     .backend = "cuda",
                                     .machine = &h100,
                                     .gpus = "NVIDIA H200 NVL; NVIDIA H100 80GB HBM3"};
    char *text;
    AQ_CHECK(aq_identity_make(&facts, NULL, &text));
    CU_ASSERT_FALSE(aq_identity_moved(text, &h100, was, is));
    CU_ASSERT_TRUE(aq_identity_moved(text, &h200, was, is)); /* no NVL */
    CU_ASSERT_STRING_EQUAL(was, facts.gpus);
    free(text);
}

static void a_run_that_did_not_record_its_gpu_goes_on_without_warning(void) {
    char was[AQ_IDENTITY_LINE], is[AQ_IDENTITY_LINE];
    char *text = make_on(&h100, "cuda", 5, NULL), *line = strstr(text, "machine.gpu ");
    CU_ASSERT_PTR_NOT_NULL_FATAL(line);
    char *rest = strchr(line, '\n') + 1;
    memmove(line, rest, strlen(rest) + 1);
    char *again = make_on(&h200, "cuda", 5, text);
    CU_ASSERT_FALSE(aq_identity_moved(text, &h200, was, is));
    CU_ASSERT_STRING_EQUAL(again, text);
    AQ_CHECK(aq_identity_same("there", text, again));
    free(text);
    free(again);
}

static void damaged_texts_are_no_trouble(void) {
    static const char *const texts[] = {"", "\n", "model", "file x", "file \nmodel \nfile 1 2 3"};
    char *whole = make("cpu", 5, NULL);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *made = make("cpu", 5, texts[i]);
        AQ_CHECK(aq_identity_same("there", made, whole));
        CU_ASSERT_EQUAL(aq_identity_same("there", texts[i], whole), AQ_INVALID);
        free(made);
    }
    free(whole);
}

static const aq_case cases[] = {
    AQ_CASE(equal_contents_are_the_same_run),
    AQ_CASE(files_are_read_again_only_if_size_or_time_changed),
    AQ_CASE(another_machine_is_told_and_the_first_one_remembered),
    AQ_CASE(another_gpu_is_told_by_its_name),
    AQ_CASE(gpus_of_several_kinds_are_all_at_home),
    AQ_CASE(a_run_that_did_not_record_its_gpu_goes_on_without_warning),
    AQ_CASE(damaged_texts_are_no_trouble),
};

int main(int argc, char **argv) {
    return aq_test_backend_main("identity", cases, sizeof cases / sizeof *cases, argc, argv);
}
