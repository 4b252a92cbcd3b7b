/* What the API answers: shapes, numbers, and the text of each error. */
#include "tests/web/served.h"

#include <math.h>

#define OK(data)        "{\"status\":\"success\",\"data\":" data "}"
#define BAD(type, text) "{\"status\":\"error\",\"errorType\":\"" type "\",\"error\":\"" text "\"}"
#define VECTOR(list)    OK("{\"resultType\":\"vector\",\"result\":[" list "]}")
#define MATRIX(list)    OK("{\"resultType\":\"matrix\",\"result\":[" list "]}")
#define TRUNCATED       "results truncated due to limit"
#define STEP_TEXT                                                                                  \
    "zero or negative query resolution step widths are not accepted. Try a positive integer"
#define RESOLUTION_TEXT                                                                            \
    "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query "       \
    "resolution (?step=XX)"

/* A target with all its parameters, the status and the whole body. */
struct row {
    const char *target;
    unsigned status;
    const char *body;
};

static void run_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        expect(get(rows[i].target), rows[i].target, rows[i].status, rows[i].body);
}
#define RUN(rows) run_rows(rows, NX_COUNT(rows))

static void the_four_result_types(void **state)
{
    static const struct row rows[] = {
        {"/api/v1/query?query=1%2B1&time=4", 200,
         OK("{\"resultType\":\"scalar\",\"result\":[4,\"2\"]}")},
        {"/api/v1/query?query=1e21&time=0.001", 200,
         OK("{\"resultType\":\"scalar\",\"result\":[0.001,\"1000000000000000000000\"]}")},
        {"/api/v1/query?query=-2.5e-7&time=3.5", 200,
         OK("{\"resultType\":\"scalar\",\"result\":[3.5,\"-0.00000025\"]}")},
        {"/api/v1/query?query=-Inf&time=1", 200,
         OK("{\"resultType\":\"scalar\",\"result\":[1,\"-Inf\"]}")},
        {"/api/v1/query?query=%22a%5Cn%3C%22&time=1.5", 200,
         OK("{\"resultType\":\"string\",\"result\":[1.5,\"a\\n\\u003c\"]}")},
        {"/api/v1/query?query=m&time=1700000030", 200,
         VECTOR("{\"metric\":{\"__name__\":\"m\",\"i\":\"0\"},\"value\":[1700000030,\"2\"]},"
                "{\"metric\":{\"__name__\":\"m\",\"i\":\"1\"},\"value\":[1700000030,\"1002\"]},"
                "{\"metric\":{\"__name__\":\"m\",\"i\":\"2\"},\"value\":[1700000030,\"0.5\"]}")},
        {"/api/v1/query?query=vector(1e-7)&time=2023-11-14T22:13:50.250Z", 200,
         VECTOR("{\"metric\":{},\"value\":[1700000030.250,\"1e-07\"]}")},
        {"/api/v1/query?query=m&time=4", 200, VECTOR("")},
        {"/api/v1/query?query=nothing%5B5m%5D&time=4", 200, MATRIX("")},
        {"/api/v1/query?query=m%7Bi%3D%220%22%7D%5B31s%5D&time=1700000030", 200,
         MATRIX("{\"metric\":{\"__name__\":\"m\",\"i\":\"0\"},\"values\":[[1700000000,\"0\"],["
                "1700000015,\"1\"],"
                "[1700000030,\"2\"]]}")},
        {"/api/v1/query_range?query=1&start=10&end=11&step=0.5", 200,
         MATRIX("{\"metric\":{},\"values\":[[10,\"1\"],[10.500,\"1\"],[11,\"1\"]]}")},
        {"/api/v1/query_range?query=vector(-12345.678901234567)&start=10&end=12&step=1", 200,
         MATRIX("{\"metric\":{},\"values\":[[10,\"-12345.678901234567\"],[11,\"-12345."
                "678901234567\"],["
                "12,\"-12345.678901234567\"]]}")},
        {"/api/v1/query_range?query=vector(-2.2250738585072014e-308)&start=10&end=11&step=1", 200,
         MATRIX("{\"metric\":{},\"values\":[[10,\"-2.2250738585072014e-308\"],["
                "11,\"-2.2250738585072014e-308\"]]}")},
        {"/api/v1/query_range?query=vector(time()%251.5*0)&start=10&end=12&step=1", 200,
         MATRIX("{\"metric\":{},\"values\":[[10,\"0\"],[11,\"0\"],[12,\"0\"]]}")},
        {"/api/v1/query_range?query=m&start=1&end=2&step=1", 200, MATRIX("")},
        {"/api/v1/query_range?query=sum(m)&start=1700000000&end=2023-11-14T22:13:50Z&step=15s", 200,
         MATRIX("{\"metric\":{},\"values\":[[1700000000,\"1000.5\"],[1700000015,\"1002.5\"],["
                "1700000030,\"1004.5\"]]}")},
        {"/api/v1/query?query=%7B%22odd.name%22%7D&time=1700000000", 200,
         VECTOR("{\"metric\":{\"__name__\":\"odd.name\",\"dotted.label\":\"<&>\\\"\"},\"value\":["
                "1700000000,\"1\"]}")},
    };

    (void)state;
    RUN(rows);
    /* a scalar is written in plain decimal whatever its size */
    struct answer a = get("/api/v1/query?query=1e300&time=1");
    assert_int_equal(a.body.len,
                     strlen(OK("{\"resultType\":\"scalar\",\"result\":[1,\"\"]}")) + 301);
    answer_done(&a);
}

