#include "run/needs.h"

#include "run/sizes.h"
#include "run/snapshots.h"

size_t aq_coded_file_bytes(const aq_model_shape *shape, const aq_scheme *scheme) {
    size_t code = scheme->bits <= 8 ? sizeof(uint8_t) : sizeof(uint16_t), bytes = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        bytes += aq_vectors_of(linear, scheme) * (size_t)scheme->codebooks * code +
                 aq_learned_bytes(linear, scheme) / 2;
    }
    return bytes;
}

/* Codes and float32 values of the layers, then these with two moments and the best: what a block in
 * work keeps, once for its team, with room for the file that replaces it. */
static size_t state_bytes(const aq_model_shape *shape, const aq_scheme *scheme) {
    size_t bytes = 4 * aq_small_parameters(shape);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        bytes += aq_coded_bytes(&shape->linears[l], scheme) +
                 4 * aq_learned_bytes(&shape->linears[l], scheme);
    return 2 * bytes;
}

void aq_disk_needs_of(const aq_model_shape *shape, const aq_config *config, const aq_layout *layout,
                      aq_disk_needs *needs) {
    const aq_scheme *scheme = &config->quantizer.scheme;
    size_t ends = shape->tied_embeddings ? 1 : 2;
    size_t block = aq_coded_file_bytes(shape, scheme) + aq_small_parameters(shape) / 2;
    size_t teams = layout->ranks / layout->team;
    size_t snapshot = (size_t)config->calibration.sequences * (size_t)config->calibration.length *
                      shape->hidden * sizeof(uint16_t);
    *needs = (aq_disk_needs){
        .blocks = shape->blocks * block,
        .gathered = shape->blocks * block + ends * shape->vocab * shape->hidden * sizeof(uint16_t),
        .states = (teams < shape->blocks ? teams : shape->blocks) * state_bytes(shape, scheme),
        .snapshot = snapshot,
        .snapshots =
            snapshot * aq_snapshots_most(shape->blocks, (size_t)config->run.snapshot_every, teams)};
}

size_t aq_disk_needs_total(const aq_disk_needs *needs) {
    return needs->blocks + needs->gathered + needs->states + needs->snapshots;
}
