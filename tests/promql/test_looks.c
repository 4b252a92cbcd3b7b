/* test_looks.c - a query that is called off, or out of time, ends soon, whatever it is at: work between two looks at
 * the clock is bounded. Here the clock moves by a millisecond at each look of the evaluator: so looks are counted, and a
 * time-out ends a query at any one of them. */
#include "tests/support/test.h"

#include "promql/promql.h"
#include "promql/teststore.h"
#include "src/base/clock.h"

#define SAMPLES 8000 /* of x, one a second */
#define RANGE_S 6000
#define WINDOWS (SAMPLES - RANGE_S + 1)
#define MILLION ((int64_t)1 << 20) /* samples between looks */
#define MEMBERS 1000               /* series of y, and of one info metric and identity */
#define ORDERED 70000              /* series of z */
#define LONG    400000             /* samples of w: sorting them takes more than a million steps */
#define STRIDE  (TEST_STRIDE > 1 ? 5 : 1)
#define FAR_MS  100000000

static void add(struct teststore *s, const char *name, const char *i, int64_t t_ms, double v)
{
    struct label l[4] = {{STR(LABEL_NAME), STR(name)},
                         {STR("i"), STR(i)},
                         {STR("instance"), STR("a")},
                         {STR("job"), STR("j")}};
    struct labels ls = {l, 4};
    struct nx_err err;

    assert_ok(teststore_add(s, &ls, t_ms, v, &err), &err);
}

static struct teststore *filled(int ordered)
{
    struct teststore *s = teststore_new();
    char number[16];

    assert_non_null(s);
    for (int j = 0; j < SAMPLES; j++)
        add(s, "x", "0", j * 1000, (double)(j * 7919 % 1009) / 7);
    for (int i = 0; i < MEMBERS; i++) {
        snprintf(number, sizeof number, "%d", i);
        add(s, "y", number, 0, i);
        add(s, "target_info", number, i, 1);
    }
    for (int i = 0; i < ordered; i++) {
        snprintf(number, sizeof number, "%d", i * 7919 % ORDERED);
        add(s, "z", number, 0, i * 31 % 1009);
    }
    return s;
}

static struct pql_engine *engine_new(int64_t timeout_ms)
{
    const struct pql_engine_opts opts = {.timeout_ms = timeout_ms,
                                         .lookback_ms = FAR_MS,
                                         .features.experimental_functions = true,
                                         .features.extended_range = true};
    struct pql_engine *e = NULL;
    struct nx_err err;

    assert_ok(pql_engine_new(&e, &opts, &err), &err);
    return e;
}

/* How often a query looks at the clock until it ends as `want`. */
static int64_t looks_of(const struct pql_source *source, const struct pql_query *query,
                        int64_t timeout_ms, nx_status want)
{
    struct pql_engine *e = engine_new(timeout_ms);
    struct pql_query q = *query;
    struct pql_result *r = NULL;
    struct nx_err err = {0};
    int64_t from_ns;
    nx_status st;

    q.source = source;
    q.alone = true;
    from_ns = clock_mono_ns();
    st = pql_exec(e, &q, &r, &err);
    if (st != want)
        fail_msg("%.*s: %s: %s", (int)q.text.len, q.text.ptr, nx_status_text(st), err.text);
    if (want == NX_TIMEOUT)
        assert_string_equal(err.text, "query timed out in expression evaluation");
    pql_result_free(r);
    pql_engine_free(e);
    return (clock_mono_ns() - from_ns) / 1000000;
}

static struct pql_query over(const char *text, int64_t from_ms, int64_t step_ms, int64_t n)
{
    return (struct pql_query){.text = STR(text),
                              .start_ms = from_ms,
                              .end_ms = from_ms + (n - 1) * step_ms,
                              .step_ms = n > 1 ? step_ms : 0,
                              .instant = n == 1};
}

/* `least` are those for the samples that are gone over, and for what the query has and the plain one has not. Then it
 * ends at any of them, and soon. */
static void look_often_enough(const struct pql_source *source, const struct pql_query *q,
                              const struct pql_query *plain, int64_t least)
{
    const int64_t all = looks_of(source, q, FAR_MS, NX_OK);
    const int64_t without = looks_of(source, plain, FAR_MS, NX_OK);

    if (all - without < least)
        fail_msg("%.*s: %" PRId64 " looks, %" PRId64 " without what takes long", (int)q->text.len,
                 q->text.ptr, all, without);
    for (int64_t ms = without; ms < all; ms += 1 + (all - without) / 2)
        assert_in_range(looks_of(source, q, ms, NX_TIMEOUT), ms, ms + 2);
}

