#include "base/stop.h"
#include "suite.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a child ends that catches signals and then runs `body`. */
static int fate_of(int (*body)(void)) {
    pid_t child = fork();
    if (child == 0) {
        aq_stop_catch();
        _exit(body());
    }
    int fate = 0;
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &fate, 0), child);
    return fate;
}

static int ask_three_ways(void) {
    if (aq_stop_wanted() || aq_stop_check() != AQ_OK) return 1;
    raise(SIGTERM);
    raise(SIGUSR1);
    raise(SIGINT);
    return aq_stop_wanted() ? 0 : 2;
}

static int check_texts(void) {
    aq_stop_request();
    bool told = aq_stop_check() == AQ_STOPPED && strstr(aq_error_text(), "stopped");
    return told && aq_watch_step(&aq_stop_watch, "phase", 1, 2) == AQ_STOPPED ? 0 : 1;
}

static int ask_again_later(void) {
    raise(SIGUSR1);
    usleep(3200 * 1000);
    raise(SIGTERM);
    return 3;
}

static void signals_ask_and_do_not_kill(void) {
    int fate = fate_of(ask_three_ways);
    CU_ASSERT_TRUE(WIFEXITED(fate) && WEXITSTATUS(fate) == 0);
}

static void a_check_is_an_error_once_asked(void) {
    int fate = fate_of(check_texts);
    CU_ASSERT_TRUE(WIFEXITED(fate) && WEXITSTATUS(fate) == 0);
}

static void a_second_signal_after_three_seconds_kills(void) {
    int fate = fate_of(ask_again_later);
    CU_ASSERT_TRUE(WIFSIGNALED(fate) && WTERMSIG(fate) == SIGTERM);
}

static const aq_case cases[] = {
    AQ_CASE(signals_ask_and_do_not_kill),
    AQ_CASE(a_check_is_an_error_once_asked),
    AQ_CASE(a_second_signal_after_three_seconds_kills),
};

int main(int argc, char **argv) {
    return aq_test_main("stop", cases, sizeof cases / sizeof *cases, argc, argv);
}
