/* A source: where a model's weights come from.
 *
 * One interface for a dense Hugging Face folder (model/dense_source), a gathered HDF5 file and an
 * exported AQLM folder (store/), so that forward passes, evaluation and export do not care. Tensors
 * are found by their full Hugging Face names. A source checks every length, offset, shape and type
 * against the file and the config before it is opened successfully; reading may still fail (IO).
 */
#ifndef AQ_MODEL_SOURCE_H
#define AQ_MODEL_SOURCE_H

#include "model/shape.h"
#include "tensor/ops.h"

/* A tensor as it is stored, by its bytes. */
typedef struct aq_stored {
    aq_dtype dtype; /* F32, F16 or BF16 */
    aq_shape shape;
    const void *bytes; /* borrowed from the source, little-endian, possibly unaligned */
    size_t size;
} aq_stored;

typedef struct aq_source aq_source;

struct aq_source {
    aq_model_shape shape;
    char *path;              /* as given, for messages */
    const char *kind;        /* "dense", "aqlm-hdf5", "aqlm-folder" */
    const aq_scheme *scheme; /* of the coded weights; NULL in a dense source */

    /* Finds a tensor that is stored as such; MISSING (naming it) if there is none. The bytes stay
     * valid until the next call of `find` or the close. */
    aq_status (*find)(aq_source *, const char *name, aq_stored *stored);
    /* Reads the coded weight of a linear ("model.layers.0.mlp.up_proj") into *coded, which it makes
     * on `backend` and the caller frees. NULL in sources that hold no coded weights. */
    aq_status (*read_coded)(aq_source *, const char *linear, aq_backend *backend, aq_coded *coded);
    /* The bytes of a file that came with the model ("tokenizer.json"); MISSING if there is none. */
    aq_status (*read_file)(aq_source *, const char *name, char **bytes, size_t *size);
    void (*close)(aq_source *);
    void *state;
};

/* Opens a dense Hugging Face folder: config.json, and model.safetensors or its index with shards,
 * mapped. All tensors that the config asks for are checked (present, shape, type, inside the file,
 * not overlapping). The source is freed with aq_source_close. */
aq_status aq_dense_source_open(const char *folder, aq_source **source);

void aq_source_close(aq_source *source); /* NULL is fine */

/* For those who make sources: copies `like` (kind and functions) with a copy of the path and a
 * state of `state_size` zero bytes, which like->close frees, and runs `load` on it. After a failure
 * it is closed and *source is NULL. */
aq_status aq_source_new(const aq_source *like, const char *path, size_t state_size,
                        aq_status (*load)(aq_source *), aq_source **source);

/* Finds a tensor and compares its shape; SHAPE with both shapes, naming tensor and path. */
aq_status aq_source_check(aq_source *source, const char *name, aq_shape shape);

/* Reads a tensor as F32 into *tensor, which it makes on `backend`; SHAPE if it has not `shape`,
 * NUMERIC if it holds NaN or infinity. The error names the tensor and the source's path. */
aq_status aq_source_tensor(aq_source *source, const char *name, aq_shape shape, aq_backend *backend,
                           aq_tensor *tensor);

/* A linear's weight [out, in] as F32: decoded if the source holds it coded. */
aq_status aq_source_linear(aq_source *source, size_t block, aq_linear_kind linear,
                           aq_backend *backend, aq_tensor *weight);

/* Rows of the embedding for `count` tokens (host) as F32 [count, hidden] into x (overwritten): only
 * those rows are touched in the file. INVALID for a token outside the vocabulary (with its
 * position). */
aq_status aq_source_embed(aq_source *source, const int32_t *tokens, size_t count, aq_tensor *x);

#endif
