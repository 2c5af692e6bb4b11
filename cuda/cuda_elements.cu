#include "fours.h"

#include <cmath>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

template <class Number> static aq_status fill_as(float value, aq_tensor *x) {
    Number *values = static_cast<Number *>(x->data);
    return cuda_each(cuda_state_of(x), aq_tensor_count(x),
                     [=] __device__(size_t i) { values[i] = value; });
}

aq_status cuda_fill(float value, aq_tensor *x) {
    return x->dtype == AQ_F64 ? fill_as<double>(value, x) : fill_as<float>(value, x);
}

static __device__ inline double widened(float value) {
    return value;
}
static __device__ inline double widened(double value) {
    return value;
}
static __device__ inline double widened(__half value) {
    return __half2float(value);
}
static __device__ inline double widened(__nv_bfloat16 value) {
    return __bfloat162float(value);
}

/* Straight from float64, so that a value is rounded once. */
static __device__ inline void round_into(double value, float *target) {
    *target = (float)value;
}
static __device__ inline void round_into(double value, double *target) {
    *target = value;
}
static __device__ inline void round_into(double value, __half *target) {
    *target = __double2half(value);
}
static __device__ inline void round_into(double value, __nv_bfloat16 *target) {
    *target = __double2bfloat16(value);
}

template <class Source, class Target>
static aq_status convert_between(const aq_tensor *source, double factor, aq_tensor *target) {
    const Source *from = static_cast<const Source *>(source->data);
    Target *to = static_cast<Target *>(target->data);
    return cuda_each(cuda_state_of(source), aq_tensor_count(source),
                     [=] __device__(size_t i) { round_into(widened(from[i]) * factor, &to[i]); });
}

template <class Source>
static aq_status convert_from(const aq_tensor *source, double factor, aq_tensor *target) {
    switch (target->dtype) {
    case AQ_F32:
        return convert_between<Source, float>(source, factor, target);
    case AQ_F64:
        return convert_between<Source, double>(source, factor, target);
    case AQ_F16:
        return convert_between<Source, __half>(source, factor, target);
    case AQ_BF16:
        return convert_between<Source, __nv_bfloat16>(source, factor, target);
    default:
        return AQ_FAIL(AQ_SHAPE, "convert does not write %s", aq_dtype_name(target->dtype));
    }
}

/* What activations of other blocks become. */
static aq_status widen_fours(const aq_tensor *source, aq_tensor *target) {
    const __nv_bfloat16 *from = cuda_halves(source);
    float *to = cuda_floats(target);
    return cuda_each(cuda_state_of(source), aq_tensor_count(source) / 4, [=] __device__(size_t i) {
        float numbers[4];
        cuda_load(numbers, from + 4 * i);
        cuda_save(numbers, to + 4 * i);
    });
}

aq_status cuda_convert(const aq_tensor *source, double factor, aq_tensor *target) {
    bool aligned = ((size_t)source->data | (size_t)target->data) % 16 == 0;
    if (source->dtype == AQ_F32 && target->dtype == AQ_BF16 && factor == 1 && aligned)
        return cuda_round_all(cuda_state_of(source), cuda_floats(source), aq_tensor_count(source),
                              static_cast<uint16_t *>(target->data));
    if (source->dtype == AQ_BF16 && target->dtype == AQ_F32 && factor == 1 &&
        cuda_fours_fit(aq_tensor_count(source), source->data, target->data))
        return widen_fours(source, target);
    switch (source->dtype) {
    case AQ_F32:
        return convert_from<float>(source, factor, target);
    case AQ_F64:
        return convert_from<double>(source, factor, target);
    case AQ_F16:
        return convert_from<__half>(source, factor, target);
    case AQ_BF16:
        return convert_from<__nv_bfloat16>(source, factor, target);
    default:
        return AQ_FAIL(AQ_SHAPE, "convert does not read %s", aq_dtype_name(source->dtype));
    }
}

aq_status cuda_axpby(float alpha, const aq_tensor *x, float beta, aq_tensor *y) {
    const float *added = cuda_floats(x);
    float *target = cuda_floats(y);
    return cuda_each(cuda_state_of(y), aq_tensor_count(y), [=] __device__(size_t i) {
        target[i] = beta == 0 ? alpha * added[i] : alpha * added[i] + beta * target[i];
    });
}

aq_status cuda_dot_add(const aq_tensor *x, const aq_tensor *y, double factor, aq_tensor *sum) {
    const float *left = cuda_floats(x), *right = cuda_floats(y);
    return cuda_add_sum(
        cuda_state_of(x), aq_tensor_count(x),
        [=] __device__(size_t i) { return (double)left[i] * (double)right[i]; }, factor,
        static_cast<double *>(sum->data));
}

/* Adding integers in any order gives the same count. */
template <class Number> static aq_status count_as(const aq_tensor *x, aq_tensor *count) {
    const Number *values = static_cast<const Number *>(x->data);
    unsigned *found = static_cast<unsigned *>(count->data);
    return cuda_each(cuda_state_of(x), aq_tensor_count(x), [=] __device__(size_t i) {
        if (!isfinite(widened(values[i]))) atomicAdd(found, 1u);
    });
}

