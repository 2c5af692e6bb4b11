/* The parts of the program that `aqlm-mpi bench` measures, one file each.
 *
 * Each takes the command line from its own name on (argv[0] = "aqlm-mpi bench layer") and prints
 * its results.
 */
#ifndef AQ_JOBS_BENCH_H
#define AQ_JOBS_BENCH_H

#include "base/status.h"

aq_status aq_bench_rates(int argc, char **argv);
aq_status aq_bench_layer(int argc, char **argv);
aq_status aq_bench_tune(int argc, char **argv);
aq_status aq_bench_block(int argc, char **argv);
aq_status aq_bench_relay(int argc, char **argv);
aq_status aq_bench_coordinator(int argc, char **argv);

#endif
