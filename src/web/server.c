#include "src/web/server.h"

/* server.c - listeners, and when libmicrohttpd runs.
 *
 * WHY      Most requests take less time than waking another thread for them.
 * SHAPE    All threads are alike and wait at one epoll: for libmicrohttpd's own epolls (one a listener), a
 *          timer, and web_wake(). The one that an event wakes runs libmicrohttpd (it has the turn), which
 *          suspends and queues the requests that need work; then the thread takes a request from the queue
 *          (dispatch.c), while others wait for the next event, and at last runs libmicrohttpd again, which
 *          sends the answer: nobody was waited for.
 * RULES    L1  One thread has the turn; who comes meanwhile leaves word (`again`) and goes on.
 *          L2  libmicrohttpd's epolls wake one thread and then nobody until the turn ends; neither does what
 *              a thread that takes the turn to send its answer does to them.
 *          L3  A thread takes a request only if another is left to wait for events (dispatch.c).
 *          L4  While events keep coming, the turn goes on to another thread once the server ends or requests
 *              are queued: neither waits for clients to be quiet. For the latter not before MOST_ROUNDS,
 *              since mostly the next round is the last, and no other thread need be woken for it.
 * MEMORY   libmicrohttpd's block for a connection holds a whole request head; trim.c sees to it that
 *          connections which wait give it back.
 * CLOSING  web_close() goes through three phases: (1) no connection is taken any more, requests under
 *          way are cancelled and new ones refused, what is made is sent; (2) after that, or two
 *          seconds, nothing is queued, and a stream that is not through is cut; (3) the threads end.
 * THREADS  Everything here belongs to the turn, but for web_open() and web_close(). */

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/limits.h"
#include "src/base/log.h"

#define HOUSEKEEPING_MS 250
#define SPARE_MS        1000         /* without a request: then memory kept for the next one goes */
#define MOST_ROUNDS     8            /* of a turn, while others wait for its end (L4) */
#define CLOSE_DRAIN_NS  2000000000ll /* phase 1 of closing */
#define CLOSE_FINISH_NS 250000000ll  /* phase 2 */
#define CLOSE_POLL_NS   2000000

/* ---- listeners --------------------------------------------------------------------------------- */

static nx_status split_address(const char *text, char host[256], char port[32], struct nx_err *err)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;

    if (!colon || n >= 256 || strlen(colon + 1) >= 32 || !colon[1])
        return nx_fail(err, NX_BADINPUT, "listen tcp: address %s: missing port in address", text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    memcpy(host, text, n);
    host[n] = 0;
    strcpy(port, colon + 1);
    return NX_OK;
}

static int listen_on(const struct addrinfo *ai, const char *host)
{
    int one = 1, zero = 0;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (ai->ai_family == AF_INET6 && !host[0])
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, 512)) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static unsigned port_of(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;

    if (getsockname(fd, (struct sockaddr *)&ss, &len))
        return 0;
    return ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                          : ((struct sockaddr_in *)&ss)->sin_port);
}

static nx_status open_listener(const char *text, int *out, struct nx_err *err)
{
    char host[256], port[32];
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int fd = -1;
    nx_status st = split_address(text, host, port, err);

    if (st)
        return st;
    int e = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
    if (e)
        return nx_fail(err, NX_UNAVAILABLE, "listen tcp: lookup %s: %s", host, gai_strerror(e));
    /* An empty host listens on both families where the machine has IPv6. */
    for (int pass = 0; pass < 2 && fd < 0; pass++)
        for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
            if (host[0] || pass == 1 || ai->ai_family == AF_INET6)
                fd = listen_on(ai, host);
    e = errno;
    freeaddrinfo(list);
    if (fd < 0 && e == EADDRINUSE) /* in Go's words, which people search for */
        return nx_fail(err, NX_IO, "listen tcp %s: bind: address already in use", text);
    if (fd < 0)
        return nx_fail_errno(err, e, "listen tcp %s: bind", text);
    *out = fd;
    return NX_OK;
}

/* ---- connections ------------------------------------------------------------------------------- */

static void on_connection(void *cls, struct MHD_Connection *conn, void **ctx,
                          enum MHD_ConnectionNotificationCode code)
{
    struct web *w = cls;
    struct web_conn *c = *ctx;

