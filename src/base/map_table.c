#include "base/map_table.h"

#include <stdatomic.h>
#include <stdio.h>

enum { SLOTS = 256 };

typedef enum slot_state { FREE, BEING_FILLED, NOTED } slot_state;

/* A signal handler sees static data alone, and must not lock. */
static struct {
    atomic_int state;
    uintptr_t first;
    size_t size;
    char path[AQ_MAP_PATH];
} slots[SLOTS];

void aq_map_note(const void *bytes, size_t size, const char *path) {
    for (int i = 0; i < SLOTS; i++) {
        int expected = FREE;
        if (!atomic_compare_exchange_strong(&slots[i].state, &expected, BEING_FILLED)) continue;
        slots[i].first = (uintptr_t)bytes;
        slots[i].size = size;
        snprintf(slots[i].path, AQ_MAP_PATH, "%s", path);
        atomic_store(&slots[i].state, NOTED);
        return;
    }
}

void aq_map_forget(const void *bytes) {
    for (int i = 0; i < SLOTS; i++)
        if (atomic_load(&slots[i].state) == NOTED && slots[i].first == (uintptr_t)bytes) {
            atomic_store(&slots[i].state, FREE);
            return;
        }
}

const char *aq_map_path(uintptr_t address) {
    for (int i = 0; i < SLOTS; i++)
        if (atomic_load(&slots[i].state) == NOTED && address - slots[i].first < slots[i].size)
            return slots[i].path;
    return NULL;
}
