#include "model/perplexity.h"

#include "base/clock.h"
#include "model/activations.h"

#include <math.h>

/* Activations of a pass, and logits of a product, may take so many values. */
enum { MOST_ACTIVATIONS = 1 << 29, MOST_LOGITS = 1 << 24 };

/* A pass over sequences first .. first + count - 1 of the tokens. */
typedef struct evaluation {
    aq_source *source;
    const aq_tokens *tokens;
    const aq_perplexity_settings *settings;
    aq_backend *backend;
    size_t most, first, count; /* sequences: buffers hold, this pass starts at, this pass has */
    size_t micro;
    aq_tensor x;       /* [most * length, hidden] */
    aq_tensor targets; /* I32 [most * length]: the tokens */
    aq_tape tape;      /* for `micro` sequences */
    aq_tensor norm;    /* [hidden], before the head */
    aq_tensor head;    /* [vocab, hidden] */
    aq_tensor logits;  /* [rows, vocab] */
    aq_tensor sum;     /* F64 [1]: negative log-likelihood */
    int steps_done, steps;
} evaluation;

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Whole micro-batches, at least one. */
static size_t sequences_of_pass(const aq_tokens *tokens, size_t hidden, size_t micro) {
    size_t most = MOST_ACTIVATIONS / (tokens->length * hidden) / micro * micro;
    return least(most > micro ? most : micro, tokens->sequences);
}

static aq_status load_head(evaluation *pass) {
    const aq_model_shape *shape = &pass->source->shape;
    const char *head = shape->tied_embeddings ? AQ_EMBEDDING_NAME : AQ_HEAD_NAME;
    AQ_TRY(aq_source_tensor(pass->source, AQ_FINAL_NORM_NAME, AQ_DIMS(shape->hidden), pass->backend,
                            &pass->norm));
    return aq_source_tensor(pass->source, head, AQ_DIMS(shape->vocab, shape->hidden), pass->backend,
                            &pass->head);
}

static aq_status make_buffers(evaluation *pass) {
    const aq_model_shape *shape = &pass->source->shape;
    aq_backend *backend = pass->backend;
    size_t length = pass->tokens->length, rows = MOST_LOGITS / shape->vocab;
    pass->micro = least(aq_micro_batch(length), pass->tokens->sequences);
    pass->most = sequences_of_pass(pass->tokens, shape->hidden, pass->micro);
    size_t passes = (pass->tokens->sequences - 1) / pass->most + 1;
    pass->steps = (int)(passes * shape->blocks);
    rows = least(rows > 1 ? rows : 1, length - 1);
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(pass->most * length, shape->hidden), &pass->x));
    AQ_TRY(aq_tensor_new(backend, AQ_I32, AQ_DIMS(pass->most * length), &pass->targets));
    AQ_TRY(aq_tape_new(shape, pass->micro, length, backend, &pass->tape));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(rows, shape->vocab), &pass->logits));
    return aq_tensor_zeros(backend, AQ_F64, AQ_DIMS(1), &pass->sum);
}

static void pass_free(evaluation *pass) {
    aq_tensor_free(&pass->x);
    aq_tensor_free(&pass->targets);
    aq_tape_free(&pass->tape);
    aq_tensor_free(&pass->norm);
    aq_tensor_free(&pass->head);
    aq_tensor_free(&pass->logits);
    aq_tensor_free(&pass->sum);
}

/* Views of sequences `first` .. of the pass, as many as a micro-batch holds. */
static aq_tensor micro_batch(const evaluation *pass, size_t first, size_t *count) {
    size_t length = pass->tokens->length;
    *count = least(pass->micro, pass->count - first);
    return aq_tensor_rows(&pass->x, first * length, *count * length);
}

static aq_status embed(evaluation *pass) {
    size_t length = pass->tokens->length;
    const int32_t *tokens = pass->tokens->data + pass->first * length;
    aq_tensor x = aq_tensor_rows(&pass->x, 0, pass->count * length);
    aq_tensor targets = aq_tensor_rows(&pass->targets, 0, pass->count * length);
    AQ_TRY(aq_source_embed(pass->source, tokens, pass->count * length, &x));
    return aq_tensor_upload(&targets, tokens, aq_tensor_bytes(&targets));
}

static aq_status apply_block(evaluation *pass, size_t index) {
    aq_block block;
    size_t length = pass->tokens->length, count;
    AQ_TRY(aq_block_load(pass->source, index, length, pass->settings->precision, pass->backend,
                         &block));
    aq_status status = AQ_OK;
    for (size_t first = 0; first < pass->count; first += count) {
        aq_tensor x = micro_batch(pass, first, &count);
        AQ_STEP(aq_block_forward(&block, count, length, &x, &pass->tape, NULL, &x));
    }
    AQ_STEP(aq_watch_step(pass->settings->watch, "evaluating", ++pass->steps_done, pass->steps));
done:
    aq_block_free(&block);
    return status;
}

