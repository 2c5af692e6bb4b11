/* LD_PRELOAD library: lets a chosen call on a chosen file fail, or kills the process there.
 *
 *     AQLM_FAULT=CALL:PATTERN:N:ACTION[:RANK]
 *
 * CALL: create (an open that makes or empties the file), write (pwrite too), sync, rename (matched
 * by its new name), close, truncate, or any of these; or open (any other open). PATTERN: fnmatch
 * over the path, where * also stands for slashes. N: from 1, of the calls that match. ACTION: kill
 * (before the call), after (kill behind it), half (write half the bytes, then kill), hang (never
 * return), or ENOSPC, EDQUOT, EIO, EACCES (that call and all later ones that match fail; a failing
 * close closes all the same). RANK: only there (Open MPI's). AQLM_FAULT_LOG=FILE: every call that
 * matches is written there as a line "CALL PATH".
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum action { PASS, KILL, AFTER, HALF, HANG, FAIL } action;

static struct {
    char call[16], pattern[PATH_MAX], log[PATH_MAX];
    long turn;
    action act;
    int code;
    bool armed;
    atomic_long count;
} fault;

static bool parse_action(const char *text) {
    static const struct {
        const char *name;
        action act;
        int code;
    } known[] = {{"kill", KILL, 0},  {"after", AFTER, 0},      {"half", HALF, 0},
                 {"hang", HANG, 0},  {"ENOSPC", FAIL, ENOSPC}, {"EDQUOT", FAIL, EDQUOT},
                 {"EIO", FAIL, EIO}, {"EACCES", FAIL, EACCES}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, text) != 0) continue;
        fault.act = known[i].act;
        fault.code = known[i].code;
        return true;
    }
    return false;
}

__attribute__((constructor)) static void read_environment(void) {
    const char *text = getenv("AQLM_FAULT"), *log = getenv("AQLM_FAULT_LOG");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    char act[16], where[16] = "";
    if (!text) return;
    int fields = sscanf(text, "%15[^:]:%4095[^:]:%ld:%15[^:]:%15s", fault.call, fault.pattern,
                        &fault.turn, act, where);
    if (fields < 4 || !parse_action(act)) {
        fprintf(stderr, "AQLM_FAULT=%s is not CALL:PATTERN:N:ACTION[:RANK]\n", text);
        abort();
    }
    fault.armed = !*where || (rank && strcmp(rank, where) == 0);
    snprintf(fault.log, sizeof fault.log, "%s", log ? log : "");
}

/* ISO C has no cast from an object's pointer to a function's. */
static void next(const char *name, void *call) {
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(call, &found, sizeof found);
}

static ssize_t write_truly(int file, const void *bytes, size_t size) {
    static ssize_t (*call)(int, const void *, size_t);
    if (!call) next("write", &call);
    return call(file, bytes, size);
}

static int close_truly(int file) {
    static int (*call)(int);
    if (!call) next("close", &call);
    return call(file);
}

static int open_truly(const char *path, int flags, mode_t mode) {
    static int (*call)(const char *, int, ...);
    if (!call) next("open64", &call);
    return call(path, flags, mode);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    pause();
}

static void record(const char *call, const char *path) {
    char line[PATH_MAX + 32];
    if (!*fault.log) return;
    int file = open_truly(fault.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int size = snprintf(line, sizeof line, "%s %s\n", call, path);
    if (write_truly(file, line, (size_t)size) != size) abort();
    close_truly(file);
}

/* What is to happen at this call; kills before it where that is asked. */
static action meet(const char *call, const char *path) {
    bool meant = strcmp(fault.call, call) == 0 ||
                 (strcmp(fault.call, "any") == 0 && strcmp(call, "open") != 0);
    if (!fault.armed || !meant || fnmatch(fault.pattern, path, 0) != 0) return PASS;
    long count = atomic_fetch_add(&fault.count, 1) + 1;
    record(call, path);
    if (count == fault.turn && fault.act == KILL) die();
    while (count == fault.turn && fault.act == HANG) pause();
    if (fault.act == FAIL && count >= fault.turn) {
        errno = fault.code;
        return FAIL;
    }
    return count == fault.turn ? fault.act : PASS;
}

static action meet_file(const char *call, int file) {
    char link[64], path[PATH_MAX];
    if (!fault.armed) return PASS;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return PASS;
    path[length] = 0;
    return meet(call, path);
}

static ssize_t finish(action met, ssize_t result) {
    if (met == AFTER || met == HALF) die();
    return result;
}

#define EXPORT __attribute__((visibility("default")))

EXPORT ssize_t write(int file, const void *bytes, size_t size) {
    action met = meet_file("write", file);
    if (met == FAIL) return -1;
    return finish(met, write_truly(file, bytes, met == HALF ? size / 2 : size));
}

static ssize_t write_at(const char *name, int file, const void *bytes, size_t size, off_t offset) {
    ssize_t (*call)(int, const void *, size_t, off_t);
    next(name, &call);
    action met = meet_file("write", file);
    if (met == FAIL) return -1;
    return finish(met, call(file, bytes, met == HALF ? size / 2 : size, offset));
}

EXPORT ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset) {
    return write_at("pwrite", file, bytes, size, offset);
}

EXPORT ssize_t pwrite64(int file, const void *bytes, size_t size, off_t offset) {
    return write_at("pwrite64", file, bytes, size, offset);
}

static int sync_file(const char *name, int file) {
    int (*call)(int);
    next(name, &call);
    action met = meet_file("sync", file);
    return met == FAIL ? -1 : (int)finish(met, call(file));
}

EXPORT int fsync(int file) {
    return sync_file("fsync", file);
}

EXPORT int fdatasync(int file) {
    return sync_file("fdatasync", file);
}

EXPORT int close(int file) {
    int code;
    action met = meet_file("close", file);
    code = errno;
    int result = (int)finish(met, close_truly(file));
    if (met != FAIL) return result;
    errno = code;
    return -1;
}

EXPORT int rename(const char *from, const char *to) {
    int (*call)(const char *, const char *);
    next("rename", &call);
    action met = meet("rename", to);
    return met == FAIL ? -1 : (int)finish(met, call(from, to));
}

static int truncate_file(const char *name, int file, off_t size) {
    int (*call)(int, off_t);
    next(name, &call);
    action met = meet_file("truncate", file);
    return met == FAIL ? -1 : (int)finish(met, call(file, size));
}

EXPORT int ftruncate(int file, off_t size) {
    return truncate_file("ftruncate", file, size);
}

EXPORT int ftruncate64(int file, off_t size) {
    return truncate_file("ftruncate64", file, size);
}

static int open_file(const char *path, int flags, mode_t mode) {
    action met = meet(flags & (O_CREAT | O_TRUNC) ? "create" : "open", path);
    return met == FAIL ? -1 : (int)finish(met, open_truly(path, flags, mode));
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(arguments, int) : 0;
}

EXPORT int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_file(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_file(path, flags, mode);
}
