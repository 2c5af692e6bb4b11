#include "store/halves.h"

#include "base/half.h"

#include <stdlib.h>
#include <string.h>

static float value_at(aq_dtype dtype, const char *bytes, size_t index) {
    uint16_t bits;
    float value;
    if (dtype == AQ_F32) {
        memcpy(&value, bytes + 4 * index, sizeof value);
        return value;
    }
    memcpy(&bits, bytes + 2 * index, sizeof bits);
    return dtype == AQ_F16 ? aq_half_to_float(bits) : aq_bfloat_to_float(bits);
}

aq_status aq_halves_from(aq_dtype dtype, const void *bytes, size_t count, const char *what,
                         uint16_t *halves) {
    for (size_t i = 0; i < count; i++) {
        float value = value_at(dtype, bytes, i);
        AQ_REQUIRE(aq_half_fits(value), AQ_NUMERIC,
                   "%s: value %g at position %zu does not fit float16 (largest: 65504)", what,
                   (double)value, i);
        halves[i] = aq_half_from_float(value);
    }
    return AQ_OK;
}

aq_status aq_halves_download(const aq_tensor *values, const char *what, uint16_t *halves) {
    size_t bytes = aq_tensor_bytes(values);
    float *host = malloc(bytes);
    AQ_REQUIRE(host, AQ_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
    aq_status status = aq_tensor_download(values, host, bytes);
    if (status == AQ_OK)
        status = aq_halves_from(AQ_F32, host, aq_tensor_count(values), what, halves);
    free(host);
    return status;
}

aq_status aq_halves_upload(const uint16_t *halves, aq_shape shape, aq_backend *backend,
                           aq_tensor *values) {
    AQ_TRY(aq_tensor_new(backend, AQ_F32, shape, values));
    aq_status status = AQ_OK;
    size_t count = aq_tensor_count(values);
    float *host = malloc(count * sizeof *host);
    AQ_NEED(host, AQ_MEMORY, "out of memory: %zu bytes", count * sizeof *host);
    for (size_t i = 0; i < count; i++) host[i] = aq_half_to_float(halves[i]);
    AQ_STEP(aq_tensor_upload(values, host, count * sizeof *host));
done:
    free(host);
    if (status != AQ_OK) aq_tensor_free(values);
    return status;
}

aq_status aq_halves_check(const uint16_t *halves, size_t count, const char *what) {
    for (size_t i = 0; i < count; i++)
        AQ_REQUIRE((halves[i] & 0x7c00u) != 0x7c00u, AQ_NUMERIC,
                   "%s: NaN or infinity at position %zu", what, i);
    return AQ_OK;
}
