/* Which path takes which method, and which headers its answers carry. */
#include "tests/web/served.h"

#include "src/web/http.h"

static void every_route_answers_its_methods_and_refuses_the_others(void **state)
{
    static const char *const names[] = {"GET", "POST", "PUT", "HEAD", "DELETE", "PATCH"};
    static const unsigned bits[] = {WEB_GET, WEB_POST, WEB_PUT, WEB_HEAD, WEB_DELETE, WEB_OTHER};
    char target[256], about[300];

    (void)state;
    for (size_t i = 0; i < web_n_routes; i++) {
        unsigned methods = 0;
        const char *param = strchr(web_routes[i].pattern, ':');
        for (size_t k = 0; k < web_n_routes; k++)
            if (strcmp(web_routes[k].pattern, web_routes[i].pattern) == 0)
                methods |= web_routes[k].methods;
        snprintf(target, sizeof target, "%.*s%s",
                 param ? (int)(param - web_routes[i].pattern) : 255, web_routes[i].pattern,
                 param ? "job/values" : "");
        for (size_t m = 0; m < NX_COUNT(names); m++) {
            struct answer a = request(names[m], target, NULL, NULL);
            snprintf(about, sizeof about, "%s %s -> %u", names[m], target, a.status);
            bool refused = a.status == 405 && header(&a, "Allow");
            if (refused == !!(methods & bits[m]))
                fail_msg("%s", about);
            if (refused && bits[m] != WEB_HEAD)
                assert_text(buf_view(&a.body), "Method Not Allowed\n", about);
            if (refused) {
                assert_string_equal(header(&a, "X-Content-Type-Options"), "nosniff");
                assert_null(header(&a, "Vary"));
            }
            answer_done(&a);
        }
    }
}

