#include "run/metrics.h"
#include "suite.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *fresh_path(void) {
    static char path[512];
    snprintf(path, sizeof path, "%s/metrics.jsonl", aq_test_folder());
    unlink(path);
    return path;
}

/* The objects of a file of lines; fails where a line is not one whole object. */
static json_t *read_lines(const char *path) {
    json_t *lines = json_array();
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) {
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        CU_ASSERT(json_is_object(object));
        json_array_append_new(lines, object);
    }
    free(line);
    fclose(file);
    return lines;
}

static double real(const json_t *lines, size_t index, const char *key) {
    return json_number_value(json_object_get(json_array_get(lines, index), key));
}

static const char *text(const json_t *lines, size_t index, const char *key) {
    return json_string_value(json_object_get(json_array_get(lines, index), key));
}

static void every_event_is_one_line_with_its_fields(void) {
    const char *path = fresh_path();
    aq_metrics *metrics;
    AQ_CHECK(aq_metrics_open(path, 3, &metrics));
    AQ_CHECK(aq_metrics_layer(metrics, &(aq_layer_event){.block = 7,
                                                         .layer = "mlp.up_proj",
                                                         .error = 0.015625,
                                                         .bits_per_weight = 2.5,
                                                         .seconds = 1.5,
                                                         .kmeans_error = 0.25,
                                                         .rounds = 2,
                                                         .stop_round = 2,
                                                         .round_errors = (double[]){0.5, 0.25}}));
    AQ_CHECK(aq_metrics_epoch(metrics, &(aq_epoch_event){.block = 7, .epoch = 2}));
    AQ_CHECK(aq_metrics_block(metrics, &(aq_block_event){.block = 7, .best_epoch = 1}));
    AQ_CHECK(aq_metrics_run(metrics, &(aq_run_event){.blocks = 8, .files = 9}));
    aq_metrics_close(metrics);
    json_t *lines = read_lines(path);
    CU_ASSERT_EQUAL_FATAL(json_array_size(lines), 4);
    CU_ASSERT_STRING_EQUAL(text(lines, 0, "event"), "layer");
    CU_ASSERT_STRING_EQUAL(text(lines, 0, "layer"), "mlp.up_proj");
    CU_ASSERT_EQUAL(real(lines, 0, "rank"), 3);
    CU_ASSERT_EQUAL(real(lines, 0, "block"), 7);
    CU_ASSERT_EQUAL(real(lines, 0, "error"), 0.015625);
    CU_ASSERT_EQUAL(real(lines, 0, "kmeans_error"), 0.25);
    CU_ASSERT_EQUAL(real(lines, 0, "stop_round"), 2);
    json_t *rounds = json_object_get(json_array_get(lines, 0), "round_errors");
    CU_ASSERT_EQUAL(json_array_size(rounds), 2);
    CU_ASSERT_EQUAL(json_number_value(json_array_get(rounds, 1)), 0.25);
    CU_ASSERT_STRING_EQUAL(text(lines, 1, "event"), "epoch");
    CU_ASSERT_EQUAL(real(lines, 1, "epoch"), 2);
    CU_ASSERT_STRING_EQUAL(text(lines, 2, "event"), "block");
    CU_ASSERT_EQUAL(real(lines, 2, "best_epoch"), 1);
    CU_ASSERT_STRING_EQUAL(text(lines, 3, "event"), "run");
    CU_ASSERT_EQUAL(real(lines, 3, "files"), 9);
    json_decref(lines);
}

