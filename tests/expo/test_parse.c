/* Expositions in: what is accepted, what it means, and what is said about the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "src/base/num.h"
#include "src/expo/expo.h"

/* A body with its fence, exactly as long as needed, so that sanitizers see every byte too far. */
static char *fenced(const char *bytes, size_t len)
{
    char *p = malloc(len + 1);

    assert_non_null(p);
    memcpy(p, bytes, len);
    p[len] = '\n';
    return p;
}

/* Parses all of it; prints each entry on a line of `out`. */
static nx_status describe(enum expo_format f, const char *bytes, size_t len, struct buf *out,
                          struct nx_err *err)
{
    char *body = fenced(bytes, len);
    struct arena *a = arena_new(0);
    struct expo x;
    struct expo_entry e;
    nx_status st;

    expo_init(&x, f, body, len);
    while ((st = expo_next(&x, &e, err)) == NX_OK && e.kind != EXPO_END) {
        struct expo_labels ls;
        switch (e.kind) {
        case EXPO_TYPE:
            buf_printf(out, "TYPE %.*s %s\n", (int)e.name.len, e.name.ptr, expo_type_text(e.type));
            break;
        case EXPO_HELP:
            e.text = expo_unescape(e.text, f == EXPO_OPENMETRICS, a);
            buf_printf(out, "HELP %.*s [%.*s]\n", (int)e.name.len, e.name.ptr, (int)e.text.len,
                       e.text.ptr);
            break;
        case EXPO_UNIT:
            buf_printf(out, "UNIT %.*s %.*s\n", (int)e.name.len, e.name.ptr, (int)e.text.len,
                       e.text.ptr);
            break;
        case EXPO_SERIES:
            assert_int_equal(expo_labels(e.series, x.type, a, &ls, NULL), NX_OK);
            for (uint32_t i = 0; i < ls.n; i++)
                buf_printf(out, "%s%.*s=[%.*s]", i ? "," : "", (int)ls.v[i].name.len,
                           ls.v[i].name.ptr, (int)ls.v[i].value.len, ls.v[i].value.ptr);
            buf_char(out, ' ');
            buf_num(out, e.value);
            if (e.has_ts)
                buf_printf(out, " @%lld", (long long)e.ts_ms);
            if (e.exemplar.len)
                buf_printf(out, " #%.*s", (int)e.exemplar.len, e.exemplar.ptr);
            buf_char(out, '\n');
            break;
        default:
            break;
        }
    }
    arena_free(a);
    free(body);
    return st;
}

static void expect(enum expo_format f, const char *body, const char *want)
{
    struct nx_err err = {0};
    struct buf out;

    buf_init(&out, 0);
    if (describe(f, body, strlen(body), &out, &err))
        fail_msg("%s: %s", body, err.text);
    assert_string_equal(buf_cstr(&out), want);
    buf_done(&out);
}

struct bad {
    const char *body, *error;
};

static void expect_all_bad(enum expo_format f, const struct bad *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct nx_err err = {0};
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(describe(f, cases[i].body, strlen(cases[i].body), &out, &err),
                         NX_BADINPUT);
        assert_string_equal(err.text, cases[i].error);
        buf_done(&out);
    }
}

static void text_is_read_as_prometheus_reads_it(void **state)
{
    (void)state;
    expect(EXPO_TEXT,
           "# HELP x two\\nlines \\\\ \\\"kept\\q\n# TYPE x counter\nx 1\n\nx{ a = \"c\" , } 2 "
           "1395066363000\n"
           "#comment\n# HELPX y\n# HELP\nx{} 3\ny +Inf\nz -Inf\nn nAn",
           "HELP x [two\nlines \\ \\\"kept\\q]\nTYPE x counter\n__name__=[x] 1\n__name__=[x],a=[c] "
           "2 @1395066363000\n"
           "__name__=[x] 3\n__name__=[y] +Inf\n__name__=[z] -Inf\n__name__=[n] NaN\n");
    /* SCR-025: other escapes stay; SCR-030 is the caller's: empty values are still here. */
    expect(EXPO_TEXT, "x{a=\"q\\q\",b=\"\\\\ \\\" \\n\",c=\"\"} 1\n",
           "__name__=[x],a=[q\\q],b=[\\ \" \n],c=[] 1\n");
    expect(EXPO_TEXT, "x{a=\"b\" b=\"c\"} 1 5 \n", "__name__=[x],a=[b],b=[c] 1 @5\n");
    expect(EXPO_TEXT, "x{a=\"b\"}1\n", "__name__=[x],a=[b] 1\n");
    expect(EXPO_TEXT, "x{a=\"}, =\\\"\"} 1\n", "__name__=[x],a=[}, =\"] 1\n");
    expect(EXPO_TEXT, "# TYPE x untyped\nx 1e3\nx 1.5E-2\n",
           "TYPE x unknown\n__name__=[x] 1000\n__name__=[x] 0.015\n");
}

