/* A finished layer of a block in work, kept so that a killed job loses minutes. Where block tuning
 * stands is store/tuning_state.h's.
 *
 * HDF5 with digests, for this program alone (docs/file-formats.md). Values are float32 as they were
 * in memory: who reads them goes on to the same bits.
 */
#ifndef AQ_STORE_STATE_FILE_H
#define AQ_STORE_STATE_FILE_H

#include "model/shape.h"
#include "quant/coded_weight.h"

/* What a state file belongs to; `fingerprint` names the settings, model and tokens. */
typedef struct aq_state_facts {
    size_t block;
    const char *fingerprint;
} aq_state_facts;

/* A linear after its fit. */
typedef struct aq_layer_state {
    const char *name; /* borrowed: "self_attn.q_proj" */
    aq_coded coded;   /* borrowed when written, the caller's to free when read */
    double error;
} aq_layer_state;

/* IO with path and reason; then the older file, if there is one, is as it was. */
aq_status aq_layer_state_write(const char *path, const aq_state_facts *facts,
                               const aq_layer_state *layer);

/* Reads the state of the linear layer->name, of `shape` and `scheme`, into *layer. MISSING if there
 * is no such file; FORMAT, SHAPE or IO if it is damaged or another's: then *layer holds nothing. */
aq_status aq_layer_state_read(const char *path, const aq_state_facts *facts,
                              const aq_linear_shape *shape, const aq_scheme *scheme,
                              aq_backend *backend, aq_layer_state *layer);

#endif
