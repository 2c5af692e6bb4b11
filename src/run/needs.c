#include "run/needs.h"

#include "model/activations.h"
#include "quant/code_search.h"
#include "run/sizes.h"

/* Scratch memory of cuda/cuda_gram.cu, cuda_attention*.cu, cuda_block.cu and lists.h. */
enum {
    GRAM_PANEL = 1024,
    GRAM_RUN = 1024,
    GRAM_RUNS = 8,
    TILE_QUERIES = 1024,
    VECTORS_A_PART = 32,
    MOST_PARTS = 256,
    HALF_ROWS = 64,
    NORM_PARTS = 1024,
    COLUMN_ROWS = 256
};
#define TILE_BYTES ((size_t)256 << 20)

typedef struct sizes {
    const aq_model_shape *shape;
    const aq_config *config;
    const aq_layout *layout;
    size_t tokens; /* of a micro-batch */
} sizes;

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* aq_code_index: orders and offsets. */
static size_t index_bytes(const aq_linear_shape *linear, const aq_scheme *scheme) {
    size_t lists = aq_vectors_of(linear, scheme) + aq_entries_of(scheme) + 1;
    return (size_t)scheme->codebooks * lists * sizeof(uint32_t);
}

static size_t weight_bytes(const aq_model_shape *shape) {
    size_t bytes = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        bytes += aq_linear_weights(&shape->linears[l]) * sizeof(float);
    return bytes;
}

/* With norms, biases and rotary tables. */
static size_t block_bytes(const sizes *of) {
    size_t rotary = (size_t)of->config->calibration.length * of->shape->head_dim;
    return weight_bytes(of->shape) + aq_small_parameters(of->shape) + rotary * sizeof(float);
}

/* ---- passes ---- */

static size_t sequences_of(const aq_config *config, const aq_layout *layout) {
    return ((size_t)config->calibration.sequences + layout->team - 1) / layout->team;
}

/* The tape and `extra` tensors of a micro-batch's activations. */
static size_t pass_bytes(const sizes *of, size_t extra) {
    size_t width = aq_tape_width(of->shape) + extra * of->shape->hidden;
    return of->tokens * width * sizeof(float);
}

/* Scores of the largest tile of attention. */
static size_t tile_bytes(const sizes *of) {
    size_t length = (size_t)of->config->calibration.length;
    size_t one = least(length, TILE_QUERIES) * length * sizeof(float);
    return one * least(larger(TILE_BYTES / one, 1), of->tokens / length);
}

/* Of a forward pass in TF32: keys and values rounded to it, or tiles. */
static size_t fast_attention_bytes(const sizes *of) {
    size_t dim = of->shape->head_dim, rounded = 2 * of->tokens * of->shape->kv_heads * dim;
    return dim <= 128 && dim % 4 == 0 ? rounded * sizeof(float) : tile_bytes(of);
}

/* Two sums of every query, filled up to whole tiles. */
static size_t half_attention_bytes(const sizes *of) {
    size_t length = (size_t)of->config->calibration.length;
    size_t rows = of->tokens / length * ((length + HALF_ROWS - 1) / HALF_ROWS * HALF_ROWS);
    return rows * 2 * of->shape->heads * sizeof(float);
}

/* The parts of a norm's gradient, and of these those that are added up first. */
static size_t norm_grad_bytes(const sizes *of) {
    size_t run = (of->tokens + NORM_PARTS - 1) / NORM_PARTS, parts = (of->tokens + run - 1) / run;
    return (parts + (parts + COLUMN_ROWS - 1) / COLUMN_ROWS) * of->shape->hidden * sizeof(float);
}

/* Of attention and products: with BF16 weights attention's sums alone; else its tiles, or both
 * operands of a product in bfloat16. */
