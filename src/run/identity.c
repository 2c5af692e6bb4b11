#include "run/identity.h"

#include "base/digest.h"
#include "base/file.h"
#include "model/shards.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- lines ---- */

/* The rest of the line "key rest" (borrowed, *length of it); NULL if there is none. */
static const char *find_line(const char *text, const char *key, size_t *length) {
    size_t size = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, size) != 0 || line[size] != ' ') continue;
        *length = strcspn(line + size + 1, "\n");
        return line + size + 1;
    }
    return NULL;
}

/* Copied, cut to fit; "" if there is none. */
static const char *value_of(const char *text, const char *key,
                            char value[static AQ_IDENTITY_LINE]) {
    size_t length = 0;
    const char *found = find_line(text, key, &length);
    snprintf(value, AQ_IDENTITY_LINE, "%.*s", found ? (int)length : 0, found ? found : "");
    return value;
}

/* ---- files of the model ---- */

typedef struct model_file {
    char digest[AQ_DIGEST_SIZE];
    long long size, time; /* bytes; ns */
    char name[256];
} model_file;

/* Reads one line "file ..." at `line`; false if it is none. */
static bool parse_file(const char *line, model_file *file) {
    int end = 0;
    if (sscanf(line, "file %64s %lld %lld %n", file->digest, &file->size, &file->time, &end) != 3)
        return false;
    snprintf(file->name, sizeof file->name, "%.*s", (int)strcspn(line + end, "\n"), line + end);
    return strlen(file->digest) == AQ_DIGEST_SIZE - 1;
}

static bool find_file(const char *text, const char *name, model_file *file) {
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (parse_file(line, file) && strcmp(file->name, name) == 0) return true;
    }
    return false;
}

static aq_status look(const char *path, model_file *file) {
    struct stat facts;
    AQ_REQUIRE(stat(path, &facts) == 0, AQ_IO, "%s: %s", path, strerror(errno));
    file->size = facts.st_size;
    file->time = facts.st_mtim.tv_sec * 1000000000LL + facts.st_mtim.tv_nsec;
    return AQ_OK;
}

static aq_status digest_file(const char *path, const char *name, const aq_identity_facts *facts,
                             const char *known, model_file *file) {
    model_file older;
    AQ_TRY(look(path, file));
    snprintf(file->name, sizeof file->name, "%s", name);
    bool same = known && find_file(known, name, &older) && older.size == file->size &&
                older.time == file->time;
    if (!same) return aq_digest_tree(path, facts->watch, file->digest);
    memcpy(file->digest, older.digest, sizeof file->digest);
    return AQ_OK;
}

/* What becomes of the files: their lines, and the contents alone. */
typedef struct listing {
    const aq_identity_facts *facts;
    const char *known;
    FILE *lines, *contents;
} listing;

static aq_status list_file(const listing *list, const char *name) {
    char *path;
    model_file file;
    AQ_TRY(aq_file_join(list->facts->model, name, &path));
    aq_status status = digest_file(path, name, list->facts, list->known, &file);
    free(path);
    AQ_TRY(status);
    fprintf(list->lines, "file %s %lld %lld %s\n", file.digest, file.size, file.time, file.name);
    fprintf(list->contents, "%s  %s\n", file.digest, file.name);
    return AQ_OK;
}

static aq_status list_files(const listing *list) {
    aq_shards *shards;
    AQ_TRY(list_file(list, "config.json"));
    AQ_TRY(aq_shards_open(list->facts->model, &shards));
    aq_status status = AQ_OK;
    for (size_t i = 0; status == AQ_OK && i < aq_shards_count(shards); i++)
        status = list_file(list, aq_shards_name(shards, i));
    aq_shards_close(shards);
    return status;
}

/* ---- the whole ---- */

/* Where the run began stays what it was. */
static bool keep_machine(const char *known, FILE *stream) {
    const char *kernels = known ? strstr(known, "machine.kernels ") : NULL;
    const char *files = kernels ? strstr(kernels, "\nfile ") : NULL;
    if (files) fprintf(stream, "%.*s\n", (int)(files - kernels), kernels);
    return files != NULL;
}

/* Of a CPU the kernels say enough. */
static void write_gpu(const aq_backend *machine, const char *gpus, FILE *stream) {
    char name[AQ_IDENTITY_LINE];
    if (!machine || strcmp(aq_backend_name(machine), "cuda") != 0) return;
    aq_backend_device(machine, name, sizeof name);
    fprintf(stream, "machine.gpu %s\n", gpus && *gpus ? gpus : name);
}

static void write_machine(const aq_backend *machine, const char *gpus, FILE *stream) {
    fprintf(stream, "machine.kernels %s\n", machine ? aq_backend_kernels(machine) : "unknown");
    write_gpu(machine, gpus, stream);
    fprintf(stream, "machine.libraries glibc %s\n", gnu_get_libc_version());
    fprintf(stream, "machine.program aqlm-mpi %s\n", AQLM_VERSION);
}

