/* The ledger of a run: which block waits, runs, is done or has failed, and who works on it.
 *
 * A pure data structure of the coordinator (dist/coordinator): it neither computes nor
 * communicates. Blocks are handed out in ascending order; after the first failure nothing more is
 * handed out, and the blocks that run may still finish.
 */
#ifndef AQ_RUN_LEDGER_H
#define AQ_RUN_LEDGER_H

#include "base/status.h"
#include "run/phase.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum aq_block_state {
    AQ_BLOCK_WAITS,
    AQ_BLOCK_RUNS,
    AQ_BLOCK_DONE,
    AQ_BLOCK_FAILED
} aq_block_state;

enum { AQ_LEDGER_NOBODY = -1 };

typedef struct aq_ledger_entry {
    aq_block_state state;
    int rank;          /* who works or worked on it; AQ_LEDGER_NOBODY: an earlier run, or none */
    double error;      /* of the block's outputs, once done */
    aq_phases seconds; /* that it took in this run */
    aq_status code;    /* of the failure */
    char *text;        /* owned: why it failed, else NULL */
} aq_ledger_entry;

typedef struct aq_ledger {
    size_t blocks;
    aq_ledger_entry *entries; /* [blocks], owned */
} aq_ledger;

/* All blocks wait. */
aq_status aq_ledger_new(size_t blocks, aq_ledger *ledger);
void aq_ledger_free(aq_ledger *ledger);

/* Hands the lowest waiting block to `rank`: true, and it runs. False if none waits or one failed.
 */
bool aq_ledger_next(aq_ledger *ledger, int rank, size_t *block);

/* Block `block` is done: by `rank` in this run, or by an earlier run (AQ_LEDGER_NOBODY, zero
 * seconds). */
void aq_ledger_done(aq_ledger *ledger, size_t block, int rank, double error,
                    const aq_phases *seconds);

/* Block `block`, run by `rank`, failed with this code and text (copied). */
void aq_ledger_failed(aq_ledger *ledger, size_t block, int rank, aq_status code, const char *text);

/* Block `block` waits again: the job stops, and its worker gave it back. */
void aq_ledger_release(aq_ledger *ledger, size_t block);

size_t aq_ledger_count(const aq_ledger *ledger, aq_block_state state);

/* AQ_OK if every block is done; else the lowest failed block's code and text with block and rank in
 * front, or STOPPED, saying how many
 * are done, if blocks wait. */
aq_status aq_ledger_verdict(const aq_ledger *ledger);

#endif
