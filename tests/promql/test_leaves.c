/* test_leaves.c - selectors that read the same read it once, and nothing else tells that they do: random expressions
 * over few selectors, beside an engine that reads for each. NX_SEED and NX_ROUNDS as in test_random.c. */
#include "tests/support/test.h"

#include <math.h>

#include "promql/teststore.h"
#include "src/base/memory.h"
#include "src/base/num.h"
#include "tests/promql/picks.h"
#include "tests/promql/same.h"

static struct nx_err err;

/* ---- a store that counts what is read ---------------------------------------------------------- */

struct counting {
    struct querier q;
    struct querier *inner;
    struct pql_source source;
    unsigned reads;
};

static nx_status counting_select(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                                 int64_t maxt, struct arena *a, struct series_list *out,
                                 struct nx_err *e)
{
    struct counting *c = (struct counting *)q;

    return c->inner->ops->select(c->inner, m, n, mint, maxt, a, out, e);
}

static nx_status counting_read(struct querier *q, const struct series *s, int64_t mint,
                               int64_t maxt, struct column *col, struct nx_err *e)
{
    struct counting *c = (struct counting *)q;

    __atomic_add_fetch(&c->reads, 1, __ATOMIC_RELAXED);
    return c->inner->ops->read(c->inner, s, mint, maxt, col, e);
}

static void counting_close(struct querier *q)
{
    querier_close(((struct counting *)q)->inner);
}

static nx_status counting_open(void *ctx, int64_t mint, int64_t maxt, struct querier **out,
                               struct nx_err *e)
{
    static const struct querier_ops ops = {
        .select = counting_select, .read = counting_read, .close = counting_close};
    struct counting *c = ctx;

    c->q.ops = &ops;
    *out = &c->q;
    return c->source.open(c->source.ctx, mint, maxt, &c->inner, e);
}

/* ---- data ----------------------------------------------------------------------------------------- */

#define SERIES 6 /* of each of a_total and b */

static struct teststore *filled(void)
{
    struct teststore *s = teststore_new();
    struct test_random r = {77};

    assert_non_null(s);
    for (unsigned i = 0; i < 2 * SERIES; i++) {
        char k[8];
        struct label l[2] = {{STR("__name__"), STR(i % 2 ? "b" : "a_total")}, {STR("k"), {k, 1}}};
        struct labels ls = {l, 2};
        double v = 0;

        snprintf(k, sizeof k, "%u", i / 2);
        for (int64_t t = -600000; t < 900000; t += 10000) {
            if (test_random_below(&r, 30) == 0)
                t += 200000;
            v = i % 2 ? (double)(int64_t)test_random(&r) / 1e15
                      : v + (double)test_random_below(&r, 9);
            if (test_random_below(&r, 40) == 0)
                v = test_random_below(&r, 2) ? 0 : (double)NAN;
            assert_ok(teststore_add(s, &ls, t,
                                    test_random_below(&r, 40) ? v : num_from_bits(NUM_STALE_BITS),
                                    &err),
                      &err);
        }
    }
    return s;
}

static struct pql_engine *engine_of(struct pql_engine_opts o)
{
    struct pql_engine *e = NULL;

    if (!o.helpers)
        o.helpers = UINT32_MAX; /* none: what is read how often is counted */
    o.features.experimental_functions = o.features.extended_range = true;
    assert_ok(pql_engine_new(&e, &o, &err), &err);
    return e;
}

/* ---- expressions ------------------------------------------------------------------------------------ */

struct gen {
    struct test_random r;
    struct buf b;
};

static void selector(struct gen *g, const char *range)
{
    buf_printf(&g->b, "%s%s", ONE_OF(g, "a_total", "b", "a_total", "b{k=\"1\"}"), range);
    if (below(g, 12) == 0)
        buf_str(&g->b, *range ? ONE_OF(g, " anchored", " smoothed") : " smoothed");
    if (below(g, 5) == 0)
        buf_str(&g->b, ONE_OF(g, " offset 1m", " @ 300", " @ end() offset 30s"));
}

