/* Waiting for MPI without burning a core.
 */
#ifndef AQ_DIST_POLLING_H
#define AQ_DIST_POLLING_H

#include <mpi.h>

/* Sleeps about a millisecond. */
void aq_polling_pause(void);

/* Waits until the request is complete. */
void aq_polling_wait(MPI_Request *request);

#endif
