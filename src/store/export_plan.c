#include "store/export_plan.h"

#include "store/layout.h"

#include <stdlib.h>

/* ---- pieces ---- */

static aq_export_piece *add_piece(aq_export_plan *plan) {
    aq_export_piece *piece = &plan->pieces[plan->count++];
    *piece = (aq_export_piece){0};
    return piece;
}

static void add_tensor(aq_export_plan *plan, const char *name, aq_shape shape) {
    aq_export_piece *piece = add_piece(plan);
    snprintf(piece->name, sizeof piece->name, "%s", name);
    piece->shape = shape;
    piece->bytes = 2 * aq_shape_count(shape);
}

static void add_linear(aq_export_plan *plan, const aq_model_shape *shape, size_t block,
                       aq_linear_kind kind) {
    aq_export_piece *piece = add_piece(plan);
    const aq_linear_shape *linear = &shape->linears[kind];
    const aq_coded_data outline = aq_coded_data_outline(&plan->scheme, linear->out, linear->in);
    aq_linear_name(shape, block, kind, "", piece->name);
    piece->linear = linear;
    piece->bytes = aq_coded_data_bytes(&outline);
}

static void add_block(aq_export_plan *plan, const aq_model_shape *shape, size_t block) {
    char name[AQ_NAME_SIZE];
    size_t length;
    for (int linear = 0; linear < AQ_LINEAR_COUNT; linear++)
        add_linear(plan, shape, block, (aq_linear_kind)linear);
    for (int vector = 0; vector < AQ_VECTOR_COUNT; vector++)
        if (aq_layout_vector(shape, block, vector, name, &length))
            add_tensor(plan, name, AQ_DIMS(length));
}

static void cut(aq_export_plan *plan, size_t shard_bytes) {
    size_t filled = 0;
    for (size_t i = 0; i < plan->count; i++) {
        aq_export_piece *piece = &plan->pieces[i];
        bool full =
            filled > 0 && (piece->bytes > shard_bytes || filled > shard_bytes - piece->bytes);
        if (plan->shards == 0 || full) {
            plan->shards++;
            filled = 0;
        }
        piece->shard = plan->shards - 1;
        filled += piece->bytes;
        plan->bytes += piece->bytes;
    }
}

aq_status aq_export_plan_new(const aq_model_shape *shape, const aq_scheme *scheme,
                             size_t shard_bytes, aq_export_plan *plan) {
    size_t most = 3 + shape->blocks * (AQ_LINEAR_COUNT + AQ_VECTOR_COUNT);
    *plan = (aq_export_plan){.scheme = *scheme, .pieces = calloc(most, sizeof *plan->pieces)};
    AQ_REQUIRE(plan->pieces, AQ_MEMORY, "no memory for a list of %zu tensors", most);
    add_tensor(plan, AQ_EMBEDDING_NAME, AQ_DIMS(shape->vocab, shape->hidden));
    for (size_t block = 0; block < shape->blocks; block++) add_block(plan, shape, block);
    add_tensor(plan, AQ_FINAL_NORM_NAME, AQ_DIMS(shape->hidden));
    if (!shape->tied_embeddings)
        add_tensor(plan, AQ_HEAD_NAME, AQ_DIMS(shape->vocab, shape->hidden));
    cut(plan, shard_bytes);
    return AQ_OK;
}

void aq_export_plan_free(aq_export_plan *plan) {
    free(plan->pieces);
    *plan = (aq_export_plan){0};
}

/* ---- names ---- */

void aq_export_shard_name(const aq_export_plan *plan, size_t shard,
                          char name[static AQ_SHARD_NAME_SIZE]) {
    if (plan->shards == 1)
        snprintf(name, AQ_SHARD_NAME_SIZE, "model.safetensors");
    else
        snprintf(name, AQ_SHARD_NAME_SIZE, "model-%05zu-of-%05zu.safetensors", shard + 1,
                 plan->shards);
}

enum { PART_COUNT = 3, PART_NAME_SIZE = AQ_NAME_SIZE + 16 };
static const char *const part_names[PART_COUNT] = {"codes", "codebooks", "scales"};

static void part_name(const aq_export_piece *piece, int part, char name[static PART_NAME_SIZE]) {
    snprintf(name, PART_NAME_SIZE, "%s.%s", piece->name, part_names[part]);
}

static aq_status announce_linear(const aq_export_plan *plan, const aq_export_piece *piece,
                                 aq_safetensors_writer *writer) {
    const aq_coded_data outline =
        aq_coded_data_outline(&plan->scheme, piece->linear->out, piece->linear->in);
    size_t width = aq_dtype_size(aq_code_dtype(&plan->scheme));
    const aq_shape shapes[PART_COUNT] = {aq_coded_data_codes(&outline),
                                         aq_coded_data_codebooks(&outline),
                                         AQ_DIMS(outline.rows, 1, 1, 1)};
    for (int part = 0; part < PART_COUNT; part++) {
        char name[PART_NAME_SIZE];
        const char *code_type = width == 1 ? "I8" : "I16";
        part_name(piece, part, name);
        AQ_TRY(aq_safetensors_announce(writer, name, part == 0 ? code_type : "F16", shapes[part],
                                       aq_shape_count(shapes[part]) * (part == 0 ? width : 2)));
    }
    return AQ_OK;
}

aq_status aq_export_announce(const aq_export_plan *plan, size_t shard,
                             aq_safetensors_writer *writer) {
    for (size_t i = 0; i < plan->count; i++) {
        const aq_export_piece *piece = &plan->pieces[i];
        if (piece->shard != shard) continue;
        AQ_TRY(piece->linear ? announce_linear(plan, piece, writer)
                             : aq_safetensors_announce(writer, piece->name, "F16", piece->shape,
                                                       piece->bytes));
    }
    return AQ_OK;
}

static json_t *weight_map(const aq_export_plan *plan) {
    json_t *map = json_object();
    for (size_t i = 0; i < plan->count; i++) {
        const aq_export_piece *piece = &plan->pieces[i];
        char shard[AQ_SHARD_NAME_SIZE], name[PART_NAME_SIZE];
        aq_export_shard_name(plan, piece->shard, shard);
        if (!piece->linear) json_object_set_new(map, piece->name, json_string(shard));
        for (int part = 0; piece->linear && part < PART_COUNT; part++) {
            part_name(piece, part, name);
            json_object_set_new(map, name, json_string(shard));
        }
    }
    return map;
}

aq_status aq_export_index(const aq_export_plan *plan, char **text) {
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)plan->bytes,
                              "weight_map", weight_map(plan));
    *text = index ? json_dumps(index, JSON_INDENT(2)) : NULL;
    json_decref(index);
    AQ_REQUIRE(*text, AQ_MEMORY, "no memory for the index of %zu shards", plan->shards);
    return AQ_OK;
}