static void each_error_has_prometheus_words(void **state)
{
    static const struct row rows[] = {
        {"/api/v1/query", 400,
         BAD("bad_data", "invalid parameter \\\"query\\\": unknown position: parse error: no "
                         "expression found in input")},
        {"/api/v1/query?query=sum(", 400,
         BAD("bad_data",
             "invalid parameter \\\"query\\\": 1:5: parse error: unclosed left parenthesis")},
        {"/api/v1/query?query=1&time=abc", 400,
         BAD("bad_data", "invalid parameter \\\"time\\\": invalid time value for 'time': cannot "
                         "parse \\\"abc\\\" to a "
                         "valid timestamp")},
        {"/api/v1/query?query=1&timeout=abc", 400,
         BAD("bad_data",
             "invalid parameter \\\"timeout\\\": cannot parse \\\"abc\\\" to a valid duration")},
        {"/api/v1/query?query=1&limit=-1", 400,
         BAD("bad_data", "invalid parameter \\\"limit\\\": limit must be non-negative")},
        {"/api/v1/query?query=1&limit=x", 400,
         BAD("bad_data",
             "invalid parameter \\\"limit\\\": strconv.Atoi: parsing \\\"x\\\": invalid syntax")},
        {"/api/v1/query?query=1&lookback_delta=x", 400,
         BAD("bad_data",
             "error parsing lookback delta duration: cannot parse \\\"x\\\" to a valid duration")},
        {"/api/v1/query_range?query=1", 400,
         BAD("bad_data",
             "invalid parameter \\\"start\\\": cannot parse \\\"\\\" to a valid timestamp")},
        {"/api/v1/query_range?query=1&start=1", 400,
         BAD("bad_data",
             "invalid parameter \\\"end\\\": cannot parse \\\"\\\" to a valid timestamp")},
        {"/api/v1/query_range?query=1&start=1&end=2", 400,
         BAD("bad_data",
             "invalid parameter \\\"step\\\": cannot parse \\\"\\\" to a valid duration")},
        {"/api/v1/query_range?query=1&start=2&end=1&step=1", 400,
         BAD("bad_data",
             "invalid parameter \\\"end\\\": end timestamp must not be before start time")},
        {"/api/v1/query_range?query=1&start=1&end=2&step=0", 400,
         BAD("bad_data", "invalid parameter \\\"step\\\": " STEP_TEXT)},
        {"/api/v1/query_range?query=1&start=1&end=2&step=-3", 400,
         BAD("bad_data", "invalid parameter \\\"step\\\": " STEP_TEXT)},
        {"/api/v1/query_range?query=1&start=0&end=11001&step=1", 400,
         BAD("bad_data", RESOLUTION_TEXT)},
        {"/api/v1/query_range?query=m%5B5m%5D&start=0&end=1&step=1", 400,
         BAD("bad_data", "invalid parameter \\\"query\\\": invalid expression type \\\"range "
                         "vector\\\" for range query, must be "
                         "Scalar or instant Vector")},
        {"/api/v1/"
         "query?query=1&time=1&stats=all&unknown=x&max_samples_processed_error_threshold=1.5",
         200, NULL},
        {"/api/v1/query_exemplars?query=test&start=5&end=1", 400,
         BAD("bad_data", "end timestamp must not be before start timestamp")},
        {"/api/v1/query_exemplars?query=)", 400,
         BAD("bad_data", "1:2: parse error: unexpected right parenthesis ')'")},
        {"/api/v1/series", 400, BAD("bad_data", "no match[] parameter provided")},
        {"/api/v1/series?match[]=%7B%7D", 400,
         BAD("bad_data", "invalid parameter \\\"match[]\\\": match[] must contain at least one "
                         "non-empty matcher")},
        {"/api/v1/series?match[]=m;x", 400,
         BAD("bad_data", "error parsing form values: invalid semicolon separator in query")},
        {"/api/v1/labels?match[]=%7B%7D", 400,
         BAD("bad_data", "match[] must contain at least one non-empty matcher")},
        {"/api/v1/labels?start=x", 400,
         BAD("bad_data", "invalid parameter \\\"start\\\": invalid time value for 'start': cannot "
                         "parse \\\"x\\\" to a valid timestamp")},
        {"/api/v1/label/job/values?match[]=a%7B", 400, NULL},
        {"/api/v1/label/%ff/values", 400, BAD("bad_data", "invalid label name: \\\"\\\\xff\\\"")},
        {"/api/v1/format_query?query=a%2B", 400, NULL},
        {"/api/v1/parse_query?query=a%2B", 400, NULL},
        {"/api/v1/metadata?limit=x", 400, BAD("bad_data", "limit must be a number")},
        {"/api/v1/metadata?limit_per_metric=x", 400,
         BAD("bad_data", "limit_per_metric must be a number")},
        {"/api/v1/rules?type=foo", 400,
         BAD("bad_data", "invalid parameter \\\"type\\\": not supported value \\\"foo\\\"")},
        {"/api/v1/rules?group_next_token=x", 400, NULL},
        {"/api/v1/status/tsdb?limit=0", 400, BAD("bad_data", "limit must be a positive number")},
        {"/api/v1/status/tsdb?limit=10001", 400, BAD("bad_data", "limit must not exceed 10000")},
    };

    (void)state;
    RUN(rows);
    expect(get("/api/v1/query?query=1&timeout=0"), "no time", 503,
           BAD("timeout", "query timed out in query execution"));
    expect(request("DELETE", "/api/v1/series", NULL, NULL), "DELETE", 405, "Method Not Allowed\n");
    /* what goes wrong in evaluation is 422 */
    expect_in(get("/api/v1/query?query=m%20%2B%20on()%20m&time=1700000000"), "many to many", 422,
              "\"errorType\":\"execution\",\"error\":\"found duplicate series for the match group "
              "{} on the");
    expect_in(get("/api/v1/"
                  "query_range?query=sum_over_time(big%5B20m%5D)&start=1700000000&end=1700001100&"
                  "step=0.1&timeout=1ms"),
              "timeout", 503, "\"errorType\":\"timeout\",\"error\":\"query timed out in ");
}

