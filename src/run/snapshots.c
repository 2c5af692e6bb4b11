#include "run/snapshots.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stop.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_SIZE = 4096, PIECE = 64 << 20, NAME = 80 };

static const char folder_name[] = "snapshots", magic[8] = "AQLMACT1";

/* The first bytes of a file; zeros up to HEADER_SIZE, then the values. */
typedef struct header {
    char magic[sizeof magic];
    char fingerprint[24];
    uint64_t boundary, team_size, member, sequences, length, hidden;
} header;

static header header_of(const aq_snapshots *self, size_t boundary,
                        const aq_activations *activations) {
    header made = {.boundary = boundary,
                   .team_size = (uint64_t)self->team_size,
                   .member = (uint64_t)self->member,
                   .sequences = activations->sequences,
                   .length = activations->length,
                   .hidden = activations->hidden};
    memcpy(made.magic, magic, sizeof magic);
    memcpy(made.fingerprint, self->directory->fingerprint, AQ_FINGERPRINT_SIZE);
    return made;
}

static aq_status path_of(const aq_snapshots *self, size_t boundary, int member, char **path) {
    char name[NAME];
    snprintf(name, sizeof name, "%s/boundary-%04zu-of-%d-%d.act", folder_name, boundary,
             self->team_size, member);
    return aq_file_join(self->directory->path, name, path);
}

static bool is_there(const aq_snapshots *self, size_t boundary, int member) {
    char *path;
    if (path_of(self, boundary, member, &path) != AQ_OK) return false;
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

size_t aq_snapshots_most(size_t blocks, size_t every, size_t teams) {
    if (!every) return 0;
    size_t all = (blocks - 1) / every, ahead = 2 + (teams - 1) / every;
    return all < ahead ? all : ahead;
}

bool aq_snapshot_due(const aq_snapshots *snapshots, size_t boundary) {
    return snapshots->every && boundary && boundary % snapshots->every == 0;
}

/* ---- writing ---- */

static aq_status make_folder(const aq_snapshots *self) {
    char *path;
    AQ_TRY(aq_file_join(self->directory->path, folder_name, &path));
    int failure = mkdir(path, 0777) == 0 || errno == EEXIST ? 0 : errno;
    aq_status status =
        failure ? AQ_FAIL(AQ_IO, "%s: cannot be made: %s", path, strerror(failure)) : AQ_OK;
    free(path);
    return status;
}

static aq_status write_values(int file, const char *path, const header *head,
                              const aq_segment *segment) {
    char first[HEADER_SIZE] = {0};
    memcpy(first, head, sizeof *head);
    AQ_TRY(aq_file_append(file, path, first, sizeof first));
    for (size_t done = 0; done < segment->bytes;) {
        AQ_TRY(aq_stop_check());
        size_t piece = segment->bytes - done < PIECE ? segment->bytes - done : PIECE;
        AQ_TRY(aq_file_append(file, path, (const char *)segment->data + done, piece));
        done += piece;
    }
    return AQ_OK;
}

static aq_status write_file(const char *path, const header *head, const aq_segment *segment) {
    int file;
    AQ_TRY(aq_file_create(path, &file));
    return aq_file_close(file, path, write_values(file, path, head, segment));
}

aq_status aq_snapshot_write(const aq_snapshots *snapshots, size_t boundary,
                            const aq_activations *activations) {
    const header head = header_of(snapshots, boundary, activations);
    char *path = NULL, *temporary = NULL;
    aq_status status;
    if (is_there(snapshots, boundary, snapshots->member)) return AQ_OK;
    AQ_STEP(make_folder(snapshots));
    AQ_STEP(path_of(snapshots, boundary, snapshots->member, &path));
    AQ_STEP(aq_file_temporary(path, &temporary));
    AQ_STEP(write_file(temporary, &head, &activations->segment));
    AQ_STEP(aq_digest_commit(temporary, path, &aq_stop_watch));
done:
    free(path);
    free(temporary);
    return status;
}

/* ---- reading ---- */

static aq_status read_values(FILE *file, const header *expected, aq_segment *segment) {
    char first[HEADER_SIZE];
    AQ_REQUIRE(fread(first, sizeof first, 1, file) == 1 &&
                   memcmp(first, expected, sizeof *expected) == 0,
               AQ_FORMAT, "not this run's activations");
    for (size_t done = 0; done < segment->bytes;) {
        AQ_TRY(aq_stop_check());
        size_t piece = segment->bytes - done < PIECE ? segment->bytes - done : PIECE;
        AQ_REQUIRE(fread((char *)segment->data + done, piece, 1, file) == 1, AQ_FORMAT,
                   "shorter than its header tells");
        done += piece;
    }
    AQ_REQUIRE(fgetc(file) == EOF, AQ_FORMAT, "longer than its header tells");
    return AQ_OK;
}

static aq_status read_file(const char *path, const header *expected, aq_segment *segment) {
    bool known;
    AQ_TRY(aq_digest_verify(path, &aq_stop_watch, &known));
    AQ_REQUIRE(known, AQ_FORMAT, "%s: there is no digest beside it", path);
    FILE *file = fopen(path, "rb");
    AQ_REQUIRE(file, AQ_IO, "%s: cannot be opened: %s", path, strerror(errno));
    aq_status status = read_values(file, expected, segment);
    fclose(file);
    return status == AQ_OK || status == AQ_STOPPED ? status : aq_error_at(status, "%s", path);
}

static void set_aside(const char *path) {
    char *name = NULL;
    char *reason = strdup(aq_error_text());
    aq_status status = aq_digest_set_aside(path, "damaged", &name);
    aq_log_warn("%s; %s %s", reason ? reason : path,
                status == AQ_OK ? "it is not used, and is now" : "it is not used:",
                status == AQ_OK ? name : aq_error_text());
    if (reason) AQ_FAIL(AQ_FORMAT, "%s", reason);
    free(reason);
    free(name);
}

aq_status aq_snapshot_read(const aq_snapshots *snapshots, size_t boundary,
                           const aq_activations *activations, aq_segment *segment) {
    const header expected = header_of(snapshots, boundary, activations);
    char *path;
    AQ_TRY(path_of(snapshots, boundary, snapshots->member, &path));
    aq_status status =
        aq_segment_new(activations->backend, aq_activations_bytes(activations), segment);
    if (status == AQ_OK) status = read_file(path, &expected, segment);
    if (status != AQ_OK) aq_segment_free(segment);
    if (status == AQ_FORMAT) set_aside(path);
    free(path);
    return status;
}

/* ---- which are there ---- */

/* Calls `see` with every boundary of which a file of a snapshot (or its digest) is there. */
static void list(const aq_snapshots *self, void (*see)(void *state, const char *path, size_t),
                 void *state) {
    char *folder;
    if (aq_file_join(self->directory->path, folder_name, &folder) != AQ_OK) return;
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        size_t boundary;
        char *path;
        if (sscanf(entry->d_name, "boundary-%zu-of-", &boundary) != 1) continue;
        if (aq_file_join(folder, entry->d_name, &path) != AQ_OK) continue;
        see(state, path, boundary);
        free(path);
    }
    if (entries) closedir(entries);
    free(folder);
}

