/* What a checkpoint holds: dense folder, gathered file or exported folder.
 */
#ifndef AQ_STORE_CHECKPOINT_INFO_H
#define AQ_STORE_CHECKPOINT_INFO_H

#include "model/source.h"

#include <jansson.h>

typedef struct aq_layer_info {
    char name[AQ_NAME_SIZE]; /* "model.layers.0.self_attn.q_proj" */
    size_t weights, bytes;   /* of its weight: numbers; stored bytes */
    double bits;             /* a weight */
    double error;            /* of the fit, relative; NaN: unknown */
} aq_layer_info;

typedef struct aq_block_info {
    aq_layer_info layers[AQ_LINEAR_COUNT];
    size_t weights, bytes;
    double bits;  /* a weight, weighted by the layers' numbers */
    double error; /* of its outputs, relative; NaN: unknown */
} aq_block_info;

typedef struct aq_checkpoint_info {
    const char *kind; /* "dense", "aqlm-hdf5", "aqlm-folder" (static) */
    aq_model_shape shape;
    bool coded;
    aq_scheme scheme;      /* if coded */
    aq_block_info *blocks; /* owned, shape.blocks entries */
    double bits;           /* a weight of the blocks' linears, weighted by their number */
    json_t *report;        /* owned: program, settings and errors (store/report.h), or NULL */
} aq_checkpoint_info;

/* Reads it from whatever `path` is (aq_model_open); FORMAT for a report that is not JSON. */
aq_status aq_checkpoint_info_read(const char *path, aq_checkpoint_info *info);
void aq_checkpoint_info_free(aq_checkpoint_info *info);

#endif