static void leaf(struct gen *g)
{
    const char *range = ONE_OF(g, "[2m]", "[2m]", "[5m]", "[300s]");

    switch (below(g, 8)) {
    case 0:
    case 1:
        selector(g, "");
        return;
    case 2:
        buf_printf(&g->b, "quantile_over_time(%s, ", ONE_OF(g, "0.5", "0.9", "2", "time()"));
        selector(g, range);
        break;
    case 3:
        buf_str(&g->b, "predict_linear(");
        selector(g, range);
        buf_printf(&g->b, ", %s)", ONE_OF(g, "60", "3600", "scalar(b)"));
        return;
    default:
        buf_printf(&g->b, "%s(",
                   ONE_OF(g, "rate", "rate", "increase", "delta", "resets", "changes", "deriv",
                          "avg_over_time", "sum_over_time", "min_over_time", "max_over_time",
                          "max_over_time", "count_over_time", "last_over_time", "present_over_time",
                          "stddev_over_time", "mad_over_time", "absent_over_time"));
        selector(g, range);
    }
    buf_str(&g->b, ")");
}

static void expr(struct gen *g, unsigned depth)
{
    if (depth == 0) {
        leaf(g);
        return;
    }
    switch (below(g, 8)) {
    case 0:
        buf_str(&g->b, ONE_OF(g, "sum by (k) (", "count(", "max(", "avg by (k) (", "stddev(",
                              "quantile(0.5, ", "topk(2, "));
        expr(g, depth - 1);
        break;
    case 1:
        buf_str(&g->b, ONE_OF(g, "abs(", "timestamp(", "-(", "scalar(sum(b)) + (", "sort(",
                              "absent(", "scalar(b{k=\"1\"}) * ("));
        expr(g, depth - 1);
        break;
    case 2:
        buf_str(&g->b, ONE_OF(g, "max_over_time((", "avg_over_time((", "rate(("));
        expr(g, depth - 1);
        buf_str(&g->b, ONE_OF(g, ")[4m:1m]", ")[4m:1m]", ")[5m:30s]", ")[4m:1m] @ 300",
                              ")[4m:1m] offset 1m"));
        break;
    default:
        buf_str(&g->b, "(");
        expr(g, depth - 1);
        buf_printf(&g->b, " %s ", ONE_OF(g, "+", "-", "/", ">", "and", "or", "unless", "== bool"));
        expr(g, depth - 1);
    }
    buf_str(&g->b, ")");
}

/* Whatever the bounds and however series are cut: what fails, fails with the same words. */
static void sharing_changes_nothing(void **state)
{
    static const struct pql_engine_opts ways[] = {
        {.max_samples = 0},    {.max_samples = 150},     {.max_samples = 1000},
        {.column_samples = 4}, {.per_step_stats = true}, {.features.delayed_name_removal = true}};
    struct gen g = {.r = {setting("NX_SEED", 3)}};
    const unsigned rounds = (unsigned)setting("NX_ROUNDS", 3000);
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *with[NX_COUNT(ways)], *without[NX_COUNT(ways)];
    unsigned answered = 0;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(ways); i++) {
        struct pql_engine_opts o = ways[i];
        with[i] = engine_of(o);
        o.no_sharing = true;
        without[i] = engine_of(o);
    }
    buf_init(&g.b, 0);
    for (unsigned i = 0; i < rounds; i++) {
        const size_t way = i % NX_COUNT(ways);
        struct pql_query q = {
            .step_ms = 37000, .end_ms = 600000, .per_step_stats = true, .source = &source};

        buf_clear(&g.b);
        expr(&g, 1 + below(&g, 3));
        q.text = STR(buf_cstr(&g.b));
        q.instant = below(&g, 4) == 0;
        answered += same_on_both(without[way], with[way], &q);
    }
    printf("%u of %u answered\n", answered, rounds);
    assert_true(answered > rounds / 3);
    buf_done(&g.b);
    for (size_t i = 0; i < NX_COUNT(ways); i++) {
        pql_engine_free(with[i]);
        pql_engine_free(without[i]);
    }
    teststore_free(s);
}

