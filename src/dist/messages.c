#include "dist/messages.h"

#include "dist/polling.h"

void aq_message_post(aq_channel channel, int rank, const aq_message *message,
                     MPI_Request *request) {
    MPI_Isend(message, sizeof *message, MPI_BYTE, rank, channel, MPI_COMM_WORLD, request);
}

void aq_message_send(aq_channel channel, int rank, const aq_message *message) {
    MPI_Request request;
    aq_message_post(channel, rank, message, &request);
    aq_polling_wait(&request);
}

bool aq_message_poll(aq_channel channel, aq_message *message, int *rank) {
    int arrived;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, channel, MPI_COMM_WORLD, &arrived, &status);
    if (!arrived) return false;
    *rank = status.MPI_SOURCE;
    MPI_Recv(message, sizeof *message, MPI_BYTE, *rank, channel, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return true;
}

void aq_message_await(aq_channel channel, aq_message *message, int *rank) {
    while (!aq_message_poll(channel, message, rank)) aq_polling_pause();
}
