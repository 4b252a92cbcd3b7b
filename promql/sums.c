/* sums.c - see sums.h.
 *
 * What an addition rounded away is itself a double, and there are two ways to it: Neumaier's compares the
 * sizes of both numbers, Knuth's (The Art of Computer Programming, 4.2.2, theorem B) does not, and so needs
 * no choice between lanes. Both are exact, hence alike, as long as nothing overflows; what did leaves a sum
 * or a compensation that is not finite, for that never becomes finite again. */
#include "promql/sums.h"

#include <string.h>

#include "promql/eval.h"

#define INLINE static inline __attribute__((always_inline))

/* Adds x to a sum, and to c what that rounded away, after Knuth; numbers or vectors of them. */
#define ADD(sum, c, x)                                                                             \
    do {                                                                                           \
        const __auto_type add_t = (sum) + (x);                                                     \
        const __auto_type add_part = add_t - (sum);                                                \
        (c) += ((sum) - (add_t - add_part)) + ((x)-add_part);                                      \
        (sum) = add_t;                                                                             \
    } while (0)

unsigned sums_most_bytes = 64;

void sums_lay_out(struct sums_layout *l, const double *v, size_t n, size_t stride, double *room)
{
    *l = (struct sums_layout){room, stride, (n + stride - 1) / stride};
    if (stride == 1) {
        l->v = v;
        return;
    }
    for (size_t phase = 0; phase < stride; phase++) {
        double *to = room + phase * l->rows;

        for (size_t j = phase; j < n; j += stride)
            *to++ = v[j];
    }
}

/* The eight lanes as `parts` vectors, each as wide as the processor's: a wider one would be taken apart by
 * way of memory. The operations and their order are the same. */
#define DEFINE_RUN(name, attributes, bytes, parts)                                                 \
    attributes static void name(const struct sums_layout *l, size_t lo, size_t n, const double *x, \
                                struct sums *out)                                                  \
    {                                                                                              \
        typedef double vec __attribute__((vector_size(bytes)));                                    \
        size_t phase = lo % l->stride;                                                             \
        const double *p = l->v + phase * l->rows + lo / l->stride;                                 \
        const size_t wrap = l->rows * l->stride - 1;                                               \
        vec sum[parts] = {0}, c[parts] = {0};                                                      \
                                                                                                   \
        for (size_t i = 0; i < n; i++) {                                                           \
            const double by = x ? x[i] : 1; /* times 1 changes no bit of a number */               \
            _Pragma("GCC unroll 4") for (int j = 0; j < parts; j++)                                \
            {                                                                                      \
                vec v;                                                                             \
                memcpy(&v, p + j * (bytes / 8), bytes);                                            \
                v *= by;                                                                           \
                ADD(sum[j], c[j], v);                                                              \
            }                                                                                      \
            p += l->rows;                                                                          \
            if (++phase == l->stride) {                                                            \
                phase = 0;                                                                         \
                p -= wrap;                                                                         \
            }                                                                                      \
        }                                                                                          \
        memcpy(out->sum, sum, sizeof sum);                                                         \
        memcpy(out->c, c, sizeof c);                                                               \
    }
DEFINE_RUN(run, , 16, 4)

/* The same with the samples of each vector brought together from as many places. */
#define DEFINE_APART(name, attributes, bytes, parts)                                               \
    attributes static void name(const double *const *at, size_t n, struct sums *out)               \
    {                                                                                              \
        typedef double vec __attribute__((vector_size(bytes)));                                    \
        vec sum[parts] = {0}, c[parts] = {0};                                                      \
        const double *p[SUMS_WIDE];                                                                \
                                                                                                   \
        memcpy(p, at, sizeof p);                                                                   \
        for (size_t i = 0; i < n; i++) {                                                           \
            double all[SUMS_WIDE];                                                                 \
                                                                                                   \
            _Pragma("GCC unroll 8") for (int j = 0; j < SUMS_WIDE; j++) all[j] = p[j][i];          \
            _Pragma("GCC unroll 4") for (int j = 0; j < parts; j++)                                \
            {                                                                                      \
                vec v;                                                                             \
                memcpy(&v, all + j * (bytes / 8), bytes);                                          \
                ADD(sum[j], c[j], v);                                                              \
            }                                                                                      \
        }                                                                                          \
        memcpy(out->sum, sum, sizeof sum);                                                         \
        memcpy(out->c, c, sizeof c);                                                               \
    }
DEFINE_APART(apart, , 16, 4)