static size_t tuning_product_scratch(const sizes *of) {
    size_t length = (size_t)of->config->calibration.length, operands = 0;
    size_t dots = of->tokens / length * length * of->shape->heads * sizeof(float);
    bool half = of->config->tuning.precision == AQ_TUNING_HALF;
    if (half && of->shape->head_dim <= 128 && of->shape->head_dim % 8 == 0)
        return half_attention_bytes(of);
    for (int l = 0; half && l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &of->shape->linears[l];
        size_t x = of->tokens * linear->in, y = of->tokens * linear->out;
        operands = larger(operands, larger(x + y, larger(x, y) + aq_linear_weights(linear)));
    }
    size_t forward = half ? operands * sizeof(uint16_t) : fast_attention_bytes(of);
    return larger(forward, 2 * tile_bytes(of) + dots);
}

static size_t tuning_pass_scratch(const sizes *of) {
    return larger(tuning_product_scratch(of), norm_grad_bytes(of));
}

static size_t gram_bytes(const aq_model_shape *shape, aq_tap first) {
    size_t bytes = 0;
    for (int tap = first; tap < AQ_TAP_COUNT; tap++) {
        size_t in = aq_tap_width(shape, (aq_tap)tap);
        bytes += in * in * sizeof(double);
    }
    return bytes;
}

static size_t widest_tap(const aq_model_shape *shape) {
    size_t widest = 0;
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++)
        widest = larger(widest, aq_tap_width(shape, (aq_tap)tap));
    return widest;
}

/* Rounded inputs and panels of their products, cuda/cuda_gram.cu. */
static size_t gram_scratch(const sizes *of) {
    size_t in = widest_tap(of->shape), whole = of->tokens / GRAM_RUN;
    size_t runs = larger(least(whole, GRAM_RUNS), 1), rows = whole ? runs * GRAM_RUN : of->tokens;
    return (rows + runs * least(in, GRAM_PANEL)) * in * sizeof(float);
}

static size_t forward_bytes(const sizes *of) {
    size_t scratch = of->layout->cuda ? larger(fast_attention_bytes(of), gram_scratch(of)) : 0;
    return block_bytes(of) + gram_bytes(of->shape, 0) + pass_bytes(of, 1) + scratch;
}

/* ---- fits ---- */

/* Partial sums over the lists of one codebook's vectors. */
static size_t list_bytes(const aq_linear_shape *linear, const aq_scheme *scheme) {
    size_t parts = aq_vectors_of(linear, scheme) / aq_entries_of(scheme) / VECTORS_A_PART;
    parts = parts < 1 ? 1 : least(parts, MOST_PARTS);
    return aq_entries_of(scheme) * parts * aq_vector_of(scheme) * sizeof(float);
}

/* The best of eight columns, four words of 8 bytes a point and split, and the entries' table:
 * cuda/cuda_nearest_many.cu. */
static size_t nearest_bytes(size_t points, size_t entries, size_t width) {
    if (entries < 512 || width > 16) return 0;
    size_t blocks = (points + 1023) / 1024, chunks = (entries + 511) / 512;
    size_t splits = larger(least(1024 / blocks, chunks / 4), 1);
    return splits * points * 32 + chunks * 512 * (width > 8 ? 36 : 20);
}

/* Sums of runs of vectors, or lists and what making them takes: two keys, a number, and a radix
 * sort's second pair of them, a vector (cuda/cuda_code_sums.cu, cuda_sort.cu). */
static size_t code_sums_bytes(const aq_linear_shape *linear, const aq_scheme *scheme) {
    size_t vectors = aq_vectors_of(linear, scheme), entries = aq_entries_of(scheme);
    if (entries <= 512 && aq_vector_of(scheme) <= 32) {
        size_t tiles = (vectors + 255) / 256, run = (tiles + 1023) / 1024;
        return (tiles + run - 1) / run * entries * (aq_vector_of(scheme) + 1) * sizeof(float);
    }
    size_t sort = vectors * (3 * sizeof(uint16_t) + 2 * sizeof(uint32_t));
    return (vectors + entries) * sizeof(uint32_t) + larger(sort, list_bytes(linear, scheme));
}

