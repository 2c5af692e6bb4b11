#include "model/activations.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 10000 };

static aq_segment filled_segment(void) {
    aq_segment segment;
    AQ_CHECK(aq_segment_new(aq_test_backend(), BYTES, &segment));
    for (int i = 0; i < BYTES; i++) ((unsigned char *)segment.data)[i] = (unsigned char)(i % 251);
    return segment;
}

static bool is_filled(const aq_segment *segment) {
    for (int i = 0; i < BYTES; i++)
        if (((const unsigned char *)segment->data)[i] != i % 251) return false;
    return segment->bytes == BYTES;
}

static aq_segment_name name_of(const aq_segment *segment) {
    aq_segment_name name;
    AQ_CHECK(aq_segment_describe(segment, &name));
    return name;
}

static void a_mapped_segment_is_the_same_memory(void) {
    aq_segment mine = filled_segment(), other;
    const aq_segment_name name = name_of(&mine);
    AQ_CHECK(aq_segment_map(aq_test_backend(), &name, &other));
    CU_ASSERT(is_filled(&other) && other.shared && !mine.shared);
    CU_ASSERT(aq_segment_is_read(&mine) && aq_segment_is_read(&other));
    ((unsigned char *)mine.data)[BYTES - 1] = 255;
    CU_ASSERT_EQUAL(((unsigned char *)other.data)[BYTES - 1], 255);
    aq_segment_pin(&other);
    aq_segment_free(&other);
    CU_ASSERT_FALSE(aq_segment_is_read(&mine));
    aq_segment_free(&mine);
    CU_ASSERT_PTR_NULL(mine.data);
    CU_ASSERT_FALSE(aq_segment_is_read(&mine));
}

static void a_mapped_segment_outlives_its_maker(void) {
    aq_segment mine = filled_segment(), other;
    const aq_segment_name name = name_of(&mine);
    AQ_CHECK(aq_segment_map(aq_test_backend(), &name, &other));
    aq_segment_free(&mine);
    CU_ASSERT(is_filled(&other));
    aq_segment_free(&other);
}

/* The child looks without a backend's help: a forked CUDA context is of no use. */
static void another_process_reads_it(void) {
    aq_segment mine = filled_segment();
    const aq_segment_name name = name_of(&mine);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        aq_backend *cpu;
        aq_segment other;
        bool good = aq_cpu_open(1, &cpu) == AQ_OK && aq_segment_map(cpu, &name, &other) == AQ_OK;
        _exit(good && is_filled(&other) ? 0 : 1);
    }
    int status = -1;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_EQUAL(status, 0);
    aq_segment_free(&mine);
}

static void what_is_not_the_named_segment_is_refused(void) {
    aq_segment mine = filled_segment(), same_size = filled_segment(), other;
    aq_segment_name inode = name_of(&mine), token = inode, size = inode, process = inode,
                    file = inode;
    inode.inode++;
    token.token[AQ_SEGMENT_TOKEN - 1] ^= 1;
    size.bytes--;
    process.process = 0x7ffffff0;
    file.file = same_size.file;
    const aq_segment_name wrong[] = {inode, token, size, process, file};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        AQ_CHECK_FAILS(aq_segment_map(aq_test_backend(), &wrong[i], &other), AQ_MISSING,
                       "not the memory that was named");
        CU_ASSERT_PTR_NULL(other.data);
    }
    aq_segment_free(&mine);
    aq_segment_free(&same_size);
}

static void a_freed_segment_cannot_be_mapped(void) {
    aq_segment mine = filled_segment(), other;
    const aq_segment_name name = name_of(&mine);
    aq_segment_free(&mine);
    aq_segment_free(&mine);
    AQ_CHECK_FAILS(aq_segment_map(aq_test_backend(), &name, &other), AQ_MISSING, "/proc/");
}

static void memory_that_is_not_there_is_an_error(void) {
    aq_segment segment;
    AQ_CHECK_FAILS(aq_segment_new(aq_test_backend(), (size_t)1 << 60, &segment), AQ_MEMORY,
                   "GB of host memory, but only");
    CU_ASSERT_PTR_NULL(segment.data);
}

static void a_segment_is_made_beside_other_work(void) {
    aq_segment made, none;
    aq_segment_end(aq_segment_begin(aq_test_backend(), BYTES), &made);
    aq_segment_end(aq_segment_begin(aq_test_backend(), (size_t)1 << 60), &none);
    CU_ASSERT(made.data && made.bytes == BYTES && !made.shared);
    CU_ASSERT_PTR_NULL(none.data);
    aq_segment_free(&made);
    aq_segment_end(NULL, &none);
    CU_ASSERT_PTR_NULL(none.data);
}

/* Freed memory goes back to the system: descriptors and mappings do not pile up. */
static void many_segments_can_be_made_one_after_another(void) {
    for (int i = 0; i < 3000; i++) {
        aq_segment mine, other;
        AQ_CHECK(aq_segment_new(aq_test_backend(), BYTES, &mine));
        const aq_segment_name name = name_of(&mine);
        AQ_CHECK(aq_segment_map(aq_test_backend(), &name, &other));
        aq_segment_free(&mine);
        aq_segment_free(&other);
    }
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"a_mapped_segment_is_the_same_memory", a_mapped_segment_is_the_same_memory},
        {"a_mapped_segment_outlives_its_maker", a_mapped_segment_outlives_its_maker},
        {"another_process_reads_it", another_process_reads_it},
        {"what_is_not_the_named_segment_is_refused", what_is_not_the_named_segment_is_refused},
        {"a_freed_segment_cannot_be_mapped", a_freed_segment_cannot_be_mapped},
        {"memory_that_is_not_there_is_an_error", memory_that_is_not_there_is_an_error},
        {"a_segment_is_made_beside_other_work", a_segment_is_made_beside_other_work},
        {"many_segments_can_be_made_one_after_another",
         many_segments_can_be_made_one_after_another},
    };
    return aq_test_backend_main("segment", cases, sizeof cases / sizeof *cases, argc, argv);
}
