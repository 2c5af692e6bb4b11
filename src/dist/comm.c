#include "dist/comm.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "base/stop.h"
#include "dist/polling.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A turn hears at most so many messages, so that what they start gets its turn, too. */
enum { HOOKS = 4, OUTBOX = 8, MOST_HEARD = 4096, HOST_SIZE = 64 };

enum { TO_COORDINATOR = 1, TO_RANK };

static const double beat_seconds = 1, parting_seconds = 1, survivor_seconds = 4;

/* A message on its way. */
typedef struct letter {
    bool full;
    aq_message message;
    MPI_Request request;
} letter;

typedef struct hook {
    void (*pump)(void *state);
    void *state;
} hook;

struct aq_comm {
    aq_comm_settings settings;
    MPI_Comm mpi;
    char *hosts; /* [ranks, HOST_SIZE]: names */
    hook hooks[HOOKS];
    int hook_count;
    pthread_t thread;
    bool started;
    atomic_bool over; /* on rank 0: the run is */

    pthread_mutex_t lock; /* guards what both threads use: */
    aq_message outbox[OUTBOX], answer;
    int outbox_count;
    bool answered;

    /* the thread's alone: */
    aq_coordinator coordinator; /* on rank 0 */
    aq_heartbeats vigil;        /* on rank 1: over rank 0 */
    letter *letters;
    int letter_count;
    double beaten; /* when the last beat was sent */
    bool told_stop, ending, leaving;
    int staying;                /* ranks that have not taken leave, on rank 0 */
    char lost[AQ_MESSAGE_TEXT]; /* who is; "": nobody */
    bool found;                 /* by this rank */
    double doom;                /* when this process ends because of it */
};

static bool coordinates(const aq_comm *self) {
    return self->settings.ranks->rank == 0;
}

static bool keeps_vigil(const aq_comm *self) {
    return self->settings.ranks->rank == 1;
}

/* ---- sending ---- */

static void sweep(aq_comm *self) {
    for (int i = 0; i < self->letter_count; i++) {
        int complete = 0;
        if (!self->letters[i].full) continue;
        MPI_Test(&self->letters[i].request, &complete, MPI_STATUS_IGNORE);
        self->letters[i].full = !complete;
    }
}

static bool is_empty(const aq_comm *self) {
    for (int i = 0; i < self->letter_count; i++)
        if (self->letters[i].full) return false;
    return true;
}

/* Beats have one place, and are left out while the last one is on its way: nobody may be there to
 * hear them. For all else there is room, since nobody says much before he hears something. */
static void post(aq_comm *self, int rank, int tag, const aq_message *message) {
    bool beats = message->kind == AQ_MESSAGE_BEAT;
    int i = beats ? 0 : 1, end = beats ? 1 : self->letter_count;
    while (i < end && self->letters[i].full) i++;
    if (i == end) {
        if (!beats) aq_log_warn("a message to rank %d is lost", rank);
        return;
    }
    letter *sent = &self->letters[i];
    sent->full = true;
    sent->message = *message;
    MPI_Isend(&sent->message, sizeof sent->message, MPI_BYTE, rank, tag, self->mpi, &sent->request);
}

static void note_loss(aq_comm *self, const aq_message *message, double seconds_left) {
    if (*self->lost) return;
    memcpy(self->lost, message->text, sizeof self->lost);
    self->doom = aq_seconds() + seconds_left;
    self->settings.told(self->settings.state, message->lost, self->lost);
}

/* What the coordinator says to this rank. */
static void take(aq_comm *self, const aq_message *message) {
    switch (message->kind) {
    case AQ_MESSAGE_LOST:
        note_loss(self, message, survivor_seconds);
        break;
    case AQ_MESSAGE_STOP:
        aq_stop_request();
        break;
    case AQ_MESSAGE_FAREWELL:
        self->leaving = true;
        break;
    case AQ_MESSAGE_BEAT:
        if (keeps_vigil(self)) aq_heartbeats_hear(&self->vigil, 0, message->pulse, aq_seconds());
        break;
    default:
        pthread_mutex_lock(&self->lock);
        self->answer = *message;
        self->answered = true;
        pthread_mutex_unlock(&self->lock);
    }
}

static void say_to_rank(void *state, int rank, const aq_message *message) {
    aq_comm *self = state;
    if (rank == 0)
        take(self, message);
    else
        post(self, rank, TO_RANK, message);
}

