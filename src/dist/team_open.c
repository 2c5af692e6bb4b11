#include "dist/team_open.h"

#include "base/clock.h"
#include "base/log.h"
#include "dist/team_mpi.h"
#include "tensor/cuda_team.h"

#include <stdlib.h>
#include <string.h>

typedef struct team_state {
    aq_team_link link;
    bool in_host;       /* the backend's tensors lie in host memory */
    aq_cuda_team *cuda; /* or NULL: everything goes through host memory */
    aq_team_traffic traffic;
} team_state;

static team_state *state_of(const aq_team *team) {
    return team->state;
}

/* ---- calls ---- */

/* Host memory with the tensor's values, to be given back with leave_host. */
static aq_status enter_host(const team_state *state, const aq_tensor *x, void **values) {
    *values = x->data;
    if (state->in_host) return AQ_OK;
    *values = malloc(aq_tensor_bytes(x));
    AQ_REQUIRE(*values, AQ_MEMORY, "no memory for %zu bytes of a team's data", aq_tensor_bytes(x));
    return aq_tensor_download(x, *values, aq_tensor_bytes(x));
}

static aq_status leave_host(const team_state *state, aq_status status, void *values, aq_tensor *x) {
    if (state->in_host) return status;
    if (status == AQ_OK) status = aq_tensor_upload(x, values, aq_tensor_bytes(x));
    if (!state->link.broken) free(values);
    return status;
}

static aq_status account(team_state *state, double start, double bytes, aq_status status) {
    state->traffic.seconds += aq_seconds() - start;
    state->traffic.bytes += bytes;
    return status;
}

static aq_status sum_all(const aq_team *team, aq_tensor *x) {
    team_state *state = state_of(team);
    const aq_team_word word = {.call = AQ_CALL_SUM, .bytes = aq_tensor_bytes(x)};
    AQ_REQUIRE(x->dtype == AQ_F32 || x->dtype == AQ_F64 || x->dtype == AQ_U32, AQ_SHAPE,
               "a team's sum of %s values", aq_dtype_name(x->dtype));
    AQ_TRY(aq_team_link_meet(&state->link, &word));
    if (state->cuda) return aq_cuda_team_sum(state->cuda, x);
    void *values;
    aq_status status = enter_host(state, x, &values);
    if (status == AQ_OK)
        status = aq_team_mpi_sum(&state->link, x->dtype, values, aq_tensor_count(x));
    return leave_host(state, status, values, x);
}

static aq_status sum(const aq_team *team, aq_tensor *x) {
    double start = aq_seconds();
    return account(state_of(team), start, (double)aq_tensor_bytes(x), sum_all(team, x));
}

static aq_status gather_all(const aq_team *team, aq_tensor *x) {
    team_state *state = state_of(team);
    aq_rows rows[team->size];
    for (int member = 0; member < team->size; member++)
        rows[member] = state->link.words[member].rows;
    if (state->cuda) return aq_cuda_team_gather_rows(state->cuda, rows, x);
    void *values;
    aq_status status = enter_host(state, x, &values);
    if (status == AQ_OK)
        status = aq_team_mpi_gather(&state->link, values, aq_tensor_bytes(x) / x->shape[0]);
    return leave_host(state, status, values, x);
}

static aq_status gather_rows(const aq_team *team, size_t first, size_t count, aq_tensor *x) {
    const aq_team_word word = {
        .call = AQ_CALL_GATHER, .bytes = aq_tensor_bytes(x), .rows = {first, count}};
    AQ_REQUIRE(count > 0 && first < x->shape[0] && count <= x->shape[0] - first, AQ_SHAPE,
               "a team gathers rows %zu to %zu of %zu", first, first + count, x->shape[0]);
    double start = aq_seconds(), share = (double)count / (double)x->shape[0];
    aq_status status = aq_team_link_meet(&state_of(team)->link, &word);
    if (status == AQ_OK) status = gather_all(team, x);
    return account(state_of(team), start, share * (double)aq_tensor_bytes(x), status);
}

static aq_status share_all(const aq_team *team, int root, aq_tensor *x) {
    team_state *state = state_of(team);
    const aq_team_word word = {
        .call = AQ_CALL_SHARE, .bytes = aq_tensor_bytes(x), .rows = {.first = (size_t)root}};
    AQ_TRY(aq_team_link_meet(&state->link, &word));
    if (state->cuda) return aq_cuda_team_share(state->cuda, root, x);
    void *values;
    aq_status status = enter_host(state, x, &values);
    if (status == AQ_OK) status = aq_team_mpi_share(&state->link, root, values, aq_tensor_bytes(x));
    return leave_host(state, status, values, x);
}

