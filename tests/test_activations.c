#include "base/half.h"
#include "base/stop.h"
#include "model/activations.h"
#include "random_block.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCES = 5, HIDDEN = 16, ROWS = SEQUENCES * AQ_TEST_LENGTH };

static aq_activations new_activations(size_t device_bytes) {
    aq_activations activations;
    AQ_CHECK(aq_activations_new(aq_test_backend(), SEQUENCES, AQ_TEST_LENGTH, HIDDEN, device_bytes,
                                &activations));
    return activations;
}

static const uint32_t in_order[SEQUENCES] = {0, 1, 2, 3, 4};

/* All sequences on the host; freed by the caller. */
static float *values_of(const aq_activations *activations) {
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, HIDDEN), 9);
    AQ_CHECK(aq_activations_read(activations, in_order, SEQUENCES, &x));
    float *values = aq_test_host(&x);
    aq_tensor_free(&x);
    return values;
}

static aq_activations random_activations(size_t device_bytes) {
    aq_activations activations = new_activations(device_bytes);
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, HIDDEN), 50);
    AQ_CHECK(aq_activations_write(&activations, 0, SEQUENCES, &x));
    AQ_CHECK(aq_finish(aq_test_backend()));
    aq_tensor_free(&x);
    return activations;
}

static void check_round_trip(size_t device_bytes, bool resident) {
    aq_activations activations = random_activations(device_bytes);
    CU_ASSERT_EQUAL(activations.resident.data != NULL, resident);
    CU_ASSERT_EQUAL(activations.segment.data == NULL, resident);
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, HIDDEN), 50);
    float *written = aq_test_host(&x), *read = values_of(&activations);
    for (size_t i = 0; i < ROWS * HIDDEN; i++)
        CU_ASSERT_EQUAL(read[i], aq_bfloat_to_float(aq_bfloat_from_float(written[i])));
    free(written);
    free(read);
    aq_tensor_free(&x);
    aq_activations_free(&activations);
}

static void values_are_kept_as_bfloat16_in_either_place(void) {
    check_round_trip(ROWS * HIDDEN * 2, true);
    check_round_trip(ROWS * HIDDEN * 2 - 1, false);
}

static void sequences_are_read_in_the_order_of_the_list(void) {
    const uint32_t list[] = {4, 0, 4};
    for (int resident = 0; resident < 2; resident++) {
        aq_activations activations = random_activations(resident ? SIZE_MAX : 0);
        float *all = values_of(&activations);
        aq_tensor x = aq_test_normal(AQ_DIMS(3 * AQ_TEST_LENGTH, HIDDEN), 9);
        AQ_CHECK(aq_activations_read(&activations, list, 3, &x));
        float *read = aq_test_host(&x);
        size_t values = AQ_TEST_LENGTH * HIDDEN;
        for (size_t i = 0; i < 3; i++)
            CU_ASSERT_EQUAL(memcmp(read + i * values, all + list[i] * values, values * sizeof *all),
                            0);
        free(all);
        free(read);
        aq_tensor_free(&x);
        aq_activations_free(&activations);
    }
}

/* Read as expected, otherwise than expected, and after the expected was overwritten. */
static void what_is_expected_changes_nothing(void) {
    const uint32_t list[] = {3, 1}, other[] = {1, 4};
    for (int resident = 0; resident < 2; resident++) {
        aq_activations activations = random_activations(resident ? SIZE_MAX : 0);
        float *all = values_of(&activations);
        aq_tensor x = aq_test_normal(AQ_DIMS(2 * AQ_TEST_LENGTH, HIDDEN), 9);
        size_t values = AQ_TEST_LENGTH * HIDDEN;
        for (int i = 0; i < 3; i++) {
            const uint32_t *read = i == 1 ? other : list;
            AQ_CHECK(aq_activations_expect(&activations, list, 2));
            if (i == 2) AQ_CHECK(aq_activations_write(&activations, 0, 2, &x));
            AQ_CHECK(aq_activations_read(&activations, read, 2, &x));
            float *found = aq_test_host(&x);
            size_t second = i == 2 ? 4 : read[1]; /* what was read before is now sequence 1 */
            CU_ASSERT_EQUAL(memcmp(found, all + read[0] * values, values * sizeof *all), 0);
            CU_ASSERT_EQUAL(memcmp(found + values, all + second * values, values * sizeof *all), 0);
            free(found);
        }
        free(all);
        aq_tensor_free(&x);
        aq_activations_free(&activations);
    }
}

