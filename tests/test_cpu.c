/* The CPU backend gives the same bits with any number of threads. Each case fills tensors on one
 * backend, runs ops, and returns a checksum of what they wrote. */
#include "suite.h"

#include <stdlib.h>
#include <string.h>

static aq_tensor normal(aq_backend *backend, aq_shape shape, uint64_t seed) {
    aq_tensor x;
    AQ_CHECK(aq_tensor_new(backend, AQ_F32, shape, &x));
    for (size_t i = 0; i < aq_tensor_count(&x); i++)
        ((float *)x.data)[i] = (float)aq_random_normal(seed, AQ_STREAM_TEST, i);
    return x;
}

static aq_tensor zeros(aq_backend *backend, aq_dtype dtype, aq_shape shape) {
    aq_tensor x;
    AQ_CHECK(aq_tensor_zeros(backend, dtype, shape, &x));
    return x;
}

/* Mixes x's bytes into the checksum and frees it. */
static uint64_t mix_bytes(uint64_t sum, aq_tensor *x) {
    const unsigned char *bytes = x->data;
    for (size_t i = 0; i < aq_tensor_bytes(x); i++) sum = aq_mix(sum ^ bytes[i]);
    aq_tensor_free(x);
    return sum;
}

/* Runs `work` with 1, 2, 3 and 7 threads and compares. */
static void check_threads(uint64_t (*work)(aq_backend *)) {
    const int threads[] = {1, 2, 3, 7};
    uint64_t first = 0;
    for (int i = 0; i < 4; i++) {
        aq_backend *backend;
        AQ_CHECK(aq_cpu_open(threads[i], &backend));
        uint64_t sum = work(backend);
        if (i == 0) first = sum;
        CU_ASSERT_EQUAL(sum, first);
        aq_backend_close(backend);
    }
}

static uint64_t work_products(aq_backend *backend) {
    aq_tensor a = normal(backend, AQ_DIMS(333, 250), 1), b = normal(backend, AQ_DIMS(250, 1100), 2);
    aq_tensor c = zeros(backend, AQ_F32, AQ_DIMS(333, 1100));
    aq_tensor gram = zeros(backend, AQ_F64, AQ_DIMS(1100, 1100));
    AQ_CHECK(aq_matmul(&a, &b, &(aq_product){.alpha = 1.0f}, &c));
    AQ_CHECK(aq_gram_add(&c, &gram));
    uint64_t sum = mix_bytes(mix_bytes(0, &c), &gram);
    aq_tensor_free(&a);
    aq_tensor_free(&b);
    return sum;
}

static uint64_t work_sums(aq_backend *backend) {
    aq_tensor x = normal(backend, AQ_DIMS(1500, 130), 1),
              bias = zeros(backend, AQ_F32, AQ_DIMS(130));
    aq_tensor dot = zeros(backend, AQ_F64, AQ_DIMS(1)),
              entropy = zeros(backend, AQ_F64, AQ_DIMS(1));
    aq_tensor targets = zeros(backend, AQ_I32, AQ_DIMS(1500));
    AQ_CHECK(aq_dot_add(&x, &x, 1.0, &dot));
    AQ_CHECK(aq_bias_grad(&x, &bias));
    AQ_CHECK(aq_cross_entropy_add(&x, &targets, &entropy));
    uint64_t sum = mix_bytes(mix_bytes(mix_bytes(0, &dot), &bias), &entropy);
    aq_tensor_free(&x);
    aq_tensor_free(&targets);
    return sum;
}

static uint64_t work_elements(aq_backend *backend) {
    aq_tensor x = normal(backend, AQ_DIMS(33331), 1), y = normal(backend, AQ_DIMS(33331), 2);
    aq_tensor first = zeros(backend, AQ_F32, AQ_DIMS(33331));
    aq_tensor second = zeros(backend, AQ_F32, AQ_DIMS(33331));
    for (int i = 1; i <= 3; i++) {
        const aq_adam_step step = {0.01f, 0.9f, 0.95f, 1e-8f, i};
        AQ_CHECK(aq_axpby(0.3f, &x, 0.7f, &y));
        AQ_CHECK(aq_adam(&step, &y, &x, &first, &second, NULL));
        AQ_CHECK(aq_silu_gate(&x, &y, &first));
    }
    return mix_bytes(mix_bytes(mix_bytes(mix_bytes(0, &x), &y), &first), &second);
}

