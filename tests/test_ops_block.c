#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static aq_tensor new_tensor(aq_shape shape) {
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, shape, &x));
    return x;
}

/* ---- RMS norm ---- */

enum { TOKENS = 37, CHANNELS = 131 };
static const float epsilon = 1e-3f;

typedef struct norm_data {
    aq_tensor x, weight, y, inverse;
} norm_data;

static norm_data norm_forward(void) {
    norm_data data = {.x = aq_test_normal(AQ_DIMS(TOKENS, CHANNELS), 1),
                      .weight = aq_test_normal(AQ_DIMS(CHANNELS), 2),
                      .y = new_tensor(AQ_DIMS(TOKENS, CHANNELS)),
                      .inverse = new_tensor(AQ_DIMS(TOKENS))};
    AQ_CHECK(aq_rms_norm(&data.x, &data.weight, epsilon, &data.y, &data.inverse));
    return data;
}

static void norm_free(norm_data *data) {
    aq_tensor_free(&data->x);
    aq_tensor_free(&data->weight);
    aq_tensor_free(&data->y);
    aq_tensor_free(&data->inverse);
}

static double naive_inverse(const double *x) {
    double sum = 0.0;
    for (int c = 0; c < CHANNELS; c++) sum += x[c] * x[c];
    return 1.0 / sqrt(sum / CHANNELS + (double)epsilon);
}

static void rms_norm_matches_a_loop(void) {
    norm_data data = norm_forward();
    double *x = reference_values(&data.x), *w = reference_values(&data.weight);
    double *y = malloc(sizeof(double) * TOKENS * CHANNELS),
           *inverse = malloc(sizeof(double) * TOKENS);
    for (int t = 0; t < TOKENS; t++) {
        inverse[t] = naive_inverse(x + t * CHANNELS);
        for (int c = 0; c < CHANNELS; c++)
            y[t * CHANNELS + c] = x[t * CHANNELS + c] * inverse[t] * w[c];
    }
    reference_check(&data.y, y, 1e-6);
    reference_check(&data.inverse, inverse, 1e-6);
    free(x);
    free(w);
    norm_free(&data);
}

/* sum(dy . rms_norm(x, weight)) of one token. */
typedef struct norm_loss {
    double x[CHANNELS], weight[CHANNELS], dy[CHANNELS];
} norm_loss;

static double norm_loss_of(const void *context) {
    const norm_loss *at = context;
    double inverse = naive_inverse(at->x), sum = 0.0;
    for (int c = 0; c < CHANNELS; c++) sum += at->dy[c] * at->x[c] * inverse * at->weight[c];
    return sum;
}

static void rms_norm_gradients_match_differences_and_add(void) {
    norm_data data = norm_forward();
    aq_tensor dy = aq_test_normal(AQ_DIMS(TOKENS, CHANNELS), 3);
    aq_tensor dx = aq_test_normal(AQ_DIMS(TOKENS, CHANNELS), 4);
    aq_tensor dweight = aq_test_normal(AQ_DIMS(CHANNELS), 5);
    double *x = reference_values(&data.x), *w = reference_values(&data.weight);
    double *upper = reference_values(&dy), *slopes = reference_values(&dx);
    double *weight_slopes = reference_values(&dweight);
    for (int t = 0; t < TOKENS; t++) {
        norm_loss at;
        memcpy(at.x, x + t * CHANNELS, sizeof at.x);
        memcpy(at.weight, w, sizeof at.weight);
        memcpy(at.dy, upper + t * CHANNELS, sizeof at.dy);
        for (int c = 0; c < CHANNELS; c++) {
            slopes[t * CHANNELS + c] += reference_slope(norm_loss_of, &at, &at.x[c]);
            weight_slopes[c] += reference_slope(norm_loss_of, &at, &at.weight[c]);
        }
    }
    AQ_CHECK(aq_rms_norm_grad(&data.x, &data.weight, &data.inverse, &dy, &dx, &dweight));
    reference_check(&dx, slopes, 2e-6);
    reference_check(&dweight, weight_slopes, 2e-6);
    free(x);
    free(w);
    free(upper);
    aq_tensor_free(&dy);
    aq_tensor_free(&dx);
    aq_tensor_free(&dweight);
    norm_free(&data);
}

/* ---- rotation ---- */

enum { SEQUENCES = 3, LENGTH = 11, HEADS = 5, HEAD_DIM = 6, HALF = HEAD_DIM / 2 };

static double angle_of(size_t position, size_t i) {
    return (double)position / pow(10.0, (double)i);
}

static aq_tensor rotation_table(double (*function)(double)) {
    float table[(LENGTH + 2) * HALF];
    for (size_t i = 0; i < (LENGTH + 2) * HALF; i++)
        table[i] = (float)function(angle_of(i / HALF, i % HALF));
    return aq_test_tensor(AQ_F32, AQ_DIMS(LENGTH + 2, HALF), table);
}

