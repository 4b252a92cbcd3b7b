/* served.h - a whole server inside the test program, and a client that speaks HTTP byte by byte.
 *
 * The storage (in a temporary folder), the engine and the server are real; the scrape manager is a
 * small stand-in with two targets, so that nothing here depends on sockets other than the server's. */
#pragma once

#include "tests/support/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "src/base/clock.h"
#include "src/web/web.h"

#define UNUSED __attribute__((unused))

/* Time of the first sample; 101 rows follow, 15 s apart. */
#define T0_S       1700000000ll
#define STEP_S     15
#define N_ROWS     101
#define N_BIG      200
#define CLIENT_MS  30000
#define MANY_BYTES (64u << 20)

/* ---- a scrape manager that only answers questions ------------------------------------------------ */

struct scrape {
    int unused;
};

static struct labels served_labels(struct arena *a, const char *const *pairs)
{
    size_t n = 0;

    while (pairs[2 * n])
        n++;
    struct label *v = arena_array(a, n + 1, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = (struct label){nx_slice_str(pairs[2 * i]), nx_slice_str(pairs[2 * i + 1])};
    return (struct labels){.v = v, .n = (uint32_t)n};
}

nx_status scrape_new(struct scrape **out, const struct scrape_opts *opts, struct nx_err *err)
{
    (void)opts;
    (void)err;
    *out = calloc(1, sizeof **out);
    return NX_OK;
}

nx_status scrape_apply(struct scrape *s, const struct config *cfg, struct nx_err *err)
{
    (void)s;
    (void)cfg;
    (void)err;
    return NX_OK;
}

void scrape_free(struct scrape *s)
{
    free(s);
}

nx_status scrape_get_targets(struct scrape *s, struct nx_slice global_host, struct arena *a,
                             struct targets_info *out, struct nx_err *err)
{
    (void)s;
    (void)global_host;
    (void)err;
    static const char *const found[] = {"__address__", "127.0.0.1:1", "job", "a", NULL};
    static const char *const kept[] = {"instance", "127.0.0.1:1", "job", "a", NULL};
    struct target_info *t = arena_array(a, 2, sizeof *t);
    struct dropped_info *d = arena_array(a, 1, sizeof *d);
    struct pool_count *c = arena_array(a, 2, sizeof *c);
    struct nx_slice *pools = arena_array(a, 2, sizeof *pools);

    for (int i = 0; i < 2; i++) {
        pools[i] = nx_slice_str(i ? "b" : "a");
        c[i] = (struct pool_count){pools[i], (uint64_t)i};
        t[i] = (struct target_info){.pool = pools[i],
                                    .discovered = served_labels(a, found),
                                    .labels = served_labels(a, kept),
                                    .scrape_url = LIT("http://127.0.0.1:1/metrics?a=b&c=d"),
                                    .global_url = LIT("http://host:1/metrics"),
                                    .last_error = nx_slice_str(i ? "no \"luck\"" : ""),
                                    .last_scrape_ms = i ? T0_S * 1000 + 500 : 0,
                                    .last_duration_s = 0.25,
                                    .health = i ? TARGET_DOWN : TARGET_UNKNOWN,
                                    .scrape_interval = LIT("15s"),
                                    .scrape_timeout = LIT("10s")};
    }
    d[0] = (struct dropped_info){pools[1], served_labels(a, found)};
    *out = (struct targets_info){t, 2, d, 1, c, 2, pools, 2};
    return NX_OK;
}

nx_status scrape_get_metadata(struct scrape *s, const struct metadata_ask *ask, struct arena *a,
                              struct metadata_info **out, size_t *n, struct nx_err *err)
{
    (void)s;
    (void)err;
    static const char *const rows[][5] = {{"a", "up", "gauge", "Is it up?", ""},
                                          {"a", "x_total", "counter", "X.", ""},
                                          {"b", "up", "gauge", "Is it up?", ""},
                                          {"b", "x_total", "counter", "Another X.", ""},
                                          {"b", "z_bytes", "gauge", "Z.", "bytes"}};
    struct metadata_info *v = arena_array(a, NX_COUNT(rows), sizeof *v);

