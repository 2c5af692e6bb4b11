/* What workers and the coordinator say to each other.
 *
 * Every message has the same size, so nobody needs to ask for lengths. Each channel (MPI tag) has
 * one thread a rank that receives; rank 0 is at both ends of all.
 */
#ifndef AQ_DIST_MESSAGES_H
#define AQ_DIST_MESSAGES_H

#include "base/status.h"
#include "run/session.h"

#include <mpi.h>
#include <stdbool.h>

typedef enum aq_message_kind {
    AQ_MESSAGE_ASK,    /* worker: what shall I do? */
    AQ_MESSAGE_DONE,   /* worker: `block` is written; outcome */
    AQ_MESSAGE_FAILED, /* worker: `block` failed; code and text */
    AQ_MESSAGE_RUN,    /* coordinator: quantize `block` */
    AQ_MESSAGE_STOP,   /* coordinator to worker: there is nothing more to do; to and from listeners:
                          the job is to stop */
    AQ_MESSAGE_END     /* coordinator to listener: the run is over; its answer: farewell */
} aq_message_kind;

enum { AQ_MESSAGE_TEXT = 1024 };

typedef struct aq_message {
    aq_message_kind kind;
    size_t block;
    aq_block_outcome outcome;
    aq_status code;
    char text[AQ_MESSAGE_TEXT];
} aq_message;

typedef enum aq_channel { AQ_TO_COORDINATOR = 1, AQ_TO_WORKER, AQ_TO_LISTENER } aq_channel;

/* Begins to send; the message must stay until aq_polling_wait(request) returns. */
void aq_message_post(aq_channel channel, int rank, const aq_message *message, MPI_Request *request);

/* Returns when the message may be changed again, which may be only when it has been received. */
void aq_message_send(aq_channel channel, int rank, const aq_message *message);

/* True if a message had arrived: it is in *message, its sender in *rank. Never waits for one. */
bool aq_message_poll(aq_channel channel, aq_message *message, int *rank);

/* Polls and sleeps until a message arrives. */
void aq_message_await(aq_channel channel, aq_message *message, int *rank);

#endif
