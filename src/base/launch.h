/* What the launcher of parallel jobs says in the environment that the program starts with. */
#ifndef AQ_BASE_LAUNCH_H
#define AQ_BASE_LAUNCH_H

#include <stdbool.h>

/* This process's rank in its job; 0 if no launcher started it. Read from the variables of Open MPI,
 * of PMI (MPICH, Intel MPI) and of PMIx, in this order. */
int aq_launch_rank(void);

/* True if a launcher started this process, even alone. */
bool aq_launched(void);

/* The launcher's name for the user: "mpirun", "srun" or "mpiexec"; NULL if there was none. */
const char *aq_launcher(void);

#endif
