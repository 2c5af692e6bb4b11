/* The backend as an object, and the checked calls on elements, products and transformer blocks;
 * those on clusters and codes stand in ops_codes.c. */
#include "tensor/ops.h"

#include "tensor/backend.h"
#include "tensor/ops_check.h"

#include <limits.h>
#include <stdio.h>

void aq_backend_close(aq_backend *backend) {
    if (backend) backend->ops->close(backend);
}

aq_status aq_backend_another(const aq_backend *backend, aq_backend **another) {
    return backend->ops->another(backend, another);
}

aq_status aq_backend_enter(aq_backend *backend) {
    return backend->ops->enter(backend);
}

const char *aq_backend_name(const aq_backend *backend) {
    return backend->name;
}

const char *aq_backend_kernels(const aq_backend *backend) {
    return backend->kernels;
}

bool aq_backend_halves(const aq_backend *backend) {
    return backend->halves;
}

bool aq_backend_ahead(const aq_backend *backend) {
    return backend->ahead;
}

aq_status aq_ahead_join(aq_backend *backend) {
    return backend->ops->ahead_join(backend);
}

/* The type that an operand which may be BF16 must have. */
static aq_dtype float_or_half(const aq_tensor *x) {
    return x->data && x->home->halves && x->dtype == AQ_BF16 ? AQ_BF16 : AQ_F32;
}

aq_status aq_finish(aq_backend *backend) {
    return backend->ops->finish(backend);
}

aq_status aq_backend_memory(aq_backend *backend, size_t *free_bytes, size_t *total_bytes) {
    return backend->ops->memory(backend, free_bytes, total_bytes);
}

void aq_backend_device(const aq_backend *backend, char *name, size_t size) {
    snprintf(name, size, "unknown");
    backend->ops->device(backend, name, size);
}

aq_status aq_backend_peak(aq_backend *backend, size_t *bytes) {
    return backend->ops->peak(backend, bytes);
}

aq_status aq_host_pin(aq_backend *backend, void *data, size_t bytes) {
    return backend->ops->pin_host(backend, data, bytes);
}

void aq_host_unpin(aq_backend *backend, void *data) {
    backend->ops->unpin_host(backend, data);
}

/* ---- elements ---- */

static bool is_real(const aq_tensor *x) {
    return x->dtype == AQ_F32 || x->dtype == AQ_F64 || x->dtype == AQ_F16 || x->dtype == AQ_BF16;
}

static aq_status check_real(const char *op, const char *name, const aq_tensor *x) {
    AQ_REQUIRE(x->data, AQ_SHAPE, "%s: %s is empty", op, name);
    AQ_REQUIRE(is_real(x), AQ_SHAPE, "%s: %s is %s, expected F32, F64, F16 or BF16", op, name,
               aq_dtype_name(x->dtype));
    return AQ_OK;
}

aq_status aq_fill(float value, aq_tensor *x) {
    AQ_REQUIRE(x->data, AQ_SHAPE, "fill: x is empty");
    AQ_REQUIRE(x->dtype == AQ_F32 || x->dtype == AQ_F64, AQ_SHAPE,
               "fill: x is %s, expected F32 or F64", aq_dtype_name(x->dtype));
    return x->home->ops->fill(value, x);
}

aq_status aq_convert(const aq_tensor *source, double factor, aq_tensor *target) {
    AQ_TRY(check_real("convert", "source", source));
    AQ_TRY(check_real("convert", "target", target));
    AQ_TRY(aq_counts_check("convert", &(aq_operand){"source", source, source->dtype, NULL},
                           &(aq_operand){"target", target, target->dtype, NULL}));
    return source->home->ops->convert(source, factor, target);
}

aq_status aq_pick(const aq_tensor *source, const uint32_t *list, size_t count, aq_tensor *target) {
    AQ_CHECK_OPERANDS("pick", {"source", source, AQ_BF16, "nrc"}, {"target", target, AQ_F32, "tc"});
    AQ_REQUIRE(target->shape[0] == count * source->shape[1], AQ_SHAPE,
               "pick: target has %zu rows, expected %zu times %zu", target->shape[0], count,
               source->shape[1]);
    for (size_t i = 0; i < count; i++)
        AQ_REQUIRE(list[i] < source->shape[0], AQ_INVALID, "pick: number %u of %zu", list[i],
                   source->shape[0]);
    return source->home->ops->pick(source, list, count, target);
}