static bool same_values(const aq_activations *a, const aq_activations *b) {
    float *of_a = values_of(a), *of_b = values_of(b);
    bool same = memcmp(of_a, of_b, ROWS * HIDDEN * sizeof *of_a) == 0;
    free(of_a);
    free(of_b);
    return same;
}

static void leaving_the_device_changes_nothing(void) {
    aq_activations stays = random_activations(SIZE_MAX), leaves = random_activations(SIZE_MAX);
    AQ_CHECK(aq_activations_to_host(&leaves));
    CU_ASSERT(leaves.resident.data && leaves.segment.data && same_values(&stays, &leaves));
    AQ_CHECK(aq_activations_leave_device(&leaves));
    CU_ASSERT(!leaves.resident.data && leaves.segment.data && same_values(&stays, &leaves));
    AQ_CHECK(aq_activations_leave_device(&stays));
    CU_ASSERT(same_values(&stays, &leaves));
    aq_activations_free(&stays);
    aq_activations_free(&leaves);
}

static void memory_that_was_expected_is_used(void) {
    aq_activations mine = random_activations(SIZE_MAX), unused = random_activations(SIZE_MAX);
    aq_activations host = random_activations(0);
    aq_activations_expect_host(&mine);
    aq_activations_expect_host(&mine);
    aq_activations_expect_host(&unused);
    aq_activations_expect_host(&host);
    CU_ASSERT(mine.expected && !host.expected);
    AQ_CHECK(aq_activations_to_host(&mine));
    CU_ASSERT(!mine.expected && mine.mirrored);
    CU_ASSERT_EQUAL(memcmp(mine.segment.data, host.segment.data, host.segment.bytes), 0);
    aq_activations_free(&mine);
    aq_activations_free(&unused);
    aq_activations_free(&host);
}

static void what_others_read_is_not_written(void) {
    aq_activations offered = random_activations(SIZE_MAX);
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, HIDDEN), 51);
    AQ_CHECK(aq_activations_to_host(&offered));
    AQ_CHECK_FAILS(aq_activations_write(&offered, 0, SEQUENCES, &x), AQ_INVALID, "others read");
    aq_activations_forget_host(&offered);
    AQ_CHECK(aq_activations_write(&offered, 0, SEQUENCES, &x));
    aq_tensor_free(&x);
    aq_activations_free(&offered);
}

/* What a rank does that takes over what another one of its node holds. */
static void check_taken(size_t device_bytes) {
    aq_activations mine = random_activations(0);
    aq_activations taken = {.backend = aq_test_backend(),
                            .sequences = SEQUENCES,
                            .length = AQ_TEST_LENGTH,
                            .hidden = HIDDEN};
    aq_segment_name name;
    aq_segment mapped;
    AQ_CHECK(aq_segment_describe(&mine.segment, &name));
    AQ_CHECK(aq_segment_map(aq_test_backend(), &name, &mapped));
    AQ_CHECK(aq_activations_take(&mapped, device_bytes, &taken));
    CU_ASSERT_PTR_NULL(mapped.data);
    CU_ASSERT_EQUAL(taken.segment.data == NULL, device_bytes > 0);
    CU_ASSERT(same_values(&mine, &taken));
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, HIDDEN), 51);
    if (device_bytes == 0)
        AQ_CHECK_FAILS(aq_activations_write(&taken, 0, SEQUENCES, &x), AQ_INVALID, "others read");
    aq_tensor_free(&x);
    aq_activations_free(&mine);
    aq_activations_free(&taken);
}

static void another_rank_takes_them_in_either_place(void) {
    check_taken(0);
    check_taken(SIZE_MAX);
    aq_activations few = {
        .backend = aq_test_backend(), .sequences = 1, .length = AQ_TEST_LENGTH, .hidden = HIDDEN};
    aq_segment segment;
    AQ_CHECK(aq_segment_new(aq_test_backend(), 7, &segment));
    AQ_CHECK_FAILS(aq_activations_take(&segment, 0, &few), AQ_SHAPE, "7 bytes");
}