    (void)conn;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        __atomic_add_fetch(&w->accepted, 1, __ATOMIC_RELAXED);
        c = calloc(1, sizeof *c);
        *ctx = c;
        if (!c)
            return;
        c->idle_since_ns = clock_mono_ns();
        c->next = w->conns;
        if (c->next)
            c->next->prev = c;
        w->conns = c;
        return;
    }
    __atomic_add_fetch(&w->closed, 1, __ATOMIC_RELAXED);
    if (!c)
        return;
    web_trim_clean(w, c);
    if (c->next)
        c->next->prev = c->prev;
    *(c->prev ? &c->prev->next : &w->conns) = c->next;
    free(c);
    *ctx = NULL;
}

/* ---- the turn ----------------------------------------------------------------------------------- */

/* INT_MAX: until something happens. Clients that hang up while their request is worked on are noticed at
 * housekeeping only. */
static int64_t wait_ms(struct web *w)
{
    bool quiet = !__atomic_load_n(&w->in_flight, __ATOMIC_RELAXED) && !w->n_dirty;
    MHD_UNSIGNED_LONG_LONG ms = HOUSEKEEPING_MS, t;

    if (quiet)
        ms = arena_spare_held() ? SPARE_MS : INT_MAX;

    for (size_t i = 0; i < w->n_listen; i++)
        if (MHD_get_timeout(w->daemon[i], &t) == MHD_YES && t < ms)
            ms = t;
    return (int64_t)ms;
}

/* The timer is only ever set earlier: going off in vain now and then costs less than setting it often. */
static void set_timer(struct web *w, int64_t now_ns, int64_t in_ms)
{
    int64_t at = now_ns + in_ms * 1000000;
    struct itimerspec spec = {.it_value = {in_ms / 1000, in_ms % 1000 * 1000000}};

    if (w->timer_ns > now_ns && w->timer_ns <= at)
        return;
    w->timer_ns = at;
    if (timerfd_settime(w->timer_fd, 0, &spec, NULL))
        log_debug("timer failed", "component", "web");
}

static void quiesce(struct web *w)
{
    for (size_t i = 0; i < w->n_listen && !w->quiesced; i++)
        MHD_quiesce_daemon(w->daemon[i]);
    w->quiesced = true;
}

void web_listen_events(struct web *w, bool on)
{
    struct epoll_event ev = {.events = on ? EPOLLIN | EPOLLONESHOT : 0};

    for (size_t i = 0; i < w->n_listen; i++)
        if (epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, w->mhd_fd[i], &ev))
            log_debug("epoll failed", "component", "web");
}

/* Sending an answer leaves events of its own behind, and others may have come. */
static bool has_events(const struct web *w)
{
    struct pollfd p[WEB_MAX_LISTEN];

    for (size_t i = 0; i < w->n_listen; i++)
        p[i] = (struct pollfd){.fd = w->mhd_fd[i], .events = POLLIN};
    return poll(p, w->n_listen, 0) > 0;
}

/* True when there is more to do at once. */
static bool run_once(struct web *w)
{
    int64_t now, wait;
    bool due;

    if (__atomic_load_n(&w->stopping, __ATOMIC_ACQUIRE))
        quiesce(w);
    for (size_t i = 0; i < w->n_listen; i++)
        MHD_run(w->daemon[i]);
    now = clock_mono_ns();
    due = now - w->housekeeping_ns >= HOUSEKEEPING_MS * 1000000ll;
    if (due) {
        w->housekeeping_ns = now;
        web_cancel(w, false);
    }
    if (__atomic_load_n(&w->in_flight, __ATOMIC_RELAXED))
        w->busy_ns = now;
    else if (now - w->busy_ns >= SPARE_MS * 1000000ll)
        arena_spare_release();
    web_trim_run(w, now, due);
    wait = wait_ms(w);
    if (wait)
        set_timer(w, now, wait);
    return !wait || has_events(w);
}

/* L4 */
static bool pass_on(const struct web *w, unsigned rounds)
{
    return __atomic_load_n(&w->ending, __ATOMIC_ACQUIRE) || (w->n_queued && rounds >= MOST_ROUNDS);
}

