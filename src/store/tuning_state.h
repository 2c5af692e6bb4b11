/* Where block tuning stands after an epoch, as a sealed file for this program alone
 * (docs/file-formats.md).
 *
 * It is written once an epoch and so cheap to write: an image in host memory, which anybody may
 * write who knows nothing of it. Values are float32 as they were in memory: who reads them goes on
 * to the same bits.
 */
#ifndef AQ_STORE_TUNING_STATE_H
#define AQ_STORE_TUNING_STATE_H

#include "model/tune_block.h"
#include "store/state_file.h"

/* Of the image of these parameters' state. */
size_t aq_tuning_state_bytes(const aq_parameters *parameters);

/* Values, best values and moments of all parameters, and the state, into `image`, which has room
 * for them; its seal is left to aq_sealed_write. */
aq_status aq_tuning_state_pack(const aq_state_facts *facts, const aq_parameters *parameters,
                               const aq_tune_state *state, char *image);

/* The state that a file of such an image holds. Changes the parameters only if all of it could be
 * read; MISSING if there is no such file, FORMAT or IO if it is damaged or another's. */
aq_status aq_tuning_state_read(const char *path, const aq_state_facts *facts,
                               aq_parameters *parameters, aq_tune_state *state);

#endif
