/* Plans and rates. */
#include "run/plan.h"

#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Llama-2-70b. */
static aq_model_shape shape_70b(void) {
    static const struct {
        size_t out, in;
        aq_tap tap;
    } linears[AQ_LINEAR_COUNT] = {
        {8192, 8192, AQ_TAP_ATTENTION_IN}, {1024, 8192, AQ_TAP_ATTENTION_IN},
        {1024, 8192, AQ_TAP_ATTENTION_IN}, {8192, 8192, AQ_TAP_ATTENTION_OUT},
        {28672, 8192, AQ_TAP_MLP_IN},      {28672, 8192, AQ_TAP_MLP_IN},
        {8192, 28672, AQ_TAP_MLP_OUT},
    };
    aq_model_shape shape = {.blocks = 80,
                            .hidden = 8192,
                            .ffn = 28672,
                            .heads = 64,
                            .kv_heads = 8,
                            .head_dim = 128,
                            .vocab = 32000};
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        shape.linears[l] = (aq_linear_shape){
            .name = "linear", .out = linears[l].out, .in = linears[l].in, .tap = linears[l].tap};
    return shape;
}

/* Nodes of 8 H100 with so many GB. */
static aq_plan plan_of(size_t ranks, size_t team, size_t gigabytes, const char *setting) {
    aq_model_shape shape = shape_70b();
    aq_plan_machine machine = {.node_memory = gigabytes * 1000000000, .disk_room = SIZE_MAX};
    const aq_layout layout = {.ranks = ranks,
                              .node_ranks = ranks < 8 ? ranks : 8,
                              .device_ranks = 1,
                              .team = team,
                              .cuda = true};
    aq_config config;
    aq_plan plan;
    AQ_CHECK(aq_config_new(&config));
    if (setting) AQ_CHECK(aq_config_set(setting, &config));
    AQ_CHECK(aq_rates_built_in("h100", &machine.rates));
    AQ_CHECK(aq_plan_make(&shape, &config, &layout, &machine, &plan));
    aq_config_free(&config);
    return plan;
}

static void a_node_holds_one_boundary_more_than_ranks(void) {
    aq_plan plan = plan_of(16, 1, 1000, NULL);
    size_t boundary = (size_t)1024 * 4096 * 8192 * 2;
    CU_ASSERT_EQUAL(plan.memory.boundary, boundary);
    CU_ASSERT_TRUE(plan.node_host > 9 * boundary && plan.node_host < 9 * boundary + boundary / 2);
    CU_ASSERT_FALSE(plan.resident);
    CU_ASSERT_TRUE(plan.device < (size_t)40 << 30 && plan.device_fits && plan.node_fits);
}

static void the_smallest_team_that_fits_is_found(void) {
    CU_ASSERT_EQUAL(plan_of(16, 1, 1000, NULL).smallest_team, 1);
    aq_plan narrow = plan_of(16, 1, 400, NULL);
    CU_ASSERT_EQUAL(narrow.smallest_team, 2);
    CU_ASSERT_FALSE(aq_plan_fits(&narrow));
    aq_plan team = plan_of(16, 2, 400, NULL);
    CU_ASSERT_TRUE(aq_plan_fits(&team));
    CU_ASSERT_EQUAL(plan_of(1, 1, 10, NULL).smallest_team, 0);
}

static void few_sequences_stay_on_the_gpu(void) {
    aq_plan plan = plan_of(1, 1, 100, "calibration.sequences=136");
    CU_ASSERT_TRUE(plan.resident);
    CU_ASSERT_TRUE(plan.device > 2 * plan.memory.boundary);
    CU_ASSERT_TRUE(plan.rank_host < plan.memory.boundary);
}

static void only_what_crosses_nodes_is_network(void) {
    CU_ASSERT_EQUAL(plan_of(8, 1, 1000, NULL).relayed, 0);
    CU_ASSERT_EQUAL(plan_of(16, 1, 1000, NULL).relayed, 79 * ((size_t)1024 * 4096 * 8192 * 2));
    CU_ASSERT_EQUAL(plan_of(16, 1, 1000, "run.inputs=quantized").relayed, 0);
    CU_ASSERT_EQUAL(plan_of(16, 1, 1000, NULL).exchange, 0);
    CU_ASSERT_TRUE(plan_of(16, 2, 1000, NULL).exchange > 0);
}