    *n = 0;
    for (size_t i = 0; i < NX_COUNT(rows) && (!ask->most || *n < ask->most); i++) {
        const char *const *pair = (const char *const[]){"job", rows[i][0], NULL};
        if ((ask->metric.len && !nx_slice_is(ask->metric, rows[i][1])) ||
            (ask->n_match && !matcher_matches(&ask->match[0], STR(rows[i][0]))))
            continue;
        v[(*n)++] = (struct metadata_info){served_labels(a, pair), STR(rows[i][1]), STR(rows[i][2]),
                                           STR(rows[i][3]), STR(rows[i][4])};
    }
    *out = v;
    return NX_OK;
}

nx_status scrape_get_stats(struct scrape *s, struct arena *a, struct scrape_stats *out,
                           struct nx_err *err)
{
    (void)s;
    (void)err;
    struct scrape_pool_stats *p = arena_array(a, 1, sizeof *p);
    struct scrape_interval_stats *i = arena_array(a, 1, sizeof *i);

    p[0] = (struct scrape_pool_stats){.pool = LIT("a"), .targets = 2, .discovered = 4, .syncs = 3};
    i[0] = (struct scrape_interval_stats){.interval = LIT("15s"), .count = 1, .sum = 15};
    *out = (struct scrape_stats){
        .pools = 1, .by_pool = p, .n_by_pool = 1, .by_interval = i, .n_by_interval = 1};
    return NX_OK;
}

/* ---- the server ---------------------------------------------------------------------------------- */

static struct served {
    struct test_tmpdir dir;
    struct storage *storage;
    struct pql_engine *engine;
    struct scrape *scrape;
    struct web *web;
    unsigned port;
    bool not_ready; /* atomic */
    unsigned reloads, quits;
    const char *reload_error;
} served;

static bool served_ready(void *ctx)
{
    return !__atomic_load_n(&((struct served *)ctx)->not_ready, __ATOMIC_ACQUIRE);
}

static nx_status served_reload(void *ctx, struct nx_err *err)
{
    struct served *s = ctx;

    __atomic_add_fetch(&s->reloads, 1, __ATOMIC_RELAXED);
    return s->reload_error ? nx_fail(err, NX_BADINPUT, "%s", s->reload_error) : NX_OK;
}

static void served_quit(void *ctx)
{
    __atomic_add_fetch(&((struct served *)ctx)->quits, 1, __ATOMIC_RELAXED);
}

static void served_yaml(void *ctx, struct buf *out)
{
    (void)ctx;
    buf_str(out, "global:\n  scrape_interval: 15s\n");
}

static void served_reload_status(void *ctx, bool *ok, int64_t *last_ms)
{
    (void)ctx;
    *ok = true;
    *last_ms = T0_S * 1000;
}

static void served_append(struct storage_group *g, const char *const *pairs, double first,
                          double by)
{
    struct nx_err err;
    struct arena *a = arena_new(0);
    struct labels ls = served_labels(a, pairs);
    uint32_t col;

    assert_ok(storage_group_column(g, &ls, &col, NULL, &err), &err);
    for (int i = 0; i < N_ROWS; i++) {
        double v = first + by * i;
        assert_ok(storage_group_append(g, (T0_S + i * STEP_S) * 1000, &col, &v, 1, NULL, &err),
                  &err);
    }
    arena_free(a);
}

static void served_fill(void)
{
    struct nx_err err;
    struct storage_group *g;
    char n[16];

    assert_ok(storage_group_open(served.storage, &g, &err), &err);
    served_append(g, (const char *const[]){"__name__", "m", "i", "0", NULL}, 0, 1);
    served_append(g, (const char *const[]){"__name__", "m", "i", "1", NULL}, 1000, 1);
    served_append(g, (const char *const[]){"__name__", "m", "i", "2", NULL}, 0.5, 0);
    served_append(g, (const char *const[]){"__name__", "odd.name", "dotted.label", "<&>\"", NULL},
                  1, 0);
    for (int i = 0; i < N_BIG; i++) {
        snprintf(n, sizeof n, "%03d", i);
        served_append(g, (const char *const[]){"__name__", "big", "n", n, NULL}, i * 1000, 1);
    }
    storage_group_close(g);
}

/* Group setup: everything but the server. */
static int served_setup(void **state)
{
    struct nx_err err = {0};
    struct storage_opts so = {.fs = fs_real(), .no_worker = true};
    struct pql_engine_opts eo = {.timeout_ms = 120000};

    (void)state;
    test_tmpdir_new(&served.dir);
    so.dir = served.dir.path;
    assert_ok(storage_open(&served.storage, &so, &err), &err);
    served_fill();
    assert_ok(pql_engine_new(&served.engine, &eo, &err), &err);
    assert_ok(scrape_new(&served.scrape, NULL, &err), &err);
    return 0;
}

static int served_teardown(void **state)
{
    (void)state;
    scrape_free(served.scrape);
    pql_engine_free(served.engine);
    storage_close(served.storage);
    test_tmpdir_done(&served.dir);
    return 0;
}

static const struct web_flag served_flags[] = {{"a.flag", "x"}, {"web.enable-lifecycle", "false"}};

static void serve_data(void)
{
    struct web_data data = {served.storage, served.scrape, served.engine, NULL, NULL, NULL, NULL};

    web_attach(served.web, &data);
}

/* Starts the server; `o` holds what a test wants to be different. It has no data while not_ready. */
static void serve_with(struct web_opts o)
{
    static const char *const listen[] = {"127.0.0.1:0"};
    struct nx_err err = {0};

    o.listen = listen;
    o.n_listen = 1;
    o.page_title = "Title";
    o.storage_retention = "15d";
    o.flags = served_flags;
    o.n_flags = NX_COUNT(served_flags);
    o.start_ms = T0_S * 1000;
    o.hooks = (struct web_hooks){&served,     served_ready, served_reload,
                                 served_quit, served_yaml,  served_reload_status};
    assert_ok(web_open(&served.web, &o, &err), &err);
    if (!served.not_ready)
        serve_data();
    served.port = web_port(served.web, 0);
}

static int serve(void **state)
{
    (void)state;
    serve_with((struct web_opts){0});
    return 0;
}

static int unserve(void **state)
{
    (void)state;
    web_close(served.web);
    served.web = NULL;
    served.not_ready = false;
    served.reload_error = NULL;
    served.reloads = served.quits = 0;
    return 0;
}

/* ---- the client ----------------------------------------------------------------------------------- */

static UNUSED int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)served.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to))
        fail_msg("connect: %s", strerror(errno));
    return fd;
}