static void eleven_thousand_and_one_points_are_taken(void **state)
{
    (void)state;
    expect_in(get("/api/v1/query_range?query=1&start=0&end=11000&step=1"), "11,001", 200,
              "[11000,\"1\"]]}]}}");
}

static void labels_values_and_series(void **state)
{
    static const struct row rows[] = {
        {"/api/v1/labels", 200, OK("[\"__name__\",\"dotted.label\",\"i\",\"n\"]")},
        {"/api/v1/labels?match[]=m&match[]=big", 200, OK("[\"__name__\",\"i\",\"n\"]")},
        {"/api/v1/labels?limit=2", 200,
         "{\"status\":\"success\",\"data\":[\"__name__\",\"dotted.label\"],\"warnings\":["
         "\"" TRUNCATED "\"]}"},
        {"/api/v1/labels?limit=4", 200, OK("[\"__name__\",\"dotted.label\",\"i\",\"n\"]")},
        {"/api/v1/labels?limit=0", 200, OK("[\"__name__\",\"dotted.label\",\"i\",\"n\"]")},
        {"/api/v1/label/__name__/values", 200, OK("[\"big\",\"m\",\"odd.name\"]")},
        {"/api/v1/label/i/values?start=1700000000&end=4102444800", 200, OK("[\"0\",\"1\",\"2\"]")},
        {"/api/v1/label/i/values?match[]=%7Bi%3D~%220%7C2%22,%7D", 200, OK("[\"0\",\"2\"]")},
        {"/api/v1/label/i/values?limit=1", 200,
         "{\"status\":\"success\",\"data\":[\"0\"],\"warnings\":[\"" TRUNCATED "\"]}"},
        {"/api/v1/label/U__dotted_2e_label/values", 200, OK("[\"\\u003c\\u0026\\u003e\\\"\"]")},
        {"/api/v1/label/dotted.label/values", 200, OK("[\"\\u003c\\u0026\\u003e\\\"\"]")},
        {"/api/v1/label/U__dotted_2e/values", 200, OK("[]")},
        {"/api/v1/label/none/values", 200, OK("[]")},
        {"/api/v1/series?match[]=m", 200,
         OK("[{\"__name__\":\"m\",\"i\":\"0\"},{\"__name__\":\"m\",\"i\":\"1\"},{\"__name__\":"
            "\"m\",\"i\":\"2\"}]")},
        {"/api/v1/series?match[]=m%7Bi%3D%222%22%7D&match[]=%7Bi!%3D%22%22%7D&limit=2", 200,
         "{\"status\":\"success\",\"data\":[{\"__name__\":\"m\",\"i\":\"0\"},{\"__name__\":\"m\","
         "\"i\":\"1\"}],\"warnings\":[\"" TRUNCATED "\"]}"},
        {"/api/v1/series?match[]=none", 200, OK("[]")},
        {"/api/v1/series?match[]=m&start=1&end=2", 200, OK("[]")},
    };

    (void)state;
    RUN(rows);
    /* Grafana's suggestions: POST with the parameters in the URL */
    expect(post("/api/v1/label/i/values?limit=5", ""), "POST values", 200,
           OK("[\"0\",\"1\",\"2\"]"));
}

