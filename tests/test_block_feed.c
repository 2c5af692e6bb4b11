#include "coded_model.h"
#include "run/block_feed.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCES = 3, LENGTH = 16 };

/* The example model with a few tokens, and a run directory for its quantized blocks. */
typedef struct fixture {
    aq_config config;
    aq_source *source;
    aq_tokens tokens;
    aq_run_directory directory;
} fixture;

static void set(aq_config *config, const char *key, const char *value) {
    char assignment[AQ_TEST_PATH + 64];
    snprintf(assignment, sizeof assignment, "%s=%s", key, value);
    AQ_CHECK(aq_config_set(assignment, config));
}

static fixture fixture_new(void) {
    fixture made;
    char path[AQ_TEST_PATH], tokens[AQ_TEST_PATH + 32];
    snprintf(tokens, sizeof tokens, "%s/calibration.npy", aq_test_tied_model());
    AQ_CHECK(aq_config_new(&made.config));
    set(&made.config, "output", aq_test_path("feed", path));
    set(&made.config, "quantizer.scheme", "1x4");
    AQ_CHECK(aq_dense_source_open(aq_test_tied_model(), &made.source));
    const aq_token_cut cut = {
        .length = LENGTH, .sequences = SEQUENCES, .vocab = made.source->shape.vocab};
    AQ_CHECK(aq_tokens_read(tokens, &cut, &made.tokens));
    AQ_CHECK(aq_run_directory_open(&made.config, made.source, &made.tokens, &made.directory));
    AQ_CHECK(aq_run_directory_prepare(&made.directory, &made.config));
    return made;
}

static void fixture_free(fixture *made) {
    aq_run_directory_close(&made->directory);
    aq_tokens_free(&made->tokens);
    aq_source_close(made->source);
    aq_config_free(&made->config);
}

static aq_block_feed feed_new(const fixture *made, bool quantized, size_t device_bytes) {
    const aq_feed_settings settings = {.source = made->source,
                                       .tokens = &made->tokens,
                                       .backend = aq_test_backend(),
                                       .device_bytes = device_bytes,
                                       .quantized = quantized ? &made->directory : NULL};
    aq_block_feed feed;
    aq_block_feed_new(&settings, &feed);
    return feed;
}

static aq_status from_start(aq_block_feed *feed, size_t block) {
    const aq_task task = {.block = block, .source = AQ_SOURCE_EMBEDDINGS};
    return aq_block_feed_begin(feed, &task);
}

static aq_status from_team(aq_block_feed *feed, size_t start, size_t block, int team) {
    const aq_task task = {.block = block, .start = start, .source = AQ_SOURCE_TEAM, .team = team};
    return aq_block_feed_begin(feed, &task);
}

/* All activations as float32, malloc'd. */
static float *values_of(const aq_activations *activations) {
    uint32_t list[SEQUENCES] = {0, 1, 2};
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(activations->backend, AQ_F32,
                           AQ_DIMS(SEQUENCES * LENGTH, activations->hidden), &x));
    AQ_CHECK(aq_activations_read(activations, list, SEQUENCES, &x));
    float *values = aq_test_host(&x);
    aq_tensor_free(&x);
    return values;
}

static bool same_inputs(const aq_block_feed *a, const aq_block_feed *b) {
    float *of_a = values_of(&a->inputs), *of_b = values_of(&b->inputs);
    size_t bytes = SEQUENCES * LENGTH * a->inputs.hidden * sizeof *of_a;
    bool same = memcmp(of_a, of_b, bytes) == 0;
    free(of_a);
    free(of_b);
    return same;
}

/* The dense outputs of the block that the feed stands at. */
static void forward(aq_block_feed *feed) {
    aq_block block;
    AQ_CHECK(aq_block_feed_load(feed, feed->at, &block));
    AQ_CHECK(aq_activations_forward(&block, &feed->inputs, NULL, 0, &feed->outputs));
    AQ_CHECK(aq_block_feed_forwarded(feed));
    aq_block_free(&block);
}

static void advance(aq_block_feed *feed, const aq_coded_block *coded) {
    aq_block block;
    AQ_CHECK(aq_block_feed_load(feed, feed->at, &block));
    if (coded) AQ_CHECK(aq_coded_block_decode(coded, &block));
    AQ_CHECK(aq_block_feed_advance(feed, &block));
    aq_block_free(&block);
}

