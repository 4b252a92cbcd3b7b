/* test_print.c - canonical text (PQL-040) and the layout of format_query (PQL-041).
 *
 * The texts are Prometheus's own. V2: 2.42 gives the same; V3: the syntax or the text is of 3.x. */
#include "tests/support/test.h"

#include "promql/promql.h"

#define SAME NULL /* prints as it is written */
enum { V2, V3 };

static const struct pql_features everything = {
    .experimental_functions = true, .binop_fill = true, .extended_range = true};

// clang-format off
static const struct {
    const char *text, *want;
    int since;
} canonical[] = {
    { "1", SAME, V2 },
    { "+1", "1", V2 },
    { "-1", SAME, V2 },
    { "1.5", SAME, V2 },
    { ".5", "0.5", V2 },
    { "5.", "5", V2 },
    { "1e3", "1000", V2 },
    { "1E-3", "0.001", V2 },
    { "1e21", "1000000000000000000000", V3 },
    { "1e-9", "0.000000001", V3 },
    { "1e+05", "100000", V2 },
    { "0x1F", "31", V2 },
    { "0X1f", "31", V2 },
    { "010", "8", V2 },
    { "0_7", "7", V3 },
    { "08", "8", V2 },
    { "1_000", "1000", V3 },
    { "0x1_F", "31", V3 },
    { "0x_1f", "31", V3 },
    { "1_0.5_0", "10.5", V3 },
    { "123456789012345678901234567890", "123456789012345680000000000000", V3 },
    { "Inf", "+Inf", V2 },
    { "+inf", "+Inf", V2 },
    { "-INF", "-Inf", V2 },
    { "NaN", SAME, V2 },
    { "nan", "NaN", V2 },
    { "-0", SAME, V2 },
    { "5m", SAME, V3 },
    { "-5m", SAME, V3 },
    { "1h30m", SAME, V3 },
    { "1y2w3d4h5m6s7ms", "382d4h5m6s7ms", V3 },
    { "1h0m0s", "1h", V3 },
    { "90s", "1m30s", V3 },
    { "7888878888889ms", "91306d11h14m48s889ms", V3 },
    { "1000ms", "1s", V3 },
    { "\"a\"", SAME, V2 },
    { "'a'", "\"a\"", V2 },
    { "`a\\n\"b\"`", "\"a\\\\n\\\"b\\\"\"", V2 },
    { "\"\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\"", SAME, V2 },
    { "'\\''", "\"'\"", V2 },
    { "\"\\101\\x41\\u0041\\U00000041\"", "\"AAAA\"", V2 },
    { "\"\303\251\\u200b\\x80\"", SAME, V2 },
    { "(1)", SAME, V2 },
    { "(((\"x\")))", SAME, V2 },
    { "1 + 2", SAME, V2 },
    { "1 - 2 - 3", SAME, V2 },
    { "2 ^ 3 ^ 2", SAME, V2 },
    { "-2 ^ 2", SAME, V2 },
    { "2 ^ -2", SAME, V2 },
    { "- -1", "1", V2 },
    { "-(-1)", SAME, V2 },
    { "--foo", SAME, V2 },
    { "+-+foo", SAME, V2 },
    { "-foo ^ 2", SAME, V2 },
    { "-foo * bar", SAME, V2 },
    { "-(foo + bar)", SAME, V2 },
    { "1 + 2 * 3 % 4 / 5 atan2 6", SAME, V2 },
    { "a or b and c unless d", SAME, V2 },
    { "a == b < c", SAME, V2 },
    { "a </ 1", SAME, V3 },
    { "a >/ 2", SAME, V3 },
    { "1 == bool 2", SAME, V2 },
    { "foo > bool 1", SAME, V2 },
    { "foo ATAN2 bar", "foo atan2 bar", V2 },
    { "foo AND bar OR baz", "foo and bar or baz", V2 },
    { "up", SAME, V2 },
    { ":a", SAME, V2 },
    { "a:b:c", SAME, V2 },
    { "sum", SAME, V2 },
    { "avg", SAME, V2 },
    { "count_values", SAME, V2 },
    { "limit_ratio", SAME, V2 },
    { "and", SAME, V2 },
    { "or", SAME, V2 },
    { "unless", SAME, V2 },
    { "by", SAME, V2 },
    { "without", SAME, V2 },
    { "offset", SAME, V2 },
    { "start", SAME, V2 },
    { "end", SAME, V2 },
    { "step", SAME, V2 },
    { "range", SAME, V2 },
    { "min_of", SAME, V2 },
    { "max_of", SAME, V2 },
    { "anchored", SAME, V2 },
    { "smoothed", SAME, V2 },
    { "fill", SAME, V2 },
    { "fill_left + fill_right", SAME, V2 },
    { "fill + fill(1) fill", "fill + fill (1) fill", V3 },
    { "SUM", SAME, V2 },
    { "sum + offset", SAME, V2 },
    { "offset offset 5m", SAME, V2 },
    { "by{a=\"b\"}", SAME, V2 },
    { "step{a=\"b\"}", SAME, V2 },
    { "up{}", "up", V2 },
    { "up{job=\"a\"}", SAME, V2 },
    { "up{job=\"a\",}", "up{job=\"a\"}", V2 },
    { "up{b=\"1\",a=\"2\"}", "up{a=\"2\",b=\"1\"}", V2 },
    { "up{a!=\"x\",b=~\"y.*\",c!~\"z\",d=\"\"}", SAME, V2 },
    { "up{on=\"1\",by=\"2\",bool=\"3\",sum=\"4\",offset=\"5\"}", "up{bool=\"3\",by=\"2\",offset=\"5\",on=\"1\",sum=\"4\"}", V2 },
    { "{job=\"a\"}", SAME, V2 },
    { "{__name__=\"up\"}", SAME, V2 },
    { "{__name__=~\"up|down\"}", SAME, V2 },
    { "{__name__=\"a\",__name__=\"b\"}", SAME, V2 },
    { "{\"up\"}", "{__name__=\"up\"}", V3 },
    { "{\"my.metric\"}", "{__name__=\"my.metric\"}", V3 },
    { "{\"my.metric\",\"label.x\"=\"v\"}", "{\"label.x\"=\"v\",__name__=\"my.metric\"}", V3 },
    { "{\"a b\"=~\"c\",d!=\"e\"}", SAME, V3 },
    { "{'up',`job`=\"x\"}", "{__name__=\"up\",job=\"x\"}", V3 },
    { "up{\"job\"=\"x\"}", "up{job=\"x\"}", V3 },
    { "{\"__name__\"=\"up\"}", "{__name__=\"up\"}", V3 },
    { "up{a='b\\'c'}", "up{a=\"b'c\"}", V2 },
    { "up{a=\"b\"} # comment", "up{a=\"b\"}", V2 },
    { "up # a", "up", V2 },
    { "foo[5m]", SAME, V2 },
    { "foo{a=\"b\"}[1h30m]", SAME, V2 },
    { "foo[300]", "foo[5m]", V3 },
    { "foo[1.5]", "foo[1s500ms]", V3 },
    { "foo[0x10]", "foo[16s]", V3 },
    { "foo[ 5m ]", "foo[5m]", V2 },
    { "foo[1d12h]", SAME, V2 },
    { "foo[7d]", "foo[1w]", V2 },
    { "foo[1w]", SAME, V2 },
    { "foo[365d]", "foo[1y]", V2 },
    { "foo offset 5m", SAME, V2 },
    { "foo offset -5m", SAME, V2 },
    { "foo offset + 5m", "foo offset 5m", V3 },
    { "foo offset 300", "foo offset 5m", V3 },
    { "foo offset -1.5", "foo offset -1s500ms", V3 },
    { "foo offset 0", "foo", V3 },
    { "foo offset 1w", SAME, V2 },
    { "foo @ 5", "foo @ 5.000", V2 },
    { "foo @ -5.5", "foo @ -5.500", V2 },
    { "foo @ 1603774568.1234", "foo @ 1603774568.123", V2 },
    { "foo @ 1m", "foo @ 60.000", V3 },
    { "foo @ 1e3", "foo @ 1000.000", V2 },
    { "foo @ +7", "foo @ 7.000", V2 },
    { "foo @ start()", SAME, V2 },
    { "foo @ end()", SAME, V2 },
    { "foo @ 5 offset 1m", "foo @ 5.000 offset 1m", V2 },
    { "foo offset 1m @ 5", "foo @ 5.000 offset 1m", V2 },
    { "foo[5m] @ end() offset -1m", SAME, V2 },
    { "foo[5m] offset 1m @ 1", "foo[5m] @ 1.000 offset 1m", V2 },
    { "foo @ 0", "foo @ 0.000", V2 },
    { "foo anchored", SAME, V3 },
    { "foo[5m] anchored", SAME, V3 },
    { "foo[5m] smoothed @ 3 offset 1m", "foo[5m] smoothed @ 3.000 offset 1m", V3 },
    { "foo smoothed offset 5m", SAME, V3 },
    { "foo[5m] offset 5m smoothed", "foo[5m] smoothed offset 5m", V3 },
    { "foo[5m:]", SAME, V2 },
    { "foo[5m:1m]", SAME, V2 },
    { "foo[300:60]", "foo[5m:1m]", V3 },
    { "foo[5m:] @ 5 offset 1m", "foo[5m:] @ 5.000 offset 1m", V2 },
    { "foo[5m:1m] offset -1m", SAME, V2 },
    { "rate(foo[5m])[1h:]", SAME, V2 },
    { "max_over_time(rate(foo[5m])[1h:1m])", SAME, V2 },
    { "max_over_time(max_over_time(foo[5m:1m])[1h:5m])", SAME, V2 },
    { "(foo + bar)[5m:]", SAME, V2 },
    { "(foo)[5m:1m]", SAME, V2 },
    { "sum(foo)[5m:]", SAME, V2 },
    { "foo[step()]", SAME, V3 },
    { "foo[range()]", SAME, V3 },
    { "foo[5m + 1m]", SAME, V3 },
    { "foo[5m+300*2-1]", "foo[5m + 300 * 2 - 1]", V3 },
    { "foo[(5m)]", SAME, V3 },
    { "foo[((5m))]", "foo[(5m)]", V3 },
    { "foo[-(-5m)]", SAME, V3 },
    { "foo[2 ^ 3 ^ 2]", SAME, V3 },
    { "foo[10 % 3]", SAME, V3 },
    { "foo[min_of(5m, step())]", SAME, V3 },
    { "foo[max_of(5m + 1m, 2 * step())]", SAME, V3 },
    { "foo[STEP()]", "foo[step()]", V3 },
    { "foo[Range()]", "foo[range()]", V3 },
    { "foo[5m * step():step() / 2]", SAME, V3 },
    { "foo[1h:step()+1]", "foo[1h:step() + 1]", V3 },
    { "foo[1h:(1m)]", SAME, V3 },
    { "foo offset step()", SAME, V3 },
    { "foo offset -step()", SAME, V3 },
    { "foo offset +step()", "foo offset step()", V3 },
    { "foo offset range()", SAME, V3 },
    { "foo offset (5m)", SAME, V3 },
    { "foo offset -(5m)", SAME, V3 },
    { "foo offset +(5m)", SAME, V3 }, /* Prometheus drops the plus */
    { "foo offset +(5m) * 2", SAME, V3 },
    { "foo offset (5m + 1m)", SAME, V3 },
    { "foo offset ((1m) * 2)", SAME, V3 },
    { "foo offset (5m) + 3", SAME, V3 },
    { "foo offset (5m) ^ 2 * step()", SAME, V3 },
    { "foo offset 5m + 3", SAME, V2 },
    { "foo offset step() + 3", SAME, V3 },
    { "foo offset -(5m) + 3", SAME, V3 },
    { "foo offset --5m", "foo offset 5m", V3 },
    { "foo offset - -5m + 3", "foo offset (5m + 3)", V3 }, /* Prometheus drops the parentheses */
    { "foo offset - +2 ^ 2", "foo offset (-2 ^ 2)", V3 },  /* and here */
    { "foo offset min_of(1m, 2m)", SAME, V3 },
    { "foo offset -max_of(1m, step())", SAME, V3 },
    { "foo[5m] offset (2 * 1m)", SAME, V3 },
    { "foo[5m:1m] offset -(step() * 2)", SAME, V3 },
    { "foo offset -2 ^ 2", "foo offset -2s ^ 2", V3 },
    { "foo offset (-2 ^ 2)", SAME, V3 },
    { "time()", SAME, V2 },
    { "TIME", SAME, V2 },
    { "abs(foo)", SAME, V2 },
    { "rate(foo[5m])", SAME, V2 },
    { "round(foo)", SAME, V2 },
    { "round(foo, 5)", SAME, V2 },
    { "hour()", SAME, V2 },
    { "hour(foo)", SAME, V2 },
    { "label_replace(foo, \"a\", \"$1\", \"b\", \"(.*)\")", SAME, V2 },
    { "label_join(foo, \"a\", \"-\")", SAME, V2 },
    { "label_join(foo, \"a\", \"-\", \"b\", \"c\", \"d\")", SAME, V2 },
    { "histogram_quantile(0.9, rate(foo_bucket[5m]))", SAME, V2 },
    { "clamp(foo, 1, 2)", SAME, V2 },
    { "vector(1)", SAME, V2 },
    { "scalar(foo)", SAME, V2 },
    { "pi()", SAME, V2 },
    { "start()", SAME, V3 },
    { "end()", SAME, V3 },
    { "step()", SAME, V3 },
    { "range()", SAME, V3 },
    { "min_of(1, 2)", SAME, V3 },
    { "max_of(step(), 5)", SAME, V3 },
    { "sort_by_label(foo, \"a\", \"b\")", SAME, V3 },
    { "info(foo)", SAME, V3 },
    { "info(foo, {a=\"b\"})", SAME, V3 },
    { "info(foo, {})", "info(foo, )", V3 },
    { "quantile_over_time(0.5, foo[5m])", SAME, V2 },
    { "absent(foo{a=\"b\"})", SAME, V2 },
    { "predict_linear(foo[1h], 3600)", SAME, V2 },
    { "sum(foo)", SAME, V2 },
    { "sum (foo)", "sum(foo)", V2 },
    { "SUM(foo)", "sum(foo)", V2 },
    { "sum by (a) (foo)", SAME, V2 },
    { "sum by(a,b)(foo)", "sum by (a, b) (foo)", V2 },
    { "sum(foo) by (a)", "sum by (a) (foo)", V2 },
    { "sum by () (foo)", "sum(foo)", V2 },
    { "sum without () (foo)", SAME, V2 },
    { "sum without (a) (foo)", SAME, V2 },
    { "sum(foo) without (a, b,)", "sum without (a, b) (foo)", V2 },
    { "sum by (\"a.b\", c, \"d\") (foo)", "sum by (\"a.b\", c, d) (foo)", V3 },
    { "sum by (by, on, sum, bool, offset, start, and, group_left, atan2, fill) (foo)", SAME, V2 },
    { "sum by (a:b) (foo)", "sum by (\"a:b\") (foo)", V3 },
    { "Sum By (A) (foo)", "sum by (A) (foo)", V2 },
    { "avg(sum by (a) (foo))", SAME, V2 },
    { "topk(5, foo)", SAME, V2 },
    { "topk by (a) (5, foo)", SAME, V2 },
    { "topk(5, foo) by (a)", "topk by (a) (5, foo)", V2 },
    { "bottomk(scalar(bar), foo)", SAME, V2 },
    { "quantile(0.9, foo)", SAME, V2 },
    { "count_values(\"x\", foo)", SAME, V2 },
    { "limitk(2, foo)", SAME, V3 },
    { "limit_ratio(-0.5, foo)", SAME, V3 },
    { "group(foo)", SAME, V2 },
    { "stddev(foo) / stdvar(foo)", SAME, V2 },
    { "sum(foo) by (a) + sum by (a) (bar)", "sum by (a) (foo) + sum by (a) (bar)", V2 },
    { "a + on() b", "a + on () b", V2 },
    { "a + ignoring() b", "a + b", V2 },
    { "a + on(x) b", "a + on (x) b", V2 },
    { "a + ignoring(x, y) b", "a + ignoring (x, y) b", V2 },
    { "a + ON(X) B", "a + on (X) B", V2 },
    { "a * on(x) group_left b", "a * on (x) group_left () b", V2 },
    { "a * on(x) group_left() b", "a * on (x) group_left () b", V2 },
    { "a * on(x) group_left(y) b", "a * on (x) group_left (y) b", V2 },
    { "a * on(x) group_left(y, \"z.z\") b", "a * on (x) group_left (y, \"z.z\") b", V3 },
    { "a * ignoring(x) group_right(y) b", "a * ignoring (x) group_right (y) b", V2 },
    { "a * ignoring() group_left() b", "a * ignoring () group_left () b", V3 },
    { "a > bool on(x) group_right(y) b", "a > bool on (x) group_right (y) b", V2 },
    { "a and on(x) b", "a and on (x) b", V2 },
    { "a or ignoring(x) b", "a or ignoring (x) b", V2 },
    { "a unless on(\"x y\") b", "a unless on (\"x y\") b", V3 },
    { "a + fill(1) b", "a + fill (1) b", V3 },
    { "a + fill_left(1) b", "a + fill_left (1) b", V3 },
    { "a + fill_right(-2.5) b", "a + fill_right (-2.5) b", V3 },
    { "a + fill_left(1) fill_right(2) b", "a + fill_left (1) fill_right (2) b", V3 },
    { "a + fill_right(2) fill_left(1) b", "a + fill_left (1) fill_right (2) b", V3 },
    { "a + fill_left(3) fill_right(3) b", "a + fill (3) b", V3 },
    { "a + on(x) group_left(y) fill(1e6) b", "a + on (x) group_left (y) fill (1e+06) b", V3 },
    { "a + fill(5m) b", "a + fill (300) b", V3 },
    { "a + fill (+ 0.00001) b", "a + fill (1e-05) b", V3 },
    { "1 + on() group_left() foo", "1 + foo", V2 },
    { "1 + foo", SAME, V2 },
    { "foo + 1 + bar", SAME, V2 },
    { "(foo)", SAME, V2 },
    { "((foo))", SAME, V2 },
    { "sum((foo))", SAME, V2 },
    { "(foo offset 5m) + 1", SAME, V2 },
    { "a+b*c^d", "a + b * c ^ d", V2 },
    { "a ^ b ^ c", SAME, V2 },
    { "(a ^ b) ^ c", SAME, V2 },
    { "a - (b - c)", SAME, V2 },
    { "100 * sum(rate(http_requests_total{code=~\"5..\"}[5m])) by (job) / sum(rate(http_requests_total[5m])) by (job)", "100 * sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m])) / sum by (job) (rate(http_requests_total[5m]))", V3 },
    { "histogram_quantile(0.95, sum by (le, job) (rate(http_request_duration_seconds_bucket{job=\"api\"}[5m])))", SAME, V3 },
    { "1 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m]))", SAME, V2 },
    { "(node_filesystem_avail_bytes{fstype!~\"tmpfs|ramfs\"} / node_filesystem_size_bytes) * 100 < 10 and on (instance) up == 1", SAME, V3 },
    { "{a=\"b\" # inside\n}", "{a=\"b\"}", V2 },
    { "foo\n  + # c\n\tbar", "foo + bar", V2 },
    { "sum(\n  foo\n) by (\n  a\n)", "sum by (a) (foo)", V2 },
    { "abs", SAME, V2 },
};

