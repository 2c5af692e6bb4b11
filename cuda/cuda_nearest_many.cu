/* The nearest of many entries, in two steps. Tensor cores compute half the negative distance,
 * t = x.e - |e|^2/2, in float16, and only the largest t of each *group* of entries is looked at:
 * for each of the eight columns of the products' tiles the group with the largest t is kept. Then
 * the columns of these groups that can hold the nearest entry are searched in float32. A nearest
 * entry is missed only if another group looked better in its column, by less than the rounding of
 * t.
 */
#include "mma.h"
#include "nearest.h"

#include <cfloat>

constexpr unsigned many_warps = 8, many_tiles = 8; /* a warp has tiles of 16 points */
constexpr unsigned many_points = many_warps * many_tiles * 16;
constexpr unsigned step_entries = 32, group_steps = 4, chunk_steps = 16;
constexpr unsigned group_entries = group_steps * step_entries, column_entries = group_entries / 8;
constexpr unsigned chunk_entries = chunk_steps * step_entries; /* in shared memory at a time */
constexpr unsigned largest_blocks = 256;
constexpr uint32_t lowest_halves = 0xfc00fc00u; /* minus infinity */

/* Words of 16 bytes. One step is four tiles of 8 columns: a word a lane for every eight dimensions
 * (its b of each tile), then what t starts from: c of two tiles for each pair. A column holds 16
 * entries of a group that follow each other: one in each of its tiles. */
template <unsigned Registers> struct many_table {
    static constexpr unsigned width = 8 * Registers, lane_words = 32 * Registers;
    static constexpr unsigned step_words = lane_words + 8;
};

struct many_args {
    nearest_args base;
    const uint4 *table;
    const float *factor; /* what coordinates are multiplied by: a power of two */
    /* [splits, count, 4 pairs]: the largest t of columns 2 pair and 2 pair + 1 among the split's
     * entries, and the numbers of their groups (16 bits each) */
    uint2 *best;
    unsigned chunks, splits;
    bool aligned; /* vectors are whole float4 */
};

/* ---- the table ---- */

static __device__ float finite_size(float value) {
    return fabsf(value) <= FLT_MAX ? fabsf(value) : 0;
}

static __device__ float block_largest(float value) {
    __shared__ float warps[32];
    value = cuda_warp_max(value);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    float largest = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) largest = fmaxf(largest, warps[warp]);
    return largest;
}

/* largest[block] = the largest size of what the block looks at: coordinates, and what norms would
 * give to each of 16. */
static __global__ void largest_kernel(nearest_args args, float *largest) {
    size_t coordinates = args.count * args.width, others = (size_t)args.entry_count * args.width;
    float size = 0;
#pragma unroll 8
    for (size_t i = cuda_first(); i < coordinates; i += cuda_stride())
        size = fmaxf(size, finite_size(args.points[i]));
    for (size_t i = cuda_first(); i < others; i += cuda_stride())
        size = fmaxf(size, finite_size(args.entries[i]));
    for (size_t i = cuda_first(); i < args.entry_count; i += cuda_stride())
        size = fmaxf(size, 0.25f * sqrtf(finite_size(args.norms[i])));
    size = block_largest(size);
    if (threadIdx.x == 0) largest[blockIdx.x] = size;
}

/* The power of two that brings the largest coordinate to 32 .. 64: no t that can win is past
 * float16, and coordinates 2^-20 as large are still normal numbers. */
static __device__ float find_factor(const float *largest) {
    float size = block_largest(threadIdx.x < largest_blocks ? largest[threadIdx.x] : 0);
    int exponent;
    frexpf(size, &exponent);
    return size > 0 ? ldexpf(1, max(-60, min(60, 6 - exponent))) : 1;
}

