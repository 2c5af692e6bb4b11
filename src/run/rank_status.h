/* What every rank of a run does, from its events (run/metrics.h); part of run/run_status.h.
 */
#ifndef AQ_RUN_RANK_STATUS_H
#define AQ_RUN_RANK_STATUS_H

#include "run/event_file.h"

#define AQ_NO_BLOCK ((size_t)-1)

/* Numbers that nobody told are NaN. */
typedef struct aq_rank_status {
    char stage[AQ_EVENT_TEXT], layer[AQ_EVENT_TEXT]; /* AQ_STAGE_LIST; of "fit" */
    size_t block;                                    /* or AQ_NO_BLOCK */
    double since, last_event;                        /* Unix seconds */
    double forwarding, waiting, quantizing;          /* seconds, told when the run ends */
    double peak_memory, peak_device_memory;          /* bytes, the most that was told */
} aq_rank_status;

typedef struct aq_rank_list {
    aq_rank_status *ranks; /* owned */
    size_t count;
} aq_rank_list;

/* Forgets what was there: a run begins, in which `count` ranks wait since `time`. False if memory
 * ran out: then the list is empty. */
bool aq_rank_list_start(aq_rank_list *list, size_t count, double time);

/* Takes an event of any kind; those of ranks that are not in the list are nothing. */
void aq_rank_list_take(aq_rank_list *list, const char *event, double time, const json_t *fields);

void aq_rank_list_free(aq_rank_list *list);

#endif
