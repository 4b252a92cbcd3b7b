#include "src/web/server.h"

/* dispatch.c - the life of a request.
 *
 * STATES   NEW (target seen) -> READING (form) -> [suspended: QUEUED -> RUNNING] -> ANSWERED
 *          -> (a stream: suspended again for each further piece) -> completed.
 * RULES    D1  While a request is suspended only the thread that took it touches it, but for its cancel flag.
 *          D2  A handler always leaves a reply; web_on_request() sends it when it is called again.
 *          D3  Threads are started as they are needed: a server that is asked one thing at a time has
 *              two, and slow queries never keep quick ones waiting for long.
 *          D4  Who takes a request leaves another thread waiting for events, if one can be had.
 * THREADS  web_on_* run in the turn (server.c). w->lock guards the queue and the running list and is
 *          never held while a handler runs. */

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "src/base/clock.h"
#include "src/base/limits.h"
#include "src/base/text.h"

/* ---- threads --------------------------------------------------------------------------------------- */

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
    web_out_prepare(r, accept && (r->wrap & WEB_COMPRESS) && web_accepts_gzip(accept));
}

static void unlink_running(struct web *w, struct web_req *r)
{
    for (struct web_req **at = &w->running; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            return;
        }
}

static void thread_run(void *arg);

/* D3. Failing to start one only makes the queue longer. */
static nx_status add_thread_locked(struct web *w, struct nx_err *err)
{
    char name[16];
    nx_status st;

    if (w->n_threads == WEB_MAX_THREADS)
        return NX_LIMIT;
    snprintf(name, sizeof name, "web-%u", w->n_threads);
    st = nx_thread_start(&w->thread[w->n_threads], name, thread_run, w, err);
    if (!st)
        w->n_threads++;
    return st;
}

/* The next request for the calling thread; NULL: it is to wait for events. */
static struct web_req *take(struct web *w)
{
    struct web_req *r;
    bool more;

    nx_lock(&w->lock);
    r = w->queue_head;
    if (r && w->n_busy + 1 == w->n_threads && add_thread_locked(w, NULL) && w->n_threads > 1)
        r = NULL; /* D4 */
    if (r) {
        w->queue_head = r->next;
        if (!w->queue_head)
            w->queue_tail = NULL;
        w->n_queued--;
        w->n_busy++;
        r->next = w->running;
        w->running = r;
    }
    more = r && w->n_queued;
    nx_unlock(&w->lock);
    if (more)
        web_wake(w);
    return r;
}

/* Sends what was made, if no other thread is just sending. */
static void finish(struct web *w, struct web_req *r)
{
    struct MHD_Connection *conn = r->conn;
    bool mine;

    nx_lock(&w->lock);
    unlink_running(w, r);
    if (--w->n_busy == 0)
        nx_cond_broadcast(&w->done);
    mine = !w->turn;
    w->turn = true;
    nx_unlock(&w->lock);
    if (mine)
        web_listen_events(w, false); /* nobody needs to hear of what follows */
    MHD_resume_connection(conn);     /* D1: from here on r belongs to the turn */
    web_turn(w, mine);
}

static void thread_run(void *arg)
{
    struct web *w = arg;
    struct epoll_event ev[WEB_MAX_LISTEN + 2];
    struct web_req *r;

    while (!__atomic_load_n(&w->ending, __ATOMIC_ACQUIRE)) {
        epoll_wait(w->epoll_fd, ev, (int)NX_COUNT(ev), -1);
        web_turn(w, false);
        while ((r = take(w))) {
            answer(r);
            finish(w, r);
        }
    }
    web_wake(w); /* one ends the next */
}

nx_status web_threads_init(struct web *w, struct nx_err *err)
{
    nx_status st;

    nx_lock(&w->lock);
    st = add_thread_locked(w, err);
    nx_unlock(&w->lock);
    return st;
}

void web_threads_idle(struct web *w)
{
    nx_lock(&w->lock);
    w->stop = true;
    while (w->queue_head || w->n_busy)
        nx_cond_wait(&w->done, &w->lock);
    nx_unlock(&w->lock);
}

void web_threads_join(struct web *w)
{
    for (unsigned i = 0; i < w->n_threads; i++) /* none is started any more: nothing is queued */
        nx_thread_join(&w->thread[i]);
}

