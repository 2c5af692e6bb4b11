#include "run/lock_file.h"

#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static aq_status fail(const char *path, const char *action) {
    int code = errno;
    return AQ_FAIL(code == ENOENT ? AQ_MISSING : AQ_IO, "%s: cannot be %s: %s", path, action,
                   strerror(code));
}

/* A name that ends as temporary files do: the next run removes it if this one dies here. */
aq_status aq_lock_file_open(const char *folder, aq_lock_file *lock) {
    *lock = (aq_lock_file){.file = -1};
    aq_lock_owner_self(&lock->owner);
    AQ_TRY(aq_file_join(folder, "lock", &lock->path));
    AQ_REQUIRE(asprintf(&lock->own, "%s.%s.%ld.partial", lock->path, lock->owner.host,
                        lock->owner.process) >= 0,
               AQ_MEMORY, "no memory for a path");
    return AQ_OK;
}

static void forget(aq_lock_file *lock) {
    if (lock->file >= 0) close(lock->file);
    lock->file = -1;
}

void aq_lock_file_close(aq_lock_file *lock) {
    forget(lock);
    free(lock->path);
    free(lock->own);
    *lock = (aq_lock_file){.file = -1};
}

static aq_status write_new(const char *path, const aq_lock_owner *owner, int *file) {
    char text[AQ_OWNER_TEXT];
    AQ_TRY(aq_lock_owner_write(owner, text));
    *file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (*file < 0) return fail(path, "made");
    ssize_t size = (ssize_t)strlen(text);
    if (write(*file, text, (size_t)size) == size && fsync(*file) == 0) return AQ_OK;
    aq_status status = fail(path, "written");
    close(*file);
    *file = -1;
    unlink(path);
    return status;
}

/* Without hard links: others may see the file before its text, and then watch it. */
static aq_status make_exclusively(aq_lock_file *lock, bool *made) {
    aq_status status = write_new(lock->path, &lock->owner, &lock->file);
    *made = status == AQ_OK;
    return status != AQ_OK && access(lock->path, F_OK) == 0 ? AQ_OK : status;
}

/* Another job that clears temporary files may take ours: then the next try makes it again. */
static aq_status link_in_place(aq_lock_file *lock, bool *made) {
    bool linked = link(lock->own, lock->path) == 0;
    int failure = linked ? 0 : errno;
    struct stat facts;
    /* On a network the answer to a link that was made may be lost. */
    linked = linked || (fstat(lock->file, &facts) == 0 && facts.st_nlink == 2);
    unlink(lock->own);
    *made = linked;
    if (linked) return AQ_OK;
    forget(lock);
    if (failure == EEXIST || failure == ENOENT) return AQ_OK;
    return make_exclusively(lock, made);
}

aq_status aq_lock_file_make(aq_lock_file *lock, bool *made) {
    *made = false;
    forget(lock);
    if (access(lock->path, F_OK) == 0) return AQ_OK;
    unlink(lock->own); /* of a process that had our id */
    AQ_TRY(write_new(lock->own, &lock->owner, &lock->file));
    return link_in_place(lock, made);
}

/* The moment by the file system's clock. */
static bool file_system_now(const char *path, double *now) {
    struct stat facts;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    bool known =
        file >= 0 && write(file, "", 1) == 1 && fsync(file) == 0 && fstat(file, &facts) == 0;
    if (file >= 0) close(file);
    unlink(path);
    if (known) *now = (double)facts.st_mtim.tv_sec + 1e-9 * (double)facts.st_mtim.tv_nsec;
    return known;
}

static aq_status read_text(const char *path, char text[static AQ_OWNER_TEXT], double *changed) {
    struct stat facts;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return fail(path, "read");
    ssize_t count = read(file, text, AQ_OWNER_TEXT - 1);
    aq_status status = count < 0 || fstat(file, &facts) != 0 ? fail(path, "read") : AQ_OK;
    close(file);
    text[count > 0 ? count : 0] = 0;
    if (status == AQ_OK)
        *changed = (double)facts.st_mtim.tv_sec + 1e-9 * (double)facts.st_mtim.tv_nsec;
    return status;
}

aq_status aq_lock_file_look(const aq_lock_file *lock, aq_lock_look *look) {
    double changed, now;
    AQ_TRY(read_text(lock->path, look->text, &changed));
    look->age = file_system_now(lock->own, &now) && now > changed ? now - changed : 0;
    return AQ_OK;
}

/* Renaming takes the file from all who would do the same; if it is a newer one than the one that
 * was judged, it goes back. */
aq_status aq_lock_file_remove(const aq_lock_file *lock, const aq_lock_look *look) {
    char text[AQ_OWNER_TEXT];
    double changed;
    AQ_TRY(read_text(lock->path, text, &changed));
    if (strcmp(text, look->text) != 0) return AQ_OK;
    if (rename(lock->path, lock->own) != 0) return fail(lock->path, "taken over");
    aq_status status = read_text(lock->own, text, &changed);
    if (status == AQ_OK && strcmp(text, look->text) != 0 && link(lock->own, lock->path) != 0)
        status = fail(lock->path, "put back");
    unlink(lock->own);
    return status;
}

bool aq_lock_file_lost(const aq_lock_file *lock) {
    struct stat own, found;
    if (fstat(lock->file, &own) != 0) return errno == ESTALE;
    if (stat(lock->path, &found) != 0) return errno == ENOENT;
    return found.st_ino != own.st_ino || found.st_dev != own.st_dev;
}

/* A full disk has room for it: no byte is added. */
void aq_lock_file_renew(aq_lock_file *lock) {
    char text[AQ_OWNER_TEXT];
    lock->owner.renewed = aq_unix_seconds();
    if (aq_lock_owner_write(&lock->owner, text) != AQ_OK) return;
    if (pwrite(lock->file, text, strlen(text), 0) > 0) fsync(lock->file);
}
