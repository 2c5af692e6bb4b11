/* Golden values of PyTorch (tests/golden), and the models that they belong to. */
#ifndef AQ_TESTS_GOLDEN_H
#define AQ_TESTS_GOLDEN_H

#include "model/source.h"

/* Exactly these values of a file in tests/data, little-endian float32; freed by the caller. */
float *aq_test_golden(const char *name, size_t count);

/* Largest difference over the largest golden value. */
double aq_test_difference(const aq_tensor *tensor, const float *golden);

/* Compares with the golden values at *golden and steps past them. */
void aq_test_check_next(const char *what, const aq_tensor *tensor, const float **golden);

/* The dense model FOLDER/NAME; closed by the caller. */
aq_source *aq_test_golden_model(const char *folder, const char *name);

#endif