static void quoted_names_are_read(void **state)
{
    (void)state;
    expect(EXPO_TEXT,
           "# TYPE \"my.metric\" gauge\n{\"my.metric\",\"my.label\"=\"x\",b=\"y\"} 1\n{\"only\"} "
           "2\n{a=\"b\",\"late\"} 3\n",
           "TYPE my.metric gauge\n__name__=[my.metric],b=[y],my.label=[x] 1\n__name__=[only] "
           "2\n__name__=[late],a=[b] 3\n");
    expect(EXPO_OPENMETRICS, "{\"a\\\"b\",\"l\"=\"1\"} 1\n# EOF\n", "__name__=[a\"b],l=[1] 1\n");
}

static void openmetrics_is_read_as_prometheus_reads_it(void **state)
{
    (void)state;
    expect(EXPO_OPENMETRICS,
           "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds say "
           "\\\"hi\\\"\na_seconds_total 1 1.0005\n"
           "a_seconds_created 1.5 # {id=\"x\"} 2 3\nb 2 -0.0015 # {} 1\n# TYPE s stateset\n# EOF",
           "TYPE a_seconds counter\nUNIT a_seconds seconds\nHELP a_seconds [say "
           "\"hi\"]\n__name__=[a_seconds_total] 1 @1000\n"
           "__name__=[a_seconds_created] 1.5 #{id=\"x\"} 2 3\n__name__=[b] 2 @-1 #{} 1\nTYPE s "
           "stateset\n");
}

static void bucket_bounds_are_normalised_by_type(void **state)
{
    (void)state;
    expect(EXPO_TEXT,
           "x{le=\"1\"} 1\n# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx_bucket{le=\"0.10\"} "
           "1\nx_bucket{le=\"1e3\"} 1\n"
           "x_bucket{le=\"+Inf\"} 1\nx{quantile=\"1\"} 1\n# TYPE y summary\ny{quantile=\"1\"} "
           "1\ny{le=\"1\"} 1\ny{quantile=\"no\"} 1\n",
           "__name__=[x],le=[1] 1\nTYPE x histogram\n__name__=[x_bucket],le=[1.0] "
           "1\n__name__=[x_bucket],le=[0.1] 1\n"
           "__name__=[x_bucket],le=[1000.0] 1\n__name__=[x_bucket],le=[+Inf] "
           "1\n__name__=[x],quantile=[1] 1\nTYPE y summary\n"
           "__name__=[y],quantile=[1.0] 1\n__name__=[y],le=[1] 1\n__name__=[y],quantile=[no] 1\n");
}

