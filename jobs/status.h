/* What `aqlm-mpi status` shows, as text (status.c) and as JSON (status_json.c).
 */
#ifndef AQ_JOBS_STATUS_H
#define AQ_JOBS_STATUS_H

#include "run/run_status.h"

#include <jansson.h>

/* "in work" */
const char *aq_job_block_state_name(aq_block_state state);

/* Seconds from a moment (Unix time) to `now`, at least 0; NaN if it is. */
double aq_job_seconds_since(double moment, double now);

json_t *aq_job_status_json(const aq_run_status *status, double now);

#endif
