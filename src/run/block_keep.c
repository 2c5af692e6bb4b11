#include "run/block_keep.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "store/tuning_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

aq_status aq_block_keep_new(const aq_run_directory *directory, size_t block, const aq_team *team,
                            aq_block_keep *keep) {
    *keep = (aq_block_keep){.block = block, .team = team};
    keep->writer = calloc(1, sizeof *keep->writer);
    AQ_REQUIRE(keep->writer, AQ_MEMORY, "out of memory");
    aq_run_directory_block_fingerprint(directory, block, keep->fingerprint);
    aq_status status = aq_run_directory_work_path(directory, block, &keep->folder);
    if (status != AQ_OK) aq_block_keep_free(keep);
    return status;
}

static void free_writer(aq_keep_writer *writer) {
    if (!writer) return;
    aq_write_behind_free(&writer->behind);
    free(writer->image);
    free(writer);
}

void aq_block_keep_free(aq_block_keep *keep) {
    free_writer(keep->writer);
    free(keep->folder);
    *keep = (aq_block_keep){0};
}

static aq_status tuning_path(const aq_block_keep *keep, char **path) {
    return aq_file_join(keep->folder, "tuning.state", path);
}

static bool leads(const aq_block_keep *keep) {
    return keep->team->rank == 0;
}

static aq_status layer_path(const aq_block_keep *keep, const char *layer, char **path) {
    *path = NULL;
    AQ_REQUIRE(asprintf(path, "%s/%s.h5", keep->folder, layer) >= 0, AQ_MEMORY, "out of memory");
    return AQ_OK;
}

/* What a reader said of a file: there or not; AQ_OK unless the job cannot go on. */
static aq_status judge(const char *path, aq_status read, bool *found) {
    char *aside;
    *found = read == AQ_OK;
    if (read == AQ_OK || read == AQ_MISSING) return AQ_OK;
    if (read == AQ_MEMORY || read == AQ_DEVICE || read == AQ_STOPPED) return read;
    char *reason = strdup(aq_error_text());
    aq_status status = aq_digest_set_aside(path, "damaged", &aside);
    if (status == AQ_OK)
        aq_log_warn("%s; renamed to %s, its work is done again", reason ? reason : path, aside);
    if (status == AQ_OK) free(aside);
    free(reason);
    return status;
}

/* Some numbers of the lead's for everybody. */
static aq_status share_numbers(const aq_team *team, aq_backend *home, double *numbers,
                               size_t count) {
    aq_tensor tensor;
    if (team->size == 1) return AQ_OK;
    AQ_TRY(aq_tensor_new(home, AQ_F64, AQ_DIMS(count), &tensor));
    aq_status status;
    AQ_STEP(aq_tensor_upload(&tensor, numbers, count * sizeof *numbers));
    AQ_STEP(team->share(team, 0, &tensor));
    AQ_STEP(aq_tensor_download(&tensor, numbers, count * sizeof *numbers));
done:
    aq_tensor_free(&tensor);
    return status;
}

/* ---- layers ---- */

static aq_status read_layer(const aq_block_keep *keep, const aq_linear_shape *shape,
                            const aq_scheme *scheme, aq_backend *backend, aq_layer_state *layer,
                            bool *found) {
    const aq_state_facts facts = {.block = keep->block, .fingerprint = keep->fingerprint};
    char *path;
    AQ_TRY(layer_path(keep, layer->name, &path));
    aq_status status =
        judge(path, aq_layer_state_read(path, &facts, shape, scheme, backend, layer), found);
    free(path);
    return status;
}

static aq_status share_coded(const aq_team *team, aq_coded *coded) {
    AQ_TRY(team->share(team, 0, &coded->codes));
    AQ_TRY(team->share(team, 0, &coded->codebooks));
    return team->share(team, 0, &coded->scales);
}

aq_status aq_block_keep_load_layer(const aq_block_keep *keep, aq_linear_kind linear,
                                   const aq_scheme *scheme, aq_backend *backend,
                                   aq_coded_block *coded, bool *found) {
    const aq_linear_shape *shape = &coded->shape->linears[linear];
    aq_layer_state layer = {.name = shape->name};
    *found = false;
    if (leads(keep)) AQ_TRY(read_layer(keep, shape, scheme, backend, &layer, found));
    aq_status status;
    double numbers[] = {*found, layer.error};
    AQ_STEP(share_numbers(keep->team, backend, numbers, 2));
    *found = numbers[0] != 0;
    if (!*found) return AQ_OK;
    if (!leads(keep)) AQ_STEP(aq_coded_new(backend, scheme, shape->out, shape->in, &layer.coded));
    AQ_STEP(share_coded(keep->team, &layer.coded));
    coded->linears[linear] = layer.coded;
    coded->layer_errors[linear] = numbers[1];
done:
    if (status != AQ_OK) aq_coded_free(&layer.coded);
    return status;
}