/* Lines of at most 100 bytes stay; longer ones are split. 2.42 gives the same. */
static const struct {
    const char *text, *want;
} laid_out[] = {
    { "sum by (job) (rate(http_requests_total{code=~\"5..\",handler!=\"/metrics\",method=\"GET\"}[5m])) / sum by (job) (rate(http_requests_total[5m]))",
      "  sum by (job) (rate(http_requests_total{code=~\"5..\",handler!=\"/metrics\",method=\"GET\"}[5m]))\n"
      "/\n"
      "  sum by (job) (rate(http_requests_total[5m]))" },
    { "histogram_quantile(0.99, sum by (le, instance, job) (rate(http_request_duration_seconds_bucket{job=\"api\",code=\"200\"}[5m])))",
      "histogram_quantile(\n"
      "  0.99,\n"
      "  sum by (le, instance, job) (rate(http_request_duration_seconds_bucket{code=\"200\",job=\"api\"}[5m]))\n"
      ")" },
    { "topk(10, sum by (namespace, pod, container) (rate(container_cpu_usage_seconds_total{image!=\"\",container!=\"POD\"}[5m])))",
      "topk(\n"
      "  10,\n"
      "  sum by (namespace, pod, container) (\n"
      "    rate(container_cpu_usage_seconds_total{container!=\"POD\",image!=\"\"}[5m])\n"
      "  )\n"
      ")" },
    { "(node_memory_MemTotal_bytes{instance=\"a\"} - node_memory_MemFree_bytes{instance=\"a\"} - node_memory_Cached_bytes{instance=\"a\"}) / node_memory_MemTotal_bytes{instance=\"a\"}",
      "  (\n"
      "      node_memory_MemTotal_bytes{instance=\"a\"} - node_memory_MemFree_bytes{instance=\"a\"}\n"
      "    -\n"
      "      node_memory_Cached_bytes{instance=\"a\"}\n"
      "  )\n"
      "/\n"
      "  node_memory_MemTotal_bytes{instance=\"a\"}" },
    { "a_very_long_metric_name_of_the_left_side{with=\"a\",few=\"labels\"} > bool on (instance, job) group_left (version) another_long_metric_name{with=\"b\"}",
      "  a_very_long_metric_name_of_the_left_side{few=\"labels\",with=\"a\"}\n"
      "> bool on (instance, job) group_left (version)\n"
      "  another_long_metric_name{with=\"b\"}" },
    { "label_replace(some_metric_with_a_long_name{job=\"prometheus\",instance=\"localhost:9090\"}, \"destination\", \"$1-suffix\", \"source\", \"(.*):.*\")",
      "label_replace(\n"
      "  some_metric_with_a_long_name{instance=\"localhost:9090\",job=\"prometheus\"},\n"
      "  \"destination\",\n"
      "  \"$1-suffix\",\n"
      "  \"source\",\n"
      "  \"(.*):.*\"\n"
      ")" },
    { "max_over_time(sum by (a_long_label_name, another_long_label_name) (rate(a_metric_with_a_long_name{x=\"y\"}[5m]))[1h:5m] offset 1d)",
      "max_over_time(\n"
      "  sum by (a_long_label_name, another_long_label_name) (rate(a_metric_with_a_long_name{x=\"y\"}[5m]))[1h:5m] offset 1d\n"
      ")" },
    { "-sum by (a_long_label_name, another_long_label_name) (rate(a_metric_with_a_long_name{label=\"value\",other=\"value\"}[5m] offset 1w))",
      "-sum by (a_long_label_name, another_long_label_name) (\n"
      "  rate(a_metric_with_a_long_name{label=\"value\",other=\"value\"}[5m] offset 1w)\n"
      ")" },
    { "-(a_metric_with_a_long_name{label=\"value\",other=\"value\"} + another_metric_with_a_long_name{label=\"value\",other=\"value\"})",
      "-(\n"
      "    a_metric_with_a_long_name{label=\"value\",other=\"value\"}\n"
      "  +\n"
      "    another_metric_with_a_long_name{label=\"value\",other=\"value\"}\n"
      ")" },
    { "a_metric_with_a_name_that_is_longer_than_a_line{label=\"value\",other=\"value\",third=\"value\",fourth=\"value\",fifth=\"value\"}[5m]",
      "a_metric_with_a_name_that_is_longer_than_a_line{fifth=\"value\",fourth=\"value\",label=\"value\",other=\"value\",third=\"value\"}[5m]" },
    { "a_metric_name_of_some_length_aaaaaaaaaaaa{a=\"b\"} + b_metric_name_of_some_length_bbbbbbbbbb{a=\"b\"} * c_metric_name_of_some_length{a=\"b\"}",
      "  a_metric_name_of_some_length_aaaaaaaaaaaa{a=\"b\"}\n"
      "+\n"
      "  b_metric_name_of_some_length_bbbbbbbbbb{a=\"b\"} * c_metric_name_of_some_length{a=\"b\"}" },
    { "count_values without (instance, a_long_label_name, another_long_label_name) (\"version\", build_version{job=\"a\",datacenter=\"b\"})",
      "count_values without (instance, a_long_label_name, another_long_label_name) (\n"
      "  \"version\",\n"
      "  build_version{datacenter=\"b\",job=\"a\"}\n"
      ")" },
    { "sum(rate(foo[5m])) by (a)",
      "sum by (a) (rate(foo[5m]))" },
    { "((a_metric_with_a_long_name_number_one > 0 and a_metric_with_a_long_name_number_two) or a_metric_with_a_long_name_number_three)",
      "(\n"
      "    (a_metric_with_a_long_name_number_one > 0 and a_metric_with_a_long_name_number_two)\n"
      "  or\n"
      "    a_metric_with_a_long_name_number_three\n"
      ")" },
    { "deriv(a_metric_with_a_long_name_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on[5m:1m])",
      "deriv(\n"
      "a_metric_with_a_long_name_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on[5m:1m]\n"
      ")" },
    { "sum(xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx)",
      "sum(xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx)" },
    { "sum(xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx)",
      "sum(\n"
      "  xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
      ")" },
};
// clang-format on

