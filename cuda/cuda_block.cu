#include "fours.h"

/* One block a token. */
template <unsigned Count, class Number>
static __global__ void rms_norm_kernel(const float *x, const float *weight, float epsilon,
                                       size_t width, Number *y, float *inverse) {
    const float *from = x + blockIdx.x * width;
    Number *to = y + blockIdx.x * width;
    float sum = 0, numbers[Count], factors[Count];
    for (size_t c = Count * threadIdx.x; c < width; c += Count * blockDim.x) {
        cuda_load(numbers, from + c);
        for (unsigned i = 0; i < Count; i++) sum = fmaf(numbers[i], numbers[i], sum);
    }
    float factor = 1 / sqrtf(cuda_block_sum(sum) / (float)width + epsilon);
    for (size_t c = Count * threadIdx.x; c < width; c += Count * blockDim.x) {
        cuda_load(numbers, from + c);
        cuda_load(factors, weight + c);
        for (unsigned i = 0; i < Count; i++) numbers[i] *= factor * factors[i];
        cuda_save(numbers, to + c);
    }
    if (threadIdx.x == 0) inverse[blockIdx.x] = factor;
}

static aq_status check_tokens(const aq_tensor *x) {
    AQ_REQUIRE(x->shape[0] <= 0x7fffffff, AQ_UNSUPPORTED, "%zu tokens at once", x->shape[0]);
    return AQ_OK;
}

template <unsigned Count, class Number>
static void launch_rms_norm(const aq_tensor *x, const aq_tensor *weight, float epsilon, Number *y,
                            aq_tensor *inverse) {
    rms_norm_kernel<Count><<<(unsigned)x->shape[0], cuda_threads, 0, cuda_state_of(x)->stream>>>(
        cuda_floats(x), cuda_floats(weight), epsilon, x->shape[1], y, cuda_floats(inverse));
}

