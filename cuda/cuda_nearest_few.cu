/* The nearest of few entries, all of which a block holds in shared memory. Tensor cores compute
 * scores from float16 coordinates, each to 2^-12, with float32 sums. A base makes all scores
 * positive, so that they are ordered like the integers of their bits; an entry's mark replaces the
 * last of these bits, and one minimum finds both: scores count to 2^-14 of the largest |x|^2 of a
 * warp's points. What is lost goes with the square of these errors. */
#include "mma.h"
#include "nearest.h"

#include <cfloat>
#include <climits>

constexpr unsigned few_warps = 4, few_threads = few_warps * 32, few_blocks = 528;
constexpr unsigned few_together = 4; /* tiles of points whose products do not wait for each other */
constexpr int mark_bits = 127;       /* tile and column of an entry, for 64 tiles */
constexpr int entry_bits = 511;
static_assert(2 * ((nearest_few + 7) / 8) <= mark_bits + 1, "marks of all entries");

/* A block's entries, in dynamic shared memory: tiles of 8, each lane's piece of b for every eight
 * dimensions; norms. */
struct few_table {
    uint32_t *words;
    float *norms;
    unsigned tiles;
    float factor; /* what coordinates are multiplied by: a power of two */
    float lacks;  /* every |e|^2 is at most norm + that */

    static __host__ __device__ size_t bytes(unsigned tiles, unsigned eights) {
        return tiles * (eights * 32 + 8) * sizeof(float);
    }
};

/* The power of two that brings `size` to 0.5 .. 1. */
static __device__ float factor_of(float size) {
    int exponent;
    frexpf(size, &exponent);
    return size > 0 ? ldexpf(1, max(-60, min(60, -exponent))) : 1;
}

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

static __device__ bool entry_is_usable(const nearest_args &args, unsigned entry) {
    bool usable = entry < args.entry_count && fabsf(args.norms[entry]) <= FLT_MAX;
    for (unsigned i = 0; usable && i < args.width; i++)
        usable = fabsf(args.entries[(size_t)entry * args.width + i]) <= FLT_MAX;
    return usable;
}

/* The table's factor, norms and what they lack; entries past the last one, and those with numbers
 * that are not finite, can never win. */
static __device__ void load_norms(const nearest_args &args, few_table &table) {
    float lacks = 0, largest = 0;
    for (unsigned k = threadIdx.x; k < table.tiles * 8; k += few_threads) {
        bool usable = entry_is_usable(args, k);
        table.norms[k] = usable ? args.norms[k] : INFINITY;
        if (!usable) continue;
        lacks = fmaxf(lacks, norm_lacks(args, k));
        for (unsigned i = 0; i < args.width; i++)
            largest = fmaxf(largest, fabsf(args.entries[(size_t)k * args.width + i]));
    }
    table.lacks = block_largest(lacks);
    __syncthreads();
    table.factor = factor_of(block_largest(largest));
}

template <unsigned Eights>
static __device__ void load_words(const nearest_args &args, few_table &table) {
    for (unsigned i = threadIdx.x; i < table.tiles * Eights * 32; i += few_threads) {
        unsigned tile = i / 32 / Eights, element = i / 32 % Eights * 8 + i % 4 * 2;
        unsigned entry = tile * 8 + i % 32 / 4;
        unsigned width = table.norms[entry] < INFINITY ? args.width : 0;
        const float *values = args.entries + (size_t)entry * args.width + element;
        float low = element < width ? values[0] : 0, high = element + 1 < width ? values[1] : 0;
        table.words[i] = cuda_pack_halves(table.factor * low, table.factor * high);
    }
}

/* Elements `element`, `element` + 1 of point n, or of any point where there is none. No branch, so
 * that all loads of a warp are under way at a time. */
template <bool Whole>
static __device__ void load_two(const nearest_args &args, size_t n, unsigned element,
                                float (&two)[2]) {
    const float *values = args.points + min(n, args.count - 1) * args.width;
    if (Whole) {
        const uint2 both = *reinterpret_cast<const uint2 *>(values + element);
        two[0] = __uint_as_float(both.x);
        two[1] = __uint_as_float(both.y);
    } else {
        two[0] = values[min(element, args.width - 1)];
        two[1] = values[min(element + 1, args.width - 1)];
    }
}

/* Zeros for what is not finite, and past the vector's end. */
static __device__ void clean_two(const nearest_args &args, unsigned element, float (&two)[2]) {
    for (unsigned i = 0; i < 2; i++)
        if (!(fabsf(two[i]) <= FLT_MAX) || element + i >= args.width) two[i] = 0;
}

/* At least the largest |x|^2 of the warp's points, from the lane's largest part of one. */
static __device__ float largest_square(float largest) {
    for (unsigned flip = 4; flip < 32; flip *= 2)
        largest = fmaxf(largest, __shfl_xor_sync(cuda_whole_warp, largest, flip));
    largest += __shfl_xor_sync(cuda_whole_warp, largest, 1);
    return largest + __shfl_xor_sync(cuda_whole_warp, largest, 2);
}

/* What a warp's scores are made from: -2 x times the factor, and |x|^2 at most. */
template <unsigned Tiles, unsigned Eights> struct few_points {
    uint32_t pieces[Tiles][2 * Eights];
    float factor, square;
};

