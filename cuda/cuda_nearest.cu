#include "nearest.h"

constexpr unsigned nearest_threads = 128;
constexpr unsigned tile_floats = 2048; /* of entries that a block holds in shared memory */

/* Entries first .. first + stop - 1, padded with zeros to Width elements, and their norms. */
template <unsigned Width>
static __device__ void load_tile(const nearest_args &args, unsigned first, unsigned stop,
                                 float *tile, float *norms) {
    for (unsigned i = threadIdx.x; i < stop * Width; i += nearest_threads) {
        unsigned entry = first + i / Width, element = i % Width;
        tile[i] = element < args.width ? args.entries[(size_t)entry * args.width + element] : 0;
    }
    for (unsigned i = threadIdx.x; i < stop; i += nearest_threads) norms[i] = args.norms[first + i];
}

/* Compares a thread's Points points, each -2 times its coordinates, with one entry. */
template <unsigned Width, unsigned Points>
static __device__ void compare(const float (&points)[Points][Width], const float *entry, float norm,
                               unsigned index, float (&best)[Points], unsigned (&winner)[Points]) {
    float values[Width];
    for (unsigned i = 0; i < Width; i += 4) {
        float4 four = *reinterpret_cast<const float4 *>(entry + i);
        values[i] = four.x;
        values[i + 1] = four.y;
        values[i + 2] = four.z;
        values[i + 3] = four.w;
    }
    for (unsigned p = 0; p < Points; p++) {
        float score = norm;
        for (unsigned i = 0; i < Width; i++) score = fmaf(points[p][i], values[i], score);
        if (score < best[p]) {
            best[p] = score;
            winner[p] = index;
        }
    }
}

/* Vectors of at most Width elements. A thread keeps its points in registers; the entries pass
 * through shared memory, from which all threads read the same one at the same time. */
template <unsigned Width, unsigned Points>
__global__ void __launch_bounds__(nearest_threads) nearest_kernel(nearest_args args) {
    constexpr unsigned tile_entries = tile_floats / Width;
    __shared__ __align__(16) float tile[tile_floats];
    __shared__ float norms[tile_entries];
    float points[Points][Width], best[Points];
    unsigned winner[Points];
    size_t first_point = (size_t)blockIdx.x * (nearest_threads * Points) + threadIdx.x;
    for (unsigned p = 0; p < Points; p++) {
        size_t n = first_point + p * nearest_threads;
        best[p] = INFINITY;
        winner[p] = 0;
        for (unsigned i = 0; i < Width; i++)
            points[p][i] =
                n < args.count && i < args.width ? -2 * args.points[n * args.width + i] : 0;
    }
    for (unsigned first = 0; first < args.entry_count; first += tile_entries) {
        unsigned stop = min(tile_entries, args.entry_count - first);
        __syncthreads();
        load_tile<Width>(args, first, stop, tile, norms);
        __syncthreads();
        for (unsigned k = 0; k < stop; k++)
            compare<Width, Points>(points, tile + k * Width, norms[k], first + k, best, winner);
    }
    for (unsigned p = 0; p < Points; p++) {
        size_t n = first_point + p * nearest_threads;
        if (n < args.count) args.codes[n * args.books] = (uint16_t)winner[p];
    }
}

/* Few points: one a thread, so that they fill the device; many: as many as registers hold. */
template <unsigned Width, unsigned Points>
static aq_status nearest_of_width(const cuda_state *state, const nearest_args &args) {
    constexpr size_t few = 1 << 17;
    size_t points_a_block = nearest_threads * (args.count < few ? 1 : Points);
    size_t blocks = (args.count + points_a_block - 1) / points_a_block;
    AQ_REQUIRE(blocks <= 0x7fffffff, AQ_UNSUPPORTED, "nearest: %zu points", args.count);
    if (args.count < few)
        nearest_kernel<Width, 1><<<(unsigned)blocks, nearest_threads, 0, state->stream>>>(args);
    else
        nearest_kernel<Width, Points>
            <<<(unsigned)blocks, nearest_threads, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* Vectors of any width, read where they lie. */
static aq_status nearest_of_any_width(const cuda_state *state, const nearest_args &args) {
    return cuda_each(state, args.count, [=] __device__(size_t n) {
        const float *point = args.points + n * args.width;
        float best = INFINITY;
        unsigned winner = 0;
        for (unsigned k = 0; k < args.entry_count; k++) {
            const float *entry = args.entries + (size_t)k * args.width;
            float score = args.norms[k];
            for (unsigned i = 0; i < args.width; i++) score = fmaf(-2 * point[i], entry[i], score);
            if (score < best) {
                best = score;
                winner = k;
            }
        }
        args.codes[n * args.books] = (uint16_t)winner;
    });
}

/* Where many entries are compared, few of them are near: then it pays to look twice. */
static aq_status nearest_on_tensor_cores(const cuda_state *state, const nearest_args &args) {
    return args.entry_count > nearest_few ? cuda_nearest_many(state, args)
                                          : cuda_nearest_few(state, args);
}

aq_status cuda_nearest_run(const cuda_state *state, const nearest_args &args,
                           aq_precision precision) {
    if (precision != AQ_PRECISE && args.width <= 16) return nearest_on_tensor_cores(state, args);
    if (args.width <= 4) return nearest_of_width<4, 8>(state, args);
    if (args.width <= 8) return nearest_of_width<8, 4>(state, args);
    if (args.width <= 16) return nearest_of_width<16, 2>(state, args);
    if (args.width <= 32) return nearest_of_width<32, 2>(state, args);
    return nearest_of_any_width(state, args);
}

aq_status cuda_nearest(const aq_tensor *points, const aq_tensor *entries, const aq_tensor *norms,
                       int codebook, aq_precision precision, aq_tensor *codes) {
    nearest_args args = {};
    args.points = cuda_floats(points);
    args.entries = cuda_floats(entries);
    args.norms = cuda_floats(norms);
    args.codes = static_cast<uint16_t *>(codes->data) + codebook;
    args.count = points->shape[0];
    args.books = codes->shape[1];
    args.width = (unsigned)points->shape[1];
    args.entry_count = (unsigned)entries->shape[0];
    return cuda_nearest_run(cuda_state_of(points), args, precision);
}
