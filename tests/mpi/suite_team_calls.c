/* The calls of a team, over MPI or NCCL: what they compute, and how failures spread. */
#include "team_suite.h"

#include "base/clock.h"
#include "tensor/cuda_team.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t rank_of(void) {
    return (size_t)aq_test_team()->rank;
}

static size_t size_of(void) {
    return (size_t)aq_test_team()->size;
}

/* Element i of member m: not exact in float32, and of both signs. */
static double value_of(size_t m, size_t i) {
    return aq_random_normal(m, AQ_STREAM_TEST, i);
}

static aq_tensor values_of(aq_dtype dtype, size_t count, size_t m) {
    void *host = malloc(count * aq_dtype_size(dtype));
    for (size_t i = 0; i < count; i++) {
        if (dtype == AQ_F32) ((float *)host)[i] = (float)value_of(m, i);
        if (dtype == AQ_F64) ((double *)host)[i] = value_of(m, i);
        if (dtype == AQ_U32) ((uint32_t *)host)[i] = (uint32_t)(m * 1000000 + i);
    }
    aq_tensor x = aq_test_tensor(dtype, AQ_DIMS(count), host);
    free(host);
    return x;
}

static double element(aq_dtype dtype, const void *host, size_t i) {
    if (dtype == AQ_F32) return ((const float *)host)[i];
    return dtype == AQ_F64 ? ((const double *)host)[i] : ((const uint32_t *)host)[i];
}

/* Every member's bytes are those of member 0. */
static void expect_same_everywhere(const aq_tensor *x) {
    size_t bytes = aq_tensor_bytes(x);
    void *mine = aq_test_host(x);
    aq_tensor first = aq_test_tensor(x->dtype, AQ_DIMS(aq_tensor_count(x)), mine);
    AQ_CHECK(aq_team_share(aq_test_team(), 0, &first));
    void *theirs = aq_test_host(&first);
    CU_ASSERT_TRUE(memcmp(mine, theirs, bytes) == 0);
    aq_tensor_free(&first);
    free(mine), free(theirs);
}

static void expect_sum(aq_dtype dtype, size_t count, double tolerance) {
    aq_tensor x = values_of(dtype, count, rank_of());
    AQ_CHECK(aq_team_sum(aq_test_team(), &x));
    void *host = aq_test_host(&x);
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (size_t m = 0; m < size_of(); m++)
            sum += dtype == AQ_U32 ? (double)(m * 1000000 + i) : value_of(m, i);
        double difference = element(dtype, host, i) - sum;
        wrong += !(difference <= tolerance && difference >= -tolerance);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    expect_same_everywhere(&x);
    free(host);
    aq_tensor_free(&x);
}

static void sums_are_those_of_all_members(void) {
    static const size_t counts[] = {1, 2, 5, 1000, 1025, 70001};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        expect_sum(AQ_F32, counts[i], 1e-5);
        expect_sum(AQ_F64, counts[i], 1e-13);
        expect_sum(AQ_U32, counts[i], 0);
    }
}

static void sums_larger_than_a_piece_work(void) {
    expect_sum(AQ_U32, ((size_t)1 << 22) + 3, 0);
}

static void views_are_summed_alone(void) {
    aq_tensor all = values_of(AQ_F64, 100, rank_of());
    aq_tensor part = aq_tensor_rows(&all, 10, 5);
    AQ_CHECK(aq_team_sum(aq_test_team(), &part));
    double *host = aq_test_host(&all), sum = 0;
    for (size_t m = 0; m < size_of(); m++) sum += value_of(m, 12);
    CU_ASSERT_DOUBLE_EQUAL(host[12], sum, 1e-13);
    CU_ASSERT_EQUAL(host[9], value_of(rank_of(), 9));
    CU_ASSERT_EQUAL(host[15], value_of(rank_of(), 15));
    free(host);
    aq_tensor_free(&all);
}

static void nan_reaches_everybody(void) {
    float value = rank_of() + 1 == size_of() ? strtof("nan", NULL) : 1;
    aq_tensor x = aq_test_tensor(AQ_F32, AQ_DIMS(1), &value);
    size_t unfit;
    AQ_CHECK(aq_team_sum(aq_test_team(), &x));
    AQ_CHECK(aq_count_nonfinite(&x, &unfit));
    CU_ASSERT_EQUAL(unfit, 1);
    aq_tensor_free(&x);
}

