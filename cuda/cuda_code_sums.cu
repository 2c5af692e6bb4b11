#include "launch.h"

#include "base/random.h"

/* Few clusters: a block adds up runs of points, a thread those of its cluster in their order, and a
 * cluster's parts are added in the order of the runs. Many clusters: lists are made first. */

constexpr size_t few_clusters = 512;
constexpr unsigned tile_points = 256, most_width = 32;
static_assert(tile_points == cuda_threads, "a thread reads a point's code");

struct sums_args {
    const float *points;
    const uint16_t *codes; /* of the codebook; `books` apart */
    size_t count, books, clusters;
    unsigned width, runs, run_tiles; /* a run is of run_tiles * tile_points points */
    float *parts;                    /* [runs, clusters, width + 1]: sums and how many */
    double *sums;                    /* [clusters, 2 width + 1] */
    aq_cluster_draw draw;
};

/* The tile's points, and for each of the block's clusters a bit for every point that is its own. */
template <unsigned Width, bool Whole>
static __device__ void load_points(const sums_args &args, size_t first, float *points,
                                   uint32_t (*owned)[tile_points / 32]) {
    size_t n = first + threadIdx.x, left = (args.count - first) * args.width;
    if (n < args.count) {
        unsigned cluster = args.codes[n * args.books] - blockIdx.y * tile_points;
        if (cluster < tile_points)
            atomicOr(&owned[cluster][threadIdx.x / 32], 1u << threadIdx.x % 32);
    }
    if constexpr (Whole) {
        const float4 *source = reinterpret_cast<const float4 *>(args.points + first * Width);
        for (unsigned i = threadIdx.x; i < tile_points * Width / 4; i += tile_points)
            if (i < left / 4) reinterpret_cast<float4 *>(points)[i] = source[i];
    } else {
        for (unsigned i = threadIdx.x; i < tile_points * args.width; i += tile_points)
            if (i < left)
                points[i / args.width * Width + i % args.width] =
                    args.points[first * args.width + i];
    }
}

/* Adds the points that are the cluster's own, and forgets whose they were. */
template <unsigned Width, bool Whole>
static __device__ void add_points(const float *points, uint32_t (&owned)[tile_points / 32],
                                  unsigned width, float (&sum)[Width], float &size) {
#pragma unroll
    for (unsigned word = 0; word < tile_points / 32; word++) {
        uint32_t left = owned[word];
        owned[word] = 0;
        while (left) {
            const float *point = points + (word * 32 + __ffs(left) - 1) * Width;
            left &= left - 1;
            size += 1;
            for (unsigned i = 0; i < Width; i++)
                if (Whole || i < width) sum[i] += point[i];
        }
    }
}

template <unsigned Width, bool Whole>
__global__ void __launch_bounds__(tile_points) code_sums_kernel(sums_args args) {
    __shared__ __align__(16) float points[tile_points * Width];
    __shared__ __align__(16) uint32_t owned[tile_points][tile_points / 32];
    unsigned cluster = blockIdx.y * tile_points + threadIdx.x;
    float sum[Width] = {}, size = 0;
    for (unsigned word = 0; word < tile_points / 32; word++) owned[threadIdx.x][word] = 0;
    for (unsigned tile = 0; tile < args.run_tiles; tile++) {
        size_t first = ((size_t)blockIdx.x * args.run_tiles + tile) * tile_points;
        if (first >= args.count) break;
        __syncthreads();
        load_points<Width, Whole>(args, first, points, owned);
        __syncthreads();
        add_points<Width, Whole>(points, owned[threadIdx.x], args.width, sum, size);
    }
    if (cluster >= args.clusters) return;
    float *part = args.parts + (blockIdx.x * args.clusters + cluster) * (args.width + 1);
    for (unsigned i = 0; i < Width; i++)
        if (i < args.width) part[i] = sum[i];
    part[args.width] = size;
}

/* One block a cluster: threads stand side by side over the elements of a part, and as many parts as
 * fit beside each other are read at once. */
