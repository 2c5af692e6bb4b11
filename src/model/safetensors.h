/* The safetensors format: where each tensor of a file lies, checked before anything is used.
 *
 * Layout: header length (8 bytes, little-endian), header (JSON: name -> dtype, shape, data_offsets
 * relative to the end of the header; `__metadata__` is skipped), data. Tensors may be unaligned.
 * Source: github.com/huggingface/safetensors, section Format.
 */
#ifndef AQ_MODEL_SAFETENSORS_H
#define AQ_MODEL_SAFETENSORS_H

#include "base/file.h"
#include "model/source.h"

/* Every element type of whole bytes that the format knows, with its size. */
#define AQ_SAFETENSOR_TYPES(X)                                                                     \
    X(BOOL, 1)                                                                                     \
    X(U8, 1)                                                                                       \
    X(I8, 1)                                                                                       \
    X(F8_E4M3, 1)                                                                                  \
    X(F8_E5M2, 1)                                                                                  \
    X(F8_E8M0, 1)                                                                                  \
    X(I16, 2)                                                                                      \
    X(U16, 2)                                                                                      \
    X(F16, 2)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(I32, 4)                                                                                      \
    X(U32, 4)                                                                                      \
    X(F32, 4)                                                                                      \
    X(F64, 8)                                                                                      \
    X(I64, 8)                                                                                      \
    X(U64, 8)                                                                                      \
    X(C64, 8)

typedef enum aq_safetensor_type {
#define AQ_SAFETENSOR_ENUM(name, size) AQ_SAFETENSOR_##name,
    AQ_SAFETENSOR_TYPES(AQ_SAFETENSOR_ENUM)
#undef AQ_SAFETENSOR_ENUM
} aq_safetensor_type;

const char *aq_safetensor_type_name(aq_safetensor_type type); /* "BF16" */

enum { AQ_SAFETENSOR_DIMS = 8 };

typedef struct aq_safetensor {
    char *name; /* owned by the aq_safetensors */
    aq_safetensor_type type;
    int ndim; /* 0: a single element */
    size_t dims[AQ_SAFETENSOR_DIMS];
    const unsigned char *bytes; /* inside the file, possibly unaligned */
    size_t size;                /* elements times their size; may be 0 */
} aq_safetensor;

typedef struct aq_safetensors {
    aq_map map;             /* empty after aq_safetensors_parse */
    aq_safetensor *tensors; /* in ascending order of their names (strcmp) */
    size_t count;
} aq_safetensors;

/* Reads the header of a file that lies in memory (hostile; borrowed, must outlive *file). FORMAT
 * for a header that is truncated or not JSON, an unknown dtype, a size that does not fit the shape,
 * offsets outside the file, tensors that overlap. The text names the tensor. */
aq_status aq_safetensors_parse(const void *bytes, size_t size, aq_safetensors *file);

/* Maps `path` and parses it; errors carry the path. */
aq_status aq_safetensors_open(const char *path, aq_safetensors *file);

void aq_safetensors_close(aq_safetensors *file);

/* The tensor of that name, or NULL. */
const aq_safetensor *aq_safetensors_find(const aq_safetensors *file, const char *name);

/* The same tensor as weights. SHAPE, naming the tensor, if it is not F32, F16 or BF16 or has no or
 * more than AQ_MAX_DIMS dimensions. */
aq_status aq_safetensor_weights(const aq_safetensor *tensor, aq_stored *stored);

#endif
