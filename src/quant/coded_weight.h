/* A linear's coded weight as an object: made, decoded, measured, rounded.
 *
 * The struct itself (aq_coded) stands in tensor/ops.h, because ops work on it. Source: AQLM (arXiv
 * 2401.06118).
 */
#ifndef AQ_QUANT_CODED_WEIGHT_H
#define AQ_QUANT_CODED_WEIGHT_H

#include "tensor/ops.h"

enum { AQ_MAX_CODEBOOKS = 16, AQ_MAX_BITS = 16 };

/* Reads "MxB" ("2x8") into scheme->codebooks and ->bits, leaving the group sizes; INVALID
 * otherwise. */
aq_status aq_scheme_parse(const char *text, aq_scheme *scheme);

/* INVALID unless the scheme fits a weight [out, in]: g divides in, o divides out, K <= the number
 * of vectors. The text names the setting and both numbers. */
aq_status aq_scheme_check(const aq_scheme *scheme, size_t out, size_t in);

/* Bits a weight: codes + 16-bit codebook values + one 16-bit scale a row group, over out * in. */
double aq_scheme_bits(const aq_scheme *scheme, size_t out, size_t in);

/* Allocates codes, codebooks and scales for a weight [out, in]; contents undefined. */
aq_status aq_coded_new(aq_backend *backend, const aq_scheme *scheme, size_t out, size_t in,
                       aq_coded *coded);
void aq_coded_free(aq_coded *coded);

size_t aq_coded_out(const aq_coded *coded);
size_t aq_coded_in(const aq_coded *coded);

/* A view (borrowed) of row groups first .. first + count - 1, with all codebooks. */
aq_coded aq_coded_rows(const aq_coded *coded, size_t first, size_t count);

/* Copies codes, codebooks and scales between two of the same scheme and shape. */
aq_status aq_coded_copy(const aq_coded *source, aq_coded *target);

/* difference = decoded weight - weight; both [out, in], difference overwritten. */
aq_status aq_coded_difference(const aq_coded *coded, const aq_tensor *weight,
                              aq_tensor *difference);

/* Rounds an F32 tensor's values to float16 and keeps them as F32; NUMERIC with `what` in the text
 * if one is not finite or past float16's range (then unchanged). Waits. */
aq_status aq_round_to_half(aq_tensor *values, const char *what);

/* Codebooks and scales through aq_round_to_half. */
aq_status aq_coded_round(aq_coded *coded);

/* The vectors of each codebook sorted by code, as aq_coded_grad wants them: allocated by `new`,
 * filled by `update`, valid until codes change. */
typedef struct aq_code_index {
    aq_tensor orders;  /* U32 [M, N] */
    aq_tensor offsets; /* U32 [M, K+1] */
} aq_code_index;

aq_status aq_code_index_new(const aq_coded *coded, aq_code_index *index);
aq_status aq_code_index_update(const aq_coded *coded, aq_code_index *index);
void aq_code_index_free(aq_code_index *index);

#endif
