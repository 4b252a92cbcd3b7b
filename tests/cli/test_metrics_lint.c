/* Expositions by family, and what is unusual about them. */
#include "tests/support/test.h"

#include <string.h>

#include "src/cli/metrics_lint.h"

/* "metric text" of each problem, a line each; or the error. */
static char *lint(struct arena *a, const char *text)
{
    struct metrics_families f;
    struct metrics_problem *v = NULL;
    struct nx_err err = {0};
    struct buf b;
    size_t n = 0;
    char *out;

    buf_init(&b, 0);
    if (metrics_read(nx_slice_str(text), a, &f, &err) || metrics_lint(&f, a, &v, &n, &err))
        buf_str(&b, err.text);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%.*s %.*s\n", (int)v[i].metric.len, v[i].metric.ptr, (int)v[i].text.len,
                   v[i].text.ptr);
    out = arena_strdup(a, buf_cstr(&b));
    buf_done(&b);
    return out;
}

struct lint_case {
    const char *in, *want;
};

/* `before` each text that is wanted stands the same. */
static void check_cases(const struct lint_case *v, size_t n, const char *before)
{
    for (size_t i = 0; i < n; i++) {
        struct arena *a = arena_new(0);
        const char *got = lint(a, v[i].in);

        assert_true(strncmp(got, before, strlen(before)) == 0);
        assert_string_equal(got + strlen(before), v[i].want);
        arena_free(a);
    }
}

#define HELPED(name, type) "# HELP " name " x\n# TYPE " name " " type "\n"

static void each_convention_has_its_words(void **state)
{
    static const struct lint_case cases[] = {
        {"a 1\n", "a no help text\n"},
        {"# HELP a\na 1\n", "a no help text\n"},
        {"# HELP a \na 1\n", "a no help text\n"},
        {HELPED("a_total", "counter") "a_total 1\n", ""},
        {HELPED("a", "counter") "a 1\n", "a counter metrics should have \"_total\" suffix\n"},
        {HELPED("a_total", "gauge") "a_total 1\n",
         "a_total non-counter metrics should not have \"_total\" suffix\n"},
        {HELPED("a_bucket", "gauge") "a_bucket{le=\"1\"} 1\n",
         "a_bucket non-histogram metrics should not have \"_bucket\" suffix\n"
         "a_bucket non-histogram metrics should not have \"le\" label\n"},
        {HELPED("a_sum", "gauge") "a_sum 1\n",
         "a_sum non-histogram and non-summary metrics should not have \"_sum\" suffix\n"},
        {HELPED("a_count", "gauge") "a_count{quantile=\"1\"} 1\n",
         "a_count non-histogram and non-summary metrics should not have \"_count\" suffix\n"
         "a_count non-summary metrics should not have \"quantile\" label\n"},
        {HELPED("a", "histogram") "a_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n", ""},
        {HELPED("a", "summary") "a{quantile=\"1\"} 1\na_sum 1\na_count 1\n", ""},
        {HELPED("a_timestamp_seconds", "gauge") "a_timestamp_seconds 1\n", ""},
        {HELPED("a_timestamp_seconds", "summary") "a_timestamp_seconds_sum 1\n", ""},
        {HELPED("a_Gauge_x", "gauge") "a_Gauge_x 1\n",
         "a_Gauge_x metric name should not include type 'gauge'\n"},
        {HELPED("a_gauges", "gauge") "a_gauges 1\n", ""},
        {HELPED("a:b", "gauge") "a:b 1\n", "a:b metric names should not contain ':'\n"},
        {HELPED("aB", "gauge") "aB{cD=\"1\"} 1\n",
         "aB label names should be written in 'snake_case' not 'camelCase'\n"
         "aB metric names should be written in 'snake_case' not 'camelCase'\n"},
        {HELPED("a_ms", "gauge") "a_ms 1\n",
         "a_ms metric names should not contain abbreviated units\n"},
        {HELPED("a_KB_read", "gauge") "a_KB_read 1\n",
         "a_KB_read metric names should not contain abbreviated units\n"},
        {HELPED("a_msx", "gauge") "a_msx 1\n", ""},
        {HELPED("a_milliseconds", "gauge") "a_milliseconds 1\n",
         "a_milliseconds use base unit \"seconds\" instead of \"milliseconds\"\n"},
        {HELPED("a_days_bytes", "gauge") "a_days_bytes 1\n",
         "a_days_bytes use base unit \"seconds\" instead of \"days\"\n"},
        {HELPED("a_bytes_days", "gauge") "a_bytes_days 1\n", ""},
        {HELPED("thermometers", "gauge") "thermometers 1\n", ""},
        {HELPED("a", "gauge") "a{b=\"1\"} 1\na{b=\"2\"} 1\na{b=\"1\"} 2\n",
         "a metric not unique\n"},
        {HELPED("a", "gauge") "a{b=\"1\",c=\"1\"} 1\na{c=\"1\",b=\"1\"} 1\n", ""},
        /* by metric, then text; untyped metrics may be called what they like */
        {"b_sum{le=\"1\"} 1\na:c 1\n",
         "a:c metric names should not contain ':'\na:c no help text\nb_sum no help text\n"},
    };

    (void)state;
    check_cases(cases, NX_COUNT(cases), "");
}

