/* sums.h - compensated sums of many windows, or steps, side by side.
 *
 * WHY    kahan_add() waits for its own last result, so one sum leaves the processor idle most of the time,
 *        and picking values for several windows from as many places costs as much as adding them.
 * SHAPE  Windows of neighbouring steps begin a fixed number of samples apart, the stride. A layout puts
 *        samples that lie a stride apart side by side: then the same sample of eight windows is one
 *        load. Private to promql/.
 * BITS   Each sum has the very bits that kahan_add() gives, or it says that it has not. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUMS_WIDE 8 /* windows at a time */

/* Sample j is at [(j % stride) * rows + j / stride]. */
struct sums_layout {
    const double *v;
    size_t stride, rows;
};
/* `room` has space for n + stride values and is borrowed; stride is at least 1. */
void sums_lay_out(struct sums_layout *l, const double *v, size_t n, size_t stride, double *room);

struct sums {
    double sum[SUMS_WIDE], c[SUMS_WIDE];
};
/* The sums of the windows [lo + i * stride, lo + i * stride + n); with x, of the samples' products with
 * x[0..n). Those that are not sums_hold() are to be summed anew. */
void sums_of(const struct sums_layout *l, size_t lo, size_t n, const double *x, struct sums *out);
static inline bool sums_hold(const struct sums *s, int i)
{
    return __builtin_isfinite(s->sum[i]) && __builtin_isfinite(s->c[i]);
}

/* The sums of the first n samples of windows that lie anywhere: each sample is picked from its own place. */
void sums_apart(const double *const v[SUMS_WIDE], size_t n, struct sums *out);
struct moments {
    double mean, c_mean, squares, c_squares;
};
/* As Prometheus goes on from the first `from` of n samples: the mean, and the sum of squares around it. */
void moments_go_on(struct moments *m, const double *v, size_t from, size_t n);
/* The moments of the first n samples of windows that lie anywhere. Those that are not finite are to be had
 * anew. */
void moments_apart(const double *const v[SUMS_WIDE], size_t n, struct moments out[SUMS_WIDE]);
static inline bool moments_hold(const struct moments *m)
{
    return __builtin_isfinite(m->mean) && __builtin_isfinite(m->c_mean) &&
           __builtin_isfinite(m->squares) && __builtin_isfinite(m->c_squares);
}
/* Adds further samples to the sum of one. */
void sums_go_on(double *sum, double *c, const double *v, size_t n);

/* No vectors wider than this are used: tests lower it. */
extern unsigned sums_most_bytes;

/* kahan_add(v[k], &sum[k], &c[k]) for all k. */
void sums_add_row(double *sum, double *c, const double *v, size_t n);
/* One window alone; false as above. */
bool sums_alone(const double *v, size_t n, double *sum, double *c);