aq_status cuda_rms_norm(const aq_tensor *x, const aq_tensor *weight, float epsilon, aq_tensor *y,
                        aq_tensor *inverse) {
    AQ_TRY(check_tokens(x));
    bool half = y->dtype == AQ_BF16;
    bool fours = cuda_fours_fit(x->shape[1], x->data, weight->data, y->data);
    if (half && fours)
        launch_rms_norm<4>(x, weight, epsilon, cuda_halves(y), inverse);
    else if (half)
        launch_rms_norm<1>(x, weight, epsilon, cuda_halves(y), inverse);
    else if (fours)
        launch_rms_norm<4>(x, weight, epsilon, cuda_floats(y), inverse);
    else
        launch_rms_norm<1>(x, weight, epsilon, cuda_floats(y), inverse);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* Tokens that a block takes one after the other, so that at most so many parts of dweight are to be
 * added up. */
constexpr size_t norm_parts = 1024;

struct norm_grad_args {
    const float *x, *weight, *inverse, *dy;
    float *dx, *parts; /* parts [gridDim.x, width] */
    size_t tokens, width, run;
};

/* With n = 1 / sqrt(mean(x^2) + epsilon): dx += n dy w - x n^3 (dy w . x) / width, and dweight's
 * part of the block's tokens. A thread has the same columns of all of them. */
template <unsigned Count> static __global__ void rms_norm_grad_kernel(norm_grad_args args) {
    extern __shared__ __align__(16) float part[];
    const size_t width = args.width, first = blockIdx.x * args.run;
    const size_t last = first + args.run < args.tokens ? first + args.run : args.tokens;
    float gradient[Count], values[Count], factors[Count], sums[Count];
    for (size_t token = first; token < last; token++) {
        const float *x = args.x + token * width, *dy = args.dy + token * width;
        float *dx = args.dx + token * width, factor = args.inverse[token], dot = 0;
        for (size_t c = Count * threadIdx.x; c < width; c += Count * blockDim.x) {
            cuda_load(gradient, dy + c);
            cuda_load(values, x + c);
            cuda_load(factors, args.weight + c);
            for (unsigned i = 0; i < Count; i++)
                dot = fmaf(gradient[i] * factors[i], values[i], dot);
        }
        float pull = cuda_block_sum(dot) * factor * factor * factor / (float)width;
        for (size_t c = Count * threadIdx.x; c < width; c += Count * blockDim.x) {
            cuda_load(gradient, dy + c);
            cuda_load(values, x + c);
            cuda_load(factors, args.weight + c);
            cuda_load(sums, dx + c);
            for (unsigned i = 0; i < Count; i++) {
                sums[i] += factor * gradient[i] * factors[i] - pull * values[i];
                float share = gradient[i] * values[i] * factor;
                part[c + i] = token == first ? share : part[c + i] + share;
            }
            cuda_save(sums, dx + c);
        }
    }
    for (size_t c = Count * threadIdx.x; c < width; c += Count * blockDim.x)
        for (unsigned i = 0; i < Count; i++) args.parts[blockIdx.x * width + c + i] = part[c + i];
}

template <unsigned Count>
static aq_status launch_norm_grad(const cuda_state *state, const norm_grad_args &args,
                                  unsigned blocks) {
    size_t bytes = args.width * sizeof(float);
    CUDA_TRY(cudaFuncSetAttribute(rms_norm_grad_kernel<Count>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    rms_norm_grad_kernel<Count><<<blocks, cuda_threads, bytes, state->stream>>>(args);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_rms_norm_grad(const aq_tensor *x, const aq_tensor *weight, const aq_tensor *inverse,
                             const aq_tensor *dy, aq_tensor *dx, aq_tensor *dweight) {
    const cuda_state *state = cuda_state_of(x);
    norm_grad_args args = {};
    args.x = cuda_floats(x);
    args.weight = cuda_floats(weight);
    args.inverse = cuda_floats(inverse);
    args.dy = cuda_floats(dy);
    args.dx = cuda_floats(dx);
    args.tokens = x->shape[0];
    args.width = x->shape[1];
    args.run = (args.tokens + norm_parts - 1) / norm_parts;
    unsigned blocks = (unsigned)((args.tokens + args.run - 1) / args.run);
    cuda_scratch scratch(state);
    AQ_TRY(scratch.take(blocks * args.width, &args.parts));
    AQ_TRY(cuda_fours_fit(args.width, args.x, args.weight, args.dy, args.dx)
               ? launch_norm_grad<4>(state, args, blocks)
               : launch_norm_grad<1>(state, args, blocks));
    const float *parts = args.parts;
    size_t width = args.width;
    return cuda_add_columns(
        state, blocks, width,
        [=] __device__(size_t row, size_t column) { return parts[row * width + column]; },
        cuda_floats(dweight));
}

/* What is rotated: pairs of numbers half a head apart. */
template <class Number> struct rotation {
    const float *cosines, *sines;
    Number *values;
    size_t length, heads, half;
    float sign;
};

template <unsigned Count, class Number>
static aq_status rotate_all(const cuda_state *state, size_t pairs, const rotation<Number> &at) {
    return cuda_each(state, pairs / Count, [=] __device__(size_t index) {
        size_t i = index * Count % at.half, head = index * Count / at.half;
        size_t angle = head / at.heads % at.length * at.half + i;
        Number *low = at.values + head * 2 * at.half + i, *high = low + at.half;
        float c[Count], s[Count], a[Count], b[Count];
        cuda_load(c, at.cosines + angle);
        cuda_load(s, at.sines + angle);
        cuda_load(a, low);
        cuda_load(b, high);
        for (unsigned k = 0; k < Count; k++) {
            float turned = a[k] * c[k] - b[k] * at.sign * s[k];
            b[k] = b[k] * c[k] + a[k] * at.sign * s[k];
            a[k] = turned;
        }
        cuda_save(a, low);
        cuda_save(b, high);
    });
}

template <class Number>
static aq_status rotate_numbers(const aq_tensor *cosines, const aq_tensor *sines, float sign,
                                const aq_tensor *x, Number *values) {
    const rotation<Number> at = {cuda_floats(cosines), cuda_floats(sines), values, x->shape[1],
                                 x->shape[2],          x->shape[3] / 2,    sign};
    size_t pairs = aq_tensor_count(x) / 2;
    return cuda_fours_fit(at.half, at.cosines, at.sines, values)
               ? rotate_all<4>(cuda_state_of(x), pairs, at)
               : rotate_all<1>(cuda_state_of(x), pairs, at);
}

aq_status cuda_rotate(const aq_tensor *cosines, const aq_tensor *sines, bool backward,
                      aq_tensor *x) {
    float sign = backward ? -1.0f : 1.0f;
    return x->dtype == AQ_BF16 ? rotate_numbers(cosines, sines, sign, x, cuda_halves(x))
                               : rotate_numbers(cosines, sines, sign, x, cuda_floats(x));
}

static __device__ inline float sigmoid(float value) {
    return 1 / (1 + expf(-value));
}

/* Of silu_gate and its gradient: all of one type. */
template <class Number> struct gate_arrays {
    const Number *gate, *up, *dout;
    Number *out, *dgate, *dup;
};

template <unsigned Count, class Number>
static aq_status gate_all(const cuda_state *state, size_t count, const gate_arrays<Number> &at) {
    return cuda_each(state, count / Count, [=] __device__(size_t i) {
        float g[Count], u[Count];
        cuda_load(g, at.gate + Count * i);
        cuda_load(u, at.up + Count * i);
        for (unsigned k = 0; k < Count; k++) u[k] *= g[k] * sigmoid(g[k]);
        cuda_save(u, at.out + Count * i);
    });
}

template <class Number>
static aq_status gate_numbers(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out) {
    gate_arrays<Number> at = {};
    at.gate = static_cast<const Number *>(gate->data);
    at.up = static_cast<const Number *>(up->data);
    at.out = static_cast<Number *>(out->data);
    const cuda_state *state = cuda_state_of(gate);
    size_t count = aq_tensor_count(gate);
    return cuda_fours_fit(count, at.gate, at.up, at.out) ? gate_all<4>(state, count, at)
                                                         : gate_all<1>(state, count, at);
}

aq_status cuda_silu_gate(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out) {
    return gate->dtype == AQ_BF16 ? gate_numbers<__nv_bfloat16>(gate, up, out)
                                  : gate_numbers<float>(gate, up, out);
}

template <unsigned Count, class Number>
static aq_status differentiate_gate(const cuda_state *state, size_t count,
                                    const gate_arrays<Number> &at) {
    return cuda_each(state, count / Count, [=] __device__(size_t i) {
        float g[Count], u[Count], d[Count];
        cuda_load(g, at.gate + Count * i);
        cuda_load(u, at.up + Count * i);
        cuda_load(d, at.dout + Count * i);
        for (unsigned k = 0; k < Count; k++) {
            float s = sigmoid(g[k]), slope = d[k] * u[k] * s * (1 + g[k] * (1 - s));
            u[k] = d[k] * g[k] * s;
            g[k] = slope;
        }
        cuda_save(g, at.dgate + Count * i);
        cuda_save(u, at.dup + Count * i);
    });
}

template <class Number>
static aq_status differentiate_numbers(const cuda_state *state, size_t count,
                                       const gate_arrays<Number> &at) {
    bool fours =
        cuda_fours_fit(count, at.dout, at.gate, at.up) && cuda_fours_fit(count, at.dgate, at.dup);
    return fours ? differentiate_gate<4>(state, count, at)
                 : differentiate_gate<1>(state, count, at);
}

aq_status cuda_silu_gate_grad(const aq_tensor *dout, const aq_tensor *gate, const aq_tensor *up,
                              aq_tensor *dgate, aq_tensor *dup) {
    const cuda_state *state = cuda_state_of(gate);
    size_t count = aq_tensor_count(gate);
    if (gate->dtype == AQ_BF16) {
        const gate_arrays<__nv_bfloat16> at = {cuda_halves(gate),  cuda_halves(up),
                                               cuda_halves(dout),  nullptr,
                                               cuda_halves(dgate), cuda_halves(dup)};
        return differentiate_numbers(state, count, at);
    }
    const gate_arrays<float> at = {cuda_floats(gate), cuda_floats(up),    cuda_floats(dout),
                                   nullptr,           cuda_floats(dgate), cuda_floats(dup)};
    return differentiate_numbers(state, count, at);
}

/* One block a token: its largest logit first, so that no exponential overflows. */
static __global__ void cross_entropy_kernel(const float *logits, const int32_t *targets,
                                            size_t vocabulary, float *losses) {
    __shared__ float warps[32];
    const float *row = logits + blockIdx.x * vocabulary;
    float largest = -INFINITY, sum = 0;
    for (size_t v = threadIdx.x; v < vocabulary; v += blockDim.x) largest = fmaxf(largest, row[v]);
    largest = cuda_warp_max(largest);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = largest;
    __syncthreads();
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) largest = fmaxf(largest, warps[warp]);
    for (size_t v = threadIdx.x; v < vocabulary; v += blockDim.x) sum += expf(row[v] - largest);
    sum = cuda_block_sum(sum);
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(sum) + largest - row[targets[blockIdx.x]];
}

aq_status cuda_cross_entropy_add(const aq_tensor *logits, const aq_tensor *targets,
                                 aq_tensor *sum) {
    const cuda_state *state = cuda_state_of(logits);
    size_t tokens = logits->shape[0];
    AQ_TRY(check_tokens(logits));
    cuda_scratch scratch(state);
    float *losses;
    AQ_TRY(scratch.take(tokens, &losses));
    cross_entropy_kernel<<<(unsigned)tokens, cuda_threads, 0, state->stream>>>(
        cuda_floats(logits), static_cast<const int32_t *>(targets->data), logits->shape[1], losses);
    CUDA_TRY(cudaGetLastError());
    return cuda_add_sum(
        state, tokens, [=] __device__(size_t t) { return (double)losses[t]; }, 1,
        static_cast<double *>(sum->data));
}
