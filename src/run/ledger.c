#include "run/ledger.h"

#include <stdlib.h>
#include <string.h>

aq_status aq_ledger_new(size_t blocks, aq_ledger *ledger) {
    *ledger = (aq_ledger){0};
    AQ_REQUIRE(blocks > 0, AQ_INVALID, "a model without blocks");
    ledger->entries = calloc(blocks, sizeof *ledger->entries);
    AQ_REQUIRE(ledger->entries, AQ_MEMORY, "no memory for the ledger of %zu blocks", blocks);
    ledger->blocks = blocks;
    for (size_t i = 0; i < blocks; i++) ledger->entries[i].rank = AQ_LEDGER_NOBODY;
    return AQ_OK;
}

void aq_ledger_free(aq_ledger *ledger) {
    for (size_t i = 0; i < ledger->blocks; i++) free(ledger->entries[i].text);
    free(ledger->entries);
    *ledger = (aq_ledger){0};
}

/* The lowest block in this state, or `blocks`. */
static size_t lowest(const aq_ledger *ledger, aq_block_state state) {
    size_t block = 0;
    while (block < ledger->blocks && ledger->entries[block].state != state) block++;
    return block;
}

bool aq_ledger_next(aq_ledger *ledger, int rank, size_t *block) {
    if (lowest(ledger, AQ_BLOCK_FAILED) < ledger->blocks) return false;
    *block = lowest(ledger, AQ_BLOCK_WAITS);
    if (*block == ledger->blocks) return false;
    ledger->entries[*block].state = AQ_BLOCK_RUNS;
    ledger->entries[*block].rank = rank;
    return true;
}

void aq_ledger_done(aq_ledger *ledger, size_t block, int rank, double error,
                    const aq_phases *seconds) {
    aq_ledger_entry *entry = &ledger->entries[block];
    entry->state = AQ_BLOCK_DONE;
    entry->rank = rank;
    entry->error = error;
    entry->seconds = *seconds;
}

void aq_ledger_failed(aq_ledger *ledger, size_t block, int rank, aq_status code, const char *text) {
    aq_ledger_entry *entry = &ledger->entries[block];
    entry->state = AQ_BLOCK_FAILED;
    entry->rank = rank;
    entry->code = code;
    free(entry->text);
    entry->text = strdup(text);
}

void aq_ledger_release(aq_ledger *ledger, size_t block) {
    ledger->entries[block].state = AQ_BLOCK_WAITS;
    ledger->entries[block].rank = AQ_LEDGER_NOBODY;
}

size_t aq_ledger_count(const aq_ledger *ledger, aq_block_state state) {
    size_t count = 0;
    for (size_t i = 0; i < ledger->blocks; i++) count += ledger->entries[i].state == state;
    return count;
}

aq_status aq_ledger_verdict(const aq_ledger *ledger) {
    size_t failed = lowest(ledger, AQ_BLOCK_FAILED);
    if (failed < ledger->blocks) {
        const aq_ledger_entry *entry = &ledger->entries[failed];
        return AQ_FAIL(entry->code, "block %zu (rank %d): %s", failed, entry->rank,
                       entry->text ? entry->text : "failed");
    }
    size_t done = aq_ledger_count(ledger, AQ_BLOCK_DONE);
    AQ_REQUIRE(done == ledger->blocks, AQ_STOPPED, "stopped with %zu of %zu blocks finished", done,
               ledger->blocks);
    return AQ_OK;
}
