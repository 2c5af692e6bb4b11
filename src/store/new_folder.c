#include "store/new_folder.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_dots(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

aq_status aq_new_folder_check(const char *path) {
    DIR *listing = opendir(path);
    if (!listing && errno == ENOENT) return AQ_OK;
    AQ_REQUIRE(listing, AQ_INVALID, "%s: expected a new or empty folder: %s", path,
               strerror(errno));
    const struct dirent *entry = readdir(listing);
    while (entry && is_dots(entry->d_name)) entry = readdir(listing);
    aq_status status = AQ_OK;
    if (entry)
        status =
            AQ_FAIL(AQ_INVALID, "%s: the folder is not empty (it holds %s)", path, entry->d_name);
    closedir(listing);
    return status;
}

/* Without links and trailing slashes, so that the temporary folder lies beside the real place. */
static char *plain_path(const char *path) {
    char *plain = realpath(path, NULL);
    if (!plain) plain = strdup(path);
    for (size_t end = plain ? strlen(plain) : 0; end > 1 && plain[end - 1] == '/'; end--)
        plain[end - 1] = '\0';
    return plain;
}

static void forget(aq_new_folder *folder) {
    free(folder->path);
    free(folder->temporary);
    *folder = (aq_new_folder){0};
}

aq_status aq_new_folder_begin(const char *path, aq_new_folder *folder) {
    aq_status status = AQ_OK;
    *folder = (aq_new_folder){.path = plain_path(path)};
    AQ_NEED(folder->path, AQ_MEMORY, "no memory for a path");
    if (asprintf(&folder->temporary, "%s.partial-XXXXXX", folder->path) < 0)
        folder->temporary = NULL;
    AQ_NEED(folder->temporary, AQ_MEMORY, "no memory for a path");
    AQ_NEED(mkdtemp(folder->temporary), AQ_IO, "%s: cannot be created: %s", path, strerror(errno));
    mode_t mask = umask(0);
    umask(mask);
    chmod(folder->temporary, 0777 & ~mask);
done:
    if (status != AQ_OK) forget(folder);
    return status;
}

aq_status aq_new_folder_commit(aq_new_folder *folder) {
    aq_status status = aq_file_commit(folder->temporary, folder->path);
    if (status == AQ_OK)
        forget(folder);
    else
        aq_new_folder_abandon(folder);
    return status;
}

void aq_new_folder_abandon(aq_new_folder *folder) {
    DIR *listing = opendir(folder->temporary);
    for (const struct dirent *entry; listing && (entry = readdir(listing));)
        if (!is_dots(entry->d_name)) unlinkat(dirfd(listing), entry->d_name, 0);
    if (listing) closedir(listing);
    rmdir(folder->temporary);
    forget(folder);
}
