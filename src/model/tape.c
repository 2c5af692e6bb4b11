#include "model/tape.h"

/* One buffer: where it stands, how wide a token's part is in the forward pass, and how wide it must
 * be at least because the backward pass keeps another gradient there. */
typedef struct slot {
    aq_tensor *tensor;
    size_t width, least;
} slot;

enum { SLOTS = 14 };

static void list_slots(const aq_model_shape *shape, aq_tape *tape, slot list[SLOTS]) {
    size_t hidden = shape->hidden, ffn = shape->ffn;
    size_t q = shape->heads * shape->head_dim, kv = shape->kv_heads * shape->head_dim;
    const slot slots[SLOTS] = {{&tape->x, hidden, 0},
                               {&tape->x2, hidden, 0},
                               {&tape->inverse[AQ_NORM_ATTENTION], 1, 0},
                               {&tape->inverse[AQ_NORM_MLP], 1, 0},
                               {&tape->taps[AQ_TAP_ATTENTION_IN], hidden, 0},
                               {&tape->taps[AQ_TAP_ATTENTION_OUT], q, 0},
                               {&tape->taps[AQ_TAP_MLP_IN], hidden, kv},
                               {&tape->taps[AQ_TAP_MLP_OUT], ffn, kv},
                               {&tape->q, q, 0},
                               {&tape->k, kv, 0},
                               {&tape->v, kv, 0},
                               {&tape->log_sums, shape->heads, 0},
                               {&tape->gate, ffn, q},
                               {&tape->up, ffn, q}};
    for (int i = 0; i < SLOTS; i++) list[i] = slots[i];
}

static size_t wide_enough(const slot *buffer) {
    return buffer->width > buffer->least ? buffer->width : buffer->least;
}

size_t aq_tape_width(const aq_model_shape *shape) {
    aq_tape unused;
    slot list[SLOTS];
    size_t width = 0;
    list_slots(shape, &unused, list);
    for (int i = 0; i < SLOTS; i++) width += wide_enough(&list[i]);
    return width;
}

aq_status aq_tape_new(const aq_model_shape *shape, size_t sequences, size_t length,
                      aq_backend *backend, aq_tape *tape) {
    *tape = (aq_tape){0};
    slot list[SLOTS];
    list_slots(shape, tape, list);
    for (int i = 0; i < SLOTS; i++) {
        aq_shape dims = AQ_DIMS(sequences * length, wide_enough(&list[i]));
        aq_status status = aq_tensor_new(backend, AQ_F32, dims, list[i].tensor);
        if (status != AQ_OK) {
            aq_tape_free(tape);
            return status;
        }
    }
    return AQ_OK;
}

void aq_tape_free(aq_tape *tape) {
    aq_tensor_free(&tape->x);
    aq_tensor_free(&tape->x2);
    for (int n = 0; n < AQ_NORM_COUNT; n++) aq_tensor_free(&tape->inverse[n]);
    for (int t = 0; t < AQ_TAP_COUNT; t++) aq_tensor_free(&tape->taps[t]);
    aq_tensor *rest[] = {&tape->q, &tape->k, &tape->v, &tape->log_sums, &tape->gate, &tape->up};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) aq_tensor_free(rest[i]);
}

aq_status aq_tape_cut(const aq_tape *tape, const aq_model_shape *shape, size_t sequences,
                      size_t length, aq_tape *pass) {
    size_t tokens = sequences * length;
    AQ_REQUIRE(tokens > 0 && tokens <= tape->x.shape[0], AQ_SHAPE,
               "a pass of %zu sequences of %zu tokens on a tape for %zu tokens", sequences, length,
               tape->x.shape[0]);
    *pass = *tape;
    slot list[SLOTS];
    list_slots(shape, pass, list);
    for (int i = 0; i < SLOTS; i++)
        *list[i].tensor = aq_tape_buffer(list[i].tensor, tokens, list[i].width);
    for (int n = 0; n < AQ_NORM_COUNT; n++)
        pass->inverse[n] = aq_tensor_reshape(&pass->inverse[n], AQ_DIMS(tokens));
    pass->log_sums = aq_tensor_reshape(&pass->log_sums, AQ_DIMS(sequences, shape->heads, length));
    return AQ_OK;
}

aq_tensor aq_tape_buffer(const aq_tensor *buffer, size_t tokens, size_t width) {
    aq_tensor flat = aq_tensor_reshape(buffer, AQ_DIMS(aq_tensor_count(buffer)));
    flat = aq_tensor_rows(&flat, 0, tokens * width);
    return aq_tensor_reshape(&flat, AQ_DIMS(tokens, width));
}
