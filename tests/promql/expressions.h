/* expressions.h - random data and random well-typed expressions over it. The seed says all. For one test program to
 * include. */
#pragma once

#include <math.h>

#include "promql/teststore.h"
#include "src/base/num.h"
#include "tests/promql/picks.h"
#include "tests/support/test.h"

struct gen {
    struct test_random r;
    struct buf b;
    unsigned left; /* nodes that may still be written */
    bool picking;  /* below a topk: which of equal values it takes depends on their order */
    bool
        no_or; /* with late names its two sides may be alike for a while, and only ranges join them */
};

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
