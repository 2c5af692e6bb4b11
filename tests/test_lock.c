#include "base/stop.h"
#include "run/lock.h"
#include "suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATH_SIZE = 512 };

/* A new folder of this name, and "lock" in it. */
typedef struct place {
    char folder[PATH_SIZE], lock[PATH_SIZE + 8];
} place;

static place place_new(const char *name) {
    place made;
    snprintf(made.folder, sizeof made.folder, "%s/%s", aq_test_folder(), name);
    snprintf(made.lock, sizeof made.lock, "%s/lock", made.folder);
    CU_ASSERT_EQUAL_FATAL(mkdir(made.folder, 0700), 0);
    return made;
}

static aq_status take(const place *at, aq_lock **lock) {
    const aq_lock_settings settings = {
        .folder = at->folder, .renewal = 0.05, .silence = 0.4, .watching = 0.3};
    return aq_lock_take(&settings, lock);
}

static void forge(const place *at, const aq_lock_owner *owner) {
    char text[AQ_OWNER_TEXT];
    FILE *file = fopen(at->lock, "w");
    AQ_CHECK(aq_lock_owner_write(owner, text));
    fputs(text, file);
    fclose(file);
}

static bool is_there(const char *path) {
    return access(path, F_OK) == 0;
}

static int count_files(const place *at) {
    char command[PATH_SIZE + 64];
    int count = -1;
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", at->folder);
    FILE *output = popen(command, "r");
    if (fscanf(output, "%d", &count) != 1) count = -1;
    pclose(output);
    return count;
}

static void pause_for(double seconds) {
    const struct timespec time = {.tv_nsec = (long)(1e9 * seconds)};
    nanosleep(&time, NULL);
}

static void lock_is_there_while_it_is_held_and_alone(void) {
    place at = place_new("held");
    aq_lock *lock;
    AQ_CHECK(take(&at, &lock));
    CU_ASSERT_TRUE(is_there(at.lock));
    CU_ASSERT_EQUAL(count_files(&at), 1);
    AQ_CHECK(aq_lock_release(lock));
    CU_ASSERT_EQUAL(count_files(&at), 0);
}

static void held_lock_is_refused_naming_its_owner(void) {
    place at = place_new("refused");
    aq_lock *first, *second;
    char process[32];
    snprintf(process, sizeof process, "process %d on ", (int)getpid());
    AQ_CHECK(take(&at, &first));
    AQ_CHECK_FAILS(take(&at, &second), AQ_INVALID, process);
    AQ_CHECK_FAILS(take(&at, &second), AQ_INVALID, "--break-lock");
    CU_ASSERT_PTR_NULL(second);
    AQ_CHECK(aq_lock_release(first));
    AQ_CHECK(take(&at, &first));
    AQ_CHECK(aq_lock_release(first));
}

/* The lock of a child that died without giving it back. */
static void leave_a_dead_childs_lock(const place *at) {
    pid_t child = fork();
    aq_lock *lock;
    if (child == 0) _exit(take(at, &lock) != AQ_OK);
    int result;
    CU_ASSERT_EQUAL(waitpid(child, &result, 0), child);
    CU_ASSERT_EQUAL(result, 0);
    CU_ASSERT_TRUE(is_there(at->lock));
}

static void lock_of_a_dead_process_is_taken_over(void) {
    place at = place_new("dead");
    aq_lock *lock;
    leave_a_dead_childs_lock(&at);
    AQ_CHECK(take(&at, &lock));
    CU_ASSERT_EQUAL(count_files(&at), 1);
    AQ_CHECK(aq_lock_release(lock));
}

static void another_process_with_the_owners_id_is_not_the_owner(void) {
    place at = place_new("reused");
    aq_lock_owner owner;
    aq_lock *lock;
    aq_lock_owner_self(&owner);
    owner.start--;
    forge(&at, &owner);
    AQ_CHECK(take(&at, &lock));
    AQ_CHECK(aq_lock_release(lock));
}

static void lock_from_before_the_hosts_restart_is_taken_over(void) {
    place at = place_new("rebooted");
    aq_lock_owner owner, self;
    aq_lock *lock;
    aq_lock_owner_self(&owner);
    self = owner;
    snprintf(owner.boot, sizeof owner.boot, "another");
    CU_ASSERT_EQUAL(aq_lock_owner_life(&owner, &self), AQ_OWNER_DEAD);
    forge(&at, &owner);
    AQ_CHECK(take(&at, &lock));
    AQ_CHECK(aq_lock_release(lock));
}

static aq_lock_owner stranger(void) {
    aq_lock_owner owner;
    aq_lock_owner_self(&owner);
    snprintf(owner.host, sizeof owner.host, "elsewhere");
    snprintf(owner.boot, sizeof owner.boot, "another");
    return owner;
}

static void requeued_slurm_job_takes_its_own_lock(void) {
    aq_lock_owner owner = stranger(), self = owner;
    snprintf(owner.job, sizeof owner.job, "17");
    snprintf(self.job, sizeof self.job, "17");
    snprintf(self.boot, sizeof self.boot, "mine");
    snprintf(self.host, sizeof self.host, "here");
    CU_ASSERT_EQUAL(aq_lock_owner_life(&owner, &self), AQ_OWNER_UNKNOWN);
    self.restarts = 1;
    CU_ASSERT_EQUAL(aq_lock_owner_life(&owner, &self), AQ_OWNER_DEAD);
    snprintf(self.job, sizeof self.job, "18");
    CU_ASSERT_EQUAL(aq_lock_owner_life(&owner, &self), AQ_OWNER_UNKNOWN);
}

