/* Stands in for CUB's header of the same name. */
#ifndef AQ_TESTS_EMULATION_DEVICE_RADIX_SORT_CUH
#define AQ_TESTS_EMULATION_DEVICE_RADIX_SORT_CUH

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace cub {

struct DeviceRadixSort {
    /* Without memory only tells how many bytes of it are needed. Compares bits begin .. end - 1. */
    template <class Key, class Value, class Count>
    static cudaError_t SortPairs(void *memory, size_t &bytes, const Key *keys, Key *sorted_keys,
                                 const Value *values, Value *sorted_values, Count count, int begin,
                                 int end, cudaStream_t stream) {
        constexpr size_t needed = 64;
        emulated_check_stream(stream, "a sort");
        if (memory && bytes < needed) return cudaErrorInvalidValue;
        bytes = memory ? bytes : needed;
        if (!memory) return cudaSuccess;
        memset(memory, 0xff, bytes);
        uint64_t mask = ((uint64_t)1 << end) - ((uint64_t)1 << begin);
        std::vector<size_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](size_t left, size_t right) {
            return (keys[left] & mask) < (keys[right] & mask);
        });
        for (size_t i = 0; i < order.size(); i++) {
            sorted_keys[i] = keys[order[i]];
            sorted_values[i] = values[order[i]];
        }
        return cudaSuccess;
    }
};

} /* namespace cub */

#endif