static unsigned reads_of(struct pql_engine *e, struct counting *c, const char *text)
{
    const struct pql_source source = {counting_open, c};
    struct pql_query q = {.text = STR(text), .end_ms = 600000, .step_ms = 60000, .source = &source};
    struct pql_result *r = NULL;

    c->reads = 0;
    assert_ok(pql_exec(e, &q, &r, &err), &err);
    pql_result_free(r);
    return c->reads;
}

static void what_is_alike_is_read_once(void **state)
{
    static const struct {
        const char *text;
        unsigned reads; /* of 6 series each */
    } rows[] = {
        {"rate(a_total[5m]) / rate(a_total[5m])", 1},
        {"max_over_time(b[5m]) - min_over_time(b[300s])", 1},
        {"(max_over_time(b[5m]) - min_over_time(b[5m])) / avg_over_time(b[5m])", 1},
        {"sum(rate(a_total[5m])) / count(rate(a_total[5m]))", 1},
        {"b / (b > 0)", 1},
        {"b > quantile(0.9, b) or b < 1", 1},
        {"quantile_over_time(0.5, b[5m]) / quantile_over_time(0.99, b[5m])", 1},
        {"rate(a_total[5m]) / count_over_time(a_total[5m])", 1},
        {"count_over_time(a_total[5m]) / rate(a_total[5m])", 1},
        {"max_over_time(rate(a_total[2m])[5m:1m]) - min_over_time(rate(a_total[2m])[5m:60s])", 1},
        {"b @ 300 + b @ 300 offset 0s", 1},
        {"b - b offset 5m", 2},
        {"b{k!=\"x\"} - b", 2},
        {"rate(a_total[5m]) / rate(a_total[2m])", 2},
        {"max_over_time(b[5m]) - max_over_time(b[5m] @ 300)", 2},
        {"max_over_time(b[5m]) - max_over_time(b[5m:1m])", 2},
        {"max_over_time(rate(a_total[2m])[5m:1m]) - rate(a_total[2m])", 2},
        {"quantile_over_time(time(), b[5m]) / quantile_over_time(0.99, b[5m])", 2},
        {"timestamp(b) - b", 2},
        {"b or last_over_time(b[0.0004])", 2}, /* (t, t], and not an instant */
        {"last_over_time(b[0.0004]) or b", 2},
    };
    struct teststore *s = filled();
    struct counting c = {.source = teststore_source(s)};
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        unsigned reads = reads_of(e, &c, rows[i].text);
        if (reads != rows[i].reads * SERIES)
            fail_msg("%s: %u reads, wanted %u", rows[i].text, reads, rows[i].reads * SERIES);
    }
    pql_engine_free(e);
    teststore_free(s);
}

/* A range of less than a millisecond is of the same times as an instant, and has no samples. */
static void short_ranges_are_no_instants(void **state)
{
    static const char *const texts[] = {"b or last_over_time(b[0.0004])",
                                        "last_over_time(b[0.0004]) or b",
                                        "last_over_time({k=\"1\"}[1e-4]) or b{k=\"1\"}",
                                        "b + max_over_time(b[0.0004])",
                                        "max_over_time(b[0.0004]) + b",
                                        "max_over_time(b[0.0001]) + max_over_time(b[0.0004])"};
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *with = engine_of((struct pql_engine_opts){0});
    struct pql_engine *without = engine_of((struct pql_engine_opts){.no_sharing = true});

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        struct pql_query q = {
            .text = STR(texts[i]), .end_ms = 600000, .step_ms = 60000, .source = &source};

        assert_true(same_on_both(without, with, &q));
        q.instant = true;
        assert_true(same_on_both(without, with, &q));
    }
    pql_engine_free(with);
    pql_engine_free(without);
    teststore_free(s);
}

