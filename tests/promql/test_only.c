/* test_only.c - aggregations ask the store for the labels that they group by, and nothing else tells that they do:
 * random ones over series that come, go, and differ in what was not asked for, beside a store that gives all labels.
 * NX_SEED and NX_ROUNDS as in test_random.c. */
#include "tests/support/test.h"

#include "src/base/num.h"
#include "tests/promql/same.h"
#include "tests/support/simfs.h"

#define STEP   15000
#define T0     1700000000000LL
#define SERIES 60

static struct nx_err err;

struct world {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g[3];
    struct pql_engine *engine;
    struct pql_source source;
    struct test_random r;
    int64_t now;
    double v[SERIES];
    bool typed;
};

static unsigned below(struct world *w, unsigned n)
{
    return (unsigned)test_random_below(&w->r, n);
}

/* The n-th series: which labels it has, and at which places, differs. */
static void column_of(struct world *w, unsigned n, uint32_t *col)
{
    static const char *const jobs[] = {"api", "db", ""};
    char host[16], big[16];
    struct label v[6];
    struct labels ls = {v, 0};

    snprintf(host, sizeof host, "h%u", n);
    snprintf(big, sizeof big, "%u", n % 7);
    if (n % 5 == 0)
        v[ls.n++] = (struct label){STR("A"), STR(big)}; /* before the name */
    v[ls.n++] = (struct label){STR(LABEL_NAME), STR(n % 2 ? "m_total" : "g")};
    if (w->typed && n % 11 == 3)
        v[ls.n++] = (struct label){STR("__type__"), STR("gauge")};
    if (n % 4)
        v[ls.n++] = (struct label){STR("code"), STR(n % 3 ? "200" : "500")};
    v[ls.n++] = (struct label){STR("host"), STR(host)};
    if (n % 3 < 2)
        v[ls.n++] = (struct label){STR("job"), STR(jobs[n % 3])};
    assert_ok(storage_group_column(w->g[n % 3], &ls, col, NULL, &err), &err);
}

static void append(struct world *w, unsigned n_series)
{
    w->now += STEP;
    for (unsigned n = 0; n < n_series; n++) {
        uint32_t col;
        double v;

        if (below(w, 20) == 0)
            continue;
        w->v[n] = n % 2 ? w->v[n] + below(w, 9) : (double)below(w, 1000) / 8;
        v = below(w, 50) ? w->v[n] : num_from_bits(NUM_STALE_BITS);
        column_of(w, n, &col);
        assert_ok(storage_group_append(w->g[n % 3], w->now + n % 3, &col, &v, 1, NULL, &err), &err);
    }
}

static nx_status open_plain(void *ctx, int64_t mint, int64_t maxt, struct querier **out,
                            struct nx_err *e)
{
    static struct querier_ops plain;
    struct world *w = ctx;
    nx_status st = w->source.open(w->source.ctx, mint, maxt, out, e);

    if (!st) {
        plain = *(*out)->ops;
        plain.select_for = NULL;
        (*out)->ops = &plain;
    }
    return st;
}

static struct world *open_world(void)
{
    static struct world w;
    const struct pql_engine_opts o = {.helpers = UINT32_MAX};

    w = (struct world){.sim = simfs_new(1), .now = T0, .r = {7}};
    const struct storage_opts so = {.fs = simfs_fs(w.sim), .dir = "data", .no_worker = true};
    assert_ok(storage_open(&w.s, &so, &err), &err);
    for (size_t i = 0; i < NX_COUNT(w.g); i++)
        assert_ok(storage_group_open(w.s, &w.g[i], &err), &err);
    assert_ok(pql_engine_new(&w.engine, &o, &err), &err);
    w.source = pql_source_storage(w.s);
    return &w;
}

static void close_world(struct world *w)
{
    pql_engine_free(w->engine);
    for (size_t i = 0; i < NX_COUNT(w->g); i++)
        storage_group_close(w->g[i]);
    storage_close(w->s);
    simfs_free(w->sim);
}

#define ONE_OF(w, ...)                                                                             \
    ((const char *const[]){                                                                        \
        __VA_ARGS__})[below(w, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))]

