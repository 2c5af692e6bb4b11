#include "dist/transfer.h"

static size_t pieces_of(const aq_transfer *self) {
    size_t all = (self->bytes - 1) / AQ_TRANSFER_PIECE + 1;
    return self->cut && self->end < all ? self->end : all;
}

static MPI_Request *request_of(aq_transfer *self, size_t piece) {
    return &self->requests[piece % AQ_TRANSFER_WINDOW];
}

static void begin_piece(aq_transfer *self, MPI_Comm comm) {
    size_t start = self->begun * (size_t)AQ_TRANSFER_PIECE, rest = self->bytes - start;
    int count = rest < AQ_TRANSFER_PIECE ? (int)rest : AQ_TRANSFER_PIECE;
    MPI_Request *request = request_of(self, self->begun++);
    char *data = self->data + start;
    if (self->sends)
        MPI_Isend(data, count, MPI_BYTE, self->rank, self->tag, comm, request);
    else
        MPI_Irecv(data, count, MPI_BYTE, self->rank, self->tag, comm, request);
}

void aq_transfer_move(aq_transfer *transfer, MPI_Comm comm) {
    if (!transfer->active) return;
    size_t pieces = pieces_of(transfer);
    while (transfer->begun < pieces && transfer->begun < transfer->done + AQ_TRANSFER_WINDOW)
        begin_piece(transfer, comm);
    for (int complete = 1; complete && transfer->done < transfer->begun;) {
        MPI_Test(request_of(transfer, transfer->done), &complete, MPI_STATUS_IGNORE);
        if (complete) transfer->done++;
    }
    transfer->active = transfer->done < pieces;
}

/* Receives that nothing will come for are taken back. */
void aq_transfer_cut(aq_transfer *transfer, size_t pieces) {
    if (!transfer->active) return;
    transfer->cut = true;
    transfer->end = pieces;
    while (transfer->begun > pieces_of(transfer)) {
        MPI_Request *request = request_of(transfer, --transfer->begun);
        MPI_Cancel(request);
        MPI_Wait(request, MPI_STATUS_IGNORE);
    }
}
