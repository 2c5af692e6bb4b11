/* What is kept of a block in work, under the run directory: RUN/work/block-0007/.
 *
 *     self_attn.q_proj.h5   a linear that is fitted, one file each
 *     tuning.state          where block tuning stands after its last epoch, written beside the next
 *
 * A job that died goes on from them; the folder goes when the block's own file is committed. The
 * lead of a team reads and writes, its members get what it read. A file that is damaged or belongs
 * to other settings is set aside (NAME.damaged), said in the log, and counts as not there.
 */
#ifndef AQ_RUN_BLOCK_KEEP_H
#define AQ_RUN_BLOCK_KEEP_H

#include "base/write_behind.h"
#include "model/tune_block.h"
#include "run/run_directory.h"

/* The state of tuning on its way to the disk: a copy in host memory. */
typedef struct aq_keep_writer {
    aq_write_behind behind;
    char *image; /* owned, made when it is first needed */
} aq_keep_writer;

typedef struct aq_block_keep {
    char *folder;           /* owned */
    aq_keep_writer *writer; /* owned */
    size_t block;
    char fingerprint[AQ_FINGERPRINT_SIZE];
    const aq_team *team; /* borrowed */
} aq_block_keep;

/* Touches no file. */
aq_status aq_block_keep_new(const aq_run_directory *directory, size_t block, const aq_team *team,
                            aq_block_keep *keep);

/* Waits for what is still written; its failure is not told. */
void aq_block_keep_free(aq_block_keep *keep);

/* The linear as it was fitted, with its error, into coded->linears[linear], which is made here; or
 * *found is false and nothing is made. Collective over the team. */
aq_status aq_block_keep_load_layer(const aq_block_keep *keep, aq_linear_kind linear,
                                   const aq_scheme *scheme, aq_backend *backend,
                                   aq_coded_block *coded, bool *found);

/* IO with path and reason. */
aq_status aq_block_keep_save_layer(const aq_block_keep *keep, aq_linear_kind linear,
                                   const aq_coded_block *coded);

/* As aq_tune_keeper wants them: saving begins a write, settling waits for it. */
aq_status aq_block_keep_load_tuning(const aq_block_keep *keep, aq_parameters *parameters,
                                    aq_tune_state *state, bool *found);
aq_status aq_block_keep_save_tuning(const aq_block_keep *keep, const aq_parameters *parameters,
                                    const aq_tune_state *state);
aq_status aq_block_keep_settle_tuning(const aq_block_keep *keep);

/* The block is finished: its folder goes, if there is one. */
aq_status aq_block_keep_discard(const aq_run_directory *directory, size_t block);

#endif
