#include "quant/kmeans.h"

#include "base/random.h"

#include <stdlib.h>

/* What the iterations on one codebook share. */
typedef struct clustering {
    const aq_tensor *points;  /* [N, d] */
    aq_tensor *entries;       /* [K, d] */
    aq_tensor *codes;         /* U16 [N, M] */
    int codebook;             /* column of codes */
    aq_tensor norms;          /* [K] */
    aq_tensor order, offsets; /* U32 [N], [K+1] */
} clustering;

static aq_status clustering_new(clustering *c) {
    aq_backend *backend = c->points->home;
    size_t vectors = c->points->shape[0], entries = c->entries->shape[0];
    AQ_TRY(aq_tensor_new(backend, AQ_F32, AQ_DIMS(entries), &c->norms));
    AQ_TRY(aq_tensor_new(backend, AQ_U32, AQ_DIMS(vectors), &c->order));
    return aq_tensor_new(backend, AQ_U32, AQ_DIMS(entries + 1), &c->offsets);
}

static void clustering_free(clustering *c) {
    aq_tensor_free(&c->norms);
    aq_tensor_free(&c->order);
    aq_tensor_free(&c->offsets);
}

/* A random order of all points with one point to a cluster: their means are the first K points. */
static aq_status draw_start(clustering *c, uint64_t seed) {
    size_t vectors = c->points->shape[0], offsets = c->offsets.shape[0];
    uint32_t *host = malloc((vectors > offsets ? vectors : offsets) * sizeof *host);
    AQ_REQUIRE(host, AQ_MEMORY, "k-means: no memory for an order of %zu vectors", vectors);
    aq_status status;
    aq_random_order(seed, AQ_STREAM_KMEANS_START, (uint32_t)vectors, host);
    AQ_STEP(aq_tensor_upload(&c->order, host, vectors * sizeof *host));
    for (size_t k = 0; k < offsets; k++) host[k] = (uint32_t)k;
    AQ_STEP(aq_tensor_upload(&c->offsets, host, offsets * sizeof *host));
    AQ_STEP(aq_cluster_means(c->points, &c->order, &c->offsets, seed, c->entries));
done:
    free(host);
    return status;
}

static aq_status assign(clustering *c) {
    size_t entries = c->entries->shape[0], dimensions = c->entries->shape[1];
    aq_tensor vectors = aq_tensor_reshape(c->entries, AQ_DIMS(entries, 1, dimensions));
    AQ_TRY(aq_entry_norms(&vectors, NULL, 0, &c->norms));
    return aq_nearest(c->points, c->entries, &c->norms, c->codebook, c->codes);
}

static aq_status iterate(clustering *c, const aq_kmeans *how, int iteration) {
    uint64_t seed = aq_random(how->seed, AQ_STREAM_KMEANS_EMPTY, (uint64_t)iteration);
    AQ_TRY(assign(c));
    AQ_TRY(aq_sort_codes(c->codes, c->codebook, &c->order, &c->offsets));
    AQ_TRY(aq_cluster_means(c->points, &c->order, &c->offsets, seed, c->entries));
    int codebooks = (int)c->codes->shape[1];
    int before = (how->start * codebooks + c->codebook) * how->iterations;
    return aq_watch_step(how->watch, "k-means", before + iteration + 1,
                         how->starts * codebooks * how->iterations);
}

aq_status aq_kmeans_codebook(const aq_tensor *points, const aq_kmeans *how, int codebook,
                             aq_tensor *entries, aq_tensor *codes) {
    size_t dimensions = points->shape[1];
    aq_tensor flat =
        aq_tensor_reshape(entries, AQ_DIMS(aq_tensor_count(entries) / dimensions, dimensions));
    clustering c = {.points = points, .entries = &flat, .codes = codes, .codebook = codebook};
    aq_status status;
    AQ_STEP(clustering_new(&c));
    AQ_STEP(draw_start(&c, how->seed));
    for (int i = 0; i < how->iterations; i++) AQ_STEP(iterate(&c, how, i));
    AQ_STEP(assign(&c));
done:
    clustering_free(&c);
    return status;
}

aq_status aq_residual_kmeans(const aq_tensor *weight, const aq_kmeans *how, aq_coded *coded) {
    const aq_scheme *scheme = &coded->scheme;
    size_t vectors = coded->codes.shape[0] * coded->codes.shape[1];
    size_t dimensions = (size_t)scheme->out_group * (size_t)scheme->in_group;
    aq_tensor codes = aq_tensor_reshape(&coded->codes, AQ_DIMS(vectors, (size_t)scheme->codebooks));
    aq_tensor points;
    AQ_TRY(aq_tensor_new(weight->home, AQ_F32, AQ_DIMS(vectors, dimensions), &points));
    aq_status status;
    AQ_STEP(aq_group_norms(weight, &coded->scales));
    AQ_STEP(aq_scaled_vectors(weight, &coded->scales, scheme->in_group, &points));
    for (int m = 0; m < scheme->codebooks; m++) {
        aq_kmeans own = *how;
        own.seed = aq_random(how->seed, AQ_STREAM_KMEANS_START, (uint64_t)m);
        aq_tensor entries = aq_tensor_rows(&coded->codebooks, (size_t)m, 1);
        entries = aq_tensor_reshape(&entries, AQ_DIMS(coded->codebooks.shape[1], dimensions));
        AQ_STEP(aq_kmeans_codebook(&points, &own, m, &entries, &codes));
        AQ_STEP(aq_subtract_entries(&entries, &codes, m, &points));
    }
done:
    aq_tensor_free(&points);
    return status;
}
