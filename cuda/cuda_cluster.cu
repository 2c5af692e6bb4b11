#include "lists.h"

#include "base/random.h"

/* One block a row group: its o lines lie one after the other. */
static __global__ void group_norms_kernel(const float *weight, size_t width, float *scales) {
    const float *line = weight + blockIdx.x * width;
    double sum = 0;
    for (size_t i = threadIdx.x; i < width; i += blockDim.x) sum += (double)line[i] * line[i];
    sum = cuda_block_sum(sum);
    if (threadIdx.x == 0) scales[blockIdx.x] = sum == 0 ? AQ_ZERO_SCALE : (float)sqrt(sum);
}

aq_status cuda_group_norms(const aq_tensor *weight, aq_tensor *scales) {
    size_t rows = scales->shape[0];
    AQ_REQUIRE(rows <= 0x7fffffff, AQ_UNSUPPORTED, "a weight with %zu row groups", rows);
    group_norms_kernel<<<(unsigned)rows, cuda_threads, 0, cuda_state_of(weight)->stream>>>(
        cuda_floats(weight), aq_tensor_count(weight) / rows, cuda_floats(scales));
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_scaled_vectors(const aq_tensor *weight, const aq_tensor *scales, int in_group,
                              aq_tensor *points) {
    const float *values = cuda_floats(weight), *norms = cuda_floats(scales);
    float *target = cuda_floats(points);
    size_t columns = weight->shape[1], lines = weight->shape[0] / scales->shape[0];
    size_t span = (size_t)in_group, groups = columns / span, width = lines * span;
    return cuda_each(cuda_state_of(weight), aq_tensor_count(points), [=] __device__(size_t i) {
        size_t vector = i / width, line = i % width / span, row = vector / groups;
        size_t column = vector % groups * span + i % span;
        target[i] = values[(row * lines + line) * columns + column] / norms[row];
    });
}

/* line' G line, G [span, span] a diagonal piece of gram; the squared norm without gram. */
static __device__ float line_norm(const float *line, unsigned span, const float *gram,
                                  size_t columns) {
    float norm = 0;
    for (unsigned i = 0; i < span; i++) {
        float product = gram ? 0 : line[i];
        for (unsigned j = 0; gram && j < span; j++)
            product = fmaf(gram[i * columns + j], line[j], product);
        norm = fmaf(line[i], product, norm);
    }
    return norm;
}

/* Eight is everybody's group: with the loops unrolled the line stays in registers. */
static __device__ float line_norm_of_eight(const float *line, const float *gram, size_t columns) {
    float values[8];
    for (unsigned i = 0; i < 8; i++) values[i] = line[i];
    return line_norm(values, 8, gram, columns);
}

aq_status cuda_entry_norms(const aq_tensor *entries, const aq_tensor *gram, size_t column,
                           aq_tensor *norms) {
    const float *values = cuda_floats(entries);
    size_t lines = entries->shape[1], columns = gram ? gram->shape[1] : 0;
    const float *piece = gram ? cuda_floats(gram) + column * columns + column : nullptr;
    unsigned span = (unsigned)entries->shape[2];
    float *target = cuda_floats(norms);
    return cuda_each(cuda_state_of(entries), entries->shape[0], [=] __device__(size_t entry) {
        float norm = 0;
        for (size_t line = 0; line < lines; line++) {
            const float *start = values + (entry * lines + line) * span;
            norm += span == 8 ? line_norm_of_eight(start, piece, columns)
                              : line_norm(start, span, piece, columns);
        }
        target[entry] = norm;
    });
}

aq_status cuda_subtract_entries(const aq_tensor *entries, const aq_tensor *codes, int codebook,
                                aq_tensor *points) {
    const float *values = cuda_floats(entries);
    const uint16_t *code = static_cast<const uint16_t *>(codes->data) + codebook;
    size_t books = codes->shape[1], width = points->shape[1];
    float *target = cuda_floats(points);
    return cuda_each(cuda_state_of(points), aq_tensor_count(points), [=] __device__(size_t i) {
        target[i] -= values[code[i / width * books] * width + i % width];
    });
}

/* As the CPU's; the lowest `left` wins in any order. */
aq_status cuda_random_head(uint64_t seed, aq_stream stream, uint32_t total, aq_tensor *head) {
    const cuda_state *state = cuda_state_of(head);
    uint32_t count = (uint32_t)head->shape[0], *target = static_cast<uint32_t *>(head->data), *from;
    cuda_scratch scratch(state);
    AQ_TRY(scratch.take(total, &from));
    CUDA_TRY(cudaMemsetAsync(from, 0xff, total * sizeof *from, state->stream));
    if (total > count)
        AQ_TRY(cuda_each(state, total - count, [=] __device__(size_t i) {
            uint32_t left = count + 1 + (uint32_t)i, pick = aq_random_pick(seed, stream, left);
            if (pick != left - 1) atomicMin(from + pick, left - 1);
        }));
    return cuda_each(state, count, [=] __device__(size_t place) {
        uint32_t origin = (uint32_t)place;
        while (from[origin] != UINT32_MAX) origin = from[origin];
        target[place] = origin;
    });
}

/* sums [clusters, 2 width + 1]: how many, and the point drawn. */
static aq_status count_and_draw(const aq_tensor *points, const aq_tensor *offsets,
                                const aq_cluster_draw *draw, aq_tensor *sums) {
    const float *values = cuda_floats(points);
    const uint32_t *offset = static_cast<const uint32_t *>(offsets->data);
    double *target = static_cast<double *>(sums->data);
    size_t count = points->shape[0], width = points->shape[1], row = sums->shape[1];
    aq_cluster_draw how = *draw;
    return cuda_each(cuda_state_of(points), sums->shape[0] * (width + 1), [=] __device__(size_t n) {
        size_t entry = n / (width + 1), i = n % (width + 1);
        double *sum = target + entry * row + width;
        if (i == width) {
            *sum = (double)(offset[entry + 1] - offset[entry]);
            return;
        }
        size_t drawn =
            aq_random_below(aq_random(how.seed, AQ_STREAM_KMEANS_EMPTY, entry), how.total);
        bool own = drawn >= how.first && drawn - how.first < count;
        sum[1 + i] = own ? (double)values[(drawn - how.first) * width + i] : 0.0;
    });
}

aq_status cuda_cluster_sums(const aq_tensor *points, const aq_tensor *order,
                            const aq_tensor *offsets, const aq_cluster_draw *draw,
                            aq_tensor *sums) {
    const float *values = cuda_floats(points);
    double *target = static_cast<double *>(sums->data);
    size_t width = points->shape[1], row = sums->shape[1];
    AQ_TRY(count_and_draw(points, offsets, draw, sums));
    return cuda_lists_sum(
        cuda_state_of(points), cuda_lists_of(order, offsets, (unsigned)width),
        [=] __device__(size_t n, unsigned i) { return values[n * width + i]; },
        [=] __device__(size_t entry, size_t i, float sum, uint32_t) {
            target[entry * row + i] = (double)sum;
        });
}

aq_status cuda_cluster_means(const aq_tensor *sums, aq_tensor *entries) {
    const double *values = static_cast<const double *>(sums->data);
    float *target = cuda_floats(entries);
    size_t width = entries->shape[1], row = sums->shape[1];
    return cuda_each(cuda_state_of(entries), aq_tensor_count(entries), [=] __device__(size_t n) {
        const double *sum = values + n / width * row;
        size_t i = n % width;
        double size = sum[width];
        target[n] = (float)(size > 0 ? sum[i] / size : sum[width + 1 + i]);
    });
}