static void say_to_coordinator(aq_comm *self, const aq_message *message) {
    if (coordinates(self))
        aq_coordinator_hear(&self->coordinator, 0, message, aq_seconds());
    else
        post(self, 0, TO_COORDINATOR, message);
}

static void send_outbox(aq_comm *self) {
    aq_message taken[OUTBOX];
    pthread_mutex_lock(&self->lock);
    int count = self->outbox_count;
    memcpy(taken, self->outbox, (size_t)count * sizeof *taken);
    self->outbox_count = 0;
    pthread_mutex_unlock(&self->lock);
    for (int i = 0; i < count; i++) say_to_coordinator(self, &taken[i]);
}

static void send_signs(aq_comm *self, double now) {
    const aq_message stop = {.kind = AQ_MESSAGE_STOP};
    const aq_message beat = {.kind = AQ_MESSAGE_BEAT, .pulse = aq_pulse_count()};
    bool wanted = aq_stop_wanted();
    if (wanted && !self->told_stop) say_to_coordinator(self, &stop);
    self->told_stop = wanted;
    if (now - self->beaten < beat_seconds) return;
    self->beaten = now;
    say_to_coordinator(self, &beat);
    if (coordinates(self) && self->settings.ranks->size > 1) say_to_rank(self, 1, &beat);
}

/* ---- receiving ---- */

static bool receive(aq_comm *self, aq_message *message, int *rank) {
    int arrived, tag = coordinates(self) ? TO_COORDINATOR : TO_RANK;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, tag, self->mpi, &arrived, &status);
    if (!arrived) return false;
    *rank = status.MPI_SOURCE;
    MPI_Recv(message, sizeof *message, MPI_BYTE, *rank, tag, self->mpi, MPI_STATUS_IGNORE);
    return true;
}

static void listen(aq_comm *self) {
    aq_message message;
    int rank;
    for (int heard = 0; heard < MOST_HEARD && receive(self, &message, &rank); heard++) {
        if (!coordinates(self))
            take(self, &message);
        else if (message.kind == AQ_MESSAGE_FAREWELL)
            self->staying--;
        else
            aq_coordinator_hear(&self->coordinator, rank, &message, aq_seconds());
    }
}

/* ---- losses and the end ---- */

static void give_up(aq_comm *self, const aq_loss *loss) {
    const char *host = self->hosts + (size_t)loss->rank * HOST_SIZE;
    aq_message message = {.kind = AQ_MESSAGE_LOST, .lost = loss->rank};
    snprintf(message.text, sizeof message.text, "rank %d on host %s %s for %.0f s: the job ends",
             loss->rank, host, loss->silent ? "was not heard of" : "made no progress",
             loss->seconds);
    self->found = true;
    for (int rank = 0; rank < self->settings.ranks->size; rank++)
        if (rank != self->settings.ranks->rank) post(self, rank, TO_RANK, &message);
    note_loss(self, &message, parting_seconds);
}

