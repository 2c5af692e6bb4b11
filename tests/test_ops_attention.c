#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One sequence's worth of a head in float64, and what it is differentiated by. */
typedef struct head_data {
    size_t length, dim;
    double *q, *k, *v, *dout; /* [length, dim] */
    double *out;              /* [length, dim], written by attend */
    double *log_sums;         /* [length], written by attend */
} head_data;

static double dot(const double *x, const double *y, size_t count) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) sum += x[i] * y[i];
    return sum;
}

/* Softmax over the keys up to the query, without any trick. */
static void attend(const head_data *head) {
    size_t dim = head->dim;
    for (size_t i = 0; i < head->length; i++) {
        double sum = 0.0, *out = head->out + i * dim;
        memset(out, 0, dim * sizeof *out);
        for (size_t j = 0; j <= i; j++) {
            double score = dot(head->q + i * dim, head->k + j * dim, dim) / sqrt((double)dim);
            sum += exp(score);
            for (size_t c = 0; c < dim; c++) out[c] += exp(score) * head->v[j * dim + c];
        }
        for (size_t c = 0; c < dim; c++) out[c] /= sum;
        head->log_sums[i] = log(sum);
    }
}

static double attention_loss(const void *context) {
    const head_data *head = context;
    attend(head);
    return dot(head->out, head->dout, head->length * head->dim);
}

/* The op's tensors of one problem. */
typedef struct attention_data {
    aq_attention shape;
    aq_tensor q, k, v, out, log_sums, dout, dq, dk, dv;
} attention_data;

static aq_tensor new_tensor(aq_shape shape) {
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, shape, &x));
    return x;
}

static attention_data attention_run(aq_attention shape) {
    size_t tokens = shape.sequences * shape.length;
    aq_shape wide = AQ_DIMS(tokens, shape.heads * shape.head_dim);
    aq_shape narrow = AQ_DIMS(tokens, shape.kv_heads * shape.head_dim);
    attention_data data = {.shape = shape,
                           .q = aq_test_normal(wide, 1),
                           .k = aq_test_normal(narrow, 2),
                           .v = aq_test_normal(narrow, 3),
                           .out = new_tensor(wide),
                           .log_sums =
                               new_tensor(AQ_DIMS(shape.sequences, shape.heads, shape.length)),
                           .dout = aq_test_normal(wide, 4),
                           .dq = new_tensor(wide),
                           .dk = new_tensor(narrow),
                           .dv = new_tensor(narrow)};
    AQ_CHECK(aq_causal_attention(&shape, &data.q, &data.k, &data.v, &data.out, &data.log_sums));
    aq_attention_tape tape = {&data.q, &data.k, &data.v, &data.out, &data.log_sums};
    AQ_CHECK(aq_causal_attention_grad(&shape, &tape, &data.dout, &data.dq, &data.dk, &data.dv));
    return data;
}

static void attention_free(attention_data *data) {
    aq_tensor *const all[] = {&data->q,    &data->k,  &data->v,  &data->out, &data->log_sums,
                              &data->dout, &data->dq, &data->dk, &data->dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) aq_tensor_free(all[i]);
}

/* Rows of one head of one sequence out of [T, heads * dim]. */
static double *head_rows(const aq_tensor *x, const aq_attention *shape, size_t sequence,
                         size_t head) {
    size_t dim = shape->head_dim, width = x->shape[1];
    double *all = reference_values(x), *rows = malloc(shape->length * dim * sizeof *rows);
    for (size_t t = 0; t < shape->length; t++)
        memcpy(rows + t * dim, all + (sequence * shape->length + t) * width + head * dim,
               dim * sizeof *rows);
    free(all);
    return rows;
}

static head_data head_of(const attention_data *data, size_t sequence, size_t head) {
    const aq_attention *shape = &data->shape;
    size_t key_head = head / (shape->heads / shape->kv_heads), length = shape->length;
    return (head_data){.length = length,
                       .dim = shape->head_dim,
                       .q = head_rows(&data->q, shape, sequence, head),
                       .k = head_rows(&data->k, shape, sequence, key_head),
                       .v = head_rows(&data->v, shape, sequence, key_head),
                       .dout = head_rows(&data->dout, shape, sequence, head),
                       .out = malloc(length * shape->head_dim * sizeof(double)),
                       .log_sums = malloc(length * sizeof(double))};
}