template <unsigned Tiles, unsigned Eights, bool Whole>
static __device__ void load_points(const nearest_args &args, size_t first,
                                   few_points<Tiles, Eights> &points) {
    unsigned row = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
    float values[2 * Tiles][Eights][2], largest = 0;
#pragma unroll
    for (unsigned i = 0; i < 2 * Tiles * Eights; i++)
        load_two<Whole>(args, first + i / Eights / 2 * 16 + i / Eights % 2 * 8 + row,
                        i % Eights * 8 + 2 * pair, values[i / Eights][i % Eights]);
#pragma unroll
    for (unsigned i = 0; i < 2 * Tiles; i++) {
        float square = 0;
#pragma unroll
        for (unsigned eight = 0; eight < Eights; eight++) {
            float(&two)[2] = values[i][eight];
            clean_two(args, eight * 8 + 2 * pair, two);
            square = fmaf(two[0], two[0], fmaf(two[1], two[1], square));
        }
        largest = fmaxf(largest, square);
    }
    points.square = largest_square(largest);
    points.factor = factor_of(sqrtf(points.square));
    float factor = -2 * points.factor;
#pragma unroll
    for (unsigned i = 0; i < 2 * Tiles; i++)
        for (unsigned eight = 0; eight < Eights; eight++)
            points.pieces[i / 2][2 * eight + i % 2] =
                cuda_pack_halves(factor * values[i][eight][0], factor * values[i][eight][1]);
}

/* best[tile][half]: over the lane's columns, for row lane / 4 + 8 half of the tile. The base is a
 * little above the largest |x|^2, for what coordinates are rounded by. */
template <unsigned Tiles, unsigned Eights>
static __device__ void search_tiles(const few_table &table, const few_points<Tiles, Eights> &points,
                                    int (&best)[Tiles][2]) {
    constexpr unsigned together = Tiles < few_together ? Tiles : few_together;
    const float factor = table.factor * points.factor;
    const float base = factor * (points.square * (1 + 0x1p-8f) + table.lacks);
    unsigned lane = threadIdx.x % 32;
    for (unsigned i = 0; i < 2 * Tiles; i++) best[i / 2][i % 2] = INT_MAX;
#pragma unroll 2
    for (unsigned tile = 0; tile < table.tiles; tile++) {
        uint32_t entries[Eights];
        for (unsigned eight = 0; eight < Eights; eight++)
            entries[eight] = table.words[(tile * Eights + eight) * 32 + lane];
        const float *norms = table.norms + tile * 8 + lane % 4 * 2;
        const float n0 = fmaf(norms[0], factor, base), n1 = fmaf(norms[1], factor, base);
        const float start[4] = {n0, n1, n0, n1};
        int mark = (int)(2 * tile);
#pragma unroll
        for (unsigned p = 0; p < Tiles; p += together) {
            float score[together][4];
#pragma unroll
            for (unsigned i = 0; i < together; i++)
                cuda_mma(score[i], points.pieces[p + i], entries, start);
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

/* Over the four lanes that share a row: here the entry itself is the mark. */
static __device__ unsigned winner_of(int best) {
    int mark = best & mark_bits;
    int entry = mark / 2 * 8 + (int)(threadIdx.x % 4 * 2) + mark % 2;
    int key = (best & ~entry_bits) | entry;
    key = min(key, __shfl_xor_sync(cuda_whole_warp, key, 1));
    return (unsigned)(min(key, __shfl_xor_sync(cuda_whole_warp, key, 2)) & entry_bits);
}

template <unsigned Tiles, unsigned Eights, bool Whole>
static __global__ void __launch_bounds__(few_threads, 4) few_kernel(nearest_args args) {
    constexpr unsigned block_points = few_warps * Tiles * 16;
    extern __shared__ __align__(16) uint32_t shared[];
    few_table table = {shared, nullptr, (args.entry_count + 7) / 8, 1, 0};
    table.norms = reinterpret_cast<float *>(shared + table.tiles * Eights * 32);
    load_norms(args, table);
    load_words<Eights>(args, table);
    __syncthreads();
    unsigned own = threadIdx.x / 32 * (Tiles * 16), lane = threadIdx.x % 32;
    for (size_t batch = blockIdx.x; batch * block_points < args.count; batch += gridDim.x) {
        size_t first = batch * block_points + own;
        few_points<Tiles, Eights> points;
        int best[Tiles][2];
        load_points<Tiles, Eights, Whole>(args, first, points);
        search_tiles<Tiles, Eights>(table, points, best);
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
    size_t bytes = few_table::bytes((args.entry_count + 7) / 8, Eights);
    bool whole =
        args.width == 8 * Eights && reinterpret_cast<uintptr_t>(args.points) % sizeof(uint2) == 0;
    if (whole)
        few_kernel<Tiles, Eights, true><<<blocks, few_threads, bytes, state->stream>>>(args);
    else
        few_kernel<Tiles, Eights, false><<<blocks, few_threads, bytes, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* Few points: fewer a warp, so that they fill the device. */
aq_status cuda_nearest_few(const cuda_state *state, const nearest_args &args) {
    constexpr size_t few_points_most = 1 << 17;
    bool few = args.count < few_points_most;
    if (args.width > 8) return few ? run_few<1, 2>(state, args) : run_few<4, 2>(state, args);
    return few ? run_few<1, 1>(state, args) : run_few<8, 1>(state, args);
}