/* What a rank does that quantizes the block: its dense outputs, then on. */
static void work_through(aq_block_feed *feed, const aq_coded_block *coded) {
    forward(feed);
    advance(feed, coded);
}

/* A relay between feeds of this process: one offer a team, mapped or copied. */
enum { TEAMS = 3 };
typedef struct relay_table {
    aq_segment_name names[TEAMS];
    size_t boundaries[TEAMS];
    bool copies, mapped[TEAMS];
    size_t forwarded;
} relay_table;
typedef struct relay_seat {
    relay_table *table;
    aq_handover handover;
} relay_seat;

static aq_status seat_offer(void *state, size_t boundary, const aq_segment *segment) {
    relay_seat *self = state;
    int team = self->handover.team;
    self->table->boundaries[team] = boundary;
    self->table->mapped[team] = false;
    return aq_segment_describe(segment, &self->table->names[team]);
}

static aq_status seat_withdraw(void *state, bool *mapped) {
    relay_seat *self = state;
    *mapped = self->table->mapped[self->handover.team];
    self->table->boundaries[self->handover.team] = AQ_NO_BOUNDARY;
    return AQ_OK;
}

static aq_status seat_fetch(void *state, const aq_task *task, size_t bytes, aq_segment *segment) {
    relay_table *table = ((relay_seat *)state)->table;
    aq_segment mapped;
    AQ_REQUIRE(table->boundaries[task->team] == task->start, AQ_MISSING, "team %d holds it not",
               task->team);
    AQ_TRY(aq_segment_map(aq_test_backend(), &table->names[task->team], &mapped));
    CU_ASSERT_EQUAL(mapped.bytes, bytes);
    *segment = mapped;
    table->mapped[task->team] = !table->copies;
    if (!table->copies) return AQ_OK;
    AQ_TRY(aq_segment_new(aq_test_backend(), bytes, segment));
    memcpy(segment->data, mapped.data, bytes);
    aq_segment_free(&mapped);
    return AQ_OK;
}

static aq_status seat_forwarded(void *state, size_t block) {
    ((relay_seat *)state)->table->forwarded = block;
    return AQ_OK;
}

/* `seat` must stay where it is. */
static aq_block_feed seated_feed(const fixture *made, relay_table *table, relay_seat *seat,
                                 int team, size_t device_bytes) {
    seat->table = table;
    seat->handover = (aq_handover){.state = seat,
                                   .team = team,
                                   .offer = seat_offer,
                                   .withdraw = seat_withdraw,
                                   .fetch = seat_fetch,
                                   .forwarded = seat_forwarded};
    aq_block_feed feed = feed_new(made, false, device_bytes);
    feed.settings.handover = &seat->handover;
    table->boundaries[team] = AQ_NO_BOUNDARY;
    return feed;
}

static void dense_inputs_do_not_depend_on_who_walked(void) {
    fixture made = fixture_new();
    aq_block_feed walks = feed_new(&made, false, SIZE_MAX), works = feed_new(&made, false, 0);
    AQ_CHECK(from_start(&walks, 3));
    AQ_CHECK(from_start(&works, 1));
    work_through(&works, NULL);
    AQ_CHECK(from_team(&works, 2, 2, 0));
    work_through(&works, NULL);
    AQ_CHECK(from_team(&works, 3, 3, 0));
    CU_ASSERT_EQUAL(works.at, 3);
    CU_ASSERT_EQUAL(walks.forwards, 3);
    CU_ASSERT_EQUAL(works.forwards, 3);
    CU_ASSERT_TRUE(same_inputs(&walks, &works));
    aq_block_feed_free(&walks);
    aq_block_feed_free(&works);
    fixture_free(&made);
}

static void feed_starts_over_for_a_block_behind_it(void) {
    fixture made = fixture_new();
    aq_block_feed ahead = feed_new(&made, false, SIZE_MAX),
                  fresh = feed_new(&made, false, SIZE_MAX);
    AQ_CHECK(from_start(&ahead, 3));
    AQ_CHECK(from_start(&fresh, 1));
    CU_ASSERT_FALSE(same_inputs(&ahead, &fresh));
    AQ_CHECK(from_start(&ahead, 1));
    CU_ASSERT_TRUE(same_inputs(&ahead, &fresh));
    aq_block_feed_free(&ahead);
    aq_block_feed_free(&fresh);
    fixture_free(&made);
}