static void limits_cut_results_and_say_so(void **state)
{
    (void)state;
    expect(get("/api/v1/query?query=m&time=1700000000&limit=1"), "cut", 200,
           "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{"
           "\"__name__\":\"m\",\"i\":\"0\"},"
           "\"value\":[1700000000,\"0\"]}]},\"warnings\":[\"" TRUNCATED "\"]}");
    expect(get("/api/v1/query_range?query=m&start=1700000000&end=1700000000&step=1&limit=1"), "cut",
           200,
           "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{"
           "\"__name__\":\"m\",\"i\":\"0\"},"
           "\"values\":[[1700000000,\"0\"]]}]},\"warnings\":[\"" TRUNCATED "\"]}");
    struct answer a = get("/api/v1/query?query=m&time=1700000000&limit=3");
    assert_null(strstr(buf_cstr(&a.body), "warnings"));
    answer_done(&a);
}

static void annotations_come_as_warnings_and_infos(void **state)
{
    (void)state;
    expect_in(get("/api/v1/query?query=quantile(2,m)&time=1700000000"), "warning", 200,
              "},\"warnings\":[\"PromQL warning: quantile value should be between 0 and 1, got 2 "
              "(1:10)\"]}");
    expect_in(get("/api/v1/query?query=rate(m%5B5m%5D)&time=1700000300"), "info", 200,
              "},\"infos\":[\"PromQL info: metric might not be a counter, name does not end in "
              "_total/_sum/_count/_bucket: "
              "\\\"m\\\" (1:6)\"]}");
}

static void stats_are_given_when_asked_for(void **state)
{
    static const char *const keys[] = {
        "\"evalTotalTime\":",
        "\"resultSortTime\":",
        "\"queryPreparationTime\":",
        "\"innerEvalTime\":",
        "\"execQueueTime\":",
        "\"execTotalTime\":",
        "\"samples\":{\"totalQueryableSamples\":3,\"samplesRead\":3,"};

    (void)state;
    struct answer a = get("/api/v1/query?query=m&time=1700000000&stats=all");
    const char *b = buf_cstr(&a.body);
    const char *at = strstr(b, "],\"stats\":{\"timings\":{");
    assert_non_null(at);
    for (size_t i = 0; i < NX_COUNT(keys); i++) {
        at = strstr(at, keys[i]);
        assert_non_null(at);
    }
    answer_done(&a);
    a = get("/api/v1/query?query=m&time=1700000000");
    assert_null(strstr(buf_cstr(&a.body), "stats"));
    answer_done(&a);
    expect_in(
        get("/api/v1/query?query=m&time=1700000000&stats=a%22b&limit=1"), "other words", 200,
        "\"warnings\":[\"results truncated due to limit\",\"value \\\"a\\\\\\\"b\\\" for parameter "
        "\\\"stats\\\" is deprecated and will be rejected in the next major release, use "
        "\\\"true\\\" or \\\"all\\\"\"]}");
    a = get("/api/v1/query?query=1&stats=true");
    assert_null(strstr(buf_cstr(&a.body), "warnings"));
    answer_done(&a);
}

