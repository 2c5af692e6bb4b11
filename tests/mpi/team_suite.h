/* What the suites share that run under mpirun: every rank runs every case, as one team.
 */
#ifndef AQ_TESTS_TEAM_SUITE_H
#define AQ_TESTS_TEAM_SUITE_H

#include "suite.h"

#include "dist/team_open.h"

/* As aq_test_backend_main, on all ranks: "cuda" gives each rank of the node its own GPU, and exits
 * with 77 where there are too few; unless AQLM_TEST_SHARED_GPU is set, when they may share. */
int aq_test_team_main(const char *suite, const aq_case *cases, int count, int argc, char **argv);

bool aq_test_shares_gpu(void);

/* The team of all ranks. */
const aq_team *aq_test_team(void);

#endif