static void rotation_turns_pairs_of_halves(void) {
    aq_tensor x = aq_test_normal(AQ_DIMS(SEQUENCES, LENGTH, HEADS, HEAD_DIM), 1);
    aq_tensor cosines = rotation_table(cos), sines = rotation_table(sin);
    double *before = reference_values(&x), *after = reference_values(&x);
    for (size_t head = 0; head < SEQUENCES * LENGTH * HEADS; head++)
        for (size_t i = 0; i < HALF; i++) {
            size_t low = head * HEAD_DIM + i, high = low + HALF;
            double angle = angle_of(head / HEADS % LENGTH, i);
            after[low] = before[low] * cos(angle) - before[high] * sin(angle);
            after[high] = before[high] * cos(angle) + before[low] * sin(angle);
        }
    AQ_CHECK(aq_rotate(&cosines, &sines, false, &x));
    reference_check(&x, after, 1e-6);
    AQ_CHECK(aq_rotate(&cosines, &sines, true, &x));
    reference_check(&x, before, 1e-6);
    aq_tensor_free(&x);
    aq_tensor_free(&cosines);
    aq_tensor_free(&sines);
}

/* ---- gate ---- */

enum { GATES = 2999 };

static double silu(double x) {
    return x / (1.0 + exp(-x));
}

static void the_gate_matches_its_formula_far_out_too(void) {
    aq_tensor gate = aq_test_normal(AQ_DIMS(GATES), 1), up = aq_test_normal(AQ_DIMS(GATES), 2);
    float *values = aq_test_host(&gate);
    for (int i = 0; i < GATES; i += 3) values[i] *= i % 2 ? 10.0f : 100.0f;
    AQ_CHECK(aq_tensor_upload(&gate, values, aq_tensor_bytes(&gate)));
    aq_tensor out = new_tensor(AQ_DIMS(GATES));
    AQ_CHECK(aq_silu_gate(&gate, &up, &out));
    double *g = reference_values(&gate), *u = reference_values(&up),
           *found = reference_values(&out);
    for (int i = 0; i < GATES; i++)
        CU_ASSERT_DOUBLE_EQUAL(found[i], silu(g[i]) * u[i], 1e-6 * (1.0 + fabs(g[i] * u[i])));
    free(values);
    free(g);
    free(u);
    free(found);
    aq_tensor_free(&gate);
    aq_tensor_free(&up);
    aq_tensor_free(&out);
}

typedef struct gate_loss {
    double gate, up, dout;
} gate_loss;

static double gate_loss_of(const void *context) {
    const gate_loss *at = context;
    return at->dout * silu(at->gate) * at->up;
}

static void gate_gradients_match_differences(void) {
    aq_tensor gate = aq_test_normal(AQ_DIMS(GATES), 1), up = aq_test_normal(AQ_DIMS(GATES), 2);
    aq_tensor dout = aq_test_normal(AQ_DIMS(GATES), 3);
    double *g = reference_values(&gate), *u = reference_values(&up), *d = reference_values(&dout);
    for (int i = 0; i < GATES; i++) {
        gate_loss at = {g[i], u[i], d[i]};
        g[i] = reference_slope(gate_loss_of, &at, &at.gate);
        u[i] = reference_slope(gate_loss_of, &at, &at.up);
    }
    AQ_CHECK(aq_silu_gate_grad(&dout, &gate, &up, &gate, &up));
    reference_check(&gate, g, 1e-6);
    reference_check(&up, u, 1e-6);
    free(d);
    aq_tensor_free(&gate);
    aq_tensor_free(&up);
    aq_tensor_free(&dout);
}

/* ---- cross entropy ---- */

static void cross_entropy_sums_over_tokens_and_adds(void) {
    enum { ROWS = 53, VOCABULARY = 1009 };
    aq_tensor logits = aq_test_normal(AQ_DIMS(ROWS, VOCABULARY), 1);
    float *values = aq_test_host(&logits);
    for (int v = 0; v < VOCABULARY; v++) values[v] += 1e4f; /* exp alone would overflow */
    AQ_CHECK(aq_tensor_upload(&logits, values, aq_tensor_bytes(&logits)));
    int32_t targets[ROWS];
    double start = 3.0, expected = start;
    for (int t = 0; t < ROWS; t++) {
        targets[t] = t * 19 % VOCABULARY;
        const float *row = values + t * VOCABULARY;
        double sum = 0.0;
        for (int v = 0; v < VOCABULARY; v++) sum += exp((double)row[v] - (double)row[targets[t]]);
        expected += log(sum);
    }
    aq_tensor wanted = aq_test_tensor(AQ_I32, AQ_DIMS(ROWS), targets);
    aq_tensor sum = aq_test_tensor(AQ_F64, AQ_DIMS(1), &start);
    AQ_CHECK(aq_cross_entropy_add(&logits, &wanted, &sum));
    CU_ASSERT(reference_distance(&sum, &expected) < 1e-6);
    free(values);
    aq_tensor_free(&logits);
    aq_tensor_free(&wanted);
    aq_tensor_free(&sum);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(rms_norm_matches_a_loop),
                                    AQ_CASE(rms_norm_gradients_match_differences_and_add),
                                    AQ_CASE(rotation_turns_pairs_of_halves),
                                    AQ_CASE(the_gate_matches_its_formula_far_out_too),
                                    AQ_CASE(gate_gradients_match_differences),
                                    AQ_CASE(cross_entropy_sums_over_tokens_and_adds)};
    return aq_test_backend_main("ops: transformer", cases, sizeof cases / sizeof *cases, argc,
                                argv);
}
