/* Pieces of shared memory for the products of mma.h: 16-bit numbers, 8 x 8 at a time. CUDA C++
 * only.
 *
 * A tile is rows of `stride` numbers; stride = width + 8 keeps the rows of a matrix on different
 * banks. A lane gets, of each of four matrices, the two numbers of row lane / 4 at columns
 * 2 (lane % 4) and the next, the lower column in the lower half; `transposed`: of column lane / 4
 * at these rows. All lanes of the warp take part.
 */
#ifndef AQ_CUDA_FRAGMENTS_H
#define AQ_CUDA_FRAGMENTS_H

#include "mma.h"

/* `row` is where this lane's row begins: lanes 0 to 7 name the rows of the first matrix, lanes 8 to
 * 15 of the second ... (ldmatrix). */
#ifdef __CUDACC__

template <bool Transposed>
static __device__ inline void cuda_load_matrices(uint32_t (&pieces)[4], const uint16_t *row) {
    uint32_t place = (uint32_t)__cvta_generic_to_shared(row);
    if (Transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(pieces[0]), "=r"(pieces[1]), "=r"(pieces[2]), "=r"(pieces[3])
                     : "r"(place)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(pieces[0]), "=r"(pieces[1]), "=r"(pieces[2]), "=r"(pieces[3])
                     : "r"(place)
                     : "memory");
}

#else

template <bool Transposed>
static inline void cuda_load_matrices(uint32_t (&pieces)[4], const uint16_t *row) {
    const uint16_t *rows[32];
    emulated_show(&row, rows, sizeof row);
    unsigned line = emulated_lane() / 4, pair = emulated_lane() % 4 * 2;
    for (unsigned i = 0; i < 4; i++) {
        const uint16_t *const *matrix = rows + 8 * i;
        pieces[i] = Transposed ? matrix[pair][line] | (uint32_t)matrix[pair + 1][line] << 16
                               : matrix[line][pair] | (uint32_t)matrix[line][pair + 1] << 16;
    }
}

#endif

/* a [16, 16] of mma.h: rows and columns of the tile from its corner on. */
static __device__ inline void cuda_load_rows(uint32_t (&a)[4], const uint16_t *corner,
                                             unsigned stride) {
    unsigned lane = threadIdx.x % 32;
    cuda_load_matrices<false>(a, corner + lane % 16 * stride + lane / 16 * 8);
}

/* b [16, 8] of mma.h twice, for columns 0 to 7 and 8 to 15; the tile holds b's columns as rows. */
static __device__ inline void cuda_load_columns(uint32_t (&first)[2], uint32_t (&second)[2],
                                                const uint16_t *corner, unsigned stride) {
    unsigned lane = threadIdx.x % 32;
    uint32_t both[4];
    cuda_load_matrices<false>(both,
                              corner + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
    first[0] = both[0];
    first[1] = both[1];
    second[0] = both[2];
    second[1] = both[3];
}

/* The same; the tile holds b's rows. */
static __device__ inline void cuda_load_columns_across(uint32_t (&first)[2], uint32_t (&second)[2],
                                                       const uint16_t *corner, unsigned stride) {
    unsigned lane = threadIdx.x % 32;
    uint32_t both[4];
    cuda_load_matrices<true>(both, corner + lane % 16 * stride + lane / 16 * 8);
    first[0] = both[0];
    first[1] = both[1];
    second[0] = both[2];
    second[1] = both[3];
}

#endif
