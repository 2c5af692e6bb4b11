/* Moving data between host and GPU. What lies in ordinary memory goes, from some size on, through
 * pinned pieces that several threads fill or empty while the one before is on its way: the driver's
 * own way is a fifth as fast. */
#include "cuda.h"

#include <omp.h>
#include <string.h>

enum { PIECE = 8 << 20, STAGED = 4 << 20, THREADS = 8 };

static bool is_pinned(const void *host) {
    struct cudaPointerAttributes found;
    if (cudaPointerGetAttributes(&found, host) == cudaSuccess)
        return found.type == cudaMemoryTypeHost;
    cudaGetLastError();
    return false;
}

/* Pinned memory costs milliseconds: it is made when it is first needed. */
static aq_status make_staging(cuda_state *state) {
    for (int i = 0; i < CUDA_STAGING; i++) {
        if (!state->staging[i].data)
            CUDA_TRY(cudaHostAlloc(&state->staging[i].data, PIECE, cudaHostAllocDefault));
        if (!state->staging[i].done)
            CUDA_TRY(cudaEventCreateWithFlags(&state->staging[i].done, cudaEventDisableTiming));
    }
    return AQ_OK;
}

aq_status cuda_transfer_open(cuda_state *state) {
    CUDA_TRY(cudaStreamCreateWithFlags(&state->ahead, cudaStreamNonBlocking));
    CUDA_TRY(cudaEventCreateWithFlags(&state->ahead_begins, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&state->ahead_ended, cudaEventDisableTiming));
    return AQ_OK;
}

void cuda_transfer_close(cuda_state *state) {
    if (state->ahead) cudaStreamSynchronize(state->ahead);
    if (state->ahead_begins) cudaEventDestroy(state->ahead_begins);
    if (state->ahead_ended) cudaEventDestroy(state->ahead_ended);
    if (state->ahead) cudaStreamDestroy(state->ahead);
    for (int i = 0; i < CUDA_STAGING; i++) {
        if (state->staging[i].data) cudaFreeHost(state->staging[i].data);
        if (state->staging[i].done) cudaEventDestroy(state->staging[i].done);
    }
}

static void copy_by_threads(void *target, const void *source, size_t bytes) {
    int most = omp_get_max_threads(), threads = most < THREADS ? most : THREADS;
    size_t share = (bytes / (size_t)threads + 4095) / 4096 * 4096;
#pragma omp parallel for num_threads(threads)
    for (int i = 0; i < threads; i++) {
        size_t first = (size_t)i * share, rest = first < bytes ? bytes - first : 0;
        size_t size = i + 1 < threads && share < rest ? share : rest;
        if (size) memcpy((char *)target + first, (const char *)source + first, size);
    }
}

static size_t piece_at(size_t at, size_t bytes) {
    return bytes - at < PIECE ? bytes - at : PIECE;
}

static aq_status upload_staged(cuda_state *state, char *target, const char *host, size_t bytes) {
    AQ_TRY(make_staging(state));
    for (size_t at = 0, piece = 0; at < bytes; at += PIECE, piece++) {
        const cuda_staging *staging = &state->staging[piece % CUDA_STAGING];
        CUDA_TRY(cudaEventSynchronize(staging->done)); /* of an earlier transfer, too */
        copy_by_threads(staging->data, host + at, piece_at(at, bytes));
        CUDA_TRY(cudaMemcpyAsync(target + at, staging->data, piece_at(at, bytes),
                                 cudaMemcpyHostToDevice, state->stream));
        CUDA_TRY(cudaEventRecord(staging->done, state->stream));
    }
    return AQ_OK;
}

static aq_status fetch_piece(cuda_state *state, const char *source, size_t at, size_t bytes) {
    const cuda_staging *staging = &state->staging[at / PIECE % CUDA_STAGING];
    CUDA_TRY(cudaMemcpyAsync(staging->data, source + at, piece_at(at, bytes),
                             cudaMemcpyDeviceToHost, state->stream));
    CUDA_TRY(cudaEventRecord(staging->done, state->stream));
    return AQ_OK;
}

/* Earlier transfers from the staging memory are before these in the stream. */
static aq_status download_staged(cuda_state *state, const char *source, char *host, size_t bytes) {
    AQ_TRY(make_staging(state));
    for (size_t at = 0; at < bytes && at < (CUDA_STAGING - 1) * (size_t)PIECE; at += PIECE)
        AQ_TRY(fetch_piece(state, source, at, bytes));
    for (size_t at = 0; at < bytes; at += PIECE) {
        const cuda_staging *staging = &state->staging[at / PIECE % CUDA_STAGING];
        size_t ahead = at + (CUDA_STAGING - 1) * (size_t)PIECE;
        if (ahead < bytes) AQ_TRY(fetch_piece(state, source, ahead, bytes));
        CUDA_TRY(cudaEventSynchronize(staging->done));
        copy_by_threads(host + at, staging->data, piece_at(at, bytes));
    }
    return AQ_OK;
}

aq_status cuda_upload(aq_backend *backend, void *target, const void *host, size_t bytes) {
    cuda_state *state = backend->state;
    if (bytes >= STAGED && !is_pinned(host)) return upload_staged(state, target, host, bytes);
    CUDA_TRY(cudaMemcpyAsync(target, host, bytes, cudaMemcpyHostToDevice, state->stream));
    return AQ_OK;
}

/* Ordinary memory has to be filled into pieces by this thread: that is no faster ahead. */
aq_status cuda_upload_ahead(aq_backend *backend, void *target, const void *host, size_t bytes) {
    cuda_state *state = backend->state;
    if (!is_pinned(host)) return cuda_upload(backend, target, host, bytes);
    CUDA_TRY(cudaEventRecord(state->ahead_begins, state->stream));
    CUDA_TRY(cudaStreamWaitEvent(state->ahead, state->ahead_begins, 0));
    CUDA_TRY(cudaMemcpyAsync(target, host, bytes, cudaMemcpyHostToDevice, state->ahead));
    return AQ_OK;
}

aq_status cuda_ahead_join(aq_backend *backend) {
    cuda_state *state = backend->state;
    CUDA_TRY(cudaEventRecord(state->ahead_ended, state->ahead));
    CUDA_TRY(cudaStreamWaitEvent(state->stream, state->ahead_ended, 0));
    return AQ_OK;
}

aq_status cuda_download(aq_backend *backend, const void *source, void *host, size_t bytes) {
    cuda_state *state = backend->state;
    if (bytes >= STAGED && !is_pinned(host)) return download_staged(state, source, host, bytes);
    CUDA_TRY(cudaMemcpyAsync(host, source, bytes, cudaMemcpyDeviceToHost, state->stream));
    return AQ_OK;
}