static void head_free(head_data *head) {
    free(head->q);
    free(head->k);
    free(head->v);
    free(head->dout);
    free(head->out);
    free(head->log_sums);
}

static double largest_difference(const double *x, const double *y, size_t count) {
    double largest = 0.0;
    for (size_t i = 0; i < count; i++) largest = fmax(largest, fabs(x[i] - y[i]));
    return largest;
}

static double forward_error(const attention_data *data, size_t sequence, size_t head) {
    const aq_attention *shape = &data->shape;
    head_data reference = head_of(data, sequence, head);
    attend(&reference);
    double *out = head_rows(&data->out, shape, sequence, head);
    double *sums = reference_values(&data->log_sums);
    const double *own = sums + (sequence * shape->heads + head) * shape->length;
    double error = fmax(largest_difference(out, reference.out, shape->length * shape->head_dim),
                        largest_difference(own, reference.log_sums, shape->length));
    free(out);
    free(sums);
    head_free(&reference);
    return error;
}

static void check_forward(aq_attention shape, double limit) {
    attention_data data = attention_run(shape);
    for (size_t sequence = 0; sequence < shape.sequences; sequence++)
        for (size_t head = 0; head < shape.heads; head++)
            CU_ASSERT(forward_error(&data, sequence, head) < limit);
    attention_free(&data);
}

static void attention_matches_a_loop(void) {
    check_forward((aq_attention){2, 130, 3, 3, 16, AQ_PRECISE}, 5e-6);
    check_forward((aq_attention){1, 1, 2, 1, 8, AQ_PRECISE}, 5e-6);
    check_forward((aq_attention){3, 33, 6, 2, 12, AQ_PRECISE}, 5e-6);
    check_forward((aq_attention){1, 65, 4, 1, 64, AQ_PRECISE}, 5e-6);
    check_forward((aq_attention){1, 300, 1, 1, 128, AQ_PRECISE}, 5e-6);
}

/* Limits: TF32 keeps 11 bits of operands. */
static void fast_attention_keeps_three_digits(void) {
    check_forward((aq_attention){2, 70, 4, 2, 32, AQ_FAST}, 3e-3);
    check_forward((aq_attention){1, 130, 3, 1, 64, AQ_FAST}, 3e-3);
    check_forward((aq_attention){1, 1, 2, 1, 4, AQ_FAST}, 3e-3);
    check_forward((aq_attention){1, 300, 1, 1, 128, AQ_FAST}, 3e-3);
    check_forward((aq_attention){2, 33, 2, 2, 100, AQ_FAST}, 3e-3);
    check_forward((aq_attention){1, 20, 2, 1, 6, AQ_FAST}, 3e-3);
}

/* Limits: bfloat16 keeps 8 bits, and scores, shares and their gradients are rounded. */
static void half_attention_keeps_two_digits(void) {
    check_forward((aq_attention){1, 130, 3, 1, 64, AQ_HALF}, 3e-2);
    check_forward((aq_attention){2, 64, 2, 2, 48, AQ_HALF}, 3e-2);
    check_forward((aq_attention){1, 1, 2, 1, 10, AQ_HALF}, 3e-2);
    check_forward((aq_attention){1, 200, 1, 1, 128, AQ_HALF}, 3e-2);
    check_forward((aq_attention){1, 20, 2, 1, 136, AQ_HALF}, 3e-2);
}

/* Scores of several hundred: exp alone would overflow float32. */
static void large_scores_do_not_overflow(void) {
    aq_attention shape = {1, 70, 1, 1, 16, AQ_PRECISE};
    attention_data data = attention_run(shape);
    AQ_CHECK(aq_axpby(100.0f, &data.dout, 0.0f, &data.q));
    AQ_CHECK(aq_causal_attention(&shape, &data.q, &data.k, &data.v, &data.out, &data.log_sums));
    size_t bad = 1;
    AQ_CHECK(aq_count_nonfinite(&data.out, &bad));
    CU_ASSERT_EQUAL(bad, 0);
    CU_ASSERT(forward_error(&data, 0, 0) < 1e-3);
    attention_free(&data);
}

/* Adds the slopes by one head's queries, keys and values to those of its key head. */
static void add_slopes(head_data *head, double *dk, double *dv, double *dq) {
    for (size_t i = 0; i < head->length * head->dim; i++) {
        dq[i] = reference_slope(attention_loss, head, &head->q[i]);
        dk[i] += reference_slope(attention_loss, head, &head->k[i]);
        dv[i] += reference_slope(attention_loss, head, &head->v[i]);
    }
}

