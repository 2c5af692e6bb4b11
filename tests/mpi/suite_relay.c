/* The relay between real ranks: what arrives, how, and what is not there. */
#include "base/stop.h"
#include "dist/relay.h"
#include "dist/transfer.h"
#include "team_suite.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE = AQ_TRANSFER_PIECE };

typedef struct fixture {
    aq_ranks ranks;
    aq_relay *relay;
    aq_segment segment;
    pthread_t thread;
    atomic_bool over;
} fixture;

static void pause_briefly(void) {
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    nanosleep(&pause, NULL);
}

static void *pump(void *state) {
    fixture *self = state;
    while (!self->over) {
        aq_relay_pump(self->relay);
        pause_briefly();
    }
    return NULL;
}

static void open_relay(bool copies, int team_size, fixture *self) {
    *self = (fixture){.ranks = {.rank = aq_test_team()->rank, .size = aq_test_team()->size}};
    const aq_relay_settings settings = {.ranks = &self->ranks,
                                        .backend = aq_test_backend(),
                                        .team_size = team_size,
                                        .copies = copies};
    AQ_CHECK(aq_relay_open(&settings, &self->relay));
    CU_ASSERT_EQUAL_FATAL(pthread_create(&self->thread, NULL, pump, self), 0);
}

/* All fetches have returned when a rank passes. */
static void wait_for_all(const fixture *self) {
    AQ_CHECK(aq_ranks_agree(&self->ranks, AQ_OK));
}

static void close_relay(fixture *self) {
    wait_for_all(self);
    self->over = true;
    pthread_join(self->thread, NULL);
    aq_relay_close(self->relay);
    aq_segment_free(&self->segment);
}

static unsigned char value_at(int rank, size_t i) {
    return (unsigned char)(i * 31 + (i >> 12) + (size_t)rank * 7);
}

/* Every rank offers bytes of its own at the boundary of its rank + 1. */
static void offer(fixture *self, size_t bytes) {
    AQ_CHECK(aq_segment_new(aq_test_backend(), bytes, &self->segment));
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)self->segment.data)[i] = value_at(self->ranks.rank, i);
    AQ_CHECK(aq_relay_offer(self->relay, (size_t)self->ranks.rank + 1, &self->segment));
    wait_for_all(self);
}

static aq_status fetch(fixture *self, int team, size_t boundary, size_t bytes,
                       aq_segment *segment) {
    const aq_task task = {
        .block = boundary, .start = boundary, .source = AQ_SOURCE_TEAM, .team = team};
    aq_segment spare = *segment;
    aq_status status = aq_relay_fetch(self->relay, &task, bytes, &spare, segment);
    aq_segment_free(&spare);
    return status;
}

static void expect(const aq_segment *segment, int rank, size_t bytes) {
    size_t wrong = 0;
    for (size_t i = 0; i < bytes; i++)
        wrong += ((const unsigned char *)segment->data)[i] != value_at(rank, i);
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(segment->bytes, bytes);
}

/* All ranks fetch from the rank before them at the same time. */
static void check_ring(bool copies, size_t bytes) {
    fixture made;
    aq_segment got = {0};
    open_relay(copies, 1, &made);
    offer(&made, bytes);
    int before = (made.ranks.rank + made.ranks.size - 1) % made.ranks.size;
    if (made.ranks.rank == 0) AQ_CHECK(aq_segment_new(aq_test_backend(), bytes, &got));
    const void *given = got.data;
    AQ_CHECK(fetch(&made, before, (size_t)before + 1, bytes, &got));
    if (given && copies) CU_ASSERT_PTR_EQUAL(got.data, given);
    CU_ASSERT_EQUAL(got.shared, !copies);
    expect(&got, before, bytes);
    wait_for_all(&made);
    AQ_CHECK(aq_relay_withdraw(made.relay));
    CU_ASSERT_EQUAL(aq_segment_is_read(&made.segment), !copies);
    wait_for_all(&made);
    aq_segment_free(&got);
    close_relay(&made);
}

static void every_rank_maps_from_the_one_before(void) {
    check_ring(false, 1);
    check_ring(false, 3 * PIECE + 5);
}

static void every_rank_copies_from_the_one_before(void) {
    const size_t sizes[] = {1, PIECE - 1, PIECE, PIECE + 1, 12 * (size_t)PIECE + 17};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_ring(true, sizes[i]);
}

static void what_is_not_offered_is_missing(void) {
    fixture made;
    aq_segment got = {0};
    open_relay(false, 1, &made);
    offer(&made, 100);
    int next = (made.ranks.rank + 1) % made.ranks.size;
    AQ_CHECK_FAILS(fetch(&made, next, 77, 100, &got), AQ_MISSING, "does not hold");
    CU_ASSERT_PTR_NULL(got.data);
    AQ_CHECK_FAILS(fetch(&made, next, (size_t)next + 1, 99, &got), AQ_MISSING, "does not hold");
    wait_for_all(&made);
    AQ_CHECK(aq_relay_withdraw(made.relay));
    wait_for_all(&made);
    AQ_CHECK_FAILS(fetch(&made, next, (size_t)next + 1, 100, &got), AQ_MISSING, "does not hold");
    AQ_CHECK_FAILS(fetch(&made, made.ranks.size, 1, 100, &got), AQ_INVALID, "activations of rank");
    close_relay(&made);
}

