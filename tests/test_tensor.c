#include "suite.h"
#include "tensor/team.h"

#include <stdlib.h>
#include <string.h>

static void a_tensor_keeps_what_was_uploaded(void) {
    const uint16_t values[6] = {1, 2, 3, 4, 5, 65535};
    aq_tensor x = aq_test_tensor(AQ_U16, AQ_DIMS(2, 3), values);
    CU_ASSERT(x.owned && x.ndim == 2 && x.shape[0] == 2 && x.shape[1] == 3);
    CU_ASSERT(x.shape[2] == 1 && x.shape[3] == 1);
    CU_ASSERT_EQUAL(aq_tensor_count(&x), 6);
    CU_ASSERT_EQUAL(aq_tensor_bytes(&x), 12);
    uint16_t *back = aq_test_host(&x);
    CU_ASSERT_EQUAL(memcmp(back, values, sizeof values), 0);
    free(back);
    aq_tensor_free(&x);
    CU_ASSERT(!x.data && !x.owned && aq_tensor_count(&x) == 0);
    aq_tensor_free(&x);
}

static void zeros_are_zero(void) {
    aq_tensor x;
    AQ_CHECK(aq_tensor_zeros(aq_test_backend(), AQ_F64, AQ_DIMS(3, 1001), &x));
    double *host = aq_test_host(&x);
    int wrong = 0;
    for (size_t i = 0; i < 3003; i++) wrong += host[i] != 0.0;
    CU_ASSERT_EQUAL(wrong, 0);
    free(host);
    aq_tensor_free(&x);
}

static void views_share_the_memory(void) {
    const float values[6] = {0, 1, 2, 3, 4, 5};
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(3, 2), values);
    aq_tensor rows = aq_tensor_rows(&x, 1, 2), flat = aq_tensor_reshape(&x, AQ_DIMS(6));
    CU_ASSERT(!rows.owned && rows.shape[0] == 2 && rows.shape[1] == 2);
    CU_ASSERT(flat.ndim == 1 && flat.shape[0] == 6 && flat.shape[1] == 1);
    AQ_CHECK(aq_fill(7.0f, &rows));
    float *host = aq_test_host(&flat);
    const float expected[6] = {0, 1, 7, 7, 7, 7};
    CU_ASSERT_EQUAL(memcmp(host, expected, sizeof expected), 0);
    free(host);
    aq_tensor_free(&rows);
    aq_tensor_free(&flat);
    aq_tensor_free(&x);
}

static void copies_are_ordered_like_ops(void) {
    const float values[4] = {1, 2, 3, 4};
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(4), values), y;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(4), &y));
    AQ_CHECK(aq_tensor_copy(&x, &y));
    AQ_CHECK(aq_fill(9.0f, &x));
    float *host = aq_test_host(&y);
    CU_ASSERT_EQUAL(memcmp(host, values, sizeof values), 0);
    free(host);
    aq_tensor_free(&x);
    aq_tensor_free(&y);
}

static void wrong_sizes_are_refused(void) {
    aq_tensor x, y;
    float host[5] = {0};
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(4), &x));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(5), &y));
    AQ_CHECK_FAILS(aq_tensor_upload(&x, host, sizeof host), AQ_SHAPE, "20 bytes");
    AQ_CHECK_FAILS(aq_tensor_download(&x, host, sizeof host), AQ_SHAPE, "20 bytes");
    AQ_CHECK_FAILS(aq_tensor_copy(&x, &y), AQ_SHAPE, "16 bytes");
    aq_tensor_free(&x);
    aq_tensor_free(&y);
}

static void impossible_sizes_are_refused(void) {
    aq_tensor x;
    size_t big = (size_t)1 << 40;
    AQ_CHECK_FAILS(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(3, 0), &x), AQ_INVALID,
                   "no valid size");
    AQ_CHECK_FAILS(aq_tensor_new(aq_test_backend(), AQ_F32, AQ_DIMS(big, big), &x), AQ_INVALID,
                   "no valid size");
    CU_ASSERT_PTR_NULL(x.data);
}

static void too_much_memory_is_an_error_with_the_size(void) {
    aq_tensor x;
    AQ_CHECK_FAILS(aq_tensor_new(aq_test_backend(), AQ_U8, AQ_DIMS((size_t)1 << 50), &x), AQ_MEMORY,
                   "1125899.907 GB of ");
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), " memory were asked for, but only "));
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), " GB are free"));
    CU_ASSERT_PTR_NULL(x.data);
}

static void the_backend_tells_its_memory(void) {
    size_t free_bytes = 0, total_bytes = 0;
    AQ_CHECK(aq_backend_memory(aq_test_backend(), &free_bytes, &total_bytes));
    CU_ASSERT(free_bytes > 0 && free_bytes <= total_bytes);
}

static void the_backend_tells_the_most_that_was_taken(void) {
    const size_t bytes = (size_t)256 << 20;
    size_t before, during, after;
    aq_tensor x, y;
    AQ_CHECK(aq_backend_peak(aq_test_backend(), &before));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U8, AQ_DIMS(bytes), &x));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U8, AQ_DIMS(bytes / 4), &y));
    AQ_CHECK(aq_backend_peak(aq_test_backend(), &during));
    aq_tensor_free(&x);
    aq_tensor_free(&y);
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U8, AQ_DIMS(bytes / 2), &x));
    AQ_CHECK(aq_backend_peak(aq_test_backend(), &after));
    aq_tensor_free(&x);
    CU_ASSERT(before < bytes && during >= bytes + bytes / 4 && during < bytes + bytes / 2);
    CU_ASSERT_EQUAL(after, during);
}

