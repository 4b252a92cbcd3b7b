/* The whole manager: from a configuration to samples in a store, over real sockets on loopback. Waiting
 * is for a condition, with a limit that only a failure reaches. */
#include "../support/test.h"

#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <time.h>
#include <zlib.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/scrape/scrape.h"
#include "web_server.h"

struct rig {
    struct web *web;
    struct test_tmpdir dir;
    struct storage *storage;
    struct scrape *scrape;
    struct arena *arena;
};

static void rig_start(struct rig *r, const struct scrape_opts *more)
{
    struct scrape_opts opts = more ? *more : (struct scrape_opts){0};
    struct storage_opts store = {.fs = fs_real(), .no_worker = true};
    struct nx_err err;

    r->web = web_start();
    test_tmpdir_new(&r->dir);
    store.dir = r->dir.path;
    assert_ok(storage_open(&r->storage, &store, &err), &err);
    opts.storage = r->storage;
    opts.discovery_reload_ms = 10;
    assert_ok(scrape_new(&r->scrape, &opts, &err), &err);
    r->arena = arena_new(0);
}

static void rig_stop(struct rig *r)
{
    arena_free(r->arena);
    scrape_free(r->scrape);
    storage_close(r->storage);
    test_tmpdir_done(&r->dir);
    web_stop(r->web);
}

/* %u in the text is the server's port. */
static void apply(struct rig *r, const char *yaml)
{
    struct config *cfg;
    struct nx_err err;
    struct buf b;

    buf_init(&b, 0);
    for (const char *p = yaml; *p; p++) {
        if (p[0] == '%' && p[1] == 'u') {
            buf_printf(&b, "%u", r->web->port);
            p++;
        } else {
            buf_char(&b, *p);
        }
    }
    assert_ok(config_parse(&cfg, buf_view(&b), "test.yml", r->dir.path, NULL, &err), &err);
    assert_ok(scrape_apply(r->scrape, cfg, &err), &err);
    config_unref(cfg);
    buf_done(&b);
}

struct samples {
    int64_t t[256];
    double v[256];
    size_t n;
};

/* All samples of the series that has this name and job. */
static struct samples read_series(struct rig *r, const char *name, const char *job)
{
    const struct matcher m[] = {{MATCH_EQ, STR(LABEL_NAME), STR(name), NULL},
                                {MATCH_EQ, STR("job"), STR(job), NULL}};
    struct samples out = {.n = 0};
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    struct nx_err err;

    assert_ok(storage_querier(r->storage, 0, INT64_MAX, &q, &err), &err);
    assert_ok(q->ops->select(q, m, 2, 0, INT64_MAX, r->arena, &list, &err), &err);
    for (size_t i = 0; i < list.n; i++) {
        assert_ok(q->ops->read(q, &list.v[i], 0, INT64_MAX, &c, &err), &err);
        for (size_t k = 0; k < c.n && out.n < NX_COUNT(out.t); k++) {
            out.t[out.n] = c.t[k];
            out.v[out.n++] = c.v[k];
        }
    }
    column_done(&c);
    querier_close(q);
    return out;
}

static struct targets_info targets(struct rig *r)
{
    struct targets_info info;
    struct nx_err err;

    assert_ok(scrape_get_targets(r->scrape, STR("shown:9090"), r->arena, &info, &err), &err);
    return info;
}