static __device__ bool entry_is_usable(const nearest_args &args, unsigned entry) {
    bool usable = entry < args.entry_count && fabsf(args.norms[entry]) <= FLT_MAX;
    for (unsigned i = 0; usable && i < args.width; i++)
        usable = fabsf(args.entries[(size_t)entry * args.width + i]) <= FLT_MAX;
    return usable;
}

/* One thread an entry; those past the last one can never win. */
template <unsigned Registers>
static __global__ void table_kernel(nearest_args args, const float *largest, float *factor,
                                    uint4 *table) {
    using shape = many_table<Registers>;
    float scale = find_factor(largest);
    if (blockIdx.x == 0 && threadIdx.x == 0) *factor = scale;
    unsigned entry = blockIdx.x * blockDim.x + threadIdx.x, local = entry % group_entries;
    unsigned column = local / column_entries, tile = local % 4;
    unsigned step = entry / group_entries * group_steps + local % column_entries / 4;
    bool usable = entry_is_usable(args, entry);
    const float *values = args.entries + (size_t)entry * args.width;
    uint32_t *words = reinterpret_cast<uint32_t *>(table + (size_t)step * shape::step_words);
    for (unsigned pair = 0; pair < shape::width / 2; pair++) {
        float low = usable && 2 * pair < args.width ? scale * values[2 * pair] : 0;
        float high = usable && 2 * pair + 1 < args.width ? scale * values[2 * pair + 1] : 0;
        words[(pair / 4 * 32 + column * 4 + pair % 4) * 4 + tile] = cuda_pack_halves(low, high);
    }
    float start = usable ? scale * scale * (-0.5f * args.norms[entry]) : -INFINITY;
    uint16_t *starts = reinterpret_cast<uint16_t *>(words + 4 * shape::lane_words) +
                       (tile / 2 * 4 + column / 2) * 8 + tile % 2 * 4 + column % 2;
    starts[0] = starts[2] = (uint16_t)cuda_pack_halves(start, start);
}

/* ---- the search among groups ---- */

/* What a lane knows of its points: rows `row` and row + 8 of each tile. */
struct many_best {
    uint32_t value[many_tiles][2], group[many_tiles][2];
};

/* The lane's pieces of its warp's points, times the factor. */
template <unsigned Registers>
static __device__ void load_points(const many_args &args, size_t first,
                                   uint32_t (&points)[many_tiles][2 * Registers]) {
    unsigned row = threadIdx.x % 32 / 4, pair = threadIdx.x % 4, width = args.base.width;
    float factor = *args.factor;
    for (unsigned i = 0; i < many_tiles * 2 * Registers; i++) {
        unsigned tile = i / (2 * Registers), part = i % (2 * Registers);
        size_t n = first + tile * 16 + row + part % 2 * 8;
        unsigned element = part / 2 * 8 + 2 * pair;
        const float *values = args.base.points + n * width + element;
        float low = n < args.base.count && element < width ? values[0] : 0;
        float high = n < args.base.count && element + 1 < width ? values[1] : 0;
        points[tile][part] = cuda_pack_halves(factor * low, factor * high);
    }
}

template <unsigned Registers>
static __device__ void load_chunk(const many_args &args, unsigned chunk, uint4 *target) {
    constexpr unsigned words = chunk_steps * many_table<Registers>::step_words;
    const uint4 *source = args.table + (size_t)chunk * words;
    for (unsigned i = threadIdx.x; i < words; i += many_warps * 32)
        cuda_copy_ahead(target + i, source + i);
}

