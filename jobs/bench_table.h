/* What `aqlm-mpi bench layer|tune|block` print: a row a phase. */
#ifndef AQ_JOBS_BENCH_TABLE_H
#define AQ_JOBS_BENCH_TABLE_H

#include "run/machine.h"

#include <jansson.h>

typedef struct aq_bench_row {
    const char *phase;
    double seconds; /* median */
    aq_work work;   /* its floor and rate are counted from; all zero: neither is printed */
} aq_bench_row;

/* "4096x4096" into rows and columns; INVALID otherwise. */
aq_status aq_bench_read_layer(const char *text, size_t *out, size_t *in);

/* Measures the machine with a backend of its own, whose memory does not count in the peak of the
 * one that is opened then: *backend, the caller's to close. */
aq_status aq_bench_open(const char *name, aq_machine *machine, aq_backend **backend);

/* The head of a table, with the machine's rates; then each row. */
void aq_bench_print_head(aq_backend *backend, const aq_machine *machine);
void aq_bench_print_row(const aq_bench_row *row, const aq_machine *machine);

/* "peak memory of the device ..." */
void aq_bench_print_peak(aq_backend *backend);

/* The same as JSON, the caller's: rows as {"phase", "seconds", "rate", "unit", "floor_seconds",
 * "fraction_of_floor"}; NULL if there is no memory. */
json_t *aq_bench_row_json(const aq_bench_row *row, const aq_machine *machine);
json_t *aq_bench_peak_json(aq_backend *backend);
json_t *aq_bench_machine_json(aq_backend *backend, const aq_machine *machine);

#endif
