#include "run/machine.h"

#include "base/clock.h"
#include "base/stop.h"
#include "run/synthetic.h"

#include <stdlib.h>
#include <string.h>

enum { REPEATS = 5 };

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

double aq_median(double *numbers, int count) {
    if (count == 0) return 0;
    qsort(numbers, (size_t)count, sizeof *numbers, compare);
    return count % 2 ? numbers[count / 2] : (numbers[count / 2 - 1] + numbers[count / 2]) / 2;
}

static aq_status time_once(aq_backend *backend, aq_timed call, void *state, double *seconds) {
    double start = aq_seconds();
    AQ_TRY(aq_stop_check());
    AQ_TRY(call(state));
    AQ_TRY(aq_finish(backend));
    *seconds = aq_seconds() - start;
    return AQ_OK;
}

aq_status aq_time_median(aq_backend *backend, aq_timed call, void *state, int repeats,
                         double *seconds) {
    double *times = malloc((size_t)repeats * sizeof *times);
    aq_status status = AQ_OK;
    AQ_NEED(times, AQ_MEMORY, "no memory for %d times", repeats);
    AQ_STEP(time_once(backend, call, state, seconds));
    for (int i = 0; i < repeats; i++) AQ_STEP(time_once(backend, call, state, &times[i]));
    *seconds = aq_median(times, repeats);
done:
    free(times);
    return status;
}

typedef struct subject {
    aq_tensor a, b, c; /* [n, n] */
    aq_precision precision;
} subject;

static aq_status multiply(void *state) {
    subject *self = state;
    const aq_product how = {.alpha = 1, .precision = self->precision};
    return aq_matmul(&self->a, &self->b, &how, &self->c);
}

static aq_status copy(void *state) {
    subject *self = state;
    return aq_tensor_copy(&self->a, &self->c);
}

static aq_status product_rate(aq_backend *backend, subject *self, aq_precision precision,
                              double *rate) {
    double seconds = 0, n = (double)self->a.shape[0];
    self->precision = precision;
    AQ_TRY(aq_time_median(backend, multiply, self, REPEATS, &seconds));
    *rate = 2 * n * n * n / seconds;
    return AQ_OK;
}

static aq_status measure(aq_backend *backend, size_t n, subject *self, aq_machine *machine) {
    double seconds = 0;
    AQ_TRY(aq_synthetic_normal(backend, AQ_DIMS(n, n), 1, 0, &self->a));
    AQ_TRY(aq_synthetic_normal(backend, AQ_DIMS(n, n), 1, 1, &self->b));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(n, n), &self->c));
    AQ_TRY(aq_time_median(backend, copy, self, REPEATS, &seconds));
    machine->copy = 2 * (double)aq_tensor_bytes(&self->a) / seconds;
    AQ_TRY(product_rate(backend, self, AQ_PRECISE, &machine->precise));
    AQ_TRY(product_rate(backend, self, AQ_FAST, &machine->fast));
    machine->half = machine->fast;
    return AQ_OK;
}

aq_status aq_machine_measure(aq_backend *backend, aq_machine *machine) {
    bool cuda = strcmp(aq_backend_name(backend), "cuda") == 0;
    subject self = {0};
    aq_status status = measure(backend, cuda ? 8192 : 1024, &self, machine);
    aq_tensor_free(&self.a);
    aq_tensor_free(&self.b);
    aq_tensor_free(&self.c);
    return status;
}
