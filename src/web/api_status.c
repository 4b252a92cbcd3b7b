#include "src/web/http.h"

/* api_status.c - /api/v1/status/...: what this server is, runs with and holds. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/web/version.h"

void api_status_config(struct web_req *r)
{
    const struct web_hooks *h = &web_ctx(r->w)->opts->hooks;
    struct buf yaml;

    buf_init(&yaml, 0);
    h->config_yaml(h->ctx, &yaml);
    web_ok_begin(r);
    buf_str(&r->reply.body, "{\"yaml\":");
    json_text(&r->reply.body, buf_view(&yaml));
    buf_char(&r->reply.body, '}');
    web_ok_end(r, NULL, 0, NULL, 0);
    buf_done(&yaml);
}

void api_status_flags(struct web_req *r)
{
    const struct web_opts *o = web_ctx(r->w)->opts;
    struct buf *b = &r->reply.body;

    web_ok_begin(r);
    buf_char(b, '{');
    for (size_t i = 0; i < o->n_flags; i++) {
        if (i)
            buf_char(b, ',');
        json_cstr(b, o->flags[i].name);
        buf_char(b, ':');
        json_cstr(b, o->flags[i].value);
    }
    buf_char(b, '}');
    web_ok_end(r, NULL, 0, NULL, 0);
}

static void put_buildinfo(struct buf *b)
{
    buf_printf(b,
               "{\"version\":\"" WEB_PROMETHEUS_VERSION
               "\",\"revision\":\"%s\",\"branch\":\"" WEB_BRANCH
               "\",\"buildUser\":\"" WEB_BUILD_USER
               "\",\"buildDate\":\"%s\",\"goVersion\":\"" WEB_GO_VERSION "\"}",
               web_revision, web_build_date);
}

void api_status_buildinfo(struct web_req *r)
{
    web_ok_begin(r);
    put_buildinfo(&r->reply.body);
    web_ok_end(r, NULL, 0, NULL, 0);
}

void page_version(struct web_req *r)
{
    r->reply.status = 200;
    r->reply.content_type = "text/plain; charset=utf-8"; /* sic: Prometheus sets no type here */
    put_buildinfo(&r->reply.body);
    buf_char(&r->reply.body, '\n');
}

static unsigned thread_count(void)
{
    char line[128];
    unsigned n = 1;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Threads: %u", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

static void put_env(struct buf *b, const char *key, const char *name)
{
    const char *v = getenv(name);

    buf_printf(b, ",\"%s\":", key);
    json_cstr(b, v ? v : "");
}

void api_status_runtimeinfo(struct web_req *r)
{
    const struct web_ctx *ctx = web_ctx(r->w);
    const struct web_opts *o = ctx->opts;
    struct storage_stats st;
    struct buf *b = &r->reply.body;
    bool ok = true;
    int64_t last = 0;
    char cwd[4096];

    storage_get_stats(web_data(r->w)->storage, &st);
    o->hooks.reload_status(o->hooks.ctx, &ok, &last);
    web_ok_begin(r);
    buf_str(b, "{\"startTime\":");
    json_rfc3339_ms(b, o->start_ms);
    buf_str(b, ",\"CWD\":");
    json_cstr(b, getcwd(cwd, sizeof cwd) ? cwd : "<error retrieving current working directory>");
    buf_str(b, ",\"hostname\":");
    json_cstr(b, ctx->hostname);
    buf_str(b, ",\"serverTime\":");
    json_rfc3339_ms(b, clock_now_ms());
    buf_printf(b, ",\"reloadConfigSuccess\":%s,\"lastConfigTime\":", ok ? "true" : "false");
    json_rfc3339_ms(b, last);
    buf_printf(b,
               ",\"corruptionCount\":%llu,\"goroutineCount\":%u,\"GOMAXPROCS\":%ld,\"GOMEMLIMIT\":"
               "9223372036854775807",
               (unsigned long long)st.wal_corruptions, thread_count(),
               sysconf(_SC_NPROCESSORS_ONLN));
    put_env(b, "GOGC", "GOGC");
    put_env(b, "GODEBUG", "GODEBUG");
    buf_str(b, ",\"storageRetention\":");
    json_cstr(b, o->storage_retention);
    buf_char(b, '}');
    web_ok_end(r, NULL, 0, NULL, 0);
}

static void put_counts(struct buf *b, const char *key, const struct storage_count *v, size_t n)
{
    buf_printf(b, ",\"%s\":[", key);
    for (size_t i = 0; i < n; i++) {
        buf_str(b, i ? ",{\"name\":" : "{\"name\":");
        json_text(b, v[i].name);
        buf_printf(b, ",\"value\":%llu}", (unsigned long long)v[i].value);
    }
    buf_char(b, ']');
}

static bool tsdb_limit(struct web_req *r, size_t *limit)
{
    struct nx_slice s = web_url_param_get(r, "limit");
    int64_t n = 10;

    if (s.len && (!num_parse_i64(s, &n) || n < 1))
        web_error(r, WEB_ERR_BAD_DATA, "limit must be a positive number");
    else if (n > 10000)
        web_error(r, WEB_ERR_BAD_DATA, "limit must not exceed 10000");
    else {
        *limit = (size_t)n;
        return true;
    }
    return false;
}

void api_status_tsdb(struct web_req *r)
{
    struct storage *s = web_data(r->w)->storage;
    struct storage_cardinality c = {0};
    struct storage_stats st;
    struct nx_err err = {0};
    struct buf *b = &r->reply.body;
    size_t limit;

    if (!tsdb_limit(r, &limit))
        return;
    if (storage_get_cardinality(s, limit, r->arena, &c, &err)) {
        web_fail(r, &err, NULL);
        return;
    }
    storage_get_stats(s, &st);
    web_ok_begin(r);
    buf_printf(b,
               "{\"headStats\":{\"numSeries\":%llu,\"numLabelPairs\":%llu,\"chunkCount\":%llu,"
               "\"minTime\":%lld,"
               "\"maxTime\":%lld}",
               (unsigned long long)st.head_series, (unsigned long long)st.label_pairs,
               (unsigned long long)st.head_chunks, (long long)st.head_min_ms,
               (long long)st.head_max_ms);
    put_counts(b, "seriesCountByMetricName", c.by_metric, c.n_by_metric);
    put_counts(b, "labelValueCountByLabelName", c.values_by_label, c.n_values_by_label);
    put_counts(b, "memoryInBytesByLabelName", c.bytes_by_label, c.n_bytes_by_label);
    put_counts(b, "seriesCountByLabelValuePair", c.by_pair, c.n_by_pair);
    buf_char(b, '}');
    web_ok_end(r, NULL, 0, NULL, 0);
}

/* The log is replayed before the listener opens, so there is nothing under way to tell. */
void api_status_walreplay(struct web_req *r)
{
    web_ok_begin(r);
    buf_str(&r->reply.body, "{\"min\":0,\"max\":0,\"current\":0}");
    web_ok_end(r, NULL, 0, NULL, 0);
}
