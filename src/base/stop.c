#include "base/stop.h"

#include "base/pulse.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { SAME_REQUEST_SECONDS = 3 };

static atomic_bool wanted;
static atomic_llong first_signal; /* nanoseconds; 0: none came */

/* Never 0. */
static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec + 1;
}

static void quit(int number) {
    signal(number, SIG_DFL);
    raise(number); /* arrives when the handler returns */
}

static void on_signal(int number) {
    int kept = errno;
    long long none = 0, time = now();
    bool first = atomic_compare_exchange_strong(&first_signal, &none, time);
    if (!first && time - none > SAME_REQUEST_SECONDS * 1000000000LL) quit(number);
    atomic_store(&wanted, true);
    errno = kept;
}

void aq_stop_catch(void) {
    static const int numbers[] = {SIGTERM, SIGUSR1, SIGINT};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

void aq_stop_request(void) {
    atomic_store(&wanted, true);
}

bool aq_stop_wanted(void) {
    return atomic_load(&wanted);
}

aq_status aq_stop_check(void) {
    aq_pulse_beat();
    AQ_REQUIRE(!aq_stop_wanted(), AQ_STOPPED, "stopped on request");
    return AQ_OK;
}

static aq_status check_step(const aq_watch *watch, const char *phase, int done, int total) {
    (void)watch, (void)phase, (void)done, (void)total;
    return aq_stop_check();
}

static void ignore_epoch(const aq_watch *watch, int epoch, double training_error,
                         double validation_error, double seconds) {
    (void)watch, (void)epoch, (void)training_error, (void)validation_error, (void)seconds;
}

const aq_watch aq_stop_watch = {.step = check_step, .epoch = ignore_epoch};
