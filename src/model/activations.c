#include "model/activations.h"

#include "base/log.h"
#include "base/stop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t sequence_bytes(const aq_activations *activations) {
    return activations->length * activations->hidden * aq_dtype_size(AQ_BF16);
}

size_t aq_activations_bytes(const aq_activations *activations) {
    return activations->sequences * sequence_bytes(activations);
}

static aq_status check_size(const aq_activations *activations) {
    size_t bytes = aq_dtype_size(AQ_BF16);
    AQ_REQUIRE(!__builtin_mul_overflow(bytes, activations->sequences, &bytes) &&
                   !__builtin_mul_overflow(bytes, activations->length, &bytes) &&
                   !__builtin_mul_overflow(bytes, activations->hidden, &bytes) && bytes > 0,
               AQ_INVALID, "activations of %zu sequences of %zu x %zu values have no valid size",
               activations->sequences, activations->length, activations->hidden);
    return AQ_OK;
}

/* Sequences `list` of `count` are in `values` or on their way; none: count 0. */
struct aq_read_ahead {
    aq_tensor values; /* BF16 [room, length * hidden] */
    size_t room, count;
    uint32_t list[];
};

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static aq_status make_ahead(aq_activations *activations) {
    size_t room = least(aq_micro_batch(activations->length), activations->sequences);
    aq_read_ahead *ahead = calloc(1, sizeof *ahead + room * sizeof *ahead->list);
    AQ_REQUIRE(ahead, AQ_MEMORY, "no memory for a list of %zu sequences", room);
    activations->ahead = ahead;
    ahead->room = room;
    return aq_tensor_new(activations->backend, AQ_BF16,
                         AQ_DIMS(room, activations->length * activations->hidden), &ahead->values);
}

static aq_status make_staging(aq_activations *activations) {
    if (aq_backend_ahead(activations->backend)) AQ_TRY(make_ahead(activations));
    return aq_tensor_new(activations->backend, AQ_BF16,
                         AQ_DIMS(activations->length, activations->hidden), &activations->staging);
}

/* What is on its way and will not be read. */
static void drop_ahead(aq_read_ahead *ahead) {
    if (!ahead || !ahead->count) return;
    (void)aq_ahead_join(ahead->values.home);
    ahead->count = 0;
}

static void free_ahead(aq_activations *activations) {
    drop_ahead(activations->ahead);
    if (activations->ahead) aq_tensor_free(&activations->ahead->values);
    free(activations->ahead);
    activations->ahead = NULL;
}

/* Memory that was free when the share was set may be gone by now: then they are not resident. */
static aq_status make_resident(size_t device_bytes, aq_activations *activations) {
    if (aq_activations_bytes(activations) > device_bytes) return AQ_OK;
    aq_status status =
        aq_tensor_new(activations->backend, AQ_BF16,
                      AQ_DIMS(activations->sequences, activations->length, activations->hidden),
                      &activations->resident);
    if (status != AQ_MEMORY) return status;
    aq_log_warn("activations lie in host memory: %s", aq_error_text());
    return AQ_OK;
}

aq_status aq_activations_new(aq_backend *backend, size_t sequences, size_t length, size_t hidden,
                             size_t device_bytes, aq_activations *activations) {
    *activations = (aq_activations){
        .backend = backend, .sequences = sequences, .length = length, .hidden = hidden};
    aq_status status;
    AQ_STEP(check_size(activations));
    AQ_STEP(make_resident(device_bytes, activations));
    if (activations->resident.data) return AQ_OK;
    AQ_STEP(aq_segment_new(backend, aq_activations_bytes(activations), &activations->segment));
    aq_segment_pin(&activations->segment);
    AQ_STEP(make_staging(activations));
done:
    if (status != AQ_OK) aq_activations_free(activations);
    return status;
}

/* What was begun becomes the segment. */
static void end_expecting(aq_activations *activations) {
    aq_segment made;
    aq_segment_end(activations->expected, &made);
    activations->expected = NULL;
    if (activations->segment.data)
        aq_segment_free(&made);
    else
        activations->segment = made;
}

void aq_activations_free(aq_activations *activations) {
    end_expecting(activations);
    free_ahead(activations);
    aq_tensor_free(&activations->resident);
    aq_tensor_free(&activations->staging);
    aq_segment_free(&activations->segment);
    activations->mirrored = false;
}

