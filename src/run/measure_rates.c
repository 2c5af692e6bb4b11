#include "run/measure_rates.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/stop.h"
#include "model/activations.h"
#include "quant/code_search.h"
#include "quant/codebook_cg.h"
#include "quant/gram.h"
#include "quant/kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Each measurement is repeated for so long; the fastest counts. */
static const double least_seconds = 0.3;

static bool is_cuda(const aq_backend *backend) {
    return strcmp(aq_backend_name(backend), "cuda") == 0;
}

static aq_status draw(aq_backend *backend, aq_shape shape, float deviation, aq_tensor *tensor) {
    AQ_TRY(aq_tensor_new(backend, AQ_F32, shape, tensor));
    size_t count = aq_tensor_count(tensor), bytes = aq_tensor_bytes(tensor);
    float *values = malloc(bytes);
    aq_status status = AQ_OK;
    AQ_NEED(values, AQ_MEMORY, "no memory for %zu numbers", count);
    for (size_t i = 0; i < count; i++)
        values[i] = deviation * (float)aq_random_normal(1, AQ_STREAM_TEST, i % (1 << 20));
    AQ_STEP(aq_tensor_upload(tensor, values, bytes));
done:
    free(values);
    return status;
}

typedef aq_status (*step_function)(void *state);

/* *seconds: what the fastest of several calls took. */
static aq_status time_step(aq_backend *backend, step_function step, void *state, double *seconds) {
    double start = aq_seconds(), before = start, now;
    *seconds = HUGE_VAL;
    AQ_TRY(step(state)); /* libraries load, memory comes */
    AQ_TRY(aq_finish(backend));
    before = aq_seconds();
    do {
        AQ_TRY(aq_stop_check());
        AQ_TRY(step(state));
        AQ_TRY(aq_finish(backend));
        now = aq_seconds();
        if (now - before < *seconds) *seconds = now - before;
        before = now;
    } while (now - start < least_seconds);
    return AQ_OK;
}

/* ---- a layer ---- */

enum { ITERATIONS = 8 };

typedef struct layer {
    aq_tensor weight, gram;
    aq_coded coded, start;
    aq_tensor product; /* [out, in] */
    aq_codebook_solver solver;
    aq_code_search search;
    int steps;      /* of the last round of codebooks */
    int iterations; /* of k-means */
} layer;

typedef struct layer_size {
    size_t out, in;
    int codebooks, bits;
} layer_size;

static void layer_free(layer *made) {
    aq_codebook_solver_free(&made->solver);
    aq_code_search_free(&made->search);
    aq_coded_free(&made->coded);
    aq_coded_free(&made->start);
    aq_tensor_free(&made->product);
    aq_tensor_free(&made->weight);
    aq_tensor_free(&made->gram);
}

static aq_status cluster(void *state) {
    layer *self = state;
    const aq_kmeans how = {.iterations = self->iterations, .seed = 1, .team = aq_team_alone()};
    return aq_residual_kmeans(&self->weight, &how, &self->coded);
}

static aq_status count_step(const aq_watch *watch, const char *phase, int done, int total) {
    (void)phase, (void)total;
    *(int *)watch->state = done;
    return AQ_OK;
}

/* A round from where k-means ends: from its own end it would take another number of steps. */
static aq_status solve(void *state) {
    layer *self = state;
    const aq_watch watch = {.step = count_step, .state = &self->steps};
    AQ_TRY(aq_coded_copy(&self->start, &self->coded));
    return aq_codebook_solver_run(&self->solver, 0, &watch, &self->coded);
}

static aq_status multiply(void *state) {
    layer *self = state;
    const aq_product precise = {.alpha = 1, .precision = AQ_PRECISE};
    return aq_matmul(&self->weight, &self->gram, &precise, &self->product);
}

static aq_status search(void *state) {
    layer *self = state;
    const aq_code_pass pass = {.seed = 1, .team = aq_team_alone()};
    return aq_code_search_run(&self->search, &pass, &self->coded);
}

