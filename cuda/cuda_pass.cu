#include "mma.h"

constexpr size_t split_elements = 1 << 20; /* of a residual from which on splitting pays */

struct run_columns {
    uint32_t groups[AQ_MAX_RUN];
    size_t width;

    __device__ size_t operator[](size_t l) const {
        return groups[l / width] * width + l % width;
    }
};

/* Row l of `rows` [columns, in] is that of the run's column l. */
static aq_status gather_rows(const cuda_state *state, const aq_tensor *gram,
                             const aq_group_run *run, float *rows) {
    run_columns columns = {};
    columns.width = run->width;
    for (size_t t = 0; t < run->count; t++) columns.groups[t] = run->groups[t];
    const float *values = cuda_floats(gram);
    size_t in = gram->shape[1];
    return cuda_each(state, run->count * run->width * in,
                     [=] __device__(size_t i) { rows[i] = values[columns[i / in] * in + i % in]; });
}

/* A product on tensor cores, nearly as exact as in float32: a = a1 + a2 and b = b1 + b2 in TF32, to
 * 2^-23 of either; (a1, a1, a2) times (b1, b2, b1), one below the other, leaves out a2 b2. */
struct split_number {
    float first, second;

    __device__ explicit split_number(float value) {
        first = __uint_as_float(cuda_to_tf32(value));
        second = __uint_as_float(cuda_to_tf32(value - first));
    }
};

/* a [rows, columns] -> split [rows, 3 columns] */
static aq_status split_left(const cuda_state *state, const float *a, size_t rows, size_t columns,
                            float *split) {
    return cuda_each(state, rows * columns, [=] __device__(size_t i) {
        const split_number number(a[i]);
        float *line = split + i / columns * 3 * columns + i % columns;
        line[0] = line[columns] = number.first;
        line[2 * columns] = number.second;
    });
}

/* b [rows, columns] -> split [3 rows, columns], whose first part may be b. */
static aq_status split_right(const cuda_state *state, const float *b, size_t count, float *split) {
    return cuda_each(state, count, [=] __device__(size_t i) {
        const split_number number(b[i]);
        split[i] = split[2 * count + i] = number.first;
        split[count + i] = number.second;
    });
}

/* Every hypothesis gets its origin's residual. */
static aq_status copy_origins(const cuda_state *state, const aq_tensor *origins,
                              const aq_tensor *old_residual, aq_tensor *residual) {
    const float *source = cuda_floats(old_residual);
    const uint8_t *origin = static_cast<const uint8_t *>(origins->data);
    float *target = cuda_floats(residual);
    size_t beam = residual->shape[1], held = old_residual->shape[1];
    size_t size = residual->shape[2] * residual->shape[3];
    return cuda_each(state, residual->shape[0] * beam * size, [=] __device__(size_t i) {
        size_t place = i / size;
        target[i] = source[(place / beam * held + origin[place]) * size + i % size];
    });
}

/* Columns of all groups of a run at once are enough for a product. */
aq_status cuda_residual_update(const aq_tensor *delta, const aq_tensor *gram,
                               const aq_group_run *run, const aq_tensor *origins,
                               const aq_tensor *old_residual, aq_tensor *residual) {
    const cuda_state *state = cuda_state_of(residual);
    size_t columns = run->count * run->width, in = gram->shape[1];
    size_t lines = aq_tensor_count(delta) / columns;
    bool split = lines * in >= split_elements;
    cuda_scratch rows_scratch(state), delta_scratch(state);
    float *rows, *changes = cuda_floats(delta);
    AQ_TRY(rows_scratch.take((split ? 3 : 1) * columns * in, &rows));
    AQ_TRY(gather_rows(state, gram, run, rows));
    if (split) {
        AQ_TRY(delta_scratch.take(3 * lines * columns, &changes));
        AQ_TRY(split_left(state, cuda_floats(delta), lines, columns, changes));
        AQ_TRY(split_right(state, rows, columns * in, rows));
    }
    if (residual->data != old_residual->data)
        AQ_TRY(copy_origins(state, origins, old_residual, residual));
    cuda_gemm gemm = {};
    gemm.m = lines;
    gemm.n = in;
    gemm.k = gemm.row_a = (split ? 3 : 1) * columns;
    gemm.batch = 1;
    gemm.a = changes;
    gemm.b = rows;
    gemm.c = cuda_floats(residual);
    gemm.row_b = gemm.row_c = in;
    gemm.alpha = gemm.beta = 1;
    gemm.precision = split ? AQ_FAST : AQ_PRECISE;
    return cuda_gemm_run(state, &gemm);
}

struct trace_args {
    const uint8_t *ancestors;
    const uint16_t *choices;
    const float *losses;
    const uint32_t *group_order;
    uint16_t *codes;
    size_t rows, groups, beam, books;
};

static __device__ void trace_row(const trace_args &args, size_t row) {
    const float *losses = args.losses + row * args.beam;
    size_t best = 0;
    for (size_t h = 1; h < args.beam; h++)
        if (losses[h] < losses[best] || isnan(losses[best])) best = h;
    for (size_t step = args.groups; step-- > 0;) {
        size_t at = (step * args.rows + row) * args.beam + best;
        size_t group = args.group_order[step];
        for (size_t m = 0; m < args.books; m++)
            args.codes[(row * args.groups + group) * args.books + m] =
                args.choices[at * args.books + m];
        best = args.ancestors[at];
    }
}

aq_status cuda_trace_back(const aq_tensor *ancestors, const aq_tensor *choices,
                          const aq_tensor *losses, const uint32_t *group_order, aq_tensor *codes) {
    const cuda_state *state = cuda_state_of(codes);
    trace_args args = {};
    args.ancestors = static_cast<const uint8_t *>(ancestors->data);
    args.choices = static_cast<const uint16_t *>(choices->data);
    args.losses = cuda_floats(losses);
    args.codes = static_cast<uint16_t *>(codes->data);
    args.rows = codes->shape[0];
    args.groups = codes->shape[1];
    args.books = codes->shape[2];
    args.beam = losses->shape[1];
    cuda_scratch scratch(state);
    uint32_t *order;
    AQ_TRY(scratch.take(args.groups, &order));
    args.group_order = order;
    /* Pageable memory: it has been read when this returns. */
    CUDA_TRY(cudaMemcpyAsync(order, group_order, args.groups * sizeof *order,
                             cudaMemcpyHostToDevice, state->stream));
    return cuda_each(state, args.rows, [=] __device__(size_t row) { trace_row(args, row); });
}