static void print_of(const char *text, void (*printer)(struct buf *, const struct pql_expr *),
                     struct buf *b)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e;
    struct nx_err err;

    assert_non_null(a);
    if (pql_parse(a, STR(text), &everything, &e, &err))
        fail_msg("%s: %s", text, err.text);
    buf_init(b, 0);
    printer(b, e);
    assert_int_equal(b->failed, NX_OK);
    pql_expr_done(e);
    arena_free(a);
}

static void expressions_print_as_prometheus_prints_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(canonical); i++) {
        struct buf b;

        print_of(canonical[i].text, pql_print, &b);
        assert_buf(&b, canonical[i].want ? canonical[i].want : canonical[i].text,
                   canonical[i].text);
        buf_done(&b);
    }
}

/* Prometheus prints {} as nothing. */
static bool is_empty_selector(const char *text)
{
    return strstr(text, "{})") != NULL;
}

static void what_is_printed_prints_as_itself(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(canonical); i++) {
        struct buf once, twice;

        if (is_empty_selector(canonical[i].text))
            continue;
        print_of(canonical[i].text, pql_print, &once);
        print_of(buf_cstr(&once), pql_print, &twice);
        assert_buf(&twice, buf_cstr(&once), canonical[i].text);
        buf_done(&once);
        buf_done(&twice);
    }
}