/* Row r holds r, whoever's it is; rows that are not one's own hold rubbish before. */
static void uneven_rows_are_gathered(void) {
    enum { WIDTH = 7 };
    for (size_t rows = size_of(); rows < size_of() + 9; rows++) {
        aq_rows own = aq_team_rows(aq_test_team(), rows);
        uint16_t *host = malloc(rows * WIDTH * sizeof *host);
        for (size_t i = 0; i < rows * WIDTH; i++) {
            bool mine = i / WIDTH >= own.first && i / WIDTH < own.first + own.count;
            host[i] = mine ? (uint16_t)i : 60000;
        }
        aq_tensor x = aq_test_tensor(AQ_U16, AQ_DIMS(rows, WIDTH), host);
        AQ_CHECK(aq_team_gather_rows(aq_test_team(), own.first, own.count, &x));
        uint16_t *gathered = aq_test_host(&x);
        size_t wrong = 0;
        for (size_t i = 0; i < rows * WIDTH; i++) wrong += gathered[i] != i;
        CU_ASSERT_EQUAL(wrong, 0);
        aq_tensor_free(&x);
        free(host), free(gathered);
    }
}

static void every_member_can_share(void) {
    for (size_t root = 0; root < size_of(); root++) {
        aq_tensor x = values_of(AQ_F64, 3000, rank_of());
        AQ_CHECK(aq_team_share(aq_test_team(), (int)root, &x));
        double *host = aq_test_host(&x);
        CU_ASSERT_EQUAL(host[2999], value_of(root, 2999));
        free(host);
        aq_tensor_free(&x);
    }
}

static void numbers_are_summed(void) {
    double value = (double)rank_of() + 0.5, sum = 0;
    for (size_t m = 0; m < size_of(); m++) sum += (double)m + 0.5;
    AQ_CHECK(aq_team_sum_number(aq_test_team(), aq_test_backend(), &value));
    CU_ASSERT_EQUAL(value, sum);
}

static void sequences_and_rows_are_all_shared_out(void) {
    for (size_t count = 0; count < 20; count++) {
        double sequences = (double)aq_team_sequences(aq_test_team(), count);
        double rows = (double)aq_team_rows(aq_test_team(), count).count;
        AQ_CHECK(aq_team_sum_number(aq_test_team(), aq_test_backend(), &sequences));
        AQ_CHECK(aq_team_sum_number(aq_test_team(), aq_test_backend(), &rows));
        CU_ASSERT_EQUAL(sequences, count);
        CU_ASSERT_EQUAL(rows, count);
    }
}

/* ---- failures ---- */

static aq_status sum_something(void) {
    aq_tensor x = values_of(AQ_F32, 10, 0);
    aq_status status = aq_team_sum(aq_test_team(), &x);
    aq_tensor_free(&x);
    return status;
}

/* What a function that is collective does: here the last member fails between two sums. */
static aq_status fail_in_the_middle(void) {
    AQ_TRY(sum_something());
    AQ_REQUIRE(rank_of() + 1 < size_of(), AQ_NUMERIC, "a value is spoiled");
    AQ_TRY(sum_something());
    return sum_something();
}

static void a_failure_of_one_reaches_all_and_the_team_goes_on(void) {
    for (int again = 0; again < 3; again++) {
        aq_status status = aq_team_agree(aq_test_team(), fail_in_the_middle());
        CU_ASSERT_EQUAL(status, AQ_NUMERIC);
        CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "a value is spoiled"));
        if (size_of() > 1 && rank_of() == 0) {
            CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "rank "));
        }
        AQ_CHECK(aq_team_agree(aq_test_team(), sum_something()));
    }
}

static void a_failure_of_all_is_told_once(void) {
    aq_status mine = AQ_FAIL(AQ_MEMORY, "all of us");
    CU_ASSERT_EQUAL(aq_team_agree(aq_test_team(), mine), AQ_MEMORY);
    CU_ASSERT_STRING_EQUAL(aq_error_text(), "all of us");
    AQ_CHECK(aq_team_agree(aq_test_team(), AQ_OK));
}

