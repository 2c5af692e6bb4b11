#include "base/digest.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RAW_SIZE = 32, READ_BYTES = 1 << 20, TREE_BYTES = 64 << 20, MOST_LINES_BYTES = 1 << 16 };

/* ---- digests ---- */

static void spell(const unsigned char raw[static RAW_SIZE], char digest[static AQ_DIGEST_SIZE]) {
    for (int i = 0; i < RAW_SIZE; i++) snprintf(digest + 2 * i, 3, "%02x", raw[i]);
}

static aq_status refuse(void) {
    return AQ_FAIL(AQ_UNSUPPORTED, "libcrypto does not compute SHA-256");
}

aq_status aq_digest_bytes(const void *bytes, size_t size, char digest[static AQ_DIGEST_SIZE]) {
    unsigned char raw[EVP_MAX_MD_SIZE];
    if (EVP_Digest(bytes, size, raw, NULL, EVP_sha256(), NULL) != 1) return refuse();
    spell(raw, digest);
    return AQ_OK;
}

/* A part of an open file under way into a digest. */
typedef struct reading {
    const char *path;
    int file;
    off_t first, size;
    const aq_watch *watch;
    EVP_MD_CTX *context;
    unsigned char *buffer;
} reading;

static aq_status read_piece(const reading *self, off_t done, size_t *count) {
    off_t left = self->size - done;
    size_t wanted = left < READ_BYTES ? (size_t)left : READ_BYTES;
    ssize_t got;
    do got = pread(self->file, self->buffer, wanted, self->first + done);
    while (got < 0 && errno == EINTR);
    AQ_REQUIRE(got >= 0, AQ_IO, "%s: cannot read: %s", self->path, strerror(errno));
    AQ_REQUIRE(got > 0, AQ_IO, "%s: became shorter while it was read", self->path);
    *count = (size_t)got;
    return AQ_OK;
}

static aq_status read_pieces(const reading *self, unsigned char raw[static RAW_SIZE]) {
    size_t count = 0;
    if (EVP_DigestInit_ex(self->context, EVP_sha256(), NULL) != 1) return refuse();
    for (off_t done = 0; done < self->size; done += (off_t)count) {
        AQ_TRY(aq_watch_step(self->watch, "digest", (int)(done / READ_BYTES),
                             (int)(self->size / READ_BYTES)));
        AQ_TRY(read_piece(self, done, &count));
        if (EVP_DigestUpdate(self->context, self->buffer, count) != 1) return refuse();
    }
    return EVP_DigestFinal_ex(self->context, raw, NULL) == 1 ? AQ_OK : refuse();
}

static aq_status digest_part(reading self, unsigned char raw[static RAW_SIZE]) {
    self.context = EVP_MD_CTX_new();
    self.buffer = malloc(READ_BYTES);
    aq_status status =
        self.context && self.buffer ? read_pieces(&self, raw) : AQ_FAIL(AQ_MEMORY, "out of memory");
    EVP_MD_CTX_free(self.context);
    free(self.buffer);
    return status;
}

/* Not a pipe, which would block. */
static aq_status open_file(const char *path, const aq_watch *watch, reading *self) {
    struct stat facts;
    *self = (reading){.path = path, .watch = watch};
    self->file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    AQ_REQUIRE(self->file >= 0, errno == ENOENT ? AQ_MISSING : AQ_IO, "%s: cannot open: %s", path,
               strerror(errno));
    if (fstat(self->file, &facts) == 0 && S_ISREG(facts.st_mode)) {
        self->size = facts.st_size;
        return AQ_OK;
    }
    close(self->file);
    return AQ_FAIL(AQ_IO, "%s: not a regular file", path);
}

aq_status aq_digest_file(const char *path, const aq_watch *watch,
                         char digest[static AQ_DIGEST_SIZE]) {
    unsigned char raw[RAW_SIZE];
    reading self;
    AQ_TRY(open_file(path, watch, &self));
    aq_status status = digest_part(self, raw);
    close(self.file);
    if (status == AQ_OK) spell(raw, digest);
    return status;
}

/* An error's text belongs to the thread that met it: the first one is carried over. */
static aq_status digest_parts(const reading *whole, size_t parts, unsigned char *raws) {
    aq_status status = AQ_OK;
    char text[1024] = "";
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t part = 0; part < parts; part++) {
        reading self = *whole;
        self.first = (off_t)part * TREE_BYTES;
        self.size = whole->size - self.first < TREE_BYTES ? whole->size - self.first : TREE_BYTES;
        aq_status mine;
#pragma omp atomic read
        mine = status;
        if (mine != AQ_OK) continue;
        mine = digest_part(self, raws + part * RAW_SIZE);
#pragma omp critical(aq_digest_tree)
        if (mine != AQ_OK && status == AQ_OK) {
            snprintf(text, sizeof text, "%s", aq_error_text());
#pragma omp atomic write
            status = mine;
        }
    }
    return status == AQ_OK ? AQ_OK : AQ_FAIL(status, "%s", text);
}

aq_status aq_digest_tree(const char *path, const aq_watch *watch,
                         char digest[static AQ_DIGEST_SIZE]) {
    reading whole;
    AQ_TRY(open_file(path, watch, &whole));
    size_t parts = (size_t)((whole.size + TREE_BYTES - 1) / TREE_BYTES);
    unsigned char *raws = malloc(parts * RAW_SIZE + 1);
    aq_status status =
        raws ? digest_parts(&whole, parts, raws) : AQ_FAIL(AQ_MEMORY, "out of memory");
    close(whole.file);
    if (status == AQ_OK) status = aq_digest_bytes(raws, parts * RAW_SIZE, digest);
    free(raws);
    return status;
}

/* ---- files with their digests ---- */

