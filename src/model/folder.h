/* A Hugging Face folder as a source, before anybody has said which tensors it must hold:
 * config.json parsed, safetensors mapped. What dense and AQLM folders have in common.
 */
#ifndef AQ_MODEL_FOLDER_H
#define AQ_MODEL_FOLDER_H

#include "model/shards.h"

/* Opens a folder as a source of the given kind (static text) without coded weights. `find` gives
 * the embedding for a tied head. The source is freed with aq_source_close. */
aq_status aq_folder_open(const char *folder, const char *kind, aq_source **source);

/* The tensors behind such a source, of every type; borrowed from it. */
const aq_shards *aq_folder_shards(const aq_source *source);

#endif