#define WAIT_FOR(...)                                                                              \
    do {                                                                                           \
        int64_t until_ = real_ms() + 20000;                                                        \
        while (!(__VA_ARGS__)) {                                                                   \
            if (real_ms() > until_)                                                                \
                fail_msg("waited in vain for %s", #__VA_ARGS__);                                   \
            usleep(5000);                                                                          \
        }                                                                                          \
    } while (0)

static int64_t real_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

#define GLOBAL "global: {scrape_interval: 100ms, scrape_timeout: 100ms}\nscrape_configs:\n"

static void a_static_target_is_scraped_into_the_store(void **state)
{
    struct metadata_info *meta;
    struct scrape_stats stats;
    struct targets_info info;
    struct samples up, x;
    struct nx_err err;
    struct rig r;
    size_t n;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "# HELP x says \\\\ so\n# TYPE x counter\nx{a=\"b\"} 5\n");
    apply(&r, GLOBAL "- job_name: j\n  static_configs: [{targets: ['127.0.0.1:%u']}]\n");
    WAIT_FOR(read_series(&r, "up", "j").n >= 4);
    x = read_series(&r, "x", "j");
    up = read_series(&r, "up", "j");
    assert_true(x.n >= 3 && x.v[0] == 5 && up.v[0] == 1);
    for (size_t i = 0; i < x.n && i < up.n; i++)
        assert_int_equal(x.t[i], up.t[i]); /* one row */
    for (size_t i = 1; i < up.n; i++)
        assert_true(up.t[i] > up.t[i - 1]);
    assert_true(read_series(&r, "scrape_samples_scraped", "j").v[0] == 1);
    assert_true(read_series(&r, "scrape_series_added", "j").v[0] == 1);
    assert_true(read_series(&r, "scrape_series_added", "j").v[1] == 0);
    info = targets(&r);
    assert_int_equal(info.n_active, 1);
    assert_int_equal(info.active[0].health, TARGET_UP);
    assert_true(info.active[0].last_scrape_ms >= up.t[0]);
    assert_text(info.active[0].scrape_interval, "100ms", "interval");
    assert_text(info.active[0].last_error, "", "error");
    assert_non_null(strstr(info.active[0].global_url.ptr, "http://shown:"));
    assert_text(labels_get_str(&info.active[0].discovered, "__metrics_path__"), "/metrics",
                "discovered");
    assert_int_equal(info.active[0].labels.n, 2);
    assert_ok(scrape_get_metadata(r.scrape, &(struct metadata_ask){.metric = STR("x")}, r.arena,
                                  &meta, &n, &err),
              &err);
    assert_int_equal(n, 1);
    assert_text(meta[0].help, "says \\ so", "help");
    assert_text(meta[0].type, "counter", "type");
    assert_ok(scrape_get_stats(r.scrape, r.arena, &stats, &err), &err);
    assert_int_equal(stats.by_pool[0].targets, 1);
    assert_true(stats.n_by_interval == 1 && stats.by_interval[0].count >= 2);
    assert_true(stats.by_interval[0].p50 > 0.05 && stats.metadata_entries == 1);
    assert_int_equal(r.web->connections, 1); /* kept alive */
    rig_stop(&r);
}

/* Three targets with the same hundreds of families, one of which says one differently. */
static void families_that_targets_share_are_told_once(void **state)
{
    const struct matcher third = {MATCH_EQ, STR("n"), STR("3"), NULL};
    struct metadata_info *meta;
    struct nx_err err;
    struct rig r;
    struct buf text;
    size_t n;

    (void)state;
    rig_start(&r, NULL);
    buf_init(&text, 0);
    for (int i = 0; i < 300; i++)
        buf_printf(&text, "# HELP f%03d about %d\n# TYPE f%03d gauge\nf%03d 1\n", i, i, i, i);
    web_text(r.web, "/a", buf_cstr(&text));
    buf_str(&text, "# HELP g other\n# TYPE g gauge\ng 1\n");
    text.ptr[strlen("# HELP f000 ")] = 'A';
    web_text(r.web, "/b", buf_cstr(&text));
    apply(&r, GLOBAL "- job_name: j\n  metrics_path: /a\n  static_configs:\n"
                     "  - {targets: ['127.0.0.1:%u'], labels: {n: '1'}}\n"
                     "  - {targets: ['127.0.0.1:%u'], labels: {n: '2'}}\n"
                     "  - {targets: ['127.0.0.1:%u'], labels: {n: '3', __metrics_path__: /b}}\n");
    WAIT_FOR(scrape_get_metadata(r.scrape, &(struct metadata_ask){.metric = STR("")}, r.arena,
                                 &meta, &n, &err) == NX_OK &&
             n == 901);
    assert_ok(scrape_get_metadata(r.scrape, &(struct metadata_ask){.families = true}, r.arena,
                                  &meta, &n, &err),
              &err);
    assert_int_equal(n, 302); /* f000 twice, f001 to f299, g */
    assert_ok(scrape_get_metadata(r.scrape, &(struct metadata_ask){.match = &third, .n_match = 1},
                                  r.arena, &meta, &n, &err),
              &err);
    assert_int_equal(n, 301);
    assert_text(meta[0].help, "About 0", "help");
    assert_text(labels_get_str(&meta[300].target, "n"), "3", "target");
    assert_ok(
        scrape_get_metadata(r.scrape, &(struct metadata_ask){.most = 7}, r.arena, &meta, &n, &err),
        &err);
    assert_int_equal(n, 7);
    buf_done(&text);
    rig_stop(&r);
}

static unsigned connections(struct rig *r)
{
    unsigned n;

    pthread_mutex_lock(&r->web->lock);
    n = r->web->connections;
    pthread_mutex_unlock(&r->web->lock);
    return n;
}

static void close_connections(struct rig *r)
{
    pthread_mutex_lock(&r->web->lock);
    for (unsigned i = 0; i < r->web->n_fds; i++)
        shutdown(r->web->fds[i], SHUT_RDWR);
    pthread_mutex_unlock(&r->web->lock);
}

