#include "golden.h"
#include "random_block.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCES = 3, TOKENS = SEQUENCES * AQ_TEST_LENGTH };

static void check_grad(const aq_block *block, const aq_block_grad *grad, const float **golden) {
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        aq_test_check_next("a norm's gradient", &grad->norms[n], golden);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        aq_test_check_next(block->shape->linears[l].name, &grad->weights[l], golden);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        if (block->biases[l].data) aq_test_check_next("a bias' gradient", &grad->biases[l], golden);
}

/* Arrays in the order of tests/golden/make_block_golden.py. */
static void a_llama3_block_with_biases_equals_pytorch(void) {
    enum { LENGTH = 12, ROWS = 2 * LENGTH, HIDDEN = 16, VALUES = 17344 / 4 };
    aq_source *source = aq_test_golden_model(aq_test_data(), "tiny-llama3");
    aq_block block;
    AQ_CHECK(aq_block_load(source, 0, LENGTH, AQ_PRECISE, aq_test_backend(), &block));
    aq_tape tape;
    AQ_CHECK(aq_tape_new(block.shape, 2, LENGTH, aq_test_backend(), &tape));
    aq_block_grad grad;
    AQ_CHECK(aq_block_grad_new(&block, &grad));
    float *values = aq_test_golden("tiny-llama3.f32", VALUES);
    const float *golden = values + ROWS * HIDDEN;
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(ROWS, HIDDEN), values);
    AQ_CHECK(aq_block_forward(&block, 2, LENGTH, &x, &tape, NULL, &x));
    aq_test_check_next("y", &x, &golden);
    AQ_CHECK(aq_tensor_upload(&x, golden, aq_tensor_bytes(&x)));
    golden += ROWS * HIDDEN;
    AQ_CHECK(aq_block_backward(&block, 2, LENGTH, &tape, &x, &grad));
    aq_test_check_next("dx", &x, &golden);
    check_grad(&block, &grad, &golden);
    CU_ASSERT_PTR_EQUAL(golden, values + VALUES);
    free(values);
    aq_tensor_free(&x);
    aq_block_grad_free(&grad);
    aq_tape_free(&tape);
    aq_block_free(&block);
    aq_source_close(source);
}

/* A random block with everything that its gradients need. */
typedef struct problem {
    aq_block block;
    aq_tape tape;
    aq_block_grad grad;
    aq_tensor x, y, dy; /* [TOKENS, hidden] */
} problem;

static problem new_problem(void) {
    problem self = {.block = aq_test_block(aq_test_backend(), 1)};
    const aq_model_shape *shape = self.block.shape;
    AQ_CHECK(aq_tape_new(shape, SEQUENCES, AQ_TEST_LENGTH, aq_test_backend(), &self.tape));
    AQ_CHECK(aq_block_grad_new(&self.block, &self.grad));
    self.x = aq_test_normal(AQ_DIMS(TOKENS, shape->hidden), 100);
    self.y = aq_test_normal(AQ_DIMS(TOKENS, shape->hidden), 101);
    self.dy = aq_test_normal(AQ_DIMS(TOKENS, shape->hidden), 102);
    return self;
}

static void free_problem(problem *self) {
    aq_block_free(&self->block);
    aq_tape_free(&self->tape);
    aq_block_grad_free(&self->grad);
    aq_tensor_free(&self->x);
    aq_tensor_free(&self->y);
    aq_tensor_free(&self->dy);
}

static void forward(problem *self, const aq_tapper *tapper) {
    AQ_CHECK(aq_block_forward(&self->block, SEQUENCES, AQ_TEST_LENGTH, &self->x, &self->tape,
                              tapper, &self->y));
}

/* Leaves the gradient by x in dy. */
static void backward(problem *self) {
    forward(self, NULL);
    AQ_CHECK(aq_block_backward(&self->block, SEQUENCES, AQ_TEST_LENGTH, &self->tape, &self->dy,
                               &self->grad));
}

/* sum(y * weights) after value += step * direction (and back). */
static double loss_at(problem *self, const aq_tensor *weights, aq_tensor *value,
                      const aq_tensor *direction, float step) {
    double loss;
    float *before = aq_test_host(value);
    AQ_CHECK(aq_axpby(step, direction, 1, value));
    forward(self, NULL);
    AQ_CHECK(aq_dot(&self->y, weights, &loss));
    AQ_CHECK(aq_tensor_upload(value, before, aq_tensor_bytes(value)));
    free(before);
    return loss;
}

/* The derivative along a random direction against a central difference. The unit of their error is
 * the derivative's typical size, the gradient's norm: rounding of the two losses over the step, and
 * the third derivative times the step squared, stay below 1e-3 of it. */
