/* Whether all ranks of a run are the same program with the same settings.
 */
#ifndef AQ_DIST_START_CHECK_H
#define AQ_DIST_START_CHECK_H

#include "dist/ranks.h"
#include "run/config.h"

/* Collective. INVALID on every rank if one runs another program file than rank 0, or with another
 * setting: the text names its rank and host, and the setting's line on both. */
aq_status aq_start_check(const aq_ranks *ranks, const aq_config *config);

#endif