static void die(aq_comm *self) {
    if (self->found) {
        AQ_FAIL(AQ_COMM, "%s", self->lost);
        self->settings.lost(self->settings.state);
    }
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void watch(aq_comm *self, double now) {
    aq_loss loss;
    if (*self->lost && now > self->doom) die(self);
    if (*self->lost || self->ending || self->leaving) return;
    bool lost = coordinates(self)
                    ? aq_coordinator_turn(&self->coordinator, now, &loss)
                    : keeps_vigil(self) && aq_heartbeats_turn(&self->vigil, now, &loss);
    if (lost) give_up(self, &loss);
}

/* Everybody's main thread is through: nobody needs any hook any more. */
static void end(aq_comm *self) {
    const aq_message farewell = {.kind = AQ_MESSAGE_FAREWELL};
    if (self->ending) return;
    if (coordinates(self))
        for (int rank = 1; rank < self->settings.ranks->size; rank++)
            say_to_rank(self, rank, &farewell);
    else
        say_to_coordinator(self, &farewell);
    self->ending = true;
}

static void turn(aq_comm *self) {
    double now = aq_seconds();
    send_outbox(self);
    send_signs(self, now);
    listen(self);
    watch(self, now);
    for (int i = 0; i < self->hook_count; i++) self->hooks[i].pump(self->hooks[i].state);
    if (coordinates(self) ? self->over : self->leaving) end(self);
    sweep(self);
}

/* After its farewell a rank says nothing more. */
static void *run(void *state) {
    aq_comm *self = state;
    while (!self->ending) {
        turn(self);
        aq_polling_nap();
    }
    while (!(self->staying == 0 && is_empty(self))) {
        listen(self);
        sweep(self);
        aq_polling_nap();
    }
    return NULL;
}

/* ---- opening and closing ---- */

static aq_status make_watches(aq_comm *self) {
    const aq_comm_settings *settings = &self->settings;
    const aq_coordinator_settings coordinator = {.schedule = settings->schedule,
                                                 .progress = settings->progress,
                                                 .heartbeats = {.ranks = settings->ranks->size,
                                                                .silence = settings->silence,
                                                                .hang = settings->hang},
                                                 .say = say_to_rank,
                                                 .state = self};
    if (coordinates(self))
        return aq_coordinator_new(&coordinator, aq_seconds(), &self->coordinator);
    /* A hang of its main thread rank 0 tells itself, if it still can. */
    const aq_heartbeats_settings vigil = {
        .ranks = 1, .silence = settings->silence, .hang = settings->hang + settings->silence};
    return aq_heartbeats_new(&vigil, aq_seconds(), &self->vigil);
}

static aq_status make(aq_comm *self) {
    bool tells_all = coordinates(self) || keeps_vigil(self);
    int others = tells_all ? self->settings.ranks->size : 1;
    self->letter_count = OUTBOX + 4 * others;
    self->letters = calloc((size_t)self->letter_count, sizeof *self->letters);
    self->hosts = calloc((size_t)self->settings.ranks->size, HOST_SIZE);
    AQ_REQUIRE(self->letters && self->hosts, AQ_MEMORY, "no memory for %d messages",
               self->letter_count);
    return make_watches(self);
}

static void find_hosts(aq_comm *self) {
    char mine[HOST_SIZE] = "";
    gethostname(mine, sizeof mine - 1);
    MPI_Allgather(mine, HOST_SIZE, MPI_BYTE, self->hosts, HOST_SIZE, MPI_BYTE, self->mpi);
}

static void destroy(aq_comm *self) {
    aq_coordinator_free(&self->coordinator);
    aq_heartbeats_free(&self->vigil);
    pthread_mutex_destroy(&self->lock);
    free(self->letters);
    free(self->hosts);
    free(self);
}

aq_status aq_comm_open(const aq_comm_settings *settings, aq_comm **comm) {
    aq_comm *self = calloc(1, sizeof *self);
    aq_status status = self ? AQ_OK : AQ_FAIL(AQ_MEMORY, "out of memory");
    *comm = NULL;
    if (self) {
        self->settings = *settings;
        self->staying = coordinates(self) ? settings->ranks->size - 1 : 0;
        pthread_mutex_init(&self->lock, NULL);
        status = make(self);
    }
    status = aq_ranks_agree(settings->ranks, status);
    if (status != AQ_OK) {
        if (self) destroy(self);
        return status;
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &self->mpi);
    find_hosts(self);
    *comm = self;
    return AQ_OK;
}

void aq_comm_hook(aq_comm *comm, void (*pump)(void *state), void *state) {
    comm->hooks[comm->hook_count++] = (hook){.pump = pump, .state = state};
}

aq_status aq_comm_start(aq_comm *comm) {
    int failure = pthread_create(&comm->thread, NULL, run, comm);
    comm->started = !failure;
    AQ_REQUIRE(!failure, AQ_MEMORY, "the communication thread cannot be started: %s",
               strerror(failure));
    return AQ_OK;
}

void aq_comm_close(aq_comm *comm) {
    if (!comm) return;
    comm->over = true;
    if (comm->started)
        pthread_join(comm->thread, NULL);
    else
        run(comm);
    MPI_Comm_free(&comm->mpi);
    destroy(comm);
}

/* ---- the main thread's ---- */

void aq_comm_say(aq_comm *comm, const aq_message *message) {
    for (bool full = true; full;) {
        pthread_mutex_lock(&comm->lock);
        full = comm->outbox_count == OUTBOX;
        if (!full) comm->outbox[comm->outbox_count++] = *message;
        pthread_mutex_unlock(&comm->lock);
        if (full) aq_polling_pause();
    }
}

static bool take_answer(aq_comm *comm, aq_message *answer) {
    pthread_mutex_lock(&comm->lock);
    bool answered = comm->answered;
    if (answered) *answer = comm->answer;
    comm->answered = false;
    pthread_mutex_unlock(&comm->lock);
    return answered;
}

void aq_comm_await(aq_comm *comm, aq_message *answer) {
    while (!take_answer(comm, answer)) aq_polling_pause();
}