static void aggregation(struct world *w, struct buf *b)
{
    const char *op = ONE_OF(w, "sum", "avg", "count", "min", "max", "group", "stddev", "quantile",
                            "count_values", "topk", "sum", "sum");
    const char *by =
        ONE_OF(w, "", " by (job)", " by (code, job)", " by (host)", " by (none)", " without (host)",
               " by (__name__)", " by (A, __type__, job)", " by (a, b, c, d, e, job)", " by ()");
    const char *call = ONE_OF(w, "rate(", "", "", "max_over_time(", "count_over_time(",
                              "last_over_time(", "quantile_over_time(0.5, ", "delta(");

    const char *sel = ONE_OF(w, "m_total", "g", "m_total{code=\"500\"}", "g{job=~\"a.*|\"}",
                             "{__name__=~\"g|m_total\",host=~\"h1.*\"}", "{__name__=\"g\"}");
    const char *range = ONE_OF(w, "[1m])", "[2m])", "[1m] offset 1m)");
    const char *param = strcmp(op, "quantile") == 0       ? "0.9, "
                        : strcmp(op, "count_values") == 0 ? "\"v\", "
                        : strcmp(op, "topk") == 0         ? "2, "
                                                          : "";

    buf_printf(b, "%s%s(%s%s%s%s)", op, by, param, call, sel, *call ? range : "");
}

static void run_both(struct world *w, const char *text, bool instant)
{
    const struct pql_source plain = {open_plain, w};
    struct pql_query q = {.text = STR(text),
                          .instant = instant,
                          .start_ms = instant ? w->now : w->now - 10 * STEP,
                          .end_ms = w->now,
                          .step_ms = 2 * STEP,
                          .source = &w->source};
    struct pql_result *a = NULL, *b = NULL;
    struct nx_err err_a, err_b;
    nx_status st_a = pql_exec(w->engine, &q, &a, &err_a), st_b;

    q.source = &plain;
    st_b = pql_exec(w->engine, &q, &b, &err_b);
    if (st_a != st_b || (st_a && strcmp(err_a.text, err_b.text) != 0))
        fail_msg("%s: \"%s\", with all labels \"%s\"", text, st_a ? err_a.text : "",
                 st_b ? err_b.text : "");
    if (!st_a)
        same_results(a, b, text);
    pql_result_free(a);
    pql_result_free(b);
}

static unsigned rounds(void)
{
    const char *text = getenv("NX_ROUNDS");

    return text ? (unsigned)strtoul(text, NULL, 10) : 40;
}

static void what_is_not_asked_for_changes_nothing(void **state)
{
    struct world *w = open_world();
    struct buf b;

    (void)state;
    if (getenv("NX_SEED"))
        w->r.state = strtoul(getenv("NX_SEED"), NULL, 10);
    buf_init(&b, 0);
    for (unsigned i = 0; i < rounds(); i++) {
        w->typed = i > 20; /* two series of one name that differ in what goes with it */
        append(w, 20 + (i < 40 ? i : 40));
        for (unsigned k = 0; k < 30; k++) {
            buf_clear(&b);
            aggregation(w, &b);
            if (below(w, 4) == 0) {
                buf_str(&b, ONE_OF(w, " / on() group_left ", " / ", " or "));
                aggregation(w, &b);
            }
            for (int again = 0; again < 3; again++) /* selections are kept from then on */
                run_both(w, buf_cstr(&b), again != 1);
        }
    }
    buf_done(&b);
    close_world(w);
}

/* Series as many and in the same order; where they lie in one source, only the labels of the names. */
static void a_store_leaves_out_other_labels(void **state)
{
    static const struct nx_slice names[] = {{LABEL_NAME, 8}, {"job", 3}, {"nobody", 6}};
    const struct label_names only = {names, NX_COUNT(names)};
    const struct matcher m = {.type = MATCH_EQ, .name = {LABEL_NAME, 8}, .value = {"m_total", 7}};
    struct world *w = open_world();
    struct arena *a = arena_new(0);
    struct series_list all = {0}, some = {0};
    struct querier *q;
    unsigned shared = 0;

    (void)state;
    for (int i = 0; i < 5; i++)
        append(w, SERIES);
    for (int i = 0; i < 3; i++) { /* kept from the second time on */
        assert_ok(storage_querier(w->s, T0, w->now, &q, &err), &err);
        assert_ok(q->ops->select(q, &m, 1, T0, w->now, a, &all, &err), &err);
        assert_ok(q->ops->select_for(q, &m, 1, T0, w->now, &only, a, &some, &err), &err);
        assert_int_equal(all.n, SERIES / 2);
        assert_int_equal(some.n, all.n);
        for (size_t k = 0; k < all.n; k++) {
            assert_true(some.v[k].ref == all.v[k].ref);
            for (size_t l = 0; l < only.n; l++)
                assert_true(nx_slice_eq(labels_get(&some.v[k].labels, names[l]),
                                        labels_get(&all.v[k].labels, names[l])));
            assert_true(i == 0 || some.v[k].labels.n <= 2);
            shared += k && some.v[k].labels.v == some.v[k - 1].labels.v;
        }
        querier_close(q);
    }
    assert_true(shared > 0);
    arena_free(a);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_asked_for_changes_nothing),
        cmocka_unit_test(a_store_leaves_out_other_labels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