static void allow_lists_what_prometheus_lists(void **state)
{
    static const char *const rows[][2] = {
        {"/api/v1/query", "GET, OPTIONS, POST"},  {"/api/v1/series", "GET, OPTIONS, POST"},
        {"/api/v1/targets", "GET, OPTIONS"},      {"/-/healthy", "GET, HEAD, OPTIONS"},
        {"/-/reload", "GET, OPTIONS, POST, PUT"}, {"/metrics", "GET, OPTIONS"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        struct answer a = request("PATCH", rows[i][0], NULL, NULL);
        assert_int_equal(a.status, 405);
        assert_string_equal(header(&a, "Allow"), rows[i][1]);
        answer_done(&a);
    }
}

static void unknown_paths_are_404_in_plain_text(void **state)
{
    static const char *const rows[] = {"/nothing",
                                       "/api/v1/nothing",
                                       "/api/v2/query",
                                       "/api/v1/label//values",
                                       "/api/v1/label/a%2Fb/values",
                                       "/api/v1/label/a/b/values",
                                       "/-/"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        struct answer a = get(rows[i]);
        if (a.status != 404)
            fail_msg("%s: %u", rows[i], a.status);
        assert_string_equal(header(&a, "Content-Type"), "text/plain; charset=utf-8");
        assert_string_equal(header(&a, "X-Content-Type-Options"), "nosniff");
        assert_null(header(&a, "Vary"));
        expect(a, rows[i], 404, "404 page not found\n");
    }
}

static void other_spellings_are_redirected(void **state)
{
    static const struct {
        const char *method, *target;
        unsigned status;
        const char *location;
    } rows[] = {
        {"GET", "/api/v1/query/?query=up&x=%22", 301, "/api/v1/query?query=up&x=%22"},
        {"POST", "/api/v1/query/", 308, "/api/v1/query"},
        {"GET", "//api/v1/query?query=1", 301, "/api/v1/query?query=1"},
        {"GET", "/API/v1/Query", 301, "/api/v1/query"},
        {"GET", "/api/./v1/../v1/query", 301, "/api/v1/query"},
        {"GET", "/api/v1/label/Job%22x/values/", 301, "/api/v1/label/Job%22x/values"},
        {"GET", "/metrics/", 301, "/metrics"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        struct answer a = request(rows[i].method, rows[i].target, NULL, NULL);
        if (a.status != rows[i].status || !header(&a, "Location") ||
            strcmp(header(&a, "Location"), rows[i].location) != 0)
            fail_msg("%s: %u %s", rows[i].target, a.status, a.head);
        answer_done(&a);
    }
    expect(get("/metrics/"), "body", 301, "<a href=\"/metrics\">Moved Permanently</a>.\n\n");
    expect(get("/metrics/?a='\"<&"), "body", 301,
           "<a href=\"/metrics?a=&#39;&#34;&lt;&amp;\">Moved Permanently</a>.\n\n");
}

static void options_is_204_on_the_api_and_lists_methods_elsewhere(void **state)
{
    static const char *const api[] = {"/api/v1/query", "/api/v1/nothing/at/all",
                                      "/api/v1/status/flags"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(api); i++) {
        struct answer a = request("OPTIONS", api[i], "Origin: http://x\r\n", NULL);
        assert_string_equal(header(&a, "Access-Control-Allow-Origin"), "*");
        assert_string_equal(header(&a, "Access-Control-Allow-Methods"), "GET, POST, OPTIONS");
        expect(a, api[i], 204, "");
    }
    struct answer a = request("OPTIONS", "/-/healthy", NULL, NULL);
    assert_string_equal(header(&a, "Allow"), "GET, HEAD, OPTIONS");
    assert_null(header(&a, "Vary"));
    expect(a, "/-/healthy", 200, "");
    expect(request("OPTIONS", "/nothing", NULL, NULL), "/nothing", 404, "404 page not found\n");
}

static void api_answers_carry_vary_and_cors(void **state)
{
    (void)state;
    struct answer a = get("/api/v1/labels");
    assert_string_equal(header(&a, "Content-Type"), "application/json");
    assert_string_equal(header_nth(&a, "Vary", 0), "Origin");
    assert_string_equal(header_nth(&a, "Vary", 1), "Accept-Encoding");
    assert_null(header(&a, "Access-Control-Allow-Origin"));
    assert_non_null(header(&a, "Date"));
    answer_done(&a);
    a = request("GET", "/api/v1/query?query=", "Origin: http://grafana\r\n", NULL);
    assert_int_equal(a.status, 400); /* on errors, too */
    assert_string_equal(header(&a, "Access-Control-Allow-Origin"), "*");
    assert_string_equal(header(&a, "Access-Control-Allow-Headers"),
                        "Accept, Authorization, Content-Type, Origin");
    assert_string_equal(header(&a, "Access-Control-Expose-Headers"), "Date");
    answer_done(&a);
    a = get("/api/v1/status/walreplay"); /* never compressed, as in Prometheus */
    assert_string_equal(header_nth(&a, "Vary", 0), "Origin");
    assert_null(header_nth(&a, "Vary", 1));
    expect(a, "walreplay", 200,
           "{\"status\":\"success\",\"data\":{\"min\":0,\"max\":0,\"current\":0}}");
}

static void only_matching_origins_are_let_in(void **state)
{
    (void)state;
    serve_with((struct web_opts){.cors_origin = "https?://(a|b)\\.example"});
    struct answer a = request("GET", "/api/v1/labels", "Origin: http://b.example\r\n", NULL);
    assert_string_equal(header(&a, "Access-Control-Allow-Origin"), "http://b.example");
    answer_done(&a);
    a = request("GET", "/api/v1/labels", "Origin: http://b.example.org\r\n", NULL);
    assert_null(header(&a, "Access-Control-Allow-Origin"));
    assert_string_equal(header(&a, "Access-Control-Expose-Headers"), "Date");
    answer_done(&a);
}

static void gzip_is_used_where_it_is_named_alone(void **state)
{
    static const struct {
        const char *accept;
        bool gzip;
    } rows[] = {
        {"gzip", true},
        {"gzip, deflate, br, zstd", true},
        {"deflate, gzip", true},
        {"br ,  gzip ", true},
        {"gzip;q=1.0", false},
        {"identity", false},
        {"GZIP", false},
        {"x-gzip", false},
        {"", false},
    };
    char accept[128];

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        snprintf(accept, sizeof accept, "Accept-Encoding: %s\r\n", rows[i].accept);
        struct answer a = request("GET", "/api/v1/labels", accept, NULL);
        if (a.gzip != rows[i].gzip)
            fail_msg("%s", rows[i].accept);
        if (a.gzip)
            assert_string_equal(header(&a, "Content-Encoding"), "gzip");
        expect_in(a, rows[i].accept, 200, "\"__name__\"");
    }
    struct answer a = request("GET", "/-/healthy", "Accept-Encoding: gzip\r\n", NULL);
    assert_false(a.gzip);
    answer_done(&a);
    a = request("GET", "/metrics", "Accept-Encoding: gzip\r\n", NULL);
    assert_true(a.gzip);
    answer_done(&a);
}

static void health_and_lifecycle_say_what_prometheus_says(void **state)
{
    (void)state;
    serve_with((struct web_opts){0});
    expect(get("/-/healthy"), "healthy", 200, "Prometheus Server is Healthy.\n");
    expect(get("/-/ready"), "ready", 200, "Prometheus Server is Ready.\n");
    expect(request("HEAD", "/-/ready", NULL, NULL), "HEAD", 200, "");
    expect(post("/-/reload", ""), "reload", 403, "Lifecycle API is not enabled.");
    expect(request("PUT", "/-/quit", NULL, NULL), "quit", 403, "Lifecycle API is not enabled.");
    expect(get("/-/quit"), "quit", 405, "Only POST or PUT requests allowed");
    assert_int_equal(served.quits + served.reloads, 0);
    unserve(NULL);
    serve_with((struct web_opts){.enable_lifecycle = true});
    expect(get("/-/reload"), "reload", 405, "Only POST or PUT requests allowed");
    expect(post("/-/reload", ""), "reload", 200, "");
    expect(request("PUT", "/-/reload", NULL, NULL), "reload", 200, "");
    assert_int_equal(served.reloads, 2);
    served.reload_error = "bad \"file\"";
    struct answer a = post("/-/reload", "");
    assert_string_equal(header(&a, "X-Content-Type-Options"), "nosniff");
    expect(a, "reload", 500, "failed to reload config: bad \"file\"\n");
    expect(post("/-/quit", ""), "quit", 200, "Requesting termination... Goodbye!");
    assert_int_equal(served.quits, 1);
}

static void until_it_is_ready_the_api_is_unavailable(void **state)
{
    static const char *const gated[] = {"/-/ready", "/api/v1/query?query=1",
                                        "/api/v1/status/config", "/api/v1/labels", "/api/v1/rules"};
    static const char *const open[] = {"/-/healthy", "/metrics", "/version",
                                       "/api/v1/status/walreplay"};

    (void)state;
    served.not_ready = true;
    serve_with((struct web_opts){0});
    for (size_t i = 0; i < NX_COUNT(gated); i++) {
        struct answer a = request("GET", gated[i], "Origin: http://x\r\n", NULL);
        assert_string_equal(header(&a, "X-Prometheus-Stopping"), "false");
        assert_string_equal(header(&a, "Content-Type"), "text/plain; charset=utf-8");
        assert_null(header(&a, "Vary"));
        expect(a, gated[i], 503, "Service Unavailable");
    }
    expect(request("OPTIONS", "/api/v1/query", NULL, NULL), "OPTIONS", 503, "Service Unavailable");
    for (size_t i = 0; i < NX_COUNT(open); i++)
        expect(get(open[i]), open[i], 200, NULL);
    struct answer a = get("/metrics");
    assert_non_null(strstr(buf_cstr(&a.body), "prometheus_ready 0\n"));
    assert_null(strstr(a.body.ptr, "prometheus_tsdb_"));
    answer_done(&a);
    expect(get("/"), "page", 200, NULL);
    serve_data();
    __atomic_store_n(&served.not_ready, false, __ATOMIC_RELEASE);
    expect(get("/-/ready"), "ready", 200, NULL);
    a = get("/metrics");
    assert_non_null(strstr(buf_cstr(&a.body), "prometheus_ready 1\n"));
    assert_non_null(strstr(a.body.ptr, "prometheus_tsdb_head_series 204\n"));
    answer_done(&a);
}

static void everything_lives_below_the_route_prefix(void **state)
{
    (void)state;
    serve_with(
        (struct web_opts){.external_url = "http://proxy.example/prom/", .route_prefix = NULL});
    expect_in(get("/prom/api/v1/query?query=1"), "below", 200, "scalar");
    expect(get("/prom/-/healthy"), "below", 200, NULL);
    expect(get("/api/v1/query?query=1"), "above", 404, "404 page not found\n");
    expect(get("/promx/-/healthy"), "beside", 404, "404 page not found\n");
    struct answer a = get("/");
    assert_string_equal(header(&a, "Location"), "/prom");
    expect(a, "/", 302, "<a href=\"/prom\">Found</a>.\n\n");
    a = get("/prom/metrics/");
    assert_string_equal(header(&a, "Location"), "/prom/metrics");
    answer_done(&a);
    expect_in(get("/prom/"), "page", 200, "href=\"/prom/api/v1/targets\"");
    unserve(NULL);
    serve_with(
        (struct web_opts){.external_url = "http://proxy.example/prom/", .route_prefix = "/"});
    expect_in(get("/api/v1/query?query=1"), "the proxy cuts it", 200, "scalar");
    expect_in(get("/"), "page", 200, "href=\"/prom/api/v1/targets\"");
    unserve(NULL);
    serve_with((struct web_opts){.route_prefix = "p/"});
    expect(get("/p/-/healthy"), "p", 200, NULL);
}

static void absolute_targets_and_bad_escapes(void **state)
{
    (void)state;
    expect_in(get("http://127.0.0.1:9090/api/v1/query?query=1"), "absolute", 200, "scalar");
    expect(get("http://127.0.0.1:9090"), "absolute", 200, NULL);
    expect(get("/api/v1/label/%zz/values"), "escape", 400, "400 Bad Request");
}

static void metrics_of_requests_are_by_route(void **state)
{
    (void)state;
    expect(get("/api/v1/label/job/values"), "values", 200, NULL);
    expect(get("/api/v1/query?query=)"), "query", 400, NULL);
    expect(get("/nothing"), "404", 404, NULL);
    struct answer a = get("/metrics");
    static const char type[] = "text/plain; version=0.0.4; charset=utf-8";
    assert_memory_equal(header(&a, "Content-Type"), type, sizeof type - 1);
    const char *b = buf_cstr(&a.body);
    assert_non_null(strstr(
        b,
        "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/label/:name/values\"} 1\n"));
    assert_non_null(
        strstr(b, "prometheus_http_requests_total{code=\"400\",handler=\"/api/v1/query\"} 1\n"));
    assert_non_null(
        strstr(b, "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/query\"} 0\n"));
    assert_null(strstr(b, "code=\"404\""));
    assert_non_null(
        strstr(b, "prometheus_sd_discovered_targets{config=\"a\",name=\"scrape\"} 4\n"));
    assert_non_null(strstr(b, "prometheus_target_scrape_pool_targets{scrape_job=\"a\"} 2\n"));
    /* families come sorted, each once */
    char last[128] = "", name[128];
    for (const char *at = b; (at = strstr(at, "# TYPE ")); strcpy(last, name)) {
        at += 7;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " "), at);
        if (strcmp(last, name) >= 0)
            fail_msg("%s after %s", name, last);
    }
    assert_non_null(strstr(b, "prometheus_http_request_duration_seconds_bucket{handler=\"/api/v1/"
                              "query\",le=\"+Inf\"} 1\n"));
    answer_done(&a);
}

int main(void)
{
#define WITH_SERVER(t) cmocka_unit_test_setup_teardown(t, serve, unserve)
#define BY_ITSELF(t)   cmocka_unit_test_teardown(t, unserve)
    const struct CMUnitTest tests[] = {
        WITH_SERVER(every_route_answers_its_methods_and_refuses_the_others),
        WITH_SERVER(allow_lists_what_prometheus_lists),
        WITH_SERVER(unknown_paths_are_404_in_plain_text),
        WITH_SERVER(other_spellings_are_redirected),
        WITH_SERVER(options_is_204_on_the_api_and_lists_methods_elsewhere),
        WITH_SERVER(api_answers_carry_vary_and_cors),
        BY_ITSELF(only_matching_origins_are_let_in),
        WITH_SERVER(gzip_is_used_where_it_is_named_alone),
        BY_ITSELF(health_and_lifecycle_say_what_prometheus_says),
        BY_ITSELF(until_it_is_ready_the_api_is_unavailable),
        BY_ITSELF(everything_lives_below_the_route_prefix),
        WITH_SERVER(absolute_targets_and_bad_escapes),
        WITH_SERVER(metrics_of_requests_are_by_route),
    };
    return cmocka_run_group_tests(tests, served_setup, served_teardown);
}
