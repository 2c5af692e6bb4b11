#include "store/model_file.h"

#include "base/json.h"
#include "store/block_parts.h"
#include "store/report.h"

#include <stdlib.h>
#include <string.h>

/* The file under way and the report that grows along. */
typedef struct gathering {
    const aq_gather *from;
    const aq_model_shape *shape;
    aq_h5 file;
    json_t *blocks; /* array, one report a block */
} gathering;

/* ---- what comes unchanged from the dense model ---- */

static aq_status write_file(const aq_h5 *file, const char *name, const char *bytes, size_t size) {
    char path[AQ_DATASET_NAME_SIZE];
    aq_file_path(name, path);
    return size ? aq_h5_write(file, path, AQ_U8, AQ_DIMS(size), bytes) : AQ_OK;
}

/* An HDF5 dataset is not empty, so an empty file does not travel. */
static aq_status copy_file(const gathering *to, const char *name) {
    aq_source *source = to->from->source;
    char *bytes;
    size_t size;
    AQ_TRY(source->read_file(source, name, &bytes, &size));
    aq_status status = write_file(&to->file, name, bytes, size);
    free(bytes);
    return status;
}

static aq_status copy_files(const gathering *to) {
    AQ_TRY(copy_file(to, "config.json"));
    for (const char *const *name = aq_model_files; *name; name++) {
        aq_status status = copy_file(to, *name);
        if (status != AQ_OK && status != AQ_MISSING) return status;
    }
    return AQ_OK;
}

static aq_status copy_tensor(const gathering *to, const char *name) {
    aq_source *source = to->from->source;
    char path[AQ_DATASET_NAME_SIZE];
    aq_stored stored;
    aq_tensor_path(name, path);
    AQ_TRY(source->find(source, name, &stored));
    return aq_h5_write(&to->file, path, stored.dtype, stored.shape, stored.bytes);
}

static aq_status copy_ends(const gathering *to) {
    AQ_TRY(copy_tensor(to, AQ_EMBEDDING_NAME));
    AQ_TRY(copy_tensor(to, AQ_FINAL_NORM_NAME));
    return to->shape->tied_embeddings ? AQ_OK : copy_tensor(to, AQ_HEAD_NAME);
}

/* ---- what comes from the block files ---- */

static aq_status copy_linear(const gathering *to, const aq_h5 *block, size_t index,
                             aq_linear_kind linear, json_t *layers) {
    char name[AQ_NAME_SIZE], path[AQ_DATASET_NAME_SIZE];
    double error;
    aq_linear_name(to->shape, index, linear, "", name);
    aq_tensor_path(name, path);
    AQ_TRY(aq_block_parts_error(block, path, "error", &error));
    AQ_TRY(aq_report_add_layer(layers, name, error));
    aq_coded_data data;
    AQ_TRY(
        aq_layout_read_coded(block, name, &to->from->scheme, &to->shape->linears[linear], &data));
    aq_status status = aq_layout_write_coded(&to->file, name, &data);
    aq_coded_data_free(&data);
    return status;
}

static aq_status copy_vector(const gathering *to, const aq_h5 *block, const char *name,
                             size_t length) {
    uint16_t *halves = malloc(length * sizeof *halves);
    AQ_REQUIRE(halves, AQ_MEMORY, "out of memory");
    aq_status status = aq_layout_read_vector(block, name, length, halves);
    if (status == AQ_OK) status = aq_layout_write_vector(&to->file, name, length, halves);
    free(halves);
    return status;
}

static aq_status copy_settings(const gathering *to, const aq_h5 *block) {
    char *settings = NULL;
    AQ_TRY(aq_block_parts_settings(block, &settings));
    aq_status status = settings ? aq_report_add_settings(to->blocks, settings) : AQ_OK;
    free(settings);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s: settings", block->path);
}

static aq_status copy_parts(const gathering *to, const aq_h5 *block, size_t index) {
    char name[AQ_NAME_SIZE];
    size_t length;
    double error, fitted_error;
    json_t *layers;
    AQ_TRY(aq_block_parts_error(block, "/", "error", &error));
    AQ_TRY(aq_block_parts_error(block, "/", "fitted_error", &fitted_error));
    AQ_TRY(aq_report_add_block(to->blocks, index, error, fitted_error, &layers));
    AQ_TRY(copy_settings(to, block));
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++)
        AQ_TRY(copy_linear(to, block, index, (aq_linear_kind)linear, layers));
    for (int vector = 0; vector < AQ_VECTOR_COUNT; vector++)
        if (aq_layout_vector(to->shape, index, vector, name, &length))
            AQ_TRY(copy_vector(to, block, name, length));
    return AQ_OK;
}

static aq_status copy_block(const gathering *to, size_t index) {
    const aq_block_facts facts = {
        .index = index, .scheme = &to->from->scheme, .fingerprint = to->from->fingerprint};
    aq_h5 block;
    AQ_TRY(aq_block_parts_open(to->from->block_paths[index], &facts, &block));
    aq_status status = copy_parts(to, &block, index);
    aq_h5_close(&block);
    return status;
}

/* ---- the whole ---- */

static aq_status write_report(const gathering *to) {
    char *text;
    AQ_TRY(aq_report_text(to->from->settings, to->blocks, &text));
    aq_status status = write_file(&to->file, AQ_REPORT_NAME, text, strlen(text));
    free(text);
    return status;
}

static aq_status write_contents(const gathering *to) {
    AQ_TRY(aq_layout_write_head(&to->file, AQ_MODEL_FORMAT, &to->from->scheme));
    AQ_TRY(copy_files(to));
    AQ_TRY(copy_ends(to));
    for (size_t index = 0; index < to->shape->blocks; index++) {
        AQ_TRY(aq_watch_step(to->from->watch, "files", (int)index, (int)to->shape->blocks));
        AQ_TRY(copy_block(to, index));
    }
    return write_report(to);
}

aq_status aq_model_file_gather(const aq_gather *gather) {
    gathering to = {.from = gather, .shape = &gather->source->shape};
    aq_status status;
    AQ_STEP(aq_h5_create(gather->path, &to.file));
    AQ_NEED(to.blocks = json_array(), AQ_MEMORY, "out of memory");
    AQ_STEP(write_contents(&to));
    to.file.watch = gather->watch;
    AQ_STEP(aq_h5_commit(&to.file));
done:
    json_decref(to.blocks);
    aq_h5_close(&to.file);
    return status;
}
