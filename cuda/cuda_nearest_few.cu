/* The nearest of few entries, all of which a block holds in shared memory. Tensor cores compute
 * scores (split_tiles.h) that are no less than 0 but for rounding, so that they are ordered like
 * the integers of their bits; an entry's mark replaces the last of these bits, and one minimum
 * finds both. So scores count to 2^-16 of the largest |x|^2 of a warp's points. */
#include "nearest.h"
#include "split_tiles.h"

#include <cfloat>
#include <climits>

constexpr unsigned few_warps = 4, few_threads = few_warps * 32, few_blocks = 528;
constexpr unsigned few_together = 4; /* tiles of points whose products do not wait for each other */
constexpr int mark_bits = 127;       /* tile and column of an entry, for 64 tiles */
static_assert(2 * ((nearest_few + 7) / 8) <= mark_bits + 1, "marks of all entries");

/* A block's entries, in dynamic shared memory: tiles, then norms. */
struct few_table {
    uint32_t *words;
    float *norms;
    unsigned tiles;

    static __host__ __device__ size_t bytes(unsigned entries, unsigned width) {
        unsigned eights = width <= 8 ? 1 : 2;
        return (entries + 7) / 8 * (eights * split_tile_words + 8) * sizeof(float);
    }
};

static __device__ float block_largest(float value) {
    __shared__ float warps[few_warps];
    value = cuda_warp_max(value);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    for (unsigned warp = 0; warp < few_warps; warp++) value = fmaxf(value, warps[warp]);
    return value;
}

/* By how much |e|^2 exceeds the entry's norm: 0 where norms are those of the entries. */
static __device__ float norm_lacks(const nearest_args &args, unsigned entry) {
    float square = 0;
    for (unsigned i = 0; i < args.width; i++) {
        float value = args.entries[(size_t)entry * args.width + i];
        square = fmaf(value, value, square);
    }
    return square - args.norms[entry];
}

/* Fills the table; entries past the last one, and those without a norm, can never win. Returns what
 * makes every |e|^2 at most norm + that. */
template <unsigned Eights>
static __device__ float load_table(const nearest_args &args, few_table &table) {
    float lacks = 0;
    for (unsigned i = threadIdx.x; i < table.tiles * Eights * 32; i += few_threads)
        split_store(args.entries, args.entry_count, args.width, Eights, i, table.words);
    for (unsigned k = threadIdx.x; k < table.tiles * 8; k += few_threads) {
        bool usable = k < args.entry_count && fabsf(args.norms[k]) <= FLT_MAX;
        table.norms[k] = usable ? args.norms[k] : INFINITY;
        if (usable) lacks = fmaxf(lacks, norm_lacks(args, k));
    }
    return block_largest(lacks);
}

/* The lane's pieces of its warp's points, times -2; zeros for what is not finite. Returns at least
 * the largest |x|^2. */
template <unsigned Tiles, unsigned Eights>
static __device__ float load_points(const nearest_args &args, size_t first,
                                    uint32_t (&points)[Tiles][Eights][4]) {
    unsigned row = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
    float largest = 0;
#pragma unroll
    for (unsigned i = 0; i < 2 * Tiles; i++) {
        size_t n = first + i / 2 * 16 + i % 2 * 8 + row;
        unsigned width = n < args.count ? args.width : 0;
        float square = 0;
        for (unsigned eight = 0; eight < Eights; eight++) {
            split_two two(args.points + n * args.width, width, eight * 8 + 2 * pair);
            two.low = fabsf(two.low) <= FLT_MAX ? -2 * two.low : 0;
            two.high = fabsf(two.high) <= FLT_MAX ? -2 * two.high : 0;
            square = fmaf(two.low, two.low, fmaf(two.high, two.high, square));
            points[i / 2][eight][i % 2] = two.first_parts();
            points[i / 2][eight][2 + i % 2] = two.second_parts();
        }
        largest = fmaxf(largest, square);
    }
    for (unsigned flip = 4; flip < 32; flip *= 2)
        largest = fmaxf(largest, __shfl_xor_sync(cuda_whole_warp, largest, flip));
    largest += __shfl_xor_sync(cuda_whole_warp, largest, 1);
    largest += __shfl_xor_sync(cuda_whole_warp, largest, 2);
    return largest / 4;
}

