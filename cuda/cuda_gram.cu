#include "mma.h"

constexpr size_t gram_run = 1024;   /* rows whose products are summed in float32 */
constexpr size_t gram_runs = 8;     /* runs that meet in float64 at once */
constexpr size_t gram_panel = 1024; /* rows of the Gram matrix that are made at once */
constexpr unsigned gram_tile = 32;  /* a block's square, */
constexpr unsigned gram_lines = 8;  /* so many lines at a time */

/* What a call works with: up to gram_runs runs of `rows` rows of x, x [.., columns]. */
struct gram_work {
    const cuda_state *state;
    size_t columns, runs, rows;
    float *turned; /* [columns, runs, rows]: x' in TF32, whose products are then exact */
    float *panels; /* [runs, height, width]: float32 sums, one panel a run */
    double *gram;  /* [columns, columns], above the diagonal until all is added */
};

static dim3 gram_grid(size_t width, size_t height) {
    return dim3((unsigned)((width + gram_tile - 1) / gram_tile),
                (unsigned)((height + gram_tile - 1) / gram_tile));
}

static __global__ void turn_rounded(const float *x, size_t rows, size_t columns, float *turned) {
    __shared__ float tile[gram_tile][gram_tile + 1];
    size_t row = (size_t)blockIdx.y * gram_tile, column = (size_t)blockIdx.x * gram_tile;
    for (unsigned line = threadIdx.y; line < gram_tile; line += gram_lines) {
        size_t i = row + line, j = column + threadIdx.x;
        if (i < rows && j < columns)
            tile[line][threadIdx.x] = __uint_as_float(cuda_to_tf32(x[i * columns + j]));
    }
    __syncthreads();
    for (unsigned line = threadIdx.y; line < gram_tile; line += gram_lines) {
        size_t i = row + threadIdx.x, j = column + line;
        if (i < rows && j < columns) turned[j * rows + i] = tile[threadIdx.x][line];
    }
}

/* Adds panels [runs, height, columns - first], whose corner is gram[first, first], above the
 * diagonal. */
static __global__ void add_panels(const float *panels, size_t runs, size_t height, size_t first,
                                  size_t columns, double *gram) {
    size_t width = columns - first;
    size_t i = (size_t)blockIdx.y, j = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= width || j < i) return;
    double sum = 0;
    for (size_t run = 0; run < runs; run++) sum += panels[(run * height + i) * width + j];
    gram[(first + i) * columns + first + j] += sum;
}

/* The triangle below the diagonal becomes the one above it, bit by bit. */
static __global__ void mirror_gram(size_t columns, double *gram) {
    __shared__ double tile[gram_tile][gram_tile + 1];
    size_t row = (size_t)blockIdx.y * gram_tile, column = (size_t)blockIdx.x * gram_tile;
    if (column < row) return; /* all of it below the diagonal */
    for (unsigned line = threadIdx.y; line < gram_tile; line += gram_lines) {
        size_t i = row + line, j = column + threadIdx.x;
        if (i < columns && j < columns) tile[line][threadIdx.x] = gram[i * columns + j];
    }
    __syncthreads();
    for (unsigned line = threadIdx.y; line < gram_tile; line += gram_lines) {
        size_t i = row + threadIdx.x, j = column + line;
        if (i < columns && j < columns && j > i) gram[j * columns + i] = tile[threadIdx.x][line];
    }
}

/* The rows of the Gram matrix from `first` on, right of the diagonal's element there. */
static aq_status add_gram_panel(const gram_work *work, size_t first) {
    size_t width = work->columns - first, height = width < gram_panel ? width : gram_panel;
    cuda_gemm gemm = {};
    gemm.transpose_b = true;
    gemm.m = height;
    gemm.n = width;
    gemm.k = gemm.step_a = gemm.step_b = work->rows;
    gemm.batch = work->runs;
    gemm.a = gemm.b = work->turned + first * work->runs * work->rows;
    gemm.c = work->panels;
    gemm.row_a = gemm.row_b = work->runs * work->rows;
    gemm.row_c = width;
    gemm.step_c = height * width;
    gemm.alpha = 1;
    gemm.precision = AQ_FAST;
    AQ_TRY(cuda_gemm_run(work->state, &gemm));
    dim3 grid((unsigned)((width + cuda_threads - 1) / cuda_threads), (unsigned)height);
    add_panels<<<grid, cuda_threads, 0, work->state->stream>>>(work->panels, work->runs, height,
                                                               first, work->columns, work->gram);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}

static aq_status add_gram_runs(const gram_work *work, const float *x) {
    size_t rows = work->runs * work->rows;
    turn_rounded<<<gram_grid(work->columns, rows), dim3(gram_tile, gram_lines), 0,
                   work->state->stream>>>(x, rows, work->columns, work->turned);
    CUDA_TRY(cudaGetLastError());
    for (size_t first = 0; first < work->columns; first += gram_panel)
        AQ_TRY(add_gram_panel(work, first));
    return AQ_OK;
}

/* Whole runs, gram_runs at a time, then what is left. */
static aq_status add_gram_rows(gram_work work, const float *x, size_t rows) {
    for (size_t row = 0; row < rows; row += work.runs * work.rows) {
        size_t left = rows - row, whole = left / gram_run;
        work.runs = whole > gram_runs ? gram_runs : whole ? whole : 1;
        work.rows = whole ? gram_run : left;
        AQ_TRY(add_gram_runs(&work, x + row * work.columns));
    }
    return AQ_OK;
}

aq_status cuda_gram_add(const aq_tensor *x, aq_tensor *gram) {
    size_t rows = x->shape[0], columns = x->shape[1], whole = rows / gram_run;
    size_t runs = whole > gram_runs ? gram_runs : whole ? whole : 1;
    gram_work work = {};
    work.state = cuda_state_of(x);
    work.columns = columns;
    work.gram = static_cast<double *>(gram->data);
    cuda_scratch turned(work.state), panels(work.state);
    AQ_TRY(turned.take((whole ? runs * gram_run : rows) * columns, &work.turned));
    AQ_TRY(
        panels.take(runs * (columns < gram_panel ? columns : gram_panel) * columns, &work.panels));
    AQ_TRY(add_gram_rows(work, cuda_floats(x), rows));
    mirror_gram<<<gram_grid(columns, columns), dim3(gram_tile, gram_lines), 0,
                  work.state->stream>>>(columns, work.gram);
    CUDA_TRY(cudaGetLastError());
    return AQ_OK;
}
