#include "store/tuning_state.h"

#include "base/sealed_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 1024, PARTS = 4, NAME = 64 };

/* What the head says: whose state it is, then the state. */
typedef struct head {
    char fingerprint[NAME];
    size_t block, values;
    aq_scheme scheme;
    aq_tune_state state;
} head;

/* ---- the head ---- */

static size_t count_values(const aq_parameters *parameters) {
    size_t count = 0;
    for (int i = 0; i < parameters->count; i++)
        count += PARTS * aq_tensor_count(&parameters->list[i].value);
    return count;
}

static head head_of(const aq_state_facts *facts, const aq_parameters *parameters) {
    head made = {.block = facts->block,
                 .values = count_values(parameters),
                 .scheme = parameters->coded->linears[0].scheme};
    snprintf(made.fingerprint, NAME, "%s", facts->fingerprint);
    return made;
}

/* One text for both ways; %a loses no bit. */
static void write_head(const head *from, char text[static HEAD]) {
    const aq_scheme *scheme = &from->scheme;
    const aq_tune_state *state = &from->state;
    memset(text, 0, HEAD);
    snprintf(text, HEAD,
             "aqlm-mpi tuning state 1\nfingerprint %s\nblock %zu\nscheme %dx%d of %dx%d\n"
             "values %zu\nepochs %d\nbest_epoch %d\nretries %d\nstep %d\nlearning_rate %a\n"
             "start_error %a\nbest_error %a\ntarget_square %a\n",
             from->fingerprint, from->block, scheme->codebooks, scheme->bits, scheme->out_group,
             scheme->in_group, from->values, state->epochs, state->best_epoch, state->retries,
             state->step, state->learning_rate, state->start_error, state->best_error,
             state->target_square);
}

static bool parse_head(const char *text, head *into) {
    enum { FIELDS = 15 };
    aq_scheme *scheme = &into->scheme;
    aq_tune_state *state = &into->state;
    *into = (head){0};
    return memchr(text, 0, HEAD) &&
           sscanf(text,
                  "aqlm-mpi tuning state 1\nfingerprint %63s\nblock %zu\nscheme %dx%d of %dx%d\n"
                  "values %zu\nepochs %d\nbest_epoch %d\nretries %d\nstep %d\nlearning_rate %la\n"
                  "start_error %la\nbest_error %la\ntarget_square %la\n",
                  into->fingerprint, &into->block, &scheme->codebooks, &scheme->bits,
                  &scheme->out_group, &scheme->in_group, &into->values, &state->epochs,
                  &state->best_epoch, &state->retries, &state->step, &state->learning_rate,
                  &state->start_error, &state->best_error, &state->target_square) == FIELDS;
}

static aq_status check_head(const char *path, const head *found, const head *expected) {
    const aq_tune_state *state = &found->state;
    AQ_REQUIRE(strcmp(found->fingerprint, expected->fingerprint) == 0, AQ_FORMAT,
               "%s: fingerprint is %s, expected %s", path, found->fingerprint,
               expected->fingerprint);
    AQ_REQUIRE(found->block == expected->block, AQ_FORMAT, "%s: of block %zu, expected block %zu",
               path, found->block, expected->block);
    AQ_REQUIRE(memcmp(&found->scheme, &expected->scheme, sizeof found->scheme) == 0 &&
                   found->values == expected->values,
               AQ_FORMAT, "%s: of another scheme or shape", path);
    AQ_REQUIRE(state->epochs >= 0 && state->best_epoch >= 0 && state->retries >= 0 &&
                   state->step >= 0 && isfinite(state->learning_rate) &&
                   isfinite(state->start_error) && isfinite(state->best_error) &&
                   isfinite(state->target_square),
               AQ_FORMAT, "%s: holds numbers that no tuning has", path);
    return AQ_OK;
}

/* ---- values ---- */

static const aq_tensor *part_of(const aq_parameters *parameters, int i) {
    const aq_parameter *parameter = &parameters->list[i / PARTS];
    const aq_tensor *parts[PARTS] = {&parameter->value, &parameter->kept, &parameter->moments.first,
                                     &parameter->moments.second};
    return parts[i % PARTS];
}

size_t aq_tuning_state_bytes(const aq_parameters *parameters) {
    return HEAD + count_values(parameters) * sizeof(float) + AQ_SEAL;
}

aq_status aq_tuning_state_pack(const aq_state_facts *facts, const aq_parameters *parameters,
                               const aq_tune_state *state, char *image) {
    head made = head_of(facts, parameters);
    made.state = *state;
    write_head(&made, image);
    char *at = image + HEAD;
    for (int i = 0; i < parameters->count * PARTS; i++) {
        const aq_tensor *part = part_of(parameters, i);
        AQ_TRY(aq_tensor_download(part, at, aq_tensor_bytes(part)));
        at += aq_tensor_bytes(part);
    }
    return AQ_OK;
}

static aq_status unpack(const char *values, aq_parameters *parameters) {
    for (int i = 0; i < parameters->count * PARTS; i++) {
        aq_tensor part = *part_of(parameters, i);
        AQ_TRY(aq_tensor_upload(&part, values, aq_tensor_bytes(&part)));
        values += aq_tensor_bytes(&part);
    }
    return AQ_OK;
}

aq_status aq_tuning_state_read(const char *path, const aq_state_facts *facts,
                               aq_parameters *parameters, aq_tune_state *state) {
    const head expected = head_of(facts, parameters);
    char *image;
    head found;
    AQ_TRY(aq_sealed_read(path, aq_tuning_state_bytes(parameters), &image));
    aq_status status;
    AQ_NEED(parse_head(image, &found), AQ_FORMAT, "%s: not a state of block tuning", path);
    AQ_STEP(check_head(path, &found, &expected));
    AQ_STEP(unpack(image + HEAD, parameters));
    *state = found.state;
done:
    free(image);
    return status;
}
