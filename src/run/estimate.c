#include "run/plan.h"

#include "model/activations.h"
#include "quant/codebook_cg.h"
#include "run/sizes.h"

#include <math.h>

/* Rounds that the rule of quantizer.tolerance lets a layer have: 3 to 8 on the test models. */
static const double usual_rounds = 5;

/* Steps of conjugate gradients a round: 4 to 12 there. */
static const double usual_steps = 10;

static const double disk_bytes_a_second = 3e8, seconds_a_file = 0.01;

/* Of one rank: its sequences, and its part of the rows where a team shares them. */
typedef struct work {
    const aq_model_shape *shape;
    const aq_config *config;
    const aq_rates *rates;
    double team, sequences, training, micro; /* sequences: all, that train, of a micro-batch */
} work;

static work work_of(const aq_model_shape *shape, const aq_config *config, const aq_layout *layout,
                    const aq_rates *rates) {
    double team = (double)layout->team, all = (double)config->calibration.sequences;
    double held_out = (double)config->calibration.validation;
    double micro = (double)aq_micro_batch((size_t)config->calibration.length);
    return (work){.shape = shape,
                  .config = config,
                  .rates = rates,
                  .team = team,
                  .sequences = ceil(all / team),
                  .training = ceil((all - held_out) / team),
                  .micro = fmin(micro, ceil(all / team))};
}

/* Of a forward pass of one sequence: products, and attention that sees half of the tokens. */
static double sequence_flops(const work *of) {
    double weights = 0, length = (double)of->config->calibration.length;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        weights += (double)aq_linear_weights(&of->shape->linears[l]);
    double heads = (double)of->shape->heads * (double)of->shape->head_dim;
    return length * (2 * weights + 2 * heads * length);
}

static double forward_seconds(const work *of, double sequences) {
    return ceil(sequences / of->micro) * of->rates->forward_step +
           sequences * sequence_flops(of) / of->rates->forward_flops;
}

static double training_seconds(const work *of, double sequences) {
    return ceil(sequences / of->micro) * of->rates->training_step +
           sequences * 3 * sequence_flops(of) / of->rates->training_flops;
}

static double held_out(const work *of) {
    return of->sequences > of->training ? of->sequences - of->training : of->training;
}

/* The dense pass with its Gram sums, and the measurement at the end. */
static double phase_forward(const work *of) {
    double tokens = of->training * (double)of->config->calibration.length, flops = 0;
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) {
        double in = (double)aq_tap_width(of->shape, (aq_tap)tap);
        flops += 2 * tokens * in * in;
    }
    return forward_seconds(of, of->sequences) + flops / of->rates->gram_flops +
           forward_seconds(of, held_out(of));
}

static double scores(const work *of, const aq_linear_shape *linear) {
    const aq_scheme *scheme = &of->config->quantizer.scheme;
    return (double)aq_linear_weights(linear) * (double)aq_entries_of(scheme) / of->team;
}

/* `many` where the machine has a way of its own with many entries. */
static double score_rate(const work *of, double few, double many) {
    return many > 0 && aq_entries_of(&of->config->quantizer.scheme) >= AQ_MANY_ENTRIES ? many : few;
}

static double phase_kmeans(const work *of) {
    const aq_config *config = of->config;
    const aq_fit_settings fit = aq_config_fit(config);
    int codebooks = fit.scheme.codebooks, last = codebooks * (fit.kmeans_starts + 1);
    double seconds = 0, assignments = (double)(aq_fit_kmeans_iterations(&fit) + last);
    double rate = score_rate(of, of->rates->kmeans_scores, of->rates->kmeans_scores_many);
    for (int l = 0; l < AQ_LINEAR_COUNT; l++)
        seconds += of->rates->kmeans_step + scores(of, &of->shape->linears[l]) / rate;
    return seconds * assignments;
}

