// Times compiled tree libraries row by row: the loop is here, so that no call goes through Python.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

// Runs all rows once to warm up, then `rounds` times; returns the median of nanoseconds per row.
#define TIMED(CALL)                                      \
    double *rounds_ns = malloc(sizeof(double) * rounds); \
    for (int round = -1; round < rounds; round++) {      \
        double start = now();                            \
        for (int row = 0; row < rows; row++) {           \
            CALL;                                        \
        }                                                \
        if (round >= 0) {                                \
            rounds_ns[round] = (now() - start) / rows;   \
        }                                                \
    }                                                    \
    qsort(rounds_ns, rounds, sizeof(double), ascending); \
    double median = rounds_ns[rounds / 2];               \
    free(rounds_ns);                                     \
    return median

typedef void (*lleaves_fn)(const void *data, void *out, int32_t first, int32_t end);

double time_lleaves(lleaves_fn call, const void *data, void *out, int rows, int rounds) {
    TIMED(call(data, out, row, row + 1));
}

// tl2cgen's entry is a union of the size of a double; a value that is given is its double.
typedef void (*tl2cgen_fn)(const double *entries, int margin, double *result);

double time_tl2cgen(tl2cgen_fn call, const double *data, double *out, int columns, int rows, int rounds) {
    TIMED(out[row] = 0.0; call(data + (size_t)row * columns, 1, out + row));
}

typedef int (*lightgbm_fn)(void *fast, const void *data, int64_t *length, double *result);

double time_lightgbm(lightgbm_fn call, void *fast, const double *data, double *out, int columns, int rows, int rounds) {
    int64_t length = 0;
    TIMED(call(fast, data + (size_t)row * columns, &length, out + row));
}