/* The third row and those after it come over a connection that was kept. Whatever happens to that one
 * costs no scrape, and an answer that is none is worded by libcurl's path. */
static void a_kept_connection_that_fails_costs_nothing(void **state)
{
    struct samples up;
    struct rig r;
    size_t n;

    (void)state;
    rig_start(&r, NULL);
    web_set(r.web, "/metrics", "200 OK", "text/plain; version=0.0.4",
            "3\r\nx 5\r\n7\r\n\ny 6.5\n\r\n0\r\n\r\n", 25);
    pthread_mutex_lock(&r.web->lock);
    r.web->pages[0].chunked = true;
    pthread_mutex_unlock(&r.web->lock);
    apply(&r, "global: {scrape_interval: 250ms, scrape_timeout: 250ms}\nscrape_configs:\n"
              "- job_name: j\n  static_configs: [{targets: ['127.0.0.1:%u']}]\n");
    WAIT_FOR(read_series(&r, "up", "j").n >= 3);
    assert_int_equal(connections(&r), 1);
    for (unsigned i = 2; i <= 4; i++) {
        n = read_series(&r, "up", "j").n;
        close_connections(&r);
        WAIT_FOR(read_series(&r, "up", "j").n >= n + 2);
        assert_int_equal(connections(&r), i);
    }
    up = read_series(&r, "up", "j");
    for (size_t i = 0; i < up.n; i++)
        assert_true(up.v[i] == 1);
    for (size_t i = 0; i < up.n; i++)
        assert_true(read_series(&r, "x", "j").v[i] == 5 && read_series(&r, "y", "j").v[i] == 6.5);
    web_set(r.web, "/metrics", "503 Too Bad", "text/plain", "no\n", 3);
    WAIT_FOR(targets(&r).active[0].health == TARGET_DOWN);
    assert_text(targets(&r).active[0].last_error, "server returned HTTP status 503 Too Bad", "j");
    web_text(r.web, "/metrics", "x 7\n");
    WAIT_FOR(targets(&r).active[0].health == TARGET_UP);
    n = read_series(&r, "up", "j").n;
    WAIT_FOR(read_series(&r, "up", "j").n >= n + 2); /* kept again */
    pthread_mutex_lock(&r.web->lock);
    r.web->pages[0].delay_ms = 1000;
    pthread_mutex_unlock(&r.web->lock);
    WAIT_FOR(targets(&r).active[0].health == TARGET_DOWN);
    assert_non_null(
        strstr(targets(&r).active[0].last_error.ptr, "metrics\": context deadline exceeded"));
    rig_stop(&r);
}

/* The text of the only target's last error, once there is one. */
static struct nx_slice error_of(struct rig *r, const char *job)
{
    struct targets_info info = targets(r);

    for (size_t i = 0; i < info.n_active; i++)
        if (nx_slice_is(info.active[i].pool, job) && info.active[i].health == TARGET_DOWN)
            return info.active[i].last_error;
    return nx_slice_of("", 0);
}

