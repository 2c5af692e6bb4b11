/* The whole quantize job over all ranks: prepare the run directory, quantize what is not finished,
 * gather.
 */
#ifndef AQ_DIST_QUANTIZE_RUN_H
#define AQ_DIST_QUANTIZE_RUN_H

#include "dist/teams.h"
#include "dist/worker.h"
#include "run/restarts.h"
#include "run/schedule.h"
#include "run/session.h"

/* What rank 0 knows at the end; zeros on the other ranks. */
typedef struct aq_run_summary {
    aq_schedule schedule;        /* owned; every block with its error */
    size_t earlier;              /* blocks that an earlier run had finished */
    bool gathered;               /* model.aqlm.h5 was written by this run */
    aq_phases work;              /* seconds of all blocks together */
    aq_rank_seconds ranks;       /* of all ranks together */
    double dense_forward_passes; /* over the whole model, of all ranks together */
    double seconds;              /* from start to end */
} aq_run_summary;

typedef struct aq_run_options {
    const aq_progress_mode *progress; /* on rank 0; NULL: none is shown */
    const aq_restart *restart; /* on rank 0; NULL: no block is to be redone (run/restarts.h) */
    bool break_lock;    /* on rank 0: take the run directory from whoever holds it (run/lock.h) */
    void (*lost)(void); /* says the error's text: a rank is lost, and MPI will end this process.
                            Called by another thread. */
} aq_run_options;

/* Collective over all ranks, each with its open session, which has joined its team
 * (aq_session_join). Nothing is written unless the run directory's lock could be taken; it is given
 * back at the end. Every rank gets the same status; if a block failed, its number and rank stand in
 * front of the text. STOPPED on all ranks if one was asked to stop (base/stop.h) before the end.
 * The summary is the caller's to free either way. */
aq_status aq_quantize_run(const aq_teams *teams, aq_session *session, const aq_run_options *options,
                          aq_run_summary *summary);
void aq_run_summary_free(aq_run_summary *summary);

#endif
