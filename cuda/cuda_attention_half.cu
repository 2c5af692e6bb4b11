/* The forward pass of attention with bfloat16 operands. */
#include "attention_half.h"

constexpr unsigned forward_keys = 64; /* of a tile; block_rows of queries end with a whole tile */

/* The softmax's state of rows lane / 4 and lane / 4 + 8. */
struct running_softmax {
    float largest[2], sum[2];
};

/* A warp's four lanes of a row. */
static __device__ float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(cuda_whole_warp, value, 1));
    return fmaxf(value, __shfl_xor_sync(cuda_whole_warp, value, 2));
}

static __device__ float row_sum(float value) {
    value += __shfl_xor_sync(cuda_whole_warp, value, 1);
    return value + __shfl_xor_sync(cuda_whole_warp, value, 2);
}

/* Hides keys after their query; keys and queries count from the tile's and the warp's first. */
template <unsigned Columns>
static __device__ void hide_later_keys(float (&scores)[Columns / 8][4], unsigned first_query) {
    unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned j = 0; j < Columns / 8; j++)
#pragma unroll
        for (unsigned i = 0; i < 4; i++)
            if (j * 8 + lane % 4 * 2 + i % 2 > first_query + lane / 4 + i / 2 * 8)
                scores[j][i] = -INFINITY;
}

/* Scores become exp(scores - largest so far); what was summed before shrinks accordingly. */
template <unsigned Width>
static __device__ void soften(float (&scores)[forward_keys / 8][4], float scale,
                              running_softmax *state, float (&sums)[Width / 8][4]) {
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        float largest = -INFINITY, sum = 0;
#pragma unroll
        for (unsigned j = 0; j < forward_keys / 8; j++)
            largest = fmaxf(largest, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
        largest = fmaxf(state->largest[half], row_max(largest) * scale);
#pragma unroll
        for (unsigned j = 0; j < forward_keys / 8; j++)
#pragma unroll
            for (unsigned i = 2 * half; i < 2 * half + 2; i++)
                sum += scores[j][i] = exp2f(fmaf(scores[j][i], scale, -largest));
        float shrink = exp2f(state->largest[half] - largest);
        state->largest[half] = largest;
        state->sum[half] = state->sum[half] * shrink + sum;
#pragma unroll
        for (unsigned j = 0; j < Width / 8; j++) {
            sums[j][2 * half] *= shrink;
            sums[j][2 * half + 1] *= shrink;
        }
    }
}

template <unsigned Width>
static __global__ void __launch_bounds__(threads, 3) forward_kernel(half_args args) {
    extern __shared__ __align__(16) uint16_t shared[];
    constexpr unsigned size = tile_size<Width, forward_keys>;
    const block_place at = place_of(args.heads, true);
    const unsigned warp = threadIdx.x / 32;
    size_t head = at.sequence * args.heads + at.head;
    const size_t key_heads = args.heads / args.shared_by;
    const head_rows keys = rows_of(args, args.k, key_heads, at.sequence, at.head / args.shared_by);
    const head_rows values =
        rows_of(args, args.v, key_heads, at.sequence, at.head / args.shared_by);

    uint32_t query[Width / 16][4];
    fetch_tile<Width, block_rows>(shared, rows_of(args, args.q, args.heads, at.sequence, at.head),
                                  at.row);
    wait_for_tiles();
    for (unsigned step = 0; step < Width / 16; step++)
        cuda_load_rows(query[step], shared + warp * 16 * stride<Width> + step * 16, stride<Width>);
    __syncthreads();

    running_softmax state = {{-INFINITY, -INFINITY}, {0, 0}};
    float out[Width / 8][4] = {};
    const unsigned tiles = (unsigned)(at.row / forward_keys) + 1;
    fetch_tile<Width, forward_keys>(shared, keys, 0);
    fetch_tile<Width, forward_keys>(shared + size, values, 0);
    for (unsigned tile = 0; tile < tiles; tile++) {
        const uint16_t *key_tile = shared + tile % 2 * 2 * size;
        wait_for_tiles();
        if (tile + 1 < tiles) {
            uint16_t *next = shared + (tile + 1) % 2 * 2 * size;
            fetch_tile<Width, forward_keys>(next, keys, (tile + 1) * forward_keys);
            fetch_tile<Width, forward_keys>(next + size, values, (tile + 1) * forward_keys);
        }
        float scores[forward_keys / 8][4];
        score<Width, forward_keys>(scores, query, key_tile);
        if (tile + 1 == tiles) hide_later_keys<forward_keys>(scores, warp * 16);
        soften<Width>(scores, args.scale * log2_e, &state, out);
        add_weighted<Width, forward_keys>(out, scores, key_tile + size);
    }

    float factor[2];
    for (unsigned half = 0; half < 2; half++) {
        size_t query_at = at.row + warp * 16 + threadIdx.x % 32 / 4 + half * 8;
        float sum = row_sum(state.sum[half]);
        factor[half] = 1 / sum;
        if (threadIdx.x % 4 == 0 && query_at < args.length)
            args.sums[head * args.length + query_at] = state.largest[half] / log2_e + logf(sum);
    }
    store_head<Width>(args, out, factor, at, args.heads, args.out, args.half_out);
}

template <unsigned Width>
static aq_status run_forward(const cuda_state *state, const aq_attention *shape,
                             const half_args *args) {
    constexpr unsigned bytes = 4 * tile_size<Width, forward_keys> * sizeof(uint16_t);
    CUDA_TRY(cudaFuncSetAttribute(forward_kernel<Width>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    dim3 grid = grid_of(shape, args, shape->heads);
    forward_kernel<Width><<<grid, threads, bytes, state->stream>>>(*args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_attention_half(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                              const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums) {
    const cuda_state *state = cuda_state_of(q);
    half_args args = args_of(shape);
    half_operands room(state);
    AQ_TRY(check_grid(shape, &args));
    AQ_TRY(take_operands(state, q, k, v, &room, &args));
    args.out = out->data;
    args.half_out = out->dtype == AQ_BF16;
    args.sums = cuda_floats(log_sums);
    return width_of(shape) == 64 ? run_forward<64>(state, shape, &args)
                                 : run_forward<128>(state, shape, &args);
}
