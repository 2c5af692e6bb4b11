/* A large message between two ranks, in pieces of which several are on their way at a time.
 *
 * Messages between two ranks stay in order, so pieces need no numbers. Both sides drive their end
 * with aq_transfer_move; nothing moves by itself.
 */
#ifndef AQ_DIST_TRANSFER_H
#define AQ_DIST_TRANSFER_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

/* 8 pieces of 4 MB a millisecond are more than any network carries. */
enum { AQ_TRANSFER_PIECE = 4 << 20, AQ_TRANSFER_WINDOW = 8 };

typedef struct aq_transfer {
    bool active, sends; /* `active` ends with the last piece */
    int rank, tag;      /* of the other side; for both sides the same */
    char *data;         /* borrowed until it ends */
    size_t bytes;
    size_t begun, done; /* pieces; those in between are on their way */
    bool cut;           /* ends after `end` pieces */
    size_t end;
    MPI_Request requests[AQ_TRANSFER_WINDOW];
} aq_transfer;

/* Moves on what can be, without waiting; does nothing when not active. */
void aq_transfer_move(aq_transfer *transfer, MPI_Comm comm);

/* Ends it early, after so many pieces: for the sender those that it has begun, for the other side
 * the same number. More than there are: all. The rest of the data stays as it was. */
void aq_transfer_cut(aq_transfer *transfer, size_t pieces);

#endif
