#include "dist/relay.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "dist/polling.h"
#include "dist/transfer.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OUTBOX = 4 };

#define TURN 2e-3 /* seconds that a turn takes at most while a transfer is on its way */

/* A fetch: WANT, then GONE, or HERE and either MAPPED or SEND, after which pieces follow; all of
 * them, or as many as LAST says that answers ENOUGH. */
typedef enum word_kind {
    WORD_WANT,   /* taker: `bytes` of `boundary` */
    WORD_HERE,   /* holder: can be had, mapped as `name` */
    WORD_GONE,   /* holder: cannot */
    WORD_MAPPED, /* taker: I have mapped it */
    WORD_SEND,   /* taker: send it; I am receiving */
    WORD_ENOUGH, /* taker: I am to stop */
    WORD_LAST    /* holder: `pieces` are all that come */
} word_kind;

typedef struct word {
    word_kind kind;
    size_t boundary, bytes, pieces;
    aq_segment_name name;
} word;

enum { TAG_WORD = 1, TAG_PIECE };

typedef struct relay_letter {
    bool full; /* to be sent, or on its way */
    bool sent;
    int rank;
    word word;
    MPI_Request request;
} relay_letter;

struct aq_relay {
    aq_relay_settings settings;
    MPI_Comm comm;
    int *nodes;     /* [ranks]: equal where ranks share a node */
    double fetched; /* bytes; the main thread's */
    pthread_mutex_t lock;

    /* below: guarded by the lock */
    relay_letter outbox[OUTBOX];
    aq_transfer sending, receiving;
    struct {
        bool open;
        int taker; /* the rank that was told HERE and has not answered; -1: none */
        size_t boundary;
        const aq_segment *segment;
    } offer;
    struct {
        bool came;
        word word;
    } answer; /* to this rank's fetch */
};

/* ---- words ---- */

/* There is room: a rank fetches one boundary at a time, and answers every taker once. */
static void post(aq_relay *self, int rank, const word *said) {
    for (int i = 0; i < OUTBOX; i++) {
        if (self->outbox[i].full) continue;
        self->outbox[i] = (relay_letter){.full = true, .rank = rank, .word = *said};
        return;
    }
    aq_log_warn("the relay's outbox is full");
}

static void deliver(aq_relay *self) {
    for (int i = 0; i < OUTBOX; i++) {
        relay_letter *letter = &self->outbox[i];
        int complete = 0;
        if (!letter->full) continue;
        if (!letter->sent)
            MPI_Isend(&letter->word, sizeof letter->word, MPI_BYTE, letter->rank, TAG_WORD,
                      self->comm, &letter->request);
        letter->sent = true;
        MPI_Test(&letter->request, &complete, MPI_STATUS_IGNORE);
        if (complete) letter->full = false;
    }
}

static void answer_want(aq_relay *self, int rank, const word *asked) {
    word reply = {.kind = WORD_GONE, .boundary = asked->boundary};
    bool here = self->offer.open && self->offer.boundary == asked->boundary &&
                self->offer.segment->bytes == asked->bytes && !self->sending.active &&
                self->offer.taker < 0;
    if (here && aq_segment_describe(self->offer.segment, &reply.name) == AQ_OK) {
        reply.kind = WORD_HERE;
        self->offer.taker = rank;
    }
    post(self, rank, &reply);
}

static void begin_sending(aq_relay *self, int rank) {
    self->offer.taker = -1;
    self->sending = (aq_transfer){.active = true,
                                  .tag = TAG_PIECE,
                                  .sends = true,
                                  .rank = rank,
                                  .data = self->offer.segment->data,
                                  .bytes = self->offer.segment->bytes};
}

/* A transfer that is over has sent everything. */
static void end_sending(aq_relay *self, int rank) {
    bool active = self->sending.active && self->sending.rank == rank;
    const word reply = {.kind = WORD_LAST, .pieces = active ? self->sending.begun : SIZE_MAX};
    aq_transfer_cut(&self->sending, reply.pieces);
    post(self, rank, &reply);
}

