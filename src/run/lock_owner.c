#include "run/lock_owner.h"

#include "base/clock.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TIME_DIGITS = 13 }; /* milliseconds of today's Unix seconds */

static void copy(char *to, size_t room, const char *from) {
    snprintf(to, room, "%s", from ? from : "");
}

static void read_line(const char *path, char *line, int room) {
    FILE *file = fopen(path, "re");
    line[0] = 0;
    if (!file) return;
    if (!fgets(line, room, file)) line[0] = 0;
    line[strcspn(line, "\n")] = 0;
    fclose(file);
}

static void read_namespace(char name[static AQ_OWNER_ID]) {
    ssize_t length = readlink("/proc/self/ns/pid", name, AQ_OWNER_ID - 1);
    name[length > 0 ? length : 0] = 0;
}

/* The ticks after the host's start when a process began; -1 if there is none, or only what its
 * parent has not yet asked for. The name, the second field, may hold anything. */
static long long start_of(long process) {
    enum { ROOM = 1024, FIELDS_BEFORE = 18 };
    char path[64], line[ROOM], state;
    snprintf(path, sizeof path, "/proc/%ld/stat", process);
    read_line(path, line, ROOM);
    char *at = strrchr(line, ')');
    if (!at || sscanf(at, ") %c", &state) != 1 || state == 'Z' || state == 'X') return -1;
    at += 2;
    for (int i = 0; i <= FIELDS_BEFORE && at; i++) at = strchr(at + 1, ' ');
    return at ? strtoll(at, NULL, 10) : -1;
}

void aq_lock_owner_self(aq_lock_owner *self) {
    const char *restarts = getenv("SLURM_RESTART_COUNT");
    *self = (aq_lock_owner){.process = (long)getpid(), .since = aq_unix_seconds()};
    gethostname(self->host, sizeof self->host - 1);
    read_line("/proc/sys/kernel/random/boot_id", self->boot, sizeof self->boot);
    read_namespace(self->namespace_);
    copy(self->job, sizeof self->job, getenv("SLURM_JOB_ID"));
    self->restarts = restarts ? strtol(restarts, NULL, 10) : 0;
    self->start = start_of(self->process);
    self->renewed = self->since;
}

static json_t *moment(double seconds) {
    return json_real(floor(seconds) + 0.5); /* always as many digits */
}

aq_status aq_lock_owner_write(const aq_lock_owner *owner, char text[static AQ_OWNER_TEXT]) {
    json_t *object = json_pack("{ss ss ss ss si sI sI so so}", "host", owner->host, "boot",
                               owner->boot, "namespace", owner->namespace_, "job", owner->job,
                               "restarts", (int)owner->restarts, "process",
                               (json_int_t)owner->process, "start", (json_int_t)owner->start,
                               "since", moment(owner->since), "renewed", moment(owner->renewed));
    size_t size = object ? json_dumpb(object, text, AQ_OWNER_TEXT - 2,
                                      JSON_COMPACT | JSON_REAL_PRECISION(TIME_DIGITS))
                         : 0;
    json_decref(object);
    AQ_REQUIRE(size && size <= AQ_OWNER_TEXT - 2, AQ_MEMORY, "no memory for the lock's text");
    text[size] = '\n';
    text[size + 1] = 0;
    return AQ_OK;
}

static aq_status read_text(const json_t *object, const char *key, char *to, size_t room) {
    const char *value;
    AQ_TRY(aq_json_text(object, key, &value));
    copy(to, room, value);
    return AQ_OK;
}

static aq_status read_object(const json_t *object, aq_lock_owner *owner) {
    AQ_TRY(read_text(object, "host", owner->host, sizeof owner->host));
    AQ_TRY(read_text(object, "boot", owner->boot, sizeof owner->boot));
    AQ_TRY(read_text(object, "namespace", owner->namespace_, sizeof owner->namespace_));
    AQ_TRY(read_text(object, "job", owner->job, sizeof owner->job));
    AQ_TRY(aq_json_positive(object, "since", &owner->since));
    AQ_TRY(aq_json_positive(object, "renewed", &owner->renewed));
    owner->restarts = (long)json_integer_value(json_object_get(object, "restarts"));
    owner->process = (long)json_integer_value(json_object_get(object, "process"));
    owner->start = json_integer_value(json_object_get(object, "start"));
    AQ_REQUIRE(owner->process > 0, AQ_FORMAT, "process: expected a process id");
    return AQ_OK;
}

aq_status aq_lock_owner_read(const char *text, size_t length, aq_lock_owner *owner) {
    json_t *object;
    *owner = (aq_lock_owner){0};
    AQ_TRY(aq_json_load(text, length, &object));
    aq_status status = read_object(object, owner);
    json_decref(object);
    return status;
}

static bool same(const char *a, const char *b) {
    return *a && strcmp(a, b) == 0;
}

aq_owner_life aq_lock_owner_life(const aq_lock_owner *owner, const aq_lock_owner *self) {
    if (same(owner->job, self->job) && owner->restarts < self->restarts) return AQ_OWNER_DEAD;
    if (same(owner->boot, self->boot) && same(owner->namespace_, self->namespace_))
        return start_of(owner->process) == owner->start ? AQ_OWNER_ALIVE : AQ_OWNER_DEAD;
    bool restarted = same(owner->host, self->host) && *owner->boot && *self->boot &&
                     strcmp(owner->boot, self->boot) != 0;
    return restarted ? AQ_OWNER_DEAD : AQ_OWNER_UNKNOWN;
}

void aq_lock_owner_describe(const aq_lock_owner *owner, char text[static AQ_OWNER_TEXT]) {
    char since[64], job[AQ_OWNER_ID + 16] = "";
    time_t seconds = (time_t)owner->since;
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S UTC", &parts);
    if (*owner->job) snprintf(job, sizeof job, " (Slurm job %s)", owner->job);
    snprintf(text, AQ_OWNER_TEXT, "process %ld on %s%s since %s", owner->process, owner->host, job,
             since);
}
