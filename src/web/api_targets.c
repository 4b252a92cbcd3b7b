#include "src/web/http.h"

/* api_targets.c - /api/v1/targets, targets/metadata, metadata, scrape_pools: what is scraped. */

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "src/base/num.h"
#include "src/base/text.h"

static bool pool_wanted(struct nx_slice pool, struct nx_slice wanted)
{
    return !wanted.len || nx_slice_eq(pool, wanted);
}

static void put_target(struct buf *b, const struct target_info *t)
{
    static const char *const health[] = {
        [TARGET_UNKNOWN] = "unknown", [TARGET_UP] = "up", [TARGET_DOWN] = "down"};

    buf_str(b, "{\"discoveredLabels\":");
    json_labels(b, &t->discovered);
    buf_str(b, ",\"labels\":");
    json_labels(b, &t->labels);
    buf_str(b, ",\"scrapePool\":");
    json_text(b, t->pool);
    buf_str(b, ",\"scrapeUrl\":");
    json_text(b, t->scrape_url);
    buf_str(b, ",\"globalUrl\":");
    json_text(b, t->global_url);
    buf_str(b, ",\"lastError\":");
    json_text(b, t->last_error);
    buf_str(b, ",\"lastScrape\":");
    json_rfc3339_ms(b, t->last_scrape_ms);
    buf_str(b, ",\"lastScrapeDuration\":");
    buf_num(b, t->last_duration_s);
    buf_printf(b, ",\"health\":\"%s\",\"scrapeInterval\":", health[t->health]);
    json_text(b, t->scrape_interval);
    buf_str(b, ",\"scrapeTimeout\":");
    json_text(b, t->scrape_timeout);
    buf_char(b, '}');
}

static void put_active(struct buf *b, const struct targets_info *info, struct nx_slice pool)
{
    size_t n = 0;

    for (size_t i = 0; i < info->n_active; i++) {
        if (!pool_wanted(info->active[i].pool, pool))
            continue;
        if (n++)
            buf_char(b, ',');
        put_target(b, &info->active[i]);
    }
}

static void put_dropped(struct buf *b, const struct targets_info *info, struct nx_slice pool)
{
    size_t n = 0;

    for (size_t i = 0; i < info->n_dropped; i++) {
        if (!pool_wanted(info->dropped[i].pool, pool))
            continue;
        buf_str(b, n++ ? ",{\"discoveredLabels\":" : "{\"discoveredLabels\":");
        json_labels(b, &info->dropped[i].discovered);
        buf_str(b, ",\"scrapePool\":");
        json_text(b, info->dropped[i].pool);
        buf_char(b, '}');
    }
}

/* Of all pools, whatever pool was asked for. */
static void put_dropped_counts(struct buf *b, const struct targets_info *info)
{
    buf_char(b, '{');
    for (size_t i = 0; i < info->n_dropped_counts; i++) {
        if (i)
            buf_char(b, ',');
        json_text(b, info->dropped_counts[i].pool);
        buf_printf(b, ":%llu", (unsigned long long)info->dropped_counts[i].dropped);
    }
    buf_char(b, '}');
}

static bool state_is(struct nx_slice state, const char *word)
{
    return state.len == strlen(word) && strncasecmp(state.ptr, word, state.len) == 0;
}

void api_targets(struct web_req *r)
{
    const struct web_ctx *ctx = web_ctx(r->w);
    struct nx_slice state = web_url_param_get(r, "state"),
                    pool = web_url_param_get(r, "scrapePool");
    bool any = !state.len || state_is(state, "any");
    bool active = any || state_is(state, "active"), dropped = any || state_is(state, "dropped");
    struct targets_info info = {0};
    struct nx_err err = {0};
    struct buf *b = &r->reply.body;

    if (scrape_get_targets(web_data(r->w)->scrape, nx_slice_str(ctx->external_host), r->arena,
                           &info, &err)) {
        web_fail(r, &err, NULL);
        return;
    }
    web_ok_begin(r);
    buf_str(b, "{\"activeTargets\":[");
    if (active)
        put_active(b, &info, pool);
    buf_str(b, "],\"droppedTargets\":[");
    if (dropped)
        put_dropped(b, &info, pool);
    buf_str(b, "],\"droppedTargetCounts\":");
    if (dropped)
        put_dropped_counts(b, &info);
    else
        buf_str(b, "null");
    buf_char(b, '}');
    web_ok_end(r, NULL, 0, NULL, 0);
}

void api_scrape_pools(struct web_req *r)
{
    struct targets_info info = {0};
    struct nx_err err = {0};
    struct buf *b = &r->reply.body;

    if (scrape_get_targets(web_data(r->w)->scrape, nx_slice_of("", 0), r->arena, &info, &err)) {
        web_fail(r, &err, NULL);
        return;
    }
    web_ok_begin(r);
    buf_str(b, "{\"scrapePools\":[");
    for (size_t i = 0; i < info.n_pools; i++) {
        if (i)
            buf_char(b, ',');
        json_text(b, info.pools[i]);
    }
    buf_str(b, "]}");
    web_ok_end(r, NULL, 0, NULL, 0);
}

