#include "bench_table.h"

#include "jobs.h"

#include <stdio.h>
#include <string.h>

enum { NAME_SIZE = 128, MOST_SIDE = 1 << 20 };

aq_status aq_bench_read_layer(const char *text, size_t *out, size_t *in) {
    char end;
    int fields = sscanf(text, "%zux%zu%c", out, in, &end);
    AQ_REQUIRE(fields == 2 && strspn(text, "0123456789x") == strlen(text) && *out >= 1 &&
                   *out <= MOST_SIDE && *in >= 1 && *in <= MOST_SIDE,
               AQ_INVALID, "--shape: expected OUTxIN such as 4096x4096, each at most %d, found %s",
               MOST_SIDE, text);
    return AQ_OK;
}

aq_status aq_bench_open(const char *name, aq_machine *machine, aq_backend **backend) {
    AQ_TRY(aq_job_backend(name, 0, backend));
    aq_status status = aq_machine_measure(*backend, machine);
    aq_backend_close(*backend);
    AQ_TRY(status);
    return aq_job_backend(name, 0, backend);
}

/* What a phase does most of, for its rate. */
static double amount_of(const aq_work *work, const char **unit) {
    double flops = work->products + work->halves;
    *unit = flops > 0 ? "FLOP" : "bytes";
    return flops > 0 ? flops : work->bytes;
}

void aq_bench_print_head(aq_backend *backend, const aq_machine *machine) {
    char name[NAME_SIZE];
    aq_backend_device(backend, name, sizeof name);
    printf("%s (%s): copies %.3g bytes/s; products %.3g (float32), %.3g (fast), %.3g (half) "
           "FLOP/s\n\n",
           name, aq_backend_name(backend), machine->copy, machine->precise, machine->fast,
           machine->half);
    printf("%-26s %12s %14s %12s %10s\n", "", "seconds", "a second", "floor", "of floor");
}

void aq_bench_print_row(const aq_bench_row *row, const aq_machine *machine) {
    const char *unit;
    double amount = amount_of(&row->work, &unit);
    double floor = aq_work_floor(&row->work, machine);
    printf("%-26s %12.6f", row->phase, row->seconds);
    if (amount > 0)
        printf(" %8.3g %-5s %12.6f %9.1f%%", amount / row->seconds, unit, floor,
               100 * floor / row->seconds);
    putchar('\n');
}

void aq_bench_print_peak(aq_backend *backend) {
    size_t bytes;
    if (aq_backend_peak(backend, &bytes) == AQ_OK)
        printf("peak memory: %.1f MB of the backend's\n", 1e-6 * (double)bytes);
}

json_t *aq_bench_peak_json(aq_backend *backend) {
    size_t bytes;
    return aq_backend_peak(backend, &bytes) == AQ_OK ? json_integer((json_int_t)bytes)
                                                     : json_null();
}

json_t *aq_bench_row_json(const aq_bench_row *row, const aq_machine *machine) {
    const char *unit;
    double amount = amount_of(&row->work, &unit);
    double floor = aq_work_floor(&row->work, machine);
    if (amount <= 0) return json_pack("{ss sf}", "phase", row->phase, "seconds", row->seconds);
    return json_pack("{ss sf sf ss sf sf}", "phase", row->phase, "seconds", row->seconds, "rate",
                     amount / row->seconds, "unit", unit, "floor_seconds", floor,
                     "fraction_of_floor", floor / row->seconds);
}

json_t *aq_bench_machine_json(aq_backend *backend, const aq_machine *machine) {
    char name[NAME_SIZE];
    aq_backend_device(backend, name, sizeof name);
    return json_pack("{ss ss sf sf sf sf}", "device", name, "backend", aq_backend_name(backend),
                     "copy_bytes", machine->copy, "precise_flops", machine->precise, "fast_flops",
                     machine->fast, "half_flops", machine->half);
}