static void a_run_tells_when_it_starts_where_it_is_and_how_it_ends(void) {
    const char *path = fresh_path();
    aq_metrics *metrics;
    double before = floor((double)time(NULL));
    AQ_CHECK(aq_metrics_open(path, 1, &metrics));
    AQ_CHECK(aq_metrics_start(
        metrics, &(aq_start_event){
                     .ranks = 2, .team_size = 1, .backend = "cpu", .blocks = 4, .finished = 1}));
    AQ_CHECK(aq_metrics_stage(
        metrics, &(aq_stage_event){.block = 1, .stage = AQ_STAGE_FIT, .layer = "mlp.up_proj"}));
    AQ_CHECK(aq_metrics_stage(metrics, &(aq_stage_event){.block = 1, .stage = AQ_STAGE_TUNING}));
    AQ_CHECK(aq_metrics_failed(metrics, &(aq_failed_event){.block = 1, .error = "caf\xe9: gone"}));
    AQ_CHECK(aq_metrics_end(metrics, "block 1 failed"));
    AQ_CHECK(aq_metrics_end(metrics, NULL));
    AQ_CHECK(aq_metrics_stage(metrics, &(aq_stage_event){.stage = AQ_STAGE_WAITING}));
    AQ_CHECK(aq_metrics_rank(
        metrics,
        &(aq_rank_event){.waiting = 0.5, .peak_device_memory = NAN, .fetched_bytes = 4096}));
    aq_metrics_close(metrics);
    json_t *lines = read_lines(path);
    CU_ASSERT_EQUAL_FATAL(json_array_size(lines), 8);
    CU_ASSERT(json_is_null(json_object_get(json_array_get(lines, 6), "block")));
    CU_ASSERT_STRING_EQUAL(text(lines, 6, "stage"), "waiting");
    CU_ASSERT_EQUAL(real(lines, 7, "waiting"), 0.5);
    CU_ASSERT_EQUAL(real(lines, 7, "fetched_bytes"), 4096);
    CU_ASSERT(json_is_null(json_object_get(json_array_get(lines, 7), "peak_device_memory")));
    for (size_t i = 0; i < 6; i++) CU_ASSERT(real(lines, i, "time") >= before);
    CU_ASSERT_EQUAL(real(lines, 0, "finished"), 1);
    CU_ASSERT_STRING_EQUAL(text(lines, 0, "backend"), "cpu");
    CU_ASSERT_STRING_EQUAL(text(lines, 1, "stage"), "fit");
    CU_ASSERT_STRING_EQUAL(text(lines, 1, "layer"), "mlp.up_proj");
    CU_ASSERT(json_is_null(json_object_get(json_array_get(lines, 2), "layer")));
    CU_ASSERT_STRING_EQUAL(text(lines, 3, "error"), "caf?: gone");
    CU_ASSERT_STRING_EQUAL(text(lines, 4, "error"), "block 1 failed");
    CU_ASSERT(json_is_null(json_object_get(json_array_get(lines, 5), "error")));
    json_decref(lines);
}

static void what_is_not_a_number_becomes_null(void) {
    const char *path = fresh_path();
    aq_metrics *metrics;
    AQ_CHECK(aq_metrics_open(path, 0, &metrics));
    AQ_CHECK(aq_metrics_layer(
        metrics, &(aq_layer_event){.layer = "x", .error = NAN, .kmeans_error = INFINITY}));
    aq_metrics_close(metrics);
    json_t *lines = read_lines(path), *event = json_array_get(lines, 0);
    CU_ASSERT(json_is_null(json_object_get(event, "error")));
    CU_ASSERT(json_is_null(json_object_get(event, "kmeans_error")));
    CU_ASSERT(json_is_null(json_object_get(event, "stop_round")));
    json_decref(lines);
}

static void append_events(const char *path, int rank, int count) {
    aq_metrics *metrics;
    if (aq_metrics_open(path, rank, &metrics) != AQ_OK) _exit(1);
    for (int i = 0; i < count; i++)
        if (aq_metrics_block(metrics, &(aq_block_event){.block = (size_t)i}) != AQ_OK) _exit(1);
    aq_metrics_close(metrics);
    _exit(0);
}

static void lines_of_several_processes_do_not_mix(void) {
    enum { PROCESSES = 4, EVENTS = 200 };
    const char *path = fresh_path();
    int seen[PROCESSES] = {0};
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) append_events(path, i, EVENTS);
    for (int i = 0; i < PROCESSES; i++) {
        int result = 1;
        wait(&result);
        CU_ASSERT_EQUAL(result, 0);
    }
    json_t *lines = read_lines(path);
    CU_ASSERT_EQUAL(json_array_size(lines), PROCESSES * EVENTS);
    for (size_t i = 0; i < json_array_size(lines); i++) {
        int rank = (int)real(lines, i, "rank");
        CU_ASSERT_EQUAL(real(lines, i, "block"), seen[rank]++);
    }
    json_decref(lines);
}

