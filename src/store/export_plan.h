/* Which tensors an exported folder holds, in order, and in which shard each lies. Private to
 * src/store.
 */
#ifndef AQ_STORE_EXPORT_PLAN_H
#define AQ_STORE_EXPORT_PLAN_H

#include "model/shape.h"
#include "store/coded_data.h"
#include "store/safetensors_writer.h"

/* A tensor that is not coded, or the three parts of a linear, which stay together. */
typedef struct aq_export_piece {
    char name[AQ_NAME_SIZE];       /* the tensor's full name, or the linear's */
    const aq_linear_shape *linear; /* NULL for a tensor */
    aq_shape shape;                /* of a tensor */
    size_t bytes, shard;
} aq_export_piece;

typedef struct aq_export_plan {
    aq_scheme scheme;
    aq_export_piece *pieces; /* owned */
    size_t count, shards, bytes;
} aq_export_plan;

enum { AQ_SHARD_NAME_SIZE = 80 };

/* Lists the pieces in the order of the model and cuts them into shards of at most `shard_bytes`.
 * `shape` is borrowed until the plan is freed. */
aq_status aq_export_plan_new(const aq_model_shape *shape, const aq_scheme *scheme,
                             size_t shard_bytes, aq_export_plan *plan);
void aq_export_plan_free(aq_export_plan *plan);

/* model.safetensors if it is alone, else model-00001-of-00003.safetensors and so on. */
void aq_export_shard_name(const aq_export_plan *plan, size_t shard,
                          char name[static AQ_SHARD_NAME_SIZE]);

/* Announces the tensors of a shard. */
aq_status aq_export_announce(const aq_export_plan *plan, size_t shard,
                             aq_safetensors_writer *writer);

/* Text of model.safetensors.index.json (the caller frees it). */
aq_status aq_export_index(const aq_export_plan *plan, char **text);

#endif
