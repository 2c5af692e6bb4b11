/* The report that travels with a quantized model as the file aqlm_mpi.json: program, settings and
 * errors.
 *
 *     {"program": "aqlm-mpi 0.1.0", "settings": {...},
 *      "blocks": [{"index": 0, "error": 0.01, "fitted_error": 0.02,
 *                  "layers": [{"name": "model.layers.0.self_attn.q_proj", "error": 0.01}]}]}
 */
#ifndef AQ_STORE_REPORT_H
#define AQ_STORE_REPORT_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Appends a block to the array `blocks`; *layers is its array of layers, borrowed from it. */
aq_status aq_report_add_block(json_t *blocks, size_t index, double error, double fitted_error,
                              json_t **layers);

/* Notes in the block added last by which settings (JSON text) it differs from the others. */
aq_status aq_report_add_settings(json_t *blocks, const char *settings);

aq_status aq_report_add_layer(json_t *layers, const char *name, double error);

/* The report's text (the caller frees it). `settings` is JSON text, INVALID if it is not one
 * object; `blocks` is borrowed. */
aq_status aq_report_text(const char *settings, json_t *blocks, char **text);

/* Errors from a parsed report (or NULL): those of block `index`, and of its layer `name` where that
 * is given. False if the report does not say. */
bool aq_report_error(const json_t *report, size_t index, const char *name, double *error);

#endif
