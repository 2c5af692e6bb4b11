#include "coded_model.h"
#include "store/checkpoint_info.h"
#include "store/export.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const aq_scheme usual = {.codebooks = 2, .bits = 8, .in_group = 8, .out_group = 1};

/* 2x8 of docs-llama-1m: the figure of the published implementation. */
static void expect_coded(const aq_checkpoint_info *info, const char *kind) {
    CU_ASSERT_STRING_EQUAL(info->kind, kind);
    CU_ASSERT(info->coded && info->scheme.codebooks == 2 && info->scheme.bits == 8);
    CU_ASSERT_DOUBLE_EQUAL(info->bits, 4.594, 0.001);
    CU_ASSERT_EQUAL(info->shape.blocks, 4);
    CU_ASSERT_DOUBLE_EQUAL(info->blocks[3].error, 0.125 / 4, 1e-15);
    const aq_layer_info *layer = &info->blocks[3].layers[AQ_LINEAR_O];
    CU_ASSERT_STRING_EQUAL(layer->name, "model.layers.3.self_attn.o_proj");
    CU_ASSERT_DOUBLE_EQUAL(layer->error, 0.04, 1e-15);
    CU_ASSERT_EQUAL(layer->bytes, 128 * 16 * 2 + 2 * 256 * 8 * 2 + 128 * 2);
    CU_ASSERT_DOUBLE_EQUAL(layer->bits, 8.0 * (double)layer->bytes / (128 * 128), 1e-12);
    const json_t *settings = json_object_get(info->report, "settings");
    CU_ASSERT_PTR_NOT_NULL(json_object_get(settings, "quantizer"));
}

static void a_file_and_its_export_tell_the_same(void) {
    char path[AQ_TEST_PATH], folder[AQ_TEST_PATH];
    aq_checkpoint_info info;
    aq_test_gather(aq_test_tied_model(), &usual, "model.h5", path);
    AQ_CHECK(aq_checkpoint_info_read(path, &info));
    expect_coded(&info, "aqlm-hdf5");
    aq_checkpoint_info_free(&info);
    AQ_CHECK(aq_export(path, aq_test_path("folder", folder), 1 << 30));
    AQ_CHECK(aq_checkpoint_info_read(folder, &info));
    expect_coded(&info, "aqlm-folder");
    aq_checkpoint_info_free(&info);
}

static void a_dense_folder_has_sizes_and_no_errors(void) {
    aq_checkpoint_info info;
    AQ_CHECK(aq_checkpoint_info_read(aq_test_tied_model(), &info));
    CU_ASSERT(!info.coded && info.bits == 16 && info.report == NULL);
    CU_ASSERT_EQUAL(info.blocks[0].layers[AQ_LINEAR_DOWN].bytes, 352 * 128 * 2);
    CU_ASSERT(isnan(info.blocks[0].error) && isnan(info.blocks[0].layers[0].error));
    aq_checkpoint_info_free(&info);
    AQ_CHECK(aq_checkpoint_info_read(aq_test_biased_model(), &info));
    CU_ASSERT_EQUAL(info.bits, 32);
    aq_checkpoint_info_free(&info);
}

static void check_report(const char *text, aq_status code) {
    char path[AQ_TEST_PATH];
    snprintf(path, sizeof path, "%.400s/folder-of-others/aqlm_mpi.json", aq_test_folder());
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    *strrchr(path, '/') = '\0';
    aq_checkpoint_info info;
    CU_ASSERT_EQUAL(aq_checkpoint_info_read(path, &info), code);
    if (code == AQ_OK) CU_ASSERT(isnan(info.blocks[0].error));
    aq_checkpoint_info_free(&info);
}

static void a_strange_report_gives_unknown_errors_or_a_clear_line(void) {
    char path[AQ_TEST_PATH], folder[AQ_TEST_PATH];
    aq_test_gather(aq_test_tied_model(), &usual, "others.h5", path);
    AQ_CHECK(aq_export(path, aq_test_path("folder-of-others", folder), 1 << 30));
    check_report("{}", AQ_OK);
    check_report("{\"blocks\": 3}", AQ_OK);
    check_report("{\"blocks\": [{\"error\": \"x\", \"layers\": [1, {\"name\": 2}]}]}", AQ_OK);
    check_report("{\"blocks\": ", AQ_FORMAT);
    check_report("[]", AQ_FORMAT);
}

static void what_is_not_a_model_is_an_error(void) {
    aq_checkpoint_info info;
    AQ_CHECK_FAILS(aq_checkpoint_info_read("/none", &info), AQ_MISSING, "/none");
    CU_ASSERT_PTR_NULL(info.blocks);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"a_file_and_its_export_tell_the_same", a_file_and_its_export_tell_the_same},
        {"a_dense_folder_has_sizes_and_no_errors", a_dense_folder_has_sizes_and_no_errors},
        {"a_strange_report_gives_unknown_errors_or_a_clear_line",
         a_strange_report_gives_unknown_errors_or_a_clear_line},
        {"what_is_not_a_model_is_an_error", what_is_not_a_model_is_an_error},
    };
    return aq_test_backend_main("info", cases, sizeof cases / sizeof *cases, argc, argv);
}
