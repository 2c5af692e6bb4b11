/* Which GPU each rank takes.
 *
 * GPUs are counted by what the driver calls them (UUID) over all ranks of a node: a launcher may
 * show every rank all of them, or each rank another one.
 */
#ifndef AQ_DIST_DEVICES_H
#define AQ_DIST_DEVICES_H

#include "dist/ranks.h"
#include "tensor/ops.h"

enum { AQ_DEVICE_ID = 16, AQ_DEVICE_NAME = 96, AQ_MOST_DEVICES = 64 };

/* The GPUs that a rank sees, by number. */
typedef struct aq_visible_devices {
    int count;
    unsigned char ids[AQ_MOST_DEVICES][AQ_DEVICE_ID];
} aq_visible_devices;

/* chosen[rank] is the number of the rank's GPU among those it sees (each sees at least one), so
 * that as few ranks as can be have the same one: each its own if there is any way. Where there is a
 * choice, ranks choose in turn the GPU that fewest before them have, the lowest number on ties.
 * sharers[rank] says how many ranks have that GPU in the end. Returns how many GPUs there are in
 * all. */
int aq_devices_choose(const aq_visible_devices *visible, int ranks, int *chosen, int *sharers);

/* INVALID, saying what can be done, if `most` of a host's ranks share a GPU, which is more than 1.
 */
aq_status aq_devices_check(const char *host, int ranks, int devices, int most);

/* This rank's GPU among those it sees, and how many ranks have it. Collective over all ranks.
 * INVALID on every rank, with the host's name, if a node has more ranks than GPUs and `shared` does
 * not allow it; DEVICE if a rank sees none. */
typedef struct aq_device_place {
    int device, sharers;
} aq_device_place;
aq_status aq_devices_place(const aq_ranks *ranks, bool shared, aq_device_place *place);

/* The different names among them, in their order, apart by "; ", cut to `size`. */
void aq_devices_list(const char (*names)[AQ_DEVICE_NAME], int ranks, char *kinds, size_t size);

/* The same of all ranks' GPUs, "" if they have none; rank 0 warns if there are several kinds.
 * Collective over all ranks. */
aq_status aq_devices_kinds(const aq_ranks *ranks, const aq_backend *backend, char *kinds,
                           size_t size);

#endif