aq_status cuda_count_nonfinite(const aq_tensor *x, aq_tensor *count) {
    switch (x->dtype) {
    case AQ_F32:
        return count_as<float>(x, count);
    case AQ_F64:
        return count_as<double>(x, count);
    case AQ_F16:
        return count_as<__half>(x, count);
    case AQ_BF16:
        return count_as<__nv_bfloat16>(x, count);
    default:
        return AQ_FAIL(AQ_SHAPE, "count_nonfinite does not read %s", aq_dtype_name(x->dtype));
    }
}

template <class Number>
static aq_status add_bias(const float *added, const aq_tensor *x, Number *target) {
    size_t columns = x->shape[1];
    return cuda_each(cuda_state_of(x), aq_tensor_count(x), [=] __device__(size_t i) {
        cuda_store((float)widened(target[i]) + added[i % columns], &target[i]);
    });
}

aq_status cuda_bias_add(const aq_tensor *bias, aq_tensor *x) {
    return x->dtype == AQ_BF16 ? add_bias(cuda_floats(bias), x, cuda_halves(x))
                               : add_bias(cuda_floats(bias), x, cuda_floats(x));
}

template <class Number>
static aq_status add_bias_grad(const aq_tensor *dx, const Number *gradient, aq_tensor *dbias) {
    size_t columns = dx->shape[1];
    return cuda_add_columns(
        cuda_state_of(dx), dx->shape[0], columns,
        [=] __device__(size_t row, size_t column) {
            return (float)widened(gradient[row * columns + column]);
        },
        cuda_floats(dbias));
}

aq_status cuda_bias_grad(const aq_tensor *dx, aq_tensor *dbias) {
    return dx->dtype == AQ_BF16 ? add_bias_grad(dx, cuda_halves(dx), dbias)
                                : add_bias_grad(dx, cuda_floats(dx), dbias);
}

/* Adam of several parameters: blocks of adam_run elements are dealt out to them in their order. */
constexpr size_t adam_run = 4 * cuda_threads;
constexpr unsigned adam_parameters = 32; /* of a launch */

struct adam_launch {
    struct parameter {
        const float *grad;
        float *value, *mean, *square, *largest; /* largest or null */
        size_t count, end;                      /* elements; runs up to its last */
    } list[adam_parameters];
    float beta1, beta2, epsilon, rate, root;
};
static_assert(sizeof(adam_launch) <= 4096, "what a launch may be given");

static __global__ void adam_kernel(adam_launch launch) {
    const adam_launch::parameter *of = launch.list;
    size_t first = 0;
    for (; blockIdx.x >= of->end; of++) first = of->end;
    for (size_t i = (blockIdx.x - first) * adam_run + threadIdx.x;
         i < of->count && i < (blockIdx.x - first + 1) * adam_run; i += cuda_threads) {
        float g = of->grad[i];
        float m = of->mean[i] = launch.beta1 * of->mean[i] + (1 - launch.beta1) * g;
        float v = of->square[i] = launch.beta2 * of->square[i] + (1 - launch.beta2) * g * g;
        if (of->largest) v = of->largest[i] = of->largest[i] >= v ? of->largest[i] : v;
        of->value[i] -= launch.rate * m / (sqrtf(v) * launch.root + launch.epsilon);
    }
}

static aq_status launch_adam(adam_launch *launch, const aq_adam_tensors *list, size_t count) {
    size_t runs = 0;
    for (size_t i = 0; i < count; i++) {
        const aq_adam_tensors &of = list[i];
        size_t elements = aq_tensor_count(of.grad);
        runs += (elements + adam_run - 1) / adam_run;
        launch->list[i] = {cuda_floats(of.grad),
                           cuda_floats(of.parameter),
                           cuda_floats(of.first),
                           cuda_floats(of.second),
                           of.largest ? cuda_floats(of.largest) : nullptr,
                           elements,
                           runs};
    }
    AQ_REQUIRE(runs <= 0x7fffffff, AQ_UNSUPPORTED, "Adam of %zu elements at once", runs * adam_run);
    if (runs == 0) return AQ_OK;
    adam_kernel<<<(unsigned)runs, cuda_threads, 0, cuda_state_of(list->grad)->stream>>>(*launch);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

aq_status cuda_adam_step(const aq_adam_step *step, const aq_adam_tensors *list, size_t count) {
    adam_launch launch = {};
    launch.beta1 = step->beta1;
    launch.beta2 = step->beta2;
    launch.epsilon = step->epsilon;
    launch.rate = (float)(step->learning_rate / (1 - std::pow((double)launch.beta1, step->step)));
    launch.root = (float)(1 / std::sqrt(1 - std::pow((double)launch.beta2, step->step)));
    for (size_t i = 0; i < count; i += adam_parameters)
        AQ_TRY(launch_adam(&launch, list + i,
                           count - i < adam_parameters ? count - i : adam_parameters));
    return AQ_OK;
}
