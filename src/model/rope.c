#include "model/rope.h"

#include <math.h>
#include <string.h>

static aq_status parse_kind(const json_t *settings, aq_rope_kind *kind) {
    static const char *const names[] = {
        [AQ_ROPE_DEFAULT] = "default", [AQ_ROPE_LINEAR] = "linear", [AQ_ROPE_LLAMA3] = "llama3"};
    const char *old_name, *name;
    AQ_TRY(aq_json_text_or(settings, "type", "default", &old_name));
    AQ_TRY(aq_json_text_or(settings, "rope_type", old_name, &name));
    for (int i = AQ_ROPE_DEFAULT; i <= AQ_ROPE_LLAMA3; i++) {
        *kind = (aq_rope_kind)i;
        if (strcmp(name, names[i]) == 0) return AQ_OK;
    }
    return AQ_FAIL(AQ_UNSUPPORTED, "rope type %s: expected default, linear or llama3", name);
}

static aq_status parse_llama3(const json_t *settings, aq_rope *rope) {
    AQ_TRY(aq_json_positive(settings, "low_freq_factor", &rope->low_factor));
    AQ_TRY(aq_json_positive(settings, "high_freq_factor", &rope->high_factor));
    AQ_TRY(aq_json_positive(settings, "original_max_position_embeddings", &rope->original_length));
    AQ_REQUIRE(rope->low_factor < rope->high_factor, AQ_FORMAT,
               "low_freq_factor %g is not below high_freq_factor %g", rope->low_factor,
               rope->high_factor);
    return AQ_OK;
}

/* Everything but theta. `settings` NULL: the default. */
static aq_status parse_settings(const json_t *settings, aq_rope *rope) {
    if (!settings) return AQ_OK;
    AQ_TRY(parse_kind(settings, &rope->kind));
    if (rope->kind != AQ_ROPE_DEFAULT) AQ_TRY(aq_json_positive(settings, "factor", &rope->factor));
    return rope->kind == AQ_ROPE_LLAMA3 ? parse_llama3(settings, rope) : AQ_OK;
}

static aq_status parse_old(const json_t *config, aq_rope *rope) {
    const json_t *scaling = NULL;
    *rope = (aq_rope){.kind = AQ_ROPE_DEFAULT};
    AQ_TRY(aq_json_positive_or(config, "rope_theta", 10000, &rope->theta));
    if (aq_json_get(config, "rope_scaling"))
        AQ_TRY(aq_json_object(config, "rope_scaling", &scaling));
    return parse_settings(scaling, rope);
}

static aq_status parse_new(const json_t *config, aq_rope *rope) {
    const json_t *settings;
    *rope = (aq_rope){.kind = AQ_ROPE_DEFAULT};
    AQ_TRY(aq_json_object(config, "rope_parameters", &settings));
    AQ_TRY(aq_json_positive(settings, "rope_theta", &rope->theta));
    return parse_settings(settings, rope);
}

static bool same(const aq_rope *a, const aq_rope *b) {
    return a->kind == b->kind && a->theta == b->theta && a->factor == b->factor &&
           a->low_factor == b->low_factor && a->high_factor == b->high_factor &&
           a->original_length == b->original_length;
}

static aq_status check_whole_head(const json_t *settings) {
    double share;
    AQ_TRY(aq_json_positive_or(settings, "partial_rotary_factor", 1, &share));
    AQ_REQUIRE(share == 1, AQ_UNSUPPORTED, "partial_rotary_factor %g: expected 1", share);
    return AQ_OK;
}

aq_status aq_rope_parse(const json_t *config, aq_rope *rope) {
    AQ_TRY(check_whole_head(config));
    if (!aq_json_get(config, "rope_parameters")) return parse_old(config, rope);
    AQ_TRY(parse_new(config, rope));
    AQ_TRY(check_whole_head(aq_json_get(config, "rope_parameters")));
    if (!aq_json_get(config, "rope_theta") && !aq_json_get(config, "rope_scaling")) return AQ_OK;
    aq_rope old;
    AQ_TRY(parse_old(config, &old));
    AQ_REQUIRE(same(&old, rope), AQ_FORMAT,
               "rope_parameters (theta %g) differs from rope_theta %g with rope_scaling",
               rope->theta, old.theta);
    return AQ_OK;
}

/* Slow components are slowed down by the factor, fast ones stay, those between are interpolated
 * (Llama 3.1; as in Hugging Face's _compute_llama3_parameters). */
static double llama3_frequency(const aq_rope *rope, double frequency) {
    double turns = rope->original_length * frequency / (2 * M_PI);
    double smooth = (turns - rope->low_factor) / (rope->high_factor - rope->low_factor);
    smooth = fmin(fmax(smooth, 0), 1);
    return (1 - smooth) * frequency / rope->factor + smooth * frequency;
}

/* Radians a position of component `index`. */
static double frequency_of(const aq_model_shape *shape, size_t index) {
    const aq_rope *rope = &shape->rope;
    double frequency = pow(rope->theta, -2.0 * (double)index / (double)shape->head_dim);
    if (rope->kind == AQ_ROPE_LINEAR) return frequency / rope->factor;
    return rope->kind == AQ_ROPE_LLAMA3 ? llama3_frequency(rope, frequency) : frequency;
}

void aq_rope_tables(const aq_model_shape *shape, size_t length, float *cosines, float *sines) {
    size_t half = shape->head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        double frequency = frequency_of(shape, i);
        for (size_t position = 0; position < length; position++) {
            cosines[position * half + i] = (float)cos((double)position * frequency);
            sines[position * half + i] = (float)sin((double)position * frequency);
        }
    }
}
