#include "src/web/http.h"

/* reply.c - plain texts, redirects, and the JSON envelope of the API.
 *
 * The envelope is fixed: {"status":"success","data":...[,"warnings":[...]][,"infos":[...]]} or
 * {"status":"error","errorType":"...","error":"..."}; errors never carry data (Grafana would fail on
 * it). */

#include <stdio.h>
#include <string.h>

#define JSON "application/json"

static void start(struct web_req *r, unsigned status, const char *type)
{
    r->reply.status = status;
    r->reply.content_type = type;
    r->reply.fill = NULL;
    buf_clear(&r->reply.body);
}

void web_text(struct web_req *r, unsigned status, const char *text)
{
    start(r, status, "text/plain; charset=utf-8");
    buf_str(&r->reply.body, text);
}

void web_put_html(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '<')
            buf_str(b, "&lt;");
        else if (*s == '>')
            buf_str(b, "&gt;");
        else if (*s == '&')
            buf_str(b, "&amp;");
        else if (*s == '"')
            buf_str(b, "&#34;");
        else if (*s == '\'')
            buf_str(b, "&#39;");
        else
            buf_char(b, *s);
    }
}

void web_redirect(struct web_req *r, unsigned status, const char *location)
{
    start(r, status, r->method == WEB_GET ? "text/html; charset=utf-8" : NULL);
    r->reply.location = location;
    if (r->method != WEB_GET || !location)
        return;
    buf_str(&r->reply.body, "<a href=\"");
    web_put_html(&r->reply.body, location);
    buf_printf(&r->reply.body, "\">%s</a>.\n\n", status == 301 ? "Moved Permanently" : "Found");
}

static const struct {
    const char *text;
    unsigned status;
} errors[] = {
#define ROW(name, text, status) {text, status},
    WEB_ERROR_LIST(ROW)
#undef ROW
};

static void error_body(struct web_req *r, enum web_error type, const char *prefix, const char *text)
{
    struct buf *b = &r->reply.body, message;

    start(r, errors[type].status, JSON);
    buf_init(&message, 0);
    buf_str(&message, prefix);
    buf_str(&message, text);
    buf_str(b, "{\"status\":\"error\",\"errorType\":\"");
    buf_str(b, errors[type].text);
    buf_str(b, "\",\"error\":");
    json_text(b, buf_view(&message));
    buf_char(b, '}');
    buf_done(&message);
}

void web_error(struct web_req *r, enum web_error type, const char *fmt, ...)
{
    char text[NX_ERR_TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    error_body(r, type, "", text);
}

static enum web_error error_of(nx_status st)
{
    switch (st) {
    case NX_BADINPUT:
        return WEB_ERR_BAD_DATA;
    case NX_EXEC:
    case NX_LIMIT:
        return WEB_ERR_EXECUTION;
    case NX_TIMEOUT:
        return WEB_ERR_TIMEOUT;
    case NX_CANCELED:
        return WEB_ERR_CANCELED;
    case NX_NOTFOUND:
        return WEB_ERR_NOT_FOUND;
    case NX_UNAVAILABLE:
        return WEB_ERR_UNAVAILABLE;
    case NX_OVERLOADED:
        return WEB_ERR_OVERLOADED;
    default:
        return WEB_ERR_INTERNAL;
    }
}

void web_fail(struct web_req *r, const struct nx_err *err, const char *prefix)
{
    error_body(r, error_of(err->code), prefix ? prefix : "", err->text);
}

void web_ok_begin(struct web_req *r)
{
    start(r, 200, JSON);
    buf_str(&r->reply.body, "{\"status\":\"success\",\"data\":");
}

void web_ok_end(struct web_req *r, char *const *warnings, size_t n_warnings, char *const *infos,
                size_t n_infos)
{
    json_messages(&r->reply.body, "warnings", warnings, n_warnings);
    json_messages(&r->reply.body, "infos", infos, n_infos);
    buf_char(&r->reply.body, '}');
}

struct list_stream {
    size_t i, n;
    void (*item)(void *ctx, size_t i, struct buf *out);
    void *ctx;
    const char *warning;
};

static bool list_fill(void *ctx, struct buf *out)
{
    struct list_stream *s = ctx;

    for (; s->i < s->n; s->i++) {
        if (out->len >= WEB_PIECE_BYTES)
            return true;
        if (s->i)
            buf_char(out, ',');
        s->item(s->ctx, s->i, out);
    }
    buf_char(out, ']');
    json_messages(out, "warnings", (char *[]){(char *)(uintptr_t)s->warning}, s->warning != NULL);
    buf_char(out, '}');
    return false;
}

void web_ok_list(struct web_req *r, size_t n, void (*item)(void *ctx, size_t i, struct buf *out),
                 void *ctx, const char *warning)
{
    struct list_stream *s = arena_zalloc(r->arena, sizeof *s);

    if (!s) {
        web_error(r, WEB_ERR_INTERNAL, "out of memory");
        return;
    }
    *s = (struct list_stream){.n = n, .item = item, .ctx = ctx, .warning = warning};
    web_ok_begin(r);
    buf_char(&r->reply.body, '[');
    r->reply.fill = list_fill;
    r->reply.fill_ctx = s;
}