static void sequences_outside_and_wrong_shapes_fail(void) {
    aq_activations activations = random_activations(0), huge;
    aq_tensor x = aq_test_normal(AQ_DIMS(AQ_TEST_LENGTH, HIDDEN), 1);
    const uint32_t outside = SEQUENCES;
    AQ_CHECK_FAILS(aq_activations_read(&activations, &outside, 1, &x), AQ_INVALID,
                   "sequence 5 of 5");
    AQ_CHECK_FAILS(aq_activations_write(&activations, SEQUENCES, 1, &x), AQ_INVALID,
                   "sequences 5 to 5 of 5");
    AQ_CHECK_FAILS(aq_activations_read(&activations, in_order, 2, &x), AQ_SHAPE, "2 sequences");
    AQ_CHECK_FAILS(
        aq_activations_new(aq_test_backend(), SIZE_MAX / 2, AQ_TEST_LENGTH, HIDDEN, 0, &huge),
        AQ_INVALID, "no valid size");
    aq_tensor_free(&x);
    aq_activations_free(&activations);
}

static void a_micro_batch_has_a_constant_number_of_tokens(void) {
    CU_ASSERT_EQUAL(aq_micro_batch(512) * 512, AQ_MICRO_TOKENS);
    CU_ASSERT_EQUAL(aq_micro_batch(AQ_MICRO_TOKENS), 1);
    CU_ASSERT_EQUAL(aq_micro_batch(AQ_MICRO_TOKENS + 1), 1);
    CU_ASSERT_EQUAL(aq_micro_batch(1), AQ_MICRO_TOKENS);
}

static void residence_and_overwriting_do_not_change_outputs(void) {
    aq_block block = aq_test_block(aq_test_backend(), 1);
    aq_activations resident = random_activations(SIZE_MAX), host = random_activations(0);
    aq_activations outputs = new_activations(SIZE_MAX);
    AQ_CHECK(aq_activations_forward(&block, &resident, NULL, 0, &outputs));
    AQ_CHECK(aq_activations_forward(&block, &host, NULL, 0, &host));
    float *expected = values_of(&outputs), *found = values_of(&host);
    CU_ASSERT_EQUAL(memcmp(expected, found, ROWS * HIDDEN * sizeof *found), 0);
    free(expected);
    free(found);
    aq_activations_free(&resident);
    aq_activations_free(&host);
    aq_activations_free(&outputs);
    aq_block_free(&block);
}

static aq_status count_rows(void *state, aq_tap tap, const aq_tensor *x) {
    size_t *rows = state;
    rows[tap] += x->shape[0];
    return AQ_OK;
}

static void the_tapper_sees_the_first_sequences_only(void) {
    aq_block block = aq_test_block(aq_test_backend(), 1);
    aq_activations inputs = random_activations(SIZE_MAX), outputs = new_activations(SIZE_MAX);
    size_t rows[AQ_TAP_COUNT] = {0};
    const aq_tapper tapper = {.see = count_rows, .state = rows};
    AQ_CHECK(aq_activations_forward(&block, &inputs, &tapper, 3, &outputs));
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) CU_ASSERT_EQUAL(rows[tap], 3 * AQ_TEST_LENGTH);
    float *tapped = values_of(&outputs);
    AQ_CHECK(aq_activations_forward(&block, &inputs, NULL, 0, &outputs));
    float *untapped = values_of(&outputs);
    CU_ASSERT_EQUAL(memcmp(tapped, untapped, ROWS * HIDDEN * sizeof *tapped), 0);
    free(tapped);
    free(untapped);
    aq_activations_free(&inputs);
    aq_activations_free(&outputs);
    aq_block_free(&block);
}