static uint64_t work_clusters(aq_backend *backend) {
    aq_tensor points = normal(backend, AQ_DIMS(5001, 8), 1),
              norms = zeros(backend, AQ_F32, AQ_DIMS(100));
    aq_tensor entries = normal(backend, AQ_DIMS(100, 8), 2),
              codes = zeros(backend, AQ_U16, AQ_DIMS(5001, 1));
    aq_tensor order = zeros(backend, AQ_U32, AQ_DIMS(5001)),
              offsets = zeros(backend, AQ_U32, AQ_DIMS(101)),
              sums = zeros(backend, AQ_F64, AQ_DIMS(100, 17));
    const aq_cluster_draw draw = {.seed = 1, .total = 5001};
    aq_tensor blocks = aq_tensor_reshape(&entries, AQ_DIMS(100, 1, 8));
    for (int i = 0; i < 3; i++) {
        AQ_CHECK(aq_entry_norms(&blocks, NULL, 0, &norms));
        AQ_CHECK(aq_nearest(&points, &entries, &norms, 0, AQ_FAST, &codes));
        AQ_CHECK(aq_sort_codes(&codes, 0, &order, &offsets));
        AQ_CHECK(aq_cluster_sums(&points, &order, &offsets, &draw, &sums));
        AQ_CHECK(aq_cluster_means(&sums, &entries));
    }
    aq_tensor_free(&points);
    aq_tensor_free(&norms);
    aq_tensor_free(&order);
    aq_tensor_free(&offsets);
    aq_tensor_free(&sums);
    return mix_bytes(mix_bytes(0, &codes), &entries);
}

/* A weight cut into pieces of 2 x 8 and its gradients; codes 0 to 15 in turn. */
static uint64_t work_coded(aq_backend *backend) {
    enum { OUT = 62, IN = 72, ROWS = OUT / 2, GROUPS = IN / 8, VECTORS = ROWS * GROUPS };
    aq_coded coded = {.scheme = {1, 4, 8, 2},
                      .codes = zeros(backend, AQ_U16, AQ_DIMS(ROWS, GROUPS, 1)),
                      .codebooks = normal(backend, AQ_DIMS(1, 16, 2, 8), 1),
                      .scales = zeros(backend, AQ_F32, AQ_DIMS(ROWS))};
    for (int n = 0; n < VECTORS; n++) ((uint16_t *)coded.codes.data)[n] = (uint16_t)(n % 16);
    aq_tensor weight = normal(backend, AQ_DIMS(OUT, IN), 2),
              decoded = zeros(backend, AQ_F32, AQ_DIMS(OUT, IN));
    aq_tensor points = zeros(backend, AQ_F32, AQ_DIMS(VECTORS, 16)),
              grad = zeros(backend, AQ_F32, AQ_DIMS(1, 16, 2, 8));
    aq_tensor order = zeros(backend, AQ_U32, AQ_DIMS(1, VECTORS)),
              offsets = zeros(backend, AQ_U32, AQ_DIMS(1, 17));
    aq_tensor scales = zeros(backend, AQ_F32, AQ_DIMS(ROWS)),
              codes = aq_tensor_reshape(&coded.codes, AQ_DIMS(VECTORS, 1));
    aq_tensor list = aq_tensor_reshape(&order, AQ_DIMS(VECTORS)),
              starts = aq_tensor_reshape(&offsets, AQ_DIMS(17));
    AQ_CHECK(aq_group_norms(&weight, &coded.scales));
    AQ_CHECK(aq_scaled_vectors(&weight, &coded.scales, 8, &points));
    AQ_CHECK(aq_decode(&coded, &decoded));
    AQ_CHECK(aq_sort_codes(&codes, 0, &list, &starts));
    AQ_CHECK(aq_coded_grad(&coded, &order, &offsets, &weight, &grad, &scales));
    aq_tensor *const results[] = {&coded.scales, &points, &decoded, &grad, &scales, &order};
    uint64_t sum = 0;
    for (int i = 0; i < 6; i++) sum = mix_bytes(sum, results[i]);
    aq_tensor *const rest[] = {&coded.codes, &coded.codebooks, &weight, &offsets};
    for (int i = 0; i < 4; i++) aq_tensor_free(rest[i]);
    return sum;
}

