#include "src/web/server.h"

/* trim.c - gives back the memory that libmicrohttpd keeps for connections that wait.
 *
 * WHY     libmicrohttpd keeps one block per connection that a whole request head must fit into, and
 *         writes zeros over all of it between two requests. As heads of 1 MiB are allowed, every
 *         keep-alive connection would hold over 1 MiB of resident memory while it waits.
 * SHAPE   After a request the block of its connection is "dirty". The rest of a dirty block behind
 *         the first pages, found to be all zero, is given to the system with MADV_DONTNEED, after
 *         which it still reads as zeros: nothing changes for libmicrohttpd, whatever it does there.
 * RULES   T1  Only the thread that has the turn touches blocks, and it trims between two runs of the library.
 *         T2  Where a block starts is not something the library tells; it is inferred, and both parts
 *             of the inference are checked. The request line of a first request starts the block: a
 *             probe at start-up sends one through a socket pair, and then sees each page of
 *             [method, method + pool_bytes) disappear with the connection. That nothing stood before
 *             the request line: the kernel's count of received bytes leaves no room for a page of it.
 *         T3  A connection whose block is not known this way is closed after its answer; if the probe
 *             fails (another library, another layout), nothing is trimmed and a line in the log says
 *             what that costs.
 *         T4  At most TRIM_MAX_DIRTY blocks are dirty for longer than one run; those are trimmed when
 *             they have been idle for a second, so that a busy client does not pay for page faults.
 * NOT     A smaller block (long URLs would be refused), closing idle connections early (clients would
 *         run into resets), a library of our own. */

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/log.h"

#define TRIM_IDLE_NS    1000000000ll
#define TRIM_MAX_DIRTY  16
#define TRIM_KEEP_BYTES 16384u /* of each block; small requests then fault in nothing */
#define PROBE_TRIES     3
#define PROBE_ROUNDS    100

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static bool page_start(const void *p)
{
    return ((uintptr_t)p & (page_bytes() - 1)) == 0;
}

/* ---- the probe --------------------------------------------------------------------------------- */

static enum MHD_Result on_probe(void *cls, struct MHD_Connection *conn, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *data_len, void **req)
{
    (void)conn;
    (void)url;
    (void)version;
    (void)data;
    (void)data_len;
    (void)req;
    *(const char **)cls = method;
    return MHD_NO; /* closes the connection */
}

static bool page_mapped(const char *p)
{
    unsigned char in_core;

    return mincore((void *)(uintptr_t)p, 1, &in_core) == 0 || errno != ENOMEM;
}

static bool all_pages(const char *p, size_t bytes, bool mapped)
{
    for (size_t at = 0; at < bytes; at += page_bytes())
        if (page_mapped(p + at) != mapped)
            return false;
    return true;
}

/* Runs one request through a daemon of its own (T2). */
static bool probe(size_t pool_bytes)
{
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    const char *method = NULL;
    int pair[2] = {-1, -1};
    struct sockaddr_in nobody = {.sin_family = AF_INET};
    bool mapped = false;
    struct MHD_Daemon *d =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_probe, &method,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, pool_bytes, MHD_OPTION_END);

    if (!d)
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 &&
        write(pair[1], request, sizeof request - 1) == (ssize_t)sizeof request - 1 &&
        MHD_add_connection(d, pair[0], (struct sockaddr *)&nobody, sizeof nobody) == MHD_YES) {
        pair[0] = -1; /* now the daemon's */
        for (int i = 0; i < PROBE_ROUNDS && !method; i++)
            MHD_run(d);
    }
    mapped = method && page_start(method);
    MHD_stop_daemon(d);
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
    return mapped && all_pages(method, pool_bytes, false);
}

void web_trim_init(struct web *w)
{
    /* Another thread may map something into the gap just then; hence more than one try. */
    for (int i = 0; i < PROBE_TRIES && !w->trim; i++)
        w->trim = probe(w->pool_bytes);
    if (!w->trim)
        log_warn(
            "Idle connections keep their whole buffer: libmicrohttpd lays out its memory in an "
            "unknown way",
            "component", "web", "version", MHD_get_version(), "bytes",
            log_fmt("%zu", w->pool_bytes));
}

/* ---- where the block of a connection is ----------------------------------------------------------- */

/* Bytes the kernel has received for the connection; UINT64_MAX if it does not say. */
static uint64_t received_bytes(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct tcp_info ti = {0};
    socklen_t len = sizeof ti;

    if (!info || getsockopt(info->connect_fd, IPPROTO_TCP, TCP_INFO, &ti, &len) ||
        len < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof ti.tcpi_bytes_received)
        return UINT64_MAX;
    return ti.tcpi_bytes_received;
}

bool web_trim_first(struct web *w, struct web_conn *c, const struct web_req *r)
{
    if (!w->trim || c->pool)
        return true;
    if (!c->served && page_start(r->method_text) &&
        received_bytes(r->conn) - r->header_bytes - r->body_bytes < page_bytes())
        c->pool = (unsigned char *)(uintptr_t)r->method_text;
    return c->pool != NULL;
}

/* ---- trimming ------------------------------------------------------------------------------------ */

static bool all_zero(const unsigned char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void trim(struct web *w, struct web_conn *c)
{
    size_t keep = TRIM_KEEP_BYTES < page_bytes() ? page_bytes() : TRIM_KEEP_BYTES;
    unsigned char *from = c->pool + keep;

    /* Not all zero: more of a next request is there already. It will be dirty again after that. */
    if (all_zero(from, w->pool_bytes - keep))
        madvise(from, w->pool_bytes - keep, MADV_DONTNEED);
    web_trim_clean(w, c);
}

void web_trim_dirty(struct web *w, struct web_conn *c)
{
    c->served = true;
    c->idle_since_ns = clock_mono_ns();
    if (c->pool && !c->dirty) {
        c->dirty = true;
        w->n_dirty++;
    }
}

void web_trim_clean(struct web *w, struct web_conn *c)
{
    if (c->dirty) {
        c->dirty = false;
        w->n_dirty--;
    }
}

void web_trim_run(struct web *w, int64_t now_ns, bool idle_ones)
{
    bool all = w->n_dirty > TRIM_MAX_DIRTY;

    if (!w->n_dirty || (!all && !idle_ones))
        return;
    for (struct web_conn *c = w->conns; c; c = c->next)
        if (c->dirty && (all || (!c->busy && now_ns - c->idle_since_ns >= TRIM_IDLE_NS)))
            trim(w, c);
}
