/* Blocks that are redone on request (quantize --restart-block), perhaps with other settings than
 * the run's: RUN/restarts.json.
 *
 *     {"settings": {"3": {"quantizer.rounds": "200"}}, "requested": [3], "cleared": true}
 *
 * `settings` tells for good which blocks were or are to be made with which other settings; their
 * files carry these too, and the fingerprint of the run: so the run goes on with its own settings
 * and takes them up. `requested` is a request that is not yet finished (until the model is
 * gathered): the same command goes on with it, and so does the run's own. `cleared`: the old files
 * of its blocks are set aside (NAME.replaced).
 */
#ifndef AQ_RUN_RESTARTS_H
#define AQ_RUN_RESTARTS_H

#include "run/run_directory.h"

enum { AQ_MAX_RESTARTS = 256 };

typedef struct aq_restart {
    size_t blocks[AQ_MAX_RESTARTS];
    size_t count;
    json_t *settings; /* owned: what differs from the run's, key and text; may be empty */
} aq_restart;

/* Adds the blocks of "3" or "3,5,7" to the list; INVALID with what was found otherwise. */
aq_status aq_restart_parse(const char *text, aq_restart *restart);
void aq_restart_free(aq_restart *restart);

/* Compares `config` with config.yaml of its run: settings of quantizer and tuning, and run.seed,
 * that differ move into the request, and `config` gets the run's. INVALID, naming key and both
 * values, for others that change the result and for the scheme; MISSING if there is no such run. */
aq_status aq_restart_split(aq_config *config, aq_restart *restart);

/* Takes on a request (NULL: none) or goes on with the one that the directory holds: notes it, sets
 * aside what is to be redone (with inputs of quantized blocks the later ones too) and the gathered
 * file. For rank 0, after aq_run_directory_prepare. INVALID for a block that the model has not. */
aq_status aq_restarts_begin(aq_run_directory *directory, const aq_restart *restart,
                            aq_inputs inputs);

/* The model is gathered: the request is fulfilled. */
aq_status aq_restarts_end(aq_run_directory *directory);

/* The settings that block `index` is to be made with: the run's, but for what restarts.json says.
 * The result borrows config's texts. */
aq_status aq_restarts_config(const aq_run_directory *directory, size_t index,
                             const aq_config *config, aq_config *effective);

#endif
