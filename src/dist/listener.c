#include "dist/listener.h"

#include "base/stop.h"
#include "dist/messages.h"
#include "dist/polling.h"

#include <string.h>

/* Only posts while it listens: the coordinator may be sending to this listener at the same time,
 * and must find it receiving. */
static void *listen(void *state) {
    static const aq_message stop = {.kind = AQ_MESSAGE_STOP}, farewell = {.kind = AQ_MESSAGE_END};
    aq_message message = {.kind = AQ_MESSAGE_STOP};
    MPI_Request request = MPI_REQUEST_NULL;
    (void)state;
    for (bool known = false; message.kind != AQ_MESSAGE_END;) {
        int coordinator;
        bool wanted = aq_stop_wanted();
        if (wanted && !known) aq_message_post(AQ_TO_COORDINATOR, 0, &stop, &request);
        known = wanted;
        if (!aq_message_poll(AQ_TO_LISTENER, &message, &coordinator))
            aq_polling_pause();
        else if (message.kind == AQ_MESSAGE_STOP)
            aq_stop_request();
    }
    aq_polling_wait(&request);
    aq_message_send(AQ_TO_COORDINATOR, 0, &farewell);
    return NULL;
}

aq_status aq_listener_start(aq_listener *listener) {
    int failure = pthread_create(&listener->thread, NULL, listen, NULL);
    listener->started = !failure;
    AQ_REQUIRE(!failure, AQ_MEMORY, "the listener's thread cannot be started: %s",
               strerror(failure));
    return AQ_OK;
}

void aq_listener_join(aq_listener *listener) {
    if (listener->started)
        pthread_join(listener->thread, NULL);
    else
        listen(NULL);
}