static UNUSED void say(int fd, const char *ptr, size_t len)
{
    while (len) {
        ssize_t n = send(fd, ptr, len, MSG_NOSIGNAL);
        if (n <= 0)
            fail_msg("send: %s", strerror(errno));
        ptr += n;
        len -= (size_t)n;
    }
}

struct answer {
    unsigned status;
    struct buf raw;      /* all that was read for it, terminated */
    const char *head;    /* status line and headers, terminated */
    struct buf body;     /* without chunks and gzip */
    size_t packed_bytes; /* of the body as sent */
    bool chunked, gzip, cut;
};

static UNUSED void answer_done(struct answer *a)
{
    buf_done(&a->raw);
    buf_done(&a->body);
}

/* The value of a header up to the end of its line; NULL if there is none. `nth` from 0. */
static UNUSED const char *header_nth(const struct answer *a, const char *name, unsigned nth)
{
    static __thread char value[4096];
    size_t n = strlen(name);

    for (const char *at = strstr(a->head, "\r\n"); at; at = strstr(at, "\r\n")) {
        at += 2;
        if (strncasecmp(at, name, n) != 0 || at[n] != ':' || nth--)
            continue;
        const char *v = at + n + 1 + strspn(at + n + 1, " ");
        snprintf(value, sizeof value, "%.*s", (int)strcspn(v, "\r"), v);
        return value;
    }
    return NULL;
}

static UNUSED const char *header(const struct answer *a, const char *name)
{
    return header_nth(a, name, 0);
}

/* Reads more into `b`; false at the end of the stream. */
static UNUSED bool read_some(int fd, struct buf *b)
{
    struct pollfd p = {fd, POLLIN, 0};
    char *to = buf_reserve(b, 65536);

    assert_non_null(to);
    if (poll(&p, 1, CLIENT_MS) != 1)
        fail_msg("no answer in %d ms", CLIENT_MS);
    ssize_t n = recv(fd, to, 65536, 0);
    if (n <= 0)
        return false;
    b->len += (size_t)n;
    return true;
}