static void silent_owner_elsewhere_is_dead(void) {
    place at = place_new("silent");
    aq_lock_owner owner = stranger();
    aq_lock *lock;
    forge(&at, &owner);
    AQ_CHECK(take(&at, &lock));
    AQ_CHECK(aq_lock_release(lock));
}

static void renewed_owner_elsewhere_lives(void) {
    place at = place_new("renewed");
    aq_lock_owner owner = stranger();
    aq_lock *lock;
    forge(&at, &owner);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 1; i < 20; i++) {
            pause_for(0.1);
            owner.renewed += 1;
            forge(&at, &owner);
        }
        _exit(0);
    }
    AQ_CHECK_FAILS(take(&at, &lock), AQ_INVALID, "on elsewhere");
    waitpid(child, NULL, 0);
    AQ_CHECK(take(&at, &lock));
    AQ_CHECK(aq_lock_release(lock));
}

static void damaged_lock_is_watched_then_taken(void) {
    place at = place_new("garbage");
    FILE *file = fopen(at.lock, "w");
    aq_lock *lock;
    fputs("{\"host\":", file);
    fclose(file);
    AQ_CHECK(take(&at, &lock));
    AQ_CHECK(aq_lock_release(lock));
}

static void broken_lock_is_taken_and_its_owner_learns_it(void) {
    place at = place_new("broken");
    const aq_lock_settings settings = {.folder = at.folder, .broken = true};
    aq_lock *first, *second;
    AQ_CHECK(take(&at, &first));
    AQ_CHECK(aq_lock_take(&settings, &second));
    CU_ASSERT_FALSE(aq_stop_wanted());
    for (int i = 0; i < 50 && !aq_stop_wanted(); i++) pause_for(0.1);
    CU_ASSERT_TRUE(aq_stop_wanted());
    AQ_CHECK_FAILS(aq_lock_release(first), AQ_INVALID, "no more this job's");
    CU_ASSERT_TRUE(is_there(at.lock));
    AQ_CHECK(aq_lock_release(second));
    CU_ASSERT_FALSE(is_there(at.lock));
}

static void renewals_change_the_file_and_not_its_length(void) {
    aq_lock_owner owner;
    char early[AQ_OWNER_TEXT], late[AQ_OWNER_TEXT];
    aq_lock_owner_self(&owner);
    AQ_CHECK(aq_lock_owner_write(&owner, early));
    owner.renewed += 10;
    AQ_CHECK(aq_lock_owner_write(&owner, late));
    CU_ASSERT_STRING_NOT_EQUAL(early, late);
    CU_ASSERT_EQUAL(strlen(early), strlen(late));
}

/* A child that takes the lock tells "in" and, while it holds it, that nobody else does. */
static void contend(const place *at, const char *holding) {
    aq_lock *lock;
    if (take(at, &lock) != AQ_OK) _exit(1);
    int mark = open(holding, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (mark < 0) _exit(2);
    pause_for(0.5);
    unlink(holding);
    _exit(aq_lock_release(lock) == AQ_OK ? 0 : 3);
}

static void one_of_many_takers_wins(void) {
    enum { TAKERS = 8, ROUNDS = 4 };
    for (int round = 0; round < ROUNDS; round++) {
        char name[32], holding[PATH_SIZE];
        snprintf(name, sizeof name, "race-%d", round);
        snprintf(holding, sizeof holding, "%s/holding-%d", aq_test_folder(), round);
        place at = place_new(name);
        leave_a_dead_childs_lock(&at);
        pid_t children[TAKERS];
        int winners = 0, intruders = 0;
        for (int i = 0; i < TAKERS; i++)
            if ((children[i] = fork()) == 0) contend(&at, holding);
        for (int i = 0, result; i < TAKERS; i++) {
            waitpid(children[i], &result, 0);
            winners += WEXITSTATUS(result) == 0;
            intruders += WEXITSTATUS(result) > 1;
        }
        CU_ASSERT_EQUAL(winners, 1);
        CU_ASSERT_EQUAL(intruders, 0);
        CU_ASSERT_EQUAL(count_files(&at), 0);
    }
}

static void folder_that_cannot_be_written_is_named(void) {
    place at = {.folder = "/proc/self"};
    aq_lock *lock;
    CU_ASSERT_NOT_EQUAL(take(&at, &lock), AQ_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(aq_error_text(), "/proc/self/lock"));
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(lock_is_there_while_it_is_held_and_alone),
        AQ_CASE(held_lock_is_refused_naming_its_owner),
        AQ_CASE(lock_of_a_dead_process_is_taken_over),
        AQ_CASE(another_process_with_the_owners_id_is_not_the_owner),
        AQ_CASE(lock_from_before_the_hosts_restart_is_taken_over),
        AQ_CASE(requeued_slurm_job_takes_its_own_lock),
        AQ_CASE(silent_owner_elsewhere_is_dead),
        AQ_CASE(renewed_owner_elsewhere_lives),
        AQ_CASE(damaged_lock_is_watched_then_taken),
        AQ_CASE(renewals_change_the_file_and_not_its_length),
        AQ_CASE(folder_that_cannot_be_written_is_named),
        AQ_CASE(one_of_many_takers_wins),
        AQ_CASE(broken_lock_is_taken_and_its_owner_learns_it)}; /* last: it asks to stop */
    return aq_test_main("lock", cases, sizeof cases / sizeof *cases, argc, argv);
}