aq_status aq_activations_take(aq_segment *segment, size_t device_bytes,
                              aq_activations *activations) {
    activations->segment = *segment;
    *segment = (aq_segment){0};
    aq_status status;
    AQ_NEED(activations->segment.bytes == aq_activations_bytes(activations), AQ_SHAPE,
            "%zu bytes of memory for %zu bytes of activations", activations->segment.bytes,
            aq_activations_bytes(activations));
    AQ_STEP(make_resident(device_bytes, activations));
    if (!activations->resident.data) {
        aq_segment_pin(&activations->segment);
        AQ_STEP(make_staging(activations));
        return AQ_OK;
    }
    AQ_STEP(aq_tensor_upload(&activations->resident, activations->segment.data,
                             activations->segment.bytes));
    aq_activations_forget_host(activations);
done:
    if (status != AQ_OK) aq_activations_free(activations);
    return status;
}

void aq_activations_expect_host(aq_activations *activations) {
    if (!activations->resident.data || activations->segment.data || activations->expected) return;
    activations->expected =
        aq_segment_begin(activations->backend, aq_activations_bytes(activations));
}

aq_status aq_activations_to_host(aq_activations *activations) {
    aq_segment *segment = &activations->segment;
    if (!activations->resident.data || activations->mirrored) return AQ_OK;
    end_expecting(activations);
    if (!segment->data)
        AQ_TRY(aq_segment_new(activations->backend, aq_activations_bytes(activations), segment));
    AQ_TRY(aq_tensor_download(&activations->resident, segment->data, segment->bytes));
    activations->mirrored = true;
    return AQ_OK;
}

void aq_activations_forget_host(aq_activations *activations) {
    if (!activations->resident.data) return;
    activations->mirrored = false;
    if (aq_segment_is_read(&activations->segment)) aq_segment_free(&activations->segment);
}

aq_status aq_activations_leave_device(aq_activations *activations) {
    if (!activations->resident.data) return AQ_OK;
    AQ_TRY(aq_activations_to_host(activations));
    aq_segment_pin(&activations->segment);
    aq_tensor_free(&activations->resident);
    activations->mirrored = false;
    return make_staging(activations);
}

static aq_status check_rows(const aq_activations *activations, size_t count, const aq_tensor *x) {
    AQ_REQUIRE(x->ndim == 2 && x->shape[0] == count * activations->length &&
                   x->shape[1] == activations->hidden,
               AQ_SHAPE, "%zu sequences of %zu x %zu activations against a tensor of %zu x %zu",
               count, activations->length, activations->hidden, x->shape[0], x->shape[1]);
    return AQ_OK;
}

static char *host_sequence(const aq_activations *activations, size_t sequence) {
    return (char *)activations->segment.data + sequence * sequence_bytes(activations);
}

static aq_status check_sequence(const aq_activations *activations, size_t sequence) {
    AQ_REQUIRE(sequence < activations->sequences, AQ_INVALID, "sequence %zu of %zu activations",
               sequence, activations->sequences);
    return AQ_OK;
}

static aq_status read_sequence(const aq_activations *activations, size_t sequence,
                               aq_tensor *rows) {
    AQ_TRY(check_sequence(activations, sequence));
    aq_tensor stored = activations->staging;
    AQ_TRY(aq_tensor_upload_queued(&stored, host_sequence(activations, sequence)));
    return aq_convert(&stored, 1, rows);
}

aq_status aq_activations_expect(const aq_activations *activations, const uint32_t *list,
                                size_t count) {
    aq_read_ahead *ahead = activations->ahead;
    if (!ahead) return AQ_OK;
    drop_ahead(ahead);
    for (size_t i = 0; i < least(count, ahead->room); i++) {
        aq_tensor row = aq_tensor_rows(&ahead->values, i, 1);
        AQ_TRY(check_sequence(activations, list[i]));
        AQ_TRY(aq_tensor_upload_ahead(&row, host_sequence(activations, list[i])));
        ahead->list[ahead->count++] = list[i];
    }
    return AQ_OK;
}

static bool is_expected(const aq_read_ahead *ahead, const uint32_t *list, size_t count) {
    return ahead && count <= ahead->count && memcmp(ahead->list, list, count * sizeof *list) == 0;
}

static aq_status read_expected(aq_read_ahead *ahead, size_t count, aq_tensor *x) {
    const aq_tensor stored = aq_tensor_rows(&ahead->values, 0, count);
    drop_ahead(ahead);
    return aq_convert(&stored, 1, x);
}

aq_status aq_activations_read(const aq_activations *activations, const uint32_t *list, size_t count,
                              aq_tensor *x) {
    AQ_TRY(check_rows(activations, count, x));
    if (is_expected(activations->ahead, list, count))
        return read_expected(activations->ahead, count, x);
    if (activations->resident.data) return aq_pick(&activations->resident, list, count, x);
    for (size_t i = 0; i < count; i++) {
        aq_tensor rows = aq_tensor_rows(x, i * activations->length, activations->length);
        AQ_TRY(read_sequence(activations, list[i], &rows));
    }
    return AQ_OK;
}