/* ---- metadata ------------------------------------------------------------------------------------ */

static int metadata_order(const void *a, const void *b)
{
    const struct metadata_info *x = a, *y = b;
    int c = nx_slice_cmp(x->metric, y->metric);

    if (!c)
        c = nx_slice_cmp(x->type, y->type);
    if (!c)
        c = nx_slice_cmp(x->help, y->help);
    return c ? c : nx_slice_cmp(x->unit, y->unit);
}

static void put_meta(struct buf *b, const struct metadata_info *m)
{
    buf_str(b, "{\"type\":");
    json_text(b, m->type);
    buf_str(b, ",\"unit\":");
    json_text(b, m->unit);
    buf_str(b, ",\"help\":");
    json_text(b, m->help);
    buf_char(b, '}');
}

/* `limit` and `limit_per_metric`: negative or absent is no limit. */
static bool meta_limit(struct web_req *r, const char *key, int64_t *out)
{
    struct nx_slice s = web_url_param_get(r, key);

    *out = -1;
    if (!s.len || num_parse_i64(s, out))
        return true;
    web_error(r, WEB_ERR_BAD_DATA, "%s must be a number", key);
    return false;
}

void api_metadata(struct web_req *r)
{
    struct metadata_info *v = NULL;
    struct nx_err err = {0};
    struct buf *b = &r->reply.body;
    int64_t limit, per_metric, metrics = 0, of_metric = 0;
    size_t n = 0;

    if (!meta_limit(r, "limit", &limit) || !meta_limit(r, "limit_per_metric", &per_metric))
        return;
    const struct metadata_ask ask = {.metric = web_url_param_get(r, "metric"), .families = true};
    if (scrape_get_metadata(web_data(r->w)->scrape, &ask, r->arena, &v, &n, &err)) {
        web_fail(r, &err, NULL);
        return;
    }
    if (n)
        qsort(v, n, sizeof *v, metadata_order);
    web_ok_begin(r);
    buf_char(b, '{');
    for (size_t i = 0; i < n; i++) {
        bool first = !i || !nx_slice_eq(v[i - 1].metric, v[i].metric);
        if (first) {
            if (limit >= 0 && metrics >= limit)
                break;
            if (metrics++)
                buf_str(b, "],");
            json_text(b, v[i].metric);
            buf_str(b, ":[");
            of_metric = 0;
        } else if (metadata_order(&v[i - 1], &v[i]) == 0 ||
                   (per_metric > 0 && of_metric >= per_metric)) {
            continue;
        }
        if (of_metric++)
            buf_char(b, ',');
        put_meta(b, &v[i]);
    }
    buf_str(b, metrics ? "]}" : "}");
    web_ok_end(r, NULL, 0, NULL, 0);
}

static void put_target_metadata(struct web_req *r, const struct metadata_info *v, size_t n)
{
    bool with_metric = !web_url_param_get(r, "metric").len;
    struct buf *b = &r->reply.body;

    for (size_t i = 0; i < n; i++) {
        buf_str(b, i ? ",{\"target\":" : "{\"target\":");
        json_labels(b, &v[i].target);
        if (with_metric) {
            buf_str(b, ",\"metric\":");
            json_text(b, v[i].metric);
        }
        buf_str(b, ",\"type\":");
        json_text(b, v[i].type);
        buf_str(b, ",\"help\":");
        json_text(b, v[i].help);
        buf_str(b, ",\"unit\":");
        json_text(b, v[i].unit);
        buf_char(b, '}');
    }
}

void api_targets_metadata(struct web_req *r)
{
    struct web_match_set set = {0};
    struct metadata_info *v = NULL;
    struct nx_slice match = web_url_param_get(r, "match_target");
    struct nx_err err = {0};
    int64_t limit;
    size_t n = 0;

    if (!meta_limit(r, "limit", &limit))
        return;
    if (match.len && pql_parse_selector(r->arena, match, &set.m, &set.n, &err)) {
        web_fail(r, &err, "invalid parameter \"match_target\": ");
        return;
    }
    const struct metadata_ask ask = {.metric = web_url_param_get(r, "metric"),
                                     .match = set.m,
                                     .n_match = set.n,
                                     .most = limit > 0 ? (size_t)limit : 0};
    if (limit && scrape_get_metadata(web_data(r->w)->scrape, &ask, r->arena, &v, &n, &err)) {
        web_fail(r, &err, NULL);
    } else {
        web_ok_begin(r);
        buf_char(&r->reply.body, '[');
        put_target_metadata(r, v, n);
        buf_char(&r->reply.body, ']');
        web_ok_end(r, NULL, 0, NULL, 0);
    }
    pql_matchers_done(set.m, set.n);
}