static void long_expressions_are_laid_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(laid_out); i++) {
        struct buf b;

        print_of(laid_out[i].text, pql_format, &b);
        assert_buf(&b, laid_out[i].want, laid_out[i].text);
        buf_done(&b);
    }
}

static void what_is_laid_out_is_the_same_expression(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(laid_out); i++) {
        struct buf plain, pretty, again;

        print_of(laid_out[i].text, pql_print, &plain);
        print_of(laid_out[i].text, pql_format, &pretty);
        print_of(buf_cstr(&pretty), pql_print, &again);
        assert_buf(&again, buf_cstr(&plain), laid_out[i].text);
        buf_done(&plain);
        buf_done(&pretty);
        buf_done(&again);
    }
}

static void a_full_buffer_stops_the_printer(void **state)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e;
    struct nx_err err;
    struct buf b;

    (void)state;
    assert_ok(pql_parse(a, LIT("sum by (a) (rate(foo{b=\"c\"}[5m])) + bar"), NULL, &e, &err), &err);
    buf_init(&b, 16);
    pql_print(&b, e);
    assert_int_equal(b.failed, NX_LIMIT);
    buf_clear(&b);
    pql_format(&b, e);
    assert_int_equal(b.failed, NX_LIMIT);
    buf_done(&b);
    pql_expr_done(e);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_print_as_prometheus_prints_them),
        cmocka_unit_test(what_is_printed_prints_as_itself),
        cmocka_unit_test(long_expressions_are_laid_out),
        cmocka_unit_test(what_is_laid_out_is_the_same_expression),
        cmocka_unit_test(a_full_buffer_stops_the_printer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
