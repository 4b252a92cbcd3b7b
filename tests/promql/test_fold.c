/* test_fold.c - constants that become numbers before evaluation: which do, and that nobody can tell. */
#include "tests/support/test.h"

#include <math.h>

#include "promql/eval.h"
#include "promql/teststore.h"
#include "tests/promql/picks.h"
#include "tests/promql/same.h"

static const struct pql_features everything = {
    .experimental_functions = true, .binop_fill = true, .extended_range = true};

/* ---- which ------------------------------------------------------------------------------------------ */

static void folds_to(const char *text, const char *want)
{
    struct arena *a = arena_new(0);
    struct eval ev = {.work = a,
                      .out = a,
                      .deadline_ns = INT64_MAX,
                      .max_samples = 1000,
                      .q_start_ms = 60000,
                      .q_end_ms = 180000,
                      .q_step_ms = 30000};
    const struct eval_times tm = {60000, 30000, 180000, 5, NULL};
    const struct pql_expr *e = NULL, *folded = NULL;
    struct nx_err err;
    struct buf b, before;

    ev.annots.a = a;
    buf_init(&b, 0);
    buf_init(&before, 0);
    assert_ok(pql_parse(a, STR(text), &everything, &e, &err), &err);
    pql_print(&before, e);
    assert_ok(fold_constants(&ev, e, &tm, &folded, &err), &err);
    pql_print(&b, folded);
    assert_buf(&b, want, text);
    buf_clear(&b);
    pql_print(&b, e); /* which is as it was */
    assert_buf(&b, buf_cstr(&before), text);
    if (strcmp(want, buf_cstr(&before)) == 0)
        assert_ptr_equal(folded, e); /* nothing is copied for nothing */
    assert_int_equal(folded->pos.start, e->pos.start);
    assert_int_equal(folded->pos.end, e->pos.end);
    pql_expr_done(e);
    buf_done(&before);
    buf_done(&b);
    arena_free(a);
}

static void constant_scalars_become_numbers(void **state)
{
    (void)state;
    folds_to("1 + 2 * 3", "7");
    folds_to("-(2 ^ 3)", "-8");
    folds_to("x * (60 * 60)", "x * (3600)");
    folds_to("x / 1024 / 1024", "x / 1024 / 1024"); /* each quotient is rounded */
    folds_to("2 > bool 1", "1");
    folds_to("pi() * 0", "0");
    folds_to("max_of(3, min_of(4, 5))", "4");
    folds_to("start() + end()", "240");
    folds_to("range() / step()", "4");
    folds_to("scalar(vector(1 + 1)) * 2", "4");
    folds_to("sum(rate(x[5m])) * (1 - 0.5)", "sum(rate(x[5m])) * (0.5)");
    folds_to("topk(2 + 3, x)", "topk(5, x)");
    folds_to("histogram_quantile(90 / 100, x)", "histogram_quantile(0.9, x)");
    folds_to("max_over_time((x * (2 + 2))[5m:1m])", "max_over_time((x * (4))[5m:1m])");
    folds_to("quantile_over_time((1) / (2), x[5m])", "quantile_over_time(0.5, x[5m])");
    folds_to("label_replace(x * (1 + 1), 'a', 'b', 'c', 'd')",
             "label_replace(x * (2), \"a\", \"b\", \"c\", \"d\")");
}

static void what_may_change_stays(void **state)
{
    (void)state;
    folds_to("time() - 60", "time() - 60");
    folds_to("scalar(x) + 1", "scalar(x) + 1");
    folds_to("vector(1) + 1", "vector(1) + 1");
    folds_to("scalar(vector(time()))", "scalar(vector(time()))");
    folds_to("scalar(vector(1) + vector(1))", "scalar(vector(1) + vector(1))");
    folds_to("1 </ 2", "1 </ 2"); /* fails when it is evaluated */
    folds_to("hour() + 1", "hour() + 1");
    folds_to("x[5m] @ 60", "x[5m] @ 60.000");
    folds_to("'a'", "\"a\"");
}

/* ---- nobody can tell ----------------------------------------------------------------------------------- */

struct gen {
    struct test_random r;
    struct buf b;
};

static void vector(struct gen *g, unsigned depth);

static void scalar(struct gen *g, unsigned depth)
{
    if (!depth || below(g, 5) == 0) {
        buf_str(&g->b,
                ONE_OF(g, "0", "-0", "1", "3", "0.1", "1e308", "5e-324", "NaN", "Inf", "-Inf",
                       "-1.5", "1e-7", "pi()", "time()", "step()", "range()", "start()", "end()"));
        return;
    }
    switch (below(g, 6)) {
    case 0:
        buf_str(&g->b, "-(");
        scalar(g, depth - 1);
        break;
    case 1:
        buf_printf(&g->b, "%s(", ONE_OF(g, "max_of", "min_of"));
        scalar(g, depth - 1);
        buf_char(&g->b, ',');
        scalar(g, depth - 1);
        break;
    case 2:
        buf_str(&g->b, "scalar(");
        vector(g, depth - 1);
        break;
    default:
        buf_char(&g->b, '(');
        scalar(g, depth - 1);
        buf_printf(&g->b, " %s ",
                   ONE_OF(g, "+", "-", "*", "/", "%", "^", "atan2", "== bool", "!= bool", "> bool",
                          "<= bool", "+", "/", below(g, 20) ? "*" : "</"));
        scalar(g, depth - 1);
    }
    buf_char(&g->b, ')');
}

