#include "store/export.h"

#include "base/file.h"
#include "store/export_config.h"
#include "store/export_plan.h"
#include "store/halves.h"
#include "store/hdf5_source.h"
#include "store/new_folder.h"

#include <stdlib.h>
#include <string.h>

typedef struct exporting {
    aq_source *source;
    const char *folder; /* where the files go while they are written */
    aq_export_plan plan;
} exporting;

/* ---- tensors ---- */

static aq_status append_linear(const exporting *export, const aq_export_piece *piece,
                               aq_safetensors_writer *writer) {
    aq_coded_data data;
    void *codes = NULL;
    AQ_TRY(aq_hdf5_source_data(export->source, piece->name, &data));
    size_t width = aq_dtype_size(aq_code_dtype(&data.scheme));
    aq_status status;
    AQ_STEP(aq_coded_data_pack(&data, true, &codes));
    AQ_STEP(
        aq_safetensors_append(writer, codes, width * aq_shape_count(aq_coded_data_codes(&data))));
    AQ_STEP(aq_safetensors_append(writer, data.codebooks,
                                  2 * aq_shape_count(aq_coded_data_codebooks(&data))));
    AQ_STEP(aq_safetensors_append(writer, data.scales, 2 * data.rows));
done:
    free(codes);
    aq_coded_data_free(&data);
    return status;
}

static aq_status append_tensor(const exporting *export, const aq_export_piece *piece,
                               aq_safetensors_writer *writer) {
    aq_stored stored;
    AQ_TRY(export->source->find(export->source, piece->name, &stored));
    size_t count = aq_shape_count(stored.shape);
    uint16_t *halves = malloc(count * sizeof *halves);
    AQ_REQUIRE(halves, AQ_MEMORY, "no memory for %zu values of %s", count, piece->name);
    aq_status status = aq_halves_from(stored.dtype, stored.bytes, count, piece->name, halves);
    if (status == AQ_OK) status = aq_safetensors_append(writer, halves, count * sizeof *halves);
    free(halves);
    return status;
}

static aq_status fill_shard(const exporting *export, size_t shard, aq_safetensors_writer *writer) {
    AQ_TRY(aq_export_announce(&export->plan, shard, writer));
    AQ_TRY(aq_safetensors_begin(writer));
    for (size_t i = 0; i < export->plan.count; i++) {
        const aq_export_piece *piece = &export->plan.pieces[i];
        if (piece->shard != shard) continue;
        AQ_TRY(piece->linear ? append_linear(export, piece, writer)
                             : append_tensor(export, piece, writer));
    }
    return aq_safetensors_finish(writer);
}

static aq_status write_shard(const exporting *export, size_t shard) {
    char name[AQ_SHARD_NAME_SIZE], *path;
    aq_safetensors_writer writer;
    aq_export_shard_name(&export->plan, shard, name);
    AQ_TRY(aq_file_join(export->folder, name, &path));
    aq_status status = aq_safetensors_writer_new(path, &writer);
    if (status == AQ_OK) status = fill_shard(export, shard, &writer);
    aq_safetensors_writer_close(&writer);
    free(path);
    return status;
}

/* ---- files ---- */

static aq_status write_file(const exporting *export, const char *name, const char *bytes,
                            size_t size) {
    char *path;
    AQ_TRY(aq_file_join(export->folder, name, &path));
    aq_status status = aq_file_replace(path, bytes, size);
    free(path);
    return status;
}

/* Frees the text. */
static aq_status write_text(const exporting *export, const char *name, char *text) {
    aq_status status = write_file(export, name, text, strlen(text));
    free(text);
    return status;
}

static aq_status copy_file(const exporting *export, const char *name) {
    char *bytes;
    size_t size;
    aq_status status = export->source->read_file(export->source, name, &bytes, &size);
    if (status == AQ_MISSING) return AQ_OK;
    AQ_TRY(status);
    status = write_file(export, name, bytes, size);
    free(bytes);
    return status;
}

static aq_status write_files(const exporting *export) {
    char *text;
    AQ_TRY(aq_export_config(export->source, &export->plan.scheme, &text));
    AQ_TRY(write_text(export, "config.json", text));
    if (export->plan.shards > 1) {
        AQ_TRY(aq_export_index(&export->plan, &text));
        AQ_TRY(write_text(export, "model.safetensors.index.json", text));
    }
    for (const char *const *name = aq_model_files; *name; name++) AQ_TRY(copy_file(export, *name));
    return copy_file(export, AQ_REPORT_NAME);
}

/* ---- the whole ---- */

static aq_status write_all(const exporting *export) {
    for (size_t shard = 0; shard < export->plan.shards; shard++) AQ_TRY(write_shard(export, shard));
    return write_files(export);
}

static aq_status write_folder(exporting *export, const char *folder) {
    aq_new_folder made;
    AQ_TRY(aq_new_folder_begin(folder, &made));
    export->folder = made.temporary;
    aq_status status = write_all(export);
    if (status == AQ_OK) return aq_new_folder_commit(&made);
    aq_new_folder_abandon(&made);
    return status;
}

aq_status aq_export(const char *model, const char *folder, size_t shard_bytes) {
    exporting export = {0};
    AQ_TRY(aq_new_folder_check(folder));
    AQ_TRY(aq_model_file_open(model, &export.source));
    aq_status status =
        aq_export_plan_new(&export.source->shape, export.source->scheme, shard_bytes, &export.plan);
    if (status == AQ_OK) status = write_folder(&export, folder);
    aq_export_plan_free(&export.plan);
    aq_source_close(export.source);
    return status;
}