/* top = the largest t of the step in the lane's two columns, unless it is larger (not if First). */
template <unsigned Registers, bool First>
static __device__ void search_step(const uint4 *step,
                                   const uint32_t (&points)[many_tiles][2 * Registers],
                                   uint32_t (&top)[many_tiles][2]) {
    unsigned lane = threadIdx.x % 32;
    uint4 words[Registers];
    for (unsigned r = 0; r < Registers; r++) words[r] = step[r * 32 + lane];
#pragma unroll
    for (unsigned tile = 0; tile < 4; tile += 2) {
        uint32_t even[Registers], odd[Registers];
        for (unsigned r = 0; r < Registers; r++) {
            even[r] = tile == 0 ? words[r].x : words[r].z;
            odd[r] = tile == 0 ? words[r].y : words[r].w;
        }
        uint4 starts = step[many_table<Registers>::lane_words + tile / 2 * 4 + lane % 4];
        const uint32_t even_start[2] = {starts.x, starts.y}, odd_start[2] = {starts.z, starts.w};
#pragma unroll
        for (unsigned p = 0; p < many_tiles; p++) {
            uint32_t t[2], other[2];
            cuda_mma(t, points[p], even, even_start);
            cuda_mma(other, points[p], odd, odd_start);
            for (unsigned r = 0; r < 2; r++) {
                uint32_t larger = cuda_max_halves(t[r], other[r]);
                top[p][r] = First && tile == 0 ? larger : cuda_max_halves(larger, top[p][r]);
            }
        }
    }
}

/* Keeps what is larger, and where it is, in both halves; the present one if they are equal. */
static __device__ void keep_larger(uint32_t value, uint32_t group, uint32_t &best,
                                   uint32_t &where) {
    uint32_t above = cuda_halves_above(value, best);
    best = cuda_max_halves(value, best);
    where = (group & above) | (where & ~above);
}

template <unsigned Registers>
static __device__ void search_chunk(const uint4 *chunk, unsigned first_group,
                                    const uint32_t (&points)[many_tiles][2 * Registers],
                                    many_best &best) {
    constexpr unsigned words = many_table<Registers>::step_words;
#pragma unroll 1
    for (unsigned group = 0; group < chunk_steps / group_steps; group++) {
        const uint4 *steps = chunk + group * group_steps * words;
        uint32_t top[many_tiles][2];
        search_step<Registers, true>(steps, points, top);
#pragma unroll
        for (unsigned step = 1; step < group_steps; step++)
            search_step<Registers, false>(steps + step * words, points, top);
        uint32_t both = (first_group + group) * 0x10001u;
#pragma unroll
        for (unsigned i = 0; i < 2 * many_tiles; i++)
            keep_larger(top[i / 2][i % 2], both, best.value[i / 2][i % 2],
                        best.group[i / 2][i % 2]);
    }
}

template <unsigned Registers>
__global__ void __launch_bounds__(many_warps * 32, 2) many_kernel(many_args args) {
    constexpr unsigned words = chunk_steps * many_table<Registers>::step_words;
    __shared__ uint4 chunks[2][words];
    uint32_t points[many_tiles][2 * Registers];
    size_t first = (size_t)blockIdx.x * many_points + threadIdx.x / 32 * (many_tiles * 16);
    load_points<Registers>(args, first, points);
    many_best best;
#pragma unroll
    for (unsigned i = 0; i < 2 * many_tiles; i++) {
        best.value[i / 2][i % 2] = lowest_halves;
        best.group[i / 2][i % 2] = 0;
    }
    unsigned begin = (unsigned)((uint64_t)args.chunks * blockIdx.y / args.splits);
    unsigned end = (unsigned)((uint64_t)args.chunks * (blockIdx.y + 1) / args.splits);
    load_chunk<Registers>(args, begin, chunks[begin % 2]);
    for (unsigned chunk = begin; chunk < end; chunk++) {
        cuda_copies_wait();
        __syncthreads();
        if (chunk + 1 < end) load_chunk<Registers>(args, chunk + 1, chunks[(chunk + 1) % 2]);
        search_chunk<Registers>(chunks[chunk % 2], chunk * (chunk_steps / group_steps), points,
                                best);
    }
#pragma unroll
    for (unsigned i = 0; i < 2 * many_tiles; i++) {
        size_t n = first + i / 2 * 16 + threadIdx.x % 32 / 4 + i % 2 * 8;
        if (n < args.base.count)
            args.best[(blockIdx.y * args.base.count + n) * 4 + threadIdx.x % 4] = {
                best.value[i / 2][i % 2], best.group[i / 2][i % 2]};
    }
}