/* One sums while the others gather. */
static void members_out_of_step_fail(void) {
    AQ_SKIP_IF(size_of() == 1, "one member alone");
    aq_tensor x = values_of(AQ_F32, 10 * size_of(), 0);
    aq_status status = rank_of() == 0 ? aq_team_sum(aq_test_team(), &x)
                                      : aq_team_gather_rows(aq_test_team(), 10 * rank_of(), 10, &x);
    CU_ASSERT_EQUAL(status, AQ_COMM);
    CU_ASSERT_EQUAL(aq_team_agree(aq_test_team(), status), AQ_COMM);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "out of step"));
    AQ_CHECK(aq_team_agree(aq_test_team(), sum_something()));
    aq_tensor_free(&x);
}

/* Waits that were given up leave MPI with a call under way: the last cases. */
static void *abort_soon(void *state) {
    const struct timespec moment = {.tv_nsec = 100 * 1000 * 1000};
    nanosleep(&moment, NULL);
    aq_team_abort(state, "rank 7 has left");
    return NULL;
}

static void a_member_that_does_not_come_is_given_up(void) {
    AQ_SKIP_IF(size_of() == 1, "one member alone");
    aq_team other;
    AQ_CHECK(aq_team_open(MPI_COMM_WORLD, aq_test_backend(), &other));
    double number = 1;
    if (rank_of() == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, abort_soon, &other);
        AQ_CHECK_FAILS(aq_team_sum_number(&other, aq_test_backend(), &number), AQ_COMM,
                       "rank 7 has left");
        pthread_join(thread, NULL);
        CU_ASSERT_EQUAL(aq_team_agree(&other, AQ_OK), AQ_COMM);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    aq_team_close(&other);
}

/* Members connect in the opening and in the first call, which takes its time. */
static aq_status be_patient(void *state, double waited) {
    const double *limit = state;
    AQ_REQUIRE(waited < *limit, AQ_COMM, "waited for long enough");
    return AQ_OK;
}

static void a_member_lost_inside_nccl_is_given_up(void) {
    bool cuda = strcmp(aq_backend_name(aq_test_backend()), "cuda") == 0;
    AQ_SKIP_IF(!cuda || size_of() == 1 || aq_test_shares_gpu(), "needs two GPUs");
    double limit = 60;
    const aq_patience waits = {.check = be_patient, .state = &limit};
    unsigned char id[AQ_CUDA_TEAM_ID];
    aq_cuda_team *team;
    if (rank_of() == 0) AQ_CHECK(aq_cuda_team_id(id));
    MPI_Bcast(id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    AQ_CHECK(aq_cuda_team_open(aq_test_backend(), id, aq_test_team(), &waits, &team));
    aq_tensor x = values_of(AQ_F32, 1000, 0);
    AQ_CHECK(aq_cuda_team_sum(team, &x));
    limit = 0.5;
    if (rank_of() == 0) {
        double start = aq_seconds();
        CU_ASSERT_EQUAL(aq_cuda_team_sum(team, &x), AQ_COMM);
        CU_ASSERT_TRUE(aq_seconds() - start < 5);
        CU_ASSERT_EQUAL(aq_cuda_team_sum(team, &x), AQ_COMM);
        AQ_CHECK(aq_finish(aq_test_backend())); /* the GPU is free again */
    }
    MPI_Barrier(MPI_COMM_WORLD);
    aq_tensor_free(&x);
    aq_cuda_team_close(team);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(sums_are_those_of_all_members),
        AQ_CASE(sums_larger_than_a_piece_work),
        AQ_CASE(views_are_summed_alone),
        AQ_CASE(nan_reaches_everybody),
        AQ_CASE(uneven_rows_are_gathered),
        AQ_CASE(every_member_can_share),
        AQ_CASE(numbers_are_summed),
        AQ_CASE(sequences_and_rows_are_all_shared_out),
        AQ_CASE(a_failure_of_one_reaches_all_and_the_team_goes_on),
        AQ_CASE(a_failure_of_all_is_told_once),
        AQ_CASE(members_out_of_step_fail),
        AQ_CASE(a_member_lost_inside_nccl_is_given_up),
        AQ_CASE(a_member_that_does_not_come_is_given_up),
    };
    return aq_test_team_main("team_calls", cases, sizeof cases / sizeof *cases, argc, argv);
}