/* `own` of the vectors of `linear` are clustered. */
static size_t kmeans_bytes(const aq_linear_shape *linear, const aq_linear_shape *own,
                           const aq_scheme *scheme, bool cuda) {
    size_t vectors = aq_vectors_of(own, scheme), entries = aq_entries_of(scheme);
    size_t kept = aq_linear_weights(own) * sizeof(float) +
                  entries * (aq_vector_of(scheme) + 1) * sizeof(float) +
                  entries * (2 * aq_vector_of(scheme) + 1) * sizeof(double);
    size_t drawn = entries * sizeof(uint32_t);
    if (cuda)
        drawn = larger(drawn + aq_vectors_of(linear, scheme) * sizeof(uint32_t),
                       list_bytes(own, scheme));
    size_t start = (vectors + entries) * sizeof(uint32_t) + drawn;
    size_t iteration = cuda ? larger(nearest_bytes(vectors, entries, aq_vector_of(scheme)),
                                     code_sums_bytes(own, scheme))
                            : 0;
    return kept + larger(start, iteration);
}

/* A gradient and three moments of it; or three tensors like codebooks and two like scales, and W H.
 */
static size_t solver_bytes(const aq_linear_shape *linear, const aq_config *config) {
    const aq_scheme *scheme = &config->quantizer.scheme;
    bool cg = config->quantizer.solver == AQ_SOLVER_CG;
    size_t learned = 4 * aq_learned_bytes(linear, scheme);
    if (cg) learned -= linear->out / (size_t)scheme->out_group * sizeof(float);
    return (cg ? 3 : 2) * aq_linear_weights(linear) * sizeof(float) + learned +
           index_bytes(linear, scheme);
}

/* ---- code search ---- */

/* What aq_code_search has its shapes from. */
typedef struct search_sizes {
    size_t rows, beam, row, groups, entries, codebooks, columns; /* columns: of a run */
} search_sizes;

static search_sizes search_sizes_of(const aq_linear_shape *linear, const aq_config *config) {
    const aq_scheme *scheme = &config->quantizer.scheme;
    size_t beam = (size_t)config->quantizer.beam, buffers = beam > 1 ? 2 : 1;
    size_t row = (size_t)scheme->out_group * linear->in,
           groups = linear->in / (size_t)scheme->in_group;
    size_t rows = least(larger(AQ_SEARCH_ELEMENTS / (beam * buffers * row), 1),
                        linear->out / (size_t)scheme->out_group);
    return (search_sizes){.rows = rows,
                          .beam = beam,
                          .row = row,
                          .groups = groups,
                          .entries = aq_entries_of(scheme),
                          .codebooks = (size_t)scheme->codebooks,
                          .columns =
                              aq_search_run_groups(scheme, groups) * (size_t)scheme->in_group};
}

/* aq_code_search: residuals of all hypotheses before and after a run, and the history. */
static size_t search_bytes(const aq_linear_shape *linear, const aq_config *config) {
    const search_sizes s = search_sizes_of(linear, config);
    size_t buffers = s.beam > 1 ? 2 : 1, lines = (size_t)config->quantizer.scheme.out_group;
    size_t floats =
        s.rows * s.row * (1 + buffers * s.beam) + s.rows * s.beam * (2 + lines * s.columns);
    size_t history = 1 + sizeof(uint16_t) * s.codebooks;
    return floats * sizeof(float) + (s.groups * history + 1) * s.rows * s.beam;
}

