/* A session: one process's part in a quantize run, from checked settings to finished blocks.
 *
 * It holds everything that quantizing any block needs. Which block comes next is not its business
 * (dist/ asks the coordinator).
 */
#ifndef AQ_RUN_SESSION_H
#define AQ_RUN_SESSION_H

#include "run/block_feed.h"
#include "run/needs.h"
#include "run/quantize_block.h"

typedef struct aq_session {
    const aq_config *config; /* borrowed, resolved */
    aq_backend *backend;     /* borrowed */
    aq_layout layout;
    aq_source *source; /* owned, as everything below */
    aq_tokens tokens;
    aq_run_directory directory;
    size_t activation_bytes; /* of the backend's memory for the feed */
    aq_metrics *metrics;
    aq_progress *progress;       /* borrowed, or NULL */
    const aq_team *team;         /* borrowed: shares every block */
    const aq_handover *handover; /* borrowed, or NULL: no other team */
    aq_snapshots snapshots;      /* what this rank writes and reads */
    aq_block_feed feed;          /* empty before the first block, as the next */
    aq_lanes lanes;
} aq_session;

/* Opens the model and the tokens and checks all that can be checked before anything is computed:
 * the scheme against every linear, memory for the processes of `layout`, room on the disk.
 * Writes nothing. */
aq_status aq_session_open(const aq_config *config, aq_backend *backend, const aq_layout *layout,
                          aq_session *session);
void aq_session_close(aq_session *session);

/* Makes the session that of a member of `team` (borrowed; without this call, of the team of one),
 * with its part of the calibration sequences. Before the first block. INVALID if there are fewer
 * sequences than members. */
aq_status aq_session_join(aq_session *session, const aq_team *team);

/* Opens metrics.jsonl in the prepared run directory for events of `rank`. */
aq_status aq_session_begin(aq_session *session, int rank, aq_progress *progress);

/* What became of a block. */
typedef struct aq_block_outcome {
    double error;
    aq_phases seconds;
} aq_block_outcome;

/* Quantizes the task's block and writes its file and its event (run/handover.h: where its inputs
 * come from). Collective over the team, whose first member writes; all get the same status. A
 * backend that runs out of memory gets another chance with all activations in host
 * memory, which the log says. */
aq_status aq_session_quantize(aq_session *session, const aq_task *task, aq_block_outcome *outcome);

/* The most bytes of a GPU's memory that were taken; NaN without one. */
double aq_session_peak_device_memory(const aq_session *session);

/* Bits a weight over all linears of the model. */
double aq_session_bits(const aq_session *session);

#endif
