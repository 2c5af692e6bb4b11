#include "golden.h"
#include "model/perplexity.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The tokens of tests/golden/make_block_golden.py. */
static void fill_tokens(int32_t tokens[24]) {
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < 12; i++) tokens[12 * s + i] = (7 * i * i + 3 * i + s) % 29;
}

static double golden_mean(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/tiny-llama3-model.f64", aq_test_data());
    FILE *file = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    double mean;
    CU_ASSERT_EQUAL_FATAL(fread(&mean, sizeof mean, 1, file), 1);
    fclose(file);
    return mean;
}

static int last_step, last_total;

static aq_status remember_step(const aq_watch *watch, const char *phase, int done, int total) {
    (void)watch, (void)phase;
    last_step = done;
    last_total = total;
    return AQ_OK;
}

static void a_tiny_model_equals_transformers(void) {
    aq_source *source = aq_test_golden_model(aq_test_data(), "tiny-llama3");
    int32_t data[24];
    fill_tokens(data);
    const aq_tokens tokens = {.data = data, .sequences = 2, .length = 12};
    const aq_watch watch = {.step = remember_step};
    const aq_perplexity_settings settings = {.precision = AQ_PRECISE, .watch = &watch};
    aq_perplexity_report report;
    AQ_CHECK(aq_perplexity(source, &tokens, &settings, aq_test_backend(), &report));
    CU_ASSERT_DOUBLE_EQUAL(log(report.perplexity), golden_mean(), 1e-6);
    CU_ASSERT_EQUAL(report.tokens, 22);
    CU_ASSERT_EQUAL(last_step, 2);
    CU_ASSERT_EQUAL(last_total, 2);
    aq_source_close(source);
}

/* Negative log-likelihood of a token under a row of logits. */
static double surprise(const float *logits, size_t vocab, int32_t token) {
    double sum = 0;
    for (size_t i = 0; i < vocab; i++) sum += exp((double)logits[i]);
    return log(sum) - (double)logits[token];
}

static void kept_logits_are_the_first_sequences(void) {
    enum { LENGTH = 12, VOCAB = 29, GUARD = 1 };
    aq_source *source = aq_test_golden_model(aq_test_data(), "tiny-llama3");
    int32_t data[24];
    float logits[LENGTH * VOCAB + GUARD];
    fill_tokens(data);
    for (int i = 0; i < LENGTH * VOCAB + GUARD; i++) logits[i] = 1e9f;
    const aq_tokens both = {.data = data, .sequences = 2, .length = LENGTH};
    const aq_tokens first = {.data = data, .sequences = 1, .length = LENGTH};
    aq_perplexity_settings settings = {.precision = AQ_PRECISE, .logits = logits};
    aq_perplexity_report report;
    CU_ASSERT_EQUAL_FATAL(source->shape.vocab, VOCAB);
    AQ_CHECK(aq_perplexity(source, &both, &settings, aq_test_backend(), &report));
    CU_ASSERT_DOUBLE_EQUAL(log(report.perplexity), golden_mean(), 1e-6);
    settings.logits = NULL;
    AQ_CHECK(aq_perplexity(source, &first, &settings, aq_test_backend(), &report));
    double sum = 0;
    for (size_t i = 0; i + 1 < LENGTH; i++) sum += surprise(logits + i * VOCAB, VOCAB, data[i + 1]);
    CU_ASSERT_DOUBLE_EQUAL(sum / (LENGTH - 1), log(report.perplexity), 1e-5);
    CU_ASSERT_TRUE(logits[LENGTH * VOCAB - 1] < 1e3f);
    CU_ASSERT_EQUAL(logits[LENGTH * VOCAB], 1e9f);
    aq_source_close(source);
}

static void sequences_of_one_token_and_unknown_tokens_fail(void) {
    aq_source *source = aq_test_golden_model(aq_test_data(), "tiny-llama3");
    int32_t data[24];
    fill_tokens(data);
    const aq_tokens single = {.data = data, .sequences = 24, .length = 1};
    const aq_perplexity_settings settings = {.precision = AQ_PRECISE};
    aq_perplexity_report report;
    AQ_CHECK_FAILS(aq_perplexity(source, &single, &settings, aq_test_backend(), &report),
                   AQ_INVALID, "at least 2 tokens, not 1");
    const aq_tokens unknown = {.data = data, .sequences = 2, .length = 12};
    data[13] = 29;
    AQ_CHECK_FAILS(aq_perplexity(source, &unknown, &settings, aq_test_backend(), &report),
                   AQ_INVALID, "29");
    aq_source_close(source);
}

static aq_status stop(const aq_watch *watch, const char *phase, int done, int total) {
    (void)watch, (void)phase, (void)done, (void)total;
    return AQ_FAIL(AQ_STOPPED, "stopped");
}

static void the_watch_can_stop_it(void) {
    aq_source *source = aq_test_golden_model(aq_test_data(), "tiny-llama3");
    int32_t data[24];
    fill_tokens(data);
    const aq_tokens tokens = {.data = data, .sequences = 2, .length = 12};
    const aq_watch watch = {.step = stop};
    const aq_perplexity_settings settings = {.precision = AQ_PRECISE, .watch = &watch};
    aq_perplexity_report report;
    AQ_CHECK_FAILS(aq_perplexity(source, &tokens, &settings, aq_test_backend(), &report),
                   AQ_STOPPED, "stopped");
    aq_source_close(source);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"a_tiny_model_equals_transformers", a_tiny_model_equals_transformers},
        AQ_CASE(kept_logits_are_the_first_sequences),
        {"sequences_of_one_token_and_unknown_tokens_fail",
         sequences_of_one_token_and_unknown_tokens_fail},
        {"the_watch_can_stop_it", the_watch_can_stop_it},
    };
    return aq_test_backend_main("perplexity", cases, sizeof cases / sizeof *cases, argc, argv);
}
