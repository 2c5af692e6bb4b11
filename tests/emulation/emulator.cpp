#include "emulator.h"
#include "fiber.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

static constexpr unsigned warp_size = 32, most_threads = 1024;
static constexpr size_t stack_bytes = 128 << 10, granted_shared = 48 << 10;

enum thread_state { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, FINISHED };

struct emulated_thread {
    fiber context;
    std::unique_ptr<char[]> stack;
    thread_state state;
    dim3 index;
    /* What it gave to the shuffle before and to the present one: a lane may be one ahead. */
    char given[2][48];
    unsigned shuffles;
};

struct shared_array {
    const void *site;
    void *data;
};

enum thread_order { ASCENDING, DESCENDING, SHUFFLED };

/* The launch that runs; a block's threads are the first `count`. */
static struct {
    const char *kernel;
    const std::function<void()> *body;
    std::vector<emulated_thread> threads;
    unsigned count, current;
    std::vector<shared_array> shared;
    size_t shared_bytes;
    void *launched_shared;
    fiber scheduler;
} running;

static std::map<std::string, size_t> allowed_shared; /* by kernel */

std::string emulated_place() {
    if (!running.kernel) return "";
    char text[160];
    std::snprintf(text, sizeof text, ": %.60s, block (%u, %u), thread (%u, %u, %u)", running.kernel,
                  blockIdx.x, blockIdx.y, threadIdx.x, threadIdx.y, threadIdx.z);
    return text;
}

/* ---- order ---- */

static thread_order chosen_order() {
    const char *name = getenv("AQLM_EMULATION_ORDER");
    if (!name || strcmp(name, "ascending") == 0) return ASCENDING;
    if (strcmp(name, "descending") == 0) return DESCENDING;
    if (strcmp(name, "shuffled") == 0) return SHUFFLED;
    emulated_die("AQLM_EMULATION_ORDER is neither ascending, descending nor shuffled");
}

/* The numbers below `count` as they are to be taken. */
static std::vector<unsigned> next_order(size_t count) {
    static const thread_order order = chosen_order();
    static std::minstd_rand random;
    std::vector<unsigned> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0u);
    if (order == DESCENDING) std::reverse(numbers.begin(), numbers.end());
    if (order == SHUFFLED) std::shuffle(numbers.begin(), numbers.end(), random);
    return numbers;
}

/* ---- threads ---- */

static emulated_thread &current_thread() {
    return running.threads[running.current];
}

static void stop_thread(thread_state state) {
    emulated_thread &thread = running.threads[running.current];
    thread.state = state;
    fiber_switch(&thread.context, &running.scheduler);
}

static void thread_main() {
    (*running.body)();
    stop_thread(FINISHED);
    abort(); /* nobody continues a finished thread */
}

static void start_thread(unsigned number) {
    emulated_thread &thread = running.threads[number];
    if (!thread.stack) thread.stack.reset(new char[stack_bytes]);
    thread.state = READY;
    thread.shuffles = 0;
    thread.index = dim3(number % blockDim.x, number / blockDim.x % blockDim.y,
                        number / (blockDim.x * blockDim.y));
    fiber_make(&thread.context, thread.stack.get(), stack_bytes, thread_main);
}

static void run_ready_threads() {
    for (unsigned number : next_order(running.count)) {
        emulated_thread &thread = running.threads[number];
        if (thread.state != READY) continue;
        running.current = number;
        threadIdx = thread.index;
        fiber_switch(&running.scheduler, &thread.context);
    }
}

/* ---- barriers; all threads wait or have finished ---- */

static unsigned count_threads(unsigned first, unsigned last, thread_state state) {
    unsigned count = 0;
    for (unsigned i = first; i < last; i++) count += running.threads[i].state == state;
    return count;
}

static void release(unsigned first, unsigned last) {
    for (unsigned i = first; i < last; i++)
        if (running.threads[i].state != FINISHED) running.threads[i].state = READY;
}

static bool release_warps() {
    bool released = false;
    for (unsigned first = 0; first < running.count; first += warp_size) {
        unsigned last = std::min(first + warp_size, running.count);
        unsigned waiting = count_threads(first, last, AT_WARP_BARRIER);
        if (waiting == 0) continue;
        if (waiting < warp_size) emulated_die("lanes are missing in a shuffle");
        release(first, last);
        released = true;
    }
    return released;
}

/* CUDA's barrier waits for the threads that have not finished. */
static void release_block() {
    unsigned finished = count_threads(0, running.count, FINISHED);
    unsigned waiting = count_threads(0, running.count, AT_BLOCK_BARRIER);
    if (waiting + finished < running.count) emulated_die("threads are missing at a barrier");
    release(0, running.count);
}

