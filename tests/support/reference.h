/* What the ops' suites compare with: values as float64, naive loops, finite differences.
 *
 * Everything returned by pointer is malloc'd and the caller's to free.
 */
#ifndef AQ_TESTS_REFERENCE_H
#define AQ_TESTS_REFERENCE_H

#include "tensor/ops.h"

/* The elements of an F32 or F64 tensor. */
double *reference_values(const aq_tensor *x);

/* Largest |x - expected| over largest |expected| (over 1 if that is 0); infinity if x holds NaN. */
double reference_distance(const aq_tensor *x, const double *expected);

/* Asserts that the distance is at most `limit` (and prints it otherwise), and frees `expected`. */
void reference_check(const aq_tensor *x, double *expected, double limit);

/* Codes below `entries` (U16), and a coded weight of normal numbers with scales in [0.5, 2.5). */
aq_tensor reference_codes(aq_shape shape, size_t entries, uint64_t seed);
aq_coded reference_coded(aq_scheme scheme, size_t out, size_t in, uint64_t seed);
void reference_coded_free(aq_coded *coded);

/* The weight [out, in] of the formula in ops.h. */
double *reference_decode(const aq_coded *coded);

/* A positive definite [size, size] matrix with an uneven spectrum, F32. */
aq_tensor reference_gram(size_t size, uint64_t seed);

/* Central difference of loss(context) by *x, which lies inside the context. */
double reference_slope(double (*loss)(const void *context), const void *context, double *x);

#endif