static void failures_are_worded_as_prometheus_words_them(void **state)
{
    static const struct {
        const char *job, *error;
    } wanted[] = {
        {"gone", "server returned HTTP status 404 Not Found"},
        {"refused",
         "Get \"http://127.0.0.1:1/metrics\": dial tcp 127.0.0.1:1: connect: connection refused"},
        {"bad", "expected value after metric, got \"\\n\" (\"INVALID\") while parsing: \"b\\n\""},
        {"type", "received unsupported Content-Type \"application/json\" and no "
                 "fallback_scrape_protocol specified for target"},
        {"blank", "non-compliant scrape target sending blank Content-Type and no "
                  "fallback_scrape_protocol specified for target"},
        {"large", "body size limit exceeded"},
        {"many", "sample limit exceeded"},
        {"crowd", "target_limit exceeded (number of targets: 2, limit: 1)"},
    };
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "a 1\nb 2\n");
    web_text(r.web, "/bad", "a 1\nb\n");
    web_text(r.web, "/slow", "a 1\n");
    web_set(r.web, "/json", "200 OK", "application/json", "{}", 2);
    web_set(r.web, "/blank", "200 OK", "", "a 1\n", 4);
    pthread_mutex_lock(&r.web->lock);
    web_page(r.web, "/slow")->delay_ms = 300;
    pthread_mutex_unlock(&r.web->lock);
    apply(
        &r, GLOBAL
        "- {job_name: gone, metrics_path: /nothing, static_configs: [{targets: "
        "['127.0.0.1:%u']}]}\n"
        "- {job_name: refused, static_configs: [{targets: ['127.0.0.1:1']}]}\n"
        "- {job_name: bad, metrics_path: /bad, static_configs: [{targets: ['127.0.0.1:%u']}]}\n"
        "- {job_name: type, metrics_path: /json, static_configs: [{targets: ['127.0.0.1:%u']}]}\n"
        "- {job_name: blank, metrics_path: /blank, static_configs: [{targets: ['127.0.0.1:%u']}]}\n"
        "- {job_name: fallback, metrics_path: /blank, fallback_scrape_protocol: "
        "PrometheusText0.0.4, static_configs: [{targets: "
        "['127.0.0.1:%u']}]}\n"
        "- {job_name: large, body_size_limit: 8B, static_configs: [{targets: ['127.0.0.1:%u']}]}\n"
        "- {job_name: fits, body_size_limit: 9B, static_configs: [{targets: ['127.0.0.1:%u']}]}\n"
        "- {job_name: many, sample_limit: 1, static_configs: [{targets: ['127.0.0.1:%u']}]}\n"
        "- {job_name: crowd, target_limit: 1, static_configs: [{targets: ['127.0.0.1:%u', "
        "'localhost:%u']}]}\n"
        "- {job_name: slow, metrics_path: /slow, static_configs: [{targets: ['127.0.0.1:%u']}]}\n");
    for (size_t i = 0; i < NX_COUNT(wanted); i++) {
        WAIT_FOR(error_of(&r, wanted[i].job).len > 0);
        assert_text(error_of(&r, wanted[i].job), wanted[i].error, wanted[i].job);
        assert_true(read_series(&r, "up", wanted[i].job).v[0] == 0);
        assert_int_equal(read_series(&r, "a", wanted[i].job).n, 0);
    }
    WAIT_FOR(error_of(&r, "slow").len > 0);
    assert_non_null(strstr(error_of(&r, "slow").ptr, "context deadline exceeded"));
    WAIT_FOR(read_series(&r, "a", "fallback").n > 0);
    WAIT_FOR(read_series(&r, "a", "fits").n > 0);
    rig_stop(&r);
}

static void requests_say_who_asks_for_what(void **state)
{
    static const char *const wanted[] = {
        "GET /metrics?a=b&a=c+d&x=%2F HTTP/1.1\r\n",
        "Accept: "
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/"
        "openmetrics-text;version="
        "0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/"
        "plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n",
        "Accept-Encoding: gzip\r\n",
        "X-Prometheus-Scrape-Timeout-Seconds: 0.1\r\n",
        "User-Agent: Tester/1\r\n",
        "Authorization: Basic dTpwOnc=\r\n",
        "X-Own: one\r\n",
    };
    struct scrape_opts opts = {.user_agent = "Tester/1"};
    char packed[512], request[4096];
    z_stream z = {0};
    struct rig r;

    (void)state;
    rig_start(&r, &opts);
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, 0), Z_OK);
    z.next_in = (Bytef *)(uintptr_t) "zipped 7\n";
    z.avail_in = 9;
    z.next_out = (Bytef *)packed;
    z.avail_out = sizeof packed;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    web_set(r.web, "/metrics", "200 OK", "text/plain", packed, z.total_out);
    pthread_mutex_lock(&r.web->lock);
    strcpy(web_page(r.web, "/metrics")->headers, "Content-Encoding: gzip\r\n");
    pthread_mutex_unlock(&r.web->lock);
    apply(&r, GLOBAL "- job_name: j\n  params: {x: [/], a: [z, 'c d']}\n  basic_auth: {username: "
                     "u, password: 'p:w'}\n"
                     "  http_headers: {X-Own: {values: [one]}}\n"
                     "  static_configs: [{targets: ['127.0.0.1:%u'], labels: {__param_a: b}}]\n");
    WAIT_FOR(read_series(&r, "zipped", "j").n > 0);
    pthread_mutex_lock(&r.web->lock);
    memcpy(request, web_page(r.web, "/metrics")->request, sizeof request);
    pthread_mutex_unlock(&r.web->lock);
    for (size_t i = 0; i < NX_COUNT(wanted); i++)
        if (!strstr(request, wanted[i]))
            fail_msg("no %s in %s", wanted[i], request);
    rig_stop(&r);
}

/* The head of the last request for `path`, once it was asked for. */
static void last_request(struct rig *r, const char *path, char to[4096])
{
    pthread_mutex_lock(&r->web->lock);
    memcpy(to, web_page(r->web, path)->request, 4096);
    pthread_mutex_unlock(&r->web->lock);
}

