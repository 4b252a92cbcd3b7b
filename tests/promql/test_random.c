/* test_random.c - a range query is its instants: random well-typed expressions over random data, each
 * evaluated over a range and at each of its steps; and once more with series cut into pieces of a few samples.
 * So are its samples: a step counts in total what it takes alone. The seed says all; NX_SEED sets another, NX_ROUNDS
 * how many expressions. */
#include "tests/support/test.h"

#include <math.h>

#include "promql/teststore.h"
#include "src/base/num.h"
#include "tests/promql/same.h"

#define STEPS 9

struct gen {
    struct test_random r;
    struct buf b;
    unsigned left; /* nodes that may still be written */
    bool picking;  /* below a topk: which of equal values it takes depends on their order */
    bool
        no_or; /* with late names its two sides may be alike for a while, and only ranges join them */
};

static unsigned below(struct gen *g, unsigned n)
{
    return (unsigned)test_random_below(&g->r, n);
}

static const char *one_of(struct gen *g, const char *const *of, unsigned n)
{
    return of[below(g, n)];
}
#define ONE_OF(g, ...)                                                                             \
    one_of(g, (const char *const[]){__VA_ARGS__},                                                  \
           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* ---- data ----------------------------------------------------------------------------------------- */

static double random_value(struct gen *g, int kind, double last)
{
    switch (kind) {
    case 0: /* a counter that starts anew now and then */
        return below(g, 25) == 0 ? below(g, 5) : last + below(g, 50);
    case 1:
        return (double)below(g, 20000) / 100 - 100;
    case 2: /* few values */
        return below(g, 4);
    default:
        switch (below(g, 8)) {
        case 0:
            return (double)NAN;
        case 1:
            return INFINITY;
        case 2:
            return -0.0;
        default:
            return (double)(int64_t)test_random(&g->r) / 1e12;
        }
    }
}

static void fill(struct gen *g, struct teststore *s)
{
    static const char *const names[] = {"a_total", "b", "c", "d"};
    struct nx_err err;

    for (unsigned i = 0; i < 4 * 6; i++) {
        char k[8];
        struct label l[4] = {{STR("__name__"), STR(names[i % 4])},
                             {STR("k"), {k, 1}},
                             {STR("le"), STR(i / 4 % 3 == 0   ? "1"
                                             : i / 4 % 3 == 1 ? "5"
                                                              : "+Inf")},
                             {STR("x"), STR(i / 12 ? "p" : "q")}};
        struct labels ls = {l, 4};
        double v = 0;

        snprintf(k, sizeof k, "%u", i / 4 % 3);
        for (int64_t t = -300000; t < 900000; t += 10000 + below(g, 10000)) {
            if (below(g, 12) == 0)
                t += 100000; /* a gap, often after a stale marker */
            v = random_value(g, (int)(i % 4), v);
            assert_ok(
                teststore_add(s, &ls, t, below(g, 15) ? v : num_from_bits(NUM_STALE_BITS), &err),
                &err);
        }
    }
}

/* ---- expressions ------------------------------------------------------------------------------------ */

static void vector(struct gen *g, unsigned depth);

static void number(struct gen *g)
{
    buf_str(&g->b, ONE_OF(g, "0", "1", "2", "0.5", "3", "-1", "100", "NaN", "Inf"));
}

static void scalar(struct gen *g, unsigned depth)
{
    if (depth == 0 || below(g, 2)) {
        number(g);
        return;
    }
    switch (below(g, 4)) {
    case 0:
        buf_str(&g->b, "(time() / 60)");
        return;
    case 1:
        buf_str(&g->b, "scalar(");
        vector(g, depth - 1);
        buf_str(&g->b, ")");
        return;
    case 2:
        buf_str(&g->b, "(");
        scalar(g, depth - 1);
        buf_printf(&g->b, " %s ", ONE_OF(g, "+", "-", "*", "/", "%", "^", "== bool", "< bool"));
        scalar(g, depth - 1);
        buf_str(&g->b, ")");
        return;
    default:
        buf_str(&g->b, "-(");
        scalar(g, depth - 1);
        buf_str(&g->b, ")");
    }
}

static void shift(struct gen *g)
{
    if (below(g, 6) == 0)
        buf_printf(&g->b, " offset %s", ONE_OF(g, "1m", "37s", "-1m", "5m"));
    if (below(g, 10) == 0)
        buf_printf(&g->b, " @ %s", ONE_OF(g, "100", "333.333", "-20", "600"));
}

static void selector(struct gen *g)
{
    buf_str(&g->b, ONE_OF(g, "a_total", "b", "c", "d", "a_total{k=\"1\"}", "b{x=\"p\"}",
                          "c{k=~\"1|2\"}", "d{x!=\"p\"}", "{k=\"2\", x=\"q\"}", "nosuch"));
}

static void range(struct gen *g, unsigned depth)
{
    if (depth == 0 || below(g, 3)) {
        selector(g);
        buf_printf(&g->b, "[%s]", ONE_OF(g, "1m", "5m", "20s", "3m", "61s", "10m"));
    } else {
        buf_str(&g->b, "(");
        vector(g, depth - 1);
        buf_printf(&g->b, ")[%s:%s]", ONE_OF(g, "1m", "5m", "100s"),
                   ONE_OF(g, "10s", "1m", "37s", ""));
    }
    shift(g);
}

static void range_call(struct gen *g, unsigned depth)
{
    switch (below(g, 8)) {
    case 0:
        buf_str(&g->b, "quantile_over_time(");
        scalar(g, depth / 2);
        buf_str(&g->b, ", ");
        range(g, depth);
        break;
    case 1:
        buf_str(&g->b, "predict_linear(");
        range(g, depth);
        buf_str(&g->b, ", ");
        scalar(g, depth / 2);
        break;
    default:
        buf_printf(&g->b, "%s(",
                   ONE_OF(g, "rate", "increase", "delta", "irate", "idelta", "resets", "changes",
                          "deriv", "avg_over_time", "sum_over_time", "min_over_time",
                          "max_over_time", "count_over_time", "last_over_time", "first_over_time",
                          "present_over_time", "stddev_over_time", "stdvar_over_time",
                          "mad_over_time", "ts_of_max_over_time", "ts_of_min_over_time",
                          "ts_of_first_over_time", "ts_of_last_over_time", "absent_over_time"));
        range(g, depth);
    }
    buf_str(&g->b, ")");
}

static void grouping(struct gen *g)
{
    buf_printf(&g->b, " %s ",
               ONE_OF(g, "", "by (k)", "by (x, k)", "without (k)", "by (__name__)", "without ()"));
}

static void aggregation(struct gen *g, unsigned depth)
{
    bool outer = g->picking;

    if (below(g, 3) || outer) {
        buf_str(&g->b, ONE_OF(g, "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"));
        grouping(g);
        buf_str(&g->b, "(");
    } else if (below(g, 6)) {
        buf_str(&g->b, ONE_OF(g, "topk", "bottomk", "quantile", "limit_ratio"));
        grouping(g);
        buf_str(&g->b, "(");
        /* One that varies is not looked at over what is pinned by @: there the first counts. */
        g->picking = true;
        number(g);
        buf_str(&g->b, ", ");
    } else {
        buf_str(&g->b, "count_values");
        grouping(g);
        buf_str(&g->b, "(\"v\", ");
    }
    vector(g, depth - 1);
    g->picking = outer;
    buf_str(&g->b, ")");
}

static void operand(struct gen *g, bool is_scalar, unsigned depth)
{
    if (is_scalar)
        scalar(g, depth);
    else
        vector(g, depth);
}

static void binary(struct gen *g, unsigned depth)
{
    bool left_scalar = below(g, 4) == 0, right_scalar = !left_scalar && below(g, 3) == 0;
    bool vectors = !left_scalar && !right_scalar;

    buf_str(&g->b, "(");
    operand(g, left_scalar, depth - 1);
    if (vectors && below(g, 3) == 0) {
        if (!g->no_or && below(g, 3) == 0)
            buf_printf(&g->b, " %s ", ONE_OF(g, "or", "or on (x)"));
        else
            buf_printf(&g->b, " %s ",
                       ONE_OF(g, "and", "unless", "and on (k)", "unless ignoring (k)"));
    } else {
        buf_printf(&g->b, " %s ",
                   ONE_OF(g, "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<=", "> bool",
                          "!= bool"));
        if (vectors && below(g, 2))
            buf_printf(&g->b, "%s ",
                       ONE_OF(g, "on (k, x)", "ignoring (le)", "on (k) group_left ()",
                              "on (k, x) group_right (le)", "on (k) fill (0)", "fill_left (1)",
                              "ignoring (x) group_left (x)"));
    }
    operand(g, right_scalar, depth - 1);
    buf_str(&g->b, ")");
}

static void call(struct gen *g, unsigned depth)
{
    switch (below(g, 9)) {
    case 0:
        buf_str(&g->b, "clamp(");
        vector(g, depth - 1);
        buf_str(&g->b, ", ");
        scalar(g, depth / 2);
        buf_str(&g->b, ", ");
        scalar(g, depth / 2);
        break;
    case 1:
        buf_str(&g->b, "histogram_quantile(");
        scalar(g, depth / 2);
        buf_str(&g->b, ", ");
        vector(g, depth - 1);
        break;
    case 2:
        buf_str(&g->b, "label_replace(");
        vector(g, depth - 1);
        buf_str(&g->b, ONE_OF(g, ", \"n\", \"$1\", \"k\", \"(.*)\"", ", \"k\", \"z\", \"x\", \"p\"",
                              ", \"x\", \"\", \"\", \"\""));
        break;
    case 3:
        buf_str(&g->b, "label_join(");
        vector(g, depth - 1);
        buf_str(&g->b, ", \"j\", \"-\", \"k\", \"x\"");
        break;
    case 4:
        buf_str(&g->b, "vector(");
        scalar(g, depth - 1);
        break;
    case 5:
        buf_printf(&g->b, "%s(", ONE_OF(g, "timestamp", "absent", "day_of_week", "hour"));
        vector(g, depth - 1);
        break;
    default:
        buf_printf(
            &g->b, "%s(",
            ONE_OF(g, "abs", "ceil", "floor", "exp", "ln", "sqrt", "sgn", "round", "sin", "-"));
        vector(g, depth - 1);
    }
    buf_str(&g->b, ")");
}

static void vector(struct gen *g, unsigned depth)
{
    if (depth == 0 || g->left == 0) {
        selector(g);
        shift(g);
        return;
    }
    g->left--;
    switch (below(g, 6)) {
    case 0:
        selector(g);
        shift(g);
        break;
    case 1:
    case 2:
        range_call(g, depth - 1);
        break;
    case 3:
        aggregation(g, depth);
        break;
    case 4:
        binary(g, depth);
        break;
    default:
        call(g, depth);
    }
}

/* ---- comparing --------------------------------------------------------------------------------------- */

static bool close_to(double a, double b)
{
    if ((isnan(a) && isnan(b)) || a == b)
        return true;
    return fabs(a - b) <= 1e-11 * (fabs(a) + fabs(b));
}

/* The point of a range result at time t for these labels; NULL if there is none. */
static const double *point(const struct pql_result *r, const struct labels *ls, int64_t t)
{
    for (size_t i = 0; i < r->n_series; i++) {
        if (!labels_eq(&r->series[i].labels, ls))
            continue;
        for (size_t k = 0; k < r->series[i].n; k++)
            if (r->series[i].t[k] == t)
                return &r->series[i].v[k];
    }
    return NULL;
}

static size_t points_at(const struct pql_result *r, int64_t t)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_series; i++)
        for (size_t k = 0; k < r->series[i].n; k++)
            n += r->series[i].t[k] == t;
    return n;
}

