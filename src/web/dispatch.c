#include "src/web/server.h"

/* dispatch.c - the life of a request.
 *
 * STATES   NEW (target seen) -> READING (form) -> [suspended: QUEUED -> RUNNING] -> ANSWERED
 *          -> (a stream: suspended again for each further piece) -> completed.
 * RULES    D1  While a request is suspended only the worker touches it, but for its cancel flag.
 *          D2  A handler always leaves a reply; web_on_request() sends it when it is called again.
 *          D3  Workers are started as they are needed: a server that is asked one thing at a time has
 *              one, and slow queries never keep quick ones waiting for long.
 * THREADS  web_on_* run on the socket thread. w->lock guards the queue and the running list and is
 *          never held while a handler runs. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "src/base/clock.h"
#include "src/base/limits.h"

/* ---- workers ----------------------------------------------------------------------------------- */

static void answer(struct web_req *r)
{
    struct arena *a = r->arena;

    if (r->filling) {
        web_out_fill(r);
        return;
    }
    if (!a || web_params_parse(r))
        web_error(r, WEB_ERR_INTERNAL, "out of memory");
    else
        r->route->handler(r);
    const char *accept =
        MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT_ENCODING);
    web_out_prepare(r, accept && (r->route->flags & WEB_COMPRESS) && web_accepts_gzip(accept));
}

static void unlink_running(struct web *w, struct web_req *r)
{
    for (struct web_req **at = &w->running; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            return;
        }
}

static struct web_req *take_locked(struct web *w)
{
    struct web_req *r = w->queue_head;

    if (r) {
        w->queue_head = r->next;
        if (!w->queue_head)
            w->queue_tail = NULL;
        r->next = w->running;
        w->running = r;
    }
    return r;
}

static void worker_run(void *arg)
{
    struct web *w = arg;

    nx_lock(&w->lock);
    for (;;) {
        struct web_req *r = take_locked(w);
        if (r) {
            nx_unlock(&w->lock);
            answer(r);
            nx_lock(&w->lock);
            unlink_running(w, r);
            nx_unlock(&w->lock);
            MHD_resume_connection(r->conn); /* D1: from here on r is the socket thread's */
            nx_lock(&w->lock);
            continue;
        }
        if (w->stop)
            break;
        w->n_idle++;
        nx_cond_wait(&w->work, &w->lock);
        w->n_idle--;
    }
    nx_unlock(&w->lock);
}

nx_status web_workers_init(struct web *w, struct nx_err *err)
{
    nx_status st = nx_thread_start(&w->worker[0], "web-0", worker_run, w, err);

    if (!st)
        w->n_workers = 1;
    return st;
}

void web_workers_stop(struct web *w)
{
    nx_lock(&w->lock);
    w->stop = true;
    for (struct web_req *r = w->running; r; r = r->next)
        __atomic_store_n(&r->cancel, 1, __ATOMIC_RELAXED);
    nx_cond_broadcast(&w->work);
    unsigned n = w->n_workers;
    nx_unlock(&w->lock);
    for (unsigned i = 0; i < n; i++)
        nx_thread_join(&w->worker[i]);
}

void web_submit(struct web *w, struct web_req *r)
{
    char name[16];

    nx_lock(&w->lock);
    r->next = NULL;
    if (w->queue_tail)
        w->queue_tail->next = r;
    else
        w->queue_head = r;
    w->queue_tail = r;
    /* D3: one more worker where all are busy. Failing to start one only makes the queue longer. */
    if (!w->n_idle && !w->stop && w->n_workers < NX_COUNT(w->worker)) {
        snprintf(name, sizeof name, "web-%u", w->n_workers);
        if (nx_thread_start(&w->worker[w->n_workers], name, worker_run, w, NULL) == NX_OK)
            w->n_workers++;
    }
    nx_cond_signal(&w->work);
    nx_unlock(&w->lock);
}