aq_status aq_block_keep_save_layer(const aq_block_keep *keep, aq_linear_kind linear,
                                   const aq_coded_block *coded) {
    const aq_state_facts facts = {.block = keep->block, .fingerprint = keep->fingerprint};
    const aq_layer_state layer = {.name = coded->shape->linears[linear].name,
                                  .coded = coded->linears[linear],
                                  .error = coded->layer_errors[linear]};
    char *path;
    if (!leads(keep)) return AQ_OK;
    AQ_TRY(aq_file_make_folder(keep->folder));
    AQ_TRY(layer_path(keep, layer.name, &path));
    aq_status status = aq_layer_state_write(path, &facts, &layer);
    free(path);
    return status;
}

/* ---- tuning ---- */

static aq_status read_tuning(const aq_block_keep *keep, aq_parameters *parameters,
                             aq_tune_state *state, bool *found) {
    const aq_state_facts facts = {.block = keep->block, .fingerprint = keep->fingerprint};
    char *path;
    AQ_TRY(tuning_path(keep, &path));
    aq_status status = judge(path, aq_tuning_state_read(path, &facts, parameters, state), found);
    free(path);
    return status;
}

static aq_status share_parameters(const aq_team *team, aq_parameters *parameters) {
    for (int i = 0; i < parameters->count; i++) {
        aq_parameter *parameter = &parameters->list[i];
        AQ_TRY(team->share(team, 0, &parameter->value));
        AQ_TRY(team->share(team, 0, &parameter->kept));
        AQ_TRY(team->share(team, 0, &parameter->moments.first));
        AQ_TRY(team->share(team, 0, &parameter->moments.second));
    }
    return AQ_OK;
}

aq_status aq_block_keep_load_tuning(const aq_block_keep *keep, aq_parameters *parameters,
                                    aq_tune_state *state, bool *found) {
    enum { COUNT = 9 };
    aq_tune_state read = {0};
    *found = false;
    if (leads(keep)) AQ_TRY(read_tuning(keep, parameters, &read, found));
    double numbers[COUNT] = {*found,           read.epochs,     read.best_epoch,
                             read.retries,     read.step,       read.learning_rate,
                             read.start_error, read.best_error, read.target_square};
    AQ_TRY(share_numbers(keep->team, parameters->list[0].value.home, numbers, COUNT));
    *found = numbers[0] != 0;
    if (!*found) return AQ_OK;
    *state = (aq_tune_state){.epochs = (int)numbers[1],
                             .best_epoch = (int)numbers[2],
                             .retries = (int)numbers[3],
                             .step = (int)numbers[4],
                             .learning_rate = numbers[5],
                             .start_error = numbers[6],
                             .best_error = numbers[7],
                             .target_square = numbers[8]};
    return share_parameters(keep->team, parameters);
}

/* Not pinned: that takes longer, once a block, than all copies of its epochs. */
static aq_status make_image(aq_keep_writer *writer, size_t bytes) {
    if (!writer->image) writer->image = malloc(bytes);
    AQ_REQUIRE(writer->image, AQ_MEMORY, "no memory for %zu bytes of tuning's state", bytes);
    return AQ_OK;
}

static aq_status begin_save(const aq_block_keep *keep, const aq_parameters *parameters,
                            const aq_tune_state *state) {
    const aq_state_facts facts = {.block = keep->block, .fingerprint = keep->fingerprint};
    aq_keep_writer *writer = keep->writer;
    size_t bytes = aq_tuning_state_bytes(parameters);
    char *path;
    AQ_TRY(aq_write_behind_wait(&writer->behind));
    AQ_TRY(aq_file_make_folder(keep->folder));
    AQ_TRY(make_image(writer, bytes));
    AQ_TRY(aq_tuning_state_pack(&facts, parameters, state, writer->image));
    AQ_TRY(tuning_path(keep, &path));
    aq_status status = aq_write_behind_start(&writer->behind, path, writer->image, bytes);
    free(path);
    return status;
}

aq_status aq_block_keep_save_tuning(const aq_block_keep *keep, const aq_parameters *parameters,
                                    const aq_tune_state *state) {
    return leads(keep) ? begin_save(keep, parameters, state) : AQ_OK;
}

aq_status aq_block_keep_settle_tuning(const aq_block_keep *keep) {
    return aq_write_behind_wait(&keep->writer->behind);
}

/* ---- the end ---- */

aq_status aq_block_keep_discard(const aq_run_directory *directory, size_t block) {
    char *folder;
    AQ_TRY(aq_run_directory_work_path(directory, block, &folder));
    aq_status status = aq_file_remove_folder(folder);
    free(folder);
    return status;
}