static double rounds_of(const aq_config *config) {
    double most = (double)config->quantizer.rounds;
    bool all = config->quantizer.tolerance == 0 || config->quantizer.noise > 0;
    return all ? most : fmin(most, usual_rounds);
}

static double phase_codebooks(const work *of) {
    bool adam = of->config->quantizer.solver == AQ_SOLVER_ADAM;
    double steps = (double)of->config->quantizer.adam_steps, flops = 0;
    double fast = adam ? 0 : usual_steps;
    double precise = adam ? steps : AQ_CG_PRODUCTS;
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        double in = (double)of->shape->linears[l].in, out = (double)of->shape->linears[l].out;
        flops += 2 * out * in * in / of->team;
    }
    double round = AQ_LINEAR_COUNT * (fast + precise) * of->rates->codebooks_step +
                   fast * flops / of->rates->codebooks_flops +
                   precise * flops / of->rates->precise_flops;
    return round * rounds_of(of->config);
}

/* Scores of a vector, for each entry of a codebook: a pair takes two operations instead of eight.
 */
static double searches(const aq_config *config) {
    const aq_scheme *scheme = &config->quantizer.scheme;
    if (aq_config_search(config) == AQ_SEARCH_PAIRS) return (double)aq_entries_of(scheme) / 4;
    return (double)config->quantizer.beam * scheme->codebooks;
}

static double phase_codes(const work *of) {
    const aq_scheme *scheme = &of->config->quantizer.scheme;
    double seconds = 0, beam = (double)of->config->quantizer.beam;
    double rate = score_rate(of, of->rates->codes_scores, of->rates->codes_scores_many);
    bool pairs = aq_config_search(of->config) == AQ_SEARCH_PAIRS;
    double turns = pairs ? 1 : scheme->codebooks; /* of a column group */
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &of->shape->linears[l];
        double in = (double)linear->in, out = (double)linear->out;
        seconds += in / scheme->in_group * turns * of->rates->codes_step +
                   searches(of->config) * scores(of, linear) / rate +
                   beam * 2 * out * in * in / of->team / of->rates->residual_flops;
    }
    return seconds * rounds_of(of->config);
}

/* An epoch trains on all training sequences and measures the held-out ones; a step decodes the
 * block, and goes through its gradients. */
static double phase_tuning(const work *of) {
    const aq_config *config = of->config;
    double epochs = (double)config->tuning.epochs, batch = (double)config->tuning.batch;
    double steps = ceil(of->training * of->team / batch), part = ceil(batch / of->team);
    double weights = sequence_flops(of) / 2 / (double)config->calibration.length;
    double update = of->rates->update_step + 4 * sizeof(float) * weights / of->rates->copy_bytes;
    double epoch =
        steps * (training_seconds(of, part) + update) + forward_seconds(of, held_out(of));
    return epochs * epoch + forward_seconds(of, of->training) + forward_seconds(of, held_out(of));
}

void aq_estimate_block(const aq_model_shape *shape, const aq_config *config,
                       const aq_layout *layout, const aq_rates *rates, aq_phases *seconds) {
    const work of = work_of(shape, config, layout, rates);
    double bytes = (double)aq_coded_file_bytes(shape, &config->quantizer.scheme);
    *seconds =
        (aq_phases){.seconds = {[AQ_PHASE_FORWARD] = phase_forward(&of),
                                [AQ_PHASE_KMEANS] = phase_kmeans(&of),
                                [AQ_PHASE_CODEBOOKS] = phase_codebooks(&of),
                                [AQ_PHASE_CODES] = phase_codes(&of),
                                [AQ_PHASE_TUNING] = phase_tuning(&of),
                                [AQ_PHASE_FILES] = seconds_a_file + bytes / disk_bytes_a_second}};
}

double aq_estimate_forward(const aq_model_shape *shape, const aq_config *config,
                           const aq_layout *layout, const aq_rates *rates) {
    const work of = work_of(shape, config, layout, rates);
    return forward_seconds(&of, of.sequences);
}
