/* What a run's result depends on beside its settings: the model, the tokens, the backend.
 */
#ifndef AQ_RUN_IDENTITY_H
#define AQ_RUN_IDENTITY_H

#include "model/source.h"
#include "model/tokens.h"

enum { AQ_IDENTITY_SIZE = 128 };

/* Three lines into `text` (AQ_IDENTITY_SIZE bytes): "model <hash>", "calibration.tokens <hash>",
 * "run.backend <name>". The model's hash covers config.json, names, types and shapes of all
 * tensors, and samples of their values; paths are not in it. */
aq_status aq_identity_write(aq_source *source, const aq_tokens *tokens, const char *backend,
                            char *text);

/* INVALID if two such texts differ, naming what differs and `where` the old one stands. */
aq_status aq_identity_same(const char *where, const char *old_text, const char *new_text);

#endif
