#include "quant/kmeans.h"

#include <stdlib.h>

/* A member's part of a clustering: the vectors of its own rows. They are numbers first ..
 * first + count - 1 of all `total`. */
typedef struct clustering {
    const aq_kmeans *how;
    size_t first, total;
    aq_tensor points;  /* [count, d], what is left of the vectors */
    aq_tensor codes;   /* U16 [count, M], view */
    int codebook;      /* the column of codes that is being worked on */
    aq_tensor entries; /* [K, d], view of that codebook */
    aq_tensor before;  /* [K, d], those before an iteration */
    aq_tensor norms;   /* [K] */
    aq_tensor sums;    /* F64 [K, 2d + 1] */
} clustering;

static aq_status clustering_new(const aq_coded *coded, clustering *c) {
    aq_backend *backend = coded->codes.home;
    const size_t *shape = coded->codebooks.shape;
    size_t entries = shape[1], dimensions = shape[2] * shape[3], vectors = c->codes.shape[0];
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(vectors, dimensions), &c->points));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(entries, dimensions), &c->before));
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(entries), &c->norms));
    return aq_tensor_new(backend, AQ_F64, AQ_DIMS(entries, 2 * dimensions + 1), &c->sums);
}

static void clustering_free(clustering *c) {
    aq_tensor_free(&c->points);
    aq_tensor_free(&c->before);
    aq_tensor_free(&c->norms);
    aq_tensor_free(&c->sums);
}

/* Entries = means of the sums of all members. */
static aq_status find_means(clustering *c) {
    AQ_TRY(aq_team_sum(c->how->team, &c->sums));
    return aq_cluster_means(&c->sums, &c->entries);
}

static aq_cluster_draw draw_of(const clustering *c, uint64_t seed) {
    return (aq_cluster_draw){.seed = seed, .first = c->first, .total = c->total};
}

/* Of a random order of all points, the first K: one to a cluster, whose mean it is. `host` has room
 * for K points and K + 1 offsets. */
static aq_status list_start(clustering *c, uint64_t seed, uint32_t *host, aq_tensor *order,
                            aq_tensor *offsets) {
    size_t vectors = c->points.shape[0], clusters = c->entries.shape[0], own = 0;
    uint32_t *starts = host + clusters;
    AQ_TRY(aq_random_head(c->points.home, seed, AQ_STREAM_KMEANS_START, c->total, clusters, host));
    for (size_t k = 0; k < clusters; k++) {
        starts[k] = (uint32_t)own;
        if (host[k] >= c->first && host[k] - c->first < vectors)
            host[own++] = (uint32_t)(host[k] - c->first);
    }
    starts[clusters] = (uint32_t)own;
    if (own > 0) {
        aq_tensor listed = aq_tensor_rows(order, 0, own);
        AQ_TRY(aq_tensor_upload(&listed, host, own * sizeof *host));
    }
    return aq_tensor_upload(offsets, starts, (clusters + 1) * sizeof *starts);
}

static aq_status sum_start(clustering *c, uint64_t seed, uint32_t *host) {
    const aq_cluster_draw draw = draw_of(c, seed);
    aq_tensor order = {0}, offsets = {0};
    aq_status status;
    AQ_STEP(aq_tensor_new(c->points.home, AQ_U32, AQ_DIMS(c->points.shape[0]), &order));
    AQ_STEP(aq_tensor_new(c->points.home, AQ_U32, AQ_DIMS(c->entries.shape[0] + 1), &offsets));
    AQ_STEP(list_start(c, seed, host, &order, &offsets));
    AQ_STEP(aq_cluster_sums(&c->points, &order, &offsets, &draw, &c->sums));
done:
    aq_tensor_free(&order);
    aq_tensor_free(&offsets);
    return status;
}

static aq_status draw_start(clustering *c, uint64_t seed) {
    size_t clusters = c->entries.shape[0];
    uint32_t *host = malloc((2 * clusters + 1) * sizeof *host);
    AQ_REQUIRE(host, AQ_MEMORY, "k-means: no memory for %zu clusters", clusters);
    aq_status status = sum_start(c, seed, host);
    free(host);
    AQ_TRY(status);
    return find_means(c);
}

