#include "base/memory.h"
#include "tensor/cpu.h"

#include <cblas.h>
#include <malloc.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct cpu_state {
    aq_backend backend;
    int threads;
    _Atomic size_t taken, most_taken; /* bytes of tensors and host memory */
} cpu_state;

/* Tensors from this size on get pages of their own, which the system has back when they are freed.
 * Left alone, glibc raises its threshold to 32 MB and keeps what is freed in between. */
enum { OWN_PAGES = 1 << 20 };

int cpu_threads(const aq_tensor *x) {
    return ((const cpu_state *)x->home->state)->threads;
}

static aq_status memory(aq_backend *backend, size_t *free_bytes, size_t *total_bytes) {
    (void)backend;
    return aq_host_memory("", free_bytes, total_bytes);
}

static aq_status out_of_memory(size_t bytes) {
    size_t free_bytes = 0, total_bytes = 0;
    memory(NULL, &free_bytes, &total_bytes);
    return AQ_FAIL(AQ_MEMORY, "%.3f GB of memory were asked for, but only %.3f of %.3f GB are free",
                   1e-9 * (double)bytes, 1e-9 * (double)free_bytes, 1e-9 * (double)total_bytes);
}

aq_status cpu_scratch(size_t bytes, void *scratch) {
    void *data = bytes <= SIZE_MAX - 63 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    if (!data) return out_of_memory(bytes);
    memcpy(scratch, &data, sizeof data);
    return AQ_OK;
}

/* Threads that move activations take memory, too. */
static aq_status allocate(aq_backend *backend, size_t bytes, void **data) {
    cpu_state *state = backend->state;
    *data = NULL;
    AQ_TRY(cpu_scratch(bytes, data));
    size_t size = malloc_usable_size(*data), taken = (state->taken += size);
    size_t most = state->most_taken;
    while (taken > most && !atomic_compare_exchange_weak(&state->most_taken, &most, taken)) {
    }
    return AQ_OK;
}

static void release(aq_backend *backend, void *data) {
    ((cpu_state *)backend->state)->taken -= malloc_usable_size(data);
    free(data);
}

/* The processor's name, and how many threads work on it. */
static void device(const aq_backend *backend, char *name, size_t size) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file && fgets(line, sizeof line, file)) {
        const char *model = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !model) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, size, "%s, %d threads", model + 2,
                 ((const cpu_state *)backend->state)->threads);
        break;
    }
    if (file) fclose(file);
}

static aq_status peak(aq_backend *backend, size_t *bytes) {
    *bytes = ((cpu_state *)backend->state)->most_taken;
    return AQ_OK;
}

static aq_status pin(aq_backend *backend, void *data, size_t bytes) {
    (void)backend, (void)data, (void)bytes;
    return AQ_OK;
}

static void unpin(aq_backend *backend, void *data) {
    (void)backend, (void)data;
}

static aq_status upload(aq_backend *backend, void *target, const void *host, size_t bytes) {
    (void)backend;
    memcpy(target, host, bytes);
    return AQ_OK;
}

static aq_status download(aq_backend *backend, const void *source, void *host, size_t bytes) {
    (void)backend;
    memcpy(host, source, bytes);
    return AQ_OK;
}

static aq_status ahead_join(aq_backend *backend) {
    (void)backend;
    return AQ_OK;
}

static aq_status copy(aq_backend *backend, const void *source, void *target, size_t bytes) {
    (void)backend;
    memmove(target, source, bytes);
    return AQ_OK;
}

static aq_status zero(aq_backend *backend, void *target, size_t bytes) {
    (void)backend;
    memset(target, 0, bytes);
    return AQ_OK;
}

static aq_status finish(aq_backend *backend) {
    (void)backend;
    return AQ_OK;
}

static aq_status another(const aq_backend *backend, aq_backend **result) {
    return aq_cpu_open(((const cpu_state *)backend->state)->threads, result);
}

static aq_status enter(aq_backend *backend) {
    (void)backend;
    return AQ_OK;
}

static void close_backend(aq_backend *backend) {
    free(backend->state);
}

static const aq_ops cpu_ops = {.allocate = allocate,
                               .release = release,
                               .pin_host = pin,
                               .unpin_host = unpin,
                               .upload = upload,
                               .upload_ahead = upload,
                               .ahead_join = ahead_join,
                               .download = download,
                               .copy = copy,
                               .zero = zero,
                               .finish = finish,
                               .memory = memory,
                               .peak = peak,
                               .device = device,
                               .another = another,
                               .enter = enter,
                               .close = close_backend,
                               .fill = cpu_fill,
                               .convert = cpu_convert,
                               .pick = cpu_pick,
                               .axpby = cpu_axpby,
                               .dot_add = cpu_dot_add,
                               .count_nonfinite = cpu_count_nonfinite,
                               .bias_add = cpu_bias_add,
                               .bias_grad = cpu_bias_grad,
                               .matmul = cpu_matmul,
                               .gram_add = cpu_gram_add,
                               .group_norms = cpu_group_norms,
                               .scaled_vectors = cpu_scaled_vectors,
                               .entry_norms = cpu_entry_norms,
                               .nearest = cpu_nearest,
                               .subtract_entries = cpu_subtract_entries,
                               .sort_codes = cpu_sort_codes,
                               .random_head = cpu_random_head,
                               .cluster_sums = cpu_cluster_sums,
                               .code_sums = cpu_code_sums,
                               .cluster_means = cpu_cluster_means,
                               .decode = cpu_decode,
                               .coded_grad = cpu_coded_grad,
                               .coded_diagonal = cpu_coded_diagonal,
                               .scales_step = cpu_scales_step,
                               .gradient_rescale = cpu_gradient_rescale,
                               .conjugate_step = cpu_conjugate_step,
                               .adam_step = cpu_adam_step,
                               .search_groups = cpu_search_groups,
                               .residual_update = cpu_residual_update,
                               .trace_back = cpu_trace_back,
                               .rms_norm = cpu_rms_norm,
                               .rms_norm_grad = cpu_rms_norm_grad,
                               .rotate = cpu_rotate,
                               .attention = cpu_attention,
                               .attention_grad = cpu_attention_grad,
                               .silu_gate = cpu_silu_gate,
                               .silu_gate_grad = cpu_silu_gate_grad,
                               .cross_entropy_add = cpu_cross_entropy_add};

/* "OpenBLAS 0.3.21 NO_LAPACKE ..." by itself names the kernels of the build, not those in use. */
static void name_kernels(aq_backend *backend) {
    const char *config = openblas_get_config(), *end = strchr(config, ' ');
    if (end) end = strchr(end + 1, ' ');
    snprintf(backend->kernels, sizeof backend->kernels, "%.*s (%s)",
             end ? (int)(end - config) : (int)strlen(config), config, openblas_get_corename());
}

aq_status aq_cpu_open(int threads, aq_backend **backend) {
    *backend = NULL;
    AQ_REQUIRE(threads >= 0, AQ_INVALID, "%d threads, expected 0 (the default) or more", threads);
    cpu_state *state = calloc(1, sizeof *state);
    if (!state) return out_of_memory(sizeof *state);
    mallopt(M_MMAP_THRESHOLD, OWN_PAGES);
    openblas_set_num_threads(1); /* its own threads change bits; ours run over tiles */
    state->threads = threads ? threads : omp_get_max_threads();
    state->backend = (aq_backend){.name = "cpu", .ops = &cpu_ops, .state = state};
    name_kernels(&state->backend);
    *backend = &state->backend;
    return AQ_OK;
}
