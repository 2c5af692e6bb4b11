#include "run/time_block.h"

#include "quant/gram.h"
#include "run/time_layer.h"
#include "run/time_tuning.h"

#include <math.h>

static void charge(aq_block_cost *cost, aq_block_phase phase, double seconds, const aq_work *work,
                   double times) {
    const aq_work all = aq_work_times(work, times);
    aq_work *sum = &cost->work[phase];
    cost->seconds[phase] += seconds;
    sum->products += all.products;
    sum->halves += all.halves;
    sum->scores += all.scores;
    sum->bytes += all.bytes;
}

/* ---- layers ---- */

static bool is_mlp(int linear) {
    return linear >= AQ_LINEAR_GATE;
}

static aq_layer_cost *find_layer(aq_block_cost *cost, size_t out, size_t in) {
    int i = 0;
    while (i < cost->layer_count && (cost->layers[i].out != out || cost->layers[i].in != in)) i++;
    if (i == cost->layer_count)
        cost->layers[cost->layer_count++] = (aq_layer_cost){.out = out, .in = in};
    return &cost->layers[i];
}

void aq_block_layers(const aq_block_kind *kind, aq_block_cost *cost) {
    *cost = (aq_block_cost){0};
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &kind->shape.linears[l];
        size_t out = linear->out, in = linear->in;
        if (l == AQ_LINEAR_DOWN) in /= kind->active;
        if (l == AQ_LINEAR_GATE || l == AQ_LINEAR_UP) out /= kind->active;
        find_layer(cost, out, in)->count += is_mlp(l) ? kind->experts : 1;
    }
}

/* A start, whose entries are drawn once, and whose iterations are all alike. */
static aq_status time_kmeans(const aq_block_subject *of, const aq_tensor *weight,
                             const aq_tensor *gram, double *seconds) {
    aq_fit_settings fit = of->fit;
    aq_fit_report report;
    aq_layer_times draw, timed;
    int wanted = fit.kmeans_iterations;
    fit.kmeans_starts = 1;
    fit.rounds = fit.kmeans_iterations = 0;
    AQ_TRY(aq_time_layer(weight, gram, &fit, of->repeats, &report, &draw));
    fit.kmeans_iterations = wanted < AQ_TIMED_ITERATIONS ? wanted : AQ_TIMED_ITERATIONS;
    AQ_TRY(aq_time_layer(weight, gram, &fit, of->repeats, &report, &timed));
    double iteration = fmax(timed.kmeans - draw.kmeans, 0) / fmax(fit.kmeans_iterations, 1);
    int iterations = aq_fit_kmeans_iterations(&of->fit) / fit.scheme.codebooks;
    *seconds = of->fit.kmeans_starts * draw.kmeans + iterations * iteration;
    return AQ_OK;
}

/* The first rounds stand for all: later ones take fewer steps on the codebooks. */
static aq_status time_rounds(const aq_block_subject *of, const aq_tensor *weight,
                             const aq_tensor *gram, aq_layer_cost *cost) {
    aq_fit_settings fit = of->fit;
    aq_fit_report report;
    aq_layer_times times;
    fit.kmeans_starts = 1;
    if (fit.kmeans_iterations > AQ_TIMED_ITERATIONS) fit.kmeans_iterations = AQ_TIMED_ITERATIONS;
    if (fit.rounds > AQ_TIMED_ROUNDS) fit.rounds = AQ_TIMED_ROUNDS;
    AQ_TRY(aq_time_layer(weight, gram, &fit, 1, &report, &times));
    double share = report.rounds ? (double)of->fit.rounds / report.rounds : 0;
    cost->codebooks = share * report.seconds_codebooks;
    cost->codes = share * report.seconds_codes;
    cost->steps = (double)of->fit.rounds * times.steps;
    cost->rounds = report.rounds;
    cost->error = report.error;
    return AQ_OK;
}

static aq_status time_layer(aq_backend *backend, const aq_block_subject *of, aq_layer_cost *cost) {
    aq_tensor weight = {0}, gram = {0};
    aq_status status;
    AQ_STEP(aq_synthetic_layer(backend, cost->out, cost->in, of->fit.seed, &weight, &gram));
    AQ_STEP(time_rounds(of, &weight, &gram, cost));
    AQ_STEP(time_kmeans(of, &weight, &gram, &cost->kmeans));
done:
    aq_tensor_free(&weight);
    aq_tensor_free(&gram);
    return status;
}

