#include "fours.h"

/* The numbers travel with the launch: nothing is copied before it. */
struct pick_launch {
    static constexpr size_t most = 256;
    uint32_t list[most];
};
static_assert(sizeof(pick_launch) < 4096, "what a launch may be given");

/* `size` elements each. */
static __global__ void pick_kernel(pick_launch launch, const __nv_bfloat16 *source, size_t size,
                                   float *target) {
    const __nv_bfloat16 *from = source + launch.list[blockIdx.y] * size;
    float *to = target + blockIdx.y * size;
    for (size_t i = cuda_first(); i < size; i += cuda_stride()) to[i] = __bfloat162float(from[i]);
}

/* The same, four at a time. */
static __global__ void pick_fours(pick_launch launch, const uint2 *source, size_t size,
                                  float4 *target) {
    const uint2 *from = source + launch.list[blockIdx.y] * size;
    float4 *to = target + blockIdx.y * size;
    for (size_t i = cuda_first(); i < size; i += cuda_stride()) {
        const uint2 four = from[i];
        to[i] = {__uint_as_float(four.x << 16), __uint_as_float(four.x & 0xffff0000u),
                 __uint_as_float(four.y << 16), __uint_as_float(four.y & 0xffff0000u)};
    }
}

static aq_status pick_some(const aq_tensor *source, const uint32_t *list, size_t count,
                           float *target) {
    pick_launch launch = {};
    size_t size = source->shape[1] * source->shape[2];
    const __nv_bfloat16 *from = cuda_halves(source);
    const cudaStream_t stream = cuda_state_of(source)->stream;
    for (size_t i = 0; i < count; i++) launch.list[i] = list[i];
    if (cuda_fours_fit(size, from, target))
        pick_fours<<<dim3(cuda_blocks(size / 4), (unsigned)count), cuda_threads, 0, stream>>>(
            launch, reinterpret_cast<const uint2 *>(from), size / 4,
            reinterpret_cast<float4 *>(target));
    else
        pick_kernel<<<dim3(cuda_blocks(size), (unsigned)count), cuda_threads, 0, stream>>>(
            launch, from, size, target);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_pick(const aq_tensor *source, const uint32_t *list, size_t count,
                    aq_tensor *target) {
    size_t size = source->shape[1] * source->shape[2], most = pick_launch::most;
    for (size_t first = 0; first < count; first += most)
        AQ_TRY(pick_some(source, list + first, count - first < most ? count - first : most,
                         cuda_floats(target) + first * size));
    return AQ_OK;
}