static void parameters_of_url_and_body_are_merged(void **state)
{
    (void)state;
    const char *two = OK("{\"resultType\":\"scalar\",\"result\":[4,\"2\"]}");
    expect(post("/api/v1/query", "query=1%2B1&time=4"), "body", 200, two);
    expect(post("/api/v1/query?time=4&query=9", "query=1%2B1"), "the body wins", 200, two);
    expect(post("/api/v1/query?query=1%2B1&time=4", ""), "URL alone", 200, two);
    expect(request("POST", "/api/v1/query",
                   "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n",
                   "query=1%2B1&time=4"),
           "charset", 200, two);
    expect(request("POST", "/api/v1/query",
                   "content-type: APPLICATION/X-WWW-FORM-URLENCODED;charset=UTF-8\r\n",
                   "query=1%2B1&time=4"),
           "case", 200, two);
    expect_in(request("POST", "/api/v1/query", "Content-Type: application/json\r\n",
                      "query=1%2B1&time=4"),
              "another type", 400, "no expression found in input");
    expect_in(request("POST", "/api/v1/query", NULL, "query=1%2B1&time=4"), "no type", 400,
              "no expression found in input");
    expect_in(request("GET", "/api/v1/query", FORM, "query=1%2B1&time=4"), "GET with a body", 400,
              "no expression found in input");
    expect(post("/api/v1/series?match[]=m%7Bi%3D%220%22%7D", "match[]=m%7Bi%3D%221%22%7D"),
           "lists see both", 200,
           OK("[{\"__name__\":\"m\",\"i\":\"0\"},{\"__name__\":\"m\",\"i\":\"1\"}]"));
    expect(post("/api/v1/query", "query=1+%2B+1&time=4&"), "plus", 200, two);
}

static void keep_exemplar(const char *job, const char *id, double value, int64_t t_ms)
{
    const struct label series[] = {{LIT("__name__"), LIT("m_bucket")}, {LIT("job"), STR(job)}};
    const struct label own[] = {{LIT("trace_id"), STR(id)}};
    const struct labels ls = {series, 2};
    const struct storage_exemplar e = {{own, id[0] != 0}, value, t_ms, true};
    struct nx_err err;

    assert_ok(storage_exemplar_add(served.storage, &ls, &e, NULL, &err), &err);
}