static void text_errors_have_prometheus_words(void **state)
{
    static const struct bad cases[] = {
        {"x", "expected value after metric, got \"\\n\" (\"INVALID\") while parsing: \"x\\n\""},
        {"a 1\nx \nb 2\n",
         "expected value after metric, got \"\\n\" (\"INVALID\") while parsing: \"x \\n\""},
        {"x{a=\"b\"\n",
         "expected label name, got \"\\n\" (\"INVALID\") while parsing: \"x{a=\\\"b\\\"\\n\""},
        {"x 1 +5\n",
         "expected timestamp or new record, got \"+\" (\"INVALID\") while parsing: \"x 1 +\""},
        {"x 1 1.5\n",
         "expected next entry after timestamp, got \".\" (\"INVALID\") while parsing: \"x 1 1.\""},
        {"x 1\r\n",
         "strconv.ParseFloat: parsing \"1\\r\": invalid syntax while parsing: \"x 1\\r\""},
        {"x 1e999\n",
         "strconv.ParseFloat: parsing \"1e999\": value out of range while parsing: \"x 1e999\""},
        {"x 1_0\n", "unsupported character in float while parsing: \"x 1_0\""},
        {"x 0x1p3\n", "unsupported character in float while parsing: \"x 0x1p3\""},
        {"x 1 99999999999999999999\n", "strconv.ParseInt: parsing \"99999999999999999999\": value "
                                       "out of range while parsing: \"x 1 99999999999999999999\""},
        {" x 1\n", "invalid metric name or label names: \" x\""},
        {"# TYPE x foo\n", "invalid metric type \"foo\""},
        {"# TYPE x\n", "invalid metric type \"\""},
        {"# TYPE x counter\r\n", "invalid metric type \"counter\\r\""},
        {"# TYPE 1x counter\n",
         "expected metric name after TYPE, got \"1\" (\"INVALID\") while parsing: \"# TYPE 1\""},
        {"# HELP x a\xff\n", "help text \"a\\xff\" is not a valid utf8 string"},
        {"x{a=\"\xff\"} 1\n", "invalid UTF-8 label value: \"\\\"\\xff\\\"\""},
        {"x{a} 1\n", "expected equal, got \"} \" (\"BCLOSE\") while parsing: \"x{a} \""},
        {"x{a=b} 1\n", "expected label value, got \"b\" (\"INVALID\") while parsing: \"x{a=b\""},
        {"x{,} 1\n", "expected label name, got \",}\" (\"COMMA\") while parsing: \"x{,}\""},
        {"{a=\"b\"} 1\n", "metric name not set while parsing: \"{a=\\\"b\\\"} 1\""},
        {"x{\"y\"} 1\n", "metric name already set while parsing: \"x{\\\"y\\\"}\""},
        {"1x 1\n", "expected a valid start token, got \"1\" (\"INVALID\") while parsing: \"1\""},
        {"x 1 2 3\n", "expected next entry after timestamp, got \"3\\n\" (\"TIMESTAMP\") while "
                      "parsing: \"x 1 2 3\\n\""},
    };
    (void)state;
    expect_all_bad(EXPO_TEXT, cases, NX_COUNT(cases));
}

static void openmetrics_errors_have_prometheus_words(void **state)
{
    static const struct bad cases[] = {
        {"", "data does not end with # EOF"},
        {"x 1\n", "data does not end with # EOF"},
        {"x 1", "data does not end with # EOF"},
        {"x 1\n# EOF\nx", "unexpected data after # EOF"},
        {"# EOFx\n", "unexpected data after # EOF"},
        {"x 1\n# EOF\n\n", "unexpected data after # EOF"},
        {"\nx 1\n# EOF\n",
         "expected a valid start token, got \"\\n\" (\"INVALID\") while parsing: \"\\n\""},
        {"# foo\n# EOF\n",
         "expected a valid start token, got \"# f\" (\"INVALID\") while parsing: \"# f\""},
        {"x  1\n# EOF\n",
         "expected value after metric, got \"  \" (\"INVALID\") while parsing: \"x  \""},
        {"# TYPE x foo\n# EOF\n", "invalid metric type \"foo\""},
        {"# TYPE x\n# EOF\n", "expected text in TYPE"},
        {"# UNIT x_s foo\n# EOF\n", "unit \"foo\" not a suffix of metric \"x_s\""},
        {"# UNIT seconds seconds\n# EOF\n", "unit \"seconds\" not a suffix of metric \"seconds\""},
        {"x 1 NaN\n# EOF\n", "invalid timestamp NaN"},
        {"x 1 abc\n# EOF\n",
         "strconv.ParseFloat: parsing \"abc\": invalid syntax while parsing: \"x 1 abc\""},
        {"x{a=\"b\" b=\"c\"} 1\n# EOF\n", "expected comma or brace close, got \" \" (\"INVALID\") "
                                          "while parsing: \"x{a=\\\"b\\\" \""},
        {"x 1 # {a=\"b\"} 1", "data does not end with # EOF"},
        {"x 1 # {a=\"b\"} 1 NaN\n# EOF\n", "invalid exemplar timestamp NaN"},
        {"x 1 # {a} 1\n# EOF\n",
         "expected label name, got \"} \" (\"BCLOSE\") while parsing: \"x 1 # {a} \""},
    };
    (void)state;
    expect_all_bad(EXPO_OPENMETRICS, cases, NX_COUNT(cases));
}

