#include "store/checkpoint_info.h"

#include "base/json.h"
#include "store/coded_data.h"
#include "store/layout.h"
#include "store/model_file.h"
#include "store/report.h"

#include <math.h>
#include <stdlib.h>

/* A missing report is no fault: dense folders and those of others have none. */
static aq_status read_report(aq_source *source, json_t **report) {
    char *text;
    size_t size;
    *report = NULL;
    aq_status status = source->read_file(source, AQ_REPORT_NAME, &text, &size);
    if (status == AQ_MISSING) return AQ_OK;
    AQ_TRY(status);
    status = aq_json_load(text, size, report);
    free(text);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s: " AQ_REPORT_NAME, source->path);
}

static aq_status measure_dense(aq_source *source, const char *linear, aq_layer_info *layer) {
    char name[AQ_NAME_SIZE + 8];
    aq_stored stored;
    snprintf(name, sizeof name, "%s.weight", linear);
    AQ_TRY(source->find(source, name, &stored));
    layer->bytes = stored.size;
    layer->bits = 8.0 * (double)stored.size / (double)layer->weights;
    return AQ_OK;
}

static void measure_coded(const aq_scheme *scheme, const aq_linear_shape *shape,
                          aq_layer_info *layer) {
    const aq_coded_data outline = aq_coded_data_outline(scheme, shape->out, shape->in);
    layer->bytes = aq_coded_data_bytes(&outline);
    layer->bits = aq_scheme_bits(scheme, shape->out, shape->in);
}

static double error_or_nan(const json_t *report, size_t block, const char *layer) {
    double error;
    return aq_report_error(report, block, layer, &error) ? error : NAN;
}

static aq_status read_layer(aq_source *source, const json_t *report, size_t block,
                            aq_linear_kind kind, aq_layer_info *layer) {
    const aq_linear_shape *shape = &source->shape.linears[kind];
    aq_linear_name(&source->shape, block, kind, "", layer->name);
    layer->weights = shape->out * shape->in;
    layer->error = error_or_nan(report, block, layer->name);
    if (!source->scheme) return measure_dense(source, layer->name, layer);
    measure_coded(source->scheme, shape, layer);
    return AQ_OK;
}

static aq_status read_block(aq_source *source, const json_t *report, size_t index,
                            aq_block_info *block) {
    double bits = 0;
    block->error = error_or_nan(report, index, NULL);
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++) {
        aq_layer_info *layer = &block->layers[linear];
        AQ_TRY(read_layer(source, report, index, (aq_linear_kind)linear, layer));
        block->weights += layer->weights;
        block->bytes += layer->bytes;
        bits += layer->bits * (double)layer->weights;
    }
    block->bits = bits / (double)block->weights;
    return AQ_OK;
}

static aq_status read_blocks(aq_source *source, aq_checkpoint_info *info) {
    double bits = 0, weights = 0;
    for (size_t index = 0; index < info->shape.blocks; index++) {
        aq_block_info *block = &info->blocks[index];
        AQ_TRY(read_block(source, info->report, index, block));
        bits += block->bits * (double)block->weights;
        weights += (double)block->weights;
    }
    info->bits = bits / weights;
    return AQ_OK;
}

aq_status aq_checkpoint_info_read(const char *path, aq_checkpoint_info *info) {
    aq_source *source;
    *info = (aq_checkpoint_info){0};
    AQ_TRY(aq_model_open(path, &source));
    *info = (aq_checkpoint_info){
        .kind = source->kind, .shape = source->shape, .coded = source->scheme != NULL};
    if (info->coded) info->scheme = *source->scheme;
    aq_status status;
    info->blocks = calloc(info->shape.blocks, sizeof *info->blocks);
    AQ_NEED(info->blocks, AQ_MEMORY, "no memory for a table of %zu blocks", info->shape.blocks);
    AQ_STEP(read_report(source, &info->report));
    AQ_STEP(read_blocks(source, info));
done:
    aq_source_close(source);
    if (status != AQ_OK) aq_checkpoint_info_free(info);
    return status;
}

void aq_checkpoint_info_free(aq_checkpoint_info *info) {
    free(info->blocks);
    json_decref(info->report);
    *info = (aq_checkpoint_info){0};
}
