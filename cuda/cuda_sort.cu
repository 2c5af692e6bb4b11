#include "launch.h"

#include <cub/device/device_radix_sort.cuh>

/* Lowest number of bits that tells `count` codes apart. */
static int code_bits(size_t count) {
    int bits = 1;
    while ((size_t)1 << bits < count) bits++;
    return bits;
}

/* offsets[k] = number of codes below k in the sorted list. */
static aq_status find_offsets(const cuda_state *state, const uint16_t *sorted, size_t count,
                              aq_tensor *offsets) {
    uint32_t *target = static_cast<uint32_t *>(offsets->data);
    return cuda_each(state, offsets->shape[0], [=] __device__(size_t code) {
        size_t low = 0, high = count;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (sorted[middle] < code)
                low = middle + 1;
            else
                high = middle;
        }
        target[code] = (uint32_t)low;
    });
}

aq_status cuda_sort_codes(const aq_tensor *codes, int codebook, aq_tensor *order,
                          aq_tensor *offsets) {
    const cuda_state *state = cuda_state_of(codes);
    size_t count = codes->shape[0], books = codes->shape[1], bytes = 0;
    int bits = code_bits(offsets->shape[0] - 1);
    cuda_scratch key_scratch(state), number_scratch(state), sort_scratch(state);
    uint16_t *keys;
    uint32_t *numbers;
    unsigned char *space;
    AQ_TRY(key_scratch.take(2 * count, &keys));
    AQ_TRY(number_scratch.take(count, &numbers));
    const uint16_t *code = static_cast<const uint16_t *>(codes->data) + codebook;
    AQ_TRY(cuda_each(state, count, [=] __device__(size_t n) {
        keys[n] = code[n * books];
        numbers[n] = (uint32_t)n;
    }));
    uint16_t *sorted = keys + count;
    uint32_t *target = static_cast<uint32_t *>(order->data);
    uint32_t items = (uint32_t)count;
    CUDA_TRY(cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys, sorted, numbers, target, items,
                                             0, bits, state->stream));
    AQ_TRY(sort_scratch.take(bytes, &space));
    CUDA_TRY(cub::DeviceRadixSort::SortPairs(space, bytes, keys, sorted, numbers, target, items, 0,
                                             bits, state->stream));
    return find_offsets(state, sorted, count, offsets);
}
