/* The online softmax of fused attention (FlashAttention-2, arXiv 2307.08691): a warp's scores of 16
 * queries and some keys, in registers as mma.h leaves its sums. CUDA C++ only. */
#ifndef AQ_CUDA_ATTENTION_SOFTMAX_H
#define AQ_CUDA_ATTENTION_SOFTMAX_H

#include "mma.h"

constexpr float log2_e = 1.44269504f;

/* The softmax's state of rows lane / 4 and lane / 4 + 8; `largest` is times log2(e). */
struct running_softmax {
    float largest[2], sum[2];
};

/* A warp's four lanes of a row. */
static __device__ inline float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(cuda_whole_warp, value, 1));
    return fmaxf(value, __shfl_xor_sync(cuda_whole_warp, value, 2));
}

static __device__ inline float row_sum(float value) {
    value += __shfl_xor_sync(cuda_whole_warp, value, 1);
    return value + __shfl_xor_sync(cuda_whole_warp, value, 2);
}

/* Puts `hidden` where a key is after its query; `ahead`: the warp's first query less the tile's
 * first key. */
template <unsigned Eights>
static __device__ void hide_later_keys(float (&scores)[Eights][4], int ahead, float hidden) {
    const int lane = (int)threadIdx.x % 32, query = ahead + lane / 4, key = lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < (int)Eights; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (j * 8 + key + i % 2 > query + i / 2 * 8) scores[j][i] = hidden;
}

/* Scores become exp(scale scores - largest so far), `scale` times log2(e); what was summed before
 * shrinks accordingly. */
template <unsigned Eights, unsigned WidthEights>
static __device__ void soften(float (&scores)[Eights][4], float scale, running_softmax *state,
                              float (&sums)[WidthEights][4]) {
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        float largest = -INFINITY, sum = 0;
#pragma unroll
        for (unsigned j = 0; j < Eights; j++)
            largest = fmaxf(largest, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
        largest = fmaxf(state->largest[half], row_max(largest) * scale);
#pragma unroll
        for (unsigned j = 0; j < Eights; j++)
#pragma unroll
            for (unsigned i = 2 * half; i < 2 * half + 2; i++)
                sum += scores[j][i] = cuda_exp2(fmaf(scores[j][i], scale, -largest));
        float shrink = cuda_exp2(state->largest[half] - largest);
        state->largest[half] = largest;
        state->sum[half] = state->sum[half] * shrink + sum;
#pragma unroll
        for (unsigned j = 0; j < WidthEights; j++) {
            sums[j][2 * half] *= shrink;
            sums[j][2 * half + 1] *= shrink;
        }
    }
}

/* What the sums of the row are to be multiplied with; *log_sum of its scores. All lanes take part.
 */
static __device__ inline float softmax_end(const running_softmax &state, unsigned half,
                                           float *log_sum) {
    float sum = row_sum(state.sum[half]);
    *log_sum = state.largest[half] / log2_e + logf(sum);
    return 1 / sum;
}

#endif
