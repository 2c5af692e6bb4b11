/* Steps of the codebook solver: conjugate gradients, and Newton's step of scales. */
#include "reference.h"
#include "suite.h"

#include <math.h>
#include <stdlib.h>

typedef struct problem {
    size_t size;
    aq_tensor matrix, diagonal, solution, residual, direction, product, numbers;
} problem;

static aq_tensor zeros(aq_dtype type, size_t count) {
    aq_tensor x;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), type, AQ_DIMS(count), &x));
    return x;
}

/* A x = b with x = 0 and a random b; the diagonal is A's. */
static problem problem_new(size_t size) {
    problem made = {.size = size, .matrix = reference_gram(size, 7)};
    float *matrix = aq_test_host(&made.matrix), *diagonal = malloc(size * sizeof *diagonal);
    for (size_t i = 0; i < size; i++) diagonal[i] = matrix[i * size + i];
    made.diagonal = aq_test_tensor(AQ_F32, AQ_DIMS(size), diagonal);
    made.residual = aq_test_normal(AQ_DIMS(size), 8);
    made.solution = zeros(AQ_F32, size), made.direction = zeros(AQ_F32, size);
    made.product = zeros(AQ_F32, size), made.numbers = zeros(AQ_F64, 3);
    AQ_CHECK(aq_fill(NAN, &made.direction)); /* a start does not read it */
    free(matrix), free(diagonal);
    return made;
}

static void problem_free(problem *made) {
    aq_tensor *tensors[] = {&made->matrix,    &made->diagonal, &made->solution, &made->residual,
                            &made->direction, &made->product,  &made->numbers};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) aq_tensor_free(tensors[i]);
}

static aq_conjugate state_of(problem *made) {
    return (aq_conjugate){.diagonal = &made->diagonal,
                          .solution = &made->solution,
                          .residual = &made->residual,
                          .direction = &made->direction,
                          .numbers = &made->numbers};
}

/* product = A direction */
static void multiply(problem *made) {
    const aq_product plain = {.alpha = 1, .precision = AQ_PRECISE};
    aq_tensor direction = aq_tensor_reshape(&made->direction, AQ_DIMS(1, made->size));
    aq_tensor product = aq_tensor_reshape(&made->product, AQ_DIMS(1, made->size));
    AQ_CHECK(aq_matmul(&direction, &made->matrix, &plain, &product));
}

static void conjugate_gradients_solve_a_system(void) {
    problem made = problem_new(60);
    const aq_conjugate state = state_of(&made);
    double first, numbers[3], *b = reference_values(&made.residual);
    AQ_CHECK(aq_conjugate_step(&state, NULL));
    AQ_CHECK(aq_tensor_download(&made.numbers, numbers, sizeof numbers));
    first = numbers[0];
    for (int i = 0; i < 40; i++) {
        multiply(&made);
        AQ_CHECK(aq_conjugate_step(&state, &made.product));
    }
    AQ_CHECK(aq_tensor_download(&made.numbers, numbers, sizeof numbers));
    CU_ASSERT(numbers[0] < 1e-9 * first);
    AQ_CHECK(aq_tensor_copy(&made.solution, &made.direction));
    multiply(&made);
    reference_check(&made.product, b, 1e-4);
    problem_free(&made);
}

typedef struct plain_state {
    double *diagonal, *x, *r, *p, *product, rz;
} plain_state;

static double conditioned(const plain_state *of, size_t i) {
    return of->diagonal[i] > 0 ? of->r[i] / of->diagonal[i] : 0;
}

static void naive_step(plain_state *of, size_t count) {
    double curvature = 0, now = 0;
    for (size_t i = 0; i < count; i++) curvature += of->p[i] * of->product[i];
    double length = curvature > 0 ? of->rz / curvature : 0;
    for (size_t i = 0; i < count; i++) of->x[i] += length * of->p[i];
    for (size_t i = 0; i < count; i++) of->r[i] -= length * of->product[i];
    for (size_t i = 0; i < count; i++) now += of->r[i] * conditioned(of, i);
    for (size_t i = 0; i < count; i++) of->p[i] = conditioned(of, i) + now / of->rz * of->p[i];
    of->rz = now;
}

