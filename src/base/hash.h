/* A hash of bytes, to recognize equal files and settings: FNV-1a, 64 bits (Fowler, Noll, Vo), with
 * the mixing of base/random.h at the end. It guards against mistakes, not against attacks.
 */
#ifndef AQ_BASE_HASH_H
#define AQ_BASE_HASH_H

#include "base/random.h"

#define AQ_HASH_START 0xcbf29ce484222325ull

/* Goes on from `hash` (AQ_HASH_START at first) over `size` bytes. */
static inline uint64_t aq_hash_bytes(uint64_t hash, const void *bytes, size_t size) {
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < size; i++) hash = (hash ^ byte[i]) * 0x100000001b3ull;
    return aq_mix(hash);
}

#endif
