/* Token files: NumPy .npy arrays of token numbers, checked and cut into sequences.
 */
#ifndef AQ_MODEL_TOKENS_H
#define AQ_MODEL_TOKENS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* What the sequences of one member of a team are called among those of all: sequence i has the
 * number first + i * (1 + skipped). {0}: all are here. */
typedef struct aq_numbering {
    size_t first, skipped;
} aq_numbering;

/* Sequences of equal length, widened to int32. */
typedef struct aq_tokens {
    int32_t *data; /* [sequences, length] row-major, owned */
    size_t sequences, length;
    aq_numbering numbering;
} aq_tokens;

/* How a file is cut into sequences of `length` tokens. */
typedef struct aq_token_cut {
    size_t length;
    size_t sequences; /* exactly so many, the first ones; 0: as many as there are, at least one */
    size_t vocab;     /* tokens must be below */
    int flatten; /* true: a 2-D file is read as one row after the other (evaluation); false: row by
                    row, each at least `length` long and cut to it (calibration) */
} aq_token_cut;

/* Reads `path`: .npy of uint16, int32 or int64, C order, 1-D or 2-D. 1-D: consecutive pieces, the
 * rest dropped. FORMAT for anything else; INVALID for a token outside the vocabulary (with its
 * position and value) or too few tokens (with both numbers). *tokens is freed with aq_tokens_free.
 */
aq_status aq_tokens_read(const char *path, const aq_token_cut *cut, aq_tokens *tokens);
void aq_tokens_free(aq_tokens *tokens);

/* Keeps every `members`-th sequence from number `member` on (tensor/team.h), of all. INVALID if
 * that leaves a member without any. */
aq_status aq_tokens_take_part(aq_tokens *tokens, size_t member, size_t members);

/* A hash of the sequences, so that a run can be recognized whatever the file is called. */
uint64_t aq_tokens_hash(const aq_tokens *tokens);

#endif
