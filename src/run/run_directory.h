/* The run directory: all that a quantize job leaves, and whether it may go on with what is there.
 *
 *     config.yaml         the resolved settings
 *     identity.txt        what else the result depends on: hashes of model and tokens, the backend
 *     blocks/block-0007.h5  one file a finished block
 *     snapshots/         activations of some boundaries, where asked for (run/snapshots.h)
 *     work/block-0008/    what is kept of a block in work (run/block_keep.h)
 *     restarts.json       blocks redone on request, and their settings (run/restarts.h)
 *     metrics.jsonl       events
 *     model.aqlm.h5       the gathered checkpoint
 *     lock                while a job works there (run/lock.h)
 *
 * Every block file carries the fingerprint, a hash of the settings that change the result and of
 * model, tokens and backend. A directory is taken up again only by a job with the same ones.
 */
#ifndef AQ_RUN_RUN_DIRECTORY_H
#define AQ_RUN_RUN_DIRECTORY_H

#include "model/coded_block.h"
#include "model/tokens.h"
#include "run/config.h"
#include "run/identity.h"

#include <jansson.h>

enum { AQ_FINGERPRINT_SIZE = 17 };

typedef struct aq_run_directory {
    char *path;                      /* owned */
    char *metrics_path, *model_path; /* owned: metrics.jsonl, model.aqlm.h5 */
    aq_source *source;               /* borrowed: the dense model */
    aq_scheme scheme;
    char *settings;              /* owned: aq_config_settings */
    char *backend;               /* owned: run.backend */
    uint64_t tokens;             /* aq_tokens_hash of all of them */
    const aq_backend *machine;   /* borrowed: what computes here; NULL: unknown */
    char gpus[AQ_IDENTITY_LINE]; /* of all ranks; "": those of `machine` */
    json_t *restarts;            /* owned: restarts.json (run/restarts.h), NULL: there is none */
    /* 16 hexadecimal digits; "" before aq_run_directory_prepare or aq_run_directory_join */
    char fingerprint[AQ_FINGERPRINT_SIZE];
} aq_run_directory;

/* Says where things are and what they must carry; touches no file of the directory. `config` is
 * resolved: run.backend names the backend that computes. */
aq_status aq_run_directory_open(const aq_config *config, aq_source *source, const aq_tokens *tokens,
                                aq_run_directory *directory);
void aq_run_directory_close(aq_run_directory *directory);

/* Makes the directory itself, and its parents, where they are missing. */
aq_status aq_run_directory_make(const aq_run_directory *directory);

/* Makes the directory ready for one job (rank 0 alone calls it): reads the model's files for their
 * hashes where need be, makes what is missing, removes temporary files that an earlier job left,
 * writes config.yaml and identity.txt. INVALID, naming the setting (or the file of the model, the
 * tokens, the backend) and both values, if the directory was made with others: then it is
 * untouched. IO with path and reason if it cannot be written; STOPPED.
 *
 * Where config.yaml or identity.txt is damaged or missing, the block files decide: if all carry
 * this job's fingerprint both are written again, else that is INVALID too. Another machine than the
 * one that began is a warning. */
aq_status aq_run_directory_prepare(aq_run_directory *directory, const aq_config *config);

/* The other ranks' part, once rank 0 has prepared: takes the identity over from identity.txt, and
 * warns if this machine is another than the one that began. */
aq_status aq_run_directory_join(aq_run_directory *directory);

/* The settings by which block `index` differs from the run (borrowed; NULL: it does not), and a
 * fingerprint that covers them too. */
json_t *aq_run_directory_other_settings(const aq_run_directory *directory, size_t index);
void aq_run_directory_block_fingerprint(const aq_run_directory *directory, size_t index,
                                        char fingerprint[static AQ_FINGERPRINT_SIZE]);

/* "blocks/block-0007.h5" under the directory; the caller frees it. */
aq_status aq_run_directory_block_path(const aq_run_directory *directory, size_t index, char **path);

/* "work/block-0007" likewise. */
aq_status aq_run_directory_work_path(const aq_run_directory *directory, size_t index, char **path);

/* True if block `index` is finished: its file is there, reads back and carries the fingerprint;
 * then *error is the block's, and its folder under work/ goes. A file that does not is set aside
 * (NAME.damaged), said in the log, and its block counts as not finished. */
bool aq_run_directory_finished(const aq_run_directory *directory, size_t index, aq_backend *backend,
                               double *error);

/* Reads and writes block files (store/block_file.h). */
aq_status aq_run_directory_read_block(const aq_run_directory *directory, size_t index,
                                      aq_backend *backend, aq_coded_block *block);
aq_status aq_run_directory_write_block(const aq_run_directory *directory,
                                       const aq_coded_block *block);

/* Whether model.aqlm.h5 is there and whole; a damaged one is set aside and said in the log. */
bool aq_run_directory_gathered(const aq_run_directory *directory);

/* Gathers all block files into model.aqlm.h5. STOPPED if the job is to stop meanwhile. */
aq_status aq_run_directory_gather(const aq_run_directory *directory);

#endif