void __syncthreads() {
    stop_thread(AT_BLOCK_BARRIER);
}

unsigned emulated_lane() {
    return running.current % warp_size;
}

void emulated_exchange(unsigned mask, const void *mine, void *fetched, size_t bytes,
                       unsigned from) {
    emulated_thread &thread = current_thread();
    if (mask != ~0u) emulated_die("a shuffle of a part of a warp is not emulated");
    unsigned turn = thread.shuffles++ % 2;
    memcpy(thread.given[turn], mine, bytes);
    stop_thread(AT_WARP_BARRIER);
    unsigned lane = running.current / warp_size * warp_size + from;
    memcpy(fetched, running.threads[lane].given[turn], bytes);
}

void emulated_show(const void *mine, void *all, size_t bytes) {
    emulated_thread &thread = current_thread();
    unsigned turn = thread.shuffles++ % 2, first = running.current / warp_size * warp_size;
    memcpy(thread.given[turn], mine, bytes);
    stop_thread(AT_WARP_BARRIER);
    for (unsigned lane = 0; lane < warp_size; lane++)
        memcpy(static_cast<char *>(all) + lane * bytes, running.threads[first + lane].given[turn],
               bytes);
}

/* ---- shared memory ---- */

static void *allocate_shared(size_t bytes, size_t alignment) {
    void *data = nullptr;
    running.shared_bytes += bytes;
    if (running.shared_bytes > emulated_most_shared) emulated_die("too much shared memory");
    if (posix_memalign(&data, alignment, bytes) != 0) emulated_die("out of memory");
    memset(data, 0xff, bytes);
    return data;
}

void *emulated_shared(const void *site, size_t bytes, size_t alignment) {
    for (const shared_array &array : running.shared)
        if (array.site == site) return array.data;
    running.shared.push_back({site, allocate_shared(bytes, alignment)});
    return running.shared.back().data;
}

void *emulated_launched_shared() {
    return running.launched_shared;
}

static void free_shared() {
    for (const shared_array &array : running.shared) free(array.data);
    free(running.launched_shared);
    running.shared.clear();
    running.shared_bytes = 0;
    running.launched_shared = nullptr;
}

cudaError_t emulated_allow_shared(const char *kernel, int bytes) {
    if (bytes < 0 || (size_t)bytes > emulated_most_shared) return cudaErrorInvalidValue;
    allowed_shared[kernel] = (size_t)bytes;
    return cudaSuccess;
}

/* ---- launches ---- */

static void run_block(size_t number, size_t launched_bytes) {
    blockIdx = dim3((unsigned)(number % gridDim.x), (unsigned)(number / gridDim.x % gridDim.y),
                    (unsigned)(number / gridDim.x / gridDim.y));
    if (launched_bytes) running.launched_shared = allocate_shared(launched_bytes, 16);
    for (unsigned i = 0; i < running.count; i++) start_thread(i);
    while (count_threads(0, running.count, FINISHED) < running.count) {
        run_ready_threads();
        if (!release_warps()) release_block();
    }
    free_shared();
}

static bool within_limits(const char *kernel, const emulated_grid &grid) {
    const dim3 &blocks = grid.blocks, &threads = grid.threads;
    auto allowed = allowed_shared.find(kernel);
    size_t most_shared = allowed == allowed_shared.end() ? granted_shared : allowed->second;
    uint64_t count = (uint64_t)threads.x * threads.y * threads.z;
    return count >= 1 && count <= most_threads && threads.z <= 64 && blocks.x >= 1 &&
           blocks.y >= 1 && blocks.z >= 1 && blocks.x <= INT32_MAX && blocks.y <= UINT16_MAX &&
           blocks.z <= UINT16_MAX && grid.shared_bytes <= most_shared;
}

void emulated_launch(const char *kernel, const emulated_grid &grid,
                     const std::function<void()> &body) {
    emulated_check_stream(grid.stream, kernel);
    bool possible = within_limits(kernel, grid);
    emulated_note_launch(possible ? cudaSuccess : cudaErrorInvalidConfiguration);
    if (!possible) return;
    gridDim = grid.blocks;
    blockDim = grid.threads;
    running.kernel = kernel;
    running.body = &body;
    running.count = blockDim.x * blockDim.y * blockDim.z;
    running.threads.resize(most_threads);
    for (unsigned block : next_order((size_t)gridDim.x * gridDim.y * gridDim.z))
        run_block(block, grid.shared_bytes);
    running.kernel = nullptr;
}
