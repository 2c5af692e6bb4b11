#include "coded_model.h"

#include "store/block_file.h"
#include "store/model_file.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *aq_test_path(const char *name, char path[static AQ_TEST_PATH]) {
    snprintf(path, AQ_TEST_PATH, "%.300s/%.128s", aq_test_folder(), name);
    return path;
}

const char *aq_test_biased_model(void) {
    static char path[AQ_TEST_PATH];
    snprintf(path, sizeof path, "%s/tiny-llama3", aq_test_data());
    return path;
}

const char *aq_test_tied_model(void) {
    static char path[AQ_TEST_PATH];
    snprintf(path, sizeof path, "%s/tiny-llama", aq_test_examples());
    return path;
}

static aq_tensor random_vector(size_t length, float mean, uint64_t seed) {
    aq_tensor values = aq_test_normal(AQ_DIMS(length), seed), means;
    AQ_CHECK(aq_tensor_new(values.home, AQ_F32, AQ_DIMS(length), &means));
    AQ_CHECK(aq_fill(mean, &means));
    AQ_CHECK(aq_axpby(1, &means, 0.1f, &values));
    aq_tensor_free(&means);
    return values;
}

static void fill_coded(aq_coded *coded, size_t in, uint64_t seed) {
    size_t count = aq_tensor_count(&coded->codes);
    uint16_t *codes = malloc(count * sizeof *codes);
    for (size_t i = 0; i < count; i++)
        codes[i] =
            (uint16_t)aq_random_below(aq_random(seed, AQ_STREAM_TEST, i), 1u << coded->scheme.bits);
    AQ_CHECK(aq_tensor_upload(&coded->codes, codes, count * sizeof *codes));
    free(codes);
    aq_tensor entries = random_vector(aq_tensor_count(&coded->codebooks), 0, seed + 1);
    aq_tensor scales = random_vector(aq_tensor_count(&coded->scales), 1, seed + 2);
    AQ_CHECK(aq_axpby(4 / (float)in, &scales, 0, &coded->scales));
    AQ_CHECK(aq_tensor_copy(&entries, &coded->codebooks));
    AQ_CHECK(aq_coded_round(coded));
    aq_tensor_free(&entries);
    aq_tensor_free(&scales);
}

aq_coded_block aq_test_random_block(const aq_model_shape *shape, size_t index,
                                    const aq_scheme *scheme) {
    aq_coded_block block = {.shape = shape,
                            .index = index,
                            .fitted_error = 0.25 / (double)(index + 1),
                            .error = 0.125 / (double)(index + 1)};
    for (int norm = 0; norm < AQ_NORM_COUNT; norm++)
        block.norms[norm] = random_vector(shape->hidden, 1, 1000 * index + (size_t)norm);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        uint64_t seed = 1000 * index + 10 + 10 * (uint64_t)l;
        AQ_CHECK(
            aq_coded_new(aq_test_backend(), scheme, linear->out, linear->in, &block.linears[l]));
        fill_coded(&block.linears[l], linear->in, seed);
        if (linear->bias) block.biases[l] = random_vector(linear->out, 0, seed + 3);
        block.layer_errors[l] = 0.01 * (l + 1);
    }
    AQ_CHECK(aq_coded_block_round(&block));
    return block;
}

/* Block files "name-0000.h5" and on; their paths are malloc'd. */
static char **write_blocks(const aq_model_shape *shape, const aq_scheme *scheme, const char *name) {
    char **paths = calloc(shape->blocks, sizeof *paths);
    for (size_t index = 0; index < shape->blocks; index++) {
        char file[128], path[AQ_TEST_PATH];
        snprintf(file, sizeof file, "%s-%04zu.h5", name, index);
        paths[index] = strdup(aq_test_path(file, path));
        aq_coded_block block = aq_test_random_block(shape, index, scheme);
        AQ_CHECK(aq_block_file_write(path, &block, AQ_TEST_ORIGIN));
        aq_coded_block_free(&block);
    }
    return paths;
}

const char *aq_test_gather(const char *folder, const aq_scheme *scheme, const char *name,
                           char path[static AQ_TEST_PATH]) {
    aq_source *source;
    AQ_CHECK(aq_dense_source_open(folder, &source));
    size_t blocks = source->shape.blocks;
    char **paths = write_blocks(&source->shape, scheme, name);
    AQ_CHECK(aq_model_file_gather(&(aq_gather){.block_paths = (const char *const *)paths,
                                               .source = source,
                                               .scheme = *scheme,
                                               .settings = AQ_TEST_SETTINGS,
                                               .fingerprint = AQ_TEST_FINGERPRINT,
                                               .path = aq_test_path(name, path)}));
    for (size_t index = 0; index < blocks; index++) free(paths[index]);
    free(paths);
    aq_source_close(source);
    return path;
}

void aq_test_poke(aq_tensor *tensor, size_t index, const void *element) {
    size_t width = aq_dtype_size(tensor->dtype), bytes = aq_tensor_bytes(tensor);
    char *host = aq_test_host(tensor);
    memcpy(host + index * width, element, width);
    AQ_CHECK(aq_tensor_upload(tensor, host, bytes));
    free(host);
}

char *aq_test_slurp(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size + 1);
    CU_ASSERT_EQUAL_FATAL(fread(bytes, 1, *size, file), *size);
    bytes[*size] = '\0';
    fclose(file);
    return bytes;
}
