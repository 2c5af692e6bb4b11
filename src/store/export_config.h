/* config.json of an exported folder. Private to src/store.
 */
#ifndef AQ_STORE_EXPORT_CONFIG_H
#define AQ_STORE_EXPORT_CONFIG_H

#include "model/source.h"

/* The model's own config.json with float16 as its type, the quantization_config that transformers'
 * AqlmConfig reads, and rotary settings in the spelling of transformers 4 and that of 5 (4 ignores
 * the other silently). The caller frees the text. */
aq_status aq_export_config(aq_source *source, const aq_scheme *scheme, char **text);

#endif