bool web_submit(struct web *w, struct web_req *r)
{
    bool taken;

    nx_lock(&w->lock);
    taken = !w->stop;
    if (taken) {
        MHD_suspend_connection(r->conn); /* before anyone can resume it */
        r->next = NULL;
        if (w->queue_tail)
            w->queue_tail->next = r;
        else
            w->queue_head = r;
        w->queue_tail = r;
        w->n_queued++;
    }
    nx_unlock(&w->lock);
    return taken;
}

/* It sends no more; what it sent before (the end of a TLS session, another request) may lie unread. */
static bool client_gone(const struct web_req *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct pollfd p = {.fd = info ? info->connect_fd : -1, .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0;
}

static void cancel_list(struct web_req *r, bool all)
{
    for (; r; r = r->next)
        if (all || client_gone(r))
            __atomic_store_n(&r->cancel, 1, __ATOMIC_RELAXED);
}

void web_cancel(struct web *w, bool all)
{
    nx_lock(&w->lock);
    cancel_list(w->running, all);
    cancel_list(w->queue_head, all);
    nx_unlock(&w->lock);
}

/* ---- routing ----------------------------------------------------------------------------------- */

/* Whether `path` fits the pattern; the segment at ":x" comes back in *param. fold: in any case. */
static bool fits(const char *pattern, struct nx_slice path, bool fold, struct nx_slice *param)
{
    size_t i = 0;

    for (; *pattern; pattern++) {
        if (*pattern != ':') {
            if (i >= path.len ||
                (path.ptr[i] != *pattern && (!fold || tolower((unsigned char)path.ptr[i]) !=
                                                          tolower((unsigned char)*pattern))))
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

    if (methods & WEB_DELETE)
        names[n++] = "DELETE";
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

static void not_found(struct web_req *r)
{
    web_text(r, 404, "404 page not found\n");
    r->reply.nosniff = true;
}

/* Go's path.Clean() of an absolute path, but "" for the root. */
static struct nx_slice clean_path(struct arena *a, struct nx_slice path)
{
    struct nx_slice out;
    struct buf b;

    buf_init(&b, 0);
    text_join_path(&b, path);
    out = b.failed || !b.len ? nx_slice_of("", 0) : arena_slice(a, buf_view(&b));
    buf_done(&b);
    return out.ptr ? out : nx_slice_of("", 0);
}

/* The path with the pattern's own spelling and the param as it was asked, for a Location header. */
static const char *location_of(struct web_req *r, const char *pattern, struct nx_slice param)
{
    struct buf b;
    const char *text;

    buf_init(&b, 0);
    buf_str(&b, web_ctx(r->w)->prefix);
    for (; *pattern; pattern++) {
        if (*pattern != ':') {
            buf_char(&b, *pattern);
            continue;
        }
        text_url_escape(&b, param, "$&+:=@", false);
        while (pattern[1] && pattern[1] != '/')
            pattern++;
    }
    if (r->raw_query.len) {
        buf_char(&b, '?');
        buf_slice(&b, r->raw_query);
    }
    text = buf_status(&b, NULL) ? NULL : arena_strndup(r->arena, b.ptr, b.len);
    buf_done(&b);
    return text;
}

/* Prometheus's router leads from "/x/" and "//X" to "/x". */
static bool redirect_to_route(struct web_req *r)
{
    struct nx_slice clean = clean_path(r->arena, r->path), param = {"", 0};

    for (size_t i = 0; i < web_n_routes; i++) {
        const struct web_route *row = &web_routes[i];
        if ((row->methods & r->method) && fits(row->pattern, clean, true, &param)) {
            web_redirect(r, r->method == WEB_GET ? 301 : 308, location_of(r, row->pattern, param));
            return true;
        }
    }
    return false;
}

static bool is_api(struct nx_slice path)
{
    static const char api[] = "/api/v1/";

    return path.len >= sizeof api - 1 && memcmp(path.ptr, api, sizeof api - 1) == 0;
}

/* No row takes the method: answers OPTIONS, a redirect, 405 or 404. */
static void no_route(struct web_req *r, unsigned methods)
{
    if (r->method == WEB_OPTIONS && is_api(r->path)) {
        r->wrap = WEB_CORS | WEB_COMPRESS;
        r->reply.status = 204;
        return;
    }
    if (!methods) {
        if (!redirect_to_route(r))
            not_found(r);
        return;
    }
    if (r->method == WEB_OPTIONS) {
        r->reply.status = 200;
    } else {
        web_text(r, 405, "Method Not Allowed\n");
        r->reply.nosniff = true;
    }
    r->reply.allow = allow_text(r->arena, methods);
}

static bool ready_for(struct web_req *r, unsigned flags)
{
    const struct web_hooks *h = &web_ctx(r->w)->opts->hooks;
    bool stopping = __atomic_load_n(&r->w->stopping, __ATOMIC_RELAXED);

    if (!stopping && (!(flags & WEB_GATED) || h->ready(h->ctx)))
        return true;
    web_text(r, 503, "Service Unavailable");
    r->reply.stopping = stopping ? "true" : "false";
    r->reply.close = r->reply.close || stopping;
    return false;
}

/* Finds the route; false when the request was answered here. */
static bool route(struct web_req *r)
{
    unsigned methods = 0;

    for (size_t i = 0; i < web_n_routes; i++) {
        const struct web_route *row = &web_routes[i];
        struct nx_slice param = {"", 0};
        if (!fits(row->pattern, r->path, false, &param))
            continue;
        methods |= row->methods;
        if (!(row->methods & r->method))
            continue;
        r->route = row;
        r->path_param = param;
        if (!ready_for(r, row->flags))
            return false;
        r->wrap = row->flags & (WEB_CORS | WEB_COMPRESS);
        return true;
    }
    if (ready_for(r, r->method == WEB_OPTIONS && is_api(r->path) ? WEB_GATED : 0))
        no_route(r, methods);
    return false;
}

/* A proxy's "GET http://host/path": the host is of no interest. */
static const char *path_of(const char *target)
{
    const char *host = strncasecmp(target, "http://", 7) == 0 ? target + 7 : NULL;
    const char *path = host ? strpbrk(host, "/?") : NULL;

    return path ? path : host ? "/" : target;
}

/* Splits the target and cuts the route prefix; false when the request was answered here. */
static bool take_path(struct web_req *r)
{
    const struct web_ctx *ctx = web_ctx(r->w);
    size_t n_prefix = strlen(ctx->prefix);
    const char *target = path_of(r->target), *q = strchr(target, '?');
    struct nx_slice raw = {target, q ? (size_t)(q - target) : strlen(target)};

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
    if (nx_slice_is(r->path, "/") && r->method == WEB_GET)
        web_redirect(r, 302, ctx->prefix);
    else
        not_found(r);
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

/* The first call of a request: the head is there, the body is not. */
static void on_head(struct web_req *r, const char *method)
{
    r->seen = true;
    r->method = method_of(method);
    r->method_text = method;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    r->header_bytes = info ? info->header_size : 0;
    const char *type =
        MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    size_t n = type ? strcspn(type, "; \t") : 0;
    r->form_taken = n == strlen("application/x-www-form-urlencoded") &&
                    strncasecmp(type, "application/x-www-form-urlencoded", n) == 0 &&
                    (r->method == WEB_POST || r->method == WEB_PUT);
}

static void on_body(struct web_req *r, const char *data, size_t len)
{
    r->body_bytes += len;
    if (!r->form_taken || r->form_too_large)
        return;
    buf_append(&r->form, data, len);
    if (r->form.failed) {
        r->form_too_large = true;
        buf_done(&r->form);
    }
}

/* The request is whole: answers it, or queues it. True when there is a reply to send. */
static bool dispatch(struct web_req *r)
{
    if (r->client)
        r->reply.close = !web_trim_first(r->w, r->client, r);
    if (r->header_bytes > NX_LIMIT_URL_BYTES + 4096) { /* Go's limit and its slack */
        web_text(r, 431, "431 Request Header Fields Too Large");
        r->reply.close = true;
        web_out_prepare(r, false);
        return true;
    }
    if (!take_path(r) || !route(r)) {
        web_out_prepare(r, false);
        return true;
    }
    if (r->route->flags & WEB_INLINE) {
        answer(r);
        return true;
    }
    r->queued = true;
    if (web_submit(r->w, r))
        return false;
    web_text(r, 503, "Service Unavailable"); /* the server has stopped since */
    r->reply.close = true;
    web_out_prepare(r, false);
    return true;
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
        web_trim_dirty(w, r->client);
    }
    web_out_free(r);
    buf_done(&r->form);
    buf_done(&r->reply.body);
    arena_free(r->arena);
    free(r->target);
    free(r);
    __atomic_sub_fetch(&w->in_flight, 1, __ATOMIC_RELEASE);
}