/* STO-065, SLF-098; contract 2.5 */
static void exemplars_of_an_expression(void **state)
{
#define B "{\"seriesLabels\":{\"__name__\":\"m_bucket\",\"job\":\"b\"},\"exemplars\":["
    static const struct row rows[] = {
        {"/api/v1/query_exemplars?query=histogram_quantile(0.9,sum(rate(m_bucket%5B1m%5D))by(le))",
         200,
         OK("[{\"seriesLabels\":{\"__name__\":\"m_bucket\",\"job\":\"a\"},\"exemplars\":["
            "{\"labels\":{},\"value\":\"1e-07\",\"timestamp\":-0.001}]}," B
            "{\"labels\":{\"trace_id\":\"\\\"<\"},\"value\":\"1.5\",\"timestamp\":1700000000.250},"
            "{\"labels\":{\"trace_id\":\"y\"},\"value\":\"+Inf\",\"timestamp\":1700000001}]}]")},
        {"/api/v1/query_exemplars?query=m_bucket&start=1700000001&end=1700000001", 200,
         OK("[" B
            "{\"labels\":{\"trace_id\":\"y\"},\"value\":\"+Inf\",\"timestamp\":1700000001}]}]")},
        {"/api/v1/query_exemplars?query=m_bucket%7Bjob=%22b%22%7D%2Bm_bucket%7Bjob=~%22b%7Cc%22%7D"
         "&end=1700000000.25",
         200,
         OK("[" B "{\"labels\":{\"trace_id\":\"\\\"<\"},\"value\":\"1.5\",\"timestamp\":"
            "1700000000.250}]}]")},
        {"/api/v1/query_exemplars?query=m_bucket&start=1700000002", 200, OK("[]")},
        {"/api/v1/query_exemplars?query=other", 200, OK("[]")},
        {"/api/v1/query_exemplars?query=1%2B1", 204, ""},
    };
#undef B

    (void)state;
    storage_set_max_exemplars(served.storage, 10);
    keep_exemplar("b", "\"<", 1.5, 1700000000250);
    keep_exemplar("a", "", 1e-7, -1);
    keep_exemplar("b", "y", INFINITY, 1700000001000);
    keep_exemplar("b", "y", 1, 1700000000999);
    RUN(rows);
    expect_in(get("/metrics"), "held", 200, "\nprometheus_tsdb_exemplar_exemplars_in_storage 3\n");
    expect_in(get("/metrics"), "series", 200,
              "\nprometheus_tsdb_exemplar_series_with_exemplars_in_storage 2\n");
    expect_in(get("/metrics"), "appended", 200,
              "\nprometheus_tsdb_exemplar_exemplars_appended_total 3\n");
    expect_in(get("/metrics"), "out of order", 200,
              "\nprometheus_tsdb_exemplar_out_of_order_exemplars_total 1\n");
    expect_in(get("/metrics"), "max", 200, "\nprometheus_tsdb_exemplar_max_exemplars 10\n");
    expect_in(get("/metrics"), "oldest", 200,
              "\nprometheus_tsdb_exemplar_last_exemplars_timestamp_seconds 1.70000000025e+09\n");
    expect_in(get("/metrics"), "of scrapes", 200,
              "\nprometheus_target_scrapes_exemplar_out_of_order_total 0\n");
    storage_set_max_exemplars(served.storage, 0);
    expect(get("/api/v1/query_exemplars?query=m_bucket"), "off", 200, OK("[]"));
}

/* OpenMetrics wants bounds of buckets with a point. */
static void bounds_are_told_in_the_formats_own_way(void **state)
{
    static const char om[] = "Accept: application/openmetrics-text; version=1.0.0\r\n";

    (void)state;
    expect(get("/-/healthy"), "counted", 200, NULL);
    for (int i = 0; i < 2; i++) {
        struct answer a = request("GET", "/metrics", i ? om : NULL, NULL);
        const char *text = buf_cstr(&a.body);
        const char *const want[] = {
            i ? "_duration_seconds_bucket{handler=\"/-/healthy\",le=\"1.0\"} "
              : "_duration_seconds_bucket{handler=\"/-/healthy\",le=\"1\"} ",
            i ? "_size_bytes_bucket{handler=\"/-/healthy\",le=\"100.0\"} "
              : "_size_bytes_bucket{handler=\"/-/healthy\",le=\"100\"} ",
            "_size_bytes_bucket{handler=\"/-/healthy\",le=\"+Inf\"} ",
            i ? "prometheus_tsdb_sample_ooo_delta_bucket{le=\"600.0\"} 0"
              : "prometheus_tsdb_sample_ooo_delta_bucket{le=\"600\"} 0"};
        for (size_t k = 0; k < NX_COUNT(want); k++)
            if (!strstr(text, want[k]))
                fail_msg("no %s in the answer", want[k]);
        assert_int_equal(strstr(text, ",le=\"1\"}") != NULL, !i);
        answer_done(&a);
    }
}

