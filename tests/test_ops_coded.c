#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Schemes of all kinds, with a weight each that fits no tile. */
typedef struct coded_size {
    aq_scheme scheme;
    size_t out, in;
} coded_size;

static const coded_size sizes[] = {
    {{2, 8, 8, 1}, 37, 136}, {{1, 8, 8, 1}, 12, 40}, {{3, 4, 5, 2}, 26, 35},
    {{1, 1, 4, 3}, 9, 12},   {{2, 6, 16, 1}, 5, 48}, {{1, 12, 8, 1}, 130, 264},
    {{4, 2, 32, 1}, 3, 64},
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static aq_coded coded_of(const coded_size *size) {
    return reference_coded(size->scheme, size->out, size->in, 11);
}

static void decoding_follows_the_formula(void) {
    for (int s = 0; s < SIZES; s++) {
        aq_coded coded = coded_of(&sizes[s]);
        aq_tensor weight;
        AQ_CHECK(
            aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(sizes[s].out, sizes[s].in), &weight));
        AQ_CHECK(aq_decode(&coded, &weight));
        reference_check(&weight, reference_decode(&coded), 1e-6);
        aq_tensor_free(&weight);
        reference_coded_free(&coded);
    }
}

/* ---- gradients ---- */

typedef struct coded_grads {
    aq_tensor orders, offsets, weight_grad, codebooks, scales;
} coded_grads;

/* Gradients of the loss sum(weight_grad . decoded weight). */
static coded_grads coded_grads_new(const aq_coded *coded, size_t out, size_t in) {
    size_t books = coded->codebooks.shape[0], entries = coded->codebooks.shape[1];
    size_t vectors = coded->codes.shape[0] * coded->codes.shape[1];
    aq_backend *backend = aq_test_backend();
    coded_grads grads = {.weight_grad = aq_test_normal(AQ_DIMS(out, in), 21)};
    const size_t *shape = coded->codebooks.shape;
    AQ_CHECK(aq_tensor_new(backend, AQ_U32, AQ_DIMS(books, vectors), &grads.orders));
    AQ_CHECK(aq_tensor_new(backend, AQ_U32, AQ_DIMS(books, entries + 1), &grads.offsets));
    AQ_CHECK(aq_tensor_new(backend, AQ_F32, AQ_DIMS(shape[0], shape[1], shape[2], shape[3]),
                           &grads.codebooks));
    AQ_CHECK(aq_tensor_new(backend, AQ_F32, AQ_DIMS(coded->scales.shape[0]), &grads.scales));
    aq_tensor codes = aq_tensor_reshape(&coded->codes, AQ_DIMS(vectors, books));
    for (size_t m = 0; m < books; m++) {
        aq_tensor order = aq_tensor_rows(&grads.orders, m, 1);
        aq_tensor offsets = aq_tensor_rows(&grads.offsets, m, 1);
        order = aq_tensor_reshape(&order, AQ_DIMS(vectors));
        offsets = aq_tensor_reshape(&offsets, AQ_DIMS(entries + 1));
        AQ_CHECK(aq_sort_codes(&codes, (int)m, &order, &offsets));
    }
    AQ_CHECK(aq_coded_grad(coded, &grads.orders, &grads.offsets, &grads.weight_grad,
                           &grads.codebooks, &grads.scales));
    return grads;
}

static void coded_grads_free(coded_grads *grads) {
    aq_tensor_free(&grads->orders);
    aq_tensor_free(&grads->offsets);
    aq_tensor_free(&grads->weight_grad);
    aq_tensor_free(&grads->codebooks);
    aq_tensor_free(&grads->scales);
}

/* Every weight adds its gradient times its scale to its M codebook values. */
static double *naive_codebooks_grad(const aq_coded *coded, const aq_tensor *weight_grad) {
    const size_t *shape = coded->codebooks.shape;
    size_t in = weight_grad->shape[1], groups = coded->codes.shape[1];
    double *w = reference_values(weight_grad), *scales = reference_values(&coded->scales);
    double *grad = calloc(aq_tensor_count(&coded->codebooks), sizeof *grad);
    uint16_t *codes = aq_test_host(&coded->codes);
    for (size_t i = 0; i < aq_tensor_count(weight_grad); i++)
        for (size_t m = 0; m < shape[0]; m++) {
            size_t row = i / in / shape[2], line = i / in % shape[2], column = i % in;
            uint16_t code = codes[(row * groups + column / shape[3]) * shape[0] + m];
            size_t entry = (m * shape[1] + code) * shape[2] + line;
            grad[entry * shape[3] + column % shape[3]] += scales[row] * w[i];
        }
    free(w);
    free(scales);
    free(codes);
    return grad;
}

static double *naive_scales_grad(const aq_coded *coded, const aq_tensor *weight_grad) {
    size_t rows = coded->scales.shape[0], span = aq_tensor_count(weight_grad) / rows;
    double *w = reference_values(weight_grad), *scales = reference_values(&coded->scales);
    double *weight = reference_decode(coded), *grad = calloc(rows, sizeof *grad);
    for (size_t i = 0; i < rows * span; i++) grad[i / span] += w[i] * weight[i] / scales[i / span];
    free(w);
    free(scales);
    free(weight);
    return grad;
}