static aq_status layer_new(aq_backend *backend, const layer_size *size, layer *made) {
    const aq_scheme scheme = {
        .codebooks = size->codebooks, .bits = size->bits, .in_group = 8, .out_group = 1};
    *made = (layer){.iterations = ITERATIONS};
    AQ_TRY(draw(backend, AQ_DIMS(size->out, size->in), 0.02f, &made->weight));
    AQ_TRY(draw(backend, AQ_DIMS(size->in, size->in), 0, &made->gram));
    aq_tensor x;
    AQ_TRY(draw(backend, AQ_DIMS(2 * size->in, size->in), 1, &x));
    const aq_product square = {
        .transpose_a = true, .alpha = 1 / (float)(2 * size->in), .precision = AQ_PRECISE};
    aq_status status = aq_matmul(&x, &x, &square, &made->gram);
    aq_tensor_free(&x);
    AQ_TRY(status);
    AQ_TRY(aq_coded_new(backend, &scheme, size->out, size->in, &made->coded));
    AQ_TRY(aq_coded_new(backend, &scheme, size->out, size->in, &made->start));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(size->out, size->in), &made->product));
    AQ_TRY(cluster(made));
    AQ_TRY(aq_coded_copy(&made->coded, &made->start));
    AQ_TRY(aq_codebook_solver_new(AQ_SOLVER_CG, &made->coded, &made->weight, &made->gram,
                                  aq_team_alone(), &made->solver));
    return aq_code_search_new(&made->coded, &made->weight, &made->gram, 1, &made->search);
}

static aq_status time_layer(aq_backend *backend, const layer_size *size, step_function step,
                            double *seconds) {
    layer made;
    aq_status status = layer_new(backend, size, &made);
    if (status == AQ_OK) status = time_step(backend, step, &made, seconds);
    layer_free(&made);
    return status;
}

/* Work a second, of `work` beside `steps` steps that cost `step` each. */
static double rate_of(double work, double seconds, double steps, double step) {
    double working = seconds - steps * step;
    return work / (working > 0.1 * seconds ? working : 0.1 * seconds);
}

static double scores_of(const layer_size *size) {
    return (double)size->out * (double)size->in * size->codebooks * exp2(size->bits);
}

/* Of two clusterings, one without iterations: what both do (drawing the first entries, the last
 * assignment) a job does once for a hundred iterations. */
static aq_status time_iteration(aq_backend *backend, const layer_size *size, double *seconds) {
    layer made;
    double start, whole;
    aq_status status = layer_new(backend, size, &made);
    if (status == AQ_OK) status = time_step(backend, cluster, &made, &whole);
    made.iterations = 0;
    if (status == AQ_OK) status = time_step(backend, cluster, &made, &start);
    layer_free(&made);
    AQ_TRY(status);
    *seconds = fmax(whole - start, 0.1 * whole) / ITERATIONS;
    return AQ_OK;
}

static aq_status measure_kmeans(aq_backend *backend, aq_rates *rates) {
    const layer_size small = {16, 128, 1, 4}, large = {is_cuda(backend) ? 4096 : 256, 2048, 1, 8};
    const layer_size many = {4096, 2048, 1, 12};
    double most, longest;
    AQ_TRY(time_iteration(backend, &small, &rates->kmeans_step));
    AQ_TRY(time_iteration(backend, &large, &most));
    rates->kmeans_scores = rate_of(scores_of(&large), most, 1, rates->kmeans_step);
    if (!is_cuda(backend)) return AQ_OK;
    AQ_TRY(time_iteration(backend, &many, &longest));
    rates->kmeans_scores_many = rate_of(scores_of(&many), longest, 1, rates->kmeans_step);
    return AQ_OK;
}

/* Seconds of a round of codebooks and of a float32 product, and the round's steps. */
static aq_status time_rounds(aq_backend *backend, const layer_size *size, double *round,
                             double *product, double *steps) {
    layer made;
    aq_status status = layer_new(backend, size, &made);
    if (status == AQ_OK) status = time_step(backend, solve, &made, round);
    if (status == AQ_OK) status = time_step(backend, multiply, &made, product);
    *steps = made.steps;
    layer_free(&made);
    return status;
}

static aq_status measure_codebooks(aq_backend *backend, aq_rates *rates) {
    size_t width = is_cuda(backend) ? 4096 : 512;
    const layer_size small = {16, 128, 1, 4}, large = {width, width, 2, 8};
    double flops = 2.0 * (double)width * (double)width * (double)width;
    double least, most, precise, few, many;
    AQ_TRY(time_rounds(backend, &small, &least, &precise, &few));
    rates->codebooks_step = least / (few + AQ_CG_PRODUCTS);
    AQ_TRY(time_rounds(backend, &large, &most, &precise, &many));
    rates->precise_flops = flops / precise;
    most -= AQ_CG_PRODUCTS * precise;
    rates->codebooks_flops = rate_of(many * flops, most, many, rates->codebooks_step);
    return AQ_OK;
}

