#include "run/machine.h"

#include "base/clock.h"
#include "base/stop.h"
#include "run/synthetic.h"

#include <stdlib.h>
#include <string.h>

enum { REPEATS = 5, COPIES = 8 };

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
    aq_tensor a, b, c; /* equal shapes */
    aq_precision precision;
} subject;

static void subject_free(subject *self) {
    aq_tensor_free(&self->a);
    aq_tensor_free(&self->b);
    aq_tensor_free(&self->c);
}

/* Several, so that waiting for the end does not count. */
static aq_status copy(void *state) {
    subject *self = state;
    for (int i = 0; i < COPIES; i++) AQ_TRY(aq_tensor_copy(&self->a, &self->c));
    return AQ_OK;
}

static aq_status measure_copies(aq_backend *backend, size_t count, double *rate) {
    subject self = {0};
    aq_status status;
    double seconds = 0;
    AQ_STEP(aq_tensor_zeros(backend, AQ_F32, AQ_DIMS(count), &self.a));
    AQ_STEP(aq_tensor_new(backend, AQ_F32, AQ_DIMS(count), &self.c));
    AQ_STEP(aq_time_median(backend, copy, &self, REPEATS, &seconds));
    *rate = 2.0 * COPIES * (double)aq_tensor_bytes(&self.a) / seconds;
done:
    subject_free(&self);
    return status;
}

static aq_status multiply(void *state) {
    subject *self = state;
    const aq_product how = {.alpha = 1, .precision = self->precision};
    return aq_matmul(&self->a, &self->b, &how, &self->c);
}

static aq_status measure_product(aq_backend *backend, subject *self, aq_precision precision,
                                 double *rate) {
    double seconds = 0, n = (double)self->a.shape[0];
    self->precision = precision;
    AQ_TRY(aq_time_median(backend, multiply, self, REPEATS, &seconds));
    *rate = 2 * n * n * n / seconds;
    return AQ_OK;
}

/* Of the same operands rounded to bfloat16 beforehand. */
static aq_status measure_halves(aq_backend *backend, const subject *exact, double *rate) {
    subject self = {0};
    aq_shape shape = AQ_DIMS(exact->a.shape[0], exact->a.shape[1]);
    aq_status status;
    AQ_STEP(aq_tensor_new(backend, AQ_BF16, shape, &self.a));
    AQ_STEP(aq_tensor_new(backend, AQ_BF16, shape, &self.b));
    AQ_STEP(aq_tensor_new(backend, AQ_F32, shape, &self.c));
    AQ_STEP(aq_convert(&exact->a, 1, &self.a));
    AQ_STEP(aq_convert(&exact->b, 1, &self.b));
    AQ_STEP(measure_product(backend, &self, AQ_HALF, rate));
done:
    subject_free(&self);
    return status;
}

static aq_status measure_products(aq_backend *backend, size_t n, aq_machine *machine) {
    subject self = {0};
    aq_status status;
    AQ_STEP(aq_synthetic_normal(backend, AQ_DIMS(n, n), 1, 0, &self.a));
    AQ_STEP(aq_synthetic_normal(backend, AQ_DIMS(n, n), 1, 1, &self.b));
    AQ_STEP(aq_tensor_new(backend, AQ_F32, AQ_DIMS(n, n), &self.c));
    AQ_STEP(measure_product(backend, &self, AQ_PRECISE, &machine->precise));
    AQ_STEP(measure_product(backend, &self, AQ_FAST, &machine->fast));
    machine->half = machine->fast;
    if (aq_backend_halves(backend)) AQ_STEP(measure_halves(backend, &self, &machine->half));
done:
    subject_free(&self);
    return status;
}

aq_status aq_machine_measure(aq_backend *backend, aq_machine *machine) {
    bool cuda = strcmp(aq_backend_name(backend), "cuda") == 0;
    AQ_TRY(measure_copies(backend, (size_t)1 << (cuda ? 28 : 24), &machine->copy));
    return measure_products(backend, cuda ? 8192 : 1024, machine);
}
