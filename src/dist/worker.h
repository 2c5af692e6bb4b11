/* A worker: the main thread of every rank, which asks for blocks and quantizes them.
 */
#ifndef AQ_DIST_WORKER_H
#define AQ_DIST_WORKER_H

#include "run/session.h"

/* Works until the coordinator says stop. A block that fails is the coordinator's to judge. */
void aq_worker_run(aq_session *session);

#endif
