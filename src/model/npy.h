/* NumPy's .npy files: the header of one, strictly read; and matrices of float32, written.
 *
 * Layout: "\x93NUMPY", version (1.0, 2.0 or 3.0), header length (2 bytes, or 4 from 2.0 on,
 * little-endian), a Python dict {'descr': '<u2', 'fortran_order': False, 'shape': (3, 4), }, data.
 * Source: numpy.lib.format. When reading, only what token files need is accepted: one or two
 * dimensions of little-endian uint16, int32 or int64 in C order.
 */
#ifndef AQ_MODEL_NPY_H
#define AQ_MODEL_NPY_H

#include "base/status.h"

#include <stddef.h>

typedef enum aq_npy_type { AQ_NPY_U16, AQ_NPY_I32, AQ_NPY_I64 } aq_npy_type;

typedef struct aq_npy {
    aq_npy_type type;
    size_t element_size;       /* bytes */
    size_t rows, columns;      /* 1-D: rows is 1; either may be 0 */
    int ndim;                  /* as stored: 1 or 2 */
    const unsigned char *data; /* borrowed, rows * columns elements, possibly unaligned */
} aq_npy;

/* Reads the header of a whole file in memory (hostile; borrowed). FORMAT, saying what was expected
 * and found, for anything else than the above, and where the data is shorter or longer than the
 * shape asks for. */
aq_status aq_npy_parse(const void *bytes, size_t size, aq_npy *array);

/* Makes `path` hold the float32 matrix `values` [rows, columns], version 1.0, in one step (see
 * base/file.h): it is there whole or as it was. */
aq_status aq_npy_write(const char *path, const float *values, size_t rows, size_t columns);

#endif