static void grafanas_probes_are_answered(void **state)
{
    (void)state;
    expect(get("/api/v1/query_exemplars?query=test&start=1795161078264&end=1795164678264"),
           "exemplars", 200, OK("[]"));
    expect(post("/api/v1/query_exemplars", "query=rate(m%5B1m0s%5D)"), "exemplars", 200, OK("[]"));
    expect(get("/api/v1/query_exemplars?query=1"), "no selector", 204, "");
    expect(get("/api/v1/rules"), "rules", 200, OK("{\"groups\":[]}"));
    expect(get("/api/v1/rules?file=x&rule_group=y&exclude_alerts=true&group_limit=40&type=alert"),
           "rules", 200, OK("{\"groups\":[]}"));
    expect(get("/api/v1/alerts"), "alerts", 200, OK("{\"alerts\":[]}"));
    expect(get("/api/v1/alertmanagers"), "alertmanagers", 200,
           OK("{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}"));
    struct answer a = get("/api/v1/status/buildinfo");
    const char *b = buf_cstr(&a.body);
    static const char start[] = "{\"status\":\"success\",\"data\":{\"version\":\"3.";
    assert_memory_equal(b, start, sizeof start - 1);
    assert_null(strstr(b, "features"));
    assert_null(strstr(b, "application"));
    answer_done(&a);
    expect_in(
        get("/api/v1/"
            "query?query=group%20by%20(__name__)%20(%7B__name__!%3D%22%22%7D)&time=1700000000"),
        "drilldown", 200, "{\"metric\":{\"__name__\":\"big\"},\"value\":[1700000000,\"1\"]}");
    expect(get("/api/v1/parse_query?query=-1"), "parse", 200,
           OK("{\"type\":\"numberLiteral\",\"val\":\"-1\"}"));
    expect(get("/api/v1/format_query?query=sum(m)%20by(i)%20%2B%201"), "format", 200,
           OK("\"sum by (i) (m) + 1\""));
}

static void targets_and_metadata(void **state)
{
#define FOUND "\"discoveredLabels\":{\"__address__\":\"127.0.0.1:1\",\"job\":\"a\"}"
#define TARGET(pool, error, time, health)                                                          \
    "{" FOUND ",\"labels\":{\"instance\":\"127.0.0.1:1\",\"job\":\"a\"},\"scrapePool\":\"" pool    \
    "\","                                                                                          \
    "\"scrapeUrl\":\"http://127.0.0.1:1/metrics?a=b\\u0026c=d\",\"globalUrl\":\"http://host:1/"    \
    "metrics\","                                                                                   \
    "\"lastError\":\"" error "\",\"lastScrape\":\"" time                                           \
    "\",\"lastScrapeDuration\":0.25,\"health\":\"" health                                          \
    "\",\"scrapeInterval\":\"15s\",\"scrapeTimeout\":\"10s\"}"
#define FIRST   TARGET("a", "", "0001-01-01T00:00:00Z", "unknown")
#define SECOND  TARGET("b", "no \\\"luck\\\"", "2023-11-14T22:13:20.5Z", "down")
#define DROPPED "{" FOUND ",\"scrapePool\":\"b\"}"
#define ALL(active, dropped, counts)                                                               \
    OK("{\"activeTargets\":[" active "],\"droppedTargets\":[" dropped                              \
       "],\"droppedTargetCounts\":" counts "}")
#define COUNTS "{\"a\":0,\"b\":1}"
    static const struct row rows[] = {
        {"/api/v1/targets", 200, ALL(FIRST "," SECOND, DROPPED, COUNTS)},
        {"/api/v1/targets?state=Active", 200, ALL(FIRST "," SECOND, "", "null")},
        {"/api/v1/targets?state=dropped", 200, ALL("", DROPPED, COUNTS)},
        {"/api/v1/targets?state=foo", 200, ALL("", "", "null")},
        {"/api/v1/targets?scrapePool=a", 200, ALL(FIRST, "", COUNTS)},
        {"/api/v1/scrape_pools", 200, OK("{\"scrapePools\":[\"a\",\"b\"]}")},
        {"/api/v1/metadata", 200,
         OK("{\"up\":[{\"type\":\"gauge\",\"unit\":\"\",\"help\":\"Is it up?\"}],"
            "\"x_total\":[{\"type\":\"counter\",\"unit\":\"\",\"help\":\"Another "
            "X.\"},{\"type\":\"counter\",\"unit\":\"\",\"help\":\"X.\"}],"
            "\"z_bytes\":[{\"type\":\"gauge\",\"unit\":\"bytes\",\"help\":\"Z.\"}]}")},
        {"/api/v1/metadata?metric=up", 200,
         OK("{\"up\":[{\"type\":\"gauge\",\"unit\":\"\",\"help\":\"Is it up?\"}]}")},
        {"/api/v1/metadata?metric=none", 200, OK("{}")},
        {"/api/v1/metadata?limit=0", 200, OK("{}")},
        {"/api/v1/metadata?limit=1", 200,
         OK("{\"up\":[{\"type\":\"gauge\",\"unit\":\"\",\"help\":\"Is it up?\"}]}")},
        {"/api/v1/metadata?limit_per_metric=1&metric=x_total", 200,
         OK("{\"x_total\":[{\"type\":\"counter\",\"unit\":\"\",\"help\":\"Another X.\"}]}")},
        {"/api/v1/targets/metadata?match_target=%7Bjob%3D%22b%22%7D&metric=up", 200,
         OK("[{\"target\":{\"job\":\"b\"},\"type\":\"gauge\",\"help\":\"Is it "
            "up?\",\"unit\":\"\"}]")},
        {"/api/v1/targets/metadata?match_target=%7B%7D&limit=1", 200,
         OK("[{\"target\":{\"job\":\"a\"},\"metric\":\"up\",\"type\":\"gauge\",\"help\":\"Is it "
            "up?\",\"unit\":\"\"}]")},
        {"/api/v1/targets/metadata?limit=1", 200,
         OK("[{\"target\":{\"job\":\"a\"},\"metric\":\"up\",\"type\":\"gauge\",\"help\":\"Is it "
            "up?\",\"unit\":\"\"}]")},
    };

    (void)state;
    RUN(rows);
}

