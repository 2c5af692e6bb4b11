/* Products of a warpgroup's 64 rows on tiles of bfloat16 in shared memory. CUDA C++ only.
 *
 * A tile is [64, Width] in halves of 64 columns, one after the other; a half's row is 128 bytes,
 * and its part of eight numbers c stands where c ^ (row % 8) would (the 128-byte swizzle of wgmma's
 * canonical layouts, PTX ISA, "Asynchronous warpgroup level matrix"; ldmatrix meets no bank twice
 * in it either). Tiles begin at multiples of 1,024 bytes.
 *
 * Four warps hold 16 rows each, in the pieces of mma.h. On Hopper the four work together and the
 * tile is read once for them (wgmma); elsewhere each warp reads it by itself. All warps of a block
 * of 128 threads take part.
 */
#ifndef AQ_CUDA_WARPGROUP_H
#define AQ_CUDA_WARPGROUP_H

#include "fragments.h"

/* Where number (row, column) of a tile stands; column a multiple of 8. */
static __device__ inline unsigned cuda_tile_place(unsigned row, unsigned column) {
    return (column / 64 * 64 + row) * 64 + (column % 64 / 8 ^ row % 8) * 8;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* Shared memory that this thread wrote is there for the group's products, after a barrier. */
static __device__ inline void cuda_group_publish() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Names a tile to wgmma: from number `corner` on, rows in eights of 1,024 bytes; `across`: bytes
 * from one half to the next, where columns are the product's. */
static __device__ inline uint64_t cuda_group_operand(const uint16_t *corner, unsigned across) {
    uint64_t place = __cvta_generic_to_shared(corner);
    return (place & 0x3ffff) >> 4 | (uint64_t)(across >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

/* The compiler keeps sums in place between these: the products run beside it. */
template <unsigned Eights> static __device__ inline void cuda_group_hold(float (&sums)[Eights][4]) {
#pragma unroll
    for (unsigned j = 0; j < Eights; j++)
#pragma unroll
        for (unsigned i = 0; i < 4; i++) asm volatile("" : "+f"(sums[j][i])::"memory");
}

static __device__ inline void cuda_group_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ inline void cuda_group_end() {
    asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
}

#define AQ_FOUR(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define AQ_SUMS_64                                                                                 \
    AQ_FOUR(0), AQ_FOUR(1), AQ_FOUR(2), AQ_FOUR(3), AQ_FOUR(4), AQ_FOUR(5), AQ_FOUR(6), AQ_FOUR(7)
#define AQ_SUMS_128                                                                                \
    AQ_SUMS_64, AQ_FOUR(8), AQ_FOUR(9), AQ_FOUR(10), AQ_FOUR(11), AQ_FOUR(12), AQ_FOUR(13),        \
        AQ_FOUR(14), AQ_FOUR(15)

/* d [64, 64] = (add ? d : 0) + a [64, 16] b [64, 16]', both in tiles. */
static __device__ inline void cuda_group_mma(float (&d)[8][4], uint64_t a, uint64_t b, bool add) {
    asm volatile("{.reg .pred add;\nsetp.ne.b32 add, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, %32, %33, add, 1, 1, 0, 0;}"
                 : AQ_SUMS_64
                 : "l"(a), "l"(b), "r"((int)add));
}

/* d += a [64, 16] b [16, Width], a in registers. */
static __device__ inline void cuda_group_mma_across(float (&d)[8][4], const uint32_t (&a)[4],
                                                    uint64_t b) {
    asm volatile("{.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, {%32, %33, %34, %35}, %36, add, 1, 1, 1;}"
                 : AQ_SUMS_64
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

static __device__ inline void cuda_group_mma_across(float (&d)[16][4], const uint32_t (&a)[4],
                                                    uint64_t b) {
    asm volatile("{.reg .pred add;\nsetp.ne.b32 add, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                 "}, {%64, %65, %66, %67}, %68, add, 1, 1, 1;}"
                 : AQ_SUMS_128
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

#undef AQ_SUMS_128
#undef AQ_SUMS_64
#undef AQ_FOUR

/* scores [64, 64] = rows [64, Width] tile [64, Width]', from cuda_group_finish on. */
template <unsigned Width>
static __device__ inline void cuda_group_begin_scores(float (&scores)[8][4], const uint16_t *rows,
                                                      const uint16_t *tile) {
    cuda_group_hold(scores);
    cuda_group_begin();
#pragma unroll
    for (unsigned step = 0; step < Width / 16; step++) {
        unsigned at = step / 4 * 64 * 64 + step % 4 * 16;
        cuda_group_mma(scores, cuda_group_operand(rows + at, 0), cuda_group_operand(tile + at, 0),
                       step > 0);
    }
}

/* sums [64, Width] += shares [64, 64] tile [64, Width], from cuda_group_finish on; shares are
 * packed, 16 columns a row, and used up. */
template <unsigned Width>
static __device__ inline void cuda_group_begin_add(float (&sums)[Width / 8][4],
                                                   const uint32_t (&shares)[4][4],
                                                   const uint16_t *tile) {
    cuda_group_hold(sums);
    cuda_group_begin();
#pragma unroll
    for (unsigned step = 0; step < 4; step++)
        cuda_group_mma_across(sums, shares[step],
                              cuda_group_operand(tile + step * 16 * 64, 64 * 128));
}

#else

static __device__ inline void cuda_group_publish() {
}

static __device__ inline void cuda_group_end() {
}

template <unsigned Eights> static __device__ inline void cuda_group_hold(float (&)[Eights][4]) {
}

/* b of mma.h, 16 columns of one step, from rows `first` on of a tile. */
static __device__ inline void cuda_tile_columns(uint32_t (&low)[2], uint32_t (&high)[2],
                                                const uint16_t *tile, unsigned first,
                                                unsigned column) {
    unsigned lane = threadIdx.x % 32;
    uint32_t both[4];
    cuda_load_matrices<false>(
        both, tile + cuda_tile_place(first + lane % 8 + lane / 16 * 8, column + lane / 8 % 2 * 8));
    low[0] = both[0];
    low[1] = both[1];
    high[0] = both[2];
    high[1] = both[3];
}

template <unsigned Width>
static __device__ inline void cuda_group_begin_scores(float (&scores)[8][4], const uint16_t *rows,
                                                      const uint16_t *tile) {
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned j = 0; j < 8; j++)
        for (unsigned i = 0; i < 4; i++) scores[j][i] = 0;
#pragma unroll
    for (unsigned step = 0; step < Width / 16; step++) {
        uint32_t row[4];
        cuda_load_matrices<false>(
            row, rows + cuda_tile_place(warp * 16 + lane % 16, step * 16 + lane / 16 * 8));
#pragma unroll
        for (unsigned j = 0; j < 8; j += 2) {
            uint32_t low[2], high[2];
            cuda_tile_columns(low, high, tile, j * 8, step * 16);
            cuda_mma_bf16(scores[j], row, low, scores[j]);
            cuda_mma_bf16(scores[j + 1], row, high, scores[j + 1]);
        }
    }
}

template <unsigned Width>
static __device__ inline void cuda_group_begin_add(float (&sums)[Width / 8][4],
                                                   const uint32_t (&shares)[4][4],
                                                   const uint16_t *tile) {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned step = 0; step < 4; step++)
#pragma unroll
        for (unsigned j = 0; j < Width / 8; j += 2) {
            uint32_t both[4];
            cuda_load_matrices<true>(
                both, tile + cuda_tile_place(step * 16 + lane % 16, j * 8 + lane / 16 * 8));
            const uint32_t low[2] = {both[0], both[1]}, high[2] = {both[2], both[3]};
            cuda_mma_bf16(sums[j], shares[step], low, sums[j]);
            cuda_mma_bf16(sums[j + 1], shares[step], high, sums[j + 1]);
        }
}

#endif

/* Waits for what was begun: these sums are there. */
template <class... Sums> static __device__ inline void cuda_group_finish(Sums &...sums) {
    cuda_group_end();
    (cuda_group_hold(sums), ...);
}

#endif