static void tokens_are_fetched_kept_and_sent(void **state)
{
    static const char answer[] =
        "{\"access_token\": \"tok\", \"token_type\": \"bearer\", \"expires_in\": 3600}";
    char request[4096];
    unsigned hits;
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "x 5\n");
    web_set(r.web, "/token", "200 OK", "application/json", answer, strlen(answer));
    web_set(r.web, "/refused", "401 Unauthorized", "", "", 0);
    apply(&r, GLOBAL
          "- job_name: j\n"
          "  oauth2: {client_id: me, client_secret: s e, token_url: 'http://127.0.0.1:%u/token', "
          "scopes: [a, b]}\n"
          "  static_configs: [{targets: ['127.0.0.1:%u']}]\n"
          "- job_name: no\n"
          "  oauth2: {client_id: me, client_secret: s, token_url: 'http://127.0.0.1:%u/refused'}\n"
          "  static_configs: [{targets: ['localhost:%u']}]\n");
    WAIT_FOR(read_series(&r, "x", "j").n >= 3);
    last_request(&r, "/metrics", request);
    assert_non_null(strstr(request, "\r\nAuthorization: Bearer tok\r\n"));
    last_request(&r, "/token", request);
    assert_non_null(strstr(request, "\r\nAuthorization: Basic bWU6cyBl\r\n"));
    assert_non_null(strstr(request, "grant_type=client_credentials&scope=a%20b"));
    pthread_mutex_lock(&r.web->lock);
    hits = web_page(r.web, "/token")->hits;
    pthread_mutex_unlock(&r.web->lock);
    assert_int_equal(hits, 1);
    WAIT_FOR(error_of(&r, "no").len > 0);
    assert_non_null(
        strstr(error_of(&r, "no").ptr,
               "oauth2: cannot fetch token: server returned HTTP status 401 Unauthorized"));
    rig_stop(&r);
}

static void credentials_are_read_from_their_file_each_time(void **state)
{
    char path[300], request[4096];
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "x 5\n");
    snprintf(path, sizeof path, "%s/token.txt", r.dir.path);
    assert_int_equal(fs_publish(fs_real(), path, " one\n", 5, NULL), NX_OK);
    apply(&r, GLOBAL "- job_name: j\n  authorization: {credentials_file: token.txt}\n"
                     "  static_configs: [{targets: ['127.0.0.1:%u']}]\n");
    WAIT_FOR(last_request(&r, "/metrics", request),
             strstr(request, "\r\nAuthorization: Bearer one\r\n") != NULL);
    assert_int_equal(fs_publish(fs_real(), path, "two\n", 4, NULL), NX_OK);
    WAIT_FOR(last_request(&r, "/metrics", request),
             strstr(request, "\r\nAuthorization: Bearer two\r\n") != NULL);
    assert_int_equal(unlink(path), 0);
    WAIT_FOR(error_of(&r, "j").len > 0);
    assert_non_null(strstr(error_of(&r, "j").ptr, "unable to read authorization credentials file"));
    rig_stop(&r);
}

static void redirects_are_followed_or_not(void **state)
{
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_set(r.web, "/from", "302 Found", "", "", 0);
    web_text(r.web, "/to", "x 1\n");
    pthread_mutex_lock(&r.web->lock);
    strcpy(web_page(r.web, "/from")->headers, "Location: /to\r\n");
    pthread_mutex_unlock(&r.web->lock);
    apply(&r, GLOBAL
          "- {job_name: yes, metrics_path: /from, static_configs: [{targets: ['127.0.0.1:%u']}]}\n"
          "- {job_name: no, metrics_path: /from, follow_redirects: false, static_configs: "
          "[{targets: ['127.0.0.1:%u']}]}\n");
    WAIT_FOR(read_series(&r, "x", "yes").n > 0);
    WAIT_FOR(error_of(&r, "no").len > 0);
    assert_text(error_of(&r, "no"), "server returned HTTP status 302 Found", "not followed");
    rig_stop(&r);
}

/* Whether the scrape of that time took all of its time-out: on a busy machine one may. */
static bool was_late(const struct samples *took, int64_t t_ms, double timeout_s)
{
    for (size_t i = 0; i < took->n; i++)
        if (took->t[i] == t_ms)
            return took->v[i] >= timeout_s;
    return false;
}