static UNUSED void gunzip(struct buf *b)
{
    z_stream z = {0};
    struct buf out;

    buf_init(&out, MANY_BYTES);
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    z.next_in = (unsigned char *)b->ptr;
    z.avail_in = (unsigned)b->len;
    int r;
    do {
        char *to = buf_reserve(&out, 65536);
        assert_non_null(to);
        z.next_out = (unsigned char *)to;
        z.avail_out = 65536;
        r = inflate(&z, Z_NO_FLUSH);
        out.len += 65536 - z.avail_out;
    } while (r == Z_OK);
    assert_int_equal(r, Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    inflateEnd(&z);
    buf_done(b);
    *b = out;
}

static UNUSED bool fill_to(int fd, struct answer *a, size_t n)
{
    while (a->raw.len < n)
        if (!read_some(fd, &a->raw))
            return false;
    return true;
}

/* One chunk at `at`; gives where the next starts, 0 after the last, SIZE_MAX when cut. */
static UNUSED size_t take_chunk(int fd, struct answer *a, size_t at)
{
    char *eol;

    while (!(eol = memmem(a->raw.ptr + at, a->raw.len - at, "\r\n", 2)))
        if (!read_some(fd, &a->raw))
            return SIZE_MAX;
    size_t n = strtoul(a->raw.ptr + at, NULL, 16);
    size_t from = (size_t)(eol + 2 - a->raw.ptr);
    if (!fill_to(fd, a, from + n + 2))
        return SIZE_MAX;
    buf_append(&a->body, a->raw.ptr + from, n);
    return n ? from + n + 2 : 0;
}

/* Reads one answer. What was read beyond it is left in *rest (may be NULL). */
static UNUSED struct answer hear(int fd, struct buf *rest, bool head_only)
{
    struct answer a = {0};
    char *end;

    buf_init(&a.raw, MANY_BYTES);
    buf_init(&a.body, MANY_BYTES);
    if (rest && rest->len) {
        buf_append(&a.raw, rest->ptr, rest->len);
        buf_clear(rest);
    }
    while (!(end = a.raw.len ? memmem(a.raw.ptr, a.raw.len, "\r\n\r\n", 4) : NULL))
        if (!read_some(fd, &a.raw)) {
            a.cut = true;
            a.head = "";
            return a;
        }
    size_t at = (size_t)(end + 4 - a.raw.ptr);
    char *head = strndup(a.raw.ptr, at - 2);
    a.head = head;
    a.status = (unsigned)atoi(head + 9);
    const char *length = header(&a, "Content-Length");
    size_t want = length ? strtoul(length, NULL, 10) : 0;
    a.chunked = header(&a, "Transfer-Encoding") != NULL;
    a.gzip = header(&a, "Content-Encoding") != NULL;
    size_t stop = at;
    if (a.chunked && !head_only) {
        for (size_t c = at; c;) {
            size_t next = take_chunk(fd, &a, c);
            a.cut = a.cut || next == SIZE_MAX;
            stop = c;
            c = next == SIZE_MAX ? 0 : next;
        }
        stop += 5;
    } else if (!head_only) {
        a.cut = !fill_to(fd, &a, at + want);
        stop = a.cut ? a.raw.len : at + want;
        buf_append(&a.body, a.raw.ptr + at, stop - at);
    }
    if (rest && a.raw.len > stop)
        buf_append(rest, a.raw.ptr + stop, a.raw.len - stop);
    buf_clear(&a.raw);
    buf_append(&a.raw, head, strlen(head) + 1);
    free(head);
    a.head = a.raw.ptr;
    a.packed_bytes = a.body.len;
    if (a.gzip && a.body.len && !a.cut)
        gunzip(&a.body);
    buf_cstr(&a.body);
    return a;
}

/* Sends one request on a connection of its own and reads the answer. */
static UNUSED struct answer request(const char *method, const char *target, const char *headers,
                                    const char *body)
{
    struct buf b;
    int fd = dial();

    buf_init(&b, 0);
    buf_str(&b, method);
    buf_char(&b, ' ');
    buf_str(&b, target);
    buf_str(&b, " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    buf_str(&b, headers ? headers : "");
    if (body)
        buf_printf(&b, "Content-Length: %zu\r\n", strlen(body));
    buf_str(&b, "\r\n");
    buf_str(&b, body ? body : "");
    say(fd, b.ptr, b.len);
    struct answer a = hear(fd, NULL, strcmp(method, "HEAD") == 0);
    close(fd);
    buf_done(&b);
    return a;
}

static UNUSED struct answer get(const char *target)
{
    return request("GET", target, NULL, NULL);
}

#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"
static UNUSED struct answer post(const char *target, const char *form)
{
    return request("POST", target, FORM, form);
}

/* The status and the whole body. */
static UNUSED void expect(struct answer a, const char *about, unsigned status, const char *body)
{
    if (a.status != status ||
        (body && (a.body.len != strlen(body) || memcmp(a.body.ptr, body, a.body.len) != 0)))
        fail_msg("%s: got %u \"%.*s\", wanted %u \"%s\"", about, a.status, (int)a.body.len,
                 a.body.len ? a.body.ptr : "", status, body ? body : "...");
    answer_done(&a);
}

/* The status, and a piece that the body holds. */
static UNUSED void expect_in(struct answer a, const char *about, unsigned status, const char *part)
{
    if (a.status != status || !memmem(a.body.ptr, a.body.len, part, strlen(part)))
        fail_msg("%s: got %u \"%.*s\", wanted %u with \"%s\"", about, a.status, (int)a.body.len,
                 a.body.ptr, status, part);
    answer_done(&a);
}
