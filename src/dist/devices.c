#include "dist/devices.h"

#include "base/log.h"
#include "tensor/ops.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_same(const unsigned char *left, const unsigned char *right) {
    return memcmp(left, right, AQ_DEVICE_ID) == 0;
}

/* Ranks that have a GPU, at most `limit` one. */
typedef struct matching {
    const aq_visible_devices *visible;
    int ranks, limit;
    int *chosen; /* -1: none yet */
    bool *tried; /* in the search for one more */
} matching;

static bool has(const matching *self, int rank, const unsigned char *id) {
    int device = self->chosen[rank];
    return device >= 0 && is_same(self->visible[rank].ids[device], id);
}

static int count_users(const matching *self, const unsigned char *id) {
    int users = 0;
    for (int rank = 0; rank < self->ranks; rank++) users += has(self, rank, id);
    return users;
}

/* Of those that have room for the rank, the least used one; -1: none has. */
static int find_room(const matching *self, int rank) {
    int best = -1, least = self->limit;
    for (int device = 0; device < self->visible[rank].count; device++) {
        int users = count_users(self, self->visible[rank].ids[device]);
        if (users < least) best = device;
        if (users < least) least = users;
    }
    return best;
}

static bool place(matching *self, int rank);

/* Whether a rank that has this GPU could be moved to another one. */
static bool make_room(matching *self, const unsigned char *id) {
    for (int rank = 0; rank < self->ranks; rank++)
        if (!self->tried[rank] && has(self, rank, id) && place(self, rank)) return true;
    return false;
}

/* Gives the rank a GPU, or another one than it has; others move on where they must (augmenting
 * paths). */
static bool place(matching *self, int rank) {
    int device = find_room(self, rank);
    self->tried[rank] = true;
    for (int i = 0; device < 0 && i < self->visible[rank].count; i++)
        if (make_room(self, self->visible[rank].ids[i])) device = i;
    if (device >= 0) self->chosen[rank] = device;
    return device >= 0;
}

/* Returns how many ranks still have none. */
static int place_all(matching *self) {
    int without = 0;
    for (int rank = 0; rank < self->ranks; rank++) {
        if (self->chosen[rank] >= 0) continue;
        memset(self->tried, 0, (size_t)self->ranks * sizeof *self->tried);
        without += !place(self, rank);
    }
    return without;
}

/* Whether a rank before this one, or this one under a lower number, sees it. */
static bool is_known(const aq_visible_devices *visible, int rank, int device) {
    const unsigned char *id = visible[rank].ids[device];
    for (int other = 0; other <= rank; other++) {
        int end = other == rank ? device : visible[other].count;
        for (int i = 0; i < end; i++)
            if (is_same(visible[other].ids[i], id)) return true;
    }
    return false;
}

static int count_devices(const aq_visible_devices *visible, int ranks) {
    int devices = 0;
    for (int rank = 0; rank < ranks; rank++)
        for (int device = 0; device < visible[rank].count; device++)
            devices += !is_known(visible, rank, device);
    return devices;
}

int aq_devices_choose(const aq_visible_devices *visible, int ranks, int *chosen, int *sharers) {
    bool tried[ranks];
    matching all = {.visible = visible, .ranks = ranks, .chosen = chosen, .tried = tried};
    for (int rank = 0; rank < ranks; rank++) chosen[rank] = -1;
    do all.limit++;
    while (place_all(&all));
    for (int rank = 0; rank < ranks; rank++)
        sharers[rank] = count_users(&all, visible[rank].ids[chosen[rank]]);
    return count_devices(visible, ranks);
}

aq_status aq_devices_check(const char *host, int ranks, int devices, int most) {
    if (most == 1) return AQ_OK;
    AQ_REQUIRE(ranks > devices, AQ_INVALID,
               "host %s has %d ranks and %d GPUs, but shows them so that %d ranks have to share "
               "one: show each rank its own GPU, or allow sharing with run.share_gpus=yes",
               host, ranks, devices, most);
    return AQ_FAIL(AQ_INVALID,
                   "host %s has %d ranks and %d GPU%s: start as many ranks as GPUs, or allow "
                   "sharing with run.share_gpus=yes",
                   host, ranks, devices, devices == 1 ? "" : "s");
}

/* ---- the ranks of a node ---- */

