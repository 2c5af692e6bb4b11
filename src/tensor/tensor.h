/* A tensor: elements in row-major order, without gaps, in one backend's memory.
 *
 * The struct is small and visible; copy it to pass a borrowed view. Only the tensor that was made
 * by aq_tensor_new owns its memory; views (rows, reshape) borrow it and are never freed.
 * `{0}` is the empty tensor: freeing it does nothing.
 */
#ifndef AQ_TENSOR_TENSOR_H
#define AQ_TENSOR_TENSOR_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum aq_dtype { AQ_F32, AQ_F64, AQ_F16, AQ_BF16, AQ_U8, AQ_U16, AQ_U32, AQ_I32 } aq_dtype;

enum { AQ_MAX_DIMS = 4 };

struct aq_backend;

typedef struct aq_tensor {
    struct aq_backend *home; /* whose memory `data` is */
    void *data;
    size_t shape[AQ_MAX_DIMS]; /* entries past ndim are 1 */
    int ndim;
    aq_dtype dtype;
    bool owned;
} aq_tensor;

/* Shape literals: AQ_DIMS(rows, columns). At most AQ_MAX_DIMS entries, none of them 0. */
typedef struct aq_shape {
    int ndim;
    size_t dims[AQ_MAX_DIMS];
} aq_shape;
#define AQ_DIMS(...)                                                                               \
    ((aq_shape){.ndim = (int)(sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t)),                   \
                .dims = {__VA_ARGS__}})

size_t aq_shape_count(aq_shape shape); /* the product; the caller knows that it fits */
bool aq_shape_same(aq_shape a, aq_shape b);

/* "[2, 3]" into `text`, which it returns. */
enum { AQ_SHAPE_TEXT_SIZE = 96 };
const char *aq_shape_text(aq_shape shape, char text[AQ_SHAPE_TEXT_SIZE]);

size_t aq_dtype_size(aq_dtype dtype);      /* bytes an element */
const char *aq_dtype_name(aq_dtype dtype); /* as safetensors spells it: "F32", "BF16", "U16" ... */

/* Allocates; contents are undefined. MEMORY if it does not fit (with what was asked for and what is
 * free), INVALID if the size overflows. `*tensor` is empty after a failure. */
aq_status aq_tensor_new(struct aq_backend *home, aq_dtype dtype, aq_shape shape, aq_tensor *tensor);

/* The same, all bytes zero. */
aq_status aq_tensor_zeros(struct aq_backend *home, aq_dtype dtype, aq_shape shape,
                          aq_tensor *tensor);

/* Frees an owned tensor and makes it empty; a view just becomes empty. */
void aq_tensor_free(aq_tensor *tensor);

size_t aq_tensor_count(const aq_tensor *tensor); /* elements; 0 for the empty tensor */
size_t aq_tensor_bytes(const aq_tensor *tensor);

/* Views (borrowed): rows `first` .. `first + count - 1` of the first dimension; the same elements
 * under another shape of equal count. The caller guarantees that they fit (checked by assert). */
aq_tensor aq_tensor_rows(const aq_tensor *tensor, size_t first, size_t count);
aq_tensor aq_tensor_reshape(const aq_tensor *tensor, aq_shape shape);

/* A view of the same elements for another backend of the same device (aq_backend_another). Who
 * takes it sees to the order of writing and reading: nothing else does. */
aq_tensor aq_tensor_seen_from(struct aq_backend *backend, const aq_tensor *tensor);

/* Moves whole tensors between host memory and the tensor's home; `bytes` must be the tensor's size.
 * Both have finished when they return. */
aq_status aq_tensor_upload(aq_tensor *tensor, const void *host, size_t bytes);
aq_status aq_tensor_download(const aq_tensor *tensor, void *host, size_t bytes);

/* The same without waiting, ordered like an op: host memory, of the tensor's size, is the
 * transfer's until the next aq_finish, upload or download that waits. */
aq_status aq_tensor_upload_queued(aq_tensor *tensor, const void *host);
aq_status aq_tensor_download_queued(const aq_tensor *tensor, void *host);

/* Begins when what is queued now is done, and goes on beside what is queued afterwards: the tensor
 * holds the contents behind an aq_ahead_join (tensor/ops.h), host memory is the transfer's until
 * the aq_finish after that. */
aq_status aq_tensor_upload_ahead(aq_tensor *tensor, const void *host);

/* Copies between tensors of the same home, type and count. Ordered like an op. */
aq_status aq_tensor_copy(const aq_tensor *source, aq_tensor *target);

#ifdef __cplusplus
}
#endif
#endif
