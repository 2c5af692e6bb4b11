/* A coded weight as files hold it: codes and float16 bits in host memory, between a file and a
 * backend or between two files.
 */
#ifndef AQ_STORE_CODED_DATA_H
#define AQ_STORE_CODED_DATA_H

#include "quant/coded_weight.h"

enum { AQ_MAX_GROUP = 1 << 20 }; /* far above every group size in use */

typedef struct aq_coded_data {
    aq_scheme scheme;
    size_t rows, groups; /* out / out_group, in / in_group */
    uint16_t *codes;     /* [rows, groups, M]; owned, like the next two */
    uint16_t *codebooks; /* float16 [M, 2^bits, out_group, in_group] */
    uint16_t *scales;    /* float16 [rows] */
} aq_coded_data;

/* The same without its arrays: scheme and sizes for a weight that the scheme fits. */
aq_coded_data aq_coded_data_outline(const aq_scheme *scheme, size_t out, size_t in);

/* Allocates for a weight [out, in]; contents undefined. INVALID if the scheme does not fit. */
aq_status aq_coded_data_new(const aq_scheme *scheme, size_t out, size_t in, aq_coded_data *data);
void aq_coded_data_free(aq_coded_data *data);

/* Shapes of the three parts, and the type that holds a code: U8 up to 8 bits, else U16. */
aq_shape aq_coded_data_codes(const aq_coded_data *data);
aq_shape aq_coded_data_codebooks(const aq_coded_data *data);
aq_shape aq_coded_data_scales(const aq_coded_data *data);
aq_dtype aq_code_dtype(const aq_scheme *scheme);

/* Bytes of the three parts in a file. */
size_t aq_coded_data_bytes(const aq_coded_data *data);

/* Codes as files hold them: one byte each up to 8 bits, else two, and in Hugging Face's folders
 * `wrapped`: signed, those from 2^(bits-1) on are stored minus 2^bits. Packing makes a new array
 * *packed (the caller frees it); unpacking fills data->codes from `packed`, which may lie at any
 * address. */
aq_status aq_coded_data_pack(const aq_coded_data *data, bool wrapped, void **packed);
void aq_coded_data_unpack(aq_coded_data *data, bool wrapped, const void *packed);

/* FORMAT if a code is not below 2^bits, NUMERIC if a codebook value or scale is not finite; the
 * text names `linear` and the part. */
aq_status aq_coded_data_check(const aq_coded_data *data, const char *linear);

/* Fills `data`, made for the same scheme and shape, from a backend's coded weight, rounding to
 * float16; NUMERIC naming `linear` for a value past its range. Waits. */
aq_status aq_coded_data_download(const aq_coded *coded, const char *linear, aq_coded_data *data);

/* Makes the coded weight on `backend`; the caller frees it. */
aq_status aq_coded_data_upload(const aq_coded_data *data, aq_backend *backend, aq_coded *coded);

#endif