static void broken_text_names_its_line(void **state)
{
    static const struct lint_case cases[] = {
        {"a 1\na 1", "in line 2: unexpected end of input stream"},
        {"\n# TYPE a foo\n", "in line 2: unknown metric type \"foo\""},
        {"# TYPE a gauge\n# TYPE a gauge\n",
         "in line 2: second TYPE line for metric name \"a\", or TYPE reported after samples"},
        {"a 1\n# TYPE a gauge\n",
         "in line 2: second TYPE line for metric name \"a\", or TYPE reported after samples"},
        {"a{b=\"\\q\"} 1\n", "in line 1: invalid escape sequence '\\q'"},
        {"a{b=\"1\n\"} 1\n", "in line 1: label value \"1\" contains unescaped new-line"},
        {"a{b=\"\xff\"} 1\n", "in line 1: invalid label value \"\\xff\""},
        {"{b=\"1\"} 1\n", "in line 1: invalid metric name"},
        {"{} 1\n", "in line 1: invalid metric name"},
        {"a x\n", "in line 1: expected float as value, got \"x\""},
        {"a 1 1.5\n", "in line 1: expected integer as timestamp, got \"1.5\""},
    };

    (void)state;
    check_cases(cases, NX_COUNT(cases), "text format parsing error ");
}

static void lines_of_a_histogram_make_one_metric(void **state)
{
    struct arena *a = arena_new(0);
    struct metrics_families f;

    (void)state;
    assert_int_equal(metrics_read(nx_slice_str("# TYPE h histogram\n"
                                               "h_bucket{le=\"1\",x=\"1\"} 1\n"
                                               "h_bucket{x=\"1\",le=\"+Inf\"} 1\n"
                                               "h_sum{x=\"1\"} 1\nh_count{x=\"1\"} 1\n"
                                               "h_count{x=\"2\"} 1\n"
                                               "# TYPE empty gauge\n"
                                               "s_sum 1\n"),
                                  a, &f, NULL),
                     NX_OK);
    assert_int_equal(f.n, 2);
    assert_int_equal(f.v[0].n, 2);
    assert_int_equal(f.v[0].v[0].n_parts, 2);
    assert_int_equal(f.v[0].v[1].n_parts, 0);
    assert_int_equal(f.v[1].n, 1);
    assert_int_equal(f.v[1].type, METRICS_UNTYPED);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_convention_has_its_words),
        cmocka_unit_test(broken_text_names_its_line),
        cmocka_unit_test(lines_of_a_histogram_make_one_metric),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
