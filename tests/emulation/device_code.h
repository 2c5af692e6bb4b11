/* What kernels are written in, and how they are launched (see cuda_runtime.h). C++ only.
 */
#ifndef AQ_TESTS_EMULATION_DEVICE_CODE_H
#define AQ_TESTS_EMULATION_DEVICE_CODE_H

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __restrict__
#define __launch_bounds__(...)

using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned across = 1, unsigned down = 1, unsigned deep = 1) : x(across), y(down), z(deep) {
    }
};

struct alignas(16) float4 {
    float x, y, z, w;
};

struct alignas(8) uint2 {
    unsigned x, y;
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

/* Of the thread that runs at present. */
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- launches ---- */

struct emulated_grid {
    dim3 blocks, threads;
    size_t shared_bytes = 0;
    cudaStream_t stream = nullptr;
};

/* What `kernel<<<grid>>>(arguments)` becomes; the body calls the kernel. All its threads have run
 * on return. A launch past the limits does not run, and cudaGetLastError tells. */
void emulated_launch(const char *kernel, const emulated_grid &grid,
                     const std::function<void()> &body);

/* Lets kernels of this name take so much shared memory; without, 48 KiB are the limit. */
cudaError_t emulated_allow_shared(const char *kernel, int bytes);
#define cudaFuncSetAttribute(kernel, attribute, bytes) emulated_allow_shared(#kernel, bytes)

/* ---- shared memory ---- */

/* The running block's array of a declaration, made when its first thread comes by; `site` is the
 * declaration's own. */
void *emulated_shared(const void *site, size_t bytes, size_t alignment);

/* What the launch asked for besides. */
void *emulated_launched_shared();

template <class Array> Array &emulated_shared_array(const void *site) {
    return *static_cast<Array *>(emulated_shared(site, sizeof(Array), 16));
}

/* ---- threads together ---- */

void __syncthreads();

/* Gives `mine` to the warp and fetches what lane `from` gave; all 32 lanes take part. */
void emulated_exchange(unsigned mask, const void *mine, void *fetched, size_t bytes, unsigned from);
unsigned emulated_lane();

/* Copies what every lane of the warp has (bytes each, 48 at most) to `all`, lane 0 first. */
void emulated_show(const void *mine, void *all, size_t bytes);

template <class Value> Value __shfl_sync(unsigned mask, Value value, unsigned lane) {
    Value fetched;
    emulated_exchange(mask, &value, &fetched, sizeof value, lane % 32);
    return fetched;
}

template <class Value> Value __shfl_xor_sync(unsigned mask, Value value, unsigned flipped) {
    return __shfl_sync(mask, value, emulated_lane() ^ flipped);
}

static inline unsigned __ballot_sync(unsigned, bool vote) {
    unsigned char votes[32];
    unsigned ballot = 0;
    emulated_show(&vote, votes, 1);
    for (unsigned lane = 0; lane < 32; lane++) ballot |= (unsigned)votes[lane] << lane;
    return ballot;
}

static inline void __syncwarp() {
    (void)__ballot_sync(~0u, false);
}

/* Only one thread runs at a time. */
template <class Number> Number atomicAdd(Number *sum, Number value) {
    Number old = *sum;
    *sum += value;
    return old;
}

template <class Number> Number atomicMin(Number *least, Number value) {
    Number old = *least;
    *least = min(old, value);
    return old;
}

template <class Number> Number atomicOr(Number *bits, Number value) {
    Number old = *bits;
    *bits |= value;
    return old;
}

/* ---- bits ---- */

/* The lowest bit that is set, counted from 1. */
static inline int __ffs(unsigned bits) {
    return __builtin_ffs((int)bits);
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