void web_cancel_gone(struct web *w)
{
    char c;

    nx_lock(&w->lock);
    for (struct web_req *r = w->running; r; r = r->next) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (info && recv(info->connect_fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
            __atomic_store_n(&r->cancel, 1, __ATOMIC_RELAXED);
    }
    nx_unlock(&w->lock);
}

/* ---- routing ----------------------------------------------------------------------------------- */

/* Whether `path` fits the pattern; the segment at ":x" comes back in *param. */
static bool fits(const char *pattern, struct nx_slice path, struct nx_slice *param)
{
    size_t i = 0;

    for (; *pattern; pattern++) {
        if (*pattern != ':') {
            if (i >= path.len || path.ptr[i] != *pattern)
                return false;
            i++;
            continue;
        }
        size_t from = i;
        while (i < path.len && path.ptr[i] != '/')
            i++;
        if (i == from)
            return false;
        *param = nx_slice_of(path.ptr + from, i - from);
        while (pattern[1] && pattern[1] != '/')
            pattern++;
    }
    return i == path.len;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *allow_text(struct arena *a, unsigned methods)
{
    const char *names[8];
    size_t n = 0;

    if (methods & WEB_GET)
        names[n++] = "GET";
    if (methods & WEB_HEAD)
        names[n++] = "HEAD";
    if (methods & WEB_POST)
        names[n++] = "POST";
    if (methods & WEB_PUT)
        names[n++] = "PUT";
    names[n++] = "OPTIONS";
    qsort(names, n, sizeof *names, by_text);
    char *text = arena_printf(a, "%s", names[0]);
    for (size_t i = 1; i < n && text; i++)
        text = arena_printf(a, "%s, %s", text, names[i]);
    return text;
}

/* Finds the route; false when the request was answered here (404, 405, redirect, OPTIONS). */
static bool route(struct web_req *r)
{
    unsigned methods = 0;
    bool cors = false;

    for (size_t i = 0; i < web_n_routes; i++) {
        const struct web_route *row = &web_routes[i];
        struct nx_slice param = {"", 0};
        if (!fits(row->pattern, r->path, &param))
            continue;
        methods |= row->methods;
        cors = cors || (row->flags & WEB_CORS);
        if (!r->route)
            r->route = row;
        if (row->methods & r->method) {
            r->route = row;
            r->path_param = param;
            return true;
        }
    }
    if (!methods) {
        struct nx_slice param;
        struct nx_slice cut = {r->path.ptr, r->path.len ? r->path.len - 1 : 0};
        for (size_t i = 0; i < web_n_routes && cut.len && r->path.ptr[cut.len] == '/'; i++)
            if (fits(web_routes[i].pattern, cut, &param)) {
                web_redirect(r, r->method == WEB_GET ? 301 : 308,
                             arena_strndup(r->arena, cut.ptr, cut.len));
                return false;
            }
        web_text(r, 404, "404 page not found\n");
        r->reply.nosniff = true;
        return false;
    }
    if (r->method == WEB_OPTIONS && cors) {
        r->reply.status = 204;
        return false;
    }
    web_text(r, 405, "Method Not Allowed\n");
    r->reply.allow = allow_text(r->arena, methods);
    r->reply.nosniff = true;
    return false;
}

/* Splits the target and cuts the route prefix; false when the request was answered here. */
static bool take_path(struct web_req *r)
{
    const struct web_ctx *ctx = web_ctx(r->w);
    size_t n_prefix = strlen(ctx->prefix);
    const char *q = strchr(r->target, '?');
    struct nx_slice raw = {r->target, q ? (size_t)(q - r->target) : strlen(r->target)};

    r->raw_query = nx_slice_str(q ? q + 1 : "");
    if (!web_unescape(r->arena, raw, false, &r->path)) {
        web_text(r, 400, "400 Bad Request");
        r->reply.close = true;
        return false;
    }
    if (!n_prefix)
        return true;
    if (r->path.len >= n_prefix && memcmp(r->path.ptr, ctx->prefix, n_prefix) == 0 &&
        (r->path.len == n_prefix || r->path.ptr[n_prefix] == '/')) {
        r->path = nx_slice_of(r->path.ptr + n_prefix, r->path.len - n_prefix);
        if (!r->path.len)
            r->path = nx_slice_of("/", 1);
        return true;
    }
    if (nx_slice_is(r->path, "/")) {
        web_redirect(r, 302, "/");
        return false;
    }
    web_text(r, 404, "404 page not found\n");
    r->reply.nosniff = true;
    return false;
}

static bool ready_for(struct web_req *r)
{
    const struct web_hooks *h = &web_ctx(r->w)->opts->hooks;

    if (!(r->route->flags & WEB_GATED) || !h->ready || h->ready(h->ctx))
        return true;
    web_text(r, 503, "Service Unavailable");
    r->reply.stopping = __atomic_load_n(&r->w->stop, __ATOMIC_RELAXED) ? "true" : "false";
    return false;
}

/* ---- libmicrohttpd's calls ----------------------------------------------------------------------- */

static enum web_method method_of(const char *m)
{
    static const struct {
        const char *name;
        enum web_method method;
    } known[] = {{"GET", WEB_GET},   {"POST", WEB_POST},       {"PUT", WEB_PUT},
                 {"HEAD", WEB_HEAD}, {"OPTIONS", WEB_OPTIONS}, {"DELETE", WEB_DELETE}};

    for (size_t i = 0; i < NX_COUNT(known); i++)
        if (strcmp(m, known[i].name) == 0)
            return known[i].method;
    return WEB_OTHER;
}

void *web_on_target(void *cls, const char *target, struct MHD_Connection *conn)
{
    struct web *w = cls;
    struct web_req *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->w = w;
    r->conn = conn;
    r->start_ns = clock_mono_ns();
    r->target = strdup(target);
    r->arena = arena_new(0);
    buf_init(&r->form, NX_LIMIT_FORM_BYTES);
    buf_init(&r->reply.body, 0);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    r->client = info ? info->socket_context : NULL;
    if (r->client)
        r->client->busy++;
    __atomic_add_fetch(&w->in_flight, 1, __ATOMIC_RELAXED);
    return r;
}

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                    const char *value)
{
    struct web_req *r = cls;

    (void)kind;
    r->header_bytes += strlen(key) + (value ? strlen(value) : 0) + 4;
    return MHD_YES;
}

/* The first call of a request: the head is there, the body is not. */
static void on_head(struct web_req *r, const char *method)
{
    r->seen = true;
    r->method = method_of(method);
    /* The request line starts the connection's block: that is how its place is known. */
    if (r->client && !r->client->pool && ((uintptr_t)method & 4095) == 0)
        r->client->pool = (unsigned char *)(uintptr_t)method;
    r->header_bytes = strlen(r->target);
    MHD_get_connection_values(r->conn, MHD_HEADER_KIND, count_header, r);
    const char *type =
        MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    size_t n = type ? strcspn(type, "; \t") : 0;
    r->form_taken = n == strlen("application/x-www-form-urlencoded") &&
                    strncasecmp(type, "application/x-www-form-urlencoded", n) == 0 &&
                    (r->method == WEB_POST || r->method == WEB_PUT);
}

static void on_body(struct web_req *r, const char *data, size_t len)
{
    if (!r->form_taken || r->form_too_large)
        return;
    buf_append(&r->form, data, len);
    if (r->form.failed) {
        r->form_too_large = true;
        buf_done(&r->form);
    }
}

/* The request is whole: answers it, or hands it to a worker. True when there is a reply to send. */
static bool dispatch(struct web_req *r)
{
    if (r->header_bytes > NX_LIMIT_URL_BYTES + 4096) { /* Go's limit and its slack */
        web_text(r, 431, "431 Request Header Fields Too Large");
        r->reply.close = true;
        web_out_prepare(r, false);
        return true;
    }
    if (!take_path(r) || !route(r) || !ready_for(r)) {
        web_out_prepare(r, false);
        return true;
    }
    if (r->route->flags & WEB_INLINE) {
        answer(r);
        return true;
    }
    r->queued = true;
    MHD_suspend_connection(r->conn);
    web_submit(r->w, r);
    return false;
}

enum MHD_Result web_on_request(void *cls, struct MHD_Connection *conn, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *data_len, void **req)
{
    struct web_req *r = *req;

    (void)cls;
    (void)conn;
    (void)url;
    (void)version;
    if (!r || !r->arena || !r->target)
        return MHD_NO;
    if (!r->seen) {
        on_head(r, method);
        return MHD_YES;
    }
    if (*data_len) {
        on_body(r, data, *data_len);
        *data_len = 0;
        return MHD_YES;
    }
    if (!r->queued && !dispatch(r))
        return MHD_YES;
    return web_out_send(r);
}

void web_on_completed(void *cls, struct MHD_Connection *conn, void **req,
                      enum MHD_RequestTerminationCode why)
{
    struct web *w = cls;
    struct web_req *r = *req;

    (void)conn;
    (void)why;
    if (!r)
        return;
    *req = NULL;
    if (r->route && r->seen)
        web_stats_request(w->ctx.stats, r->route, r->reply.status,
                          (double)(clock_mono_ns() - r->start_ns) / 1e9, web_out_bytes(r));
    if (r->client) {
        r->client->busy--;
        r->client->trimmed = false;
        r->client->idle_since_ns = clock_mono_ns();
    }
    web_out_free(r);
    buf_done(&r->form);
    buf_done(&r->reply.body);
    arena_free(r->arena);
    free(r->target);
    free(r);
    __atomic_sub_fetch(&w->in_flight, 1, __ATOMIC_RELEASE);
}
