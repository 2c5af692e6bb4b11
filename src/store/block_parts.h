/* A block file opened for those who copy it part by part. Private to src/store.
 */
#ifndef AQ_STORE_BLOCK_PARTS_H
#define AQ_STORE_BLOCK_PARTS_H

#include "store/layout.h"

/* What a block file must say of itself. */
typedef struct aq_block_facts {
    size_t index;
    const aq_scheme *scheme;
    const char *fingerprint;
} aq_block_facts;

/* Opens a block file and compares its head; FORMAT or SHAPE if it says otherwise. */
aq_status aq_block_parts_open(const char *path, const aq_block_facts *facts, aq_h5 *file);

/* By which settings the block differs from its run: JSON text (the caller frees it) or NULL. */
aq_status aq_block_parts_settings(const aq_h5 *file, char **settings);

/* Reads an error attribute; FORMAT unless it is finite and not negative. */
aq_status aq_block_parts_error(const aq_h5 *file, const char *object, const char *key,
                               double *error);

#endif