static void status_pages(void **state)
{
    static const char *const runtime[] = {"\"startTime\":\"2023-11-14T22:13:20Z\"",
                                          "\"CWD\":\"/",
                                          "\"hostname\":\"",
                                          "\"serverTime\":\"",
                                          "\"reloadConfigSuccess\":true",
                                          "\"lastConfigTime\":\"2023-11-14T22:13:20Z\"",
                                          "\"corruptionCount\":0",
                                          "\"goroutineCount\":",
                                          "\"GOMAXPROCS\":",
                                          "\"GOMEMLIMIT\":",
                                          "\"GOGC\":",
                                          "\"GODEBUG\":",
                                          "\"storageRetention\":\"15d\"}"};

    (void)state;
    expect(get("/api/v1/status/config"), "config", 200,
           OK("{\"yaml\":\"global:\\n  scrape_interval: 15s\\n\"}"));
    expect(get("/api/v1/status/flags"), "flags", 200,
           OK("{\"a.flag\":\"x\",\"web.enable-lifecycle\":\"false\"}"));
    struct answer a = get("/api/v1/status/runtimeinfo");
    const char *at = buf_cstr(&a.body);
    for (size_t i = 0; i < NX_COUNT(runtime); i++) {
        at = strstr(at, runtime[i]);
        if (!at)
            fail_msg("runtimeinfo lacks %s", runtime[i]);
    }
    answer_done(&a);
    expect_in(get("/api/v1/status/tsdb?limit=2"), "tsdb", 200,
              "\"seriesCountByMetricName\":[{\"name\":\"big\",\"value\":200},{\"name\":\"m\","
              "\"value\":3}],"
              "\"labelValueCountByLabelName\":[{\"name\":\"n\",\"value\":200},");
    expect_in(get("/api/v1/status/tsdb"), "tsdb", 200,
              "\"headStats\":{\"numSeries\":204,\"numLabelPairs\":207,\"chunkCount\":");
    expect_in(get("/version"), "version", 200, "{\"version\":\"3.");
    expect_in(get("/"), "page", 200, "<title>Title</title>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_four_result_types),
        cmocka_unit_test(each_error_has_prometheus_words),
        cmocka_unit_test(eleven_thousand_and_one_points_are_taken),
        cmocka_unit_test(labels_values_and_series),
        cmocka_unit_test(limits_cut_results_and_say_so),
        cmocka_unit_test(annotations_come_as_warnings_and_infos),
        cmocka_unit_test(stats_are_given_when_asked_for),
        cmocka_unit_test(parameters_of_url_and_body_are_merged),
        cmocka_unit_test(exemplars_of_an_expression),
        cmocka_unit_test(bounds_are_told_in_the_formats_own_way),
        cmocka_unit_test(grafanas_probes_are_answered),
        cmocka_unit_test(targets_and_metadata),
        cmocka_unit_test(status_pages),
    };
    int failed = 0;

    served_setup(NULL);
    serve(NULL);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unserve(NULL);
    served_teardown(NULL);
    return failed;
}