static void check_derivative(problem *self, const aq_tensor *weights, aq_tensor *value,
                             const aq_tensor *gradient, uint64_t seed) {
    const float step = 4e-3f;
    size_t count = aq_tensor_count(value);
    aq_tensor direction = aq_test_normal(AQ_DIMS(count), seed);
    double slope, square;
    AQ_CHECK(aq_dot(gradient, &direction, &slope));
    AQ_CHECK(aq_dot(gradient, gradient, &square));
    double difference = loss_at(self, weights, value, &direction, step) -
                        loss_at(self, weights, value, &direction, -step);
    double error = fabs(difference / (2 * (double)step) - slope) / sqrt(square);
    if (!(error < 1e-3)) printf("\n    seed %d: off by %g", (int)seed, error);
    CU_ASSERT_TRUE(error < 1e-3);
    CU_ASSERT_TRUE(square > 0);
    aq_tensor_free(&direction);
}

static void gradients_equal_finite_differences(void) {
    problem self = new_problem();
    aq_tensor weights = aq_test_normal(AQ_DIMS(TOKENS, self.block.shape->hidden), 102);
    backward(&self);
    check_derivative(&self, &weights, &self.x, &self.dy, 200);
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        check_derivative(&self, &weights, &self.block.norms[n], &self.grad.norms[n],
                         201 + (uint64_t)n);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        check_derivative(&self, &weights, &self.block.weights[l], &self.grad.weights[l],
                         210 + (uint64_t)l);
        /* A bias of k shifts all scores of a query alike: its gradient is 0 but for the rotation.
         */
        if (self.block.biases[l].data)
            check_derivative(&self, &weights, &self.block.biases[l], &self.grad.biases[l],
                             220 + (uint64_t)l);
    }
    aq_tensor_free(&weights);
    free_problem(&self);
}

static void gradients_are_added_to_what_is_there(void) {
    problem self = new_problem();
    aq_tensor dy = aq_test_normal(AQ_DIMS(TOKENS, self.block.shape->hidden), 102);
    backward(&self);
    float *once = aq_test_host(&self.grad.weights[AQ_LINEAR_K]);
    AQ_CHECK(aq_tensor_copy(&dy, &self.dy));
    backward(&self);
    for (size_t i = 0; i < aq_tensor_count(&self.grad.weights[AQ_LINEAR_K]); i++) once[i] *= 2;
    CU_ASSERT_TRUE(aq_test_difference(&self.grad.weights[AQ_LINEAR_K], once) < 1e-5);
    AQ_CHECK(aq_block_grad_zero(&self.grad));
    double square;
    AQ_CHECK(aq_dot(&self.grad.norms[0], &self.grad.norms[0], &square));
    CU_ASSERT_EQUAL(square, 0);
    free(once);
    aq_tensor_free(&dy);
    free_problem(&self);
}

/* The weights rounded within their memory, where the backend has products of BF16. */
static void halve(aq_block *block) {
    block->precision = AQ_HALF;
    if (!aq_backend_halves(aq_test_backend())) return;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        aq_tensor *weight = &block->weights[l], rounded;
        aq_shape shape = AQ_DIMS(weight->shape[0], weight->shape[1]);
        AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_BF16, shape, &rounded));
        AQ_CHECK(aq_convert(weight, 1, &rounded));
        weight->dtype = AQ_BF16;
        AQ_CHECK(aq_tensor_copy(&rounded, weight));
        aq_tensor_free(&rounded);
    }
    CU_ASSERT_TRUE(aq_block_halves(block));
}

/* |x - y| / |y| */
static double distance(const aq_tensor *x, const aq_tensor *y) {
    double square, difference;
    aq_tensor copy;
    AQ_CHECK(aq_dot(y, y, &square));
    AQ_CHECK(aq_tensor_zeros(x->home, AQ_F32, AQ_DIMS(aq_tensor_count(x)), &copy));
    AQ_CHECK(aq_axpby(1, x, 0, &copy));
    AQ_CHECK(aq_axpby(-1, y, 1, &copy));
    AQ_CHECK(aq_dot(&copy, &copy, &difference));
    aq_tensor_free(&copy);
    return sqrt(difference / square);
}

/* bfloat16 keeps 8 bits of each operand. */
static void half_passes_keep_two_digits(void) {
    problem exact = new_problem(), half = new_problem();
    halve(&half.block);
    backward(&exact);
    backward(&half);
    CU_ASSERT_TRUE(distance(&half.y, &exact.y) < 1e-2);
    CU_ASSERT_TRUE(distance(&half.dy, &exact.dy) < 2e-2);
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        CU_ASSERT_TRUE(distance(&half.grad.norms[n], &exact.grad.norms[n]) < 2e-2);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        CU_ASSERT_TRUE(distance(&half.grad.weights[l], &exact.grad.weights[l]) < 2e-2);
    free_problem(&exact);
    free_problem(&half);
}