static void pinned_memory_can_be_used(void) {
    enum { BYTES = 8192 };
    unsigned char *data = aligned_alloc(4096, BYTES);
    memset(data, 3, BYTES);
    AQ_CHECK(aq_host_pin(aq_test_backend(), data, BYTES));
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U8, AQ_DIMS(BYTES), &x));
    AQ_CHECK(aq_tensor_upload(&x, data, BYTES));
    memset(data, 4, BYTES);
    AQ_CHECK(aq_tensor_download(&x, data, BYTES));
    for (int i = 0; i < BYTES; i++) CU_ASSERT_EQUAL(data[i], 3);
    aq_host_unpin(aq_test_backend(), data);
    aq_tensor_free(&x);
    free(data);
}

/* Past any piece that a backend moves at once, with an end of its own; and queued. */
static void large_transfers_keep_every_byte(void) {
    const size_t bytes = ((size_t)50 << 20) + 5;
    unsigned char *sent = malloc(bytes), *got = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) sent[i] = (unsigned char)(i % 251);
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U8, AQ_DIMS(bytes), &x));
    for (int queued = 0; queued < 2; queued++) {
        memset(got, 0, bytes);
        if (queued) {
            AQ_CHECK(aq_tensor_upload_queued(&x, sent));
            AQ_CHECK(aq_tensor_download_queued(&x, got));
            AQ_CHECK(aq_finish(aq_test_backend()));
        } else {
            AQ_CHECK(aq_tensor_upload(&x, sent, bytes));
            AQ_CHECK(aq_tensor_download(&x, got, bytes));
        }
        CU_ASSERT_EQUAL(memcmp(got, sent, bytes), 0);
        sent[bytes - 1] ^= 1;
    }
    free(sent);
    free(got);
    aq_tensor_free(&x);
}

/* Pinned and not. */
static void an_upload_ahead_is_there_behind_its_join(void) {
    enum { BYTES = 8192 };
    unsigned char *data = aligned_alloc(4096, BYTES), got[BYTES];
    aq_tensor x, y;
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U8, AQ_DIMS(BYTES), &x));
    AQ_CHECK(aq_tensor_new(aq_test_backend(), AQ_U8, AQ_DIMS(BYTES), &y));
    for (int pinned = 0; pinned < 2; pinned++) {
        memset(data, 5 + pinned, BYTES);
        if (pinned) AQ_CHECK(aq_host_pin(aq_test_backend(), data, BYTES));
        AQ_CHECK(aq_tensor_upload_ahead(&x, data));
        AQ_CHECK(aq_ahead_join(aq_test_backend()));
        AQ_CHECK(aq_tensor_copy(&x, &y));
        AQ_CHECK(aq_tensor_download(&y, got, BYTES));
        CU_ASSERT_EQUAL(memcmp(got, data, BYTES), 0);
    }
    aq_host_unpin(aq_test_backend(), data);
    aq_tensor_free(&x);
    aq_tensor_free(&y);
    free(data);
}

static void finish_waits_without_error(void) {
    AQ_CHECK(aq_finish(aq_test_backend()));
}

static void types_have_names_and_sizes(void) {
    CU_ASSERT_STRING_EQUAL(aq_dtype_name(AQ_BF16), "BF16");
    CU_ASSERT_STRING_EQUAL(aq_dtype_name(AQ_I32), "I32");
    CU_ASSERT_EQUAL(aq_dtype_size(AQ_F64), 8);
    CU_ASSERT_EQUAL(aq_dtype_size(AQ_BF16), 2);
    CU_ASSERT_EQUAL(aq_dtype_size(AQ_U8), 1);
}

static void the_team_of_one_changes_nothing(void) {
    const float values[4] = {1, 2, 3, 4};
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(4), values);
    const aq_team *team = aq_team_alone();
    CU_ASSERT(team->rank == 0 && team->size == 1);
    AQ_CHECK(aq_team_sum(team, &x));
    AQ_CHECK(team->gather_rows(team, 0, 4, &x));
    AQ_CHECK(team->share(team, 0, &x));
    float *host = aq_test_host(&x);
    CU_ASSERT_EQUAL(memcmp(host, values, sizeof values), 0);
    free(host);
    aq_tensor_free(&x);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(a_tensor_keeps_what_was_uploaded),
                                    AQ_CASE(zeros_are_zero),
                                    AQ_CASE(views_share_the_memory),
                                    AQ_CASE(copies_are_ordered_like_ops),
                                    AQ_CASE(wrong_sizes_are_refused),
                                    AQ_CASE(impossible_sizes_are_refused),
                                    AQ_CASE(too_much_memory_is_an_error_with_the_size),
                                    AQ_CASE(the_backend_tells_its_memory),
                                    AQ_CASE(the_backend_tells_the_most_that_was_taken),
                                    AQ_CASE(pinned_memory_can_be_used),
                                    AQ_CASE(large_transfers_keep_every_byte),
                                    AQ_CASE(an_upload_ahead_is_there_behind_its_join),
                                    AQ_CASE(finish_waits_without_error),
                                    AQ_CASE(types_have_names_and_sizes),
                                    AQ_CASE(the_team_of_one_changes_nothing)};
    return aq_test_backend_main("tensor", cases, sizeof cases / sizeof *cases, argc, argv);
}
