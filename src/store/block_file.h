/* One finished block on disk: blocks/block-0007.h5.
 *
 * HDF5, laid out like the gathered file (store/model_file.h), so that gathering copies datasets. A
 * file appears under its name only when complete: temporary name, flush, fsync, rename, fsync of
 * the folder.
 */
#ifndef AQ_STORE_BLOCK_FILE_H
#define AQ_STORE_BLOCK_FILE_H

#include "model/coded_block.h"

/* What a block was made from. */
typedef struct aq_block_origin {
    const char *fingerprint; /* names settings, model and tokens of the run */
    const char *settings; /* JSON text: by which settings the block differs from its run; or NULL */
} aq_block_origin;

/* Writes a rounded block (aq_coded_block_round).
 * IO with path and reason; then nothing stands under `path` that was not there before, and no
 * temporary file remains. */
aq_status aq_block_file_write(const char *path, const aq_coded_block *block,
                              const aq_block_origin *origin);

/* Reads it back, checking shapes and types against `shape` and `scheme`, codes against 2^bits, and
 * the fingerprint; FORMAT or SHAPE with the path otherwise. *block is the caller's to free. */
aq_status aq_block_file_read(const char *path, const aq_model_shape *shape, size_t index,
                             const aq_scheme *scheme, const char *fingerprint, aq_backend *backend,
                             aq_coded_block *block);

/* The fingerprint that a block file carries (the caller frees it); NULL with MISSING, FORMAT or IO.
 */
aq_status aq_block_file_fingerprint(const char *path, char **fingerprint);

#endif
