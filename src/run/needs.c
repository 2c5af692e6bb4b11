#include "run/needs.h"

#include "model/activations.h"
#include "quant/code_search.h"
#include "run/snapshots.h"

#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t linear_weights(const aq_linear_shape *linear) {
    return linear->out * linear->in;
}

static size_t gram_bytes(const aq_model_shape *shape) {
    size_t bytes = 0;
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) {
        size_t in = aq_tap_width(shape, (aq_tap)tap);
        bytes += in * in * sizeof(double);
    }
    return bytes;
}

/* Tape and the tensors around it: inputs, targets, differences. */
static size_t pass_bytes(const aq_model_shape *shape, const aq_config *config) {
    size_t length = (size_t)config->calibration.length;
    size_t sequences = (size_t)config->calibration.sequences, micro = aq_micro_batch(length);
    size_t tokens = length * (micro < sequences ? micro : sequences);
    size_t width = 5 * shape->hidden + shape->heads + AQ_NORM_COUNT;
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) width += aq_tap_width(shape, (aq_tap)tap);
    for (int l = AQ_LINEAR_Q; l <= AQ_LINEAR_V; l++) width += shape->linears[l].out;
    return tokens * (width + 2 * shape->ffn) * sizeof(float);
}

/* k-means' vectors, the difference and the gradient of the codebook solver; residuals of all
 * hypotheses before and after a group, and the history of the code search. */
static size_t fit_bytes(const aq_linear_shape *linear, const aq_config *config) {
    const aq_scheme *scheme = &config->quantizer.scheme;
    size_t weights = linear_weights(linear), beam = (size_t)config->quantizer.beam;
    size_t residuals = (beam > 1 ? 2 : 1) * beam * weights;
    if (residuals > AQ_SEARCH_ELEMENTS) residuals = AQ_SEARCH_ELEMENTS;
    size_t codes = weights / (size_t)(scheme->in_group * scheme->out_group);
    size_t history = codes * beam * (1 + sizeof(uint16_t) * (size_t)scheme->codebooks);
    return (3 * weights + residuals + linear->in * linear->in) * sizeof(float) + history;
}

static size_t code_count(const aq_model_shape *shape, const aq_scheme *scheme) {
    size_t codes = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        codes += linear_weights(&shape->linears[l]) /
                 (size_t)(scheme->in_group * scheme->out_group) * (size_t)scheme->codebooks;
    return codes;
}

/* Codes, codebooks and scales of one block as its file holds them. */
static size_t file_bytes(const aq_model_shape *shape, const aq_scheme *scheme) {
    size_t code = scheme->bits <= 8 ? sizeof(uint8_t) : sizeof(uint16_t);
    size_t entry = (size_t)(scheme->in_group * scheme->out_group) * sizeof(uint16_t);
    size_t bytes = code_count(shape, scheme) * code;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        bytes += ((size_t)scheme->codebooks << scheme->bits) * entry +
                 shape->linears[l].out / (size_t)scheme->out_group * sizeof(uint16_t);
    return bytes;
}

void aq_needs_of(const aq_model_shape *shape, const aq_config *config, aq_needs *needs) {
    const aq_scheme *scheme = &config->quantizer.scheme;
    size_t sequences = (size_t)config->calibration.sequences;
    size_t length = (size_t)config->calibration.length, pass = pass_bytes(shape, config);
    *needs = (aq_needs){0};
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        needs->weights += linear_weights(&shape->linears[l]) * sizeof(float);
        needs->fit = larger(needs->fit, fit_bytes(&shape->linears[l], config));
    }
    needs->fit += gram_bytes(shape);
    needs->forward = pass + gram_bytes(shape);
    needs->tuning =
        needs->weights + pass + code_count(shape, scheme) * (sizeof(uint16_t) + sizeof(uint32_t));
    needs->activations = 2 * sequences * length * shape->hidden * sizeof(uint16_t);
    size_t ends =
        (shape->tied_embeddings ? 1 : 2) * shape->vocab * shape->hidden * sizeof(uint16_t);
    needs->snapshot = needs->activations / 2;
    size_t snapshots =
        aq_snapshots_most(shape->blocks, (size_t)config->run.snapshot_every, 1) * needs->snapshot;
    needs->disk = 2 * shape->blocks * file_bytes(shape, scheme) + ends + snapshots;
}

size_t aq_needs_compute(const aq_needs *needs) {
    return needs->weights + larger(needs->forward, larger(needs->fit, needs->tuning));
}

static double gigabytes(size_t bytes) {
    return (double)bytes * 1e-9;
}

static aq_status require(size_t needed, size_t free_bytes, int sharers, const char *what,
                         const aq_needs *needs) {
    AQ_REQUIRE(needed <= free_bytes / (size_t)sharers, AQ_MEMORY,
               "quantizing a block needs about %.2f GB of %s memory (its weights %.2f, activations "
               "%.2f), but %.2f GB are free for %d %s; fewer or shorter calibration sequences or "
               "fewer processes a node need less",
               gigabytes(needed), what, gigabytes(needs->weights), gigabytes(needs->activations),
               gigabytes(free_bytes), sharers, sharers == 1 ? "process" : "processes");
    return AQ_OK;
}

static aq_status host_memory(size_t *free_bytes) {
    aq_backend *host;
    size_t total;
    AQ_TRY(aq_cpu_open(1, &host));
    aq_status status = aq_backend_memory(host, free_bytes, &total);
    aq_backend_close(host);
    return status;
}

aq_status aq_needs_check_memory(const aq_needs *needs, const aq_config *config, aq_backend *backend,
                                int sharers, size_t *activation_bytes) {
    size_t free_bytes, total, host_free, compute = aq_needs_compute(needs);
    AQ_TRY(aq_backend_memory(backend, &free_bytes, &total));
    *activation_bytes = SIZE_MAX;
    if (strcmp(aq_backend_name(backend), "cpu") == 0)
        return require(compute + needs->activations, free_bytes, sharers, "host", needs);

    size_t budget = (size_t)config->run.device_memory * 1000 * 1000;
    *activation_bytes = budget ? budget : free_bytes / (size_t)sharers / 2;
    bool resident = needs->activations <= *activation_bytes;
    AQ_TRY(require(compute + (resident ? needs->activations : 0), free_bytes, sharers,
                   aq_backend_name(backend), needs));
    AQ_TRY(host_memory(&host_free));
    return require(resident ? 0 : needs->activations, host_free, sharers, "host", needs);
}

aq_status aq_needs_check_disk(const aq_needs *needs, const char *path) {
    char *folder = strdup(path), *above = folder;
    AQ_REQUIRE(folder, AQ_MEMORY, "out of memory");
    while (access(above, F_OK) != 0 && strcmp(above, ".") != 0 && strcmp(above, "/") != 0)
        above = dirname(above);
    struct statvfs found;
    bool known = statvfs(above, &found) == 0 && found.f_blocks > 0; /* /proc has none */
    free(folder);
    if (!known) return AQ_OK;
    size_t room = (size_t)found.f_bavail * found.f_frsize;
    AQ_REQUIRE(needs->disk <= room, AQ_IO,
               "%s: the run's files need about %.2f GB, but its file system has %.2f GB left", path,
               gigabytes(needs->disk), gigabytes(room));
    return AQ_OK;
}
