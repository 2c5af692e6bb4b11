/* Tells what a path holds and opens it. */
#include "base/file.h"
#include "base/json.h"
#include "store/model_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_CONFIG = 1000 * 1000 };

static aq_status look_for_quantization(const char *folder, bool *quantized) {
    char *path, *text = NULL;
    size_t size;
    json_t *config = NULL;
    AQ_TRY(aq_file_join(folder, "config.json", &path));
    aq_status status = aq_file_read(path, MOST_CONFIG, &text, &size);
    if (status == AQ_OK) {
        status = aq_json_load(text, size, &config);
        if (status != AQ_OK) aq_error_at(status, "%s", path);
    }
    *quantized = config && aq_json_get(config, "quantization_config");
    json_decref(config);
    free(text);
    free(path);
    return status;
}

aq_status aq_model_open(const char *path, aq_source **source) {
    struct stat facts;
    bool quantized;
    *source = NULL;
    AQ_REQUIRE(stat(path, &facts) == 0, errno == ENOENT ? AQ_MISSING : AQ_IO, "%s: %s", path,
               strerror(errno));
    if (!S_ISDIR(facts.st_mode)) return aq_model_file_open(path, source);
    AQ_TRY(look_for_quantization(path, &quantized));
    return quantized ? aq_aqlm_folder_open(path, source) : aq_dense_source_open(path, source);
}
