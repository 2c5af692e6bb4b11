/* One clear line and exit status 1 in the place of a crash, where a mapped file shrinks, or its
 * storage fails, while it is read. */
#include "base/map_table.h"
#include "jobs.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static void append(char *line, size_t *length, const char *text) {
    size_t more = strlen(text);
    memcpy(line + *length, text, more);
    *length += more;
}

static void report(const char *path) {
    char line[AQ_MAP_PATH + 128];
    size_t length = 0;
    append(line, &length,
           "aqlm-mpi: error: a file that is being read was truncated or its storage failed");
    if (path) {
        append(line, &length, " (");
        append(line, &length, path);
        append(line, &length, ")");
    }
    append(line, &length, "\n");
    if (write(STDERR_FILENO, line, length) < 0) return; /* nobody is left to be told */
}

static void on_fault(int number, siginfo_t *info, void *context) {
    static atomic_flag told = ATOMIC_FLAG_INIT;
    (void)context;
    if (info->si_code != BUS_ADRERR) { /* not a page that could not be had */
        signal(number, SIG_DFL);
        raise(number); /* arrives when the handler returns */
        return;
    }
    while (atomic_flag_test_and_set(&told)) pause(); /* another thread tells, and ends all */
    report(aq_map_path((uintptr_t)info->si_addr));
    _exit(1);
}

void aq_job_catch_map_faults(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
