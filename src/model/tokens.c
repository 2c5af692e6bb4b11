#include "model/tokens.h"

#include "base/file.h"
#include "base/hash.h"
#include "model/npy.h"

#include <stdlib.h>
#include <string.h>

/* How a token file is laid out as sequences. */
typedef struct layout {
    size_t available; /* sequences */
    size_t stride;    /* tokens from the start of one to the start of the next */
} layout;

static aq_status lay_out(const aq_npy *array, const aq_token_cut *cut, layout *found) {
    if (array->ndim == 1 || cut->flatten) {
        size_t total = array->rows * array->columns;
        *found = (layout){.available = total / cut->length, .stride = cut->length};
        return AQ_OK;
    }
    AQ_REQUIRE(array->columns >= cut->length, AQ_INVALID,
               "rows of %zu tokens: expected at least %zu", array->columns, cut->length);
    *found = (layout){.available = array->rows, .stride = array->columns};
    return AQ_OK;
}

static int64_t token_at(const aq_npy *array, size_t position) {
    const unsigned char *from = array->data + position * array->element_size;
    uint16_t u16;
    int32_t i32;
    int64_t i64;
    switch (array->type) {
    case AQ_NPY_U16:
        memcpy(&u16, from, sizeof u16);
        return u16;
    case AQ_NPY_I32:
        memcpy(&i32, from, sizeof i32);
        return i32;
    case AQ_NPY_I64:
        break;
    }
    memcpy(&i64, from, sizeof i64);
    return i64;
}

static aq_status copy_sequence(const aq_npy *array, size_t first, const aq_token_cut *cut,
                               int32_t *sequence) {
    for (size_t i = 0; i < cut->length; i++) {
        int64_t token = token_at(array, first + i);
        AQ_REQUIRE(token >= 0 && (uint64_t)token < cut->vocab, AQ_INVALID,
                   "token %zu is %lld, outside the vocabulary of %zu", first + i, (long long)token,
                   cut->vocab);
        sequence[i] = (int32_t)token;
    }
    return AQ_OK;
}

static aq_status cut_array(const aq_npy *array, const aq_token_cut *cut, aq_tokens *tokens) {
    layout found = {0};
    AQ_REQUIRE(cut->length > 0 && cut->vocab <= INT32_MAX, AQ_INVALID,
               "sequences of %zu tokens from a vocabulary of %zu", cut->length, cut->vocab);
    AQ_TRY(lay_out(array, cut, &found));
    size_t count = cut->sequences ? cut->sequences : found.available;
    AQ_REQUIRE(count > 0 && count <= found.available, AQ_INVALID,
               "too few tokens: expected at least %zu sequences of %zu, found %zu (%zu tokens)",
               count ? count : 1, cut->length, found.available, array->rows * array->columns);
    tokens->data = malloc(count * cut->length * sizeof *tokens->data);
    AQ_REQUIRE(tokens->data, AQ_MEMORY, "no memory for %zu tokens", count * cut->length);
    tokens->sequences = count;
    tokens->length = cut->length;
    for (size_t s = 0; s < count; s++)
        AQ_TRY(copy_sequence(array, s * found.stride, cut, tokens->data + s * cut->length));
    return AQ_OK;
}

aq_status aq_tokens_read(const char *path, const aq_token_cut *cut, aq_tokens *tokens) {
    aq_map map;
    aq_npy array;
    *tokens = (aq_tokens){0};
    AQ_TRY(aq_file_map(path, &map));
    aq_status status = aq_npy_parse(map.bytes, map.size, &array);
    if (status == AQ_OK) status = cut_array(&array, cut, tokens);
    aq_file_unmap(&map);
    if (status == AQ_OK) return AQ_OK;
    aq_tokens_free(tokens);
    return aq_error_at(status, "%s", path);
}

aq_status aq_tokens_take_part(aq_tokens *tokens, size_t member, size_t members) {
    AQ_REQUIRE(tokens->sequences >= members, AQ_INVALID,
               "%zu sequences cannot be shared out in a team of %zu ranks", tokens->sequences,
               members);
    size_t length = tokens->length, own = 0;
    for (size_t sequence = member; sequence < tokens->sequences; sequence += members, own++)
        memmove(tokens->data + own * length, tokens->data + sequence * length,
                length * sizeof *tokens->data);
    tokens->sequences = own;
    tokens->numbering = (aq_numbering){.first = member, .skipped = members - 1};
    return AQ_OK;
}

void aq_tokens_free(aq_tokens *tokens) {
    free(tokens->data);
    *tokens = (aq_tokens){0};
}

uint64_t aq_tokens_hash(const aq_tokens *tokens) {
    const uint64_t sizes[] = {tokens->sequences, tokens->length};
    uint64_t hash = aq_hash_bytes(AQ_HASH_START, sizes, sizeof sizes);
    return aq_hash_bytes(hash, tokens->data,
                         tokens->sequences * tokens->length * sizeof *tokens->data);
}
