/* test_windows.c - windows that are worked together give the bits they give alone.
 *
 * A range query slides over its windows and works several at a time; an instant query has one window and
 * none of that. Both must agree to the bit, over series whose gaps are even, broken, and uneven. */
#include "tests/support/test.h"

#include <math.h>

#include "promql/teststore.h"
#include "src/base/num.h"

#define STEPS 50

struct shape {
    const char *name;
    int64_t gap_ms;
    bool uneven, holes;
    double (*value)(struct test_random *r, unsigned i);
};

static double whole(struct test_random *r, unsigned i)
{
    return 1e11 + 4096.0 * (i * 7 + (double)test_random_below(r, 1000));
}

static double decimal(struct test_random *r, unsigned i)
{
    return (double)i / 3 - (double)test_random_below(r, 20000) / 100;
}

static double level(struct test_random *r, unsigned i)
{
    (void)r;
    (void)i;
    return 17.3;
}

static double huge(struct test_random *r, unsigned i)
{
    return (i % 2 ? 1e308 : -1e308) + (double)test_random_below(r, 1000) * 1e300;
}

static double special(struct test_random *r, unsigned i)
{
    static const double odd[] = {(double)NAN, INFINITY, -INFINITY, -0.0};

    return i % 37 == 5 ? odd[test_random_below(r, NX_COUNT(odd))] : (double)i;
}

/* Begins anew, at zero and a little above: where windows reach back to when it was zero. */
static double restarting(struct test_random *r, unsigned i)
{
    return (double)(i % 23) * 10 + (double)test_random_below(r, 3);
}

static const struct shape shapes[] = {
    {"even_counter", 15000, false, false, restarting},
    {"holes_counter", 15000, false, true, restarting},
    {"even_whole", 15000, false, false, whole},
    {"even_decimal", 15000, false, false, decimal},
    {"even_level", 15000, false, false, level},
    {"even_huge", 15000, false, false, huge},
    {"even_special", 15000, false, false, special},
    {"holes_decimal", 15000, false, true, decimal},
    {"holes_whole", 7000, false, true, whole},
    {"uneven_decimal", 15000, true, false, decimal},
    {"odd_gap", 11003, false, false, decimal},
};

static void fill(struct teststore *s)
{
    struct test_random r = {7};
    struct nx_err err;

    for (size_t k = 0; k < NX_COUNT(shapes); k++) {
        struct label l[2] = {{STR("__name__"), STR("x")}, {STR("shape"), STR(shapes[k].name)}};
        struct labels ls = {l, 2};
        unsigned i = 0;
        for (int64_t t = 0; t < 3000000; t += shapes[k].gap_ms, i++) {
            int64_t at = t + (shapes[k].uneven ? (int64_t)test_random_below(&r, 5000) : 0);
            if (!shapes[k].holes || test_random_below(&r, 40))
                assert_ok(teststore_add(s, &ls, at, shapes[k].value(&r, i), &err), &err);
        }
    }
}

static const double *value_at(const struct pql_series *s, int64_t t)
{
    for (size_t k = 0; k < s->n; k++)
        if (s->t[k] == t)
            return &s->v[k];
    return NULL;
}

static void compare(struct pql_engine *e, const struct pql_source *source, const char *text,
                    int64_t step_ms)
{
    struct pql_query q = {.text = STR(text),
                          .start_ms = 900000,
                          .end_ms = 900000 + (STEPS - 1) * step_ms,
                          .step_ms = step_ms,
                          .source = source};
    struct pql_result *all = NULL, *one = NULL;
    struct nx_err err;
    size_t compared = 0;

    assert_ok(pql_exec(e, &q, &all, &err), &err);
    assert_int_equal(all->n_series, NX_COUNT(shapes));
    for (int64_t t = q.start_ms; t <= q.end_ms; t += step_ms) {
        struct pql_query instant = q;

        instant.instant = true;
        instant.start_ms = t;
        assert_ok(pql_exec(e, &instant, &one, &err), &err);
        for (size_t i = 0; i < one->n_series; i++) {
            const double *v = NULL;
            for (size_t j = 0; j < all->n_series && !v; j++)
                if (labels_eq(&all->series[j].labels, &one->series[i].labels))
                    v = value_at(&all->series[j], t);
            assert_non_null(v);
            if (num_bits(*v) != num_bits(one->series[i].v[0]) &&
                !(isnan(*v) && isnan(one->series[i].v[0])))
                fail_msg("%s at %lld, series %zu: %.17g together, %.17g alone", text, (long long)t,
                         i, *v, one->series[i].v[0]);
            compared++;
        }
        pql_result_free(one);
    }
    assert_int_equal(compared, STEPS * NX_COUNT(shapes));
    pql_result_free(all);
}