static aq_status compose(const listing *list, const char *lines, const char *contents,
                         char **text) {
    const aq_identity_facts *facts = list->facts;
    char model[AQ_DIGEST_SIZE];
    size_t size;
    AQ_TRY(aq_digest_bytes(contents, strlen(contents), model));
    FILE *stream = open_memstream(text, &size);
    AQ_REQUIRE(stream, AQ_MEMORY, "out of memory");
    fprintf(stream, "model %s\ncalibration.tokens %016" PRIx64 "\nrun.backend %s\n", model,
            facts->tokens, facts->backend);
    if (!keep_machine(list->known, stream)) write_machine(facts->machine, facts->gpus, stream);
    fputs(lines, stream);
    AQ_REQUIRE(fclose(stream) == 0 && *text, AQ_MEMORY, "out of memory");
    return AQ_OK;
}

aq_status aq_identity_make(const aq_identity_facts *facts, const char *known, char **text) {
    char *lines = NULL, *contents = NULL;
    size_t sizes[2];
    listing list = {.facts = facts, .known = known};
    *text = NULL;
    list.lines = open_memstream(&lines, &sizes[0]);
    list.contents = open_memstream(&contents, &sizes[1]);
    bool opened = list.lines && list.contents;
    aq_status status = opened ? list_files(&list) : AQ_FAIL(AQ_MEMORY, "out of memory");
    if (list.lines) fclose(list.lines);
    if (list.contents) fclose(list.contents);
    if (status == AQ_OK) status = compose(&list, lines, contents, text);
    free(lines);
    free(contents);
    return status;
}

static const char *const keys[] = {"model", "calibration.tokens", "run.backend"};
enum { KEYS = sizeof keys / sizeof *keys };

void aq_identity_key(const char *text, char key[static AQ_IDENTITY_KEY_SIZE]) {
    char values[KEYS][AQ_IDENTITY_LINE];
    for (int i = 0; i < KEYS; i++) value_of(text, keys[i], values[i]);
    snprintf(key, AQ_IDENTITY_KEY_SIZE, "%s %.64s\n%s %.32s\n%s %.16s\n", keys[0], values[0],
             keys[1], values[1], keys[2], values[2]);
}

/* Which file of the model makes the difference. */
static aq_status other_model(const char *where, const char *old_text, const char *new_text) {
    for (const char *line = new_text; line && *line; line = strchr(line, '\n')) {
        model_file file, older;
        line += *line == '\n';
        if (!parse_file(line, &file)) continue;
        AQ_REQUIRE(find_file(old_text, file.name, &older), AQ_INVALID,
                   "%s: the run was made with another model (which had no %s)", where, file.name);
        AQ_REQUIRE(strcmp(older.digest, file.digest) == 0, AQ_INVALID,
                   "%s: the run was made with another model (its %s had the SHA-256 %.16s...; now "
                   "%.16s...)",
                   where, file.name, older.digest, file.digest);
    }
    return AQ_FAIL(AQ_INVALID, "%s: the run was made with another model (of more files)", where);
}

aq_status aq_identity_same(const char *where, const char *old_text, const char *new_text) {
    char old_value[AQ_IDENTITY_LINE], new_value[AQ_IDENTITY_LINE];
    for (int i = 0; i < KEYS; i++) {
        value_of(old_text, keys[i], old_value);
        value_of(new_text, keys[i], new_value);
        if (strcmp(old_value, new_value) == 0) continue;
        if (i == 0) return other_model(where, old_text, new_text);
        return AQ_FAIL(AQ_INVALID, "%s: the run was made with another %s (%.64s; now %.64s)", where,
                       keys[i], old_value, new_value);
    }
    return AQ_OK;
}

/* Whether `one` is what a line says, or one of several that it names. */
static bool names(const char *line, const char *one) {
    const char *found = *one ? strstr(line, one) : NULL;
    if (!found) return strcmp(line, one) == 0;
    const char *end = found + strlen(one);
    bool begins = found == line || (found - line > 1 && strncmp(found - 2, "; ", 2) == 0);
    return begins && (!*end || strncmp(end, "; ", 2) == 0);
}

bool aq_identity_moved(const char *text, const aq_backend *machine,
                       char was[static AQ_IDENTITY_LINE], char is[static AQ_IDENTITY_LINE]) {
    static const char *const facts[] = {"machine.gpu", "machine.kernels", "machine.libraries",
                                        "machine.program"};
    char *mine = NULL;
    size_t size;
    bool moved = false;
    FILE *stream = open_memstream(&mine, &size);
    if (!stream) return false;
    write_machine(machine, NULL, stream);
    fclose(stream);
    for (size_t i = 0; !moved && i < sizeof facts / sizeof *facts; i++) {
        value_of(text, facts[i], was);
        value_of(mine, facts[i], is);
        moved = *was && !names(was, is);
    }
    free(mine);
    return moved;
}