static void charge_layer(const aq_block_subject *of, const aq_layer_cost *layer,
                         aq_block_cost *cost) {
    const aq_fit_settings *fit = &of->fit;
    double count = (double)layer->count;
    double iterations = (double)aq_fit_kmeans_iterations(fit);
    const aq_work kmeans = aq_work_kmeans(&fit->scheme, layer->out, layer->in);
    const aq_work step = aq_work_codebooks(layer->out, layer->in);
    const aq_work pass = fit->search == AQ_SEARCH_PAIRS
                             ? aq_work_pairs(&fit->scheme, layer->out, layer->in)
                             : aq_work_codes(&fit->scheme, layer->out, layer->in, fit->beam);
    charge(cost, AQ_BLOCK_KMEANS, count * layer->kmeans, &kmeans, count * iterations);
    charge(cost, AQ_BLOCK_CODEBOOKS, count * layer->codebooks, &step, count * layer->steps);
    charge(cost, AQ_BLOCK_CODES, count * layer->codes, &pass, count * fit->rounds);
}

static aq_status time_layers(aq_backend *backend, const aq_block_subject *of, aq_block_cost *cost) {
    for (int i = 0; i < cost->layer_count; i++) {
        AQ_TRY(time_layer(backend, of, &cost->layers[i]));
        charge_layer(of, &cost->layers[i], cost);
    }
    return AQ_OK;
}

aq_status aq_block_check(const aq_block_subject *of, const aq_block_cost *cost) {
    for (int i = 0; i < cost->layer_count; i++) {
        const aq_layer_cost *layer = &cost->layers[i];
        aq_status fits = aq_scheme_check(&of->fit.scheme, layer->out, layer->in);
        if (fits != AQ_OK) return aq_error_at(fits, "layer of %zu x %zu", layer->out, layer->in);
    }
    return AQ_OK;
}

/* ---- Gram matrices ---- */

typedef struct gram_problem {
    aq_tensor x;
    aq_gram_sum sum;
} gram_problem;

static aq_status add_gram(void *state) {
    gram_problem *self = state;
    return aq_gram_sum_add(&self->x, &self->sum);
}

static aq_status time_gram(aq_backend *backend, const aq_block_subject *of, size_t width,
                           double *seconds) {
    gram_problem self = {0};
    aq_status status;
    AQ_STEP(aq_synthetic_normal(backend, AQ_DIMS(of->length, width), 1, 0, &self.x));
    AQ_STEP(aq_gram_sum_new(backend, width, &self.sum));
    AQ_STEP(aq_time_median(backend, add_gram, &self, of->repeats, seconds));
done:
    aq_tensor_free(&self.x);
    aq_gram_sum_free(&self.sum);
    return status;
}

static size_t gram_width(const aq_block_kind *kind, aq_tap tap) {
    return aq_tap_width(&kind->shape, tap) / (tap == AQ_TAP_MLP_OUT ? kind->active : 1);
}

/* One triangle of X'X; a token is an input of each of its experts. */
static void charge_gram(const aq_block_subject *of, aq_tap tap, double seconds,
                        aq_block_cost *cost) {
    bool mlp = tap == AQ_TAP_MLP_IN || tap == AQ_TAP_MLP_OUT;
    double times = (double)of->sequences * (mlp ? (double)of->kind->active : 1);
    double columns = (double)gram_width(of->kind, tap), tokens = (double)of->length;
    const aq_work work = {.products = tokens * columns * columns,
                          .bytes = sizeof(float) * tokens * columns};
    charge(cost, AQ_BLOCK_GRAM, times * seconds, &work, times);
}

static aq_status time_grams(aq_backend *backend, const aq_block_subject *of, aq_block_cost *cost) {
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) {
        double seconds = 0;
        AQ_TRY(time_gram(backend, of, gram_width(of->kind, (aq_tap)tap), &seconds));
        charge_gram(of, (aq_tap)tap, seconds, cost);
    }
    return AQ_OK;
}

/* ---- passes and tuning ---- */

typedef struct dense_pass {
    aq_block block;
    aq_tape tape;
    aq_tensor x; /* [length, hidden], the output too */
    size_t length;
} dense_pass;

static aq_status run_pass(void *state) {
    dense_pass *self = state;
    return aq_block_forward(&self->block, 1, self->length, &self->x, &self->tape, NULL, &self->x);
}