static aq_status assign(clustering *c) {
    size_t entries = c->entries.shape[0], dimensions = c->entries.shape[1];
    aq_tensor vectors = aq_tensor_reshape(&c->entries, AQ_DIMS(entries, 1, dimensions));
    AQ_TRY(aq_entry_norms(&vectors, NULL, 0, &c->norms));
    return aq_nearest(&c->points, &c->entries, &c->norms, c->codebook,
                      c->how->exact ? AQ_PRECISE : AQ_FAST, &c->codes);
}

static aq_status iterate(clustering *c, uint64_t seed, int iteration) {
    const aq_kmeans *how = c->how;
    const aq_cluster_draw draw =
        draw_of(c, aq_random(seed, AQ_STREAM_KMEANS_EMPTY, (uint64_t)iteration));
    AQ_TRY(assign(c));
    AQ_TRY(aq_code_sums(&c->points, &c->codes, c->codebook, &draw, &c->sums));
    AQ_TRY(find_means(c));
    int before = how->done + c->codebook * (how->iterations - how->first);
    return aq_watch_step(how->watch, "k-means", before + iteration - how->first + 1, how->total);
}

/* Iterates until nothing changes any more, which is looked at now and then: looking waits. A
 * cluster without points draws another one each time, so there is none where nothing changed. */
static aq_status settle(clustering *c, uint64_t seed) {
    enum { LOOK = 10 };
    for (int i = c->how->first; i < c->how->iterations; i++) {
        bool look = i % LOOK == LOOK - 1;
        double change = 0;
        if (look) AQ_TRY(aq_tensor_copy(&c->entries, &c->before));
        AQ_TRY(iterate(c, seed, i));
        if (!look) continue;
        AQ_TRY(aq_axpby(-1, &c->entries, 1, &c->before));
        AQ_TRY(aq_dot(&c->before, &c->before, &change));
        if (change == 0) break;
    }
    return AQ_OK;
}

static aq_status cluster_codebook(clustering *c, const aq_coded *coded, int codebook) {
    uint64_t seed = aq_random(c->how->seed, AQ_STREAM_KMEANS_START, (uint64_t)codebook);
    aq_tensor entries = aq_tensor_rows(&coded->codebooks, (size_t)codebook, 1);
    c->entries =
        aq_tensor_reshape(&entries, AQ_DIMS(coded->codebooks.shape[1], c->points.shape[1]));
    c->codebook = codebook;
    if (c->how->first == 0) AQ_TRY(draw_start(c, seed));
    AQ_TRY(settle(c, seed));
    AQ_TRY(assign(c));
    return aq_subtract_entries(&c->entries, &c->codes, codebook, &c->points);
}

aq_status aq_residual_kmeans(const aq_tensor *weight, const aq_kmeans *how, aq_coded *coded) {
    const aq_scheme *scheme = &coded->scheme;
    size_t rows = coded->codes.shape[0], groups = coded->codes.shape[1];
    size_t out_group = (size_t)scheme->out_group;
    aq_rows own = aq_team_rows(how->team, rows);
    aq_coded part = aq_coded_rows(coded, own.first, own.count);
    aq_tensor lines = aq_tensor_rows(weight, own.first * out_group, own.count * out_group);
    clustering c = {.how = how, .first = own.first * groups, .total = rows * groups};
    c.codes =
        aq_tensor_reshape(&part.codes, AQ_DIMS(own.count * groups, (size_t)scheme->codebooks));
    aq_status status;
    AQ_STEP(clustering_new(coded, &c));
    AQ_STEP(aq_group_norms(weight, &coded->scales));
    AQ_STEP(aq_scaled_vectors(&lines, &part.scales, scheme->in_group, &c.points));
    for (int m = 0; m < scheme->codebooks; m++) AQ_STEP(cluster_codebook(&c, coded, m));
    AQ_STEP(aq_team_gather_rows(how->team, own.first, own.count, &coded->codes));
done:
    clustering_free(&c);
    return status;
}