/* Long sequences, so that two micro-batches of one sequence each are needed. */
static void an_output_that_is_not_finite_is_an_error_with_its_sequences(void) {
    size_t length = AQ_MICRO_TOKENS / 2 + 1;
    aq_block block = aq_test_block(aq_test_backend(), 1);
    aq_tensor_free(&block.cosines);
    aq_tensor_free(&block.sines);
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F32, AQ_DIMS(length, 4), &block.cosines));
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F32, AQ_DIMS(length, 4), &block.sines));
    aq_activations inputs;
    AQ_CHECK(aq_activations_new(aq_test_backend(), 2, length, HIDDEN, SIZE_MAX, &inputs));
    aq_tensor x = aq_test_normal(AQ_DIMS(length, HIDDEN), 1);
    AQ_CHECK(aq_activations_write(&inputs, 0, 1, &x));
    aq_tensor row = aq_tensor_rows(&x, 7, 1);
    AQ_CHECK(aq_fill(NAN, &row));
    AQ_CHECK(aq_activations_write(&inputs, 1, 1, &x));
    AQ_CHECK_FAILS(aq_activations_forward(&block, &inputs, NULL, 0, &inputs), AQ_NUMERIC,
                   "NaN or infinity in calibration sequences 1 to 1");
    inputs.numbering = (aq_numbering){.first = 2, .skipped = 3};
    AQ_CHECK_FAILS(aq_activations_forward(&block, &inputs, NULL, 0, &inputs), AQ_NUMERIC,
                   "NaN or infinity in calibration sequences 6 to 6 (those of one rank, each 4 ");
    aq_tensor_free(&x);
    aq_activations_free(&inputs);
    aq_block_free(&block);
}

static void embeddings_are_the_first_activations(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/tiny-llama3", aq_test_data());
    aq_source *source;
    AQ_CHECK(aq_dense_source_open(path, &source));
    int32_t data[ROWS];
    for (int i = 0; i < ROWS; i++) data[i] = (5 * i) % 29;
    const aq_tokens tokens = {.data = data, .sequences = SEQUENCES, .length = AQ_TEST_LENGTH};
    const aq_tokens fewer = {.data = data, .sequences = 1, .length = AQ_TEST_LENGTH};
    aq_activations activations = new_activations(0);
    AQ_CHECK(aq_activations_embed(source, &tokens, &activations));
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, HIDDEN), 1);
    AQ_CHECK(aq_source_embed(source, data, ROWS, &x));
    float *expected = aq_test_host(&x), *found = values_of(&activations);
    for (size_t i = 0; i < ROWS * HIDDEN; i++)
        CU_ASSERT_EQUAL(found[i], aq_bfloat_to_float(aq_bfloat_from_float(expected[i])));
    AQ_CHECK_FAILS(aq_activations_embed(source, &fewer, &activations), AQ_SHAPE, "1 sequences");
    free(expected);
    free(found);
    aq_tensor_free(&x);
    aq_activations_free(&activations);
    aq_source_close(source);
}

/* The last case: the request stays. */
static void a_request_to_stop_ends_a_pass(void) {
    aq_block block = aq_test_block(aq_test_backend(), 1);
    aq_activations inputs = random_activations(SIZE_MAX);
    AQ_CHECK(aq_activations_forward(&block, &inputs, NULL, 0, &inputs));
    aq_stop_request();
    CU_ASSERT_EQUAL(aq_activations_forward(&block, &inputs, NULL, 0, &inputs), AQ_STOPPED);
    aq_activations_free(&inputs);
    aq_block_free(&block);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"values_are_kept_as_bfloat16_in_either_place",
         values_are_kept_as_bfloat16_in_either_place},
        {"sequences_are_read_in_the_order_of_the_list",
         sequences_are_read_in_the_order_of_the_list},
        {"what_is_expected_changes_nothing", what_is_expected_changes_nothing},
        {"leaving_the_device_changes_nothing", leaving_the_device_changes_nothing},
        {"memory_that_was_expected_is_used", memory_that_was_expected_is_used},
        {"what_others_read_is_not_written", what_others_read_is_not_written},
        {"another_rank_takes_them_in_either_place", another_rank_takes_them_in_either_place},
        {"sequences_outside_and_wrong_shapes_fail", sequences_outside_and_wrong_shapes_fail},
        {"a_micro_batch_has_a_constant_number_of_tokens",
         a_micro_batch_has_a_constant_number_of_tokens},
        {"residence_and_overwriting_do_not_change_outputs",
         residence_and_overwriting_do_not_change_outputs},
        {"the_tapper_sees_the_first_sequences_only", the_tapper_sees_the_first_sequences_only},
        {"an_output_that_is_not_finite_is_an_error_with_its_sequences",
         an_output_that_is_not_finite_is_an_error_with_its_sequences},
        {"embeddings_are_the_first_activations", embeddings_are_the_first_activations},
        {"a_request_to_stop_ends_a_pass", a_request_to_stop_ends_a_pass},
    };
    return aq_test_backend_main("activations", cases, sizeof cases / sizeof *cases, argc, argv);
}
