/* test_series.c - series notation of scripts. */
#include "tests/support/test.h"

#include <math.h>

#include "promql/series.h"
#include "src/base/num.h"

/* The values as text: a number, _ for a gap, s for stale, h for a histogram. */
static void notation_gives(const char *line, const char *labels, const char *values)
{
    struct arena *a = arena_new(0);
    struct series_line l = {0};
    struct nx_err err;
    struct buf b;

    assert_ok(series_parse(a, STR(line), &l, &err), &err);
    buf_init(&b, 0);
    labels_print(&b, &l.labels);
    assert_buf(&b, labels, line);
    buf_clear(&b);
    for (size_t i = 0; i < l.n; i++) {
        if (i)
            buf_char(&b, ' ');
        if (l.v[i].is == SERIES_VALUE && !num_is_stale(l.v[i].v))
            buf_num(&b, l.v[i].v);
        else
            buf_char(&b, l.v[i].is == SERIES_GAP ? '_' : l.v[i].is == SERIES_HISTOGRAM ? 'h' : 's');
    }
    assert_buf(&b, values, line);
    buf_done(&b);
    arena_free(a);
}

static void values_expand(void **state)
{
    (void)state;
    notation_gives("m 1 2.5 -3 1e3", "m", "1 2.5 -3 1000");
    notation_gives("m{a=\"b\"} 1+2x3", "m{a=\"b\"}", "1 3 5 7");
    notation_gives("m 5-1x2", "m", "5 4 3");
    notation_gives("m -5+1x2", "m", "-5 -4 -3");
    notation_gives("m 5x2", "m", "5 5 5");
    notation_gives("m 0x3", "m", "0 0 0 0");
    notation_gives("m 1-1.5e-1x1", "m", "1 0.85");
    notation_gives("m _ 1 _x3 2", "m", "_ 1 _ _ _ 2");
    notation_gives("m stale 1 stale", "m", "s 1 s");
    notation_gives("m 1 stale+0x2 5", "m", "1 s NaN NaN 5"); /* the sum is no marker any more */
    notation_gives("m stale-1x0", "m", "s");
    notation_gives("m NaN Inf -Inf +Inf inf nanx1", "m", "NaN +Inf -Inf +Inf +Inf NaN NaN");
    notation_gives("m \t 1   2\t3", "m", "1 2 3");
    notation_gives("m", "m", "");
    notation_gives("m {{schema:0 sum:5 count:4 buckets:[1 2 1]}} 7", "m", "h 7");
    notation_gives("m {{sum:1 count:1}}+{{sum:2 count:1}}x2", "m", "h h h");
    notation_gives("{} {{}} _", "{}", "h _");
}

static void labels_are_read(void **state)
{
    (void)state;
    notation_gives("{} 1", "{}", "1");
    notation_gives("{a=\"b\", c=\"d e}\"} 1", "{a=\"b\", c=\"d e}\"}", "1");
    notation_gives("m {a=\"b\"} 1", "m{a=\"b\"}", "1");
    notation_gives("m{a=\"\", b=\"x\"} 1", "m{b=\"x\"}", "1");
    notation_gives("m{a='it\\'s'} 1", "m{a=\"it's\"}", "1");
    notation_gives("a:b{x=\"1\"} 1", "a:b{x=\"1\"}", "1");
    notation_gives("sum{x=\"1\"} 1", "sum{x=\"1\"}", "1");
}

static void ten_million_values_and_more_are_one_series(void **state)
{
    struct arena *a = arena_new(0);
    struct series_line l = {0};
    struct nx_err err;

    (void)state;
    assert_ok(series_parse(a, STR("m 0x10000000"), &l, &err), &err);
    assert_int_equal(l.n, 10000001);
    assert_true(l.v[0].v == 0 && l.v[l.n - 1].v == 0);
    arena_free(a);
}

static void nonsense_is_refused(void **state)
{
    static const char *const lines[] = {
        "m 1+",     "m 1+2",         "m x3",        "m 1x",
        "m 1xq",    "m q",           "m 1+2x-1",    "m _y",
        "m stalex", "m stalex1",     "m stale+0",   "m {{sum:1",
        "m{a=1} 1", "m{a!=\"b\"} 1", "m{a=\"b\" 1", "m 1x99999999999",
        "m --1"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(lines); i++) {
        struct arena *a = arena_new(1u << 30);
        struct series_line l = {0};
        struct nx_err err;

        if (!series_parse(a, STR(lines[i]), &l, &err))
            fail_msg("\"%s\" was taken", lines[i]);
        arena_free(a);
    }
}

static void numbers_stand_alone(void **state)
{
    static const struct {
        const char *text;
        double want;
    } good[] = {{"1", 1},      {"-2.5", -2.5}, {"+3", 3},          {"0x1F", 31},
                {"-0xa", -10}, {"1e3", 1000},  {"-Inf", -INFINITY}};
    static const char *const bad[] = {"", "-", "--1", "1 2", "m", "0xg", "1x2", "+-1"};
    double v;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(good); i++) {
        assert_true(series_number(STR(good[i].text), &v));
        assert_true(v == good[i].want);
    }
    assert_true(series_number(STR("NaN"), &v) && isnan(v));
    for (size_t i = 0; i < NX_COUNT(bad); i++)
        if (series_number(STR(bad[i]), &v))
            fail_msg("\"%s\" is no number", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_expand),
        cmocka_unit_test(labels_are_read),
        cmocka_unit_test(ten_million_values_and_more_are_one_series),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(numbers_stand_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
