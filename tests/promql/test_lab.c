/* What unit tests of rules and the editing of expressions stand on. */
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

#include "promql/promql.h"
#include "src/base/num.h"

static double ask(struct pql_lab *l, const char *text, int64_t t_ms, size_t *n)
{
    const struct pql_query q = {
        .text = nx_slice_str(text), .instant = true, .start_ms = t_ms, .source = pql_lab_source(l)};
    struct pql_result *r = NULL;
    struct nx_err err;
    double v;

    assert_ok(pql_exec(pql_lab_engine(l), &q, &r, &err), &err);
    *n = r->n_series;
    v = r->n_series ? r->series[0].v[0] : -1;
    pql_result_free(r);
    return v;
}

static enum pql_lab_taken add(struct pql_lab *l, const struct labels *ls, int64_t t_ms, double v)
{
    enum pql_lab_taken taken;
    struct nx_err err;

    assert_ok(pql_lab_add(l, ls, t_ms, v, &taken, &err), &err);
    return taken;
}

static void samples_come_as_time_reaches_them(void **state)
{
    struct pql_lab *l;
    struct nx_err err;
    size_t n;

    (void)state;
    assert_ok(pql_lab_new(&l, &(struct pql_engine_opts){0}, &err), &err);
    assert_ok(pql_lab_series(l, LIT("a{b=\"c\"}"), LIT("1 2 _ 4"), 5000, 10000, &err), &err);
    assert_int_equal(pql_lab_series(l, LIT("a{"), LIT("1"), 0, 10000, &err), NX_BADINPUT);
    assert_int_equal(pql_lab_series(l, LIT("b"), LIT("1 x"), 0, 10000, &err), NX_BADINPUT);
    assert_int_equal(pql_lab_series(l, LIT("{}"), LIT("1"), 0, 10000, &err), NX_BADINPUT);
    assert_true(ask(l, "a", 60000, &n) == -1);
    assert_ok(pql_lab_advance(l, 15000, &err), &err);
    assert_true(ask(l, "a", 60000, &n) == 2);
    assert_true(ask(l, "a offset -30s", 10000, &n) == 2); /* what comes later is not there */
    assert_true(ask(l, "a", 14999, &n) == 1);
    assert_ok(pql_lab_advance(l, 1000000, &err), &err);
    assert_true(ask(l, "a", 60000, &n) == 4);
    assert_int_equal(n, 1);
    pql_lab_free(l);
}

static void the_last_of_two_lines_counts_and_samples_can_be_added(void **state)
{
    const struct label v[] = {{{"__name__", 8}, {"a", 1}}}, w[] = {{{"__name__", 8}, {"b", 1}}};
    const struct labels a = {v, 1}, other = {w, 1};
    struct pql_lab *l;
    struct nx_err err;
    size_t n;

    (void)state;
    assert_ok(pql_lab_new(&l, &(struct pql_engine_opts){0}, &err), &err);
    assert_ok(pql_lab_series(l, LIT("a"), LIT("1x9"), 0, 1000, &err), &err);
    assert_ok(pql_lab_series(l, LIT("a"), LIT("7"), 0, 1000, &err), &err);
    assert_ok(pql_lab_series(l, LIT("h"), LIT("{{sum:1 count:1}}"), 0, 1000, &err), &err);
    assert_ok(pql_lab_advance(l, 60000, &err), &err);
    assert_true(ask(l, "count_over_time(a[1m])", 30000, &n) == 1);
    assert_int_equal(add(l, &a, 2000, 8), PQL_LAB_ADDED);
    assert_int_equal(add(l, &a, 2000, 8), PQL_LAB_ADDED);
    assert_int_equal(add(l, &a, 2000, 9), PQL_LAB_DUPLICATE);
    assert_int_equal(add(l, &a, 1999, 8), PQL_LAB_LATE);
    assert_true(ask(l, "a", 30000, &n) == 8);
    assert_true(ask(l, "count_over_time(a[1m])", 30000, &n) == 2);
    assert_int_equal(add(l, &other, 1, NAN), PQL_LAB_ADDED); /* each series for itself */
    assert_int_equal(add(l, &other, 1, NAN), PQL_LAB_ADDED);
    assert_int_equal(add(l, &other, 1, num_from_bits(NUM_STALE_BITS)), PQL_LAB_DUPLICATE);
    assert_false(pql_lab_met_histograms(l));
    ask(l, "h", 1000, &n);
    assert_true(pql_lab_met_histograms(l));
    assert_false(pql_lab_met_histograms(l));
    pql_lab_free(l);
}

static void labels_of_a_metric(void **state)
{
    struct arena *a = arena_new(0);
    struct labels ls;
    struct nx_err err;

    (void)state;
    assert_ok(pql_parse_metric(a, LIT("m{b=\"1\", a=\"2\"}"), &ls, &err), &err);
    assert_int_equal(ls.n, 3);
    assert_true(nx_slice_is(labels_get_str(&ls, "a"), "2"));
    assert_ok(pql_parse_metric(a, LIT("{}"), &ls, &err), &err);
    assert_int_equal(ls.n, 0);
    assert_int_equal(pql_parse_metric(a, LIT("m{"), &ls, &err), NX_BADINPUT);
    assert_int_equal(pql_parse_metric(a, LIT("m 1"), &ls, &err), NX_BADINPUT);
    arena_free(a);
}

static void matchers_are_set_and_deleted_everywhere(void **state)
{
    static const struct {
        const char *text, *set, *deleted;
    } cases[] = {
        {"a", "a{x=~\"(\"}", "a"},
        {"sum by (x) (rate(a{x=\"1\",y=\"2\"}[5m] offset 1m)) / -(b{x!=\"1\",x!=\"2\"})",
         "sum by (x) (rate(a{x=~\"(\",y=\"2\"}[5m] offset 1m)) / -(b{x=~\"(\",x=~\"(\"})",
         "sum by (x) (rate(a{y=\"2\"}[5m] offset 1m)) / -(b)"},
        {"topk(scalar(a), max_over_time(b{x=~\"c.*\"}[1h:1m])) and c",
         "topk(scalar(a{x=~\"(\"}), max_over_time(b{x=~\"(\"}[1h:1m])) and c{x=~\"(\"}",
         "topk(scalar(a), max_over_time(b[1h:1m])) and c"},
        {"3", "3", "3"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        for (int set = 0; set < 2 && cases[i].set; set++) {
            struct arena *a = arena_new(0);
            const struct pql_expr *e;
            struct nx_err err;
            struct buf b;

            assert_ok(pql_parse(a, nx_slice_str(cases[i].text), NULL, &e, &err), &err);
            if (set)
                assert_ok(pql_set_matcher(a, e, MATCH_RE, LIT("x"), LIT("("), &err), &err);
            else
                pql_delete_matchers(e, LIT("x"));
            buf_init(&b, 0);
            pql_print(&b, e);
            assert_string_equal(buf_cstr(&b), set ? cases[i].set : cases[i].deleted);
            buf_done(&b);
            pql_expr_done(e);
            arena_free(a);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_come_as_time_reaches_them),
        cmocka_unit_test(the_last_of_two_lines_counts_and_samples_can_be_added),
        cmocka_unit_test(labels_of_a_metric),
        cmocka_unit_test(matchers_are_set_and_deleted_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
