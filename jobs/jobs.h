/* The commands of aqlm-mpi: one file each, thin: parse, call, print.
 *
 * Jobs are the only code that prints results and decides the exit status: 0 success, 1 failure, 75
 * stopped on request: the same command goes on.
 * Results go to stdout, everything else to stderr.
 */
#ifndef AQ_JOBS_JOBS_H
#define AQ_JOBS_JOBS_H

#include "base/status.h"
#include "tensor/ops.h"

#include <argp.h>
#include <jansson.h>

/* Each takes the command line from its own name on (argv[0] = "aqlm-mpi quantize", so that usage
 * lines come out right) and returns the exit status. */
int aq_job_quantize(int argc, char **argv);
int aq_job_evaluate(int argc, char **argv);
int aq_job_export(int argc, char **argv);
int aq_job_bench(int argc, char **argv);
int aq_job_info(int argc, char **argv);
int aq_job_plan(int argc, char **argv);
int aq_job_status(int argc, char **argv);

/* Parses a command line with `argp` (borrowed), whose parser gets `input` as state->input. --help,
 * --usage and --version are added; they print to stdout and exit with 0.
 *
 * A fault is one line, not argp's two: argp_error and argp_usage say nothing here. The parser
 * reports with `return AQ_FAIL(AQ_INVALID, ...)` (or passes an error of aq_config_set on); for an
 * argument too many it returns ARGP_ERR_UNKNOWN. Every fault comes back with its text set. */
aq_status aq_job_parse(const struct argp *argp, int argc, char **argv, void *input);

/* Reads the value of an option, an integer from `least` to `most`; INVALID naming the option. */
aq_status aq_job_number_of(const char *option, const char *text, long least, long most,
                           long *number);

/* The same for a number above 0 and up to `most`. */
aq_status aq_job_real_of(const char *option, const char *text, double most, double *number);

/* A number as JSON; null if it is not finite. */
json_t *aq_job_number(double value);

/* Prints a line with `object` (taken); `flags` are json_dumps's. */
void aq_job_print_json(json_t *object, size_t flags);

/* Prints "aqlm-mpi: error: <last error's text>" to stderr and returns 1. Under a launcher only the
 * first rank prints. */
int aq_job_fail(void);

/* From now on a fault of a mapped file, of whatever thread, writes "aqlm-mpi: error: a file that is
 * being read was truncated or its storage failed (PATH)" to stderr and ends the process with 1.
 * Other causes of SIGBUS end it as if they were not caught. MPI_Init must come before: it catches
 * SIGBUS too. */
void aq_job_catch_map_faults(void);

/* Prints "aqlm-mpi: <last error's text>; to go on: <the command that started these ranks>" to
 * stderr and returns 75. Under a launcher only the first rank prints. */
int aq_job_stopped(int ranks);

/* Opens the backend that `name` asks for: "cpu", "cuda", or "auto" (CUDA where a device can be
 * used, else the CPU); NULL is "auto". `device` counts this process among its node's (0 for a
 * single process); processes share devices in turn where there are fewer. INVALID for another name;
 * DEVICE or UNSUPPORTED with a reason for "cuda" where it cannot be had. */
aq_status aq_job_backend(const char *name, int device, aq_backend **backend);

#endif