/* Many elements: blocks and chunks meet. Entries without vectors have a diagonal of 0. */
static void a_step_follows_its_formula(void) {
    enum { COUNT = 30011 };
    problem made = {.size = COUNT, .matrix = zeros(AQ_F32, 1), .diagonal = zeros(AQ_F32, COUNT)};
    float *diagonal = malloc(COUNT * sizeof *diagonal);
    for (size_t i = 0; i < COUNT; i++) diagonal[i] = i % 7 == 3 ? 0 : 1 + (float)(i % 11);
    AQ_CHECK(aq_tensor_upload(&made.diagonal, diagonal, COUNT * sizeof *diagonal));
    made.solution = aq_test_normal(AQ_DIMS(COUNT), 1);
    made.residual = aq_test_normal(AQ_DIMS(COUNT), 2);
    made.direction = zeros(AQ_F32, COUNT), made.numbers = zeros(AQ_F64, 3);
    made.product = zeros(AQ_F32, COUNT);
    const aq_conjugate state = state_of(&made);
    AQ_CHECK(aq_conjugate_step(&state, NULL));
    AQ_CHECK(aq_axpby(1.5f, &made.direction, 0, &made.product));
    plain_state of = {reference_values(&made.diagonal), reference_values(&made.solution),
                      reference_values(&made.residual), reference_values(&made.direction),
                      reference_values(&made.product),  0};
    for (size_t i = 0; i < COUNT; i++) of.rz += of.r[i] * conditioned(&of, i);
    double before = of.rz, numbers[3];
    AQ_CHECK(aq_conjugate_step(&state, &made.product));
    naive_step(&of, COUNT);
    reference_check(&made.solution, of.x, 1e-6);
    reference_check(&made.residual, of.r, 1e-6);
    reference_check(&made.direction, of.p, 1e-6);
    AQ_CHECK(aq_tensor_download(&made.numbers, numbers, sizeof numbers));
    CU_ASSERT_DOUBLE_EQUAL(numbers[0], of.rz, 1e-6 * before);
    CU_ASSERT_DOUBLE_EQUAL(numbers[1], before, 1e-6 * before);
    CU_ASSERT(numbers[2] > 0);
    free(of.diagonal), free(of.product), free(diagonal);
    problem_free(&made);
}

static void without_curvature_nothing_moves(void) {
    problem made = problem_new(20);
    const aq_conjugate state = state_of(&made);
    AQ_CHECK(aq_conjugate_step(&state, NULL));
    double *r = reference_values(&made.residual), numbers[3];
    AQ_CHECK(aq_fill(0, &made.product));
    AQ_CHECK(aq_conjugate_step(&state, &made.product));
    reference_check(&made.residual, r, 0);
    reference_check(&made.solution, calloc(20, sizeof(double)), 0);
    AQ_CHECK(aq_tensor_download(&made.numbers, numbers, sizeof numbers));
    CU_ASSERT(numbers[2] == 0 && numbers[0] == numbers[1]);
    problem_free(&made);
}

static void scales_take_newtons_step_or_stay(void) {
    enum { COUNT = 7 };
    static const float slopes[COUNT] = {1, -2, 3, 8, NAN, 1, 1};
    static const float curvatures[COUNT] = {4, 4, 0, 4, 4, 4, -1};
    static const float before[COUNT] = {2, 2, 2, 2, 2, AQ_ZERO_SCALE, 2};
    static const double after[COUNT] = {1.5, 3, 2, 2, 2, (double)AQ_ZERO_SCALE, 2};
    aq_tensor slope = aq_test_tensor(AQ_F32, AQ_DIMS(COUNT), slopes);
    aq_tensor curvature = aq_test_tensor(AQ_F32, AQ_DIMS(COUNT), curvatures);
    aq_tensor scales = aq_test_tensor(AQ_F32, AQ_DIMS(COUNT), before);
    AQ_CHECK(aq_scales_step(&slope, &curvature, &scales));
    CU_ASSERT(reference_distance(&scales, after) == 0);
    aq_tensor_free(&slope), aq_tensor_free(&curvature), aq_tensor_free(&scales);
}

/* 3 row groups of 2 lines of 4 columns. */
static void a_gradient_follows_its_scales(void) {
    const float before[3] = {2, 4, AQ_ZERO_SCALE}, after[3] = {3, 2, AQ_ZERO_SCALE};
    aq_tensor old = aq_test_tensor(AQ_F32, AQ_DIMS(3), before);
    aq_tensor new = aq_test_tensor(AQ_F32, AQ_DIMS(3), after);
    aq_tensor gradient = aq_test_normal(AQ_DIMS(6, 4), 1), fixed = aq_test_normal(AQ_DIMS(6, 4), 2);
    double *expected = reference_values(&gradient), *constant = reference_values(&fixed);
    for (size_t i = 0; i < 16; i++) {
        double factor = i < 8 ? 1.5 : 0.5;
        expected[i] = factor * expected[i] + (factor - 1) * constant[i];
    }
    AQ_CHECK(aq_gradient_rescale(&old, &new, &fixed, &gradient));
    reference_check(&gradient, expected, 1e-6);
    free(constant);
    aq_tensor_free(&old), aq_tensor_free(&new), aq_tensor_free(&gradient), aq_tensor_free(&fixed);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(conjugate_gradients_solve_a_system), AQ_CASE(a_step_follows_its_formula),
        AQ_CASE(without_curvature_nothing_moves), AQ_CASE(scales_take_newtons_step_or_stay),
        AQ_CASE(a_gradient_follows_its_scales)};
    return aq_test_backend_main("ops: solver", cases, sizeof cases / sizeof *cases, argc, argv);
}