static void a_reload_keeps_targets_and_a_changed_interval_keeps_series(void **state)
{
    static const char config[] =
        GLOBAL "- job_name: j\n  static_configs: [{targets: ['127.0.0.1:%u']}]\n";
    struct samples added, took, x;
    size_t before;
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "x 5\n");
    apply(&r, config);
    WAIT_FOR(read_series(&r, "x", "j").n >= 2);
    before = read_series(&r, "x", "j").n;
    apply(&r, config);
    assert_int_not_equal(targets(&r).active[0].health,
                         TARGET_UNKNOWN); /* known at once: it is the same target */
    WAIT_FOR(read_series(&r, "x", "j").n >= before + 2);
    apply(&r, "scrape_configs:\n- job_name: j\n  scrape_interval: 50ms\n  scrape_timeout: 50ms\n"
              "  static_configs: [{targets: ['127.0.0.1:%u']}]\n");
    assert_int_equal(targets(&r).n_active, 1);
    assert_text(targets(&r).active[0].scrape_interval, "50ms", "interval");
    before = read_series(&r, "x", "j").n;
    WAIT_FOR(read_series(&r, "x", "j").n >=
             before + 8); /* past the time of stale markers, had there been any */
    x = read_series(&r, "x", "j");
    added = read_series(&r, "scrape_series_added", "j");
    took = read_series(&r, "scrape_duration_seconds", "j");
    for (size_t i = 0; i < x.n; i++)
        assert_true(x.v[i] == 5 || was_late(&took, x.t[i], 0.05));
    if (!was_late(&took, added.t[0], 0.05) && !was_late(&took, added.t[1], 0.05))
        assert_true(added.v[0] == 1 && added.v[1] == 0);
    rig_stop(&r);
}

static void a_removed_target_ends_with_stale_markers(void **state)
{
    struct samples x, up;
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "x 5\n");
    apply(&r, GLOBAL "- job_name: j\n  static_configs: [{targets: ['127.0.0.1:%u']}]\n"
                     "- {job_name: dropped, static_configs: [{targets: ['a:1', 'b:1']}], "
                     "relabel_configs: [{action: drop, "
                     "source_labels: [__address__], regex: 'a.*'}]}\n");
    WAIT_FOR(read_series(&r, "x", "j").n >= 2);
    assert_int_equal(targets(&r).n_dropped, 1);
    assert_int_equal(targets(&r).n_pools, 2);
    apply(&r, GLOBAL "- {job_name: other, static_configs: [{targets: ['127.0.0.1:%u']}]}\n");
    assert_int_equal(targets(&r).n_active, 1);
    assert_int_equal(targets(&r).n_pools, 1);
    WAIT_FOR(x = read_series(&r, "x", "j"), num_is_stale(x.v[x.n - 1]));
    up = read_series(&r, "up", "j");
    assert_true(num_is_stale(up.v[up.n - 1]));
    assert_int_equal(up.t[up.n - 1], x.t[x.n - 1]);
    assert_true(x.t[x.n - 1] - x.t[x.n - 2] <= 1000);
    rig_stop(&r);
}

static void a_target_that_comes_back_in_time_has_no_gap(void **state)
{
    static const char with[] =
        GLOBAL "- job_name: j\n  static_configs: [{targets: ['127.0.0.1:%u']}]\n";
    struct samples x;
    struct rig r;
    size_t before;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "x 5\n");
    apply(&r, with);
    WAIT_FOR(read_series(&r, "x", "j").n >= 2);
    apply(&r, GLOBAL "- job_name: j\n");
    assert_int_equal(targets(&r).n_active, 0);
    apply(&r, with);
    before = read_series(&r, "x", "j").n;
    WAIT_FOR(read_series(&r, "x", "j").n >= before + 4);
    x = read_series(&r, "x", "j");
    for (size_t i = 0; i < x.n; i++)
        assert_true(x.v[i] == 5);
    rig_stop(&r);
}

static void a_failing_target_ends_its_series(void **state)
{
    struct samples x;
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "x 5\n");
    apply(&r, GLOBAL "- job_name: j\n  static_configs: [{targets: ['127.0.0.1:%u']}]\n");
    WAIT_FOR(read_series(&r, "x", "j").n >= 2);
    web_set(r.web, "/metrics", "500 Oh no", "text/plain", "x 5\n", 4);
    WAIT_FOR(x = read_series(&r, "x", "j"), num_is_stale(x.v[x.n - 1]));
    assert_text(error_of(&r, "j"), "server returned HTTP status 500 Oh no", "error");
    web_text(r.web, "/metrics", "x 6\n");
    WAIT_FOR(x = read_series(&r, "x", "j"), x.v[x.n - 1] == 6);
    rig_stop(&r);
}