/* Records the order of the taps and the sum of squares of each. */
typedef struct seen {
    int count;
    aq_tap taps[AQ_TAP_COUNT];
    size_t widths[AQ_TAP_COUNT];
    double squares[AQ_TAP_COUNT];
} seen;

static aq_status see(void *state, aq_tap tap, const aq_tensor *x) {
    seen *self = state;
    self->taps[self->count] = tap;
    self->widths[self->count] = x->shape[1];
    return aq_dot(x, x, &self->squares[self->count++]);
}

static void the_tapper_sees_the_input_of_every_linear(void) {
    problem self = new_problem();
    seen found = {0};
    const aq_tapper tapper = {.see = see, .state = &found};
    forward(&self, &tapper);
    CU_ASSERT_EQUAL_FATAL(found.count, AQ_TAP_COUNT);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &self.block.shape->linears[l];
        CU_ASSERT_EQUAL(found.taps[linear->tap], linear->tap);
        CU_ASSERT_EQUAL(found.widths[linear->tap], linear->in);
        CU_ASSERT_TRUE(found.squares[linear->tap] > 0);
    }
    /* With weights of 1 a normalized row has as many squares as columns. */
    AQ_CHECK(aq_fill(1, &self.block.norms[AQ_NORM_ATTENTION]));
    found = (seen){0};
    forward(&self, &tapper);
    CU_ASSERT_DOUBLE_EQUAL(found.squares[AQ_TAP_ATTENTION_IN], TOKENS * 16.0, 0.1);
    free_problem(&self);
}

static void fewer_sequences_give_the_same_outputs(void) {
    problem self = new_problem();
    forward(&self, NULL);
    float *all = aq_test_host(&self.y);
    aq_tensor x = aq_tensor_rows(&self.x, AQ_TEST_LENGTH, AQ_TEST_LENGTH);
    aq_tensor y = aq_tensor_rows(&self.y, 0, AQ_TEST_LENGTH);
    AQ_CHECK(aq_block_forward(&self.block, 1, AQ_TEST_LENGTH, &x, &self.tape, NULL, &y));
    CU_ASSERT_TRUE(aq_test_difference(&y, all + AQ_TEST_LENGTH * 16) < 1e-5);
    free(all);
    free_problem(&self);
}

static void passes_past_the_tape_or_the_tables_fail(void) {
    problem self = new_problem();
    AQ_CHECK_FAILS(aq_block_forward(&self.block, SEQUENCES + 1, AQ_TEST_LENGTH, &self.x, &self.tape,
                                    NULL, &self.y),
                   AQ_SHAPE, "tape");
    AQ_CHECK_FAILS(
        aq_block_forward(&self.block, 1, AQ_TEST_LENGTH + 1, &self.x, &self.tape, NULL, &self.y),
        AQ_SHAPE, "at most 6 tokens, not 7");
    free_problem(&self);
}

static aq_status refuse(void *state, aq_tap tap, const aq_tensor *x) {
    (void)state, (void)x;
    return tap == AQ_TAP_MLP_IN ? AQ_FAIL(AQ_STOPPED, "enough") : AQ_OK;
}

static void a_failing_tapper_ends_the_pass(void) {
    problem self = new_problem();
    const aq_tapper tapper = {.see = refuse};
    AQ_CHECK_FAILS(aq_block_forward(&self.block, SEQUENCES, AQ_TEST_LENGTH, &self.x, &self.tape,
                                    &tapper, &self.y),
                   AQ_STOPPED, "enough");
    free_problem(&self);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"a_llama3_block_with_biases_equals_pytorch", a_llama3_block_with_biases_equals_pytorch},
        {"gradients_equal_finite_differences", gradients_equal_finite_differences},
        {"gradients_are_added_to_what_is_there", gradients_are_added_to_what_is_there},
        {"half_passes_keep_two_digits", half_passes_keep_two_digits},
        {"the_tapper_sees_the_input_of_every_linear", the_tapper_sees_the_input_of_every_linear},
        {"fewer_sequences_give_the_same_outputs", fewer_sequences_give_the_same_outputs},
        {"passes_past_the_tape_or_the_tables_fail", passes_past_the_tape_or_the_tables_fail},
        {"a_failing_tapper_ends_the_pass", a_failing_tapper_ends_the_pass},
    };
    return aq_test_backend_main("block", cases, sizeof cases / sizeof *cases, argc, argv);
}
