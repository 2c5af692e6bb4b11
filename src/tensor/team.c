#include "tensor/team.h"

static aq_status alone_sum(const aq_team *team, aq_tensor *x) {
    (void)team, (void)x;
    return AQ_OK;
}

static aq_status alone_gather_rows(const aq_team *team, size_t first, size_t count, aq_tensor *x) {
    (void)team, (void)first, (void)count, (void)x;
    return AQ_OK;
}

static aq_status alone_share(const aq_team *team, int root, aq_tensor *x) {
    (void)team, (void)root, (void)x;
    return AQ_OK;
}

static aq_status alone_agree(const aq_team *team, aq_status mine) {
    (void)team;
    return mine;
}

const aq_team *aq_team_alone(void) {
    static const aq_team alone = {.rank = 0,
                                  .size = 1,
                                  .sum = alone_sum,
                                  .gather_rows = alone_gather_rows,
                                  .share = alone_share,
                                  .agree = alone_agree};
    return &alone;
}

aq_status aq_team_sum(const aq_team *team, aq_tensor *x) {
    return team->sum(team, x);
}

aq_status aq_team_gather_rows(const aq_team *team, size_t first, size_t count, aq_tensor *x) {
    return team->gather_rows(team, first, count, x);
}

aq_status aq_team_share(const aq_team *team, int root, aq_tensor *x) {
    return team->share(team, root, x);
}

aq_status aq_team_agree(const aq_team *team, aq_status mine) {
    return team->agree(team, mine);
}

aq_status aq_team_sum_number(const aq_team *team, struct aq_backend *home, double *value) {
    if (team->size == 1) return AQ_OK;
    aq_tensor number;
    AQ_TRY(aq_tensor_new(home, AQ_F64, AQ_DIMS(1), &number));
    aq_status status;
    AQ_STEP(aq_tensor_upload(&number, value, sizeof *value));
    AQ_STEP(aq_team_sum(team, &number));
    AQ_STEP(aq_tensor_download(&number, value, sizeof *value));
done:
    aq_tensor_free(&number);
    return status;
}

aq_rows aq_team_rows(const aq_team *team, size_t rows) {
    size_t size = (size_t)team->size, rank = (size_t)team->rank;
    size_t first = rows * rank / size, end = rows * (rank + 1) / size;
    return (aq_rows){.first = first, .count = end - first};
}

size_t aq_team_sequences(const aq_team *team, size_t count) {
    size_t size = (size_t)team->size, rank = (size_t)team->rank;
    return count > rank ? (count - rank - 1) / size + 1 : 0;
}
