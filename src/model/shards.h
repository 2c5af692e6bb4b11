/* A folder of safetensors files as one set of tensors: model.safetensors alone, or the shards that
 * model.safetensors.index.json lists. All files are mapped, none is read whole.
 */
#ifndef AQ_MODEL_SHARDS_H
#define AQ_MODEL_SHARDS_H

#include "model/safetensors.h"

typedef struct aq_shards aq_shards;

/* Opens and checks every file and every entry of the index: MISSING (naming the shard or tensor) if
 * the index lists one that is not there, FORMAT for a malformed file or a shard's name that leads
 * out of the folder. Freed with aq_shards_close. */
aq_status aq_shards_open(const char *folder, aq_shards **shards);
void aq_shards_close(aq_shards *shards); /* NULL is fine */

/* Its files, in the order of their names (borrowed). */
size_t aq_shards_count(const aq_shards *shards);
const char *aq_shards_name(const aq_shards *shards, size_t index);

/* The tensor of that name, or MISSING with name and folder; borrowed. */
aq_status aq_shards_find(const aq_shards *shards, const char *name, const aq_safetensor **tensor);

#endif
