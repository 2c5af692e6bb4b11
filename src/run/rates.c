#include "run/rates.h"

#include "base/file.h"
#include "base/json.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_NAME "aqlm-mpi rates"

enum { MOST_BYTES = 1 << 16 };

typedef struct field {
    const char *key;
    size_t offset;
    bool optional;
} field;

#define FIELD(name)                                                                                \
    { #name, offsetof(aq_rates, name), false }

static const field fields[] = {FIELD(kmeans_step),
                               FIELD(kmeans_scores),
                               FIELD(codebooks_step),
                               FIELD(codebooks_flops),
                               FIELD(precise_flops),
                               FIELD(codes_step),
                               FIELD(codes_scores),
                               FIELD(residual_flops),
                               FIELD(forward_step),
                               FIELD(forward_flops),
                               FIELD(training_step),
                               FIELD(training_flops),
                               FIELD(update_step),
                               FIELD(copy_bytes),
                               FIELD(gram_flops),
                               {"kmeans_scores_many", offsetof(aq_rates, kmeans_scores_many), true},
                               {"codes_scores_many", offsetof(aq_rates, codes_scores_many), true},
                               {"device_memory", offsetof(aq_rates, device_memory), true},
                               {"process_memory", offsetof(aq_rates, process_memory), true}};

enum { FIELDS = sizeof fields / sizeof *fields };

/* H100: what a step costs from a whole job on docs-llama-16m, the rest from `bench rates` and
 * layers of 4096 x 4096; H200 has 1.4 times its bandwidth, an A100 about 0.4 of its arithmetic and
 * 0.6 of its bandwidth. The process's memory is that of jobs on an H100, less plan's slack.
 */
#define H100_RATES(arithmetic, bandwidth)                                                          \
    .kmeans_step = 50e-6, .kmeans_scores = 1e13 * (arithmetic),                                    \
    .kmeans_scores_many = 7e13 * (arithmetic), .codebooks_step = 60e-6,                            \
    .codebooks_flops = 200e12 * (arithmetic), .precise_flops = 50e12 * (arithmetic),               \
    .codes_step = 14e-6, .codes_scores = 1.4e12 * (arithmetic),                                    \
    .codes_scores_many = 15e12 * (arithmetic), .residual_flops = 25e12 * (bandwidth),              \
    .forward_step = 0.5e-3, .forward_flops = 250e12 * (arithmetic), .training_step = 1.3e-3,       \
    .training_flops = 400e12 * (arithmetic), .update_step = 0.5e-3,                                \
    .copy_bytes = 2.8e12 * (bandwidth), .gram_flops = 400e12 * (arithmetic),                       \
    .process_memory = 0.62e9

static const aq_rates built_in[] = {
    {"NVIDIA H200", "cuda", H100_RATES(1.0, 1.4), .device_memory = 150e9},
    {"NVIDIA H100", "cuda", H100_RATES(1.0, 1.0), .device_memory = 85e9},
    {"NVIDIA A100-SXM4-80GB", "cuda", H100_RATES(0.4, 0.6), .device_memory = 84e9},
    {"NVIDIA A100-SXM4-40GB", "cuda", H100_RATES(0.4, 0.5), .device_memory = 42e9},
    {"CPU, two cores", "cpu", .kmeans_step = 20e-6, .kmeans_scores = 2e10, .codebooks_step = 50e-6,
     .codebooks_flops = 8e10, .precise_flops = 8e10, .codes_step = 10e-6, .codes_scores = 1e10,
     .residual_flops = 1e10, .forward_step = 0.1e-3, .forward_flops = 8e10, .training_step = 0.3e-3,
     .training_flops = 8e10, .update_step = 0.5e-3, .copy_bytes = 8e9, .gram_flops = 8e10}};

enum { BUILT_IN = sizeof built_in / sizeof *built_in };

aq_status aq_rates_built_in(const char *name, aq_rates *rates) {
    char names[512] = "";
    for (int i = 0; i < BUILT_IN; i++) {
        *rates = built_in[i];
        if (*name && (strcasestr(rates->device, name) || strcasestr(name, rates->device)))
            return AQ_OK;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", rates->device);
    }
    return AQ_FAIL(AQ_INVALID,
                   "no rates of \"%s\" are built in: expected a part of one of %s, or a file of "
                   "rates",
                   name, names);
}

static double *value_of(const field *entry, aq_rates *rates) {
    return (double *)((char *)rates + entry->offset);
}

static aq_status read_text(const json_t *object, const char *key, char *room, size_t size) {
    const char *text;
    AQ_TRY(aq_json_text(object, key, &text));
    snprintf(room, size, "%s", text);
    return AQ_OK;
}

static aq_status parse(const json_t *object, aq_rates *rates) {
    const char *format;
    AQ_TRY(aq_json_text(object, "format", &format));
    AQ_REQUIRE(strcmp(format, FORMAT_NAME) == 0, AQ_FORMAT, "format: expected %s, found %s",
               FORMAT_NAME, format);
    AQ_TRY(read_text(object, "device", rates->device, sizeof rates->device));
    AQ_TRY(read_text(object, "backend", rates->backend, sizeof rates->backend));
    for (int i = 0; i < FIELDS; i++) {
        double *value = value_of(&fields[i], rates);
        if (fields[i].optional)
            AQ_TRY(aq_json_positive_or(object, fields[i].key, 0, value));
        else
            AQ_TRY(aq_json_positive(object, fields[i].key, value));
    }
    return AQ_OK;
}

aq_status aq_rates_read(const char *path, aq_rates *rates) {
    char *text;
    size_t size;
    json_t *object = NULL;
    *rates = (aq_rates){0};
    AQ_TRY(aq_file_read(path, MOST_BYTES, &text, &size));
    aq_status status = aq_json_load(text, size, &object);
    if (status == AQ_OK) status = parse(object, rates);
    json_decref(object);
    free(text);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "%s", path);
}

json_t *aq_rates_json(const aq_rates *rates) {
    aq_rates copy = *rates;
    json_t *object = json_pack("{ss ss ss}", "format", FORMAT_NAME, "device", rates->device,
                               "backend", rates->backend);
    for (int i = 0; object && i < FIELDS; i++) {
        double value = *value_of(&fields[i], &copy);
        if (fields[i].optional && value <= 0) continue;
        if (json_object_set_new(object, fields[i].key, json_real(value)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