static aq_status look(aq_visible_devices *mine) {
    int count = aq_cuda_device_count();
    mine->count = count < AQ_MOST_DEVICES ? count : AQ_MOST_DEVICES;
    AQ_REQUIRE(count > 0, AQ_DEVICE, "no CUDA device can be used");
    for (int device = 0; device < mine->count; device++)
        AQ_TRY(aq_cuda_device_id(device, mine->ids[device]));
    return AQ_OK;
}

static aq_status check(const aq_ranks *ranks, bool shared, int devices, int most) {
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    if (most == 1 || !shared) return aq_devices_check(host, ranks->local_size, devices, most);
    if (ranks->local_rank == 0)
        aq_log_warn("%d ranks on host %s share %d GPU%s", ranks->local_size, host, devices,
                    devices == 1 ? "" : "s");
    return AQ_OK;
}

static aq_status place_on(const aq_ranks *ranks, bool shared, const aq_visible_devices *all,
                          aq_device_place *place) {
    int count = ranks->local_size, most = 0;
    int *chosen = calloc((size_t)count, sizeof *chosen);
    int *sharers = calloc((size_t)count, sizeof *sharers);
    aq_status status;
    AQ_NEED(chosen && sharers, AQ_MEMORY, "out of memory");
    int devices = aq_devices_choose(all, count, chosen, sharers);
    for (int i = 0; i < count; i++) most = sharers[i] > most ? sharers[i] : most;
    *place = (aq_device_place){chosen[ranks->local_rank], sharers[ranks->local_rank]};
    AQ_STEP(check(ranks, shared, devices, most));
done:
    free(chosen), free(sharers);
    return status;
}

static void gather(const aq_ranks *ranks, const aq_visible_devices *mine, aq_visible_devices *all) {
    MPI_Comm node;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, ranks->rank, MPI_INFO_NULL, &node);
    MPI_Allgather(mine, sizeof *mine, MPI_BYTE, all, sizeof *mine, MPI_BYTE, node);
    MPI_Comm_free(&node);
}

aq_status aq_devices_place(const aq_ranks *ranks, bool shared, aq_device_place *place) {
    aq_visible_devices *mine = calloc(1, sizeof *mine);
    aq_visible_devices *all = calloc((size_t)ranks->local_size, sizeof *all);
    aq_status status = mine && all ? look(mine) : AQ_FAIL(AQ_MEMORY, "out of memory");
    AQ_STEP(aq_ranks_agree(ranks, status));
    gather(ranks, mine, all);
    AQ_STEP(aq_ranks_agree(ranks, place_on(ranks, shared, all, place)));
done:
    free(mine), free(all);
    return status;
}

/* ---- what kinds there are ---- */

static bool is_repeated(const char (*names)[AQ_DEVICE_NAME], int rank) {
    for (int other = 0; other < rank; other++)
        if (strcmp(names[other], names[rank]) == 0) return true;
    return false;
}

void aq_devices_list(const char (*names)[AQ_DEVICE_NAME], int ranks, char *kinds, size_t size) {
    size_t length = 0;
    kinds[0] = 0;
    for (int rank = 0; rank < ranks && length < size; rank++)
        if (!is_repeated(names, rank))
            length += (size_t)snprintf(kinds + length, size - length, "%s%s", length ? "; " : "",
                                       names[rank]);
}

aq_status aq_devices_kinds(const aq_ranks *ranks, const aq_backend *backend, char *kinds,
                           size_t size) {
    char mine[AQ_DEVICE_NAME] = "", (*names)[AQ_DEVICE_NAME] = NULL;
    kinds[0] = 0;
    if (!aq_ranks_all(ranks, strcmp(aq_backend_name(backend), "cuda") == 0)) return AQ_OK;
    aq_backend_device(backend, mine, sizeof mine);
    names = calloc((size_t)ranks->size, sizeof *names);
    aq_status status;
    AQ_STEP(aq_ranks_agree(ranks, names ? AQ_OK : AQ_FAIL(AQ_MEMORY, "out of memory")));
    MPI_Allgather(mine, sizeof mine, MPI_BYTE, names, sizeof mine, MPI_BYTE, MPI_COMM_WORLD);
    aq_devices_list((const char(*)[AQ_DEVICE_NAME])names, ranks->size, kinds, size);
    if (ranks->rank == 0 && strstr(kinds, "; "))
        aq_log_warn("the ranks compute on different GPUs (%s): what one makes need not be what "
                    "another would, to the last bit",
                    kinds);
done:
    free(names);
    return status;
}
