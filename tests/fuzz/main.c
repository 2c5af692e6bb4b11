/* Runs a fuzz target on mutated files for a bounded time, where libFuzzer is not at hand:
 *
 *     fuzz_npy tests/fuzz/corpus/npy [iteration]
 *
 * Iteration i's input is a function of the corpus, the seed and i, so that one that failed can be
 * run alone. AQLM_FUZZ_SECONDS (5) bounds the time, AQLM_FUZZ_SEED (1) chooses other inputs.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = 64, MOST_BYTES = 8192, MOST_CHANGES = 6, LONGEST_PIECE = 32, BATCH = 64 };

typedef struct sample {
    char *bytes;
    size_t size;
} sample;

static sample corpus[MOST_FILES];
static size_t corpus_count;
static uint64_t seed = 1, iteration;

/* Random draws of one iteration. */
typedef struct draws {
    uint64_t stream, index;
} draws;

static size_t draw(draws *from, size_t bound) {
    return aq_random_below(aq_random(seed, from->stream, from->index++), bound);
}

/* Defined by the address sanitizer, where there is one. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static void report_death(void) {
    fprintf(stderr, "fuzz: failed in iteration %llu with seed %llu\n",
            (unsigned long long)iteration, (unsigned long long)seed);
}

static int by_name(const struct dirent **left, const struct dirent **right) {
    return strcmp((*left)->d_name, (*right)->d_name);
}

static int is_sample(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static aq_status read_sample(const char *folder, const char *name) {
    char *path;
    AQ_REQUIRE(corpus_count < MOST_FILES, AQ_INVALID, "%s: more than %d files", folder, MOST_FILES);
    sample *read = &corpus[corpus_count++];
    AQ_TRY(aq_file_join(folder, name, &path));
    aq_status status = aq_file_read(path, MOST_BYTES, &read->bytes, &read->size);
    free(path);
    return status;
}

static aq_status read_corpus(const char *folder) {
    struct dirent **entries;
    int count = scandir(folder, &entries, is_sample, by_name);
    AQ_REQUIRE(count > 0, AQ_MISSING, "%s: no samples", folder);
    aq_status status = AQ_OK;
    for (int i = 0; i < count; i++) {
        if (status == AQ_OK) status = read_sample(folder, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return status;
}

/* Puts `length` bytes in place of `removed` ones, as far as the buffer allows. */
static void replace(sample *input, size_t at, size_t removed, const char *bytes, size_t length) {
    if (input->size - removed + length > MOST_BYTES) return;
    memmove(input->bytes + at + length, input->bytes + at + removed, input->size - at - removed);
    memcpy(input->bytes + at, bytes, length);
    input->size += length - removed;
}

static void insert_piece(sample *input, size_t at, size_t removed, draws *from) {
    const sample *other = &corpus[draw(from, corpus_count)];
    if (other->size == 0) return;
    size_t begin = draw(from, other->size), length = 1 + draw(from, LONGEST_PIECE);
    if (length > other->size - begin) length = other->size - begin;
    replace(input, at, removed, other->bytes + begin, length);
}

static void change(sample *input, draws *from) {
    static const char *const numbers[] = {"0",    "-1",         "1",
                                          "255",  "4294967296", "9223372036854775807",
                                          "1e30", "1e-320",     "18446744073709551616"};
    size_t at = draw(from, input->size + 1), left = input->size - at;
    size_t removed = draw(from, (left < LONGEST_PIECE ? left : LONGEST_PIECE) + 1);
    const char *number = numbers[draw(from, sizeof numbers / sizeof *numbers)];
    const char byte = (char)draw(from, 256);
    switch (draw(from, 6)) {
    case 0:
        if (left) input->bytes[at] = (char)(input->bytes[at] ^ 1 << draw(from, 8));
        break;
    case 1:
        replace(input, at, left > 0, &byte, 1);
        break;
    case 2:
        replace(input, at, removed, "", 0);
        break;
    case 3:
        replace(input, at, left > 0, number, strlen(number));
        break;
    case 4:
        insert_piece(input, at, 0, from);
        break;
    default:
        insert_piece(input, at, removed, from);
    }
}

/* The target gets memory of exactly the input's size, so that the sanitizer sees a read past it. */
static void run_iteration(void) {
    static char buffer[MOST_BYTES];
    draws from = {.stream = iteration};
    const sample *start = &corpus[draw(&from, corpus_count)];
    sample input = {.bytes = buffer, .size = start->size};
    memcpy(buffer, start->bytes, start->size);
    size_t changes = draw(&from, MOST_CHANGES + 1);
    for (size_t i = 0; i < changes; i++) change(&input, &from);
    uint8_t *exact = malloc(input.size + !input.size);
    memcpy(exact, input.bytes, input.size);
    LLVMFuzzerTestOneInput(exact, input.size);
    free(exact);
}

static void run_for(double seconds) {
    double end = aq_seconds() + seconds;
    for (iteration = 0; iteration % BATCH || aq_seconds() < end; iteration++) run_iteration();
    printf("%llu inputs, seed %llu\n", (unsigned long long)iteration, (unsigned long long)seed);
}

int main(int argc, char **argv) {
    const char *seconds = getenv("AQLM_FUZZ_SECONDS"), *chosen = getenv("AQLM_FUZZ_SEED");
    if (argc < 2 || read_corpus(argv[1]) != AQ_OK) {
        fprintf(stderr, "fuzz: %s\n", argc < 2 ? "expected the corpus' folder" : aq_error_text());
        return 1;
    }
    if (chosen) seed = strtoull(chosen, NULL, 10);
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(report_death);
    iteration = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    if (argc > 2)
        run_iteration();
    else
        run_for(seconds ? atof(seconds) : 5);
    for (size_t i = 0; i < corpus_count; i++) free(corpus[i].bytes);
    return 0;
}