/* ---- the search inside groups: four lanes a point ---- */

/* Orders by score, then entry; NaN comes after all numbers. */
static __device__ uint64_t nearest_key(float score, unsigned entry) {
    uint32_t bits = __float_as_uint(score);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    if (!(score <= INFINITY)) bits = UINT32_MAX;
    return (uint64_t)bits << 32 | entry;
}

template <unsigned Registers>
static __device__ void load_vector(const many_args &args, const float *source,
                                   float (&values)[8 * Registers]) {
    if (args.aligned) {
        for (unsigned i = 0; i < 8 * Registers; i += 4) {
            float4 four = *reinterpret_cast<const float4 *>(source + i);
            values[i] = four.x;
            values[i + 1] = four.y;
            values[i + 2] = four.z;
            values[i + 3] = four.w;
        }
        return;
    }
    for (unsigned i = 0; i < 8 * Registers; i++) values[i] = i < args.base.width ? source[i] : 0;
}

template <unsigned Registers>
static __device__ uint64_t score_entry(const many_args &args, const float (&point)[8 * Registers],
                                       unsigned entry) {
    if (entry >= args.base.entry_count) return UINT64_MAX;
    float values[8 * Registers], score = args.base.norms[entry];
    load_vector<Registers>(args, args.base.entries + (size_t)entry * args.base.width, values);
    for (unsigned i = 0; i < 8 * Registers; i++) score = fmaf(-2 * point[i], values[i], score);
    return nearest_key(score, entry);
}

static __device__ float quad_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(cuda_whole_warp, value, 1));
    return fmaxf(value, __shfl_xor_sync(cuda_whole_warp, value, 2));
}

static __device__ unsigned quad_or(unsigned bits) {
    bits |= __shfl_xor_sync(cuda_whole_warp, bits, 1);
    return bits | __shfl_xor_sync(cuda_whole_warp, bits, 2);
}

static __device__ uint64_t quad_least(uint64_t key) {
    for (unsigned flip = 1; flip < 4; flip *= 2) {
        uint64_t other = __shfl_xor_sync(cuda_whole_warp, key, flip);
        key = other < key ? other : key;
    }
    return key;
}

/* A bit for each of the eight columns whose best t is as large as that of the nearest entry may
 * be: the rounding of either is below 2^-10 |x|^2 where |e| is not far above |x|. */
template <unsigned Registers>
static __device__ unsigned find_columns(const float (&point)[8 * Registers], float factor,
                                        uint32_t values) {
    float square = 0, low = cuda_low_half(values), high = cuda_low_half(values >> 16);
    for (unsigned i = 0; i < 8 * Registers; i++)
        square = fmaf(factor * point[i], factor * point[i], square);
    float least = quad_max(fmaxf(low, high)) - square * 0x1p-9f;
    return quad_or(((low >= least) | (high >= least) << 1) << threadIdx.x % 4 * 2);
}

/* The lane's quarter of what the columns hold. */
template <unsigned Registers>
static __device__ uint64_t search_columns(const many_args &args,
                                          const float (&point)[8 * Registers], unsigned columns,
                                          uint32_t groups) {
    unsigned lane = threadIdx.x % 32, pair = lane % 4;
    uint64_t key = (uint64_t)UINT32_MAX << 32;
    while (__ballot_sync(cuda_whole_warp, columns != 0)) {
        unsigned column = columns ? __ffs(columns) - 1 : 0;
        uint32_t both = __shfl_sync(cuda_whole_warp, groups, lane / 4 * 4 + column / 2);
        unsigned group = column % 2 ? both >> 16 : both & 0xffff;
        unsigned first = group * group_entries + column * column_entries + pair;
#pragma unroll
        for (unsigned i = 0; i < column_entries; i += 4) {
            uint64_t one = columns ? score_entry<Registers>(args, point, first + i) : UINT64_MAX;
            key = one < key ? one : key;
        }
        columns &= columns - 1;
    }
    return key;
}

