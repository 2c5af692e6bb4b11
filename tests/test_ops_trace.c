/* The end of a code pass: the best hypothesis' codes. */
#include "suite.h"

#include <stdlib.h>

static void trace_back_follows_the_ancestors(void) {
    /* Two rows, a beam of 2, three steps over groups 2, 0, 1. Row 1's best is hypothesis 1. */
    const uint8_t ancestors[12] = {0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1};
    const uint16_t choices[12] = {10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33};
    const float losses[4] = {-3.0f, -2.0f, 5.0f, 4.0f};
    const uint32_t order[3] = {2, 0, 1};
    aq_tensor a = aq_test_tensor(AQ_U8, AQ_DIMS(3, 2, 2), ancestors);
    aq_tensor c = aq_test_tensor(AQ_U16, AQ_DIMS(3, 2, 2, 1), choices);
    aq_tensor l = aq_test_tensor(AQ_F32, AQ_DIMS(2, 2), losses);
    aq_tensor codes;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U16, AQ_DIMS(2, 3, 1), &codes));
    AQ_CHECK(aq_trace_back(&a, &c, &l, order, &codes));
    uint16_t *found = aq_test_host(&codes);
    const uint16_t expected[6] = {21, 30, 10, 23, 33, 12};
    for (int i = 0; i < 6; i++) CU_ASSERT_EQUAL(found[i], expected[i]);
    free(found);
    aq_tensor_free(&a);
    aq_tensor_free(&c);
    aq_tensor_free(&l);
    aq_tensor_free(&codes);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(trace_back_follows_the_ancestors)};
    return aq_test_backend_main("ops: traces", cases, sizeof cases / sizeof *cases, argc, argv);
}