/* Three teams take blocks 0, 1, 2 from each other while each still works on its own. */
static void check_chain(bool copies, size_t device_bytes) {
    fixture made = fixture_new();
    relay_table table = {.copies = copies};
    relay_seat seats[TEAMS];
    aq_block_feed feeds[TEAMS], alone = feed_new(&made, false, SIZE_MAX);
    for (int team = 0; team < TEAMS; team++)
        feeds[team] = seated_feed(&made, &table, &seats[team], team, device_bytes);
    AQ_CHECK(from_start(&feeds[0], 0));
    for (int team = 0; team < TEAMS; team++) {
        forward(&feeds[team]);
        CU_ASSERT_EQUAL(table.forwarded, (size_t)team);
        if (team + 1 == TEAMS) break;
        AQ_CHECK(from_team(&feeds[team + 1], (size_t)team + 1, (size_t)team + 1, team));
        CU_ASSERT_EQUAL(feeds[team + 1].inputs.segment.shared, !copies && device_bytes == 0);
    }
    advance(&feeds[0], NULL);
    AQ_CHECK(from_team(&feeds[0], 3, 3, 2));
    AQ_CHECK(from_start(&alone, 3));
    CU_ASSERT_TRUE(same_inputs(&alone, &feeds[0]));
    AQ_CHECK(from_start(&alone, 2));
    CU_ASSERT_TRUE(same_inputs(&alone, &feeds[2]));
    for (int team = 0; team < TEAMS; team++) {
        CU_ASSERT_EQUAL(feeds[team].forwards, 1);
        aq_block_feed_free(&feeds[team]);
    }
    aq_block_feed_free(&alone);
    fixture_free(&made);
}

static void every_block_is_forwarded_once_by_teams_that_map(void) {
    check_chain(false, 0);
    check_chain(false, SIZE_MAX);
}

static void every_block_is_forwarded_once_by_teams_that_copy(void) {
    check_chain(true, 0);
    check_chain(true, SIZE_MAX);
}

/* Nobody was free: the team that made a boundary takes it, and walks through a finished block. */
static void a_team_takes_its_own_outputs(void) {
    fixture made = fixture_new();
    relay_table table = {0};
    relay_seat seat;
    aq_block_feed works = seated_feed(&made, &table, &seat, 0, 0),
                  walks = feed_new(&made, false, SIZE_MAX);
    AQ_CHECK(from_start(&works, 1));
    work_through(&works, NULL);
    CU_ASSERT_EQUAL(table.boundaries[0], 2);
    CU_ASSERT_PTR_NULL(works.inputs.segment.data);
    AQ_CHECK(from_team(&works, 2, 3, 0));
    CU_ASSERT_EQUAL(table.boundaries[0], AQ_NO_BOUNDARY);
    AQ_CHECK(from_start(&walks, 3));
    CU_ASSERT_TRUE(same_inputs(&walks, &works));
    CU_ASSERT_EQUAL(works.forwards, 3);
    AQ_CHECK_FAILS(from_team(&works, 2, 2, 0), AQ_MISSING, "boundary 2 should lie here");
    aq_block_feed_free(&works);
    aq_block_feed_free(&walks);
    fixture_free(&made);
}

/* Walking on from what another rank has must leave that as it is. */
static void walking_from_mapped_activations_leaves_them_alone(void) {
    fixture made = fixture_new();
    relay_table table = {0};
    relay_seat seats[2];
    aq_block_feed holds = seated_feed(&made, &table, &seats[0], 0, 0),
                  takes = seated_feed(&made, &table, &seats[1], 1, 0);
    AQ_CHECK(from_start(&holds, 0));
    forward(&holds);
    float *before = values_of(&holds.outputs);
    AQ_CHECK(from_team(&takes, 1, 3, 0));
    float *after = values_of(&holds.outputs);
    CU_ASSERT_EQUAL(memcmp(before, after, SEQUENCES * LENGTH * holds.outputs.hidden * 4), 0);
    aq_block_feed walks = feed_new(&made, false, SIZE_MAX);
    AQ_CHECK(from_start(&walks, 3));
    CU_ASSERT_TRUE(same_inputs(&walks, &takes));
    free(before);
    free(after);
    aq_block_feed_free(&holds);
    aq_block_feed_free(&takes);
    aq_block_feed_free(&walks);
    fixture_free(&made);
}