/* best[tile][half]: over the lane's columns, for row lane / 4 + 8 half of the tile. */
template <unsigned Tiles, unsigned Eights>
static __device__ void search_tiles(const few_table &table, float base,
                                    const uint32_t (&points)[Tiles][Eights][4],
                                    int (&best)[Tiles][2]) {
    constexpr unsigned together = Tiles < few_together ? Tiles : few_together;
    unsigned lane = threadIdx.x % 32;
    for (unsigned i = 0; i < 2 * Tiles; i++) best[i / 2][i % 2] = INT_MAX;
#pragma unroll 2
    for (unsigned tile = 0; tile < table.tiles; tile++) {
        uint32_t first[Eights], second[Eights];
        for (unsigned eight = 0; eight < Eights; eight++) {
            const uint32_t *words = table.words + (tile * Eights + eight) * split_tile_words + lane;
            first[eight] = words[0];
            second[eight] = words[32];
        }
        const float *norms = table.norms + tile * 8 + lane % 4 * 2;
        const float n0 = norms[0] + base, n1 = norms[1] + base;
        const float start[4] = {n0, n1, n0, n1};
        int mark = (int)(2 * tile);
#pragma unroll
        for (unsigned p = 0; p < Tiles; p += together) {
            float score[together][4];
            split_products<together, Eights>(points + p, first, second, start, score);
#pragma unroll
            for (unsigned i = 0; i < 2 * together; i++) {
                int even = (int)__float_as_uint(score[i / 2][i % 2 * 2]);
                int odd = (int)__float_as_uint(score[i / 2][i % 2 * 2 + 1]);
                int &least = best[p + i / 2][i % 2];
                least = cuda_min_of_three(least, (even & ~mark_bits) | mark,
                                          (odd & ~mark_bits) | (mark + 1));
            }
        }
    }
}

/* Over the four lanes that share a row: the score, then the entry. */
static __device__ unsigned winner_of(int best) {
    unsigned mark = (unsigned)best & mark_bits;
    unsigned entry = mark / 2 * 8 + threadIdx.x % 4 * 2 + mark % 2;
    int64_t key = ((int64_t)(best & ~mark_bits) << 32) | entry;
    for (unsigned flip = 1; flip < 4; flip *= 2) {
        int64_t other = __shfl_xor_sync(cuda_whole_warp, key, flip);
        key = other < key ? other : key;
    }
    return (unsigned)key;
}

template <unsigned Tiles, unsigned Eights>
static __global__ void __launch_bounds__(few_threads, 4) few_kernel(nearest_args args) {
    constexpr unsigned block_points = few_warps * Tiles * 16;
    extern __shared__ __align__(16) uint32_t shared[];
    few_table table = {shared, nullptr, (args.entry_count + 7) / 8};
    table.norms = reinterpret_cast<float *>(shared + table.tiles * Eights * split_tile_words);
    float lacks = load_table<Eights>(args, table);
    unsigned own = threadIdx.x / 32 * (Tiles * 16), lane = threadIdx.x % 32;
    __syncthreads();
    for (size_t batch = blockIdx.x; batch * block_points < args.count; batch += gridDim.x) {
        size_t first = batch * block_points + own;
        uint32_t points[Tiles][Eights][4];
        int best[Tiles][2];
        float base = load_points<Tiles, Eights>(args, first, points) + lacks;
        search_tiles<Tiles, Eights>(table, base, points, best);
#pragma unroll
        for (unsigned i = 0; i < 2 * Tiles; i++) {
            unsigned winner = winner_of(best[i / 2][i % 2]);
            size_t n = first + i / 2 * 16 + i % 2 * 8 + lane / 4;
            if (lane % 4 == i % 4 && n < args.count)
                args.codes[n * args.books] = (uint16_t)min(winner, args.entry_count - 1);
        }
    }
}

template <unsigned Tiles, unsigned Eights>
static aq_status run_few(const cuda_state *state, const nearest_args &args) {
    constexpr unsigned block_points = few_warps * Tiles * 16;
    size_t batches = (args.count + block_points - 1) / block_points;
    unsigned blocks = (unsigned)(batches < few_blocks ? batches : few_blocks);
    size_t bytes = few_table::bytes(args.entry_count, args.width);
    few_kernel<Tiles, Eights><<<blocks, few_threads, bytes, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* Few points: fewer a warp, so that they fill the device. */
aq_status cuda_nearest_few(const cuda_state *state, const nearest_args &args) {
    constexpr size_t few_points = 1 << 17;
    if (args.width > 8)
        return args.count < few_points ? run_few<1, 2>(state, args) : run_few<4, 2>(state, args);
    return args.count < few_points ? run_few<1, 1>(state, args) : run_few<8, 1>(state, args);
}