template <unsigned Registers> static __global__ void pick_kernel(many_args args) {
    size_t index = cuda_first(), n = index / 4, count = args.base.count;
    bool own = n < count;
    uint2 best = {lowest_halves, 0};
#pragma unroll 4
    for (unsigned split = 0; own && split < args.splits; split++) {
        uint2 other = args.best[split * count * 4 + index];
        keep_larger(other.x, other.y, best.x, best.y);
    }
    float point[8 * Registers] = {};
    if (own) load_vector<Registers>(args, args.base.points + n * args.base.width, point);
    unsigned columns = find_columns<Registers>(point, *args.factor, best.x);
    uint64_t key = quad_least(search_columns<Registers>(args, point, columns, best.y));
    if (own && index % 4 == 0) args.base.codes[n * args.base.books] = (uint16_t)key;
}

/* ---- the op ---- */

/* Few points: entries are split over blocks too, so that these fill the device. */
static unsigned find_splits(size_t blocks, unsigned chunks) {
    constexpr size_t enough = 1024;
    constexpr unsigned least_chunks = 4;
    size_t splits = enough / blocks, most = chunks / least_chunks;
    splits = splits < most ? splits : most;
    return (unsigned)(splits < 1 ? 1 : splits);
}

template <unsigned Registers>
static aq_status run_many(const cuda_state *state, const many_args &args, float *largest,
                          float *factor, uint4 *table) {
    size_t blocks = (args.base.count + many_points - 1) / many_points;
    largest_kernel<<<largest_blocks, cuda_threads, 0, state->stream>>>(args.base, largest);
    CUDA_TRY(cudaGetLastError());
    table_kernel<Registers>
        <<<args.chunks * chunk_entries / cuda_threads, cuda_threads, 0, state->stream>>>(
            args.base, largest, factor, table);
    CUDA_TRY(cudaGetLastError());
    dim3 grid((unsigned)blocks, args.splits);
    many_kernel<Registers><<<grid, many_warps * 32, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    size_t quads = (args.base.count * 4 + cuda_threads - 1) / cuda_threads;
    pick_kernel<Registers><<<(unsigned)quads, cuda_threads, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

template <unsigned Registers>
static aq_status nearest_many(const cuda_state *state, const nearest_args &base) {
    many_args args = {};
    args.base = base;
    args.chunks = (base.entry_count + chunk_entries - 1) / chunk_entries;
    args.splits = find_splits((base.count + many_points - 1) / many_points, args.chunks);
    args.aligned = base.width == many_table<Registers>::width &&
                   reinterpret_cast<uintptr_t>(base.points) % sizeof(float4) == 0 &&
                   reinterpret_cast<uintptr_t>(base.entries) % sizeof(float4) == 0;
    size_t words = (size_t)args.chunks * chunk_steps * many_table<Registers>::step_words;
    cuda_scratch best_scratch(state), table_scratch(state);
    uint4 *table;
    AQ_TRY(best_scratch.take(args.splits * base.count * 4, &args.best));
    AQ_TRY(table_scratch.take(words + (largest_blocks + 4) / 4, &table));
    float *largest = reinterpret_cast<float *>(table + words);
    args.table = table;
    args.factor = largest + largest_blocks;
    return run_many<Registers>(state, args, largest, largest + largest_blocks, table);
}

aq_status cuda_nearest_many(const cuda_state *state, const nearest_args &args) {
    AQ_REQUIRE(args.count <= (size_t)1 << 32, AQ_UNSUPPORTED, "nearest: %zu points", args.count);
    return args.width <= 8 ? nearest_many<1>(state, args) : nearest_many<2>(state, args);
}