struct tally {
    unsigned compared, failed, points;
};

static uint64_t sum_of(const uint64_t *v, size_t n)
{
    uint64_t sum = 0;

    for (size_t k = 0; k < n; k++)
        sum += v[k];
    return sum;
}

static void samples_add_up(const char *text, const struct pql_result *r)
{
    const size_t n = r->stats.by_step.n;

    if (n != STEPS || sum_of(r->stats.by_step.total, n) != r->stats.samples_total ||
        sum_of(r->stats.by_step.read, n) != r->stats.samples_read)
        fail_msg("%s: samples of %zu steps do not add up", text, n);
}

static void compare(struct pql_engine *e, struct pql_engine *in_pieces,
                    const struct pql_source *source, const char *text, struct tally *tally)
{
    struct pql_query q = {.text = STR(text),
                          .start_ms = 0,
                          .end_ms = (STEPS - 1) * 61000,
                          .step_ms = 61000,
                          .per_step_stats = true,
                          .source = source};
    struct pql_result *range_result = NULL, *r = NULL;
    struct nx_err err;
    nx_status st = pql_exec(e, &q, &range_result, &err);

    if (st) {
        if (st != NX_EXEC)
            fail_msg("%s: %s: %s", text, nx_status_text(st), err.text);
        tally->failed++;
        return;
    }
    samples_add_up(text, range_result);
    for (int64_t t = 0, k = 0; t <= q.end_ms; t += q.step_ms, k++) {
        struct pql_query one = q;

        one.instant = true;
        one.start_ms = t;
        if (pql_exec(e, &one, &r, &err))
            fail_msg("%s at %lld: %s, but the range went well", text, (long long)t, err.text);
        if (r->stats.samples_total != range_result->stats.by_step.total[k])
            fail_msg("%s at %lld: %llu samples, but %llu in the range", text, (long long)t,
                     (unsigned long long)r->stats.samples_total,
                     (unsigned long long)range_result->stats.by_step.total[k]);
        if (r->n_series != points_at(range_result, t))
            fail_msg("%s at %lld: %zu series, but %zu in the range", text, (long long)t,
                     r->n_series, points_at(range_result, t));
        for (size_t i = 0; i < r->n_series; i++) {
            const double *v = point(range_result, &r->series[i].labels, t);

            if (!v || !close_to(*v, r->series[i].v[0]))
                fail_msg("%s at %lld: series %zu is %.17g, but %.17g in the range", text,
                         (long long)t, i, r->series[i].v[0], v ? *v : (double)NAN);
            tally->points++;
        }
        pql_result_free(r);
    }
    tally->compared++;
    pql_result_free(range_result);
    same_on_both(e, in_pieces, &q);
    q.step_ms = 7001;
    same_on_both(e, in_pieces, &q);
}