static void what_nobody_holds_is_computed(void) {
    fixture made = fixture_new();
    relay_table table = {0};
    relay_seat seats[2];
    aq_block_feed idles = seated_feed(&made, &table, &seats[0], 0, 0),
                  takes = seated_feed(&made, &table, &seats[1], 1, 0);
    AQ_CHECK(from_team(&takes, 2, 2, 0));
    AQ_CHECK(from_start(&idles, 2));
    CU_ASSERT_TRUE(same_inputs(&idles, &takes));
    CU_ASSERT_EQUAL(takes.forwards, 2);
    aq_block_feed_free(&idles);
    aq_block_feed_free(&takes);
    fixture_free(&made);
}

/* In the middle of a block, as after a failure for lack of memory. */
static void a_relieved_feed_holds_the_same_in_host_memory(void) {
    fixture made = fixture_new();
    relay_table table = {0};
    relay_seat seat;
    aq_block_feed works = seated_feed(&made, &table, &seat, 0, SIZE_MAX),
                  walks = feed_new(&made, false, SIZE_MAX);
    bool relieved = false;
    AQ_CHECK(from_start(&works, 1));
    AQ_CHECK(from_start(&walks, 1));
    forward(&works);
    AQ_CHECK(aq_block_feed_relieve(&works, &relieved));
    CU_ASSERT(relieved && !works.inputs.resident.data && !works.outputs.resident.data);
    AQ_CHECK(from_team(&works, 1, 1, 2));
    CU_ASSERT_TRUE(same_inputs(&walks, &works));
    work_through(&works, NULL);
    AQ_CHECK(aq_block_feed_relieve(&works, &relieved));
    CU_ASSERT_FALSE(relieved);
    AQ_CHECK(from_start(&walks, 2));
    AQ_CHECK(from_team(&works, 2, 2, 0));
    CU_ASSERT_TRUE(same_inputs(&walks, &works));
    aq_block_feed_free(&works);
    aq_block_feed_free(&walks);
    fixture_free(&made);
}

static void quantized_inputs_are_those_of_finished_blocks(void) {
    fixture made = fixture_new();
    aq_coded_block coded = aq_test_random_block(&made.source->shape, 0, &made.directory.scheme);
    AQ_CHECK(aq_run_directory_write_block(&made.directory, &coded));
    aq_block_feed walks = feed_new(&made, true, SIZE_MAX), works = feed_new(&made, true, SIZE_MAX);
    aq_block_feed dense = feed_new(&made, false, SIZE_MAX);
    AQ_CHECK(from_start(&walks, 1));
    AQ_CHECK(from_start(&dense, 1));
    AQ_CHECK(from_start(&works, 0));
    work_through(&works, &coded);
    AQ_CHECK(from_team(&works, 1, 1, 0));
    CU_ASSERT_TRUE(same_inputs(&walks, &works));
    CU_ASSERT_FALSE(same_inputs(&walks, &dense));
    AQ_CHECK_FAILS(from_team(&walks, 1, 2, 0), AQ_MISSING, "block-0001.h5");
    aq_coded_block_free(&coded);
    aq_block_feed_free(&walks);
    aq_block_feed_free(&works);
    aq_block_feed_free(&dense);
    fixture_free(&made);
}

static const aq_case cases[] = {
    {"dense_inputs_do_not_depend_on_who_walked", dense_inputs_do_not_depend_on_who_walked},
    {"feed_starts_over_for_a_block_behind_it", feed_starts_over_for_a_block_behind_it},
    {"every_block_is_forwarded_once_by_teams_that_map",
     every_block_is_forwarded_once_by_teams_that_map},
    {"every_block_is_forwarded_once_by_teams_that_copy",
     every_block_is_forwarded_once_by_teams_that_copy},
    {"a_team_takes_its_own_outputs", a_team_takes_its_own_outputs},
    {"walking_from_mapped_activations_leaves_them_alone",
     walking_from_mapped_activations_leaves_them_alone},
    {"what_nobody_holds_is_computed", what_nobody_holds_is_computed},
    {"a_relieved_feed_holds_the_same_in_host_memory",
     a_relieved_feed_holds_the_same_in_host_memory},
    {"quantized_inputs_are_those_of_finished_blocks",
     quantized_inputs_are_those_of_finished_blocks},
};

int main(int argc, char **argv) {
    return aq_test_backend_main("block_feed", cases, sizeof cases / sizeof *cases, argc, argv);
}
