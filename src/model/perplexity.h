/* Perplexity of a model on token sequences.
 *
 * Sequences stand alone, no beginning-of-text token is added: exp of the mean negative
 * log-likelihood of tokens 2 .. L of every sequence given those before.
 *
 * Activations stay float32 in the backend's memory (rounding them to 16 bits between blocks would
 * be measured too). As many sequences as fit into a constant amount of it go through the model
 * together, block after block, so that one block's weights are in memory at a time and each is read
 * once a pass; a small model needs one pass. Neither constant changes the result: products have the
 * shape of a micro-batch.
 */
#ifndef AQ_MODEL_PERPLEXITY_H
#define AQ_MODEL_PERPLEXITY_H

#include "base/watch.h"
#include "model/source.h"
#include "model/tokens.h"

typedef struct aq_perplexity_settings {
    aq_precision precision; /* of the products */
    const aq_watch *watch;  /* borrowed or NULL; phase "evaluating", a step a block of a pass */
    float *logits; /* NULL, or where the first sequence's go: [length, vocab], the caller's */
} aq_perplexity_settings;

typedef struct aq_perplexity_report {
    double perplexity;
    size_t tokens; /* predicted: sequences * (length - 1) */
    double seconds;
} aq_perplexity_report;

/* INVALID if sequences are shorter than two tokens or a token is outside the vocabulary, NUMERIC if
 * the result is not finite; errors of reading the model as the source reports them. */
aq_status aq_perplexity(aq_source *source, const aq_tokens *tokens,
                        const aq_perplexity_settings *settings, aq_backend *backend,
                        aq_perplexity_report *report);

#endif
