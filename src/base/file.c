#include "base/file.h"

#include "base/map_table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static aq_status fail(const char *path, const char *action) {
    int code = errno;
    return AQ_FAIL(code == ENOENT ? AQ_MISSING : AQ_IO, "%s: cannot %s: %s", path, action,
                   strerror(code));
}

/* Opens a regular file for reading and tells its size. */
static aq_status open_regular(const char *path, int *file, size_t *size) {
    struct stat facts;
    /* A pipe without a writer would block the open. */
    *file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*file < 0) return fail(path, "open");
    if (fstat(*file, &facts) == 0 && S_ISREG(facts.st_mode)) {
        *size = (size_t)facts.st_size;
        return AQ_OK;
    }
    close(*file);
    return AQ_FAIL(AQ_IO, "%s: not a regular file", path);
}

aq_status aq_file_map(const char *path, aq_map *map) {
    *map = (aq_map){0};
    int file;
    size_t size;
    AQ_TRY(open_regular(path, &file, &size));
    void *bytes = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0) : NULL;
    aq_status status = bytes == MAP_FAILED ? fail(path, "map") : AQ_OK;
    close(file);
    if (status != AQ_OK) return status;
    *map = (aq_map){.bytes = bytes, .size = size};
    if (bytes) aq_map_note(bytes, size, path);
    return AQ_OK;
}

void aq_file_unmap(aq_map *map) {
    if (map->bytes) {
        aq_map_forget(map->bytes);
        munmap((void *)(uintptr_t)map->bytes, map->size);
    }
    *map = (aq_map){0};
}

void aq_file_forget(const void *bytes, size_t size) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)bytes + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)bytes + size) / page * page;
    if (first < end) madvise((void *)first, end - first, MADV_DONTNEED);
}

static aq_status read_all(int file, const char *path, char *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t count = read(file, bytes + done, size - done);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail(path, "read");
        AQ_REQUIRE(count > 0, AQ_IO, "%s: ends after %zu of %zu bytes", path, done, size);
        done += (size_t)count;
    }
    bytes[size] = 0;
    return AQ_OK;
}

aq_status aq_file_read(const char *path, size_t limit, char **bytes, size_t *size) {
    aq_status status = AQ_OK;
    int file;
    *bytes = NULL;
    AQ_TRY(open_regular(path, &file, size));
    AQ_NEED(*size <= limit, AQ_INVALID, "%s: %zu bytes, expected at most %zu", path, *size, limit);
    *bytes = malloc(*size + 1);
    AQ_NEED(*bytes, AQ_MEMORY, "%s: no memory for %zu bytes", path, *size);
    AQ_STEP(read_all(file, path, *bytes, *size));
done:
    close(file);
    if (status != AQ_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return status;
}

aq_status aq_file_join(const char *folder, const char *name, char **path) {
    size_t length = strlen(folder);
    const char *slash = length && folder[length - 1] == '/' ? "" : "/";
    *path = NULL;
    AQ_REQUIRE(asprintf(path, "%s%s%s", folder, slash, name) >= 0, AQ_MEMORY,
               "no memory for a path");
    return AQ_OK;
}

aq_status aq_file_temporary(const char *path, char **temporary) {
    *temporary = NULL;
    AQ_REQUIRE(asprintf(temporary, "%s.%ld.partial", path, (long)getpid()) >= 0, AQ_MEMORY,
               "no memory for a path");
    return AQ_OK;
}

/* Flushes a file, or the names in a folder. */
static aq_status flush(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return fail(path, "open");
    aq_status status = fsync(file) == 0 ? AQ_OK : fail(path, "flush");
    close(file);
    return status;
}

static aq_status flush_folder_of(const char *path) {
    char *folder = strdup(path);
    AQ_REQUIRE(folder, AQ_MEMORY, "no memory for a path");
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = 0;
    aq_status status = flush(slash ? folder : ".");
    free(folder);
    return status;
}

aq_status aq_file_commit(const char *temporary, const char *path) {
    aq_status status = flush(temporary);
    if (status == AQ_OK && rename(temporary, path) != 0) status = fail(path, "rename to");
    if (status != AQ_OK) {
        unlink(temporary);
        return status;
    }
    return flush_folder_of(path);
}

aq_status aq_file_create(const char *path, int *file) {
    *file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return *file < 0 ? fail(path, "create") : AQ_OK;
}

aq_status aq_file_append(int file, const char *path, const void *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t count = write(file, (const char *)bytes + done, size - done);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return fail(path, "write");
        done += (size_t)count;
    }
    return AQ_OK;
}

/* A file system may tell only at the end that there was no room. */
aq_status aq_file_close(int file, const char *path, aq_status status) {
    if (close(file) != 0 && status == AQ_OK) status = fail(path, "close");
    if (status != AQ_OK) unlink(path);
    return status;
}

aq_status aq_file_write(const char *path, const void *bytes, size_t size) {
    int file;
    AQ_TRY(aq_file_create(path, &file));
    return aq_file_close(file, path, aq_file_append(file, path, bytes, size));
}

aq_status aq_file_replace(const char *path, const void *bytes, size_t size) {
    char *temporary;
    AQ_TRY(aq_file_temporary(path, &temporary));
    aq_status status = aq_file_write(temporary, bytes, size);
    if (status == AQ_OK) status = aq_file_commit(temporary, path);
    free(temporary);
    return status;
}

/* ---- folders ---- */

/* One folder; fine if it is there. */
static aq_status make_one_folder(const char *path) {
    struct stat found;
    if (mkdir(path, 0777) == 0) return AQ_OK;
    int failure = errno == EEXIST ? ENOTDIR : errno;
    if (stat(path, &found) == 0 && S_ISDIR(found.st_mode)) return AQ_OK;
    return AQ_FAIL(AQ_IO, "%s: cannot be made: %s", path, strerror(failure));
}

aq_status aq_file_make_folder(const char *path) {
    char *partial = strdup(path);
    AQ_REQUIRE(partial, AQ_MEMORY, "out of memory");
    aq_status status = AQ_OK;
    for (char *slash = partial; status == AQ_OK && (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        status = make_one_folder(partial);
        *slash = '/';
    }
    if (status == AQ_OK) status = make_one_folder(partial);
    free(partial);
    return status;
}

/* Errno of the first file that stays; 0 if all are gone. */
static int empty_folder(DIR *entries) {
    int failure = 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        bool own = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        if (!own && unlinkat(dirfd(entries), entry->d_name, 0) != 0 && !failure) failure = errno;
    }
    return failure;
}

aq_status aq_file_remove_folder(const char *path) {
    DIR *entries = opendir(path);
    if (!entries && errno == ENOENT) return AQ_OK;
    AQ_REQUIRE(entries, AQ_IO, "%s: cannot be listed: %s", path, strerror(errno));
    int failure = empty_folder(entries);
    closedir(entries);
    if (!failure && rmdir(path) != 0 && errno != ENOENT) failure = errno;
    AQ_REQUIRE(!failure, AQ_IO, "%s: cannot be removed: %s", path, strerror(failure));
    return AQ_OK;
}
