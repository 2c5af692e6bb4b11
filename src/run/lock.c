#include "run/lock.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stop.h"
#include "run/lock_file.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct aq_lock {
    aq_lock_file file;
    double renewal;
    bool renewing, ending, lost; /* under the mutex while the thread works */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t end;
};

enum { ATTEMPTS = 50 };
static const double SETTLING = 0.2, LOOKING = 0.5, RENEWAL = 10, SILENCE = 60, WATCHING = 15;

static void pause_for(double seconds) {
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)(1e9 * (seconds - (double)time.tv_sec));
    nanosleep(&time, NULL);
}

static double or_default(double value, double usual) {
    return value > 0 ? value : usual;
}

/* ---- taking ---- */

static void describe(const aq_lock_look *look, char text[static AQ_OWNER_TEXT]) {
    aq_lock_owner owner;
    if (aq_lock_owner_read(look->text, strlen(look->text), &owner) == AQ_OK)
        aq_lock_owner_describe(&owner, text);
    else
        snprintf(text, AQ_OWNER_TEXT, "a job that the file does not tell");
}

static aq_status refuse(const aq_lock_settings *settings, const aq_lock_look *look) {
    char owner[AQ_OWNER_TEXT];
    describe(look, owner);
    return AQ_FAIL(AQ_INVALID,
                   "%s: another job works in this directory: %s; wait for its end or stop it (if "
                   "it is dead for certain: --break-lock)",
                   settings->folder, owner);
}

static aq_owner_life life_of(const aq_lock_file *file, const aq_lock_look *look) {
    aq_lock_owner owner;
    if (aq_lock_owner_read(look->text, strlen(look->text), &owner) != AQ_OK)
        return AQ_OWNER_UNKNOWN;
    return aq_lock_owner_life(&owner, &file->owner);
}

static void tell_watching(const aq_lock_settings *settings, const aq_lock_look *look,
                          double seconds) {
    char owner[AQ_OWNER_TEXT];
    describe(look, owner);
    aq_log_info("%s: locked by %s: watching for up to %.0f s whether it still lives",
                settings->folder, owner, seconds);
}

/* Whoever changes or removes the file lives; *dead after enough silence. */
static aq_status watch(const aq_lock_settings *settings, const aq_lock_file *file,
                       const aq_lock_look *first, bool *dead) {
    double silence = or_default(settings->silence, SILENCE) - first->age;
    double least = or_default(settings->watching, WATCHING);
    double seconds = silence > least ? silence : least, start = aq_seconds();
    tell_watching(settings, first, seconds);
    for (*dead = false; aq_seconds() - start < seconds;) {
        aq_lock_look look;
        AQ_TRY(aq_stop_check());
        pause_for(seconds < LOOKING ? seconds / 10 : LOOKING);
        aq_status status = aq_lock_file_look(file, &look);
        if (status == AQ_MISSING) return AQ_OK;
        AQ_TRY(status);
        if (strcmp(look.text, first->text) == 0) continue;
        return life_of(file, &look) == AQ_OWNER_DEAD ? AQ_OK : refuse(settings, &look);
    }
    *dead = true;
    return AQ_OK;
}

/* A job that was just killed may take a moment to die, and one that ends to give the lock back. */
static aq_status await_end(const aq_lock_settings *settings, const aq_lock_file *file,
                           aq_lock_look *look) {
    double patience = or_default(settings->watching, WATCHING) / 5, start = aq_seconds();
    while (aq_seconds() - start < patience) {
        AQ_TRY(aq_stop_check());
        pause_for(patience / 30);
        AQ_TRY(aq_lock_file_look(file, look));
        if (life_of(file, look) != AQ_OWNER_ALIVE) return AQ_OK;
    }
    return refuse(settings, look);
}

/* Removes the lock if its owner is dead; INVALID if it lives. */
static aq_status clear(const aq_lock_settings *settings, const aq_lock_file *file) {
    aq_lock_look look;
    char owner[AQ_OWNER_TEXT];
    aq_status status = aq_lock_file_look(file, &look);
    if (status == AQ_MISSING) return AQ_OK;
    AQ_TRY(status);
    aq_owner_life life = settings->broken ? AQ_OWNER_DEAD : life_of(file, &look);
    if (life == AQ_OWNER_ALIVE) {
        status = await_end(settings, file, &look);
        return status == AQ_MISSING ? AQ_OK : status;
    }
    bool dead = life == AQ_OWNER_DEAD;
    if (!dead) AQ_TRY(watch(settings, file, &look, &dead));
    if (!dead) return AQ_OK;
    status = aq_lock_file_remove(file, &look);
    if (status == AQ_MISSING) return AQ_OK;
    AQ_TRY(status);
    describe(&look, owner);
    aq_log_info("%s: the lock of %s is taken over", settings->folder, owner);
    return AQ_OK;
}

