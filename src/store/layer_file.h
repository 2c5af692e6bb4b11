/* One layer problem: an HDF5 file with the datasets `weight` [out, in] and `gram` [in, in].
 *
 * What `aqlm-mpi bench layer` reads; such files come from people and their scripts, so float16,
 * float32 and float64 are all taken.
 */
#ifndef AQ_STORE_LAYER_FILE_H
#define AQ_STORE_LAYER_FILE_H

#include "tensor/ops.h"

/* Reads both into the backend as F32, made here and the caller's to free. MISSING, FORMAT or IO as
 * in store/h5.h; SHAPE if they are not matrices that go together; MEMORY if they do not fit into
 * the backend; NUMERIC if a value is not finite as float32. */
aq_status aq_layer_file_read(const char *path, aq_backend *backend, aq_tensor *weight,
                             aq_tensor *gram);

#endif