static void metric_relabelling_drops_and_renames(void **state)
{
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "go_a 1\ngo_b 2\nx{old=\"v\"} 3\n");
    apply(&r, GLOBAL
          "- job_name: j\n  extra_scrape_metrics: true\n  static_configs: [{targets: "
          "['127.0.0.1:%u']}]\n"
          "  metric_relabel_configs:\n"
          "  - {action: drop, source_labels: [__name__], regex: 'go_.*'}\n"
          "  - {source_labels: [__name__], regex: x, target_label: __name__, replacement: y}\n");
    WAIT_FOR(read_series(&r, "up", "j").n >= 3);
    assert_int_equal(read_series(&r, "go_a", "j").n, 0);
    assert_int_equal(read_series(&r, "x", "j").n, 0);
    assert_true(read_series(&r, "y", "j").n >= 3 && read_series(&r, "y", "j").v[0] == 3);
    assert_true(read_series(&r, "scrape_samples_scraped", "j").v[1] == 3);
    assert_true(read_series(&r, "scrape_samples_post_metric_relabeling", "j").v[1] == 1);
    assert_true(read_series(&r, "scrape_timeout_seconds", "j").v[0] == 0.1);
    assert_true(read_series(&r, "scrape_sample_limit", "j").v[0] == 0);
    assert_true(read_series(&r, "scrape_body_size_bytes", "j").v[0] == 27);
    rig_stop(&r);
}

static void targets_follow_their_file(void **state)
{
    char path[300], text[128];
    struct rig r;

    (void)state;
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "x 5\n");
    snprintf(path, sizeof path, "%s/t.json", r.dir.path);
    assert_int_equal(fs_publish(fs_real(), path, "[]", 2, NULL), NX_OK);
    apply(&r,
          GLOBAL "- job_name: j\n  file_sd_configs: [{files: [t.json], refresh_interval: 1s}]\n");
    assert_int_equal(targets(&r).n_active, 0);
    snprintf(text, sizeof text,
             "[{\"targets\": [\"127.0.0.1:%u\"], \"labels\": {\"env\": \"test\"}}]", r.web->port);
    assert_int_equal(fs_publish(fs_real(), path, text, strlen(text), NULL), NX_OK);
    WAIT_FOR(targets(&r).n_active == 1 && read_series(&r, "x", "j").n >= 2);
    assert_text(labels_get_str(&targets(&r).active[0].labels, "env"), "test",
                "a label of the file");
    assert_int_equal(fs_publish(fs_real(), path, "[]", 2, NULL), NX_OK);
    WAIT_FOR(targets(&r).n_active == 0);
    rig_stop(&r);
}

/* In place of the C library's: a name server that is silent, until the test is done with it. */
static atomic_uint asking;
static atomic_bool silent;

__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;

    if (!name || strcmp(name, "silent.example") != 0) {
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
        return real(name, service, hints, out);
    }
    atomic_fetch_add(&asking, 1);
    for (int i = 0; i < 15000 && atomic_load(&silent); i++)
        usleep(1000);
    atomic_fetch_sub(&asking, 1);
    return EAI_AGAIN;
}

static void a_name_server_that_is_silent_holds_up_no_other_target(void **state)
{
    int64_t began = real_ms();
    struct rig r;

    (void)state;
    atomic_store(&silent, true);
    rig_start(&r, NULL);
    web_text(r.web, "/metrics", "x 5\n");
    apply(&r, GLOBAL "- {job_name: slow, static_configs: [{targets: ['silent.example:1']}]}\n"
                     "- {job_name: fine, static_configs: [{targets: ['127.0.0.1:%u']}]}\n");
    WAIT_FOR(read_series(&r, "up", "slow").n >= 3);
    WAIT_FOR(read_series(&r, "up", "fine").n >= 10);
    assert_true(atomic_load(&asking) > 0);
    rig_stop(&r);
    assert_true(real_ms() - began < 10000); /* of the 15 s that the first question takes */
    atomic_store(&silent, false);
    while (atomic_load(&asking))
        usleep(1000);
}

static void stopping_under_load_leaves_nothing_behind(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct rig r;
        rig_start(&r, NULL);
        web_text(r.web, "/metrics", "x 5\n");
        web_text(r.web, "/slow", "x 5\n");
        pthread_mutex_lock(&r.web->lock);
        web_page(r.web, "/slow")->delay_ms = 80;
        pthread_mutex_unlock(&r.web->lock);
        apply(&r, "global: {scrape_interval: 20ms, scrape_timeout: 20ms}\nscrape_configs:\n"
                  "- {job_name: j, static_configs: [{targets: ['127.0.0.1:%u', 'localhost:%u', "
                  "'127.0.0.1:1']}]}\n"
                  "- {job_name: s, metrics_path: /slow, scrape_interval: 100ms, scrape_timeout: "
                  "100ms, static_configs: [{targets: "
                  "['127.0.0.1:%u']}]}\n");
        WAIT_FOR(read_series(&r, "up", "j").n >= 3);
        rig_stop(&r);
    }
}

