#include "base/sealed_file.h"

#include "base/digest.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(AQ_SEAL == AQ_DIGEST_SIZE - 1, "a seal is a digest without its end");

aq_status aq_sealed_write(const char *path, void *bytes, size_t size) {
    char digest[AQ_DIGEST_SIZE];
    AQ_TRY(aq_digest_bytes(bytes, size - AQ_SEAL, digest));
    memcpy((char *)bytes + size - AQ_SEAL, digest, AQ_SEAL);
    return aq_file_replace(path, bytes, size);
}

static aq_status check(const char *path, const char *bytes, size_t size, size_t expected) {
    char digest[AQ_DIGEST_SIZE];
    AQ_REQUIRE(size == expected, AQ_FORMAT, "%s: %zu bytes, expected %zu", path, size, expected);
    AQ_TRY(aq_digest_bytes(bytes, size - AQ_SEAL, digest));
    AQ_REQUIRE(memcmp(bytes + size - AQ_SEAL, digest, AQ_SEAL) == 0, AQ_FORMAT,
               "%s: damaged: its SHA-256 is %.16s..., at its end stands %.16s...", path, digest,
               bytes + size - AQ_SEAL);
    return AQ_OK;
}

aq_status aq_sealed_read(const char *path, size_t size, char **bytes) {
    size_t found;
    aq_status status = aq_file_read(path, size, bytes, &found);
    if (status == AQ_INVALID) return AQ_FAIL(AQ_FORMAT, "%s: longer than %zu bytes", path, size);
    AQ_TRY(status);
    status = check(path, *bytes, found, size);
    if (status == AQ_OK) return AQ_OK;
    free(*bytes);
    *bytes = NULL;
    return status;
}
