#include "dist/polling.h"

#include "base/pulse.h"

#include <time.h>

void aq_polling_nap(void) {
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    nanosleep(&pause, NULL);
}

void aq_polling_pause(void) {
    aq_pulse_beat();
    aq_polling_nap();
}

void aq_polling_wait(MPI_Request *request) {
    int complete = 0;
    for (;;) {
        MPI_Test(request, &complete, MPI_STATUS_IGNORE);
        if (complete) return;
        aq_polling_pause();
    }
}
