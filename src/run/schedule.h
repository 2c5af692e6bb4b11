/* The schedule of a run: which block waits, runs, is done or has failed, who works on it, and where
 * its inputs come from.
 *
 * A pure state machine of the coordinator (dist/coordinator): it neither computes nor communicates,
 * and knows no time. Teams ask; blocks are handed out in ascending order. Boundary b is what block
 * b reads: the dense outputs of block b - 1. One frontier exists, the boundary behind the block
 * that was handed out last: it can be had once all members of that block's team have forwarded the
 * block. A team that asks earlier is parked. If nobody is free, the frontier stays with its holder,
 * who may take it himself later. So every block is forwarded once in the whole job, and finished
 * blocks behind the last unfinished one never. A snapshot that is as near or nearer than the
 * frontier is taken at once.
 *
 * A team that is to hand over its activations gets no other block until the taker has forwarded
 * his. After the first failure, or a request to stop, nothing more is handed out; the blocks that
 * run may still finish.
 */
#ifndef AQ_RUN_SCHEDULE_H
#define AQ_RUN_SCHEDULE_H

#include "run/handover.h"
#include "run/phase.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum aq_block_state {
    AQ_BLOCK_WAITS,
    AQ_BLOCK_RUNS,
    AQ_BLOCK_DONE,
    AQ_BLOCK_FAILED
} aq_block_state;

enum { AQ_NOBODY = -1 };

typedef struct aq_schedule_entry {
    aq_block_state state;
    int team;          /* who works or worked on it; AQ_NOBODY: an earlier run, or none */
    int forwards;      /* members of it that have forwarded the block */
    double error;      /* of the block's outputs, once done */
    aq_phases seconds; /* that it took in this run */
    aq_status code;    /* of the failure */
    char *text;        /* owned: why it failed, else NULL */
} aq_schedule_entry;

typedef struct aq_schedule_settings {
    size_t blocks;
    int teams, team_size;
    bool in_order; /* every block reads what the quantized ones before it make: team 0 gets them
                      all, one after the other */
} aq_schedule_settings;

typedef struct aq_schedule {
    aq_schedule_settings settings;
    aq_schedule_entry *entries; /* [blocks], owned */
    bool *snapshots;            /* [blocks], owned: boundary b can be had from files */
    int *parked;                /* [teams], owned: those that wait, in the order of their asking */
    int parked_count;
    size_t *lent; /* [teams], owned: the block whose team fetches from this one; `blocks`: none */
    size_t last;  /* the block that was handed out last; `blocks`: none */
    bool stopping;
} aq_schedule;

/* All blocks wait. */
aq_status aq_schedule_new(const aq_schedule_settings *settings, aq_schedule *schedule);
void aq_schedule_free(aq_schedule *schedule);

/* Before anybody asks: an earlier run has finished `block`; files hold boundary `boundary`. */
void aq_schedule_finished(aq_schedule *schedule, size_t block, double error);
void aq_schedule_snapshot(aq_schedule *schedule, size_t boundary);

/* What a team that has asked is told. */
typedef struct aq_answer {
    int team;
    bool works;   /* on `task`; else there is nothing more for it to do in this run */
    aq_task task; /* run/handover.h */
} aq_answer;

/* `team`, which works on nothing, asks for a block. */
void aq_schedule_ask(aq_schedule *schedule, int team);

/* The next answer that can be given now: true. To be called until it returns false after every
 * change. */
bool aq_schedule_next(aq_schedule *schedule, aq_answer *answer);

/* One member of the team has the outputs of `block` ready for others. */
void aq_schedule_forwarded(aq_schedule *schedule, size_t block);

/* Block `block` is done, has failed with this code and text (copied), or was given back because the
 * job stops: it waits again. */
void aq_schedule_done(aq_schedule *schedule, size_t block, double error, const aq_phases *seconds);
void aq_schedule_failed(aq_schedule *schedule, size_t block, aq_status code, const char *text);
void aq_schedule_released(aq_schedule *schedule, size_t block);

/* Nothing more is handed out. */
void aq_schedule_stop(aq_schedule *schedule);

size_t aq_schedule_count(const aq_schedule *schedule, aq_block_state state);

/* The rank that leads the team of an entry; AQ_NOBODY if it has none. */
int aq_schedule_lead(const aq_schedule *schedule, size_t block);

/* AQ_OK if every block is done; else the lowest failed block's code and text with block and rank in
 * front, or STOPPED, saying how many are done, if blocks wait. */
aq_status aq_schedule_verdict(const aq_schedule *schedule);

#endif
