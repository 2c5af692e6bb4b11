/* Several pieces of work at a time. */
#include "run/lanes.h"
#include "suite.h"

#include <stdatomic.h>
#include <string.h>

enum { PIECES = 12, LANES = 3, VALUES = 1000 };

typedef struct job {
    aq_tensor numbers;      /* [VALUES] of the main backend, all 2 */
    double results[PIECES]; /* VALUES * 4 * (piece + 1) */
    int begun, ended, fails;
    _Atomic int worked;
    bool in_order;
} job;

static aq_status begin(void *state, int piece) {
    job *self = state;
    self->in_order = self->in_order && piece == self->begun && piece == self->ended;
    self->begun++;
    return AQ_OK;
}

static aq_status work(void *state, int piece, aq_backend *backend) {
    job *self = state;
    aq_tensor seen = aq_tensor_seen_from(backend, &self->numbers), scaled;
    self->worked++;
    AQ_REQUIRE(piece != self->fails, AQ_NUMERIC, "piece %d fails", piece);
    AQ_TRY(aq_tensor_zeros(backend, AQ_F32, AQ_DIMS(VALUES), &scaled));
    aq_status status = aq_axpby((float)(piece + 1), &seen, 0, &scaled);
    if (status == AQ_OK) status = aq_dot(&seen, &scaled, &self->results[piece]);
    aq_tensor_free(&scaled);
    return status;
}

static aq_status end(void *state, int piece) {
    job *self = state;
    self->in_order =
        self->in_order && piece == self->ended && self->results[piece] == VALUES * 4 * (piece + 1);
    self->ended++;
    return AQ_OK;
}

static job job_new(int fails) {
    job made = {.in_order = true, .fails = fails};
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(VALUES), &made.numbers));
    AQ_CHECK(aq_fill(2, &made.numbers));
    return made;
}

static aq_status run(job *self, int count) {
    const aq_pieces pieces = {
        .count = PIECES, .begin = begin, .work = work, .end = end, .state = self};
    aq_lanes lanes;
    AQ_CHECK(aq_lanes_open(aq_test_backend(), count, &lanes));
    CU_ASSERT_EQUAL(lanes.count, count > 1 ? count : 0);
    aq_status status = aq_lanes_run(&lanes, &pieces);
    aq_lanes_close(&lanes);
    return status;
}

static void pieces_begin_and_end_in_order(void) {
    static const int counts[] = {0, 1, LANES, AQ_MAX_LANES};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        job made = job_new(-1);
        AQ_CHECK(run(&made, counts[i]));
        CU_ASSERT_TRUE(made.in_order && made.begun == PIECES && made.ended == PIECES);
        aq_tensor_free(&made.numbers);
    }
}

static void a_failure_is_told_and_ends_the_rest(void) {
    static const int counts[] = {0, LANES};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        job made = job_new(2);
        AQ_CHECK_FAILS(run(&made, counts[i]), AQ_NUMERIC, "piece 2 fails");
        CU_ASSERT_TRUE(made.in_order && made.ended <= 2);
        CU_ASSERT_TRUE(counts[i] > 0 || made.worked == 3);
        aq_tensor_free(&made.numbers);
    }
}

static aq_status refuse(void *state, int piece) {
    const job *self = state;
    AQ_REQUIRE(self->ended < 4, AQ_IO, "no room for piece %d", piece);
    return end(state, piece);
}

static void so_does_a_failure_of_the_calling_thread(void) {
    job made = job_new(-1);
    const aq_pieces pieces = {
        .count = PIECES, .begin = begin, .work = work, .end = refuse, .state = &made};
    aq_lanes lanes;
    AQ_CHECK(aq_lanes_open(aq_test_backend(), LANES, &lanes));
    AQ_CHECK_FAILS(aq_lanes_run(&lanes, &pieces), AQ_IO, "no room for piece 4");
    CU_ASSERT_EQUAL(made.ended, 4);
    aq_lanes_close(&lanes);
    aq_tensor_free(&made.numbers);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(pieces_begin_and_end_in_order),
        AQ_CASE(a_failure_is_told_and_ends_the_rest),
        AQ_CASE(so_does_a_failure_of_the_calling_thread),
    };
    return aq_test_backend_main("lanes", cases, sizeof cases / sizeof *cases, argc, argv);
}
