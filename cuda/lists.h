/* Sums over lists of vectors, as aq_sort_codes makes them. CUDA C++ only.
 *
 * Lists may be many and short or few and long, and very unequal; so each is cut into the same
 * number of parts, a warp sums a part, and the parts are added in their order: the number of parts
 * follows from shapes alone.
 */
#ifndef AQ_CUDA_LISTS_H
#define AQ_CUDA_LISTS_H

#include "launch.h"

struct cuda_lists {
    const uint32_t *order, *offsets; /* [sorts, vectors], [sorts, entries + 1] */
    size_t sorts, vectors, entries;
    unsigned width; /* elements of a vector */
    unsigned parts; /* of a list */
};

/* Lists of a sort of `vectors` vectors; parts hold about 32 vectors if lists are equally long. */
static inline cuda_lists cuda_lists_of(const aq_tensor *orders, const aq_tensor *offsets,
                                       unsigned width) {
    cuda_lists lists = {};
    lists.order = static_cast<const uint32_t *>(orders->data);
    lists.offsets = static_cast<const uint32_t *>(offsets->data);
    lists.sorts = orders->ndim == 2 ? orders->shape[0] : 1;
    lists.vectors = orders->shape[orders->ndim - 1];
    lists.entries = offsets->shape[offsets->ndim - 1] - 1;
    lists.width = width;
    size_t parts = lists.vectors / lists.entries / 32;
    lists.parts = (unsigned)(parts < 1 ? 1 : parts > 256 ? 256 : parts);
    return lists;
}

/* Lanes stand side by side over a vector's elements, and as many vectors as fit beside each other
 * are read at once. partials [sorts, entries, parts, width]. */
template <class Value>
__global__ void cuda_lists_kernel(cuda_lists lists, Value value, float *partials) {
    size_t part = cuda_first() / 32, list = part / lists.parts;
    if (list >= lists.sorts * lists.entries) return;
    size_t sort = list / lists.entries, entry = list % lists.entries;
    const uint32_t *offset = lists.offsets + sort * (lists.entries + 1) + entry;
    const uint32_t *order = lists.order + sort * lists.vectors;
    uint64_t begin = offset[0], length = offset[1] - begin, piece = part % lists.parts;
    uint64_t first = begin + length * piece / lists.parts;
    uint64_t last = begin + length * (piece + 1) / lists.parts;
    unsigned lane = threadIdx.x % 32, span = lists.width < 32 ? lists.width : 32;
    unsigned abreast = 32 / span, element = lane % span, place = lane / span;
    for (unsigned base = 0; base < lists.width; base += span) {
        unsigned i = base + element;
        float sum = 0;
        if (i < lists.width && place < abreast) {
#pragma unroll 4
            for (uint64_t n = first + place; n < last; n += abreast) sum += value(order[n], i);
        }
        float total = __shfl_sync(cuda_whole_warp, sum, element);
        for (unsigned other = 1; other < abreast; other++)
            total += __shfl_sync(cuda_whole_warp, sum, element + other * span);
        if (place == 0 && i < lists.width) partials[part * lists.width + i] = total;
    }
}

/* result(list, element, sum over the list's vectors n of value(n, element), length) for every list
 * (sort * entries + entry) and element. */
template <class Value, class Result>
aq_status cuda_lists_sum(const cuda_state *state, const cuda_lists &lists, Value value,
                         Result result) {
    size_t count = lists.sorts * lists.entries;
    cuda_scratch scratch(state);
    float *partials;
    AQ_TRY(scratch.take(count * lists.parts * lists.width, &partials));
    size_t blocks = (count * lists.parts * 32 + cuda_threads - 1) / cuda_threads;
    AQ_REQUIRE(blocks <= 0x7fffffff, AQ_UNSUPPORTED, "sums over %zu lists at once", count);
    cuda_lists_kernel<<<(unsigned)blocks, cuda_threads, 0, state->stream>>>(lists, value, partials);
    CUDA_TRY(cudaGetLastError());
    return cuda_each(state, count * lists.width, [=] __device__(size_t index) {
        size_t list = index / lists.width, element = index % lists.width;
        const uint32_t *offset =
            lists.offsets + list / lists.entries * (lists.entries + 1) + list % lists.entries;
        float sum = 0;
        for (unsigned part = 0; part < lists.parts; part++)
            sum += partials[(list * lists.parts + part) * lists.width + element];
        result(list, element, sum, offset[1] - offset[0]);
    });
}

#endif
