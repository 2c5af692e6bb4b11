#include "base/random.h"
#include "dist/devices.h"
#include "suite.h"

enum { RANKS = 6 };

typedef struct node {
    aq_visible_devices visible[RANKS];
    int chosen[RANKS], sharers[RANKS], ranks, devices;
} node;

/* Each text lists the GPUs that a rank sees, in the order of its numbers. */
static node node_of(int ranks, const char *const *seen) {
    static node self;
    self = (node){.ranks = ranks};
    for (int rank = 0; rank < ranks; rank++)
        for (const char *gpu = seen[rank]; *gpu; gpu++)
            self.visible[rank].ids[self.visible[rank].count++][15] = (unsigned char)*gpu;
    self.devices = aq_devices_choose(self.visible, ranks, self.chosen, self.sharers);
    return self;
}

static void expect(const node *self, const char *gpus) {
    for (int rank = 0; rank < self->ranks; rank++)
        CU_ASSERT_EQUAL(self->visible[rank].ids[self->chosen[rank]][15], (unsigned char)gpus[rank]);
}

static void ranks_that_see_all_take_one_each(void) {
    node self = node_of(3, (const char *[]){"ABC", "ABC", "ABC"});
    CU_ASSERT_EQUAL(self.devices, 3);
    expect(&self, "ABC");
    for (int rank = 0; rank < 3; rank++) CU_ASSERT_EQUAL(self.sharers[rank], 1);
}

static void ranks_that_see_one_each_have_as_many(void) {
    node self = node_of(4, (const char *[]){"A", "B", "C", "D"});
    CU_ASSERT_EQUAL(self.devices, 4);
    expect(&self, "ABCD");
    for (int rank = 0; rank < 4; rank++) CU_ASSERT_EQUAL(self.sharers[rank], 1);
}

static void ranks_that_see_the_same_one_share_it(void) {
    node self = node_of(3, (const char *[]){"A", "A", "B"});
    CU_ASSERT_EQUAL(self.devices, 2);
    expect(&self, "AAB");
    CU_ASSERT_EQUAL(self.sharers[0], 2);
    CU_ASSERT_EQUAL(self.sharers[2], 1);
}

static void too_many_ranks_share_in_turn(void) {
    node self = node_of(5, (const char *[]){"AB", "AB", "AB", "AB", "AB"});
    CU_ASSERT_EQUAL(self.devices, 2);
    expect(&self, "ABABA");
    CU_ASSERT_EQUAL(self.sharers[4], 3);
    CU_ASSERT_EQUAL(self.sharers[1], 2);
}

static void the_order_in_which_ranks_see_them_does_not_matter(void) {
    node self = node_of(2, (const char *[]){"AB", "BA"});
    CU_ASSERT_EQUAL(self.devices, 2);
    expect(&self, "AB");
    CU_ASSERT_EQUAL(self.chosen[1], 0);
}

/* Whoever chooses first leaves those that see less what they need, along a chain of any length. */
static void every_rank_has_its_own_where_there_is_a_way(void) {
    node self = node_of(2, (const char *[]){"AB", "A"});
    expect(&self, "BA");
    self = node_of(4, (const char *[]){"AB", "BC", "CD", "A"});
    CU_ASSERT_EQUAL(self.devices, 4);
    expect(&self, "BCDA");
    for (int rank = 0; rank < 4; rank++) CU_ASSERT_EQUAL(self.sharers[rank], 1);
    self = node_of(4, (const char *[]){"ABCD", "ABC", "AB", "A"});
    expect(&self, "DCBA");
}

static void no_gpu_has_more_ranks_than_must_be(void) {
    node self = node_of(6, (const char *[]){"AB", "AB", "A", "A", "A", "B"});
    CU_ASSERT_EQUAL(self.devices, 2);
    for (int rank = 0; rank < 6; rank++) CU_ASSERT_EQUAL(self.sharers[rank], 3);
    self = node_of(3, (const char *[]){"A", "A", "ABC"});
    CU_ASSERT_EQUAL(self.devices, 3);
    CU_ASSERT_EQUAL(self.sharers[0], 2);
    CU_ASSERT_EQUAL(self.sharers[2], 1);
}