void web_turn(struct web *w, bool mine)
{
    bool passed = false;

    nx_lock(&w->lock);
    if (!mine && w->turn) {
        w->again = true; /* L1 */
        nx_unlock(&w->lock);
        return;
    }
    w->turn = true;
    for (unsigned rounds = 1; w->turn; rounds++) {
        w->again = false;
        nx_unlock(&w->lock);
        bool more = run_once(w);
        nx_lock(&w->lock);
        passed = (more || w->again) && pass_on(w, rounds);
        w->turn = (more || w->again) && !passed;
    }
    web_listen_events(w, true); /* L2 */
    nx_unlock(&w->lock);
    if (passed)
        web_wake(w);
}

void web_wake(struct web *w)
{
    uint64_t one = 1;

    if (write(w->wake_fd, &one, sizeof one) < 0)
        log_debug("wake-up failed", "component", "web");
}

static void on_mhd_log(void *cls, const char *fmt, va_list args)
{
    char text[512];

    (void)cls;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* libmicrohttpd's own format */
    vsnprintf(text, sizeof text, fmt, args);
#pragma GCC diagnostic pop
    text[strcspn(text, "\n")] = 0;
    log_debug("HTTP connection", "component", "web", "err", text);
}

static nx_status watch_fd(struct web *w, int fd, uint32_t events, struct nx_err *err)
{
    struct epoll_event ev = {.events = events};

    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? nx_fail_errno(err, errno, "epoll")
                                                          : NX_OK;
}

static nx_status start_daemon(struct web *w, size_t i, struct nx_err *err)
{
    const union MHD_DaemonInfo *info;
    unsigned max = w->opts.max_connections ? w->opts.max_connections : 512;
    int64_t timeout_ms = w->opts.read_timeout_ms ? w->opts.read_timeout_ms : 300000;
    unsigned timeout_s = (unsigned)((timeout_ms + 999) / 1000);

    w->daemon[i] = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        web_on_request, w, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET,
        w->listen_fd[i], MHD_OPTION_CONNECTION_MEMORY_LIMIT, w->pool_bytes,
        MHD_OPTION_CONNECTION_LIMIT, max, MHD_OPTION_CONNECTION_TIMEOUT, timeout_s,
        MHD_OPTION_URI_LOG_CALLBACK, web_on_target, w, MHD_OPTION_NOTIFY_COMPLETED,
        web_on_completed, w, MHD_OPTION_NOTIFY_CONNECTION, on_connection, w, MHD_OPTION_END);
    if (!w->daemon[i]) {
        close(w->listen_fd[i]);
        return nx_fail(err, NX_UNAVAILABLE, "can't serve HTTP on %s", w->opts.listen[i]);
    }
    w->port[i] = port_of(w->listen_fd[i]);
    w->n_listen = i + 1;
    info = MHD_get_daemon_info(w->daemon[i], MHD_DAEMON_INFO_EPOLL_FD);
    w->mhd_fd[i] = info ? info->epoll_fd : -1;
    return watch_fd(w, w->mhd_fd[i], EPOLLIN | EPOLLONESHOT, err);
}

static nx_status start(struct web *w, struct nx_err *err)
{
    nx_status st;

    /* More than the limit: a head that is over it gets our own 431. One that does not even fit into
     * this gets libmicrohttpd's answer, which is 414 when it is the URL that is too long. */
    w->pool_bytes = NX_LIMIT_URL_BYTES + (256u << 10);
    web_trim_init(w);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (w->epoll_fd < 0 || w->wake_fd < 0 || w->timer_fd < 0)
        return nx_fail_errno(err, errno, "epoll");
    /* Each write and each time the timer goes off wakes one thread; nothing needs to be read. */
    st = watch_fd(w, w->wake_fd, EPOLLIN | EPOLLET, err);
    if (!st)
        st = watch_fd(w, w->timer_fd, EPOLLIN | EPOLLET, err);
    for (size_t i = 0; i < w->opts.n_listen && !st; i++) {
        st = open_listener(w->opts.listen[i], &w->listen_fd[i], err);
        if (!st)
            st = start_daemon(w, i, err);
    }
    return st ? st : web_threads_init(w, err);
}

/* The parts of an external URL: host (with its port), and path from its slash on. */
struct url_parts {
    const char *host, *path;
    size_t n_host;
};

static bool bad_escape(const char *s)
{
    for (; (s = strchr(s, '%')); s++)
        if (!isxdigit((unsigned char)s[1]) || !isxdigit((unsigned char)s[2]))
            return true;
    return false;
}

