/* Quantized models for the suites of src/store, made without quantizing: random codes in the shape
 * of a dense folder.
 */
#ifndef AQ_TESTS_CODED_MODEL_H
#define AQ_TESTS_CODED_MODEL_H

#include "model/coded_block.h"

#define AQ_TEST_FINGERPRINT "0123456789abcdef"
#define AQ_TEST_ORIGIN (&(aq_block_origin){.fingerprint = AQ_TEST_FINGERPRINT})
#define AQ_TEST_SETTINGS "{\"quantizer\": {\"scheme\": \"1x4\", \"tolerance\": 0.01}}"

enum { AQ_TEST_PATH = 512 };

/* "FOLDER/name" in the suite's temporary folder. */
const char *aq_test_path(const char *name, char path[static AQ_TEST_PATH]);

/* Two blocks with biases, llama3 rope, separate head, F32; four blocks, tied head, BF16. */
const char *aq_test_biased_model(void);
const char *aq_test_tied_model(void);

/* Block `index` with random codes, codebooks, scales, norms and biases, all float16 values; errors
 * are functions of the index. The caller frees it. */
aq_coded_block aq_test_random_block(const aq_model_shape *shape, size_t index,
                                    const aq_scheme *scheme);

/* Writes such blocks for the dense folder and gathers them into `name`; gives back its path. */
const char *aq_test_gather(const char *folder, const aq_scheme *scheme, const char *name,
                           char path[static AQ_TEST_PATH]);

/* Sets one element of a tensor of 4 bytes (or 2: codes) an element. */
void aq_test_poke(aq_tensor *tensor, size_t index, const void *element);

/* Whole file in memory (malloc'd). */
char *aq_test_slurp(const char *path, size_t *size);

#endif
