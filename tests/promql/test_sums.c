/* Sums side by side have the bits of sums one after the other. */
#include "tests/support/test.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "promql/eval.h"
#include "promql/sums.h"
#include "src/base/num.h"

#define MOST 600

static uint64_t seed = 88172645463325252u;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Numbers of a kind: alike, far apart in size, cancelling, tiny, near overflow, with specials. */
static double draw(unsigned kind)
{
    double unit = (double)(next() >> 11) / 9007199254740992.0;

    switch (kind) {
    case 0:
        return 100 + unit;
    case 1:
        return ldexp(unit - 0.5, (int)(next() % 400) - 200);
    case 2:
        return (next() & 1 ? 1e16 : -1e16) * (next() % 3 == 0 ? 1 : 1e-16) + unit;
    case 3:
        return ldexp(unit - 0.5, -1050 - (int)(next() % 24));
    case 4:
        return ldexp(unit - 0.5, 1024 - (int)(next() % 3)) * (next() % 8 ? 1e-3 : 1);
    case 5:
        return next() % 40 ? unit : next() & 1 ? (double)INFINITY : -(double)INFINITY;
    case 6:
        return next() % 40 ? unit : (double)NAN;
    default:
        return next() & 1 ? 0.0 : -0.0;
    }
}

static void one_by_one(const double *v, const double *x, size_t n, double *sum, double *c)
{
    *sum = *c = 0;
    for (size_t i = 0; i < n; i++)
        kahan_add(x ? x[i] * v[i] : v[i], sum, c);
}

static void assert_bits(double a, double b)
{
    assert_true(num_bits(a) == num_bits(b) || (isnan(a) && isnan(b)));
}

/* A turn's numbers, and windows that begin anywhere in them. Returns the kind of numbers. */
static unsigned lay_apart(unsigned turn, double v[MOST], const double *at[SUMS_WIDE])
{
    const unsigned kind = turn % 8, bytes[] = {16, 32, 64};

    for (size_t i = 0; i < MOST; i++)
        v[i] = draw(kind);
    for (int i = 0; i < SUMS_WIDE; i++)
        at[i] = v + next() % 400;
    sums_most_bytes = bytes[turn / 8 % 3];
    return kind;
}

/* The i-th sum is that of its window alone. False where it does not hold: only infinities, NaN and what comes near may do that. */
static bool is_as_alone(const struct sums *s, int i, double sum, double c, unsigned kind)
{
    if (!sums_hold(s, i)) {
        assert_true(kind >= 4 && kind <= 6);
        return false;
    }
    assert_bits(s->sum[i], sum);
    assert_bits(s->c[i], c);
    return true;
}

static void windows_sum_as_alone(void **state)
{
    static double v[MOST], x[MOST], room[2 * MOST];
    size_t held = 0;

    (void)state;
    for (unsigned turn = 0; turn < 6000; turn++) {
        const unsigned kind = turn % 8, bytes[] = {16, 32, 64};
        const size_t stride = 1 + next() % 9, n = 1 + next() % 60, lo = next() % 30,
                     all = lo + n + 7 * stride;
        const bool products = next() & 1;
        struct sums_layout l;
        struct sums s;

        for (size_t i = 0; i < all; i++) {
            v[i] = draw(kind);
            x[i] = -(double)i / 8;
        }
        sums_most_bytes = bytes[turn / 8 % 3];
        sums_lay_out(&l, v, all, stride, room);
        sums_of(&l, lo, n, products ? x : NULL, &s);
        for (int i = 0; i < SUMS_WIDE; i++) {
            double sum, c;

            one_by_one(v + lo + (size_t)i * stride, products ? x : NULL, n, &sum, &c);
            held += is_as_alone(&s, i, sum, c, kind);
        }
    }
    sums_most_bytes = 64;
    assert_true(held > 30000);
}

/* Windows anywhere, of different lengths: what they have in common together, the rest one by one. */
static void windows_apart_sum_as_alone(void **state)
{
    static double v[MOST];
    size_t held = 0;

    (void)state;
    for (unsigned turn = 0; turn < 4000; turn++) {
        const size_t common = 1 + next() % 60;
        const double *at[SUMS_WIDE];
        const unsigned kind = lay_apart(turn, v, at);
        struct sums s;

        sums_apart(at, common, &s);
        for (int i = 0; i < SUMS_WIDE; i++) {
            const size_t more = next() % 20;
            double sum, c;

            sums_go_on(&s.sum[i], &s.c[i], at[i] + common, more);
            one_by_one(at[i], NULL, common + more, &sum, &c);
            held += is_as_alone(&s, i, sum, c, kind);
        }
    }
    sums_most_bytes = 64;
    assert_true(held > 20000);
}

static void moments_apart_are_as_alone(void **state)
{
    static double v[MOST];
    size_t held = 0;

    (void)state;
    for (unsigned turn = 0; turn < 4000; turn++) {
        const size_t n = 1 + next() % 60;
        const double *at[SUMS_WIDE];
        const unsigned kind = lay_apart(turn, v, at);
        struct moments m[SUMS_WIDE];

        moments_apart(at, n, m);
        for (int i = 0; i < SUMS_WIDE; i++) {
            struct moments alone = {0};

            moments_go_on(&alone, at[i], 0, n);
            if (!moments_hold(&m[i])) {
                assert_true((kind >= 4 && kind <= 6) || kind == 1 || kind == 2);
                continue;
            }
            held++;
            assert_bits(m[i].mean, alone.mean);
            assert_bits(m[i].c_mean, alone.c_mean);
            assert_bits(m[i].squares, alone.squares);
            assert_bits(m[i].c_squares, alone.c_squares);
        }
    }
    sums_most_bytes = 64;
    assert_true(held > 15000);
}

static void rows_add_as_steps(void **state)
{
    static double a[MOST], b[MOST], v[MOST], want_a[MOST], want_b[MOST];

    (void)state;
    for (unsigned turn = 0; turn < 600; turn++) {
        const size_t n = 1 + next() % 70;

        memset(b, 0, sizeof b);
        for (size_t k = 0; k < n; k++)
            a[k] = draw(turn % 8);
        memcpy(want_a, a, sizeof a);
        memcpy(want_b, b, sizeof b);
        sums_most_bytes = turn & 1 ? 64 : 16;
        for (unsigned row = 0; row < 10; row++) {
            for (size_t k = 0; k < n; k++) {
                v[k] = draw(turn % 8);
                kahan_add(v[k], &want_a[k], &want_b[k]);
            }
            sums_add_row(a, b, v, n);
        }
        for (size_t k = 0; k < n; k++) {
            assert_bits(a[k], want_a[k]);
            assert_bits(b[k], want_b[k]);
        }
    }
    sums_most_bytes = 64;
}

static void one_window_sums_as_step_by_step(void **state)
{
    static double v[MOST];

    (void)state;
    for (unsigned turn = 0; turn < 4000; turn++) {
        const size_t n = 1 + next() % 100;
        double sum, c, want, want_c;

        for (size_t i = 0; i < n; i++)
            v[i] = draw(turn % 8);
        one_by_one(v, NULL, n, &want, &want_c);
        if (!sums_alone(v, n, &sum, &c)) {
            assert_in_range(turn % 8, 4, 6);
            continue;
        }
        assert_bits(sum, want);
        assert_bits(c, want_c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_sum_as_alone),
        cmocka_unit_test(windows_apart_sum_as_alone),
        cmocka_unit_test(moments_apart_are_as_alone),
        cmocka_unit_test(rows_add_as_steps),
        cmocka_unit_test(one_window_sums_as_step_by_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