/* As Go's url.Parse() reads it: what has no scheme is a path. */
static nx_status parse_url(const char *url, struct url_parts *out, struct nx_err *err)
{
    size_t scheme = 0, first = strcspn(url, "/?#"), len = strlen(url);
    struct url_parts u = {"", url, 0};

    if (len && (strchr("\"'", url[0]) || strchr("\"'", url[len - 1])))
        return nx_fail(err, NX_BADINPUT, "URL must not begin or end with quotes");
    while (isalnum((unsigned char)url[scheme]) ||
           (scheme && strchr("+-.", url[scheme]) && url[scheme]))
        scheme++;
    if (url[0] == ':')
        return nx_fail(err, NX_BADINPUT, "parse \"%s\": missing protocol scheme", url);
    if (scheme && !isdigit((unsigned char)url[0]) && strncmp(url + scheme, "://", 3) == 0) {
        u.host = url + scheme + 3;
        u.n_host = strcspn(u.host, "/?#");
        u.path = u.host + u.n_host;
    } else if (memchr(url, ':', first)) {
        return nx_fail(err, NX_BADINPUT,
                       "parse \"%s\": first path segment in URL cannot contain colon", url);
    }
    const char *colon = memchr(u.host, ']', u.n_host);
    colon = memchr(colon ? colon : u.host, ':', u.n_host - (colon ? (size_t)(colon - u.host) : 0));
    if (colon && strspn(colon + 1, "0123456789") != u.n_host - (size_t)(colon + 1 - u.host))
        return nx_fail(err, NX_BADINPUT, "parse \"%s\": invalid port \"%.*s\" after host", url,
                       (int)(u.n_host - (size_t)(colon - u.host)), colon);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)url[i] < 0x20 || url[i] == 0x7f)
            return nx_fail(err, NX_BADINPUT,
                           "parse \"%s\": net/url: invalid control character in URL", url);
    if (memchr(u.host, ' ', u.n_host))
        return nx_fail(err, NX_BADINPUT, "parse \"%s\": invalid character \" \" in host name", url);
    if (bad_escape(url))
        return nx_fail(err, NX_BADINPUT, "parse \"%s\": invalid URL escape \"%.3s\"", url,
                       strchr(url, '%'));
    *out = u;
    return NX_OK;
}

nx_status web_check_url(const char *url, struct nx_err *err)
{
    struct url_parts u;

    return parse_url(url, &u, err);
}

/* The path with a slash before it and none at its end; "" for the root. */
static char *clean_prefix(const char *path, size_t len)
{
    char *text = NULL;

    while (len && path[len - 1] == '/')
        len--;
    return asprintf(&text, "%s%.*s", len && path[0] != '/' ? "/" : "", (int)len, path) < 0 ? NULL
                                                                                           : text;
}

/* The whole of it, without slashes at the end of its path. */
static char *full_url(const struct web_opts *o, const struct url_parts *u, const char *host,
                      const char *path)
{
    char *text = NULL;
    int n;

    if (u->n_host)
        n = asprintf(&text, "%.*s%s%s", (int)(u->path - o->external_url), o->external_url, path,
                     u->path + strcspn(u->path, "?#"));
    else
        n = asprintf(&text, "http://%s%s", host, path);
    return n < 0 ? NULL : text;
}

static nx_status fill_ctx(struct web *w, struct nx_err *err)
{
    const struct web_opts *o = &w->opts;
    char name[256] = "localhost", *host = NULL;
    struct url_parts u = {"", "", 0};

    gethostname(name, sizeof name - 1);
    if (o->external_url && o->external_url[0]) {
        if (parse_url(o->external_url, &u, err))
            return nx_context(err, "parse external URL \"%s\"", o->external_url);
        host = strndup(u.host, u.n_host);
    } else {
        const char *colon = strrchr(o->listen[0], ':');
        if (asprintf(&host, "%s%s", name, colon ? colon : "") < 0)
            host = NULL;
    }
    w->ctx.hostname = strdup(name);
    w->ctx.external_host = host;
    w->ctx.external_path = clean_prefix(u.path, strcspn(u.path, "?#"));
    w->ctx.prefix = o->route_prefix ? clean_prefix(o->route_prefix, strlen(o->route_prefix))
                                    : clean_prefix(u.path, strcspn(u.path, "?#"));
    w->ctx.stats = web_stats_new();
    w->ctx.external_url =
        host && w->ctx.external_path ? full_url(o, &u, host, w->ctx.external_path) : NULL;
    if (!w->ctx.hostname || !host || !w->ctx.external_url || !w->ctx.external_path ||
        !w->ctx.prefix || !w->ctx.stats)
        return nx_fail(err, NX_NOMEM, "starting the web server");
    if (o->cors_origin && strcmp(o->cors_origin, ".*") != 0)
        return regex_new(&w->ctx.cors, nx_slice_str(o->cors_origin), err);
    return NX_OK;
}