static void repeated_label_names_are_told(void **state)
{
    struct arena *a = arena_new(0);
    struct expo_labels ls;

    (void)state;
    assert_int_equal(
        expo_labels(nx_slice_str("x{a=\"1\",b=\"2\",a=\"3\"}"), EXPO_UNKNOWN, a, &ls, NULL), NX_OK);
    assert_true(nx_slice_is(ls.repeated, "a"));
    assert_int_equal(expo_labels(nx_slice_str("x{a=\"1\",b=\"2\"}"), EXPO_UNKNOWN, a, &ls, NULL),
                     NX_OK);
    assert_null(ls.repeated.ptr);
    arena_free(a);
}

/* P4: whatever expo_try_sample takes, expo_next takes alike. */
static void known_prefixes_give_what_the_parser_gives(void **state)
{
    static const char *const values[] = {"1",
                                         "-1",
                                         "0.25",
                                         "1e+06",
                                         "1.81059584e+08",
                                         "-0",
                                         "12345678901234567890",
                                         "0.1",
                                         "1e-05",
                                         "NaN",
                                         "+Inf",
                                         "1e999",
                                         "0x1p3",
                                         "1_0",
                                         "123456789012345678",
                                         "1.7976931348623157e308",
                                         "5e-324",
                                         "1 2",
                                         "1 -2",
                                         "1 1.5",
                                         "1 ",
                                         "1\t5",
                                         "",
                                         "1e",
                                         "-",
                                         ".5",
                                         "5.",
                                         "+5",
                                         "1e22",
                                         "1e23",
                                         "9007199254740993",
                                         "1 # {a=\"b\"} 1",
                                         "1 12345678901234567890",
                                         "1{",
                                         "0.000001",
                                         "1e+0005",
                                         "1e00001",
                                         "1 1790000000.123",
                                         "1 -2.0005",
                                         "1 1.79e9",
                                         "1 1e22",
                                         "1 1e300",
                                         "1 NaN",
                                         "1 1.5 2",
                                         "1  1",
                                         "1 1 # {} 1"};
    static const char prefix[] = "x{a=\"b\"} ";
    size_t taken = 0;

    (void)state;
    for (int f = EXPO_TEXT; f <= EXPO_OPENMETRICS; f++) {
        for (size_t i = 0; i < NX_COUNT(values); i++) {
            char line[128], *body;
            struct expo x, y;
            struct expo_sample s;
            struct expo_entry e;
            snprintf(line, sizeof line, "%s%s\n%s", prefix, values[i],
                     f == EXPO_OPENMETRICS ? "# EOF\n" : "");
            body = fenced(line, strlen(line));
            expo_init(&x, (enum expo_format)f, body, strlen(line));
            y = x;
            assert_true(expo_at_line(&x));
            if (expo_try_sample(&x, prefix, strlen(prefix), &s)) {
                taken++;
                assert_int_equal(expo_next(&y, &e, NULL), NX_OK);
                assert_true(num_bits(s.value) == num_bits(e.value));
                assert_int_equal(s.has_ts, e.has_ts);
                if (s.has_ts)
                    assert_int_equal(s.ts_ms, e.ts_ms);
                assert_ptr_equal(x.at, y.at);
                assert_int_equal(x.state, y.state);
            } else {
                assert_ptr_equal(x.at, y.at);
            }
            free(body);
        }
    }
    assert_true(taken > 40);
}

/* `i-2` is the name i and a value, `i1` is a name alone: what follows a bare name tells where it ends. */
static void a_bare_name_is_no_prefix(void **state)
{
    char body[] = "i1\ni-3 \n\n";
    struct expo x;
    struct expo_sample s;

    (void)state;
    expo_init(&x, EXPO_TEXT, body, sizeof body - 3);
    assert_false(expo_try_sample(&x, "i", 1, &s));
}

