/* aqlm-mpi bench relay: what a rank waits for another one's activations while that one computes. */
#include "base/clock.h"
#include "bench.h"
#include "dist/relay.h"
#include "jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct bench_options {
    long megabytes;
    double busy; /* seconds that the sender computes */
    bool copies, no_thread;
} bench_options;

enum { NO_THREAD = 0x2001, LONGEST = 600, MOST = 1 << 20 };

static const struct argp_option option_list[] = {
    {"megabytes", 'm', "N", 0, "Activations to move (256)", 0},
    {"busy", 'b', "S", 0, "Seconds that the sender computes meanwhile (4)", 0},
    {"copy", 'c', NULL, 0, "Send them, as between nodes, instead of mapping them", 0},
    {"no-thread", NO_THREAD, NULL, 0, "The sender moves them only when it has computed", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    bench_options *options = state->input;
    double number;
    switch (key) {
    case 'm':
        if (aq_job_real_of("--megabytes", argument, MOST, &number) != AQ_OK)
            return (error_t)AQ_INVALID;
        options->megabytes = number < 1 ? 1 : (long)number;
        return 0;
    case 'b':
        return (error_t)aq_job_real_of("--busy", argument, LONGEST, &options->busy);
    case 'c':
        options->copies = true;
        return 0;
    case NO_THREAD:
        options->no_thread = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp relay_line = {
    .options = option_list,
    .parser = parse_option,
    .doc = "Under mpirun with 2 ranks: rank 0 offers activations and computes, rank 1 fetches them "
           "and prints how long that took.",
};

/* ---- the ranks ---- */

typedef struct bench {
    const bench_options *options;
    const aq_ranks *ranks;
    aq_backend *backend;
    aq_relay *relay;
    aq_segment segment;
    size_t bytes;
    atomic_bool over;
    pthread_t thread;
    bool pumping;
} bench;

static void *pump(void *state) {
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    bench *self = state;
    while (!self->over) {
        aq_relay_pump(self->relay);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static aq_status start_pumping(bench *self) {
    int failure = pthread_create(&self->thread, NULL, pump, self);
    self->pumping = !failure;
    AQ_REQUIRE(!failure, AQ_MEMORY, "a thread cannot be started: %s", strerror(failure));
    return AQ_OK;
}

static void compute(double seconds) {
    volatile double sum = 0;
    for (double start = aq_seconds(); aq_seconds() - start < seconds;)
        for (int i = 0; i < 100000; i++) sum = sum + i;
}

static unsigned char value_at(size_t i) {
    return (unsigned char)(i * 31 + (i >> 12));
}

static aq_status offer(bench *self) {
    AQ_TRY(aq_segment_new(self->backend, self->bytes, &self->segment));
    for (size_t i = 0; i < self->bytes; i++) ((unsigned char *)self->segment.data)[i] = value_at(i);
    return aq_relay_offer(self->relay, 1, &self->segment);
}

/* The holder's main thread computes; who moves the data meanwhile, or only afterwards? */
static aq_status hold(bench *self) {
    if (!self->options->no_thread) AQ_TRY(start_pumping(self));
    compute(self->options->busy);
    return self->options->no_thread ? start_pumping(self) : AQ_OK;
}

static aq_status take(bench *self) {
    const aq_task task = {.block = 1, .start = 1, .source = AQ_SOURCE_TEAM};
    size_t wrong = 0;
    aq_segment spare = {0};
    AQ_TRY(start_pumping(self));
    double start = aq_seconds();
    AQ_TRY(aq_relay_fetch(self->relay, &task, self->bytes, &spare, &self->segment));
    double seconds = aq_seconds() - start;
    for (size_t i = 0; i < self->bytes; i++)
        wrong += ((const unsigned char *)self->segment.data)[i] != value_at(i);
    AQ_REQUIRE(wrong == 0, AQ_COMM, "%zu of %zu bytes arrived wrong", wrong, self->bytes);
    printf("%.3f GB %s from a rank that computes for %.1f s: %.3f s\n", 1e-9 * (double)self->bytes,
           self->segment.shared ? "mapped" : "copied", self->options->busy, seconds);
    return AQ_OK;
}

static aq_status move(bench *self) {
    const aq_ranks *ranks = self->ranks;
    aq_status status;
    AQ_STEP(aq_ranks_agree(ranks, ranks->rank == 0 ? offer(self) : AQ_OK));
    AQ_STEP(aq_ranks_agree(ranks, ranks->rank == 0 ? hold(self) : take(self)));
done:
    self->over = true;
    if (self->pumping) pthread_join(self->thread, NULL);
    aq_segment_free(&self->segment);
    return status;
}

static aq_status run(const bench_options *options, const aq_ranks *ranks) {
    bench self = {
        .options = options, .ranks = ranks, .bytes = (size_t)options->megabytes * 1000 * 1000};
    AQ_REQUIRE(ranks->size == 2, AQ_INVALID,
               "bench relay: expected 2 ranks (mpirun -n 2), found %d", ranks->size);
    AQ_TRY(aq_ranks_agree(ranks, aq_cpu_open(0, &self.backend)));
    const aq_relay_settings settings = {
        .ranks = ranks, .backend = self.backend, .team_size = 1, .copies = options->copies};
    aq_status status = aq_relay_open(&settings, &self.relay);
    if (status == AQ_OK) status = move(&self);
    aq_relay_close(self.relay);
    aq_backend_close(self.backend);
    return status;
}

aq_status aq_bench_relay(int argc, char **argv) {
    bench_options options = {.megabytes = 256, .busy = 4};
    aq_ranks ranks;
    bool understood = aq_job_parse(&relay_line, argc, argv, &options) == AQ_OK;
    aq_status status = aq_ranks_open(&ranks);
    if (!understood) status = AQ_INVALID;
    if (status == AQ_OK) status = run(&options, &ranks);
    aq_ranks_close();
    return status;
}
