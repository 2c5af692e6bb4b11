/* Small dense models in Hugging Face format, written by tests that read them, right or spoiled.
 */
#ifndef AQ_TESTS_CHECKPOINT_H
#define AQ_TESTS_CHECKPOINT_H

#include "model/shape.h"

enum { AQ_TEST_MOST_TENSORS = 48 };

typedef struct aq_test_tensor_spec {
    char name[AQ_NAME_SIZE];
    size_t rows, columns; /* columns 0: one dimension */
    int shard;
} aq_test_tensor_spec;

typedef struct aq_test_checkpoint {
    const char *config; /* config.json's text, borrowed */
    const char *dtype;  /* of every tensor: "F32", "F16" or "BF16" (others: 2 bytes each) */
    aq_test_tensor_spec pieces[AQ_TEST_MOST_TENSORS];
    int count;
} aq_test_checkpoint;

/* Every tensor that the config asks for; a case may change, add and remove some before it writes.
 */
aq_test_checkpoint aq_test_model(const char *config, const char *dtype);
aq_test_tensor_spec *aq_test_piece_find(aq_test_checkpoint *written, const char *name);
void aq_test_piece_add(aq_test_checkpoint *written, const char *name, size_t rows, size_t columns);
void aq_test_piece_remove(aq_test_checkpoint *written, const char *name);

/* Values that are exact in every dtype and differ from tensor to tensor. */
size_t aq_test_piece_count(const aq_test_tensor_spec *tensor);
float aq_test_piece_value(const aq_test_tensor_spec *tensor, size_t index);

/* A new empty folder inside the test's own; its path stays valid until the next call. */
const char *aq_test_model_folder(void);
void aq_test_write_file(const char *folder, const char *name, const void *bytes, size_t size);

/* Writes config.json and the tensors (unaligned) into a new folder: as model.safetensors, or dealt
 * out in turn to part-a, part-b and part-c.safetensors under an index, whatever block they are of.
 */
const char *aq_test_write_single(const aq_test_checkpoint *written);
const char *aq_test_write_shards(aq_test_checkpoint *written);

#endif
