#include "quant/noise.h"

#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int aq_noise_rounds(int rounds) {
    return rounds - rounds / 5;
}

double aq_noise_share(double share, int round, int rounds) {
    int noisy = aq_noise_rounds(rounds);
    return round > noisy ? 0 : share * sqrt(1 - (double)(round - 1) / noisy);
}

/* Of one dimension of `count` entries of `width` values. */
static double deviation(const float *values, size_t count, size_t width) {
    double sum = 0, squares = 0;
    for (size_t k = 0; k < count; k++) sum += (double)values[k * width];
    for (size_t k = 0; k < count; k++) {
        double distance = (double)values[k * width] - sum / (double)count;
        squares += distance * distance;
    }
    return sqrt(squares / (double)count);
}

static void disturb(double share, uint64_t seed, const size_t shape[4], float *values) {
    size_t width = shape[2] * shape[3], book = shape[1] * width;
    for (size_t first = 0; first < shape[0] * book; first += book)
        for (size_t i = 0; i < width; i++) {
            double size = share * deviation(values + first + i, shape[1], width);
            for (size_t place = first + i; place < first + book; place += width)
                values[place] += (float)(size * aq_random_normal(seed, AQ_STREAM_NOISE, place));
        }
}

aq_status aq_noise_add(double share, uint64_t seed, aq_tensor *codebooks, float **kept) {
    size_t bytes = aq_tensor_bytes(codebooks);
    float *noisy = malloc(bytes);
    aq_status status = AQ_OK;
    *kept = malloc(bytes);
    AQ_NEED(noisy && *kept, AQ_MEMORY, "no memory for codebooks of %zu bytes", bytes);
    AQ_STEP(aq_tensor_download(codebooks, *kept, bytes));
    memcpy(noisy, *kept, bytes);
    disturb(share, seed, codebooks->shape, noisy);
    AQ_STEP(aq_tensor_upload(codebooks, noisy, bytes));
done:
    free(noisy);
    if (status != AQ_OK) {
        free(*kept);
        *kept = NULL;
    }
    return status;
}

aq_status aq_noise_remove(float *kept, aq_tensor *codebooks) {
    aq_status status = aq_tensor_upload(codebooks, kept, aq_tensor_bytes(codebooks));
    free(kept);
    return status;
}