/* A run of two groups of a code pass with four hypotheses a row. */
static uint64_t work_search(aq_backend *backend) {
    enum { ROWS = 61, IN = 72, BEAM = 4 };
    const uint8_t codebook_orders[4] = {1, 0, 0, 1};
    const uint32_t groups[2] = {5, 2};
    const aq_group_run run = {groups, 2, 8};
    aq_coded coded = {.scheme = {2, 5, 8, 1},
                      .codes = zeros(backend, AQ_U16, AQ_DIMS(ROWS, IN / 8, 2)),
                      .codebooks = normal(backend, AQ_DIMS(2, 32, 1, 8), 1),
                      .scales = normal(backend, AQ_DIMS(ROWS), 2)};
    aq_tensor gram = normal(backend, AQ_DIMS(IN, IN), 3);
    aq_tensor old = normal(backend, AQ_DIMS(ROWS, BEAM, 1, IN), 4),
              residual = zeros(backend, AQ_F32, AQ_DIMS(ROWS, BEAM, 1, IN));
    aq_tensor losses = zeros(backend, AQ_F32, AQ_DIMS(ROWS, BEAM)),
              ancestors = zeros(backend, AQ_U8, AQ_DIMS(2, ROWS, BEAM));
    aq_tensor choices = zeros(backend, AQ_U16, AQ_DIMS(2, ROWS, BEAM, 2)),
              origins = zeros(backend, AQ_U8, AQ_DIMS(ROWS, BEAM)),
              delta = zeros(backend, AQ_F32, AQ_DIMS(ROWS, BEAM, 1, 16));
    AQ_CHECK(aq_search_groups(&(aq_group_search){&coded, &gram, &old, run, codebook_orders, false,
                                                 &losses, &ancestors, &choices, &origins, &delta}));
    AQ_CHECK(aq_residual_update(&delta, &gram, &run, &origins, &old, &residual));
    aq_tensor *const results[] = {&residual, &losses, &ancestors, &choices, &origins, &delta};
    uint64_t sum = 0;
    for (int i = 0; i < 6; i++) sum = mix_bytes(sum, results[i]);
    aq_tensor *const rest[] = {&coded.codes, &coded.codebooks, &coded.scales, &gram, &old};
    for (int i = 0; i < 5; i++) aq_tensor_free(rest[i]);
    return sum;
}

static uint64_t work_attention(aq_backend *backend) {
    const aq_attention shape = {3, 150, 4, 2, 24, AQ_PRECISE};
    aq_tensor q = normal(backend, AQ_DIMS(450, 96), 1), k = normal(backend, AQ_DIMS(450, 48), 2);
    aq_tensor out = zeros(backend, AQ_F32, AQ_DIMS(450, 96)),
              dq = zeros(backend, AQ_F32, AQ_DIMS(450, 96));
    aq_tensor dk = zeros(backend, AQ_F32, AQ_DIMS(450, 48)),
              dv = zeros(backend, AQ_F32, AQ_DIMS(450, 48));
    aq_tensor sums = zeros(backend, AQ_F32, AQ_DIMS(3, 4, 150));
    const aq_attention_tape tape = {&q, &k, &k, &out, &sums};
    AQ_CHECK(aq_causal_attention(&shape, &q, &k, &k, &out, &sums));
    AQ_CHECK(aq_causal_attention_grad(&shape, &tape, &q, &dq, &dk, &dv));
    uint64_t sum = mix_bytes(mix_bytes(mix_bytes(mix_bytes(0, &out), &dq), &dk), &dv);
    aq_tensor_free(&q);
    aq_tensor_free(&k);
    aq_tensor_free(&sums);
    return sum;
}