typedef struct search {
    const aq_snapshots *snapshots;
    size_t limit, found;
} search;

static void see_nearest(void *state, const char *path, size_t boundary) {
    search *self = state;
    (void)path;
    if (boundary > self->limit || boundary <= self->found) return;
    for (int member = 0; member < self->snapshots->team_size; member++)
        if (!is_there(self->snapshots, boundary, member)) return;
    self->found = boundary;
}

size_t aq_snapshots_nearest(const aq_snapshots *snapshots, size_t limit) {
    search wanted = {.snapshots = snapshots, .limit = limit};
    list(snapshots, see_nearest, &wanted);
    return wanted.found;
}

/* Damaged ones that were set aside stay. */
static void remove_snapshot(const char *path) {
    const char *end = path + strlen(path);
    if (strcmp(end - 4, ".act") == 0 && aq_digest_remove(path) != AQ_OK)
        aq_log_warn("%s", aq_error_text());
}

static void remove_below(void *state, const char *path, size_t boundary) {
    const search *self = state;
    if (boundary < self->limit) remove_snapshot(path);
}

static void remove_above(void *state, const char *path, size_t boundary) {
    const search *self = state;
    if (boundary > self->limit) remove_snapshot(path);
}

static size_t first_unfinished(const aq_run_directory *directory) {
    size_t blocks = directory->source->shape.blocks;
    for (size_t i = 0; i < blocks; i++) {
        char *path;
        if (aq_run_directory_block_path(directory, i, &path) != AQ_OK) return 0;
        bool there = access(path, F_OK) == 0;
        free(path);
        if (!there) return i;
    }
    return SIZE_MAX;
}

void aq_snapshots_prune(const aq_snapshots *snapshots) {
    size_t unfinished = first_unfinished(snapshots->directory);
    search wanted = {.snapshots = snapshots};
    wanted.limit = unfinished == SIZE_MAX ? SIZE_MAX : aq_snapshots_nearest(snapshots, unfinished);
    list(snapshots, remove_below, &wanted);
}

void aq_snapshots_discard(const aq_run_directory *directory, size_t last) {
    const aq_snapshots any = {.directory = directory};
    search wanted = {.limit = last};
    list(&any, remove_above, &wanted);
}
