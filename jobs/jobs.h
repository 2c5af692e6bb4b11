/* The commands of aqlm-mpi: one file each, thin: parse, call, print.
 *
 * Jobs are the only code that prints results and decides the exit status: 0 success, 1 failure.
 * Results go to stdout, everything else to stderr.
 */
#ifndef AQ_JOBS_JOBS_H
#define AQ_JOBS_JOBS_H

#include "base/status.h"
#include "tensor/ops.h"

/* Each takes the command line from its own name on (argv[0] = "quantize") and returns the exit
 * status. */
int aq_job_quantize(int argc, char **argv);
int aq_job_evaluate(int argc, char **argv);
int aq_job_export(int argc, char **argv);
int aq_job_bench(int argc, char **argv);
int aq_job_info(int argc, char **argv);

/* Prints "aqlm-mpi: error: <last error's text>" to stderr and returns 1. */
int aq_job_fail(void);

/* Opens the backend that `name` asks for: "cpu", "cuda", or "auto" (CUDA where a device can be
 * used, else the CPU); NULL is "auto". `device` counts this process among its node's (0 for a
 * single process). INVALID for another name; DEVICE or UNSUPPORTED with a reason for "cuda" where
 * it cannot be had. */
aq_status aq_job_backend(const char *name, int device, aq_backend **backend);

/* argp's parser for --version and the bug address, set up once in main (argp_program_version and so
 * on). */

#endif