static double gradient_error(const attention_data *data, size_t sequence, size_t key_head) {
    const aq_attention *shape = &data->shape;
    size_t shared = shape->heads / shape->kv_heads, count = shape->length * shape->head_dim;
    double *slopes = calloc(3 * count, sizeof *slopes), error = 0.0;
    for (size_t head = key_head * shared; head < (key_head + 1) * shared; head++) {
        head_data reference = head_of(data, sequence, head);
        add_slopes(&reference, slopes, slopes + count, slopes + 2 * count);
        double *dq = head_rows(&data->dq, shape, sequence, head);
        error = fmax(error, largest_difference(dq, slopes + 2 * count, count));
        free(dq);
        head_free(&reference);
    }
    double *dk = head_rows(&data->dk, shape, sequence, key_head);
    double *dv = head_rows(&data->dv, shape, sequence, key_head);
    error = fmax(error, largest_difference(dk, slopes, count));
    error = fmax(error, largest_difference(dv, slopes + count, count));
    free(dk);
    free(dv);
    free(slopes);
    return error;
}

static void check_gradients(aq_attention shape, double limit) {
    attention_data data = attention_run(shape);
    for (size_t sequence = 0; sequence < shape.sequences; sequence++)
        for (size_t head = 0; head < shape.kv_heads; head++)
            CU_ASSERT(gradient_error(&data, sequence, head) < limit);
    attention_free(&data);
}

static void attention_gradients_match_differences(void) {
    check_gradients((aq_attention){2, 13, 4, 2, 6, AQ_PRECISE}, 2e-5);
    check_gradients((aq_attention){1, 70, 1, 1, 4, AQ_PRECISE}, 2e-5);
    check_gradients((aq_attention){2, 1, 3, 1, 8, AQ_PRECISE}, 2e-5);
    check_gradients((aq_attention){1, 9, 2, 2, 16, AQ_PRECISE}, 2e-5);
}

static void half_attention_gradients_keep_two_digits(void) {
    check_gradients((aq_attention){2, 13, 4, 2, 8, AQ_HALF}, 5e-2);
    check_gradients((aq_attention){1, 70, 1, 1, 8, AQ_HALF}, 5e-2);
    check_gradients((aq_attention){1, 20, 1, 1, 72, AQ_HALF}, 5e-2);
    check_gradients((aq_attention){1, 9, 2, 1, 6, AQ_HALF}, 5e-2);
}

static double relative_distance(const aq_tensor *x, const aq_tensor *y) {
    double *a = reference_values(x), *b = reference_values(y), difference = 0, square = 0;
    for (size_t i = 0; i < aq_tensor_count(y); i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        square += b[i] * b[i];
    }
    free(a);
    free(b);
    return sqrt(difference / square);
}

/* Several tiles of queries and keys, for which differences would take long. */
static void half_attention_equals_the_precise_one(void) {
    const aq_attention shapes[] = {{1, 130, 4, 2, 64, AQ_HALF}, {2, 70, 1, 1, 128, AQ_HALF}};
    for (int i = 0; i < 2; i++) {
        aq_attention shape = shapes[i];
        attention_data half = attention_run(shape);
        shape.precision = AQ_PRECISE;
        attention_data precise = attention_run(shape);
        CU_ASSERT(relative_distance(&half.out, &precise.out) < 1e-2);
        CU_ASSERT(relative_distance(&half.log_sums, &precise.log_sums) < 1e-2);
        CU_ASSERT(relative_distance(&half.dq, &precise.dq) < 2e-2);
        CU_ASSERT(relative_distance(&half.dk, &precise.dk) < 2e-2);
        CU_ASSERT(relative_distance(&half.dv, &precise.dv) < 2e-2);
        attention_free(&half);
        attention_free(&precise);
    }
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(attention_matches_a_loop),
                                    AQ_CASE(fast_attention_keeps_three_digits),
                                    AQ_CASE(half_attention_keeps_two_digits),
                                    AQ_CASE(large_scores_do_not_overflow),
                                    AQ_CASE(attention_gradients_match_differences),
                                    AQ_CASE(half_attention_gradients_keep_two_digits),
                                    AQ_CASE(half_attention_equals_the_precise_one)};
    return aq_test_backend_main("ops: attention", cases, sizeof cases / sizeof *cases, argc, argv);
}