static void a_second_run_appends(void) {
    const char *path = fresh_path();
    for (int i = 0; i < 2; i++) {
        aq_metrics *metrics;
        AQ_CHECK(aq_metrics_open(path, 0, &metrics));
        AQ_CHECK(aq_metrics_run(metrics, &(aq_run_event){.blocks = 1}));
        aq_metrics_close(metrics);
    }
    json_t *lines = read_lines(path);
    CU_ASSERT_EQUAL(json_array_size(lines), 2);
    json_decref(lines);
}

static void a_torn_line_is_ended_before_the_next_event(void) {
    const char *path = fresh_path();
    FILE *file = fopen(path, "w");
    fputs("{\"event\":\"lay", file);
    fclose(file);
    aq_metrics *metrics;
    AQ_CHECK(aq_metrics_open(path, 0, &metrics));
    AQ_CHECK(aq_metrics_end(metrics, NULL));
    aq_metrics_close(metrics);
    char first[64] = "", second[64] = "";
    file = fopen(path, "r");
    CU_ASSERT(fgets(first, sizeof first, file) && fgets(second, sizeof second, file));
    fclose(file);
    CU_ASSERT_STRING_EQUAL(first, "{\"event\":\"lay\n");
    CU_ASSERT(strncmp(second, "{\"event\":\"end\"", 14) == 0);
}

static void a_file_that_cannot_be_written_is_an_error(void) {
    aq_metrics *metrics;
    AQ_CHECK_FAILS(aq_metrics_open("/no/such/folder/metrics.jsonl", 0, &metrics), AQ_IO,
                   "/no/such/folder/metrics.jsonl");
    AQ_CHECK(aq_metrics_open("/dev/full", 0, &metrics));
    AQ_CHECK_FAILS(aq_metrics_run(metrics, &(aq_run_event){0}), AQ_IO, "/dev/full");
    aq_metrics_close(metrics);
}

static void nobody_has_to_keep_metrics(void) {
    AQ_CHECK(aq_metrics_layer(NULL, &(aq_layer_event){0}));
    AQ_CHECK(aq_metrics_epoch(NULL, &(aq_epoch_event){0}));
    AQ_CHECK(aq_metrics_block(NULL, &(aq_block_event){0}));
    AQ_CHECK(aq_metrics_run(NULL, &(aq_run_event){0}));
    aq_metrics_close(NULL);
}

/* The disk takes a part of the line. */
static void a_line_without_room_tells_the_reason(void) {
    const char *path = fresh_path();
    const struct rlimit small = {.rlim_cur = 20, .rlim_max = RLIM_INFINITY};
    struct rlimit before;
    aq_metrics *metrics;
    AQ_CHECK(aq_metrics_open(path, 0, &metrics));
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    setrlimit(RLIMIT_FSIZE, &small);
    AQ_CHECK_FAILS(aq_metrics_end(metrics, NULL), AQ_IO,
                   "metrics.jsonl: cannot be written: File too large");
    setrlimit(RLIMIT_FSIZE, &before);
    aq_metrics_close(metrics);
}

#define CASE(name)                                                                                 \
    { #name, name }

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        CASE(every_event_is_one_line_with_its_fields),
        CASE(a_run_tells_when_it_starts_where_it_is_and_how_it_ends),
        CASE(what_is_not_a_number_becomes_null),
        CASE(a_torn_line_is_ended_before_the_next_event),
        CASE(lines_of_several_processes_do_not_mix),
        CASE(a_second_run_appends),
        CASE(a_file_that_cannot_be_written_is_an_error),
        CASE(a_line_without_room_tells_the_reason),
        CASE(nobody_has_to_keep_metrics),
    };
    return aq_test_main("metrics", cases, sizeof cases / sizeof *cases, argc, argv);
}
