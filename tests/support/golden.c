#include "golden.h"

#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

float *aq_test_golden(const char *name, size_t count) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", aq_test_data(), name);
    FILE *file = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    float *values = malloc(count * sizeof *values);
    CU_ASSERT_EQUAL_FATAL(fread(values, sizeof *values, count, file), count);
    CU_ASSERT_EQUAL(fgetc(file), EOF);
    fclose(file);
    return values;
}

double aq_test_difference(const aq_tensor *tensor, const float *golden) {
    float *values = aq_test_host(tensor);
    double most = 0, largest = 0;
    for (size_t i = 0; i < aq_tensor_count(tensor); i++) {
        most = fmax(most, fabs((double)values[i] - golden[i]));
        largest = fmax(largest, fabs((double)golden[i]));
    }
    free(values);
    return most / largest;
}

void aq_test_check_next(const char *what, const aq_tensor *tensor, const float **golden) {
    double found = aq_test_difference(tensor, *golden);
    if (!(found < 5e-6)) printf("\n    %s is off by %g", what, found);
    CU_ASSERT_TRUE(found < 5e-6);
    *golden += aq_tensor_count(tensor);
}

aq_source *aq_test_golden_model(const char *folder, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    aq_source *source;
    AQ_CHECK(aq_dense_source_open(path, &source));
    return source;
}