/* Against all assignments that there are. */
static int fewest_at_most(const node *self, int rank, int *users) {
    int best = RANKS + 1;
    if (rank == self->ranks) {
        int most = 0;
        for (int gpu = 0; gpu < 256; gpu++) most = users[gpu] > most ? users[gpu] : most;
        return most;
    }
    for (int i = 0; i < self->visible[rank].count; i++) {
        int *gpu = &users[self->visible[rank].ids[i][15]];
        ++*gpu;
        int most = fewest_at_most(self, rank + 1, users);
        --*gpu;
        best = most < best ? most : best;
    }
    return best;
}

static void no_other_assignment_is_better(void) {
    for (uint64_t trial = 0; trial < 300; trial++) {
        char seen[RANKS][5];
        const char *list[RANKS];
        for (uint64_t rank = 0; rank < RANKS; rank++) {
            uint64_t subset = aq_random(trial, AQ_STREAM_TEST, rank) % 15 + 1;
            size_t count = 0;
            for (int gpu = 0; gpu < 4; gpu++)
                if (subset >> gpu & 1) seen[rank][count++] = (char)('A' + gpu);
            seen[rank][count] = 0;
            list[rank] = seen[rank];
        }
        int ranks = (int)(trial % RANKS) + 1, users[256] = {0}, most = 0;
        node self = node_of(ranks, list);
        for (int rank = 0; rank < ranks; rank++)
            most = self.sharers[rank] > most ? self.sharers[rank] : most;
        CU_ASSERT_EQUAL(most, fewest_at_most(&self, 0, users));
    }
}

static void sharing_that_nobody_allowed_is_refused(void) {
    AQ_CHECK(aq_devices_check("n1", 4, 4, 1));
    AQ_CHECK_FAILS(aq_devices_check("n1", 3, 2, 2), AQ_INVALID,
                   "host n1 has 3 ranks and 2 GPUs: start as many ranks as GPUs, or allow sharing "
                   "with run.share_gpus=yes");
    AQ_CHECK_FAILS(aq_devices_check("n1", 2, 1, 2), AQ_INVALID, "host n1 has 2 ranks and 1 GPU: ");
    AQ_CHECK_FAILS(aq_devices_check("n1", 3, 3, 2), AQ_INVALID,
                   "2 ranks have to share one: show each rank its own GPU");
}

static void kinds_are_listed_once(void) {
    static const char names[][AQ_DEVICE_NAME] = {"A", "B", "A", "AB", "B"};
    char kinds[AQ_DEVICE_NAME];
    aq_devices_list(names, 1, kinds, sizeof kinds);
    CU_ASSERT_STRING_EQUAL(kinds, "A");
    aq_devices_list(names, 5, kinds, sizeof kinds);
    CU_ASSERT_STRING_EQUAL(kinds, "A; B; AB");
    aq_devices_list(names, 5, kinds, 4);
    CU_ASSERT_STRING_EQUAL(kinds, "A; ");
}

static const aq_case cases[] = {
    AQ_CASE(ranks_that_see_all_take_one_each),
    AQ_CASE(ranks_that_see_one_each_have_as_many),
    AQ_CASE(ranks_that_see_the_same_one_share_it),
    AQ_CASE(too_many_ranks_share_in_turn),
    AQ_CASE(the_order_in_which_ranks_see_them_does_not_matter),
    AQ_CASE(every_rank_has_its_own_where_there_is_a_way),
    AQ_CASE(no_gpu_has_more_ranks_than_must_be),
    AQ_CASE(no_other_assignment_is_better),
    AQ_CASE(kinds_are_listed_once),
    AQ_CASE(sharing_that_nobody_allowed_is_refused),
};

int main(int argc, char **argv) {
    return aq_test_main("devices", cases, sizeof cases / sizeof *cases, argc, argv);
}
