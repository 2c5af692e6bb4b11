/* Waiting for MPI without burning a core.
 */
#ifndef AQ_DIST_POLLING_H
#define AQ_DIST_POLLING_H

#include <mpi.h>

/* Sleeps about a millisecond. */
void aq_polling_nap(void);

/* The same for the main thread in a wait that is in order: beats the pulse (base/pulse.h). */
void aq_polling_pause(void);

/* Waits until the request is complete, pausing. */
void aq_polling_wait(MPI_Request *request);

#endif