static uint64_t work_norms(aq_backend *backend) {
    aq_tensor x = normal(backend, AQ_DIMS(700, 200), 1), weight = normal(backend, AQ_DIMS(200), 2);
    aq_tensor y = zeros(backend, AQ_F32, AQ_DIMS(700, 200)),
              inverse = zeros(backend, AQ_F32, AQ_DIMS(700));
    aq_tensor dx = zeros(backend, AQ_F32, AQ_DIMS(700, 200)),
              dweight = zeros(backend, AQ_F32, AQ_DIMS(200));
    AQ_CHECK(aq_rms_norm(&x, &weight, 1e-5f, &y, &inverse));
    AQ_CHECK(aq_rms_norm_grad(&x, &weight, &inverse, &y, &dx, &dweight));
    AQ_CHECK(aq_silu_gate_grad(&y, &dx, &x, &dx, &x));
    uint64_t sum = mix_bytes(mix_bytes(mix_bytes(0, &dx), &dweight), &x);
    aq_tensor_free(&weight);
    aq_tensor_free(&y);
    aq_tensor_free(&inverse);
    return sum;
}

static void products_do_not_depend_on_threads(void) {
    check_threads(work_products);
}

static void sums_do_not_depend_on_threads(void) {
    check_threads(work_sums);
}

static void elements_do_not_depend_on_threads(void) {
    check_threads(work_elements);
}

static void clusters_do_not_depend_on_threads(void) {
    check_threads(work_clusters);
}

static void coded_weights_do_not_depend_on_threads(void) {
    check_threads(work_coded);
}

static void searches_do_not_depend_on_threads(void) {
    check_threads(work_search);
}

static void attention_does_not_depend_on_threads(void) {
    check_threads(work_attention);
}

static void norms_do_not_depend_on_threads(void) {
    check_threads(work_norms);
}

static void negative_threads_are_refused(void) {
    aq_backend *backend;
    AQ_CHECK_FAILS(aq_cpu_open(-1, &backend), AQ_INVALID, "-1 threads");
    CU_ASSERT_PTR_NULL(backend);
}

/* Without a device: UNSUPPORTED in a build without CUDA, DEVICE in one with it. */
static void cuda_without_a_device_is_an_error(void) {
    AQ_SKIP_IF(aq_cuda_device_count() > 0, "there is a device");
    aq_backend *backend;
    aq_status status = aq_cuda_open(0, &backend);
    CU_ASSERT(status == AQ_UNSUPPORTED || status == AQ_DEVICE);
    CU_ASSERT(strlen(aq_error_text()) > 0);
}

static void a_backend_knows_its_name(void) {
    aq_backend *backend;
    AQ_CHECK(aq_cpu_open(0, &backend));
    CU_ASSERT_STRING_EQUAL(aq_backend_name(backend), "cpu");
    aq_backend_close(backend);
    aq_backend_close(NULL);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(products_do_not_depend_on_threads),
                                    AQ_CASE(sums_do_not_depend_on_threads),
                                    AQ_CASE(elements_do_not_depend_on_threads),
                                    AQ_CASE(clusters_do_not_depend_on_threads),
                                    AQ_CASE(coded_weights_do_not_depend_on_threads),
                                    AQ_CASE(searches_do_not_depend_on_threads),
                                    AQ_CASE(attention_does_not_depend_on_threads),
                                    AQ_CASE(norms_do_not_depend_on_threads),
                                    AQ_CASE(negative_threads_are_refused),
                                    AQ_CASE(cuda_without_a_device_is_an_error),
                                    AQ_CASE(a_backend_knows_its_name)};
    return aq_test_main("cpu", cases, sizeof cases / sizeof *cases, argc, argv);
}
