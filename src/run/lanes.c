#include "run/lanes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

aq_status aq_lanes_open(aq_backend *main, int count, aq_lanes *lanes) {
    *lanes = (aq_lanes){.main = main};
    aq_status status = AQ_OK;
    while (count > 1 && lanes->count < count && status == AQ_OK) {
        status = aq_backend_another(main, &lanes->backends[lanes->count]);
        if (status == AQ_OK) lanes->count++;
    }
    if (status != AQ_OK) aq_lanes_close(lanes);
    return status;
}

void aq_lanes_close(aq_lanes *lanes) {
    for (int i = 0; i < lanes->count; i++) aq_backend_close(lanes->backends[i]);
    *lanes = (aq_lanes){0};
}

/* What became of a piece. */
typedef struct outcome {
    bool done;
    aq_status status;
    char *text; /* of a failure, owned */
} outcome;

typedef struct round {
    const aq_pieces *pieces;
    outcome *outcomes; /* one a piece */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int next;  /* piece to be taken */
    bool over; /* none is taken any more */
} round;

typedef struct lane {
    round *round;
    aq_backend *backend;
    pthread_t thread;
} lane;

/* -1: there is none. */
static int take_piece(round *self) {
    pthread_mutex_lock(&self->lock);
    int piece = !self->over && self->next < self->pieces->count ? self->next++ : -1;
    pthread_mutex_unlock(&self->lock);
    return piece;
}

/* The text of an error is its thread's. */
static void note_done(round *self, int piece, aq_status status) {
    pthread_mutex_lock(&self->lock);
    self->outcomes[piece] = (outcome){
        .done = true, .status = status, .text = status == AQ_OK ? NULL : strdup(aq_error_text())};
    self->over |= status != AQ_OK;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

static void *work_in_lane(void *state) {
    const lane *self = state;
    const aq_pieces *pieces = self->round->pieces;
    for (int piece = take_piece(self->round); piece >= 0; piece = take_piece(self->round)) {
        aq_status status = aq_backend_enter(self->backend);
        if (status == AQ_OK) status = pieces->work(pieces->state, piece, self->backend);
        note_done(self->round, piece, status);
    }
    return NULL;
}

/* False if the piece will never be done: another one has failed. */
static bool await(round *self, int piece) {
    pthread_mutex_lock(&self->lock);
    while (!self->outcomes[piece].done && !(self->over && self->next <= piece))
        pthread_cond_wait(&self->changed, &self->lock);
    bool done = self->outcomes[piece].done;
    pthread_mutex_unlock(&self->lock);
    return done;
}

static aq_status attend(round *self) {
    const aq_pieces *pieces = self->pieces;
    for (int piece = 0; piece < pieces->count; piece++) {
        AQ_TRY(pieces->begin(pieces->state, piece));
        if (!await(self, piece) || self->outcomes[piece].status != AQ_OK) return AQ_OK;
        AQ_TRY(pieces->end(pieces->state, piece));
    }
    return AQ_OK;
}

/* When all lanes have ended: who failed, if anybody did. */
static aq_status judge(const round *self) {
    for (int piece = 0; piece < self->pieces->count; piece++) {
        const outcome *found = &self->outcomes[piece];
        if (found->done && found->status != AQ_OK)
            return AQ_FAIL(found->status, "%s", found->text ? found->text : "out of memory");
    }
    return AQ_OK;
}

static aq_status start(round *self, const aq_lanes *lanes, lane *threads, int *started) {
    for (*started = 0; *started < lanes->count; ++*started) {
        lane *next = &threads[*started];
        *next = (lane){.round = self, .backend = lanes->backends[*started]};
        int failure = pthread_create(&next->thread, NULL, work_in_lane, next);
        AQ_REQUIRE(!failure, AQ_MEMORY, "a thread cannot be started: %s", strerror(failure));
    }
    return AQ_OK;
}

/* A failure of the calling thread's own ends the lanes, too. */
static aq_status run_lanes(round *self, const aq_lanes *lanes) {
    lane threads[AQ_MAX_LANES];
    int started;
    aq_status status = start(self, lanes, threads, &started);
    if (status == AQ_OK) status = attend(self);
    pthread_mutex_lock(&self->lock);
    self->over = true;
    pthread_mutex_unlock(&self->lock);
    for (int i = 0; i < started; i++) pthread_join(threads[i].thread, NULL);
    return status == AQ_OK ? judge(self) : status;
}

static aq_status run_alone(const aq_lanes *lanes, const aq_pieces *pieces) {
    for (int piece = 0; piece < pieces->count; piece++) {
        AQ_TRY(pieces->begin(pieces->state, piece));
        AQ_TRY(pieces->work(pieces->state, piece, lanes->main));
        AQ_TRY(pieces->end(pieces->state, piece));
    }
    return AQ_OK;
}

aq_status aq_lanes_run(const aq_lanes *lanes, const aq_pieces *pieces) {
    if (lanes->count == 0 || pieces->count < 2) return run_alone(lanes, pieces);
    AQ_TRY(aq_finish(lanes->main));
    round self = {.pieces = pieces, .outcomes = calloc((size_t)pieces->count, sizeof(outcome))};
    AQ_REQUIRE(self.outcomes, AQ_MEMORY, "out of memory");
    pthread_mutex_init(&self.lock, NULL);
    pthread_cond_init(&self.changed, NULL);
    aq_status status = run_lanes(&self, lanes);
    pthread_cond_destroy(&self.changed);
    pthread_mutex_destroy(&self.lock);
    for (int piece = 0; piece < pieces->count; piece++) free(self.outcomes[piece].text);
    free(self.outcomes);
    return status;
}
