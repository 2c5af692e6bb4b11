#include "fuzz.h"
#include "run/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    aq_config config;
    if (aq_config_new(&config) != AQ_OK) return 0;
    if (aq_config_parse((const char *)bytes, size, &config) == AQ_OK)
        (void)aq_config_check(&config);
    aq_config_free(&config);
    return 0;
}
