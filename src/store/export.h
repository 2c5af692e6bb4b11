/* Turns a gathered file into a Hugging Face AQLM folder, as transformers and the aqlm package read
 * it (METHOD section 7; described in docs/file-formats.md).
 */
#ifndef AQ_STORE_EXPORT_H
#define AQ_STORE_EXPORT_H

#include "base/status.h"

#include <stddef.h>

/* Reads the gathered file `model` and makes `folder`, which must be absent or empty, with shards of
 * at most `shard_bytes` of tensors (more only where one linear alone is larger). INVALID for a
 * folder that holds something, NUMERIC (naming the tensor) for a value past float16's range. The
 * folder appears when it is complete: it is written beside itself under a temporary name. At most
 * one tensor is in memory at a time. */
aq_status aq_export(const char *model, const char *folder, size_t shard_bytes);

#endif
