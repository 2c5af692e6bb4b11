/* Where a run stands, from the files of its directory alone (run/run_directory.h): on any machine
 * that sees them, while it works, after it ended, and after it died.
 *
 * metrics.jsonl tells what happened, the block files what is finished: a block is done if its file
 * is there (or the gathered one), whatever the events say. Files are not opened but for
 * config.yaml, metrics.jsonl and lock. A run that has not said that it ended was killed if its
 * lock's owner is known to be dead or has not renewed it for a minute; how long all and each rank
 * have been silent is told too.
 */
#ifndef AQ_RUN_RUN_STATUS_H
#define AQ_RUN_RUN_STATUS_H

#include "run/config.h"
#include "run/event_file.h"
#include "run/lock_owner.h"
#include "run/rank_status.h"
#include "run/schedule.h"

#define AQ_RUN_STATE_LIST(X)                                                                       \
    X(NEW, "new")           /* prepared, nothing has happened yet */                               \
    X(WORKING, "working")   /* began and has not said that it ended */                             \
    X(KILLED, "killed")     /* the same, but nobody is there; the same command goes on */          \
    X(ENDED, "ended")       /* ended before all was done; the same command goes on */              \
    X(COMPLETE, "complete") /* model.aqlm.h5 is written */

typedef enum aq_run_state {
#define AQ_RUN_STATE_ENUM(name, text) AQ_RUN_##name,
    AQ_RUN_STATE_LIST(AQ_RUN_STATE_ENUM)
#undef AQ_RUN_STATE_ENUM
} aq_run_state;

/* "working" */
const char *aq_run_state_name(aq_run_state state);

/* Numbers that nobody told are NaN, texts "". */
typedef struct aq_block_status {
    aq_block_state state;
    int rank;                        /* who works or worked on it; AQ_NOBODY: unknown */
    double error, fitted_error;      /* of a block that is done; the latter before tuning */
    double began;                    /* Unix seconds, of the last attempt */
    double seconds;                  /* done: that it took; in work: since it began */
    bool now;                        /* done by the last run */
    size_t layers;                   /* fitted in the last attempt, taken up ones too */
    size_t kept_layers, kept_epochs; /* of an attempt before, taken up by the last one */
    char stage[AQ_EVENT_TEXT], layer[AQ_EVENT_TEXT]; /* in work: AQ_STAGE_LIST; of "fit" */
    double epoch;                                    /* in work: of tuning, the last that ended */
    char failure[AQ_EVENT_TEXT];                     /* why it failed */
} aq_block_status;

typedef struct aq_run_status {
    aq_config config; /* owned: config.yaml */
    aq_run_state state;
    aq_block_status *list; /* owned, [listed]: every block that a file or an event names */
    size_t listed;
    size_t blocks;                                       /* of the model; 0: nobody told */
    size_t done, in_work, failed;                        /* of them */
    size_t starts;                                       /* runs of this directory so far */
    size_t ranks;                                        /* of the last one; 0: unknown */
    size_t team_size;                                    /* ranks that share a block; likewise */
    aq_rank_list each;                                   /* owned: the ranks of the last one */
    char backend[AQ_EVENT_TEXT], program[AQ_EVENT_TEXT]; /* of the last one */
    char reason[AQ_EVENT_TEXT];                          /* why it ended */
    bool ended;                                          /* it said so */
    double started, last_event;                          /* Unix seconds; of the last one; of all */
    double bits_per_weight;
    double dense_forward_passes;          /* over the model, of the last run when it ended */
    char owner[AQ_OWNER_TEXT];            /* of the lock, "" where there is none */
    double renewed;                       /* Unix seconds, of the lock */
    double blocks_per_hour, seconds_left; /* of a run at work that has finished a block */
    size_t unreadable;                    /* lines of metrics.jsonl */
} aq_run_status;

/* Reads the status of `directory` as of the Unix time `now`. MISSING if there is no such directory,
 * INVALID if it is not a run directory (it has no config.yaml), and what aq_config_read and
 * aq_event_file_read say. Freed with aq_run_status_free. */
aq_status aq_run_status_read(const char *directory, double now, aq_run_status *status);
void aq_run_status_free(aq_run_status *status);

#endif