static void vector(struct gen *g, unsigned depth)
{
    if (!depth) {
        buf_str(&g->b, ONE_OF(g, "m", "n", "vector(1)", "m @ 100"));
        return;
    }
    switch (below(g, 7)) {
    case 0:
        buf_str(&g->b, "vector(");
        scalar(g, depth - 1);
        break;
    case 1:
        buf_printf(&g->b, "%s(", ONE_OF(g, "topk", "quantile", "bottomk", "limitk"));
        scalar(g, depth - 1);
        buf_char(&g->b, ',');
        vector(g, depth - 1);
        break;
    case 2:
        buf_printf(&g->b, "%s(", ONE_OF(g, "clamp_max", "clamp_min", "round"));
        vector(g, depth - 1);
        buf_char(&g->b, ',');
        scalar(g, depth - 1);
        break;
    case 3:
        buf_str(&g->b, "quantile_over_time(");
        scalar(g, depth - 1);
        buf_str(&g->b, ", (");
        vector(g, depth - 1);
        buf_str(&g->b, ")[2m:30s]");
        break;
    default:
        buf_char(&g->b, '(');
        vector(g, depth - 1);
        buf_printf(&g->b, " %s ", ONE_OF(g, "+", "-", "*", "/", "^", "%", ">", "<= bool"));
        scalar(g, depth - 1);
    }
    buf_char(&g->b, ')');
}

static struct teststore *filled(void)
{
    struct teststore *s = teststore_new();
    struct nx_err err;

    assert_non_null(s);
    for (int i = 0; i < 6; i++)
        for (int64_t t = 0; t <= 600000; t += 15000) {
            struct label l[2] = {{STR("__name__"), STR(i < 3 ? "m" : "n")},
                                 {STR("i"), STR(i % 3 == 0   ? "0"
                                                : i % 3 == 1 ? "1"
                                                             : "2")}};

            assert_ok(
                teststore_add(s, &(struct labels){l, 2}, t, (double)(t % 7000) / (i + 3), &err),
                &err);
        }
    return s;
}

/* NaNs too, which same_results() does not look at so closely. */
static void same_bits(const struct pql_result *a, const struct pql_result *b, const char *about)
{
    bool same = memcmp(&a->scalar, &b->scalar, sizeof a->scalar) == 0;

    for (size_t i = 0; i < a->n_series; i++)
        same &= memcmp(a->series[i].v, b->series[i].v, a->series[i].n * sizeof(double)) == 0;
    if (!same)
        fail_msg("%s: another answer without folding", about);
}

static void answers_are_the_same_to_the_bit(void **state)
{
    struct gen g = {.r = {2}};
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e[2] = {0};
    unsigned failed = 0, points = 0;
    struct nx_err err[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pql_engine_opts o = {
            .features = everything, .per_step_stats = true, .no_folding = i == 1};
        assert_ok(pql_engine_new(&e[i], &o, &err[0]), &err[0]);
    }
    buf_init(&g.b, 0);
    for (int round = 0; round < 1500; round++) {
        struct pql_query q = {.start_ms = 90000 + below(&g, 5) * 15000,
                              .step_ms = 30000,
                              .instant = below(&g, 3) == 0,
                              .per_step_stats = true,
                              .source = &source};
        struct pql_result *r[2] = {0};
        nx_status st[2];

        q.end_ms = q.start_ms + below(&g, 4) * 30000;
        buf_clear(&g.b);
        if (below(&g, 2))
            scalar(&g, 1 + below(&g, 5));
        else
            vector(&g, 1 + below(&g, 5));
        q.text = buf_view(&g.b);
        for (int i = 0; i < 2; i++)
            st[i] = pql_exec(e[i], &q, &r[i], &err[i]);
        if (same_status(st[0], &err[0], st[1], &err[1], buf_cstr(&g.b))) {
            same_results(r[0], r[1], buf_cstr(&g.b));
            same_steps(r[0], r[1], buf_cstr(&g.b));
            same_bits(r[0], r[1], buf_cstr(&g.b));
            points += (unsigned)(r[0]->n_series + 1);
        }
        failed += st[0] != NX_OK;
        pql_result_free(r[0]);
        pql_result_free(r[1]);
    }
    assert_true(failed < 500 && points > 2000);
    buf_done(&g.b);
    pql_engine_free(e[0]);
    pql_engine_free(e[1]);
    teststore_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_scalars_become_numbers),
        cmocka_unit_test(what_may_change_stays),
        cmocka_unit_test(answers_are_the_same_to_the_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
