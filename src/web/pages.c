#include "src/web/http.h"

/* pages.c - health, lifecycle, and the plain page at the root. */

#include "src/base/clock.h"
#include "src/web/version.h"

/* HEAD has a status and nothing else. */
static void page_probe(struct web_req *r, const char *text)
{
    if (r->method == WEB_HEAD)
        r->reply.status = 200;
    else
        web_text(r, 200, text);
}

void page_healthy(struct web_req *r)
{
    page_probe(r, "Prometheus Server is Healthy.\n");
}

void page_ready(struct web_req *r)
{
    page_probe(r, "Prometheus Server is Ready.\n");
}

void page_lifecycle_get(struct web_req *r)
{
    web_text(r, 405, "Only POST or PUT requests allowed");
}

static bool lifecycle_enabled(struct web_req *r)
{
    if (web_ctx(r->w)->opts->enable_lifecycle)
        return true;
    web_text(r, 403, "Lifecycle API is not enabled.");
    return false;
}

void page_reload(struct web_req *r)
{
    const struct web_hooks *h = &web_ctx(r->w)->opts->hooks;
    struct nx_err err = {0};

    if (!lifecycle_enabled(r))
        return;
    if (h->reload(h->ctx, &err)) {
        web_text(r, 500, "failed to reload config: ");
        buf_str(&r->reply.body, err.text);
        buf_char(&r->reply.body, '\n');
        r->reply.nosniff = true;
    } else {
        r->reply.status = 200;
    }
}

void page_quit(struct web_req *r)
{
    const struct web_hooks *h = &web_ctx(r->w)->opts->hooks;

    if (!lifecycle_enabled(r))
        return;
    web_text(r, 200, "Requesting termination... Goodbye!");
    h->quit(h->ctx);
}

/* One row per target, so that a first look answers the first question. */
static void put_targets(struct web_req *r, struct buf *b)
{
    struct targets_info info = {0};
    static const char *const health[] = {
        [TARGET_UNKNOWN] = "unknown", [TARGET_UP] = "up", [TARGET_DOWN] = "down"};

    if (!web_data(r->w) ||
        scrape_get_targets(web_data(r->w)->scrape, nx_slice_of("", 0), r->arena, &info, NULL))
        return;
    buf_str(b,
            "<h2>Targets</h2><table><tr><th>job<th>endpoint<th>state<th>last scrape<th>error</tr>");
    for (size_t i = 0; i < info.n_active && i < 1000; i++) {
        const struct target_info *t = &info.active[i];
        char when[40] = "never";
        if (t->last_scrape_ms)
            when[clock_format_rfc3339(when, t->last_scrape_ms * 1000000)] = 0;
        buf_str(b, "<tr><td>");
        web_put_html(b, arena_strndup(r->arena, t->pool.ptr, t->pool.len));
        buf_str(b, "<td>");
        web_put_html(b, arena_strndup(r->arena, t->scrape_url.ptr, t->scrape_url.len));
        buf_printf(b, "<td class=%s>%s<td>%s<td>", health[t->health], health[t->health], when);
        web_put_html(b, arena_strndup(r->arena, t->last_error.ptr, t->last_error.len));
        buf_str(b, "</tr>");
    }
    buf_str(b, "</table>");
}

void page_root(struct web_req *r)
{
    static const char *const links[] = {"api/v1/query?query=up", "api/v1/targets",
                                        "api/v1/labels",         "api/v1/status/config",
                                        "api/v1/status/flags",   "api/v1/status/runtimeinfo",
                                        "api/v1/status/tsdb",    "metrics"};
    const struct web_ctx *ctx = web_ctx(r->w);
    struct buf *b = &r->reply.body;

    r->reply.status = 200;
    r->reply.content_type = "text/html; charset=utf-8";
    buf_str(b, "<!doctype html><html lang=en><meta charset=utf-8><title>");
    web_put_html(b, ctx->opts->page_title ? ctx->opts->page_title : "Narthex");
    buf_str(
        b,
        "</title><style>body{font:15px/1.5 system-ui,sans-serif;margin:2em "
        "auto;max-width:70em;padding:0 1em}"
        "td,th{text-align:left;padding:.2em 1em .2em 0;border-bottom:1px solid #ddd}.up{color:#080}"
        ".down{color:#b00}</style><h1>Narthex</h1><p>Version " NX_VERSION
        ", with the API of Prometheus " WEB_PROMETHEUS_VERSION
        ". Add this address as a Prometheus data source in Grafana, or ask here:</p><ul>");
    for (size_t i = 0; i < NX_COUNT(links); i++)
        buf_printf(b, "<li><a href=\"%s/%s\">/%s</a>", ctx->external_path, links[i], links[i]);
    buf_str(b, "</ul>");
    put_targets(r, b);
    buf_str(b, "</html>\n");
}