static void windows_together_are_as_windows_alone(void **state)
{
    static const char *const calls[] = {
        "deriv(x[10m])",
        "predict_linear(x[10m], 3600)",
        "predict_linear(x[10m] offset 2m, 60)",
        "sum_over_time(x[10m])",
        "avg_over_time(x[10m])",
        "stddev_over_time(x[10m])",
        "stdvar_over_time(x[3m])",
        "quantile_over_time(0.3, x[10m])",
        "quantile_over_time(0.97, x[1m])",
        "quantile_over_time(time() % 11 / 10, x[7m])",
        "mad_over_time(x[10m])",
        "mad_over_time(x[1m])",
        "ts_of_max_over_time(x[10m])",
        "ts_of_min_over_time(x[10m])",
        "ts_of_first_over_time(x[10m])",
        "ts_of_last_over_time(x[10m])",
        "max_over_time(x[10m])",
        "rate(x[5m])",
        "rate(x[2m])",
        "increase(x[4m])",
        "delta(x[5m])",
        "increase(x[1m] offset 30s)",
        "changes(x[10m])",
        "deriv(x[1m])",
    };
    static const int64_t steps[] = {15000, 30000, 7000, 41000, 1000};
    struct teststore *s = teststore_new();
    struct pql_source source = teststore_source(s);
    struct pql_engine_opts opts = {.features.experimental_functions = true};
    struct pql_engine *e = NULL;
    struct nx_err err;

    (void)state;
    assert_non_null(s);
    assert_ok(pql_engine_new(&e, &opts, &err), &err);
    fill(s);
    for (size_t c = 0; c < NX_COUNT(calls); c++)
        for (size_t k = 0; k < NX_COUNT(steps); k++)
            compare(e, &source, calls[c], steps[k]);
    pql_engine_free(e);
    teststore_free(s);
}

/* increase() as it is told in words: the rises and restarts of the samples, widened to the range's edges
 * where these are near, half a gap beyond where not, and not to where the counter was below zero. */
static double told(const struct pql_series *s, int64_t start, int64_t end)
{
    double rise = s->v[s->n - 1] - s->v[0], span = (double)(s->t[s->n - 1] - s->t[0]);
    double before = (double)(s->t[0] - start), after = (double)(end - s->t[s->n - 1]);
    double gap = span / (double)(s->n - 1);

    for (size_t i = 1; i < s->n; i++)
        rise += s->v[i] < s->v[i - 1] ? s->v[i - 1] : 0;
    before = before < gap * 1.1 ? before : gap / 2;
    after = after < gap * 1.1 ? after : gap / 2;
    if (rise > 0 && s->v[0] >= 0 && span * s->v[0] / rise < before)
        before = span * s->v[0] / rise;
    return rise * (span + before + after) / span;
}

static void increase_is_as_it_is_told(void **state)
{
    struct teststore *s = teststore_new();
    struct pql_source source = teststore_source(s);
    struct pql_engine_opts opts = {0};
    struct pql_engine *e = NULL;
    struct nx_err err;
    unsigned to_zero = 0;

    (void)state;
    assert_non_null(s);
    assert_ok(pql_engine_new(&e, &opts, &err), &err);
    fill(s);
    for (int64_t t = 900000; t < 1900000; t += 7000) {
        struct pql_query q = {.text = STR("increase(x{shape=~\".*_(counter|decimal)\"}[130s])"),
                              .instant = true,
                              .start_ms = t,
                              .end_ms = t,
                              .source = &source};
        struct pql_result *r = NULL, *m = NULL;

        assert_ok(pql_exec(e, &q, &r, &err), &err);
        q.text = STR("x{shape=~\".*_(counter|decimal)\"}[130s]");
        assert_ok(pql_exec(e, &q, &m, &err), &err);
        assert_int_equal(r->n_series, m->n_series);
        for (size_t i = 0; i < r->n_series; i++) {
            double want = told(&m->series[i], t - 130000, t), got = r->series[i].v[0];
            if (fabs(want - got) > 1e-12 * fabs(want))
                fail_msg("series %zu at %lld: %.17g, not %.17g", i, (long long)t, got, want);
            to_zero += m->series[i].v[0] == 0;
        }
        pql_result_free(r);
        pql_result_free(m);
    }
    assert_true(to_zero > 5);
    pql_engine_free(e);
    teststore_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_together_are_as_windows_alone),
        cmocka_unit_test(increase_is_as_it_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
