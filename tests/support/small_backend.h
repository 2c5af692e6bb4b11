/* A CPU backend whose tensors find only so much memory, and which counts what they take.
 */
#ifndef AQ_TESTS_SMALL_BACKEND_H
#define AQ_TESTS_SMALL_BACKEND_H

#include "tensor/backend.h"

typedef struct aq_small_backend {
    aq_backend backend; /* first; to be used like any other, and not to be closed */
    aq_ops ops;
    aq_backend *cpu; /* owned */
    size_t limit, used, peak;
} aq_small_backend;

/* `made` must stay where it is; freed with aq_small_backend_close. */
void aq_small_backend_open(size_t limit, aq_small_backend *made);
void aq_small_backend_close(aq_small_backend *made);

#endif
