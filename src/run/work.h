/* The work of each phase, counted from shapes, and the seconds that a machine cannot go below.
 *
 * A floor counts what has to be done whatever the program does: products at the measured rate of
 * products, comparisons of scores at one instruction of a float32 lane each (half the FLOP of
 * float32 products, which count two in one instruction), bytes at the measured rate of copies.
 * These three can go on at the same time: a floor is the largest of them.
 */
#ifndef AQ_RUN_WORK_H
#define AQ_RUN_WORK_H

#include "model/shape.h"
#include "quant/coded_weight.h"

/* Rates of a machine, measured (run/machine.h). FLOP and bytes a second; bytes that are read and
 * those that are written both count. */
typedef struct aq_machine {
    double copy;    /* of a tensor to another */
    double precise; /* a float32 product */
    double fast;    /* the same in TF32 on a GPU */
    double half;    /* the same in bfloat16 on a GPU */
} aq_machine;

typedef struct aq_work {
    double products; /* FLOP of products that need TF32: gradients and residuals of layers */
    double halves;   /* FLOP of products that 16-bit numbers may do: scores, passes of blocks */
    double scores;   /* candidates compared */
    double bytes;
} aq_work;

/* The work of doing it `times` times. */
aq_work aq_work_times(const aq_work *work, double times);

double aq_work_floor(const aq_work *work, const aq_machine *machine);

/* An assignment of one codebook and new means: each of out * in / d vectors against 2^B entries. */
aq_work aq_work_kmeans(const aq_scheme *scheme, size_t out, size_t in);

/* A pass: scores as above for each codebook and hypothesis, the residual R = D H, and its update
 * behind every group, which half of the columns still need on average. */
aq_work aq_work_codes(const aq_scheme *scheme, size_t out, size_t in, int beam);

/* The same, where all pairs of two codebooks' entries are compared. */
aq_work aq_work_pairs(const aq_scheme *scheme, size_t out, size_t in);

/* A step on the codebooks: one product of [out, in] and [in, in] for the gradient. */
aq_work aq_work_codebooks(size_t out, size_t in);

/* Passes of one sequence through a block: products of all linears, and attention that sees half of
 * the pairs (two products forward, five backward). */
aq_work aq_work_forward(const aq_model_shape *shape, size_t length);
aq_work aq_work_backward(const aq_model_shape *shape, size_t length);

/* Decoding a block: codes read, weights written (float32). */
aq_work aq_work_decode(const aq_model_shape *shape, const aq_scheme *scheme);

/* An update: gradients of weights (float32) and codes read, values and moments of Adam read and
 * written. */
aq_work aq_work_update(const aq_model_shape *shape, const aq_scheme *scheme);

#endif