static void hear(aq_relay *self, int rank, const word *said) {
    switch (said->kind) {
    case WORD_WANT:
        answer_want(self, rank, said);
        break;
    case WORD_MAPPED:
        self->offer.taker = -1;
        break;
    case WORD_SEND:
        begin_sending(self, rank);
        break;
    case WORD_ENOUGH:
        end_sending(self, rank);
        break;
    case WORD_LAST:
        aq_transfer_cut(&self->receiving, said->pieces);
        self->answer.came = true;
        break;
    default:
        self->answer.word = *said;
        self->answer.came = true;
    }
}

static bool listen(aq_relay *self) {
    int arrived;
    word said;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, TAG_WORD, self->comm, &arrived, &status);
    if (!arrived) return false;
    MPI_Recv(&said, sizeof said, MPI_BYTE, status.MPI_SOURCE, TAG_WORD, self->comm,
             MPI_STATUS_IGNORE);
    hear(self, status.MPI_SOURCE, &said);
    return true;
}

/* True while there is something to be moved on. */
static bool sweep(aq_relay *self) {
    pthread_mutex_lock(&self->lock);
    bool heard = listen(self);
    deliver(self);
    aq_transfer_move(&self->sending, self->comm);
    aq_transfer_move(&self->receiving, self->comm);
    bool active = heard || self->sending.active || self->receiving.active;
    pthread_mutex_unlock(&self->lock);
    return active;
}

/* A transfer moves on only inside MPI's calls, a fragment at a time where the network does not
 * help: so a turn stays with it for a while. */
void aq_relay_pump(void *relay) {
    double start = aq_seconds();
    while (sweep(relay) && aq_seconds() - start < TURN) sched_yield();
}

/* ---- what the main thread asks for ---- */

aq_status aq_relay_offer(void *state, size_t boundary, const aq_segment *segment) {
    aq_relay *self = state;
    pthread_mutex_lock(&self->lock);
    self->offer.open = true;
    self->offer.boundary = boundary;
    self->offer.segment = segment;
    pthread_mutex_unlock(&self->lock);
    return AQ_OK;
}

/* Not while a taker has the name or pieces are on their way. */
static bool try_withdraw(aq_relay *self) {
    pthread_mutex_lock(&self->lock);
    bool idle = !self->sending.active && self->offer.taker < 0;
    if (idle) self->offer.open = false;
    pthread_mutex_unlock(&self->lock);
    return idle;
}

aq_status aq_relay_withdraw(void *state) {
    while (!try_withdraw(state)) aq_polling_pause();
    return AQ_OK;
}

static void say(aq_relay *self, int rank, word_kind kind) {
    const word said = {.kind = kind};
    pthread_mutex_lock(&self->lock);
    post(self, rank, &said);
    pthread_mutex_unlock(&self->lock);
}

static bool has_answer(aq_relay *self) {
    pthread_mutex_lock(&self->lock);
    bool came = self->answer.came;
    pthread_mutex_unlock(&self->lock);
    return came;
}

/* What is said will be answered. */
static void request(aq_relay *self, int holder, const word *asked) {
    pthread_mutex_lock(&self->lock);
    self->answer.came = false;
    post(self, holder, asked);
    pthread_mutex_unlock(&self->lock);
}

/* The answer comes at once, whatever the holder's main thread does; a request to stop waits. */
static aq_status ask(aq_relay *self, int holder, const word *asked) {
    request(self, holder, asked);
    while (!has_answer(self)) aq_polling_pause();
    AQ_REQUIRE(self->answer.word.kind == WORD_HERE, AQ_MISSING,
               "rank %d does not hold the activations at boundary %zu", holder, asked->boundary);
    return AQ_OK;
}

static bool is_receiving(aq_relay *self) {
    pthread_mutex_lock(&self->lock);
    bool active = self->receiving.active;
    pthread_mutex_unlock(&self->lock);
    return active;
}

/* A request to stop need not wait for all of them. */
static aq_status await_pieces(aq_relay *self, int holder) {
    while (is_receiving(self) && !aq_stop_wanted()) aq_polling_pause();
    if (!is_receiving(self)) return AQ_OK;
    const word enough = {.kind = WORD_ENOUGH};
    request(self, holder, &enough);
    while (is_receiving(self) || !has_answer(self)) aq_polling_pause();
    return aq_stop_check();
}