static aq_status share(const aq_team *team, int root, aq_tensor *x) {
    double start = aq_seconds(), bytes = team->rank == root ? (double)aq_tensor_bytes(x) : 0;
    return account(state_of(team), start, bytes, share_all(team, root, x));
}

/* A failure that all have heard of is over when they agree on it; one's own is told now. */
static aq_status agree(const aq_team *team, aq_status mine) {
    aq_team_link *link = &state_of(team)->link;
    bool told = link->failure != AQ_OK;
    if (link->broken && mine != AQ_OK) return mine;
    const aq_team_word word = {.status = mine, .call = AQ_CALL_AGREE};
    if (!told) mine = aq_team_link_meet(link, &word);
    link->failure = AQ_OK;
    return mine;
}

/* ---- opening ---- */

static aq_status patience(void *state, double waited) {
    return aq_team_link_patience(state, waited);
}

/* Whether two members have the same GPU. */
static aq_status find_shared(aq_team_link *link, aq_backend *backend, bool *shared) {
    enum { BYTES = 16 };
    unsigned char mine[BYTES] = {0}, *all = malloc(BYTES * (size_t)link->size);
    aq_status status = AQ_OK;
    if (!all) status = AQ_FAIL(AQ_MEMORY, "no memory for the GPUs of a team");
    if (status == AQ_OK) status = aq_cuda_team_device(backend, mine);
    AQ_STEP(aq_team_link_meet(link, &(aq_team_word){.status = status}));
    MPI_Request request;
    MPI_Iallgather(mine, BYTES, MPI_BYTE, all, BYTES, MPI_BYTE, link->comm, &request);
    AQ_STEP(aq_team_link_wait(link, &request, true));
    *shared = false;
    for (int i = 0; i < link->size; i++)
        for (int j = 0; j < i; j++)
            if (memcmp(all + BYTES * i, all + BYTES * j, BYTES) == 0) *shared = true;
done:
    free(all);
    return status;
}

static aq_status open_nccl(aq_team *team, aq_backend *backend) {
    team_state *state = state_of(team);
    aq_team_link *link = &state->link;
    const aq_patience waits = {.check = patience, .state = link};
    unsigned char id[AQ_CUDA_TEAM_ID] = {0};
    aq_status status = link->rank == 0 ? aq_cuda_team_id(id) : AQ_OK;
    AQ_TRY(aq_team_link_meet(link, &(aq_team_word){.status = status}));
    AQ_TRY(aq_team_mpi_share(link, 0, id, sizeof id));
    return aq_cuda_team_open(backend, id, team, &waits, &state->cuda);
}

static aq_status open_data(aq_team *team, aq_backend *backend) {
    team_state *state = state_of(team);
    bool shared;
    state->in_host = strcmp(aq_backend_name(backend), "cpu") == 0;
    if (state->in_host) return AQ_OK;
    AQ_TRY(find_shared(&state->link, backend, &shared));
    if (!shared) return open_nccl(team, backend);
    if (team->rank == 0)
        aq_log_warn("members of a team share a GPU: their sums go through host memory");
    return AQ_OK;
}

/* Without the memory for its state a member cannot even tell the others. */
aq_status aq_team_open(MPI_Comm members, aq_backend *backend, aq_team *team) {
    int size, rank;
    MPI_Comm_size(members, &size);
    MPI_Comm_rank(members, &rank);
    *team = *aq_team_alone();
    if (size == 1) return AQ_OK;
    team_state *state = calloc(1, sizeof *state);
    AQ_REQUIRE(state, AQ_MEMORY, "no memory for the state of a team");
    aq_status status = aq_team_link_open(members, &state->link);
    *team = (aq_team){.rank = rank,
                      .size = size,
                      .sum = sum,
                      .gather_rows = gather_rows,
                      .share = share,
                      .agree = agree,
                      .state = state};
    if (status == AQ_OK) status = aq_team_agree(team, open_data(team, backend));
    if (status != AQ_OK) aq_team_close(team);
    return status;
}

/* NCCL's memory may be read by another member's last call until that has returned. */
static void part(team_state *state) {
    const aq_team_word word = {.call = AQ_CALL_AGREE};
    if (state->cuda && !state->link.broken && state->link.failure == AQ_OK)
        aq_team_link_meet(&state->link, &word);
}

void aq_team_close(aq_team *team) {
    team_state *state = state_of(team);
    *team = (aq_team){0};
    if (!state) return;
    part(state);
    aq_cuda_team_close(state->cuda);
    aq_team_link_close(&state->link);
    if (!state->link.broken) free(state);
}

aq_team_traffic aq_team_traffic_of(const aq_team *team) {
    return team->state ? state_of(team)->traffic : (aq_team_traffic){0};
}

void aq_team_abort(const aq_team *team, const char *reason) {
    team_state *state = state_of(team);
    if (state) aq_team_link_abort(&state->link, reason);
}
