/* aqlm-mpi bench coordinator: how busy a large job keeps the coordinator, and how long ranks wait
 * for it. The real schedule and coordinator hear real messages; ranks and their work are simulated.
 */
#include "base/clock.h"
#include "base/random.h"
#include "bench.h"
#include "dist/coordinator.h"
#include "jobs.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct bench_options {
    double ranks, team, blocks;
    double forward, quantize; /* seconds of a block */
    bool json;
} bench_options;

enum { FORWARD = 0x2001, QUANTIZE };

static const struct argp_option option_list[] = {
    {"ranks", 'r', "N", 0, "Ranks (512)", 0},
    {"team", 't', "N", 0, "Ranks a team (4)", 0},
    {"blocks", 'b', "N", 0, "Blocks (126)", 0},
    {"forward", FORWARD, "S", 0, "Seconds in which a team forwards a block (0.02)", 0},
    {"quantize", QUANTIZE, "S", 0, "Seconds in which it quantizes one (2)", 0},
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state) {
    bench_options *options = state->input;
    switch (key) {
    case 'r':
        return (error_t)aq_job_real_of("--ranks", argument, 65536, &options->ranks);
    case 't':
        return (error_t)aq_job_real_of("--team", argument, 4096, &options->team);
    case 'b':
        return (error_t)aq_job_real_of("--blocks", argument, 65536, &options->blocks);
    case FORWARD:
        return (error_t)aq_job_real_of("--forward", argument, 60, &options->forward);
    case QUANTIZE:
        return (error_t)aq_job_real_of("--quantize", argument, 600, &options->quantize);
    case 'j':
        options->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp coordinator_line = {
    .options = option_list,
    .parser = parse_option,
    .doc = "Messages only, in one process: what coordinating a job of many ranks costs.",
};

/* ---- messages in memory ---- */

typedef struct letter {
    int rank;
    aq_message message;
} letter;

typedef struct mailbox {
    pthread_mutex_t lock;
    letter *letters;
    size_t count, room;
} mailbox;

static void mailbox_put(mailbox *box, int rank, const aq_message *message) {
    pthread_mutex_lock(&box->lock);
    if (box->count < box->room) box->letters[box->count++] = (letter){rank, *message};
    pthread_mutex_unlock(&box->lock);
}

/* All that has arrived, into letters of the same room. */
static size_t mailbox_take(mailbox *box, letter *taken) {
    pthread_mutex_lock(&box->lock);
    size_t count = box->count;
    memcpy(taken, box->letters, count * sizeof *taken);
    box->count = 0;
    pthread_mutex_unlock(&box->lock);
    return count;
}

static aq_status mailbox_new(size_t room, mailbox *box, letter **taken) {
    pthread_mutex_init(&box->lock, NULL);
    box->room = room;
    box->letters = calloc(room, sizeof *box->letters);
    *taken = calloc(room, sizeof **taken);
    AQ_REQUIRE(box->letters && *taken, AQ_MEMORY, "no memory for %zu messages", room);
    return AQ_OK;
}

/* ---- the simulation ---- */

typedef enum life { STARTS, ASKED, FORWARDS, QUANTIZES, LEFT } life;

typedef struct team {
    life life;
    double asked, until; /* when the team has asked; when its work is done */
    aq_task task;
} team;

typedef struct bench {
    const bench_options *options;
    int teams, members, ranks;
    aq_schedule schedule;
    aq_coordinator coordinator;
    mailbox up, down;
    letter *heard, *answers; /* taken out of them */
    team *list;              /* [teams] */
    double *forwarded;       /* [blocks]: when its outputs were there */
    double *waits;           /* [blocks]: seconds until a team had its task, in this order */
    size_t wait_count, forwards, messages;
    double *beaten; /* [ranks] */
    atomic_bool over;
    double busy, seconds; /* of the coordinator's thread; from start to end */
} bench;

static void nap(void) {
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    nanosleep(&pause, NULL);
}

static double thread_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void say_down(void *state, int rank, const aq_message *message) {
    bench *self = state;
    mailbox_put(&self->down, rank, message);
}

/* What rank 0's communication thread does. */
static void *coordinate(void *state) {
    bench *self = state;
    aq_loss loss;
    double start = thread_seconds();
    while (!self->over) {
        size_t count = mailbox_take(&self->up, self->heard);
        for (size_t i = 0; i < count; i++)
            aq_coordinator_hear(&self->coordinator, self->heard[i].rank, &self->heard[i].message,
                                aq_seconds());
        aq_coordinator_turn(&self->coordinator, aq_seconds(), &loss);
        self->messages += count;
        nap();
    }
    self->busy = thread_seconds() - start;
    return NULL;
}

static void say_up(bench *self, int rank, aq_message_kind kind, const aq_task *task) {
    const aq_message message = {.kind = kind, .task = *task};
    mailbox_put(&self->up, rank, &message);
}

/* Between 0.8 and 1.2 of the time. */
static double vary(double seconds, size_t block) {
    return seconds * (0.8 + 0.4 * 0x1p-64 * (double)aq_random(1, AQ_STREAM_TEST, block));
}

/* A task could be had when it was asked for and its inputs were there. */
static void begin(bench *self, team *taker, const aq_task *task, double now) {
    double could = taker->asked;
    if (task->source == AQ_SOURCE_TEAM) could = fmax(could, self->forwarded[task->start - 1]);
    self->waits[self->wait_count++] = now - could;
    taker->task = *task;
    taker->life = FORWARDS;
    taker->until = now + vary(self->options->forward, task->block);
}

static void hear_answers(bench *self, double now) {
    size_t count = mailbox_take(&self->down, self->answers);
    for (size_t i = 0; i < count; i++) {
        team *told = &self->list[self->answers[i].rank / self->members];
        if (self->answers[i].message.kind == AQ_MESSAGE_TASK)
            begin(self, told, &self->answers[i].message.task, now);
        else
            told->life = LEFT;
    }
}

static void forward(bench *self, int index, double now) {
    team *mover = &self->list[index];
    size_t block = mover->task.block;
    self->forwards += block - mover->task.start + 1;
    self->forwarded[block] = now;
    for (int member = 0; member < self->members; member++)
        say_up(self, index * self->members + member, AQ_MESSAGE_FORWARDED, &mover->task);
    mover->life = QUANTIZES;
    mover->until = now + vary(self->options->quantize, block);
}

static void move(bench *self, int index, double now) {
    team *mover = &self->list[index];
    bool done = mover->life == QUANTIZES && now >= mover->until;
    int lead = index * self->members;
    if (mover->life == FORWARDS && now >= mover->until) forward(self, index, now);
    if (done) say_up(self, lead, AQ_MESSAGE_DONE, &mover->task);
    if (!done && mover->life != STARTS) return;
    say_up(self, lead, AQ_MESSAGE_ASK, &mover->task);
    mover->asked = now;
    mover->life = ASKED;
}

static void beat(bench *self, double now) {
    for (int rank = 0; rank < self->ranks; rank++) {
        if (now - self->beaten[rank] < 1) continue;
        self->beaten[rank] = now;
        say_up(self, rank, AQ_MESSAGE_BEAT, &(aq_task){0});
    }
}

static bool all_left(const bench *self) {
    for (int t = 0; t < self->teams; t++)
        if (self->list[t].life != LEFT) return false;
    return true;
}

/* All ranks' threads, which poll as the real ones do. */
static void live(bench *self) {
    double start = aq_seconds();
    for (int rank = 0; rank < self->ranks; rank++)
        self->beaten[rank] = start - (double)rank / self->ranks;
    while (!all_left(self)) {
        double now = aq_seconds();
        hear_answers(self, now);
        for (int t = 0; t < self->teams; t++) move(self, t, now);
        beat(self, now);
        nap();
    }
    self->seconds = aq_seconds() - start;
}

/* ---- beginning and end ---- */

static aq_status prepare(bench *self) {
    const bench_options *options = self->options;
    const aq_schedule_settings schedule = {
        .blocks = (size_t)options->blocks, .teams = self->teams, .team_size = self->members};
    const aq_coordinator_settings coordinator = {
        .schedule = &self->schedule,
        .heartbeats = {.ranks = self->ranks, .silence = 3600, .hang = 3600},
        .say = say_down,
        .state = self};
    size_t room = 16 * (size_t)self->ranks;
    AQ_TRY(aq_schedule_new(&schedule, &self->schedule));
    AQ_TRY(aq_coordinator_new(&coordinator, aq_seconds(), &self->coordinator));
    AQ_TRY(mailbox_new(room, &self->up, &self->heard));
    AQ_TRY(mailbox_new(room, &self->down, &self->answers));
    self->list = calloc((size_t)self->teams, sizeof *self->list);
    self->forwarded = calloc(schedule.blocks, sizeof *self->forwarded);
    self->waits = calloc(schedule.blocks, sizeof *self->waits);
    self->beaten = calloc((size_t)self->ranks, sizeof *self->beaten);
    AQ_REQUIRE(self->list && self->forwarded && self->waits && self->beaten, AQ_MEMORY,
               "out of memory");
    return AQ_OK;
}

static void release(bench *self) {
    aq_coordinator_free(&self->coordinator);
    aq_schedule_free(&self->schedule);
    free(self->up.letters), free(self->down.letters);
    free(self->heard), free(self->answers);
    free(self->list), free(self->forwarded), free(self->waits), free(self->beaten);
}

static aq_status simulate(bench *self) {
    pthread_t thread;
    AQ_TRY(prepare(self));
    int failure = pthread_create(&thread, NULL, coordinate, self);
    AQ_REQUIRE(!failure, AQ_MEMORY, "a thread cannot be started: %s", strerror(failure));
    live(self);
    self->over = true;
    pthread_join(thread, NULL);
    return aq_schedule_verdict(&self->schedule);
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double wait_at(const bench *self, double share) {
    return self->waits[(size_t)ceil(share * (double)self->wait_count) - 1];
}

static void report(bench *self) {
    double busy = self->busy / self->seconds;
    double passes = (double)self->forwards / self->options->blocks;
    qsort(self->waits, self->wait_count, sizeof *self->waits, compare);
    if (self->options->json) {
        aq_job_print_json(
            json_pack(
                "{sI sI sI so sI so so so so so}", "ranks", (json_int_t)self->ranks, "team_size",
                (json_int_t)self->members, "blocks", (json_int_t)self->options->blocks, "seconds",
                aq_job_number(self->seconds), "messages", (json_int_t)self->messages, "busy",
                aq_job_number(busy), "wait_median", aq_job_number(wait_at(self, 0.5)), "wait_99",
                aq_job_number(wait_at(self, 0.99)), "wait_longest", aq_job_number(wait_at(self, 1)),
                "dense_forward_passes", aq_job_number(passes)),
            JSON_COMPACT);
        return;
    }
    printf("%d ranks in teams of %d, %.0f blocks: %.1f s, %zu messages\n", self->ranks,
           self->members, self->options->blocks, self->seconds, self->messages);
    printf("coordinator busy: %.3f%%\n", 100 * busy);
    printf("wait for a task that could be had: median %.2f ms, 99%% %.2f ms, longest %.2f ms\n",
           1e3 * wait_at(self, 0.5), 1e3 * wait_at(self, 0.99), 1e3 * wait_at(self, 1));
    printf("dense forward passes: %.2f\n", passes);
}

static aq_status run(const bench_options *options) {
    bench self = {.options = options, .members = (int)options->team, .ranks = (int)options->ranks};
    AQ_REQUIRE(self.members > 0 && self.ranks > 0 && self.ranks % self.members == 0, AQ_INVALID,
               "bench coordinator: %d ranks do not make teams of %d", self.ranks, self.members);
    AQ_REQUIRE(options->blocks >= 1, AQ_INVALID, "bench coordinator: expected a block at least");
    self.teams = self.ranks / self.members;
    aq_status status = simulate(&self);
    if (status == AQ_OK) report(&self);
    release(&self);
    return status;
}

aq_status aq_bench_coordinator(int argc, char **argv) {
    bench_options options = {
        .ranks = 512, .team = 4, .blocks = 126, .forward = 0.02, .quantize = 2};
    AQ_TRY(aq_job_parse(&coordinator_line, argc, argv, &options));
    return run(&options);
}