static void gradients_reach_codebooks_and_scales(void) {
    for (int s = 0; s < SIZES; s++) {
        aq_coded coded = coded_of(&sizes[s]);
        coded_grads grads = coded_grads_new(&coded, sizes[s].out, sizes[s].in);
        reference_check(&grads.codebooks, naive_codebooks_grad(&coded, &grads.weight_grad), 3e-6);
        reference_check(&grads.scales, naive_scales_grad(&coded, &grads.weight_grad), 3e-6);
        coded_grads_free(&grads);
        reference_coded_free(&coded);
    }
}

static void a_gradient_that_is_not_wanted_is_left_out(void) {
    aq_coded coded = coded_of(&sizes[0]);
    coded_grads grads = coded_grads_new(&coded, sizes[0].out, sizes[0].in);
    double *codebooks = reference_values(&grads.codebooks),
           *scales = reference_values(&grads.scales);
    AQ_CHECK(aq_fill(0, &grads.codebooks));
    AQ_CHECK(aq_fill(0, &grads.scales));
    AQ_CHECK(aq_coded_grad(&coded, &grads.orders, &grads.offsets, &grads.weight_grad,
                           &grads.codebooks, NULL));
    AQ_CHECK(aq_coded_grad(&coded, &grads.orders, &grads.offsets, &grads.weight_grad, NULL,
                           &grads.scales));
    reference_check(&grads.codebooks, codebooks, 0);
    reference_check(&grads.scales, scales, 0);
    coded_grads_free(&grads);
    reference_coded_free(&coded);
}

static double *naive_diagonal(const aq_coded *coded, const aq_tensor *gram) {
    const size_t *shape = coded->codebooks.shape;
    size_t groups = coded->codes.shape[1], in = gram->shape[0],
           vectors = coded->scales.shape[0] * groups;
    double *h = reference_values(gram), *scales = reference_values(&coded->scales);
    double *diagonal = calloc(aq_tensor_count(&coded->codebooks), sizeof *diagonal);
    uint16_t *codes = aq_test_host(&coded->codes);
    for (size_t n = 0; n < vectors * shape[0]; n++)
        for (size_t i = 0; i < shape[2] * shape[3]; i++) {
            size_t m = n % shape[0], vector = n / shape[0], row = vector / groups;
            size_t column = vector % groups * shape[3] + i % shape[3];
            diagonal[(m * shape[1] + codes[n]) * shape[2] * shape[3] + i] +=
                scales[row] * scales[row] * h[column * in + column];
        }
    free(h), free(scales), free(codes);
    return diagonal;
}

static void the_diagonal_holds_second_derivatives(void) {
    for (int s = 0; s < SIZES; s++) {
        aq_coded coded = coded_of(&sizes[s]);
        coded_grads grads = coded_grads_new(&coded, sizes[s].out, sizes[s].in);
        aq_tensor gram = aq_test_normal(AQ_DIMS(sizes[s].in, sizes[s].in), 3);
        AQ_CHECK(aq_coded_diagonal(&coded, &grads.orders, &grads.offsets, &gram, &grads.codebooks));
        reference_check(&grads.codebooks, naive_diagonal(&coded, &gram), 3e-6);
        aq_tensor_free(&gram);
        coded_grads_free(&grads);
        reference_coded_free(&coded);
    }
}

/* The loss is linear in each scale and each codebook value: one step equals the gradient. */
static void gradients_match_differences_of_the_decoded_weight(void) {
    aq_coded coded = reference_coded((aq_scheme){2, 3, 4, 2}, 8, 16, 5);
    coded_grads grads = coded_grads_new(&coded, 8, 16);
    double *w = reference_values(&grads.weight_grad), *before = reference_decode(&coded);
    double *expected = reference_values(&grads.codebooks);
    float *books = aq_test_host(&coded.codebooks);
    for (size_t i = 0; i < aq_tensor_count(&coded.codebooks); i += 7) {
        books[i] += 1.0f;
        AQ_CHECK(aq_tensor_upload(&coded.codebooks, books, aq_tensor_bytes(&coded.codebooks)));
        double *after = reference_decode(&coded), change = 0.0;
        for (size_t j = 0; j < 8 * 16; j++) change += w[j] * (after[j] - before[j]);
        CU_ASSERT_DOUBLE_EQUAL(change, expected[i], 1e-5);
        books[i] -= 1.0f;
        free(after);
    }
    free(w);
    free(before);
    free(expected);
    free(books);
    coded_grads_free(&grads);
    reference_coded_free(&coded);
}

static void zero_scales_have_no_gradient(void) {
    aq_coded coded = reference_coded((aq_scheme){2, 4, 8, 1}, 6, 32, 5);
    const float scales[6] = {1.0f, AQ_ZERO_SCALE, 0.5f, 0.0f, 2.0f, 3.0f};
    AQ_CHECK(aq_tensor_upload(&coded.scales, scales, sizeof scales));
    coded_grads grads = coded_grads_new(&coded, 6, 32);
    float *host = aq_test_host(&grads.scales);
    for (int r = 0; r < 6; r++) CU_ASSERT_EQUAL(host[r] == 0.0f, r == 1 || r == 3);
    free(host);
    coded_grads_free(&grads);
    reference_coded_free(&coded);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(decoding_follows_the_formula),
                                    AQ_CASE(gradients_reach_codebooks_and_scales),
                                    AQ_CASE(a_gradient_that_is_not_wanted_is_left_out),
                                    AQ_CASE(the_diagonal_holds_second_derivatives),
                                    AQ_CASE(gradients_match_differences_of_the_decoded_weight),
                                    AQ_CASE(zero_scales_have_no_gradient)};
    return aq_test_backend_main("ops: coded weights", cases, sizeof cases / sizeof *cases, argc,
                                argv);
}
