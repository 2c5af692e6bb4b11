/* The start of a fit: residual k-means on a weight's scaled vectors (METHOD section 2.1).
 *
 * Every codebook clusters what the codebooks before it left over.
 */
#ifndef AQ_QUANT_KMEANS_H
#define AQ_QUANT_KMEANS_H

#include "base/watch.h"
#include "quant/coded_weight.h"
#include "tensor/team.h"

typedef struct aq_kmeans {
    int first, iterations; /* of assignment and means, each codebook: number `first` to the last */
    uint64_t seed;         /* of the first entries and of those that replace empty clusters */
    int done, total;       /* the onlooker is told of so many iterations before, of all */
    bool exact;            /* the nearest entries in float32, not on tensor cores */
    const aq_team *team;   /* borrowed; its members cluster the vectors of different rows */
    const aq_watch *watch; /* borrowed, phase "k-means"; NULL: nobody watches */
} aq_kmeans;

/* Overwrites all of `coded`, made for the shape of weight [out, in]: scales with the norms of the
 * row groups, codebooks with the entries found, codes with the nearest ones. Lloyd's algorithm from
 * 2^B different vectors drawn at random; each codebook needs as many vectors. With `first` above 0
 * it goes on from the codebooks of `coded`, as a call of the same seed and `first` iterations left
 * them: with one codebook that gives what a single call would. It ends early where iterations
 * change nothing any more, with what all of them would give. Collective over the team,
 * whose members all hold the whole weight. */
aq_status aq_residual_kmeans(const aq_tensor *weight, const aq_kmeans *how, aq_coded *coded);

#endif
