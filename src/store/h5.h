/* HDF5 as this folder uses it: whole datasets, checked on reading, chunked under fletcher32 on
 * writing.
 *
 * Private to src/store. HDF5's codes become statuses here, and every error text starts with the
 * file's path and names the dataset or attribute. Names are paths from the root
 * ("tensors/x/codes"). Written files hold no times, so equal contents are equal bytes, and appear
 * under their names only when complete.
 */
#ifndef AQ_STORE_H5_H
#define AQ_STORE_H5_H

#include "base/watch.h"
#include "tensor/tensor.h"

#include <hdf5.h>

typedef struct aq_h5 {
    hid_t id;
    char *path;            /* owned; the final name */
    char *temporary;       /* owned; the name while it is written, NULL in a file that is read */
    const aq_watch *watch; /* borrowed or NULL: may stop a commit while it reads for the digest */
} aq_h5;

/* The system's reason why HDF5 failed: to be asked behind a call before which errno was set to 0.
 */
const char *aq_h5_reason(void);

/* Opens a file for reading. MISSING if there is none, FORMAT if it is not HDF5, else IO. */
aq_status aq_h5_open(const char *path, aq_h5 *file);

/* The same after the file was compared with the digest beside it, if there is one (FORMAT). */
aq_status aq_h5_open_verified(const char *path, const aq_watch *watch, aq_h5 *file);

/* Creates a file under a temporary name beside `path`; IO with the reason. */
aq_status aq_h5_create(const char *path, aq_h5 *file);

/* Makes a created file durable and gives it its name, replacing an older one, with its digest
 * (base/digest.h). Closes it either way; after a failure (IO) nothing new stands under either name.
 */
aq_status aq_h5_commit(aq_h5 *file);

/* Closes a file; one that was created and not committed is removed. `{0}` is fine. */
void aq_h5_close(aq_h5 *file);

/* Type and shape of a dataset. MISSING if there is none; FORMAT for types and ranks that this
 * program does not know, dimensions of 0, and data that lies outside the file (external or virtual
 * storage). Unsigned 16-bit integers with the attribute dtype = "BF16" are BF16. */
aq_status aq_h5_look(const aq_h5 *file, const char *name, aq_dtype *dtype, aq_shape *shape);

/* SHAPE, with both sides in the text, unless the dataset has exactly this type and shape. */
aq_status aq_h5_check(const aq_h5 *file, const char *name, aq_dtype dtype, aq_shape shape);

/* Reads a whole dataset after that check into `data` (borrowed, large enough); IO if the data
 * cannot be read or fails its checksum. */
aq_status aq_h5_read(const aq_h5 *file, const char *name, aq_dtype dtype, aq_shape shape,
                     void *data);

/* Writes a new dataset with an attribute dtype that names its type, making the groups above it. */
aq_status aq_h5_write(const aq_h5 *file, const char *name, aq_dtype dtype, aq_shape shape,
                      const void *data);

/* Attributes of an object ("/" is the file itself): text (the caller frees it), integer, float64.
 * MISSING if there is none, FORMAT if it is of another kind. */
aq_status aq_h5_read_text(const aq_h5 *file, const char *object, const char *key, char **text);
aq_status aq_h5_read_long(const aq_h5 *file, const char *object, const char *key, long *value);
aq_status aq_h5_read_double(const aq_h5 *file, const char *object, const char *key, double *value);

/* New attributes; text is below 64 KiB. */
aq_status aq_h5_write_text(const aq_h5 *file, const char *object, const char *key,
                           const char *text);
aq_status aq_h5_write_long(const aq_h5 *file, const char *object, const char *key, long value);
aq_status aq_h5_write_double(const aq_h5 *file, const char *object, const char *key, double value);

#endif
