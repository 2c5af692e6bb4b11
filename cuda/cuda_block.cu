#include "launch.h"

/* One block a token. */
static __global__ void rms_norm_kernel(const float *x, const float *weight, float epsilon,
                                       size_t width, float *y, float *inverse) {
    const float *from = x + blockIdx.x * width;
    float *to = y + blockIdx.x * width;
    float sum = 0;
    for (size_t c = threadIdx.x; c < width; c += blockDim.x) sum = fmaf(from[c], from[c], sum);
    float factor = 1 / sqrtf(cuda_block_sum(sum) / (float)width + epsilon);
    for (size_t c = threadIdx.x; c < width; c += blockDim.x) to[c] = from[c] * factor * weight[c];
    if (threadIdx.x == 0) inverse[blockIdx.x] = factor;
}

static aq_status check_tokens(const aq_tensor *x) {
    AQ_REQUIRE(x->shape[0] <= 0x7fffffff, AQ_UNSUPPORTED, "%zu tokens at once", x->shape[0]);
    return AQ_OK;
}

aq_status cuda_rms_norm(const aq_tensor *x, const aq_tensor *weight, float epsilon, aq_tensor *y,
                        aq_tensor *inverse) {
    AQ_TRY(check_tokens(x));
    rms_norm_kernel<<<(unsigned)x->shape[0], cuda_threads, 0, cuda_state_of(x)->stream>>>(
        cuda_floats(x), cuda_floats(weight), epsilon, x->shape[1], cuda_floats(y),
        cuda_floats(inverse));
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

/* With n = 1 / sqrt(mean(x^2) + epsilon): dx += n dy w - x n^3 (dy w . x) / width. */
static __global__ void rms_norm_grad_kernel(const float *x, const float *weight,
                                            const float *inverse, const float *dy, size_t width,
                                            float *dx) {
    size_t start = blockIdx.x * width;
    float factor = inverse[blockIdx.x], dot = 0;
    for (size_t c = threadIdx.x; c < width; c += blockDim.x)
        dot = fmaf(dy[start + c] * weight[c], x[start + c], dot);
    float pull = cuda_block_sum(dot) * factor * factor * factor / (float)width;
    for (size_t c = threadIdx.x; c < width; c += blockDim.x)
        dx[start + c] += factor * dy[start + c] * weight[c] - pull * x[start + c];
}

aq_status cuda_rms_norm_grad(const aq_tensor *x, const aq_tensor *weight, const aq_tensor *inverse,
                             const aq_tensor *dy, aq_tensor *dx, aq_tensor *dweight) {
    const cuda_state *state = cuda_state_of(x);
    const float *values = cuda_floats(x), *gradient = cuda_floats(dy);
    const float *factors = cuda_floats(inverse);
    size_t width = x->shape[1];
    AQ_TRY(check_tokens(x));
    rms_norm_grad_kernel<<<(unsigned)x->shape[0], cuda_threads, 0, state->stream>>>(
        values, cuda_floats(weight), factors, gradient, width, cuda_floats(dx));
    CUDA_TRY(cudaGetLastError());
    return cuda_add_columns(
        state, x->shape[0], width,
        [=] __device__(size_t row, size_t column) {
            size_t i = row * width + column;
            return gradient[i] * values[i] * factors[row];
        },
        cuda_floats(dweight));
}

aq_status cuda_rotate(const aq_tensor *cosines, const aq_tensor *sines, bool backward,
                      aq_tensor *x) {
    const float *cosine = cuda_floats(cosines), *sine = cuda_floats(sines);
    float sign = backward ? -1.0f : 1.0f, *values = cuda_floats(x);
    size_t length = x->shape[1], heads = x->shape[2], half = x->shape[3] / 2;
    return cuda_each(cuda_state_of(x), aq_tensor_count(x) / 2, [=] __device__(size_t pair) {
        size_t i = pair % half, head = pair / half, angle = head / heads % length * half + i;
        float *low = values + head * 2 * half + i, *high = low + half;
        float c = cosine[angle], s = sign * sine[angle], a = *low, b = *high;
        *low = a * c - b * s;
        *high = b * c + a * s;
    });
}

static __device__ inline float sigmoid(float value) {
    return 1 / (1 + expf(-value));
}

aq_status cuda_silu_gate(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out) {
    const float *gates = cuda_floats(gate), *ups = cuda_floats(up);
    float *target = cuda_floats(out);
    return cuda_each(cuda_state_of(gate), aq_tensor_count(gate), [=] __device__(size_t i) {
        target[i] = gates[i] * sigmoid(gates[i]) * ups[i];
    });
}

aq_status cuda_silu_gate_grad(const aq_tensor *dout, aq_tensor *gate, aq_tensor *up) {
    const float *gradient = cuda_floats(dout);
    float *gates = cuda_floats(gate), *ups = cuda_floats(up);
    return cuda_each(cuda_state_of(gate), aq_tensor_count(gate), [=] __device__(size_t i) {
        float g = gates[i], d = gradient[i], s = sigmoid(g);
        gates[i] = d * ups[i] * s * (1 + g * (1 - s));
        ups[i] = d * g * s;
    });
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