/* A job that judged the same dead owner more slowly may have taken our lock away for a moment. */
static bool settled(const aq_lock_file *file) {
    pause_for(SETTLING);
    return !aq_lock_file_lost(file);
}

static aq_status take(const aq_lock_settings *settings, aq_lock_file *file) {
    bool cleared = false;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        bool made;
        AQ_TRY(aq_stop_check());
        AQ_TRY(aq_lock_file_make(file, &made));
        if (made && (!cleared || settled(file))) return AQ_OK;
        AQ_TRY(clear(settings, file));
        cleared = true;
    }
    return AQ_FAIL(AQ_INVALID, "%s: other jobs take the lock again and again", settings->folder);
}

/* ---- keeping ---- */

/* A slow rival may hold the name for a moment before it puts it back. */
static bool is_lost(const aq_lock_file *file) {
    return aq_lock_file_lost(file) && !settled(file);
}

static struct timespec moment_in(double seconds) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    moment.tv_sec += (time_t)seconds;
    moment.tv_nsec += (long)(1e9 * (seconds - (double)(time_t)seconds));
    if (moment.tv_nsec >= 1000000000) {
        moment.tv_sec++;
        moment.tv_nsec -= 1000000000;
    }
    return moment;
}

static void *renew(void *state) {
    aq_lock *lock = state;
    pthread_mutex_lock(&lock->mutex);
    while (!lock->ending && !lock->lost) {
        const struct timespec next = moment_in(lock->renewal);
        if (pthread_cond_timedwait(&lock->end, &lock->mutex, &next) != ETIMEDOUT) continue;
        aq_lock_file_renew(&lock->file);
        lock->lost = is_lost(&lock->file);
    }
    if (lock->lost) aq_stop_request();
    pthread_mutex_unlock(&lock->mutex);
    return NULL;
}

static aq_status start_renewing(aq_lock *lock) {
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->end, &clock);
    pthread_condattr_destroy(&clock);
    int failure = pthread_create(&lock->thread, NULL, renew, lock);
    lock->renewing = !failure;
    AQ_REQUIRE(!failure, AQ_MEMORY, "the lock's thread cannot be started: %s", strerror(failure));
    return AQ_OK;
}

aq_status aq_lock_take(const aq_lock_settings *settings, aq_lock **lock) {
    *lock = NULL;
    aq_lock *made = calloc(1, sizeof *made);
    AQ_REQUIRE(made, AQ_MEMORY, "out of memory");
    made->renewal = or_default(settings->renewal, RENEWAL);
    aq_status status;
    AQ_STEP(aq_lock_file_open(settings->folder, &made->file));
    AQ_STEP(take(settings, &made->file));
    AQ_STEP(start_renewing(made));
    *lock = made;
    return AQ_OK;
done:
    if (made->file.file >= 0 && !aq_lock_file_lost(&made->file)) unlink(made->file.path);
    aq_lock_file_close(&made->file);
    free(made);
    return status;
}

static void end_renewing(aq_lock *lock) {
    pthread_mutex_lock(&lock->mutex);
    lock->ending = true;
    pthread_cond_signal(&lock->end);
    pthread_mutex_unlock(&lock->mutex);
    pthread_join(lock->thread, NULL);
    pthread_cond_destroy(&lock->end);
    pthread_mutex_destroy(&lock->mutex);
}

aq_status aq_lock_release(aq_lock *lock) {
    if (!lock) return AQ_OK;
    end_renewing(lock);
    aq_status status = AQ_OK;
    if (lock->lost || is_lost(&lock->file))
        status =
            AQ_FAIL(AQ_INVALID, "%s is no more this job's (removed, or taken over by another job)",
                    lock->file.path);
    else
        unlink(lock->file.path);
    aq_lock_file_close(&lock->file);
    free(lock);
    return status;
}