/* The offer ends while it is being sent: not before it has arrived. */
static void withdrawing_waits_for_a_transfer(void) {
    enum { BYTES = 20 * PIECE };
    fixture made;
    aq_segment got = {0};
    open_relay(true, 1, &made);
    offer(&made, BYTES);
    if (made.ranks.rank == 0) {
        for (int i = 0; i < 20; i++) pause_briefly();
        AQ_CHECK(aq_relay_withdraw(made.relay));
        memset(made.segment.data, 0, BYTES);
    }
    if (made.ranks.rank == 1) {
        aq_status status = fetch(&made, 0, 1, BYTES, &got);
        CU_ASSERT(status == AQ_OK || status == AQ_MISSING);
        if (status == AQ_OK) expect(&got, 0, BYTES);
        aq_segment_free(&got);
    }
    close_relay(&made);
}

/* Rank 0 sends to rank 1 and ends after 3 of 20 pieces, when the other side waits for more. */
static void a_transfer_that_is_cut_ends_for_both_sides(void) {
    enum { PIECES = 20, BYTES = PIECES * PIECE, END = 3 };
    int rank = aq_test_team()->rank;
    AQ_SKIP_IF(aq_test_team()->size == 1, "one rank alone");
    if (rank > 1) return;
    unsigned char *data = calloc(PIECES, PIECE);
    aq_transfer moved = {
        .active = true, .sends = rank == 0, .rank = !rank, .data = (char *)data, .bytes = BYTES};
    if (rank == 0) {
        memset(data, 7, BYTES);
        moved.bytes = END * PIECE; /* so many are begun ... */
        aq_transfer_move(&moved, MPI_COMM_WORLD);
        moved.bytes = BYTES; /* ... of more */
    } else {
        aq_transfer_move(&moved, MPI_COMM_WORLD);
        CU_ASSERT_EQUAL(moved.begun, AQ_TRANSFER_WINDOW);
    }
    aq_transfer_cut(&moved, END);
    for (int turn = 0; moved.active && turn < 5000; turn++) {
        aq_transfer_move(&moved, MPI_COMM_WORLD);
        pause_briefly();
    }
    CU_ASSERT_FALSE(moved.active);
    CU_ASSERT_EQUAL(data[END * PIECE - 1], 7);
    CU_ASSERT_EQUAL(data[END * PIECE], rank == 0 ? 7 : 0);
    CU_ASSERT_EQUAL(data[BYTES - 1], rank == 0 ? 7 : 0);
    free(data);
}

/* Rank 1 alone; the last case, since a request to stop stays. The offer can be withdrawn then. */
static void a_request_to_stop_ends_a_fetch(void) {
    enum { BYTES = 40 * PIECE };
    fixture made;
    aq_segment got = {0};
    open_relay(true, 1, &made);
    offer(&made, BYTES);
    if (made.ranks.rank == 1) {
        aq_stop_request();
        CU_ASSERT_EQUAL(fetch(&made, 0, 1, BYTES, &got), AQ_STOPPED);
        CU_ASSERT_PTR_NULL(got.data);
        CU_ASSERT_EQUAL(aq_relay_fetched(made.relay), 0);
    }
    wait_for_all(&made);
    AQ_CHECK(aq_relay_withdraw(made.relay));
    close_relay(&made);
}

/* Of two teams of two (with four ranks): member i fetches from member i. */
static void members_fetch_from_their_peers(void) {
    fixture made;
    aq_segment got = {0};
    if (aq_test_team()->size % 2) return;
    open_relay(true, 2, &made);
    offer(&made, 1000);
    int teams = made.ranks.size / 2, team = (made.ranks.rank / 2 + 1) % teams;
    int peer = team * 2 + made.ranks.rank % 2;
    AQ_CHECK(fetch(&made, team, (size_t)peer + 1, 1000, &got));
    expect(&got, peer, 1000);
    aq_segment_free(&got);
    close_relay(&made);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(every_rank_maps_from_the_one_before),
        AQ_CASE(every_rank_copies_from_the_one_before),
        AQ_CASE(what_is_not_offered_is_missing),
        AQ_CASE(withdrawing_waits_for_a_transfer),
        AQ_CASE(members_fetch_from_their_peers),
        AQ_CASE(a_transfer_that_is_cut_ends_for_both_sides),
        AQ_CASE(a_request_to_stop_ends_a_fetch),
    };
    return aq_test_team_main("relay", cases, sizeof cases / sizeof *cases, argc, argv);
}