static __global__ void join_parts_kernel(sums_args args) {
    __shared__ double lines[cuda_threads];
    unsigned span = args.width + 1, abreast = cuda_threads / span;
    unsigned i = threadIdx.x % span, line = threadIdx.x / span;
    size_t cluster = blockIdx.x;
    double sum = 0;
#pragma unroll 4
    for (unsigned run = line; line < abreast && run < args.runs; run += abreast)
        sum += args.parts[(run * args.clusters + cluster) * span + i];
    lines[threadIdx.x] = sum;
    __syncthreads();
    double *target = args.sums + cluster * (2 * args.width + 1);
    if (line == 0) {
        for (unsigned other = 1; other < abreast; other++) sum += lines[other * span + i];
        target[i] = sum;
    }
    if (threadIdx.x >= args.width) return;
    size_t drawn = aq_random_below(aq_random(args.draw.seed, AQ_STREAM_KMEANS_EMPTY, cluster),
                                   args.draw.total);
    bool own = drawn >= args.draw.first && drawn - args.draw.first < args.count;
    target[span + threadIdx.x] =
        own ? (double)args.points[(drawn - args.draw.first) * args.width + threadIdx.x] : 0.0;
}

template <unsigned Width>
static aq_status sum_runs(const cuda_state *state, const sums_args &args) {
    dim3 grid(args.runs, (unsigned)((args.clusters + tile_points - 1) / tile_points));
    bool aligned = reinterpret_cast<uintptr_t>(args.points) % sizeof(float4) == 0;
    if (aligned && args.width == Width)
        code_sums_kernel<Width, true><<<grid, tile_points, 0, state->stream>>>(args);
    else
        code_sums_kernel<Width, false><<<grid, tile_points, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

static aq_status sum_few(const cuda_state *state, sums_args &args) {
    constexpr size_t most_runs = 1024;
    size_t tiles = (args.count + tile_points - 1) / tile_points;
    args.run_tiles = (unsigned)((tiles + most_runs - 1) / most_runs);
    args.runs = (unsigned)((tiles + args.run_tiles - 1) / args.run_tiles);
    cuda_scratch scratch(state);
    AQ_TRY(scratch.take(args.runs * args.clusters * (args.width + 1), &args.parts));
    AQ_TRY(args.width <= 8    ? sum_runs<8>(state, args)
           : args.width <= 16 ? sum_runs<16>(state, args)
                              : sum_runs<most_width>(state, args));
    join_parts_kernel<<<(unsigned)args.clusters, cuda_threads, 0, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

static aq_tensor list_of(const aq_tensor *like, uint32_t *data, size_t count) {
    aq_tensor list = {};
    list.home = like->home;
    list.data = data;
    list.dtype = AQ_U32;
    list.ndim = 1;
    list.shape[0] = count;
    return list;
}

static aq_status sum_lists(const aq_tensor *points, const aq_tensor *codes, int codebook,
                           const aq_cluster_draw *draw, aq_tensor *sums) {
    size_t count = points->shape[0], clusters = sums->shape[0];
    cuda_scratch scratch(cuda_state_of(points));
    uint32_t *lists;
    AQ_TRY(scratch.take(count + clusters + 1, &lists));
    aq_tensor order = list_of(points, lists, count);
    aq_tensor offsets = list_of(points, lists + count, clusters + 1);
    AQ_TRY(cuda_sort_codes(codes, codebook, &order, &offsets));
    return cuda_cluster_sums(points, &order, &offsets, draw, sums);
}

aq_status cuda_code_sums(const aq_tensor *points, const aq_tensor *codes, int codebook,
                         const aq_cluster_draw *draw, aq_tensor *sums) {
    sums_args args = {};
    args.points = cuda_floats(points);
    args.codes = static_cast<const uint16_t *>(codes->data) + codebook;
    args.count = points->shape[0];
    args.books = codes->shape[1];
    args.clusters = sums->shape[0];
    args.width = (unsigned)points->shape[1];
    args.sums = static_cast<double *>(sums->data);
    args.draw = *draw;
    if (args.clusters > few_clusters || args.width > most_width)
        return sum_lists(points, codes, codebook, draw, sums);
    return sum_few(cuda_state_of(points), args);
}
