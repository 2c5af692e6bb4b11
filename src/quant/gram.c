#include "quant/gram.h"

aq_status aq_gram_sum_new(aq_backend *backend, size_t in, aq_gram_sum *gram) {
    *gram = (aq_gram_sum){0};
    return aq_tensor_zeros(backend, AQ_F64, AQ_DIMS(in, in), &gram->sum);
}

void aq_gram_sum_free(aq_gram_sum *gram) {
    aq_tensor_free(&gram->sum);
    gram->rows = 0;
}

aq_status aq_gram_sum_add(const aq_tensor *x, aq_gram_sum *gram) {
    AQ_TRY(aq_gram_add(x, &gram->sum));
    gram->rows += x->shape[0];
    return AQ_OK;
}

/* The team's number of rows; float64 counts them exactly up to 2^53. */
static aq_status count_rows(const aq_gram_sum *gram, const aq_team *team, double *rows) {
    aq_tensor count;
    *rows = (double)gram->rows;
    AQ_TRY(aq_tensor_new(gram->sum.home, AQ_F64, AQ_DIMS(1), &count));
    aq_status status;
    AQ_STEP(aq_tensor_upload(&count, rows, sizeof *rows));
    AQ_STEP(aq_team_sum(team, &count));
    AQ_STEP(aq_tensor_download(&count, rows, sizeof *rows));
done:
    aq_tensor_free(&count);
    return status;
}

aq_status aq_gram_sum_finish(aq_gram_sum *gram, const aq_team *team, const char *what,
                             aq_tensor *mean) {
    *mean = (aq_tensor){0};
    double rows;
    size_t in = gram->sum.shape[0], unfit;
    AQ_TRY(count_rows(gram, team, &rows));
    AQ_REQUIRE(rows > 0, AQ_INVALID, "Gram matrix of %s: no inputs were seen", what);
    AQ_TRY(aq_team_sum(team, &gram->sum));
    AQ_TRY(aq_tensor_new(gram->sum.home, AQ_F32, AQ_DIMS(in, in), mean));
    aq_status status;
    AQ_STEP(aq_convert(&gram->sum, 1 / rows, mean));
    AQ_STEP(aq_count_nonfinite(mean, &unfit));
    AQ_NEED(
        unfit == 0, AQ_NUMERIC,
        "Gram matrix of %s: %zu of %zu values are NaN or infinite; its inputs are not finite or "
        "too large for float32",
        what, unfit, in * in);
done:
    if (status != AQ_OK) aq_tensor_free(mean);
    return status;
}