static void more_ranks_take_less_time(void) {
    double one = plan_of(1, 1, 1000, NULL).seconds, eight = plan_of(8, 1, 1000, NULL).seconds;
    CU_ASSERT_TRUE(eight < one / 6 && eight > one / 8);
    aq_plan alone = plan_of(8, 1, 1000, NULL), pair = plan_of(8, 2, 1000, NULL);
    double half = aq_phases_total(&alone.block) / 2, block = aq_phases_total(&pair.block);
    CU_ASSERT_TRUE(block > 0.99 * half && block + pair.exchange_seconds > half);
    CU_ASSERT_EQUAL(alone.exchange_seconds, 0);
    CU_ASSERT_TRUE(plan_of(1, 1, 1000, "tuning.epochs=5").seconds < one);
}

static double kmeans_seconds(const char *setting) {
    return plan_of(1, 1, 1000, setting).block.seconds[AQ_PHASE_KMEANS];
}

/* The built-in H100 scores seven times as many a second from 4,096 entries on. */
static void many_entries_have_a_rate_of_their_own(void) {
    double few = kmeans_seconds("quantizer.scheme=1x8");
    CU_ASSERT_DOUBLE_EQUAL(kmeans_seconds("quantizer.scheme=1x11") / few, 8, 0.3);
    CU_ASSERT_DOUBLE_EQUAL(kmeans_seconds("quantizer.scheme=1x12") / few, 16 / 7.0, 0.1);
    CU_ASSERT_DOUBLE_EQUAL(kmeans_seconds("quantizer.scheme=1x16") / few, 256 / 7.0, 1);
}

static void a_team_must_divide_the_ranks(void) {
    aq_model_shape shape = shape_70b();
    const aq_plan_machine machine = {.node_memory = 1};
    const aq_layout layout = {.ranks = 6, .node_ranks = 6, .device_ranks = 1, .team = 4};
    aq_config config;
    aq_plan plan;
    AQ_CHECK(aq_config_new(&config));
    AQ_CHECK_FAILS(aq_plan_make(&shape, &config, &layout, &machine, &plan), AQ_INVALID,
                   "run.team_size 4 does not divide the number of ranks, 6");
    aq_config_free(&config);
}

static aq_status read_text(const char *text, aq_rates *rates) {
    char path[512];
    snprintf(path, sizeof path, "%s/rates.json", aq_test_folder());
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
    return aq_rates_read(path, rates);
}

static void rates_come_back_as_they_were_written(void) {
    aq_rates written, read;
    AQ_CHECK(aq_rates_built_in("NVIDIA H200", &written));
    json_t *object = aq_rates_json(&written);
    char *text = json_dumps(object, 0);
    AQ_CHECK(read_text(text, &read));
    CU_ASSERT_EQUAL(memcmp(&written, &read, sizeof read), 0);
    free(text);
    json_object_set_new(object, "kmeans_step", json_real(-1));
    text = json_dumps(object, 0);
    AQ_CHECK_FAILS(read_text(text, &read), AQ_FORMAT, "rates.json: kmeans_step: expected a number");
    free(text);
    json_decref(object);
    AQ_CHECK_FAILS(read_text("{\"format\": \"other\"}", &read), AQ_FORMAT, "expected aqlm-mpi");
}

static void rates_are_found_by_name(void) {
    aq_rates rates;
    AQ_CHECK(aq_rates_built_in("a100", &rates));
    CU_ASSERT_STRING_EQUAL(rates.backend, "cuda");
    AQ_CHECK(aq_rates_built_in("NVIDIA H100 80GB HBM3", &rates));
    CU_ASSERT_STRING_EQUAL(rates.device, "NVIDIA H100");
    AQ_CHECK(aq_rates_built_in("cpu", &rates));
    CU_ASSERT_STRING_EQUAL(rates.backend, "cpu");
    AQ_CHECK_FAILS(aq_rates_built_in("V100", &rates), AQ_INVALID, "NVIDIA H100");
}

static const aq_case cases[] = {
    {"a_node_holds_one_boundary_more_than_ranks", a_node_holds_one_boundary_more_than_ranks},
    {"the_smallest_team_that_fits_is_found", the_smallest_team_that_fits_is_found},
    {"few_sequences_stay_on_the_gpu", few_sequences_stay_on_the_gpu},
    {"only_what_crosses_nodes_is_network", only_what_crosses_nodes_is_network},
    {"more_ranks_take_less_time", more_ranks_take_less_time},
    {"a_team_must_divide_the_ranks", a_team_must_divide_the_ranks},
    {"many_entries_have_a_rate_of_their_own", many_entries_have_a_rate_of_their_own},
    {"rates_come_back_as_they_were_written", rates_come_back_as_they_were_written},
    {"rates_are_found_by_name", rates_are_found_by_name},
};

int main(int argc, char **argv) {
    return aq_test_main("plan", cases, sizeof cases / sizeof *cases, argc, argv);
}