static aq_status write_sequence(aq_activations *activations, size_t sequence,
                                const aq_tensor *rows) {
    AQ_TRY(aq_convert(rows, 1, &activations->staging));
    return aq_tensor_download_queued(&activations->staging, host_sequence(activations, sequence));
}

static void drop_overwritten(aq_read_ahead *ahead, size_t first, size_t count) {
    for (size_t i = 0; ahead && i < ahead->count; i++)
        if (ahead->list[i] >= first && ahead->list[i] - first < count) drop_ahead(ahead);
}

aq_status aq_activations_write(aq_activations *activations, size_t first, size_t count,
                               const aq_tensor *x) {
    AQ_TRY(check_rows(activations, count, x));
    AQ_REQUIRE(first + count <= activations->sequences, AQ_INVALID,
               "sequences %zu to %zu of %zu activations", first, first + count - 1,
               activations->sequences);
    AQ_REQUIRE(!activations->mirrored &&
                   (activations->resident.data || !activations->segment.shared),
               AQ_INVALID, "activations that others read are not to be written");
    drop_overwritten(activations->ahead, first, count);
    if (activations->resident.data) {
        aq_tensor stored = aq_tensor_rows(&activations->resident, first, count);
        return aq_convert(x, 1, &stored);
    }
    for (size_t i = 0; i < count; i++) {
        aq_tensor rows = aq_tensor_rows(x, i * activations->length, activations->length);
        AQ_TRY(write_sequence(activations, first + i, &rows));
    }
    return AQ_OK;
}

size_t aq_micro_batch(size_t length) {
    return length < AQ_MICRO_TOKENS ? AQ_MICRO_TOKENS / length : 1;
}

aq_status aq_activations_embed(aq_source *source, const aq_tokens *tokens,
                               aq_activations *activations) {
    size_t length = activations->length;
    AQ_REQUIRE(tokens->sequences == activations->sequences && tokens->length == length, AQ_SHAPE,
               "%zu sequences of %zu tokens for activations of %zu x %zu", tokens->sequences,
               tokens->length, activations->sequences, length);
    activations->numbering = tokens->numbering;
    size_t micro = least(aq_micro_batch(length), tokens->sequences);
    aq_tensor buffer;
    AQ_TRY(aq_tensor_new(activations->backend, AQ_F32, AQ_DIMS(micro * length, activations->hidden),
                         &buffer));
    aq_status status = AQ_OK;
    for (size_t first = 0; first < tokens->sequences; first += micro) {
        size_t count = least(micro, tokens->sequences - first);
        aq_tensor x = aq_tensor_rows(&buffer, 0, count * length);
        AQ_STEP(aq_stop_check());
        AQ_STEP(aq_source_embed(source, tokens->data + first * length, count * length, &x));
        AQ_STEP(aq_activations_write(activations, first, count, &x));
    }
    AQ_STEP(aq_finish(activations->backend));
done:
    aq_tensor_free(&buffer);
    return status;
}

/* A forward pass over all sequences, micro-batch by micro-batch. */
typedef struct forward_sweep {
    const aq_block *block;
    const aq_activations *inputs;
    aq_activations *outputs;
    size_t micro;   /* sequences a micro-batch holds */
    uint32_t *list; /* 0 .. sequences - 1 */
    aq_tape tape;
    aq_tensor x;       /* [micro * length, hidden] */
    aq_tensor squares; /* F64: sum of squared outputs, one a micro-batch */
} forward_sweep;

static aq_status sweep_new(forward_sweep *sweep) {
    const aq_activations *inputs = sweep->inputs;
    size_t sequences = inputs->sequences;
    sweep->micro = least(aq_micro_batch(inputs->length), sequences);
    sweep->list = malloc(sequences * sizeof *sweep->list);
    AQ_REQUIRE(sweep->list, AQ_MEMORY, "no memory for a list of %zu sequences", sequences);
    for (size_t i = 0; i < sequences; i++) sweep->list[i] = (uint32_t)i;
    AQ_TRY(aq_tape_new(sweep->block->shape, sweep->micro, inputs->length, inputs->backend,
                       &sweep->tape));
    AQ_TRY(aq_tensor_new(inputs->backend, AQ_F32,
                         AQ_DIMS(sweep->micro * inputs->length, inputs->hidden), &sweep->x));
    return aq_tensor_zeros(inputs->backend, AQ_F64, AQ_DIMS((sequences - 1) / sweep->micro + 1),
                           &sweep->squares);
}