static aq_status measure_many_codes(aq_backend *backend, aq_rates *rates) {
    const layer_size many = {4096, 256, 1, 16};
    double seconds;
    AQ_TRY(time_layer(backend, &many, search, &seconds));
    rates->codes_scores_many =
        rate_of(scores_of(&many), seconds, (double)(many.in / 8), rates->codes_step);
    return AQ_OK;
}

/* Many entries show the scores, wide rows with few entries the updates of residuals. */
static aq_status measure_codes(aq_backend *backend, aq_rates *rates) {
    bool cuda = is_cuda(backend);
    const layer_size small = {16, 128, 1, 4}, scores = {cuda ? 4096 : 256, 256, 1, 12},
                     wide = {cuda ? 4096 : 256, cuda ? 4096 : 1024, 1, 4};
    double least, scored, updated;
    AQ_TRY(time_layer(backend, &small, search, &least));
    AQ_TRY(time_layer(backend, &scores, search, &scored));
    AQ_TRY(time_layer(backend, &wide, search, &updated));
    rates->codes_step = least / (double)(small.in / 8);
    rates->codes_scores =
        rate_of(scores_of(&scores), scored, (double)(scores.in / 8), rates->codes_step);
    if (cuda) AQ_TRY(measure_many_codes(backend, rates));
    double flops = 2.0 * (double)wide.out * (double)wide.in * (double)wide.in;
    rates->residual_flops = rate_of(flops, updated, (double)(wide.in / 8), rates->codes_step);
    return AQ_OK;
}

/* ---- a block ---- */

typedef struct pass {
    aq_model_shape shape;
    aq_block block;
    aq_block_grad grad;
    aq_tape tape;
    aq_tensor x, y;
    aq_gram_sum gram;
    size_t sequences, length;
} pass;

static void shape_of(size_t hidden, size_t ffn, size_t heads, aq_model_shape *shape) {
    *shape = (aq_model_shape){.model_type = "llama",
                              .blocks = 1,
                              .hidden = hidden,
                              .ffn = ffn,
                              .heads = heads,
                              .kv_heads = heads,
                              .head_dim = hidden / heads,
                              .vocab = 1,
                              .norm_epsilon = 1e-5f,
                              .rope = {.kind = AQ_ROPE_DEFAULT, .theta = 1e4}};
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        static const aq_tap taps[] = {
            AQ_TAP_ATTENTION_IN, AQ_TAP_ATTENTION_IN, AQ_TAP_ATTENTION_IN, AQ_TAP_ATTENTION_OUT,
            AQ_TAP_MLP_IN,       AQ_TAP_MLP_IN,       AQ_TAP_MLP_OUT};
        bool wide_out = l == AQ_LINEAR_GATE || l == AQ_LINEAR_UP;
        shape->linears[l] = (aq_linear_shape){.name = "linear",
                                              .out = wide_out ? ffn : hidden,
                                              .in = l == AQ_LINEAR_DOWN ? ffn : hidden,
                                              .tap = taps[l]};
    }
}

static void pass_free(pass *self) {
    aq_block_free(&self->block);
    aq_block_grad_free(&self->grad);
    aq_tape_free(&self->tape);
    aq_tensor_free(&self->x);
    aq_tensor_free(&self->y);
    aq_gram_sum_free(&self->gram);
}

static aq_status block_new(aq_backend *backend, pass *self) {
    aq_block *block = &self->block;
    size_t half = self->shape.head_dim / 2;
    *block = (aq_block){.shape = &self->shape, .precision = AQ_FAST};
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        AQ_TRY(draw(backend, AQ_DIMS(self->shape.hidden), 1, &block->norms[n]));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &self->shape.linears[l];
        AQ_TRY(draw(backend, AQ_DIMS(linear->out, linear->in), 0.02f, &block->weights[l]));
    }
    AQ_TRY(draw(backend, AQ_DIMS(self->length, half), 1, &block->cosines));
    return draw(backend, AQ_DIMS(self->length, half), 1, &block->sines);
}

static aq_status pass_new(aq_backend *backend, pass *self) {
    size_t tokens = self->sequences * self->length, hidden = self->shape.hidden;
    AQ_TRY(block_new(backend, self));
    AQ_TRY(aq_block_grad_new(&self->block, &self->grad));
    AQ_TRY(aq_tape_new(&self->shape, self->sequences, self->length, backend, &self->tape));
    AQ_TRY(draw(backend, AQ_DIMS(tokens, hidden), 1, &self->x));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(tokens, hidden), &self->y));
    return aq_gram_sum_new(backend, hidden, &self->gram);
}