static void run_rounds(uint64_t seed, unsigned rounds, bool delayed)
{
    struct gen g = {.r = {seed}, .no_or = delayed};
    struct teststore *s = teststore_new();
    struct pql_source source = teststore_source(s);
    struct pql_engine_opts opts = {.per_step_stats = true,
                                   .features = {.experimental_functions = true,
                                                .binop_fill = true,
                                                .delayed_name_removal = delayed}};
    struct pql_engine *e = NULL, *in_pieces = NULL;
    struct tally tally = {0};
    struct nx_err err;

    assert_non_null(s);
    assert_ok(pql_engine_new(&e, &opts, &err), &err);
    opts.column_samples = 5;
    assert_ok(pql_engine_new(&in_pieces, &opts, &err), &err);
    buf_init(&g.b, 0);
    fill(&g, s);
    for (unsigned i = 0; i < rounds; i++) {
        buf_clear(&g.b);
        g.left = 8;
        vector(&g, 1 + below(&g, 4));
        compare(e, in_pieces, &source, buf_cstr(&g.b), &tally);
    }
    printf("seed %" PRIu64 ": %u compared at %u points, %u with an error\n", seed, tally.compared,
           tally.points, tally.failed);
    assert_true(tally.compared > rounds / 3);
    buf_done(&g.b);
    pql_engine_free(e);
    pql_engine_free(in_pieces);
    teststore_free(s);
}

static unsigned long setting(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void a_range_query_is_its_instants(void **state)
{
    (void)state;
    run_rounds(setting("NX_SEED", 1), (unsigned)setting("NX_ROUNDS", 1500), false);
}

static void a_range_query_is_its_instants_with_names_that_go_late(void **state)
{
    (void)state;
    run_rounds(setting("NX_SEED", 2), (unsigned)setting("NX_ROUNDS", 800), true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_query_is_its_instants),
        cmocka_unit_test(a_range_query_is_its_instants_with_names_that_go_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
