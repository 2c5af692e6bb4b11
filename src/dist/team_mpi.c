#include "dist/team_mpi.h"

#include <stdlib.h>

/* Elements that are summed at once: MPI counts in int, and every member holds as many again. */
enum { PIECE = 1 << 22, SMALL = 1 << 10 };

#define ADD_IN_ORDER(type, wide)                                                                   \
    for (size_t i = 0; i < count; i++) {                                                           \
        wide sum = 0;                                                                              \
        for (size_t m = 0; m < members; m++) sum += ((const type *)parts)[m * count + i];          \
        ((type *)values)[i] = (type)sum;                                                           \
    }

/* values = sum of parts [members, count]. */
static void add_parts(aq_dtype dtype, const void *parts, size_t members, size_t count,
                      void *values) {
    if (dtype == AQ_F32)
        ADD_IN_ORDER(float, double)
    else if (dtype == AQ_F64)
        ADD_IN_ORDER(double, double)
    else
        ADD_IN_ORDER(uint32_t, uint32_t)
}

static MPI_Datatype type_of(aq_dtype dtype) {
    return dtype == AQ_F32 ? MPI_FLOAT : dtype == AQ_F64 ? MPI_DOUBLE : MPI_UINT32_T;
}

/* Few values: everybody gets all and adds them. */
static aq_status sum_small(aq_team_link *link, aq_dtype dtype, void *values, size_t count,
                           void *parts) {
    MPI_Request request;
    MPI_Datatype type = type_of(dtype);
    MPI_Iallgather(values, (int)count, type, parts, (int)count, type, link->comm, &request);
    AQ_TRY(aq_team_link_wait(link, &request, true));
    add_parts(dtype, parts, (size_t)link->size, count, values);
    return AQ_OK;
}

/* Counts and displacements of an exchange, by member. */
typedef struct pieces {
    int *counts, *starts, *own_counts, *own_starts;
} pieces;

static aq_status pieces_new(int members, pieces *p) {
    p->counts = malloc(4 * (size_t)members * sizeof *p->counts);
    AQ_REQUIRE(p->counts, AQ_MEMORY, "no memory for an exchange of %d members", members);
    p->starts = p->counts + members;
    p->own_counts = p->starts + members;
    p->own_starts = p->own_counts + members;
    return AQ_OK;
}

static aq_rows part_of(int member, int members, size_t count) {
    const aq_team place = {.rank = member, .size = members};
    return aq_team_rows(&place, count);
}

/* Each member adds its part of the values for all, then everybody gathers the parts. */
static aq_status sum_piece(aq_team_link *link, aq_dtype dtype, void *values, size_t count,
                           void *parts, const pieces *p) {
    MPI_Request request;
    MPI_Datatype type = type_of(dtype);
    aq_rows own = part_of(link->rank, link->size, count);
    for (int member = 0; member < link->size; member++) {
        aq_rows part = part_of(member, link->size, count);
        p->counts[member] = (int)part.count, p->starts[member] = (int)part.first;
        p->own_counts[member] = (int)own.count;
        p->own_starts[member] = member * (int)own.count;
    }
    MPI_Ialltoallv(values, p->counts, p->starts, type, parts, p->own_counts, p->own_starts, type,
                   link->comm, &request);
    AQ_TRY(aq_team_link_wait(link, &request, true));
    add_parts(dtype, parts, (size_t)link->size, own.count,
              (char *)values + own.first * aq_dtype_size(dtype));
    MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, p->counts, p->starts, type,
                    link->comm, &request);
    return aq_team_link_wait(link, &request, true);
}

static aq_status sum_pieces(aq_team_link *link, aq_dtype dtype, char *values, size_t count,
                            void *parts) {
    pieces p = {0};
    AQ_TRY(pieces_new(link->size, &p));
    aq_status status = AQ_OK;
    for (size_t first = 0; status == AQ_OK && first < count; first += PIECE) {
        size_t few = count - first < PIECE ? count - first : PIECE;
        status = sum_piece(link, dtype, values + first * aq_dtype_size(dtype), few, parts, &p);
    }
    if (!link->broken) free(p.counts); /* else a call that was given up still reads it */
    return status;
}

aq_status aq_team_mpi_sum(aq_team_link *link, aq_dtype dtype, void *values, size_t count) {
    size_t members = (size_t)link->size, piece = count < PIECE ? count : PIECE;
    size_t room = count <= SMALL ? members * count : piece + members;
    void *parts = malloc(room * aq_dtype_size(dtype));
    AQ_REQUIRE(parts, AQ_MEMORY, "no memory for %zu values of a team's members", room);
    aq_status status = count <= SMALL ? sum_small(link, dtype, values, count, parts)
                                      : sum_pieces(link, dtype, values, count, parts);
    if (!link->broken) free(parts);
    return status;
}

aq_status aq_team_mpi_gather(aq_team_link *link, void *values, size_t row_bytes) {
    pieces p = {0};
    MPI_Datatype row;
    MPI_Request request;
    AQ_TRY(pieces_new(link->size, &p));
    for (int member = 0; member < link->size; member++) {
        p.counts[member] = (int)link->words[member].rows.count;
        p.starts[member] = (int)link->words[member].rows.first;
    }
    MPI_Type_contiguous((int)row_bytes, MPI_BYTE, &row);
    MPI_Type_commit(&row);
    MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, p.counts, p.starts, row, link->comm,
                    &request);
    MPI_Type_free(&row); /* once the call is over */
    aq_status status = aq_team_link_wait(link, &request, true);
    if (!link->broken) free(p.counts);
    return status;
}

aq_status aq_team_mpi_share(aq_team_link *link, int root, void *values, size_t bytes) {
    const size_t most = (size_t)1 << 30;
    for (size_t first = 0; first < bytes; first += most) {
        size_t few = bytes - first < most ? bytes - first : most;
        MPI_Request request;
        MPI_Ibcast((char *)values + first, (int)few, MPI_BYTE, root, link->comm, &request);
        AQ_TRY(aq_team_link_wait(link, &request, true));
    }
    return AQ_OK;
}
