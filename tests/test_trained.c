/* A trained model against PyTorch; skipped where ../shared is missing. */
#include "golden.h"
#include "model/block.h"
#include "model/perplexity.h"
#include "model/tokens.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

static void a_trained_block_equals_pytorch(void) {
    enum { LENGTH = 24, ROWS = 2 * LENGTH, HIDDEN = 128 };
    AQ_SKIP_IF(!aq_test_shared(), "../shared is missing");
    aq_source *source = aq_test_golden_model(aq_test_shared(), "models/docs-llama-1m");
    char path[512];
    snprintf(path, sizeof path, "%s/tokens/valid.npy", aq_test_shared());
    const aq_token_cut cut = {
        .length = LENGTH, .sequences = 2, .vocab = source->shape.vocab, .flatten = true};
    aq_tokens tokens;
    AQ_CHECK(aq_tokens_read(path, &cut, &tokens));
    aq_block block;
    AQ_CHECK(aq_block_load(source, 0, LENGTH, AQ_PRECISE, aq_test_backend(), &block));
    aq_tape tape;
    AQ_CHECK(aq_tape_new(block.shape, 2, LENGTH, aq_test_backend(), &tape));
    aq_tensor x = aq_test_normal(AQ_DIMS(ROWS, HIDDEN), 1);
    AQ_CHECK(aq_source_embed(source, tokens.data, ROWS, &x));
    AQ_CHECK(aq_block_forward(&block, 2, LENGTH, &x, &tape, NULL, &x));
    float *values = aq_test_golden("docs-llama-1m.f32", ROWS * HIDDEN);
    const float *golden = values;
    aq_test_check_next("y", &x, &golden);
    free(values);
    aq_tensor_free(&x);
    aq_tape_free(&tape);
    aq_block_free(&block);
    aq_tokens_free(&tokens);
    aq_source_close(source);
}

/* The golden value is transformers', printed by tests/golden/make_block_golden.py. */
static void a_trained_model_equals_transformers(void) {
    AQ_SKIP_IF(!aq_test_shared(), "../shared is missing");
    aq_source *source = aq_test_golden_model(aq_test_shared(), "models/docs-llama-1m");
    char path[512];
    snprintf(path, sizeof path, "%s/tokens/valid.npy", aq_test_shared());
    const aq_token_cut cut = {
        .length = 512, .sequences = 16, .vocab = source->shape.vocab, .flatten = true};
    aq_tokens tokens;
    AQ_CHECK(aq_tokens_read(path, &cut, &tokens));
    const aq_perplexity_settings settings = {.precision = AQ_PRECISE};
    aq_perplexity_report report;
    AQ_CHECK(aq_perplexity(source, &tokens, &settings, aq_test_backend(), &report));
    CU_ASSERT_DOUBLE_EQUAL(report.perplexity, 28.675337, 28.675337 * 1e-5);
    CU_ASSERT_EQUAL(report.tokens, 16 * 511);
    aq_tokens_free(&tokens);
    aq_source_close(source);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        AQ_CASE(a_trained_block_equals_pytorch),
        AQ_CASE(a_trained_model_equals_transformers),
    };
    return aq_test_backend_main("trained", cases, sizeof cases / sizeof *cases, argc, argv);
}