/* The logits of `count` rows of normed [length, hidden], a view of the buffer. */
static aq_status predict(evaluation *pass, const aq_tensor *normed, size_t first, size_t count,
                         aq_tensor *logits) {
    const aq_product how = {
        .transpose_b = true, .alpha = 1, .precision = pass->settings->precision};
    aq_tensor x = aq_tensor_rows(normed, first, count);
    *logits = aq_tensor_rows(&pass->logits, 0, count);
    return aq_matmul(&x, &pass->head, &how, logits);
}

/* Adds the negative log-likelihood of a sequence's tokens but the first; normed [length, hidden].
 */
static aq_status add_sequence(evaluation *pass, const aq_tensor *normed, size_t sequence) {
    size_t length = pass->tokens->length, piece = pass->logits.shape[0], count;
    for (size_t first = 0; first < length - 1; first += count) {
        aq_tensor logits;
        count = least(piece, length - 1 - first);
        aq_tensor targets = aq_tensor_rows(&pass->targets, sequence * length + first + 1, count);
        AQ_TRY(predict(pass, normed, first, count, &logits));
        AQ_TRY(aq_cross_entropy_add(&logits, &targets, &pass->sum));
    }
    return AQ_OK;
}

static aq_status keep_logits(evaluation *pass, const aq_tensor *normed) {
    size_t length = pass->tokens->length, vocab = pass->source->shape.vocab, count;
    for (size_t first = 0; first < length; first += count) {
        aq_tensor logits;
        count = least(pass->logits.shape[0], length - first);
        AQ_TRY(predict(pass, normed, first, count, &logits));
        AQ_TRY(aq_tensor_download(&logits, pass->settings->logits + first * vocab,
                                  aq_tensor_bytes(&logits)));
    }
    return AQ_OK;
}

/* The final norm goes into the tape's buffers: no block needs them any more. */
static aq_status add_likelihoods(evaluation *pass) {
    const aq_model_shape *shape = &pass->source->shape;
    size_t length = pass->tokens->length, count;
    for (size_t first = 0; first < pass->count; first += count) {
        aq_tensor x = micro_batch(pass, first, &count);
        aq_tape views;
        AQ_TRY(aq_tape_cut(&pass->tape, shape, count, length, &views));
        AQ_TRY(aq_rms_norm(&x, &pass->norm, shape->norm_epsilon, &views.x,
                           &views.inverse[AQ_NORM_ATTENTION]));
        for (size_t i = 0; i < count; i++) {
            aq_tensor normed = aq_tensor_rows(&views.x, i * length, length);
            AQ_TRY(add_sequence(pass, &normed, first + i));
            if (pass->settings->logits && pass->first + first + i == 0)
                AQ_TRY(keep_logits(pass, &normed));
        }
    }
    return AQ_OK;
}

static aq_status run_passes(evaluation *pass) {
    size_t sequences = pass->tokens->sequences;
    AQ_TRY(load_head(pass));
    AQ_TRY(make_buffers(pass));
    for (pass->first = 0; pass->first < sequences; pass->first += pass->count) {
        pass->count = least(pass->most, sequences - pass->first);
        AQ_TRY(embed(pass));
        for (size_t block = 0; block < pass->source->shape.blocks; block++)
            AQ_TRY(apply_block(pass, block));
        AQ_TRY(add_likelihoods(pass));
    }
    return AQ_OK;
}

static aq_status read_result(const evaluation *pass, aq_perplexity_report *report) {
    double sum;
    AQ_TRY(aq_tensor_download(&pass->sum, &sum, sizeof sum));
    report->tokens = pass->tokens->sequences * (pass->tokens->length - 1);
    report->perplexity = exp(sum / (double)report->tokens);
    AQ_REQUIRE(isfinite(report->perplexity), AQ_NUMERIC,
               "%s: the perplexity is not finite (mean negative log-likelihood %g)",
               pass->source->path, sum / (double)report->tokens);
    return AQ_OK;
}

aq_status aq_perplexity(aq_source *source, const aq_tokens *tokens,
                        const aq_perplexity_settings *settings, aq_backend *backend,
                        aq_perplexity_report *report) {
    AQ_REQUIRE(tokens->length >= 2, AQ_INVALID,
               "perplexity needs sequences of at least 2 tokens, not %zu", tokens->length);
    double start = aq_seconds();
    evaluation pass = {
        .source = source, .tokens = tokens, .settings = settings, .backend = backend};
    aq_status status = run_passes(&pass);
    if (status == AQ_OK) status = read_result(&pass, report);
    pass_free(&pass);
    report->seconds = aq_seconds() - start;
    return status;
}
