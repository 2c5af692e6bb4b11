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

static const aq_case cases[] = {
    AQ_CASE(ranks_that_see_all_take_one_each),
    AQ_CASE(ranks_that_see_one_each_have_as_many),
    AQ_CASE(ranks_that_see_the_same_one_share_it),
    AQ_CASE(too_many_ranks_share_in_turn),
    AQ_CASE(the_order_in_which_ranks_see_them_does_not_matter),
};

int main(int argc, char **argv) {
    return aq_test_main("devices", cases, sizeof cases / sizeof *cases, argc, argv);
}