aq_status aq_axpby(float alpha, const aq_tensor *x, float beta, aq_tensor *y) {
    AQ_TRY(aq_counts_check("axpby", &(aq_operand){"x", x, AQ_F32, NULL},
                           &(aq_operand){"y", y, AQ_F32, NULL}));
    return x->home->ops->axpby(alpha, x, beta, y);
}

aq_status aq_dot_add(const aq_tensor *x, const aq_tensor *y, double factor, aq_tensor *sum) {
    AQ_TRY(aq_counts_check("dot_add", &(aq_operand){"x", x, AQ_F32, NULL},
                           &(aq_operand){"y", y, AQ_F32, NULL}));
    AQ_CHECK_OPERANDS("dot_add", {"x", x, AQ_F32, NULL}, {"sum", sum, AQ_F64, "1"});
    AQ_REQUIRE(sum->shape[0] == 1, AQ_SHAPE, "dot_add: sum is [%zu], expected [1]", sum->shape[0]);
    return x->home->ops->dot_add(x, y, factor, sum);
}

aq_status aq_dot(const aq_tensor *x, const aq_tensor *y, double *result) {
    AQ_REQUIRE(x->data, AQ_SHAPE, "dot: x is empty");
    aq_tensor sum;
    AQ_TRY(aq_tensor_zeros(x->home, AQ_F64, AQ_DIMS(1), &sum));
    aq_status status;
    AQ_STEP(aq_dot_add(x, y, 1.0, &sum));
    AQ_STEP(aq_tensor_download(&sum, result, sizeof *result));
done:
    aq_tensor_free(&sum);
    return status;
}

aq_status aq_count_nonfinite(const aq_tensor *x, size_t *count) {
    AQ_TRY(check_real("count_nonfinite", "x", x));
    aq_tensor counted;
    uint32_t host = 0;
    AQ_TRY(aq_tensor_zeros(x->home, AQ_U32, AQ_DIMS(1), &counted));
    aq_status status;
    AQ_STEP(x->home->ops->count_nonfinite(x, &counted));
    AQ_STEP(aq_tensor_download(&counted, &host, sizeof host));
    *count = host;
done:
    aq_tensor_free(&counted);
    return status;
}

aq_status aq_bias_add(const aq_tensor *bias, aq_tensor *x) {
    AQ_CHECK_OPERANDS("bias_add", {"bias", bias, AQ_F32, "c"}, {"x", x, float_or_half(x), "tc"});
    return x->home->ops->bias_add(bias, x);
}

aq_status aq_bias_grad(const aq_tensor *dx, aq_tensor *dbias) {
    AQ_CHECK_OPERANDS("bias_grad", {"dx", dx, float_or_half(dx), "tc"},
                      {"dbias", dbias, AQ_F32, "c"});
    return dx->home->ops->bias_grad(dx, dbias);
}

/* ---- products ---- */

aq_status aq_matmul(const aq_tensor *a, const aq_tensor *b, const aq_product *how, aq_tensor *c) {
    bool half = how->precision == AQ_HALF;
    const aq_dtype left = half ? float_or_half(a) : AQ_F32;
    const aq_dtype right = half ? float_or_half(b) : AQ_F32;
    const aq_dtype result = half ? float_or_half(c) : AQ_F32;
    AQ_CHECK_OPERANDS("matmul", {"a", a, left, how->transpose_a ? "km" : "mk"},
                      {"b", b, right, how->transpose_b ? "nk" : "kn"}, {"c", c, result, "mn"});
    for (int i = 0; i < 2; i++)
        AQ_REQUIRE(a->shape[i] <= INT_MAX && b->shape[i] <= INT_MAX, AQ_SHAPE,
                   "matmul: a is [%zu, %zu], b is [%zu, %zu]: a dimension is past %d", a->shape[0],
                   a->shape[1], b->shape[0], b->shape[1], INT_MAX);
    return a->home->ops->matmul(a, b, how, c);
}