/* `spare` if it is of that size. */
static aq_status make_place(aq_relay *self, size_t bytes, aq_segment *spare, aq_segment *segment) {
    if (!spare->data || spare->bytes != bytes)
        return aq_segment_new(self->settings.backend, bytes, segment);
    *segment = *spare;
    *spare = (aq_segment){0};
    return AQ_OK;
}

static aq_status receive(aq_relay *self, int holder, size_t bytes, aq_segment *spare,
                         aq_segment *segment) {
    aq_status status = make_place(self, bytes, spare, segment);
    if (status != AQ_OK) {
        say(self, holder, WORD_MAPPED); /* or the holder waits for ever */
        return status;
    }
    pthread_mutex_lock(&self->lock);
    self->receiving = (aq_transfer){
        .active = true, .tag = TAG_PIECE, .rank = holder, .data = segment->data, .bytes = bytes};
    pthread_mutex_unlock(&self->lock);
    say(self, holder, WORD_SEND);
    return await_pieces(self, holder);
}

static bool may_map(const aq_relay *self, int holder) {
    return !self->settings.copies && self->nodes[holder] == self->nodes[self->settings.ranks->rank];
}

static aq_status fetch_from(aq_relay *self, int holder, const word *asked, aq_segment *spare,
                            aq_segment *segment) {
    AQ_TRY(ask(self, holder, asked));
    if (!may_map(self, holder)) return receive(self, holder, asked->bytes, spare, segment);
    aq_status status = aq_segment_map(self->settings.backend, &self->answer.word.name, segment);
    if (status != AQ_OK) {
        aq_log_info("rank %d's activations are copied: %s", holder, aq_error_text());
        return receive(self, holder, asked->bytes, spare, segment);
    }
    say(self, holder, WORD_MAPPED);
    return AQ_OK;
}

aq_status aq_relay_fetch(void *state, const aq_task *task, size_t bytes, aq_segment *spare,
                         aq_segment *segment) {
    aq_relay *self = state;
    const aq_ranks *ranks = self->settings.ranks;
    int holder = task->team * self->settings.team_size + ranks->rank % self->settings.team_size;
    const word asked = {.kind = WORD_WANT, .boundary = task->start, .bytes = bytes};
    *segment = (aq_segment){0};
    aq_status status;
    AQ_NEED(holder >= 0 && holder < ranks->size, AQ_INVALID, "activations of rank %d of %d", holder,
            ranks->size);
    AQ_STEP(fetch_from(self, holder, &asked, spare, segment));
    self->fetched += (double)bytes;
done:
    if (status != AQ_OK) aq_segment_free(segment);
    return status;
}

double aq_relay_fetched(const aq_relay *relay) {
    return relay->fetched;
}

/* ---- opening ---- */

/* A node goes by the lowest rank on it. */
static void find_nodes(aq_relay *self) {
    int node = self->settings.ranks->rank;
    MPI_Comm local;
    MPI_Comm_split_type(self->comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
    MPI_Allreduce(MPI_IN_PLACE, &node, 1, MPI_INT, MPI_MIN, local);
    MPI_Comm_free(&local);
    MPI_Allgather(&node, 1, MPI_INT, self->nodes, 1, MPI_INT, self->comm);
}

aq_status aq_relay_open(const aq_relay_settings *settings, aq_relay **relay) {
    aq_relay *self = calloc(1, sizeof *self);
    int *nodes = calloc((size_t)settings->ranks->size, sizeof *nodes);
    *relay = NULL;
    aq_status status = aq_ranks_agree(
        settings->ranks, self && nodes ? AQ_OK : AQ_FAIL(AQ_MEMORY, "no memory for the relay"));
    if (status != AQ_OK) {
        free(self);
        free(nodes);
        return status;
    }
    self->settings = *settings;
    self->nodes = nodes;
    self->offer.taker = -1;
    pthread_mutex_init(&self->lock, NULL);
    MPI_Comm_dup(MPI_COMM_WORLD, &self->comm);
    find_nodes(self);
    *relay = self;
    return AQ_OK;
}

bool aq_relay_environment_copies(void) {
    const char *wanted = getenv("AQLM_RELAY");
    return wanted && strcmp(wanted, "mpi") == 0;
}

void aq_relay_close(aq_relay *relay) {
    if (!relay) return;
    MPI_Comm_free(&relay->comm);
    pthread_mutex_destroy(&relay->lock);
    free(relay->nodes);
    free(relay);
}