static aq_status forward(void *state) {
    pass *self = state;
    return aq_block_forward(&self->block, self->sequences, self->length, &self->x, &self->tape,
                            NULL, &self->y);
}

static aq_status train(void *state) {
    pass *self = state;
    AQ_TRY(forward(state));
    return aq_block_backward(&self->block, self->sequences, self->length, &self->tape, &self->y,
                             &self->grad);
}

static aq_status add_gram(void *state) {
    pass *self = state;
    return aq_gram_sum_add(&self->x, &self->gram);
}

static aq_status copy_weights(void *state) {
    pass *self = state;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        AQ_TRY(aq_tensor_copy(&self->block.weights[l], &self->grad.weights[l]));
    return AQ_OK;
}

/* As block tuning has them. */
static aq_status round_weights(aq_backend *backend, pass *self) {
    self->block.precision = AQ_HALF;
    if (!aq_backend_halves(backend)) return AQ_OK;
    AQ_TRY(copy_weights(self));
    aq_block_set_halves(&self->block, true);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        AQ_TRY(aq_convert(&self->grad.weights[l], 1, &self->block.weights[l]));
    return AQ_OK;
}

typedef struct pass_times {
    double forward, training, gram, copy;
} pass_times;

static aq_status time_pass(aq_backend *backend, pass *self, pass_times *times) {
    aq_status status = pass_new(backend, self);
    if (status == AQ_OK) status = time_step(backend, forward, self, &times->forward);
    if (status == AQ_OK) status = time_step(backend, copy_weights, self, &times->copy);
    if (status == AQ_OK) status = time_step(backend, add_gram, self, &times->gram);
    if (status == AQ_OK) status = round_weights(backend, self);
    if (status == AQ_OK) status = time_step(backend, train, self, &times->training);
    pass_free(self);
    return status;
}

static double weights_of(const aq_model_shape *shape) {
    double weights = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        weights += (double)shape->linears[l].out * (double)shape->linears[l].in;
    return weights;
}

static aq_status measure_passes(aq_backend *backend, aq_rates *rates) {
    bool cuda = is_cuda(backend);
    pass small = {.sequences = 1, .length = 16};
    pass large = {.sequences = cuda ? 16 : 2, .length = 512};
    pass_times least, most;
    shape_of(32, 64, 2, &small.shape);
    shape_of(cuda ? 2048 : 256, cuda ? 5504 : 704, cuda ? 16 : 4, &large.shape);
    AQ_TRY(time_pass(backend, &small, &least));
    AQ_TRY(time_pass(backend, &large, &most));
    double tokens = (double)(large.sequences * large.length), hidden = (double)large.shape.hidden;
    double weights = weights_of(&large.shape);
    double flops = tokens * (2 * weights + 2 * hidden * (double)large.length);
    rates->forward_step = least.forward;
    rates->training_step = rates->update_step = least.training;
    rates->forward_flops = rate_of(flops, most.forward, 1, least.forward);
    rates->training_flops = rate_of(3 * flops, most.training, 1, least.training);
    rates->gram_flops = rate_of(2 * tokens * hidden * hidden, most.gram, 1, least.gram);
    rates->copy_bytes = rate_of(2 * sizeof(float) * weights, most.copy, 1, least.copy);
    return AQ_OK;
}

aq_status aq_measure_rates(aq_backend *backend, aq_rates *rates) {
    size_t free_bytes, total;
    *rates = (aq_rates){0};
    snprintf(rates->backend, sizeof rates->backend, "%s", aq_backend_name(backend));
    aq_backend_device(backend, rates->device, sizeof rates->device);
    AQ_TRY(aq_backend_memory(backend, &free_bytes, &total));
    if (is_cuda(backend)) rates->device_memory = (double)total;
    AQ_TRY(measure_kmeans(backend, rates));
    AQ_TRY(measure_codebooks(backend, rates));
    AQ_TRY(measure_codes(backend, rates));
    AQ_TRY(measure_passes(backend, rates));
    /* Now that every library is loaded and has its memory, and all tensors are gone. */
    rates->process_memory = (double)aq_host_memory_held();
    return AQ_OK;
}
