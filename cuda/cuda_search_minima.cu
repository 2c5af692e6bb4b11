#include "search_minima.h"
#include "split_tiles.h"

constexpr unsigned minima_warps = 4;
constexpr size_t enough_blocks = 512;

size_t minima_table_words(size_t entries, unsigned width) {
    return entries / 8 * split_eights(width) * split_tile_words;
}

aq_status minima_table(const cuda_state *state, const float *entries, size_t count, unsigned width,
                       uint32_t *table) {
    unsigned eights = split_eights(width);
    return cuda_each(state, count * 4 * eights, [=] __device__(size_t i) {
        split_store(entries, count, width, eights, i, table);
    });
}

template <unsigned Eights> struct table_chunk {
    uint32_t words[minima_chunk / 8 * Eights * split_tile_words];
    float norms[minima_chunk];
};

template <unsigned Eights>
static __device__ void load_chunk(const minima_args &args, unsigned chunk,
                                  table_chunk<Eights> *target) {
    constexpr unsigned count = sizeof target->words / sizeof(uint32_t);
    const uint32_t *words = args.table + (size_t)chunk * count;
    const float *norms = args.norms + (size_t)chunk * minima_chunk;
    for (unsigned i = 4 * threadIdx.x; i < count; i += 4 * minima_warps * 32)
        cuda_copy_ahead(target->words + i, words + i);
    for (unsigned i = 4 * threadIdx.x; i < minima_chunk; i += 4 * minima_warps * 32)
        cuda_copy_ahead(target->norms + i, norms + i);
}

/* The lane's pieces of its warp's points, 16 a tile. */
template <unsigned Tiles, unsigned Eights>
static __device__ void load_points(const minima_args &args, size_t first,
                                   uint32_t (&points)[Tiles][Eights][4]) {
    unsigned row = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
    for (unsigned i = 0; i < Tiles * 2 * Eights; i++) {
        unsigned tile = i / (2 * Eights), eight = i / 2 % Eights, half = i % 2;
        size_t n = first + tile * 16 + half * 8 + row;
        unsigned width = n < args.count ? args.width : 0;
        split_two two(args.points + n * args.width, width, eight * 8 + 2 * pair);
        points[tile][eight][half] = two.first_parts();
        points[tile][eight][2 + half] = two.second_parts();
    }
}

constexpr unsigned together = 4; /* tiles whose products do not wait for each other */

template <unsigned Eights>
static __device__ inline void
compare_tiles(const uint32_t (*points)[Eights][4], const uint32_t (&first)[Eights],
              const uint32_t (&second)[Eights], const float (&start)[4], float (*least)[2]) {
    float score[together][4];
    split_products<together, Eights>(points, first, second, start, score);
#pragma unroll
    for (unsigned p = 0; p < together; p++) {
        least[p][0] = fminf(least[p][0], fminf(score[p][0], score[p][1]));
        least[p][1] = fminf(least[p][1], fminf(score[p][2], score[p][3]));
    }
}

/* least[tile][half]: over the lane's columns, for row lane / 4 + 8 half of the tile. */
template <unsigned Tiles, unsigned Eights>
static __device__ void search_chunk(const table_chunk<Eights> &chunk,
                                    const uint32_t (&points)[Tiles][Eights][4],
                                    float (&least)[Tiles][2]) {
    unsigned lane = threadIdx.x % 32;
    for (unsigned i = 0; i < 2 * Tiles; i++) least[i / 2][i % 2] = INFINITY;
#pragma unroll 2
    for (unsigned tile = 0; tile < minima_chunk / 8; tile++) {
        uint32_t first[Eights], second[Eights];
        for (unsigned eight = 0; eight < Eights; eight++) {
            const uint32_t *words = chunk.words + (tile * Eights + eight) * split_tile_words + lane;
            first[eight] = words[0];
            second[eight] = words[32];
        }
        const float *norms = chunk.norms + tile * 8 + lane % 4 * 2;
        const float n0 = norms[0], n1 = norms[1];
        const float start[4] = {n0, n1, n0, n1};
#pragma unroll
        for (unsigned p = 0; p < Tiles; p += together)
            compare_tiles<Eights>(points + p, first, second, start, least + p);
    }
}

/* Over the four lanes that share a row. */
static __device__ inline float quad_least(float value) {
    value = fminf(value, __shfl_xor_sync(cuda_whole_warp, value, 1));
    return fminf(value, __shfl_xor_sync(cuda_whole_warp, value, 2));
}

/* A block treats some chunks one by one while the next one comes into shared memory; its
 * warps have Tiles tiles of points each. */
template <unsigned Tiles, unsigned Eights>
__global__ void __launch_bounds__(minima_warps * 32) minima_kernel(minima_args args) {
    constexpr unsigned block_points = minima_warps * Tiles * 16;
    __shared__ __align__(16) table_chunk<Eights> chunks[2];
    __shared__ float found[block_points][minima_step];
    uint32_t points[Tiles][Eights][4];
    unsigned count = args.chunks / gridDim.y; /* up to minima_step */
    unsigned own = threadIdx.x / 32 * (Tiles * 16), row = threadIdx.x % 32 / 4;
    size_t first = (size_t)blockIdx.x * block_points;
    unsigned begin = blockIdx.y * count;
    load_points<Tiles, Eights>(args, first + own, points);
    load_chunk<Eights>(args, begin, &chunks[0]);
    for (unsigned c = 0; c < count; c++) {
        cuda_copies_wait();
        __syncthreads();
        if (c + 1 < count) load_chunk<Eights>(args, begin + c + 1, &chunks[(c + 1) % 2]);
        float least[Tiles][2];
        search_chunk<Tiles, Eights>(chunks[c % 2], points, least);
        for (unsigned i = 0; i < 2 * Tiles; i++) {
            float value = quad_least(least[i / 2][i % 2]);
            if (threadIdx.x % 4 == 0) found[own + i / 2 * 16 + i % 2 * 8 + row][c] = value;
        }
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < block_points * count; i += minima_warps * 32) {
        size_t n = first + i / count;
        if (n < args.count)
            args.minima[n * args.chunks + begin + i % count] = found[i / count][i % count];
    }
}

template <unsigned Tiles, unsigned Eights>
static aq_status run_minima(const cuda_state *state, const minima_args &args) {
    constexpr unsigned block_points = minima_warps * Tiles * 16;
    size_t blocks = (args.count + block_points - 1) / block_points;
    AQ_REQUIRE(blocks <= 0x7fffffff, AQ_UNSUPPORTED, "a code search over %zu hypotheses",
               args.count);
    unsigned step = minima_step; /* halved until there is a block for every warp scheduler */
    while (step > 1 && blocks * (args.chunks / step) < enough_blocks) step /= 2;
    dim3 grid((unsigned)blocks, args.chunks / step);
    minima_kernel<Tiles, Eights><<<grid, minima_warps * 32, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* Few points: fewer a block, so that they fill the device. */
aq_status minima_find(const cuda_state *state, const minima_args &args) {
    constexpr size_t few = 2048;
    if (split_eights(args.width) == 2) return run_minima<4, 2>(state, args);
    return args.count < few ? run_minima<4, 1>(state, args) : run_minima<8, 1>(state, args);
}
