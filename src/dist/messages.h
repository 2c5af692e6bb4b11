/* What ranks and the coordinator say to each other.
 *
 * Every message has the same size, so nobody needs to ask for lengths. Only the communication
 * threads (dist/comm.h) send and receive them; rank 0's hears itself without MPI.
 */
#ifndef AQ_DIST_MESSAGES_H
#define AQ_DIST_MESSAGES_H

#include "base/status.h"
#include "run/session.h"

#include <stdint.h>

typedef enum aq_message_kind {
    /* From a team's lead: */
    AQ_MESSAGE_ASK,    /* what shall my team do? Answered by TASK or END, maybe later */
    AQ_MESSAGE_DONE,   /* `task.block` is written; outcome */
    AQ_MESSAGE_FAILED, /* `task.block` failed; code and text */

    /* From every rank: */
    AQ_MESSAGE_FORWARDED, /* I have the outputs of `task.block` ready for others */
    AQ_MESSAGE_BEAT,      /* I am there, and my main thread has come to `pulse` */

    /* From the coordinator: */
    AQ_MESSAGE_TASK, /* work on `task` */
    AQ_MESSAGE_END,  /* there is nothing more to do */
    AQ_MESSAGE_LOST, /* `lost` is, and with it the job: text (from rank 1 if that is rank 0) */

    /* Both ways: */
    AQ_MESSAGE_STOP,    /* the job is to stop */
    AQ_MESSAGE_FAREWELL /* from the coordinator: the run is over; the answer: the last message */
} aq_message_kind;

enum { AQ_MESSAGE_TEXT = 1024 };

typedef struct aq_message {
    aq_message_kind kind;
    aq_task task;
    aq_block_outcome outcome;
    uint64_t pulse;
    int lost;
    aq_status code;
    char text[AQ_MESSAGE_TEXT];
} aq_message;

#endif