static void a_line_cut_by_the_end_is_not_taken(void **state)
{
    char *body = fenced("x 1", 3);
    struct expo x;
    struct expo_sample s;

    (void)state;
    expo_init(&x, EXPO_OPENMETRICS, body, 3); /* the fence is no newline of the body */
    assert_false(expo_try_sample(&x, "x ", 2, &s));
    expo_init(&x, EXPO_TEXT, body, 3);
    assert_true(expo_try_sample(&x, "x ", 2, &s));
    free(body);
}

static void content_types_choose_the_parser(void **state)
{
    static const struct {
        const char *type, *fallback, *error;
        enum expo_format f;
    } cases[] = {
        {"text/plain; version=0.0.4; charset=utf-8", "", NULL, EXPO_TEXT},
        {"TEXT/plain", "", NULL, EXPO_TEXT},
        {"text/plain;", "", NULL, EXPO_TEXT},
        {"application/openmetrics-text; version=1.0.0; charset=utf-8", "PrometheusText0.0.4", NULL,
         EXPO_OPENMETRICS},
        {"application/json", "OpenMetricsText1.0.0", NULL, EXPO_OPENMETRICS},
        {"", "PrometheusText0.0.4", NULL, EXPO_TEXT},
        {"", "",
         "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol "
         "specified for target",
         0},
        {"application/json", "",
         "received unsupported Content-Type \"application/json\" and no fallback_scrape_protocol "
         "specified for target",
         0},
        {"text/plain; =", "",
         "cannot parse Content-Type \"text/plain; =\" and no fallback_scrape_protocol for "
         "target\nmime: invalid media parameter",
         0},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        struct nx_err err = {0};
        enum expo_format f;
        nx_status st = expo_format_choose(nx_slice_str(cases[i].type),
                                          nx_slice_str(cases[i].fallback), &f, &err);
        assert_int_equal(st, cases[i].error ? NX_BADINPUT : NX_OK);
        if (st)
            assert_string_equal(err.text, cases[i].error);
        else
            assert_int_equal(f, cases[i].f);
    }
}

/* Real expositions: all of them parse, and every series gives labels with a name. */
static void recorded_expositions_parse(void **state)
{
    static const char *const files[] = {
        "alertmanager.txt",  "node_exporter.txt",  "postgres_exporter.txt",
        "prom-client.txt",   "prometheus.txt",     "python-client.om.txt",
        "python-client.txt", "redis_exporter.txt", "victoriametrics.txt"};
    const char *shared = getenv("NX_SHARED");

    (void)state;
    for (size_t i = 0; i < NX_COUNT(files); i++) {
        char path[512];
        struct buf out;
        struct nx_err err = {0};
        static char bytes[1 << 20];
        size_t len;
        FILE *f;
        snprintf(path, sizeof path, "%s/exposition/%s", shared ? shared : "../shared", files[i]);
        f = fopen(path, "rb");
        if (!f) {
            print_message("%s is absent: skipped\n", path);
            skip();
        }
        len = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        buf_init(&out, 0);
        if (describe(strstr(files[i], ".om.") ? EXPO_OPENMETRICS : EXPO_TEXT, bytes, len, &out,
                     &err))
            fail_msg("%s: %s", files[i], err.text);
        assert_non_null(strstr(buf_cstr(&out), "__name__=["));
        buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_read_as_prometheus_reads_it),
        cmocka_unit_test(quoted_names_are_read),
        cmocka_unit_test(openmetrics_is_read_as_prometheus_reads_it),
        cmocka_unit_test(bucket_bounds_are_normalised_by_type),
        cmocka_unit_test(text_errors_have_prometheus_words),
        cmocka_unit_test(openmetrics_errors_have_prometheus_words),
        cmocka_unit_test(repeated_label_names_are_told),
        cmocka_unit_test(known_prefixes_give_what_the_parser_gives),
        cmocka_unit_test(a_line_cut_by_the_end_is_not_taken),
        cmocka_unit_test(content_types_choose_the_parser),
        cmocka_unit_test(recorded_expositions_parse),
        cmocka_unit_test(a_bare_name_is_no_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
