#include "dist/devices.h"

#include "base/log.h"
#include "tensor/ops.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_same(const unsigned char *left, const unsigned char *right) {
    return memcmp(left, right, AQ_DEVICE_ID) == 0;
}

static const unsigned char *id_of(const aq_visible_devices *visible, const int *chosen, int rank) {
    return visible[rank].ids[chosen[rank]];
}

/* How many of the first `ranks` have this GPU. */
static int count_users(const aq_visible_devices *visible, const int *chosen, int ranks,
                       const unsigned char *id) {
    int users = 0;
    for (int rank = 0; rank < ranks; rank++) users += is_same(id_of(visible, chosen, rank), id);
    return users;
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

static int choose(const aq_visible_devices *visible, const int *chosen, int rank) {
    int best = 0, least = rank + 1;
    for (int device = 0; device < visible[rank].count; device++) {
        int users = count_users(visible, chosen, rank, visible[rank].ids[device]);
        if (users < least) best = device;
        if (users < least) least = users;
    }
    return best;
}

int aq_devices_choose(const aq_visible_devices *visible, int ranks, int *chosen, int *sharers) {
    int devices = 0;
    for (int rank = 0; rank < ranks; rank++) {
        chosen[rank] = choose(visible, chosen, rank);
        for (int device = 0; device < visible[rank].count; device++)
            devices += !is_known(visible, rank, device);
    }
    for (int rank = 0; rank < ranks; rank++)
        sharers[rank] = count_users(visible, chosen, ranks, id_of(visible, chosen, rank));
    return devices;
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
    if (most == 1) return AQ_OK;
    AQ_REQUIRE(shared, AQ_INVALID,
               "host %s has %d ranks and %d GPU%s: start as many ranks as GPUs, or allow sharing "
               "with run.share_gpus=yes",
               host, ranks->local_size, devices, devices == 1 ? "" : "s");
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
