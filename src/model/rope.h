/* The rotary settings of a config.json, in either spelling. */
#ifndef AQ_MODEL_ROPE_H
#define AQ_MODEL_ROPE_H

#include "base/json.h"
#include "model/shape.h"

/* Reads `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (transformers 4,
 * theta 10,000 where it is absent). UNSUPPORTED for a type other than default, linear and llama3,
 * and where only a part of each head is rotated; FORMAT where both spellings are there and differ.
 */
aq_status aq_rope_parse(const json_t *config, aq_rope *rope);

#endif