/* Passes outside of tuning are AQ_FAST, whatever tuning's are. */
static aq_status time_pass(aq_backend *backend, const aq_block_subject *of, double *seconds) {
    const aq_model_shape *shape = &of->kind->shape;
    dense_pass self = {.length = of->length};
    aq_shape rows = AQ_DIMS(of->length, shape->hidden);
    aq_status status;
    AQ_STEP(aq_synthetic_block(backend, shape, of->length, AQ_FAST, &self.block));
    AQ_STEP(aq_tape_new(shape, 1, of->length, backend, &self.tape));
    AQ_STEP(aq_synthetic_normal(backend, rows, 1, 0, &self.x));
    AQ_STEP(aq_time_median(backend, run_pass, &self, of->repeats, seconds));
done:
    aq_block_free(&self.block);
    aq_tape_free(&self.tape);
    aq_tensor_free(&self.x);
    return status;
}

/* Sequences of a measurement: those held out, or all if none are. */
static double judged(const aq_block_subject *of) {
    return of->held_out > 0 ? (double)of->held_out : (double)of->sequences;
}

static void charge_passes(const aq_block_subject *of, double seconds, aq_block_cost *cost) {
    const aq_work pass = aq_work_forward(&of->kind->shape, of->length);
    double passes = (double)of->sequences + (double)of->held_out + judged(of);
    charge(cost, AQ_BLOCK_FORWARD, passes * seconds, &pass, passes);
}

/* All weights of the block for one that a token's way has: those are timed. */
static double weights_share(const aq_block_kind *kind) {
    double all = 0, timed = 0;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        double weights = (double)kind->shape.linears[l].out * (double)kind->shape.linears[l].in;
        timed += weights;
        all += is_mlp(l) ? weights * (double)kind->experts / (double)kind->active : weights;
    }
    return all / timed;
}

static void charge_tuning(const aq_block_subject *of, const aq_tuning_times *times,
                          aq_block_cost *cost) {
    const aq_model_shape *shape = &of->kind->shape;
    const aq_work ahead = aq_work_forward(shape, of->length);
    const aq_work back = aq_work_backward(shape, of->length);
    const aq_work decode = aq_work_decode(shape, &of->fit.scheme);
    const aq_work update = aq_work_update(shape, &of->fit.scheme);
    double all = (double)of->sequences, epochs = of->epochs, share = weights_share(of->kind);
    double steps = epochs * ceil(all / of->batch) * share, decodes = steps + (epochs + 1) * share;
    double measured = (epochs + 1) * judged(of) + all;
    if (!of->epochs) return;
    charge(cost, AQ_BLOCK_TUNING, (epochs * all + measured) * times->forward, &ahead,
           epochs * all + measured);
    charge(cost, AQ_BLOCK_TUNING, epochs * all * times->backward, &back, epochs * all);
    charge(cost, AQ_BLOCK_TUNING, decodes * times->decode, &decode, decodes);
    charge(cost, AQ_BLOCK_TUNING, steps * times->update, &update, steps);
}

void aq_block_count(const aq_block_subject *subject, aq_block_cost *cost) {
    const aq_tuning_times untimed = {0};
    aq_block_layers(subject->kind, cost);
    charge_passes(subject, 0, cost);
    charge_tuning(subject, &untimed, cost);
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) charge_gram(subject, (aq_tap)tap, 0, cost);
    for (int i = 0; i < cost->layer_count; i++) charge_layer(subject, &cost->layers[i], cost);
}

aq_status aq_time_block(aq_backend *backend, const aq_block_subject *subject, aq_block_cost *cost) {
    const aq_tuning_subject tuning = {.shape = &subject->kind->shape,
                                      .scheme = subject->fit.scheme,
                                      .precision = subject->precision,
                                      .length = subject->length};
    aq_tuning_times times;
    double pass = 0;
    aq_block_layers(subject->kind, cost);
    AQ_TRY(aq_block_check(subject, cost));
    AQ_TRY(time_pass(backend, subject, &pass));
    charge_passes(subject, pass, cost);
    AQ_TRY(aq_time_tuning(backend, &tuning, subject->repeats, &times));
    charge_tuning(subject, &times, cost);
    AQ_TRY(time_grams(backend, subject, cost));
    return time_layers(backend, subject, cost);
}