/* One step of a range: what is evaluated once, and what is not, at the same time. */
static void statistics_of_one_step(void **state)
{
    static const char *const texts[] = {
        "rate(a_total[5m] @ 300) + predict_linear(a_total[5m] @ 300, 5)",
        "predict_linear(a_total[5m] @ 300, 5) + rate(a_total[5m] @ 300)"};
    const struct pql_engine_opts o = {.per_step_stats = true};
    struct pql_engine_opts alone = o;
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *with = engine_of(o), *without;

    (void)state;
    alone.no_sharing = true;
    without = engine_of(alone);
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        const struct pql_query q = {.text = STR(texts[i]),
                                    .start_ms = 300000,
                                    .end_ms = 310000,
                                    .step_ms = 60000,
                                    .per_step_stats = true,
                                    .source = &source};

        assert_true(same_on_both(without, with, &q));
    }
    pql_engine_free(with);
    pql_engine_free(without);
    teststore_free(s);
}

/* Each use tells its own position; the last is the one that is told, as ever. */
static void annotations_are_those_of_each_use(void **state)
{
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});
    struct pql_query q = {.text = STR("rate(b[5m]) + ignoring (x) rate(b[5m])"),
                          .end_ms = 600000,
                          .step_ms = 60000,
                          .source = &source};
    struct pql_result *r = NULL;

    (void)state;
    assert_ok(pql_exec(e, &q, &r, &err), &err);
    assert_int_equal(r->n_infos, 1);
    assert_non_null(strstr(r->infos[0], "\"b\" (1:33)"));
    pql_result_free(r);
    pql_engine_free(e);
    teststore_free(s);
}

/* Where rows would take too much of the query's memory, each use reads for itself. */
static void large_groups_share_nothing(void **state)
{
    struct teststore *s = filled();
    struct counting c = {.source = teststore_source(s)};
    struct memory *m = memory_new(1u << 30, NULL, NULL);
    struct pql_engine *e =
        engine_of((struct pql_engine_opts){.memory = m, .max_bytes = 160u << 10});

    (void)state;
    assert_int_equal(reads_of(e, &c, "sum(rate(a_total[5m])) / count(rate(a_total[5m]))"), SERIES);
    const struct pql_source source = {counting_open, &c};
    struct pql_query q = {.text = STR("sum(rate(a_total[5m])) / count(rate(a_total[5m]))"),
                          .end_ms = 600000,
                          .step_ms = 1000, /* 601 steps of 6 series are 34 KiB, of 160 */
                          .source = &source};
    struct pql_result *r = NULL;
    c.reads = 0;
    assert_ok(pql_exec(e, &q, &r, &err), &err);
    pql_result_free(r);
    assert_int_equal(c.reads, 2 * SERIES);
    pql_engine_free(e);
    memory_free(m);
    teststore_free(s);
}

/* ... and so it is with many groups, each of which would take little. */
static void many_groups_share_little(void **state)
{
    struct teststore *s = filled();
    struct counting c = {.source = teststore_source(s)};
    const struct pql_source source = {counting_open, &c};
    struct memory *m = memory_new(1u << 30, NULL, NULL);
    struct pql_engine *e = engine_of((struct pql_engine_opts){.memory = m, .max_bytes = 2u << 20});
    struct pql_query q = {.end_ms = 600000, .step_ms = 1000, .source = &source};
    struct pql_result *r = NULL;
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (unsigned i = 1; i <= 12; i++)
        buf_printf(&b, "%ssum(rate(a_total[%um])) / count(rate(a_total[%um]))", i > 1 ? " + " : "",
                   i, i);
    q.text = STR(buf_cstr(&b));
    c.reads = 0;
    assert_ok(pql_exec(e, &q, &r, &err), &err);
    pql_result_free(r);
    assert_int_equal(c.reads, (7 + 2 * 5) * SERIES); /* 34 KiB each, 256 KiB in all */
    buf_done(&b);
    pql_engine_free(e);
    memory_free(m);
    teststore_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharing_changes_nothing),
        cmocka_unit_test(what_is_alike_is_read_once),
        cmocka_unit_test(short_ranges_are_no_instants),
        cmocka_unit_test(statistics_of_one_step),
        cmocka_unit_test(annotations_are_those_of_each_use),
        cmocka_unit_test(large_groups_share_nothing),
        cmocka_unit_test(many_groups_share_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