/* All exemplars of job j, as `metric: value@time ...` lines; times of scrapes are shown as "now". */
static void show_exemplars(struct rig *r, struct buf *b)
{
    const struct matcher m = {MATCH_EQ, LIT("job"), LIT("j"), NULL};
    const struct matcher_set set = {&m, 1};
    struct storage_exemplar_list list;
    struct nx_err err;

    buf_clear(b);
    assert_ok(storage_select_exemplars(r->storage, &set, 1, 0, INT64_MAX, r->arena, &list, &err),
              &err);
    for (size_t i = 0; i < list.n; i++) {
        buf_slice(b, labels_get_str(&list.v[i].series, LABEL_NAME));
        buf_char(b, ':');
        for (size_t k = 0; k < list.v[i].n; k++) {
            const struct storage_exemplar *e = &list.v[i].v[k];
            buf_printf(b, " %g@", e->value);
            if (e->has_ts)
                buf_printf(b, "%lld", (long long)e->t_ms);
            else
                buf_str(b, clock_now_ms() - e->t_ms < 60000 ? "now" : "another time");
        }
        buf_char(b, '\n');
    }
}

static unsigned scrapes_of(struct rig *r)
{
    return (unsigned)read_series(r, "up", "j").n;
}

/* SCR-038, SCR-085, SCR-094, STO-065 */
static void exemplars_are_kept_if_there_is_room(void **state)
{
    static const char type[] = "application/openmetrics-text; version=1.0.0";
    static const char first[] = "x_total 1 # {id=\"1\"} 1 1700000000.5\n"
                                "y_total 1 # {id=\"1\"} 2\nz_total 1\n# EOF\n";
    static const char second[] = "x_total 1 # {id=\"2\"} 3 1700000000.25\n" /* older */
                                 "y_total 2 # {id=\"2\"} 4\nz_total 1\n# EOF\n";
    struct scrape_stats stats;
    struct nx_err err;
    struct buf b;
    struct rig r;
    unsigned n;

    (void)state;
    buf_init(&b, 0);
    rig_start(&r, NULL);
    web_set(r.web, "/metrics", "200 OK", type, first, strlen(first));
    apply(&r, GLOBAL "- job_name: j\n  static_configs: [{targets: ['127.0.0.1:%u']}]\n"
                     "  metric_relabel_configs: [{source_labels: [__name__], regex: '(.)_total', "
                     "target_label: __name__}]\n");
    WAIT_FOR(scrapes_of(&r) >= 2);
    show_exemplars(&r, &b);
    assert_buf(&b, "", "off");
    storage_set_max_exemplars(r.storage, 100);
    n = scrapes_of(&r);
    WAIT_FOR(scrapes_of(&r) >= n + 3); /* the same ones again and again */
    show_exemplars(&r, &b);
    assert_buf(&b, "x: 1@1700000000500\ny: 2@now\n", "once each");
    assert_ok(scrape_get_stats(r.scrape, r.arena, &stats, &err), &err);
    assert_int_equal(stats.exemplar_out_of_order, 0);
    web_set(r.web, "/metrics", "200 OK", type, second, strlen(second));
    n = scrapes_of(&r);
    WAIT_FOR(scrapes_of(&r) >= n + 3);
    show_exemplars(&r, &b);
    assert_buf(&b, "x: 1@1700000000500\ny: 2@now 4@now\n", "the older one is not there");
    assert_ok(scrape_get_stats(r.scrape, r.arena, &stats, &err), &err);
    assert_true(stats.exemplar_out_of_order >= 2);
    assert_true(targets(&r).active[0].health == TARGET_UP);
    rig_stop(&r);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_static_target_is_scraped_into_the_store),
        cmocka_unit_test(families_that_targets_share_are_told_once),
        cmocka_unit_test(exemplars_are_kept_if_there_is_room),
        cmocka_unit_test(a_kept_connection_that_fails_costs_nothing),
        cmocka_unit_test(failures_are_worded_as_prometheus_words_them),
        cmocka_unit_test(requests_say_who_asks_for_what),
        cmocka_unit_test(tokens_are_fetched_kept_and_sent),
        cmocka_unit_test(credentials_are_read_from_their_file_each_time),
        cmocka_unit_test(redirects_are_followed_or_not),
        cmocka_unit_test(a_reload_keeps_targets_and_a_changed_interval_keeps_series),
        cmocka_unit_test(a_removed_target_ends_with_stale_markers),
        cmocka_unit_test(a_target_that_comes_back_in_time_has_no_gap),
        cmocka_unit_test(a_failing_target_ends_its_series),
        cmocka_unit_test(metric_relabelling_drops_and_renames),
        cmocka_unit_test(targets_follow_their_file),
        cmocka_unit_test(a_name_server_that_is_silent_holds_up_no_other_target),
        cmocka_unit_test(stopping_under_load_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