nx_status web_open(struct web **out, const struct web_opts *opts, struct nx_err *err)
{
    struct web *w = calloc(1, sizeof *w);
    nx_status st;

    if (!w)
        return nx_fail(err, NX_NOMEM, "starting the web server");
    w->epoll_fd = w->wake_fd = w->timer_fd = -1;
    w->opts = *opts;
    w->ctx.opts = &w->opts;
    nx_mutex_init(&w->lock, NX_RANK_WEB);
    nx_cond_init(&w->done);
    if (!opts->n_listen || opts->n_listen > WEB_MAX_LISTEN)
        st = nx_fail(err, NX_BADINPUT, "between 1 and %d listen addresses are possible",
                     WEB_MAX_LISTEN);
    else
        st = fill_ctx(w, err);
    if (!st)
        st = start(w, err);
    if (st) {
        web_close(w);
        return st;
    }
    *out = w;
    return NX_OK;
}

unsigned web_port(const struct web *w, size_t i)
{
    return i < w->n_listen ? w->port[i] : 0;
}

const struct web_ctx *web_ctx(const struct web *w)
{
    return &w->ctx;
}

void web_attach(struct web *w, const struct web_data *data)
{
    w->data = *data;
    __atomic_store_n(&w->attached, true, __ATOMIC_RELEASE);
}

const struct web_data *web_data(const struct web *w)
{
    return __atomic_load_n(&w->attached, __ATOMIC_ACQUIRE) ? &w->data : NULL;
}

void web_conn_counts(const struct web *w, uint64_t *accepted, uint64_t *closed)
{
    *accepted = __atomic_load_n(&w->accepted, __ATOMIC_RELAXED);
    *closed = __atomic_load_n(&w->closed, __ATOMIC_RELAXED);
}

/* Waits until no request is under way; false when `ns` have passed. */
static bool drain(const struct web *w, int64_t ns)
{
    int64_t end = clock_mono_ns() + ns;

    while (__atomic_load_n(&w->in_flight, __ATOMIC_ACQUIRE)) {
        if (clock_mono_ns() > end)
            return false;
        clock_sleep_until_mono_ns(clock_mono_ns() + CLOSE_POLL_NS);
    }
    return true;
}

static void stop_threads(struct web *w)
{
    __atomic_store_n(&w->stopping, true, __ATOMIC_RELEASE);
    web_cancel(w, true);
    if (w->n_threads) {
        web_wake(w);
        drain(w, CLOSE_DRAIN_NS);
        web_threads_idle(w);
        drain(w, CLOSE_FINISH_NS);
        __atomic_store_n(&w->ending, true, __ATOMIC_RELEASE);
        web_wake(w);
        web_threads_join(w);
    }
    quiesce(w); /* where no thread did: the listening sockets stay ours to close */
}

static void free_ctx(struct web_ctx *ctx)
{
    regex_free(ctx->cors);
    web_stats_free(ctx->stats);
    free((char *)(uintptr_t)ctx->hostname);
    free((char *)(uintptr_t)ctx->external_host);
    free((char *)(uintptr_t)ctx->external_url);
    free((char *)(uintptr_t)ctx->external_path);
    free((char *)(uintptr_t)ctx->prefix);
}

void web_close(struct web *w)
{
    if (!w)
        return;
    stop_threads(w);
    for (size_t i = 0; i < w->n_listen; i++) {
        MHD_stop_daemon(w->daemon[i]);
        close(w->listen_fd[i]);
    }
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    if (w->timer_fd >= 0)
        close(w->timer_fd);
    free_ctx(&w->ctx);
    nx_cond_done(&w->done);
    nx_mutex_done(&w->lock);
    free(w);
}

const char *web_external_url(const struct web *w)
{
    return w->ctx.external_url;
}