/* Of cuda_search*.cu and cuda_pass.cu. */
static size_t search_scratch(const aq_linear_shape *linear, const aq_config *config) {
    enum { LARGE = 2048, CHUNK = 256, WIDEST = 16, PAIR_ROWS = 8, SPLIT = 1 << 20 };
    const search_sizes s = search_sizes_of(linear, config);
    const aq_scheme *scheme = &config->quantizer.scheme;
    size_t steps = s.columns / (size_t)scheme->in_group, lines = (size_t)scheme->out_group;
    size_t search = s.columns * s.columns + steps * s.codebooks * s.entries;
    size_t vector = aq_vector_of(scheme), padded = vector <= WIDEST / 2 ? WIDEST / 2 : WIDEST;
    if (aq_config_search(config) == AQ_SEARCH_PAIRS)
        search += steps * larger(s.entries, PAIR_ROWS) * AQ_MAX_PAIR_ENTRIES;
    if (s.entries >= LARGE && vector <= WIDEST)
        search += s.rows * s.beam * (lines * s.columns + vector + s.entries / CHUNK) +
                  s.codebooks * s.entries * padded;
    size_t changes = s.rows * s.beam * lines, update = s.columns * linear->in;
    if (changes * linear->in >= SPLIT) update = 3 * s.columns * (linear->in + changes);
    return larger(search, update) * sizeof(float);
}

/* The rows that one member of a team works on, at most. */
static aq_linear_shape own_rows(const aq_linear_shape *linear, const sizes *of) {
    aq_linear_shape own = *linear;
    size_t lines = (size_t)of->config->quantizer.scheme.out_group, team = of->layout->team;
    own.out = (linear->out / lines + team - 1) / team * lines;
    return own;
}

/* Members hold all codes, but work on their own rows, save for starts of k-means that each makes
 * alone. k-means has given up its memory when a code search takes its own for a while. */
static size_t fit_bytes(const aq_linear_shape *linear, const sizes *of) {
    const aq_scheme *scheme = &of->config->quantizer.scheme;
    const aq_linear_shape own = own_rows(linear, of);
    bool dealt = (size_t)of->config->quantizer.kmeans_starts % of->layout->team == 0;
    size_t kmeans = kmeans_bytes(linear, dealt ? linear : &own, scheme, of->layout->cuda);
    size_t scratch = of->layout->cuda ? search_scratch(&own, of->config) : 0;
    return 3 * aq_coded_bytes(linear, scheme) + solver_bytes(&own, of->config) +
           search_bytes(&own, of->config) + larger(kmeans, scratch);
}

/* Linears are fitted in the order of their taps; each leaves its coded form, each tap gives up its
 * sum when its mean is made. */
static size_t fits_bytes(const sizes *of) {
    const aq_model_shape *shape = of->shape;
    const aq_scheme *scheme = &of->config->quantizer.scheme;
    size_t most = 0, fitted = 0;
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) {
        size_t in = aq_tap_width(shape, (aq_tap)tap), mean = in * in * sizeof(float);
        most = larger(most, fitted + gram_bytes(shape, (aq_tap)tap) + mean);
        size_t grams = mean + gram_bytes(shape, (aq_tap)(tap + 1));
        for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
            if ((int)shape->linears[l].tap != tap) continue;
            most = larger(most, fitted + grams + fit_bytes(&shape->linears[l], of));
            fitted += aq_coded_bytes(&shape->linears[l], scheme);
        }
    }
    return block_bytes(of) + most;
}

/* cuBLAS has a workspace a lane, as long as there are lanes. */
static size_t workspace_bytes(const sizes *of, int lanes) {
    enum { WORKSPACE = 32 << 20 };
    return of->layout->cuda && lanes > 1 ? (size_t)lanes * WORKSPACE : 0;
}

/* Several at a time: all Gram matrices are there then, and the forms of all linears twice in the
 * end. */
static size_t lanes_bytes(const sizes *of, int lanes) {
    const aq_model_shape *shape = of->shape;
    size_t means = 0, coded = 0, fits[AQ_LINEAR_COUNT] = {0}, most = 0;
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) {
        size_t in = aq_tap_width(shape, (aq_tap)tap);
        means += in * in * sizeof(float);
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        fits[l] = fit_bytes(&shape->linears[l], of);
        coded += aq_coded_bytes(&shape->linears[l], &of->config->quantizer.scheme);
        for (int at = l; at > 0 && fits[at] > fits[at - 1]; at--) {
            size_t smaller = fits[at - 1];
            fits[at - 1] = fits[at];
            fits[at] = smaller;
        }
    }
    for (int lane = 0; lane < lanes && lane < AQ_LINEAR_COUNT; lane++) most += fits[lane];
    return block_bytes(of) + larger(gram_bytes(shape, 0) + means, means + 2 * coded + most);
}

