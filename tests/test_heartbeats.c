#include "dist/heartbeats.h"
#include "suite.h"

static aq_heartbeats beats_of(int ranks) {
    const aq_heartbeats_settings settings = {.ranks = ranks, .silence = 30, .hang = 100};
    aq_heartbeats beats;
    AQ_CHECK(aq_heartbeats_new(&settings, 1000, &beats));
    return beats;
}

/* From `from` to `to` in turns of half a second: rank 0 moves, rank 1 does what the caller says. */
typedef struct life {
    bool beats, moves;
} life;

static bool live(aq_heartbeats *beats, double from, double to, life other, aq_loss *loss) {
    for (double now = from; now < to; now += 0.5) {
        aq_heartbeats_hear(beats, 0, (uint64_t)(2 * now), now);
        if (other.beats) aq_heartbeats_hear(beats, 1, other.moves ? (uint64_t)(2 * now) : 7, now);
        if (aq_heartbeats_turn(beats, now, loss)) return true;
    }
    return false;
}

static void those_that_move_are_not_lost(void) {
    aq_heartbeats beats = beats_of(2);
    aq_loss loss;
    CU_ASSERT_FALSE(live(&beats, 1000, 2000, (life){true, true}, &loss));
    aq_heartbeats_free(&beats);
}

static void a_silent_rank_is_lost(void) {
    aq_heartbeats beats = beats_of(2);
    aq_loss loss;
    CU_ASSERT_FALSE(live(&beats, 1000, 1020, (life){true, true}, &loss));
    CU_ASSERT_FALSE(live(&beats, 1020, 1049, (life){false, false}, &loss));
    CU_ASSERT_TRUE_FATAL(live(&beats, 1049, 1060, (life){false, false}, &loss));
    CU_ASSERT_EQUAL(loss.rank, 1);
    CU_ASSERT_TRUE(loss.silent);
    CU_ASSERT_DOUBLE_EQUAL(loss.seconds, 30, 1);
    aq_heartbeats_free(&beats);
}

static void a_rank_without_progress_is_lost_later(void) {
    aq_heartbeats beats = beats_of(2);
    aq_loss loss;
    CU_ASSERT_FALSE(live(&beats, 1000, 1099, (life){true, false}, &loss));
    CU_ASSERT_TRUE_FATAL(live(&beats, 1099, 1110, (life){true, false}, &loss));
    CU_ASSERT_EQUAL(loss.rank, 1);
    CU_ASSERT_FALSE(loss.silent);
    aq_heartbeats_free(&beats);
}

static void a_watcher_that_was_suspended_counts_anew(void) {
    aq_heartbeats beats = beats_of(2);
    aq_loss loss;
    CU_ASSERT_FALSE(live(&beats, 1000, 1020, (life){true, true}, &loss));
    CU_ASSERT_FALSE(live(&beats, 5000, 5029, (life){false, false}, &loss));
    CU_ASSERT_TRUE(live(&beats, 5029, 5040, (life){false, false}, &loss));
    aq_heartbeats_free(&beats);
}

static const aq_case cases[] = {
    AQ_CASE(those_that_move_are_not_lost),
    AQ_CASE(a_silent_rank_is_lost),
    AQ_CASE(a_rank_without_progress_is_lost_later),
    AQ_CASE(a_watcher_that_was_suspended_counts_anew),
};

int main(int argc, char **argv) {
    return aq_test_main("heartbeats", cases, sizeof cases / sizeof *cases, argc, argv);
}