static void over_windows(void **state)
{
    static const struct {
        const char *text;
        unsigned at_once; /* windows */
    } cases[] = {
        {"mad_over_time(x[6000s])", 1},
        {"quantile_over_time(0.3, x[6000s])", 1},
        {"double_exponential_smoothing(x[6000s], 0.5, 0.5)", 1},
        {"rate(x[6000s])", 1}, /* it falls all the time */
        {"increase(x[6000s] smoothed)", 1},
        {"changes(x[6000s] anchored)", 1},
        {"sum_over_time(x[6000s])", 8},
        {"avg_over_time(x[6000s])", 8},
        {"stddev_over_time(x[6000s])", 8},
        {"stdvar_over_time(x[6000s])", 8},
        {"deriv(x[6000s])", 8},
        {"predict_linear(x[6000s], 60)", 8},
    };
    struct teststore *s = filled(0);
    const struct pql_source source = teststore_source(s);
    const struct pql_query plain =
        over("last_over_time(x[6000s])", (RANGE_S - 1) * 1000, 1000, WINDOWS);

    (void)state;
    clock_fake_set(1700000000000LL);
    clock_fake_tick(1);
    for (size_t i = 0; i < NX_COUNT(cases); i += STRIDE) {
        const struct pql_query q = over(cases[i].text, (RANGE_S - 1) * 1000, 1000, WINDOWS);

        look_often_enough(&source, &q, &plain,
                          (int64_t)RANGE_S * WINDOWS / cases[i].at_once / MILLION);
    }
    clock_fake_off();
    teststore_free(s);
}

/* Many values are sorted for one window, and what comes after it is soon done: what ends the query meanwhile is not
 * forgotten. */
static void while_values_are_sorted(void **state)
{
    static const char *const texts[] = {"mad_over_time(w[400000s])",
                                        "quantile_over_time(0.3, w[400000s])"};
    struct teststore *s = teststore_new();
    const struct pql_source source = teststore_source(s);

    (void)state;
    assert_non_null(s);
    for (int j = 0; j < LONG; j++)
        add(s, "w", "0", j * 1000, (double)(j * 7919LL % 1009) / 7);
    clock_fake_set(1700000000000LL);
    clock_fake_tick(1);
    for (size_t i = 0; i < NX_COUNT(texts); i++) { /* the second window has one sample */
        const struct pql_query q = over(texts[i], (LONG - 1) * 1000LL, (LONG - 1) * 1000LL, 2);
        const int64_t all = looks_of(&source, &q, FAR_MS, NX_OK);

        assert_in_range(all, 3, 20);
        for (int64_t ms = 1; ms < all; ms++)
            looks_of(&source, &q, ms, NX_TIMEOUT);
    }
    clock_fake_off();
    teststore_free(s);
}

static void over_many_series(void **state)
{
    struct teststore *s = filled(STRIDE > 1 ? 0 : ORDERED);
    const struct pql_source source = teststore_source(s);
    const struct {
        struct pql_query q, plain;
        int64_t nodes, samples; /* nodes: and groups */
    } cases[] = {
        {over("quantile(0.5, y)", 0, 1, 3000), over("max(y)", 0, 1, 3000), 2, 3000 * MEMBERS},
        {over("info(x)", 0, 1, 3000), over("x", 0, 1, 3000), 3, (3000 - MEMBERS) * MEMBERS},
        {over("sort(z)", 0, 0, 1), over("z", 0, 0, 1), 1, 16 * ORDERED},
        {over("sort_by_label_desc(z, 'i')", 0, 0, 1), over("z", 0, 0, 1), 1, 16 * ORDERED},
    };

    (void)state;
    clock_fake_set(1700000000000LL);
    clock_fake_tick(1);
    for (size_t i = 0; i < (STRIDE > 1 ? 2 : NX_COUNT(cases)); i++) /* there is no z then */
        look_often_enough(&source, &cases[i].q, &cases[i].plain,
                          cases[i].nodes + cases[i].samples / MILLION);
    clock_fake_off();
    teststore_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_windows),
        cmocka_unit_test(while_values_are_sorted),
        cmocka_unit_test(over_many_series),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