static aq_status name_of(const char *path, const char *suffix, char **name) {
    *name = NULL;
    AQ_REQUIRE(asprintf(name, "%s%s", path, suffix) >= 0, AQ_MEMORY, "out of memory");
    return AQ_OK;
}

/* The lines beside a file that is there; "" if there are none that can be read. */
static char *read_lines(const char *path, const char *beside) {
    char *lines = NULL;
    size_t size;
    if (access(path, F_OK) == 0 && aq_file_read(beside, MOST_LINES_BYTES, &lines, &size) == AQ_OK)
        return lines;
    return strdup("");
}

static aq_status write_lines(const char *beside, const char *path, const char *digest,
                             const char *older) {
    const char *slash = strrchr(path, '/');
    char *text;
    AQ_REQUIRE(asprintf(&text, "%s  %s\n%s", digest, slash ? slash + 1 : path, older) >= 0,
               AQ_MEMORY, "out of memory");
    aq_status status = aq_file_replace(beside, text, strlen(text));
    free(text);
    return status;
}

/* When the old file has been replaced its line goes; that this may fail does no harm. */
static aq_status commit_both(const char *temporary, const char *path, const char *beside,
                             const char *digest) {
    char *older = read_lines(path, beside);
    AQ_REQUIRE(older, AQ_MEMORY, "out of memory");
    bool replaces = *older;
    aq_status status = write_lines(beside, path, digest, older);
    free(older);
    AQ_TRY(status);
    status = aq_file_commit(temporary, path);
    if (status == AQ_OK && replaces) (void)write_lines(beside, path, digest, "");
    if (status != AQ_OK && access(path, F_OK) != 0) unlink(beside);
    return status;
}

aq_status aq_digest_commit(const char *temporary, const char *path, const aq_watch *watch) {
    char *beside, digest[AQ_DIGEST_SIZE];
    aq_status status;
    AQ_STEP(name_of(path, ".sha256", &beside));
    AQ_STEP(aq_digest_file(temporary, watch, digest));
    AQ_STEP(commit_both(temporary, path, beside, digest));
done:
    if (status != AQ_OK) unlink(temporary);
    free(beside);
    return status;
}

static bool holds(const char *path, const void *bytes, size_t size) {
    char *present;
    size_t present_size;
    bool known;
    if (aq_digest_verify(path, NULL, &known) != AQ_OK || !known) return false;
    if (aq_file_read(path, size, &present, &present_size) != AQ_OK) return false;
    bool same = present_size == size && memcmp(present, bytes, size) == 0;
    free(present);
    return same;
}

aq_status aq_digest_replace(const char *path, const void *bytes, size_t size) {
    char *temporary;
    if (holds(path, bytes, size)) return AQ_OK;
    AQ_TRY(aq_file_temporary(path, &temporary));
    aq_status status = aq_file_write(temporary, bytes, size);
    if (status == AQ_OK) status = aq_digest_commit(temporary, path, NULL);
    free(temporary);
    return status;
}

static bool has_line(const char *lines, const char *digest) {
    for (const char *line = lines; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, digest, AQ_DIGEST_SIZE - 1) == 0) return true;
    }
    return false;
}

static aq_status verify(const char *path, const char *beside, const aq_watch *watch, bool *known) {
    char digest[AQ_DIGEST_SIZE], *lines;
    size_t size;
    aq_status status = aq_file_read(beside, MOST_LINES_BYTES, &lines, &size);
    if (status == AQ_MISSING) {
        AQ_REQUIRE(access(path, F_OK) == 0, AQ_MISSING, "%s: %s", path, strerror(errno));
        return AQ_OK;
    }
    AQ_TRY(status);
    *known = true;
    status = aq_digest_file(path, watch, digest);
    if (status == AQ_OK && !has_line(lines, digest))
        status =
            AQ_FAIL(AQ_FORMAT, "%s: damaged: its SHA-256 is %.16s..., beside it stands %.16s...",
                    path, digest, lines);
    free(lines);
    return status;
}

aq_status aq_digest_verify(const char *path, const aq_watch *watch, bool *known) {
    char *beside;
    *known = false;
    AQ_TRY(name_of(path, ".sha256", &beside));
    aq_status status = verify(path, beside, watch, known);
    free(beside);
    return status;
}

static aq_status remove_one(const char *path) {
    AQ_REQUIRE(unlink(path) == 0 || errno == ENOENT, AQ_IO, "%s: cannot be removed: %s", path,
               strerror(errno));
    return AQ_OK;
}

aq_status aq_digest_remove(const char *path) {
    char *beside;
    AQ_TRY(name_of(path, ".sha256", &beside));
    aq_status status = remove_one(path);
    if (status == AQ_OK) status = remove_one(beside);
    free(beside);
    return status;
}

/* NAME.mark, NAME.mark-2 ...: the first that nothing has. */
static aq_status free_name(const char *path, const char *mark, char **name) {
    char suffix[64];
    for (int i = 1;; i++) {
        snprintf(suffix, sizeof suffix, i == 1 ? ".%.32s" : ".%.32s-%d", mark, i);
        AQ_TRY(name_of(path, suffix, name));
        if (access(*name, F_OK) != 0) return AQ_OK;
        free(*name);
    }
}

aq_status aq_digest_set_aside(const char *path, const char *mark, char **new_name) {
    AQ_TRY(free_name(path, mark, new_name));
    aq_status status = AQ_OK;
    if (rename(path, *new_name) != 0)
        status = AQ_FAIL(AQ_IO, "%s: cannot be renamed: %s", path, strerror(errno));
    if (status == AQ_OK) status = aq_digest_remove(path);
    if (status == AQ_OK) return AQ_OK;
    free(*new_name);
    *new_name = NULL;
    return status;
}
