/* The forward pass of attention with bfloat16 operands. */
#include "attention_half.h"

template <unsigned Width>
static __global__ void __launch_bounds__(threads, 2) forward_kernel(half_args args) {
    extern __shared__ __align__(16) uint16_t shared[];
    constexpr unsigned size = tile_size<Width>;
    uint16_t *const own = first_tile(shared), *const walk = own + size;
    const block_place at = place_of(args.heads, true);
    const unsigned warp = threadIdx.x / 32;
    size_t head = at.sequence * args.heads + at.head;
    const size_t key_heads = args.heads / args.shared_by;
    const head_rows keys = rows_of(args, args.k, key_heads, at.sequence, at.head / args.shared_by);
    const head_rows values =
        rows_of(args, args.v, key_heads, at.sequence, at.head / args.shared_by);

    fetch_tile<Width>(own, rows_of(args, args.q, args.heads, at.sequence, at.head), at.row);
    running_softmax state = {{-INFINITY, -INFINITY}, {0, 0}};
    float out[Width / 8][4] = {};
    const unsigned tiles = (unsigned)(at.row / tile_rows) + 1;
    fetch_tile<Width>(walk, keys, 0);
    fetch_tile<Width>(walk + size, values, 0);
    for (unsigned tile = 0; tile < tiles; tile++) {
        const uint16_t *key_tile = walk + tile % 2 * 2 * size;
        wait_for_tiles();
        if (tile + 1 < tiles) {
            uint16_t *next = walk + (tile + 1) % 2 * 2 * size;
            fetch_tile<Width>(next, keys, (tile + 1) * tile_rows);
            fetch_tile<Width>(next + size, values, (tile + 1) * tile_rows);
        }
        float scores[tile_rows / 8][4];
        cuda_group_begin_scores<Width>(scores, own, key_tile);
        cuda_group_finish(scores);
        if (tile + 1 == tiles) hide_later_keys(scores, (int)warp * 16, -INFINITY);
        soften(scores, args.scale * log2_e, &state, out);
        begin_weighted<Width>(out, scores, key_tile + size);
        cuda_group_finish(out);
    }

    float factor[2];
    for (unsigned half = 0; half < 2; half++) {
        size_t query_at = at.row + warp * 16 + threadIdx.x % 32 / 4 + half * 8;
        float log_sum;
        factor[half] = softmax_end(state, half, &log_sum);
        if (threadIdx.x % 4 == 0 && query_at < args.length)
            args.sums[head * args.length + query_at] = log_sum;
    }
    store_head<Width>(args, out, factor, at, args.heads, args.out, args.half_out);
}

template <unsigned Width>
static aq_status run_forward(const cuda_state *state, const aq_attention *shape,
                             const half_args *args) {
    constexpr unsigned bytes = 5 * tile_size<Width> * sizeof(uint16_t) + 1024;
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