aq_status aq_gram_add(const aq_tensor *x, aq_tensor *gram) {
    AQ_CHECK_OPERANDS("gram_add", {"x", x, AQ_F32, "ni"}, {"gram", gram, AQ_F64, "ii"});
    AQ_REQUIRE(x->shape[1] <= INT_MAX, AQ_SHAPE, "gram_add: x is [%zu, %zu]: more than %d columns",
               x->shape[0], x->shape[1], INT_MAX);
    return x->home->ops->gram_add(x, gram);
}

/* ---- transformer blocks ---- */

aq_status aq_rms_norm(const aq_tensor *x, const aq_tensor *weight, float epsilon, aq_tensor *y,
                      aq_tensor *inverse) {
    AQ_CHECK_OPERANDS("rms_norm", {"x", x, AQ_F32, "tc"}, {"weight", weight, AQ_F32, "c"},
                      {"y", y, float_or_half(y), "tc"}, {"inverse", inverse, AQ_F32, "t"});
    return x->home->ops->rms_norm(x, weight, epsilon, y, inverse);
}

aq_status aq_rms_norm_grad(const aq_tensor *x, const aq_tensor *weight, const aq_tensor *inverse,
                           const aq_tensor *dy, aq_tensor *dx, aq_tensor *dweight) {
    AQ_CHECK_OPERANDS("rms_norm_grad", {"x", x, AQ_F32, "tc"}, {"weight", weight, AQ_F32, "c"},
                      {"inverse", inverse, AQ_F32, "t"}, {"dy", dy, AQ_F32, "tc"},
                      {"dx", dx, AQ_F32, "tc"}, {"dweight", dweight, AQ_F32, "c"});
    return x->home->ops->rms_norm_grad(x, weight, inverse, dy, dx, dweight);
}

aq_status aq_rotate(const aq_tensor *cosines, const aq_tensor *sines, bool backward, aq_tensor *x) {
    AQ_CHECK_OPERANDS("rotate", {"x", x, float_or_half(x), "slhd"},
                      {"cosines", cosines, AQ_F32, "nf"}, {"sines", sines, AQ_F32, "nf"});
    char table[AQ_SHAPE_TEXT_SIZE], text[AQ_SHAPE_TEXT_SIZE];
    AQ_REQUIRE(2 * cosines->shape[1] == x->shape[3] && cosines->shape[0] >= x->shape[1], AQ_SHAPE,
               "rotate: x is %s, cosines are %s: expected at least [%zu, %zu]",
               aq_tensor_text(x, text), aq_tensor_text(cosines, table), x->shape[1],
               x->shape[3] / 2);
    return x->home->ops->rotate(cosines, sines, backward, x);
}

/* One operand of attention, [T, heads * head_dim]. */
static aq_status check_heads(const aq_attention *shape, const char *name, const aq_tensor *x,
                             size_t heads) {
    AQ_CHECK_OPERANDS("causal_attention", {name, x, x->dtype, "tc"});
    AQ_REQUIRE(
        x->shape[0] == shape->sequences * shape->length && x->shape[1] == heads * shape->head_dim,
        AQ_SHAPE,
        "causal_attention: %s is [%zu, %zu], expected %zu sequences x %zu tokens and %zu "
        "heads x %zu",
        name, x->shape[0], x->shape[1], shape->sequences, shape->length, heads, shape->head_dim);
    return AQ_OK;
}

bool aq_attention_halves(const aq_backend *backend, const aq_attention *shape) {
    return backend->halves && shape->precision == AQ_HALF && shape->head_dim <= 128 &&
           shape->head_dim % 8 == 0;
}

/* The type that an operand of attention must have. */
static aq_dtype head_type(const aq_attention *shape, const aq_tensor *x) {
    return x->data && aq_attention_halves(x->home, shape) ? float_or_half(x) : AQ_F32;
}

