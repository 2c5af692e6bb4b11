/* Floating-point values as float16 bits in host memory, the form in which files hold what
 * quantization changed.
 */
#ifndef AQ_STORE_HALVES_H
#define AQ_STORE_HALVES_H

#include "tensor/ops.h"

/* halves[i] = value i of `bytes` (F32, F16 or BF16, possibly unaligned), rounded to nearest even.
 * NUMERIC naming `what` if a value is not finite or past float16's range. */
aq_status aq_halves_from(aq_dtype dtype, const void *bytes, size_t count, const char *what,
                         uint16_t *halves);

/* The same from an F32 tensor of any backend. Waits. */
aq_status aq_halves_download(const aq_tensor *values, const char *what, uint16_t *halves);

/* Makes the F32 tensor of these float16 values on `backend`. */
aq_status aq_halves_upload(const uint16_t *halves, aq_shape shape, aq_backend *backend,
                           aq_tensor *values);

/* NUMERIC naming `what` if one of them is NaN or infinite. */
aq_status aq_halves_check(const uint16_t *halves, size_t count, const char *what);

#endif
