/* The shape of a model: what config.json says, checked, and the list of its blocks' linears.
 *
 * Both spellings of rotary settings are read: transformers 4 (`rope_theta`, `rope_scaling`) and 5
 * (`rope_parameters`).
 */
#ifndef AQ_MODEL_SHAPE_H
#define AQ_MODEL_SHAPE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum aq_rope_kind { AQ_ROPE_DEFAULT, AQ_ROPE_LINEAR, AQ_ROPE_LLAMA3 } aq_rope_kind;

typedef struct aq_rope {
    aq_rope_kind kind;
    double theta;
    double factor;                  /* linear, llama3 */
    double low_factor, high_factor; /* llama3 */
    double original_length;         /* llama3 */
} aq_rope;

/* Whose input a linear reads; linears that read the same input share a Gram matrix. */
typedef enum aq_tap {
    AQ_TAP_ATTENTION_IN,  /* q, k, v */
    AQ_TAP_ATTENTION_OUT, /* o */
    AQ_TAP_MLP_IN,        /* gate, up */
    AQ_TAP_MLP_OUT,       /* down */
    AQ_TAP_COUNT
} aq_tap;

typedef enum aq_linear_kind {
    AQ_LINEAR_Q,
    AQ_LINEAR_K,
    AQ_LINEAR_V,
    AQ_LINEAR_O,
    AQ_LINEAR_GATE,
    AQ_LINEAR_UP,
    AQ_LINEAR_DOWN,
    AQ_LINEAR_COUNT
} aq_linear_kind;

typedef enum aq_norm_kind { AQ_NORM_ATTENTION, AQ_NORM_MLP, AQ_NORM_COUNT } aq_norm_kind;

typedef struct aq_linear_shape {
    const char *name; /* inside the block: "self_attn.q_proj" (static) */
    size_t out, in;
    bool bias;
    aq_tap tap;
} aq_linear_shape;

enum { AQ_MODEL_TYPE_SIZE = 32, AQ_NAME_SIZE = 256 };

typedef struct aq_model_shape {
    char model_type[AQ_MODEL_TYPE_SIZE]; /* "llama", "mistral", "qwen2" */
    size_t blocks, hidden, ffn, heads, kv_heads, head_dim, vocab;
    size_t max_length; /* of a sequence: max_position_embeddings, or a shorter sliding window */
    float norm_epsilon;
    bool tied_embeddings;
    aq_rope rope;
    aq_linear_shape linears[AQ_LINEAR_COUNT];
} aq_model_shape;

/* Columns of the input at a tap. */
static inline size_t aq_tap_width(const aq_model_shape *shape, aq_tap tap) {
    int linear = 0;
    while (shape->linears[linear].tap != tap) linear++;
    return shape->linears[linear].in;
}

/* Parses the text of a config.json (`length` bytes, hostile). FORMAT if it is not JSON or a value
 * is of the wrong kind, MISSING for a key without default, UNSUPPORTED for a model_type, rope type,
 * activation or sliding window that this program does not compute; the text names the key and the
 * value. */
aq_status aq_model_shape_parse(const char *text, size_t length, aq_model_shape *shape);

/* Full tensor names into `name` (AQ_NAME_SIZE bytes): "model.layers.3.self_attn.q_proj" + suffix
 * ("", ".weight", ".bias"); norms' weights; and the two ends of the model. */
void aq_linear_name(const aq_model_shape *shape, size_t block, aq_linear_kind linear,
                    const char *suffix, char *name);
void aq_norm_name(size_t block, aq_norm_kind norm, char *name);
#define AQ_EMBEDDING_NAME "model.embed_tokens.weight"
#define AQ_FINAL_NORM_NAME "model.norm.weight"
#define AQ_HEAD_NAME "lm_head.weight"

/* Cosine and sine tables of the rotary embedding, [length, head_dim / 2] each (borrowed,
 * overwritten). */
void aq_rope_tables(const aq_model_shape *shape, size_t length, float *cosines, float *sines);

#endif