static void sweep_free(forward_sweep *sweep) {
    free(sweep->list);
    aq_tape_free(&sweep->tape);
    aq_tensor_free(&sweep->x);
    aq_tensor_free(&sweep->squares);
}

static aq_status sweep_batch(forward_sweep *sweep, size_t first, const aq_tapper *tapper) {
    size_t length = sweep->inputs->length;
    size_t count = least(sweep->micro, sweep->inputs->sequences - first);
    aq_tensor x = aq_tensor_rows(&sweep->x, 0, count * length);
    size_t rest = sweep->inputs->sequences - first - count;
    AQ_TRY(aq_activations_read(sweep->inputs, sweep->list + first, count, &x));
    AQ_TRY(aq_activations_expect(sweep->inputs, sweep->list + first + count,
                                 least(rest, sweep->micro)));
    AQ_TRY(aq_block_forward(sweep->block, count, length, &x, &sweep->tape, tapper, &x));
    AQ_TRY(aq_activations_write(sweep->outputs, first, count, &x));
    aq_tensor square = aq_tensor_rows(&sweep->squares, first / sweep->micro, 1);
    return aq_dot_add(&x, &x, 1, &square);
}

static aq_status raise_not_finite(const forward_sweep *sweep, size_t first) {
    const aq_numbering *numbering = &sweep->inputs->numbering;
    size_t step = 1 + numbering->skipped,
           last = least(first + sweep->micro, sweep->inputs->sequences) - 1;
    char which[64] = "";
    if (step > 1) snprintf(which, sizeof which, " (those of one rank, each %zu apart)", step);
    return AQ_FAIL(AQ_NUMERIC,
                   "the block's outputs hold NaN or infinity in calibration sequences %zu to %zu%s",
                   numbering->first + first * step, numbering->first + last * step, which);
}

/* Squares of finite float32 values cannot overflow a float64 sum, so a sum that is not finite comes
 * from an output that is not. */
static aq_status check_finite(const forward_sweep *sweep) {
    size_t batches = aq_tensor_count(&sweep->squares), bytes = aq_tensor_bytes(&sweep->squares);
    double *squares = malloc(bytes);
    aq_status status = AQ_OK;
    AQ_NEED(squares, AQ_MEMORY, "no memory for the sums of %zu micro-batches", batches);
    AQ_STEP(aq_tensor_download(&sweep->squares, squares, bytes));
    for (size_t i = 0; i < batches; i++)
        if (!isfinite(squares[i])) AQ_STEP(raise_not_finite(sweep, i * sweep->micro));
done:
    free(squares);
    return status;
}

/* Hands a micro-batch's first `rows` rows on: product shapes of the pass do not depend on who taps.
 */
typedef struct tapped_rows {
    const aq_tapper *tapper;
    size_t rows;
} tapped_rows;

static aq_status see_rows(void *state, aq_tap tap, const aq_tensor *x) {
    const tapped_rows *tapped = state;
    aq_tensor rows = aq_tensor_rows(x, 0, least(tapped->rows, x->shape[0]));
    return tapped->tapper->see(tapped->tapper->state, tap, &rows);
}

aq_status aq_activations_forward(const aq_block *block, const aq_activations *inputs,
                                 const aq_tapper *tapper, size_t tapped, aq_activations *outputs) {
    AQ_REQUIRE(inputs->sequences == outputs->sequences && inputs->length == outputs->length &&
                   inputs->hidden == outputs->hidden,
               AQ_SHAPE, "inputs of %zu x %zu x %zu and outputs of %zu x %zu x %zu activations",
               inputs->sequences, inputs->length, inputs->hidden, outputs->sequences,
               outputs->length, outputs->hidden);
    outputs->numbering = inputs->numbering;
    forward_sweep sweep = {.block = block, .inputs = inputs, .outputs = outputs};
    aq_status status = sweep_new(&sweep);
    for (size_t first = 0; status == AQ_OK && first < inputs->sequences; first += sweep.micro) {
        bool taps = tapper && first < tapped;
        tapped_rows rows = {tapper, taps ? (tapped - first) * inputs->length : 0};
        const aq_tapper part = {.see = see_rows, .state = &rows};
        status = aq_stop_check();
        if (status == AQ_OK) status = sweep_batch(&sweep, first, taps ? &part : NULL);
    }
    if (status == AQ_OK) status = check_finite(&sweep);
    sweep_free(&sweep);
    return status;
}