static aq_status check_attention(const aq_attention *shape, const aq_attention_tape *tape) {
    AQ_REQUIRE(shape->kv_heads && shape->heads % shape->kv_heads == 0, AQ_SHAPE,
               "causal_attention: %zu key heads do not divide %zu heads", shape->kv_heads,
               shape->heads);
    AQ_TRY(check_heads(shape, "q", tape->q, shape->heads));
    AQ_TRY(check_heads(shape, "k", tape->k, shape->kv_heads));
    AQ_TRY(check_heads(shape, "v", tape->v, shape->kv_heads));
    AQ_TRY(check_heads(shape, "out", tape->out, shape->heads));
    const aq_dtype inputs = head_type(shape, tape->q), out = head_type(shape, tape->out);
    AQ_CHECK_OPERANDS("causal_attention", {"q", tape->q, inputs, NULL},
                      {"k", tape->k, inputs, NULL}, {"v", tape->v, inputs, NULL},
                      {"out", tape->out, out, NULL}, {"log_sums", tape->log_sums, AQ_F32, "shl"});
    const size_t *sums = tape->log_sums->shape;
    AQ_REQUIRE(sums[0] == shape->sequences && sums[1] == shape->heads && sums[2] == shape->length,
               AQ_SHAPE, "causal_attention: log_sums is [%zu, %zu, %zu], expected [%zu, %zu, %zu]",
               sums[0], sums[1], sums[2], shape->sequences, shape->heads, shape->length);
    return AQ_OK;
}

aq_status aq_causal_attention(const aq_attention *shape, const aq_tensor *q, const aq_tensor *k,
                              const aq_tensor *v, aq_tensor *out, aq_tensor *log_sums) {
    AQ_TRY(check_attention(shape, &(aq_attention_tape){q, k, v, out, log_sums}));
    return q->home->ops->attention(shape, q, k, v, out, log_sums);
}

aq_status aq_causal_attention_grad(const aq_attention *shape, const aq_attention_tape *tape,
                                   const aq_tensor *dout, aq_tensor *dq, aq_tensor *dk,
                                   aq_tensor *dv) {
    AQ_TRY(check_attention(shape, tape));
    const aq_dtype dtype = head_type(shape, dout);
    AQ_CHECK_OPERANDS("causal_attention_grad", {"q", tape->q, tape->q->dtype, "tc"},
                      {"dout", dout, dtype, "tc"}, {"dq", dq, dtype, "tc"},
                      {"k", tape->k, tape->k->dtype, "td"}, {"dk", dk, dtype, "td"},
                      {"dv", dv, dtype, "td"});
    return dq->home->ops->attention_grad(shape, tape, dout, dq, dk, dv);
}

aq_status aq_silu_gate(const aq_tensor *gate, const aq_tensor *up, aq_tensor *out) {
    const aq_dtype dtype = float_or_half(gate);
    const aq_operand first = {"gate", gate, dtype, NULL};
    AQ_TRY(aq_counts_check("silu_gate", &first, &(aq_operand){"up", up, dtype, NULL}));
    AQ_TRY(aq_counts_check("silu_gate", &first, &(aq_operand){"out", out, dtype, NULL}));
    return gate->home->ops->silu_gate(gate, up, out);
}

aq_status aq_silu_gate_grad(const aq_tensor *dout, const aq_tensor *gate, const aq_tensor *up,
                            aq_tensor *dgate, aq_tensor *dup) {
    const aq_dtype dtype = float_or_half(gate);
    const aq_operand first = {"gate", gate, dtype, NULL};
    AQ_TRY(aq_counts_check("silu_gate_grad", &first, &(aq_operand){"dout", dout, dtype, NULL}));
    AQ_TRY(aq_counts_check("silu_gate_grad", &first, &(aq_operand){"up", up, dtype, NULL}));
    AQ_TRY(aq_counts_check("silu_gate_grad", &first, &(aq_operand){"dgate", dgate, dtype, NULL}));
    AQ_TRY(aq_counts_check("silu_gate_grad", &first, &(aq_operand){"dup", dup, dtype, NULL}));
    return gate->home->ops->silu_gate_grad(dout, gate, up, dgate, dup);
}

aq_status aq_cross_entropy_add(const aq_tensor *logits, const aq_tensor *targets, aq_tensor *sum) {
    AQ_CHECK_OPERANDS("cross_entropy_add", {"logits", logits, AQ_F32, "tv"},
                      {"targets", targets, AQ_I32, "t"}, {"sum", sum, AQ_F64, "1"});
    AQ_REQUIRE(sum->shape[0] == 1, AQ_SHAPE, "cross_entropy_add: sum is [%zu], expected [1]",
               sum->shape[0]);
    return logits->home->ops->cross_entropy_add(logits, targets, sum);
}