/* The same for moments: to each sample belong a division and two additions that compensate. */
#define DEFINE_MOMENTS(name, attributes, bytes, parts)                                             \
    attributes static void name(const double *const *at, size_t n, struct moments *out)            \
    {                                                                                              \
        typedef double vec __attribute__((vector_size(bytes)));                                    \
        vec mean[parts] = {0}, c_mean[parts] = {0}, squares[parts] = {0}, c_squares[parts] = {0};  \
        const double *p[SUMS_WIDE];                                                                \
        double all[4][SUMS_WIDE];                                                                  \
                                                                                                   \
        memcpy(p, at, sizeof p);                                                                   \
        for (size_t i = 0; i < n; i++) {                                                           \
            const double count = (double)(i + 1);                                                  \
                                                                                                   \
            _Pragma("GCC unroll 8") for (int j = 0; j < SUMS_WIDE; j++) all[0][j] = p[j][i];       \
            _Pragma("GCC unroll 4") for (int j = 0; j < parts; j++)                                \
            {                                                                                      \
                vec v, by, delta;                                                                  \
                memcpy(&v, all[0] + j * (bytes / 8), bytes);                                       \
                delta = v - (mean[j] + c_mean[j]);                                                 \
                by = delta / count;                                                                \
                ADD(mean[j], c_mean[j], by);                                                       \
                by = delta * (v - (mean[j] + c_mean[j]));                                          \
                ADD(squares[j], c_squares[j], by);                                                 \
            }                                                                                      \
        }                                                                                          \
        memcpy(all[0], mean, sizeof mean);                                                         \
        memcpy(all[1], c_mean, sizeof mean);                                                       \
        memcpy(all[2], squares, sizeof mean);                                                      \
        memcpy(all[3], c_squares, sizeof mean);                                                    \
        for (int j = 0; j < SUMS_WIDE; j++)                                                        \
            out[j] = (struct moments){all[0][j], all[1][j], all[2][j], all[3][j]};                 \
    }
DEFINE_MOMENTS(moments, , 16, 4)

INLINE void add_row(double *restrict sum, double *restrict c, const double *restrict v, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        double t = sum[k] + v[k], low;
        bool larger = __builtin_fabs(sum[k]) >= __builtin_fabs(v[k]);

        low = ((larger ? sum[k] : v[k]) - t) + (larger ? v[k] : sum[k]);
        c[k] = __builtin_fabs(t) == __builtin_inf() ? 0 : c[k] + low;
        sum[k] = t;
    }
}

#if defined(__x86_64__)
/* Not under AddressSanitizer: GCC 12 aligns its stacks that detect use after return to 32 bytes (GCC bug 110027). */
#define WIDEST __attribute__((target("avx512f"), no_sanitize_address))
DEFINE_RUN(run_avx2, __attribute__((target("avx2"))), 32, 2)
DEFINE_RUN(run_avx512, WIDEST, 64, 1)
DEFINE_APART(apart_avx2, __attribute__((target("avx2"))), 32, 2)
DEFINE_APART(apart_avx512, WIDEST, 64, 1)
DEFINE_MOMENTS(moments_avx2, __attribute__((target("avx2"))), 32, 2)
DEFINE_MOMENTS(moments_avx512, WIDEST, 64, 1)
__attribute__((target("avx2"))) static void add_row_avx2(double *sum, double *c, const double *v,
                                                         size_t n)
{
    add_row(sum, c, v, n);
}
#define CAN(isa) __builtin_cpu_supports(isa)
#else
#define CAN(isa)       0
#define run_avx2       run
#define run_avx512     run
#define apart_avx2     apart
#define apart_avx512   apart
#define moments_avx2   moments
#define moments_avx512 moments
#define add_row_avx2   add_row
#endif

void sums_of(const struct sums_layout *l, size_t lo, size_t n, const double *x, struct sums *out)
{
    if (sums_most_bytes >= 64 && CAN("avx512f"))
        run_avx512(l, lo, n, x, out);
    else if (sums_most_bytes >= 32 && CAN("avx2"))
        run_avx2(l, lo, n, x, out);
    else
        run(l, lo, n, x, out);
}

void sums_apart(const double *const v[SUMS_WIDE], size_t n, struct sums *out)
{
    if (sums_most_bytes >= 64 && CAN("avx512f"))
        apart_avx512(v, n, out);
    else if (sums_most_bytes >= 32 && CAN("avx2"))
        apart_avx2(v, n, out);
    else
        apart(v, n, out);
}

void moments_apart(const double *const v[SUMS_WIDE], size_t n, struct moments out[SUMS_WIDE])
{
    if (sums_most_bytes >= 64 && CAN("avx512f"))
        moments_avx512(v, n, out);
    else if (sums_most_bytes >= 32 && CAN("avx2"))
        moments_avx2(v, n, out);
    else
        moments(v, n, out);
}

void moments_go_on(struct moments *m, const double *v, size_t from, size_t n)
{
    for (size_t i = from; i < n; i++) {
        const double delta = v[i] - (m->mean + m->c_mean);

        kahan_add(delta / (double)(i + 1), &m->mean, &m->c_mean);
        kahan_add(delta * (v[i] - (m->mean + m->c_mean)), &m->squares, &m->c_squares);
    }
}

void sums_add_row(double *sum, double *c, const double *v, size_t n)
{
    if (sums_most_bytes >= 32 && CAN("avx2"))
        add_row_avx2(sum, c, v, n);
    else
        add_row(sum, c, v, n);
}

void sums_go_on(double *sum_inout, double *c_inout, const double *v, size_t n)
{
    double sum = *sum_inout, c = *c_inout;

    for (size_t i = 0; i < n; i++)
        ADD(sum, c, v[i]);
    *sum_inout = sum;
    *c_inout = c;
}

bool sums_alone(const double *v, size_t n, double *sum, double *c)
{
    *sum = *c = 0;
    sums_go_on(sum, c, v, n);
    return __builtin_isfinite(*sum) && __builtin_isfinite(*c);
}