/* ---- tuning ---- */

static size_t tuning_bytes(const sizes *of) {
    const aq_model_shape *shape = of->shape;
    const aq_scheme *scheme = &of->config->quantizer.scheme;
    size_t small = aq_small_parameters(shape);
    /* the coded block; gradients of the decoded one; of small parameters two moments, the best */
    size_t bytes = weight_bytes(shape) + (1 + 1 + 3) * small, lists = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        bytes += aq_coded_bytes(linear, scheme) + index_bytes(linear, scheme) +
                 4 * aq_learned_bytes(linear, scheme); /* gradient, two moments, the best */
        lists = larger(lists, (size_t)scheme->codebooks * list_bytes(linear, scheme));
    }
    size_t scratch = of->layout->cuda ? larger(tuning_pass_scratch(of), lists) : 0;
    return block_bytes(of) + bytes + pass_bytes(of, 2) + scratch;
}

/* Four values of each parameter: store/tuning_state. */
static size_t saving_bytes(const sizes *of) {
    size_t bytes = 4 * aq_small_parameters(of->shape);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        bytes += 4 * aq_learned_bytes(&of->shape->linears[l], &of->config->quantizer.scheme);
    return of->config->tuning.epochs ? bytes : 0;
}

/* ---- all together ---- */

static sizes sizes_of(const aq_model_shape *shape, const aq_config *config,
                      const aq_layout *layout) {
    size_t length = (size_t)config->calibration.length, mine = sequences_of(config, layout);
    return (sizes){.shape = shape,
                   .config = config,
                   .layout = layout,
                   .tokens = least(aq_micro_batch(length), mine) * length};
}

static int wanted_lanes(const sizes *of) {
    enum { SMALL = 1 << 22, LANES = 4 };
    size_t largest = 0;
    if (of->layout->team > 1) return 1;
    if (of->config->run.lanes) return (int)of->config->run.lanes;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        largest = larger(largest, aq_linear_weights(&of->shape->linears[l]));
    return of->layout->cuda && largest <= SMALL ? LANES : 1;
}

int aq_needs_lanes(const aq_model_shape *shape, const aq_config *config, const aq_layout *layout) {
    const sizes of = sizes_of(shape, config, layout);
    size_t room = larger(forward_bytes(&of), tuning_bytes(&of));
    int lanes = wanted_lanes(&of);
    while (lanes > 1 && lanes_bytes(&of, lanes) > room) lanes--;
    return lanes;
}

void aq_memory_needs_of(const aq_model_shape *shape, const aq_config *config,
                        const aq_layout *layout, aq_memory_needs *needs) {
    const sizes of = sizes_of(shape, config, layout);
    int lanes = aq_needs_lanes(shape, config, layout);
    *needs = (aq_memory_needs){.weights = weight_bytes(shape),
                               .forward = forward_bytes(&of),
                               .fit = lanes > 1 ? lanes_bytes(&of, lanes) : fits_bytes(&of),
                               .tuning = tuning_bytes(&of),
                               .lanes = workspace_bytes(&of, lanes),
                               .saving = saving_bytes(&of),
                               .boundary = sequences_of(config, layout) *
                                           (size_t)config->calibration.length * shape->hidden *
                                           sizeof(uint16_t)};
}

size_t aq_needs_compute(const aq_memory_needs *needs) {
    return larger(needs->forward, larger(needs->fit, needs->tuning)) + needs->lanes;
}

size_t aq_needs_host_compute(const aq_memory_needs *needs) {
    return larger(needs->forward, larger(needs->fit, needs->tuning + needs->saving)) + needs->lanes;
}
