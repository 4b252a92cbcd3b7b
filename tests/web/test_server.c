/* The server under clients of every kind: large, slow, many, impatient, and gone. */
#include "tests/web/served.h"

#include <malloc.h>
#include <pthread.h>

#include "src/base/arena.h"
#include "src/base/limits.h"

/* Seconds of work on any machine, in small steps: it ends only because somebody ends it. */
#define TERM  "quantile_over_time(0.5%2Cbig%5B20m%5D)%2B"
#define TERMS TERM TERM TERM TERM TERM TERM TERM TERM
#define LONG_QUERY                                                                                 \
    "/api/v1/query_range?start=1700000000&end=1700001100&step=0.1&query=" TERMS TERMS TERMS TERMS  \
        TERMS TERMS "1"

static void send_text(int fd, const char *text)
{
    say(fd, text, strlen(text));
}

static uint64_t running_queries(void)
{
    struct pql_engine_stats st;

    pql_engine_get_stats(served.engine, &st);
    return st.active;
}

/* Waits until as many queries run; how long that took, in ms. */
static int64_t wait_for_running(uint64_t want)
{
    int64_t from = clock_mono_ns(), ms = 0;

    while (running_queries() != want && ms < 20000) {
        clock_sleep_until_mono_ns(clock_mono_ns() + 2000000);
        ms = (clock_mono_ns() - from) / 1000000;
    }
    assert_int_equal(running_queries(), want);
    return ms;
}

/* ---- sizes --------------------------------------------------------------------------------------- */

/* A request for "1+1" whose head has `head` bytes, most of them in the URL or in one header. */
static struct answer big_head(size_t head, bool in_url)
{
    static const char url_part[] = "GET /api/v1/query?query=1%2B1&time=4&pad=";
    static const char head_part[] = "GET /api/v1/query?query=1%2B1&time=4";
    static const char end[] = " HTTP/1.1\r\nHost: x\r\nX-Pad: ";
    struct buf b;
    int fd = dial();

    buf_init(&b, MANY_BYTES);
    buf_str(&b, in_url ? url_part : head_part);
    size_t rest = head - b.len - strlen(end) - 4;
    for (size_t i = 0; in_url && i < rest; i++)
        buf_char(&b, 'a');
    buf_str(&b, end);
    for (size_t i = 0; !in_url && i < rest; i++)
        buf_char(&b, 'a');
    buf_str(&b, "\r\n\r\n");
    assert_int_equal(b.len, head);
    say(fd, b.ptr, b.len);
    buf_done(&b);
    struct answer a = hear(fd, NULL, false);
    close(fd);
    return a;
}

static void heads_of_a_mebibyte_are_taken_and_larger_ones_refused(void **state)
{
    const size_t limit = NX_LIMIT_URL_BYTES + 4096;

    (void)state;
    for (int in_url = 0; in_url < 2; in_url++) {
        expect_in(big_head(limit, in_url), "as large as allowed", 200, "[4,\"2\"]");
        struct answer a = big_head(limit + 1, in_url);
        assert_string_equal(header(&a, "Connection"), "close");
        expect(a, "one byte more", 431, "431 Request Header Fields Too Large");
    }
}

static void what_no_buffer_holds_is_refused_and_harms_nobody(void **state)
{
    (void)state;
    struct answer a = big_head(NX_LIMIT_URL_BYTES + (250u << 10), true);
    assert_int_equal(a.status, 431);
    answer_done(&a);
    /* libmicrohttpd speaks for itself here; the connection may also be reset while we still send */
    int fd = dial();
    char *pad = malloc(2u << 20);
    memset(pad, 'a', 2u << 20);
    send_text(fd, "GET /");
    for (size_t at = 0; at < 2u << 20;) {
        ssize_t n = send(fd, pad + at, (2u << 20) - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    free(pad);
    close(fd);
    expect(get("/-/healthy"), "afterwards", 200, NULL);
}

static struct answer big_form(size_t bytes, const char *target)
{
    char *form = malloc(bytes + 1);

    memset(form, 'a', bytes);
    memcpy(form, "query=1%2B1&time=4&pad=", 23);
    form[bytes] = 0;
    struct answer a = post(target, form);
    free(form);
    return a;
}

static void forms_of_ten_mebibytes_are_taken_and_larger_ones_ignored(void **state)
{
    (void)state;
    expect_in(big_form(NX_LIMIT_FORM_BYTES, "/api/v1/query"), "10 MiB", 200, "[4,\"2\"]");
    expect_in(big_form(NX_LIMIT_FORM_BYTES + 1, "/api/v1/query"), "one byte more", 400,
              "no expression found in input");
    expect(big_form(NX_LIMIT_FORM_BYTES + 1, "/api/v1/series?match[]=m"), "series", 400,
           "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"error parsing form "
           "values: http: POST too large\"}");
}

/* ---- connections --------------------------------------------------------------------------------- */

static void a_connection_serves_many_requests(void **state)
{
    struct buf rest;
    int fd = dial();

    (void)state;
    buf_init(&rest, 0);
    for (int i = 0; i < 50; i++) {
        send_text(fd, i % 2 ? "GET /api/v1/query?query=1%2B1&time=4 HTTP/1.1\r\nHost: x\r\n\r\n"
                            : "POST /api/v1/query HTTP/1.1\r\nHost: x\r\n" FORM
                              "Content-Length: 18\r\n\r\nquery=1%2B1&time=4");
        expect_in(hear(fd, &rest, false), "kept alive", 200, "[4,\"2\"]");
        assert_int_equal(rest.len, 0);
    }
    close(fd);
    buf_done(&rest);
}

static void old_clients_get_their_connection_closed(void **state)
{
    int fd = dial();
    char c;

    (void)state;
    send_text(fd, "GET /-/healthy HTTP/1.0\r\n\r\n");
    expect(hear(fd, NULL, false), "1.0", 200, NULL);
    assert_int_equal(recv(fd, &c, 1, 0), 0);
    close(fd);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct buf rest, all;
    char want[32];
    int fd = dial();

    (void)state;
    buf_init(&rest, 0);
    buf_init(&all, 0);
    for (int i = 0; i < 40; i++)
        buf_printf(&all, "GET %s%d HTTP/1.1\r\nHost: x\r\n\r\n",
                   i % 3 ? "/api/v1/query?time=1&query=" : "/api/v1/status/flags?x=", i);
    say(fd, all.ptr, all.len);
    for (int i = 0; i < 40; i++) {
        snprintf(want, sizeof want, "[1,\"%d\"]", i);
        expect_in(hear(fd, &rest, false), "pipelined", 200, i % 3 ? want : "a.flag");
    }
    assert_int_equal(rest.len, 0);
    close(fd);
    buf_done(&rest);
    buf_done(&all);
}

static void a_client_that_sends_byte_by_byte_is_served(void **state)
{
    static const char text[] = "\r\nPOST /api/v1/query?time=4 HTTP/1.1\r\nHost: x\r\n" FORM
                               "Content-Length: 11\r\n\r\nquery=1%2B1";
    int fd = dial();

    (void)state;
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        say(fd, text + i, 1);
        if (i % 16 == 0)
            clock_sleep_until_mono_ns(clock_mono_ns() + 1000000);
    }
    expect_in(hear(fd, NULL, false), "slow", 200, "[4,\"2\"]");
    close(fd);
}

static void *ask_repeatedly(void *arg)
{
    char target[128], want[64];
    int n = (int)(intptr_t)arg;

    for (int i = 0; i < 5; i++) {
        snprintf(target, sizeof target, "/api/v1/query?query=sum(big)%%2B%d&time=1700000000", n);
        snprintf(want, sizeof want, "\"%d\"]", 19900000 + n);
        struct answer a = get(target);
        if (a.status != 200 || !strstr(buf_cstr(&a.body), want))
            return (void *)1;
        answer_done(&a);
    }
    return NULL;
}

static void thirty_clients_at_once_are_served(void **state)
{
    pthread_t t[30];
    void *failed;

    (void)state;
    for (intptr_t i = 0; i < 30; i++)
        assert_int_equal(pthread_create(&t[i], NULL, ask_repeatedly, (void *)i), 0);
    for (int i = 0; i < 30; i++) {
        pthread_join(t[i], &failed);
        assert_null(failed);
    }
}

static void quick_answers_do_not_wait_for_slow_ones(void **state)
{
    int slow[6];

    (void)state;
    for (size_t i = 0; i < NX_COUNT(slow); i++) {
        slow[i] = dial();
        send_text(slow[i], "GET " LONG_QUERY " HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_for_running(NX_COUNT(slow));
    for (int i = 0; i < 4; i++)
        expect(get("/api/v1/query?query=1&time=1"), "quick", 200, NULL);
    assert_int_equal(running_queries(), NX_COUNT(slow));
    for (size_t i = 0; i < NX_COUNT(slow); i++)
        close(slow[i]);
    wait_for_running(0);
}

static void a_client_that_hangs_up_ends_its_query(void **state)
{
    (void)state;
    for (int abruptly = 0; abruptly < 2; abruptly++) {
        struct linger now = {1, 0};
        int fd = dial();
        send_text(fd, "GET " LONG_QUERY " HTTP/1.1\r\nHost: x\r\n\r\n");
        wait_for_running(1);
        if (abruptly)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(fd);
        assert_true(wait_for_running(0) < 2000);
    }
    /* the end of the query comes a moment before the end of its request */
    static const char want[] =
        "prometheus_http_requests_total{code=\"499\",handler=\"/api/v1/query_range\"} 2\n";
    bool counted = false;
    for (int i = 0; i < 500 && !counted; i++) {
        struct answer a = get("/metrics");
        counted = strstr(buf_cstr(&a.body), want);
        answer_done(&a);
        clock_sleep_until_mono_ns(clock_mono_ns() + 10000000);
    }
    assert_true(counted);
}

/* ---- streams ------------------------------------------------------------------------------------- */

/* What big{} over all its samples must read, with a label `pad` of that many bytes if there are any. */
static void padded_matrix(struct buf *b, int pad)
{
    buf_str(b, "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[");
    for (int i = 0; i < N_BIG; i++) {
        buf_printf(b, "%s{\"metric\":{\"__name__\":\"big\",\"n\":\"%03d\"", i ? "," : "", i);
        if (pad)
            buf_printf(b, ",\"pad\":\"%0*d\"", pad, 0);
        buf_str(b, "},\"values\":[");
        for (int k = 0; k < N_ROWS; k++)
            buf_printf(b, "%s[%lld,\"%d\"]", k ? "," : "", T0_S + k * STEP_S, i * 1000 + k);
        buf_str(b, "]}");
    }
    buf_str(b, "]}}");
}

static void big_matrix(struct buf *b)
{
    padded_matrix(b, 0);
}

static void a_piece_of_a_stream_may_end_anywhere(void **state)
{
    char target[600];
    struct buf want;

    (void)state;
    buf_init(&want, MANY_BYTES);
    for (int pad = 1; pad < 320; pad += 9) {
        snprintf(
            target, sizeof target,
            "/api/v1/"
            "query_range?query=label_replace(big,%%22pad%%22,%%22%0*d%%22,%%22n%%22,%%22.*%%22)"
            "&start=1700000000&end=1700001500&step=15",
            pad, 0);
        buf_clear(&want);
        padded_matrix(&want, pad);
        struct answer a = request("GET", target, NULL, NULL);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.body.len, want.len);
        assert_memory_equal(a.body.ptr, want.ptr, want.len);
        answer_done(&a);
    }
    buf_done(&want);
}

static void large_results_are_streamed_and_whole(void **state)
{
    static const char target[] =
        "/api/v1/query_range?query=big&start=1700000000&end=1700001500&step=15";
    struct buf want;

    (void)state;
    buf_init(&want, MANY_BYTES);
    big_matrix(&want);
    assert_true(want.len > 4 * 65536);
    for (int gzip = 0; gzip < 2; gzip++) {
        struct answer a = request("GET", target, gzip ? "Accept-Encoding: gzip\r\n" : NULL, NULL);
        assert_int_equal(a.status, 200);
        assert_true(a.chunked);
        assert_false(a.cut);
        assert_int_equal(a.gzip, gzip);
        assert_int_equal(a.body.len, want.len);
        assert_memory_equal(a.body.ptr, want.ptr, want.len);
        assert_true(!gzip || a.packed_bytes < want.len / 3);
        answer_done(&a);
    }
    buf_done(&want);
}

static void an_old_client_gets_a_stream_until_the_connection_ends(void **state)
{
    struct buf want, all;
    int fd = dial();

    (void)state;
    buf_init(&want, MANY_BYTES);
    buf_init(&all, MANY_BYTES);
    big_matrix(&want);
    send_text(fd, "GET /api/v1/query_range?query=big&start=1700000000&end=1700001500&step=15 "
                  "HTTP/1.0\r\n\r\n");
    while (read_some(fd, &all))
        ;
    char *body = memmem(all.ptr, all.len, "\r\n\r\n", 4);
    assert_non_null(body);
    assert_int_equal(all.ptr + all.len - (body + 4), want.len);
    assert_memory_equal(body + 4, want.ptr, want.len);
    close(fd);
    buf_done(&want);
    buf_done(&all);
}

/* Takes a little of a stream, then leaves. */
static void a_client_may_leave_in_the_middle_of_a_stream(void **state)
{
    char some[1000];

    (void)state;
    for (int i = 0; i < 20; i++) {
        int small = 4096, fd = dial();
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        send_text(fd, "GET /api/v1/query_range?query=big&start=1700000000&end=1700001500&step=0.5 "
                      "HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(recv(fd, some, sizeof some, MSG_WAITALL) == sizeof some);
        close(fd);
    }
    expect(get("/-/healthy"), "afterwards", 200, NULL);
}

static void a_slow_reader_gets_all_of_a_stream(void **state)
{
    struct buf rest;
    int small = 4096, fd = dial();

    (void)state;
    buf_init(&rest, MANY_BYTES);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    send_text(fd, "GET /api/v1/query_range?query=big&start=1700000000&end=1700001500&step=15 "
                  "HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 50; i++) {
        char *to = buf_reserve(&rest, 2000);
        ssize_t n = recv(fd, to, 2000, 0);
        assert_true(n > 0);
        rest.len += (size_t)n;
        clock_sleep_until_mono_ns(clock_mono_ns() + 2000000);
    }
    struct answer a = hear(fd, &rest, false);
    assert_false(a.cut);
    struct buf want;
    buf_init(&want, MANY_BYTES);
    big_matrix(&want);
    assert_int_equal(a.body.len, want.len);
    assert_memory_equal(a.body.ptr, want.ptr, want.len);
    answer_done(&a);
    close(fd);
    buf_done(&want);
    buf_done(&rest);
}

/* ---- floods -------------------------------------------------------------------------------------- */

#define N_FLOODS 4

struct flood { /* clients that send as fast as they can */
    pthread_t thread[N_FLOODS];
    int fd[N_FLOODS];
    struct buf text;
    bool stop; /* atomic */
};

struct flooding {
    struct flood *f;
    int fd;
};

/* Sends the text over and over, and reads what comes; until it is told to stop, or the server is gone. */
static void *flood_one(void *arg)
{
    struct flooding *one = arg;
    const struct buf *text = &one->f->text;
    char some[65536];
    size_t at = 0;

    while (!__atomic_load_n(&one->f->stop, __ATOMIC_RELAXED)) {
        struct pollfd p = {one->fd, POLLIN | POLLOUT, 0};
        if (poll(&p, 1, 100) < 0 || (p.revents & (POLLERR | POLLHUP)))
            break;
        if ((p.revents & POLLIN) && recv(one->fd, some, sizeof some, MSG_DONTWAIT) == 0)
            break;
        if (!(p.revents & POLLOUT))
            continue;
        ssize_t n = send(one->fd, text->ptr + at, text->len - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            at = (at + (size_t)n) % text->len;
        else if (errno != EAGAIN)
            break;
    }
    free(one);
    return NULL;
}

/* `first` comes once, and is answered if `heard` says so. */
static void flood_begin(struct flood *f, const char *first, bool heard, const char *text)
{
    memset(f, 0, sizeof *f);
    buf_init(&f->text, 0);
    while (f->text.len < 1u << 20)
        buf_str(&f->text, text);
    for (size_t i = 0; i < N_FLOODS; i++) {
        struct flooding *one = malloc(sizeof *one);
        f->fd[i] = dial();
        send_text(f->fd[i], first);
        if (heard)
            expect(hear(f->fd[i], NULL, false), "before the flood", 200, NULL);
        *one = (struct flooding){f, f->fd[i]};
        assert_int_equal(pthread_create(&f->thread[i], NULL, flood_one, one), 0);
    }
    clock_sleep_until_mono_ns(clock_mono_ns() + 100000000);
}

static void flood_end(struct flood *f)
{
    __atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < N_FLOODS; i++) {
        pthread_join(f->thread[i], NULL);
        close(f->fd[i]);
    }
    buf_done(&f->text);
}

static void a_flood_of_quick_requests_does_not_starve_a_query(void **state)
{
    static const char quick[] = "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    struct flood f;

    (void)state;
    flood_begin(&f, quick, true, quick);
    for (int i = 0; i < 5; i++) {
        int64_t from = clock_mono_ns();
        expect_in(get("/api/v1/query?query=1%2B1&time=4"), "beside a flood", 200, "[4,\"2\"]");
        assert_true(clock_mono_ns() - from < 2000000000ll);
    }
    flood_end(&f);
}

static void uploads_without_end_starve_no_query_and_no_stop(void **state)
{
    static const char large[] =
        "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n";
    struct flood f;

    (void)state;
    flood_begin(&f, large, false, "no form");
    for (int i = 0; i < 5; i++) {
        int64_t from = clock_mono_ns();
        expect_in(get("/api/v1/query?query=1%2B1&time=4"), "beside uploads", 200, "[4,\"2\"]");
        assert_true(clock_mono_ns() - from < 2000000000ll);
    }
    int64_t from = clock_mono_ns();
    web_close(served.web);
    served.web = NULL;
    assert_true(clock_mono_ns() - from < 10000000000ll);
    flood_end(&f);
}

/* ---- the end ------------------------------------------------------------------------------------- */

static void closing_cancels_what_runs_and_answers_it(void **state)
{
    int busy = dial(), idle = dial(), half = dial();

    (void)state;
    send_text(busy, "GET " LONG_QUERY " HTTP/1.1\r\nHost: x\r\n\r\n");
    send_text(idle, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
    send_text(half,
              "POST /api/v1/query HTTP/1.1\r\nHost: x\r\n" FORM "Content-Length: 100\r\n\r\nquery");
    expect(hear(idle, NULL, false), "idle", 200, NULL);
    wait_for_running(1);
    int64_t from = clock_mono_ns();
    web_close(served.web);
    served.web = NULL;
    assert_true(clock_mono_ns() - from < 5000000000ll);
    struct answer a = hear(busy, NULL, false);
    expect_in(a, "busy", 499, "\"errorType\":\"canceled\",\"error\":\"query was canceled in ");
    close(busy);
    close(idle);
    close(half);
    assert_int_equal(running_queries(), 0);
}

static void closing_ends_a_stream_that_nobody_reads(void **state)
{
    int small = 4096, fd = dial();
    char some[1000];

    (void)state;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    send_text(fd, "GET /api/v1/query_range?query=big&start=1700000000&end=1700001500&step=0.5 "
                  "HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(recv(fd, some, sizeof some, MSG_WAITALL) == sizeof some);
    int64_t from = clock_mono_ns();
    web_close(served.web);
    served.web = NULL;
    assert_true(clock_mono_ns() - from < 10000000000ll);
    close(fd);
}

static void *ask_until_it_is_gone(void *arg)
{
    char some[4096];

    (void)arg;
    for (int i = 0; i < 1000; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)served.port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct timeval tv = {5, 0};
        static const char text[] =
            "GET /api/v1/query?query=sum(big)&time=1700000000 HTTP/1.1\r\nHost: x\r\n\r\n";
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
        bool gone = connect(fd, (struct sockaddr *)&to, sizeof to) != 0;
        while (!gone && send(fd, text, sizeof text - 1, MSG_NOSIGNAL) > 0 &&
               recv(fd, some, sizeof some, 0) > 0)
            ;
        close(fd);
        if (gone)
            break;
    }
    return NULL;
}

/* Requests come in all the while, on old connections and new ones. */
static void closing_under_load_is_clean(void **state)
{
    pthread_t t[8];

    (void)state;
    for (int round = 0; round < 5; round++) {
        serve(NULL);
        for (size_t i = 0; i < NX_COUNT(t); i++)
            assert_int_equal(pthread_create(&t[i], NULL, ask_until_it_is_gone, NULL), 0);
        clock_sleep_until_mono_ns(clock_mono_ns() + 50000000);
        web_close(served.web);
        served.web = NULL;
        for (size_t i = 0; i < NX_COUNT(t); i++)
            pthread_join(t[i], NULL);
    }
}

static void a_taken_address_is_an_error_that_names_it(void **state)
{
    struct web *w = NULL;
    struct nx_err err;
    char listen[32];
    const char *const list[] = {listen};
    struct web_opts o = {.listen = list, .n_listen = 1};

    (void)state;
    snprintf(listen, sizeof listen, "127.0.0.1:%u", served.port);
    assert_status(web_open(&w, &o, &err), NX_IO);
    char want[128];
    snprintf(want, sizeof want, "listen tcp %s: bind: address already in use", listen);
    assert_string_equal(err.text, want);
    snprintf(listen, sizeof listen, "127.0.0.1");
    assert_status(web_open(&w, &o, &err), NX_BADINPUT);
    assert_string_equal(err.text, "listen tcp: address 127.0.0.1: missing port in address");
}

/* ---- memory -------------------------------------------------------------------------------------- */

static long rss_anon_kb(void)
{
    char line[128];
    long kb = 0;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %ld", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return kb;
}

static void ask_on(int fd, struct buf *rest)
{
    send_text(fd, "POST /api/v1/query HTTP/1.1\r\nHost: x\r\n" FORM
                  "Content-Length: 18\r\n\r\nquery=1%2B1&time=4");
    expect_in(hear(fd, rest, false), "on a kept connection", 200, "[4,\"2\"]");
}

/* KiB that each of n connections costs `idle_ms` after their third request. */
static long idle_cost(int n, int idle_ms, int *fds)
{
    struct buf rest;

    malloc_trim(0);
    long before = rss_anon_kb();
    buf_init(&rest, 0);
    for (int i = 0; i < n; i++) {
        fds[i] = dial();
        for (int k = 0; k < 3; k++)
            ask_on(fds[i], &rest);
    }
    clock_sleep_until_mono_ns(clock_mono_ns() + idle_ms * 1000000ll);
    buf_done(&rest);
    return (rss_anon_kb() - before) / n;
}

static void idle_connections_give_their_memory_back(void **state)
{
    enum { FEW = 20, MANY = 400 };
    int fds[MANY];
    struct buf rest;

    (void)state;
    buf_init(&rest, 0);
    int warm[2];
    idle_cost(2, 2000, warm); /* arenas and threads that stay */
    long few = idle_cost(FEW, 2500, fds);
    printf("%d idle connections: %ld KiB each\n", FEW, few);
    for (int i = 0; i < FEW; i++) /* and still work */
        ask_on(fds[i], &rest);
    for (int i = 0; i < FEW; i++)
        close(fds[i]);
    long many = idle_cost(MANY, 0, fds); /* no time to be idle in */
    printf("%d connections in turn: %ld KiB each\n", MANY, many);
    for (int i = 0; i < MANY; i += 7)
        ask_on(fds[i], &rest);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    close(warm[0]);
    close(warm[1]);
    buf_done(&rest);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(few < 100);
    assert_true(many < 150); /* 16 whole blocks are allowed */
#endif
}

/* Nothing comes after this query, not even the end of its connection. */
static void memory_of_a_large_query_is_given_back(void **state)
{
    (void)state;
    expect(get("/api/v1/query_range?query=big%2B1&start=1700000000&end=1700001500&step=1"), "large",
           200, NULL);
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(arena_spare_held());
#endif
    for (int i = 0; i < 400 && arena_spare_held(); i++)
        clock_sleep_until_mono_ns(clock_mono_ns() + 10000000);
    assert_false(arena_spare_held());
}

/* Blank lines before the first request would shift where its block seems to start. */
static void blank_lines_before_a_request_do_not_mislead_the_trimming(void **state)
{
    char blank[8192];
    struct buf rest;

    (void)state;
    buf_init(&rest, 0);
    for (size_t i = 0; i < sizeof blank; i++)
        blank[i] = i % 2 ? '\n' : '\r';
    for (size_t shift = 4096; shift <= sizeof blank; shift += 4096) {
        int fd = dial();
        say(fd, blank, shift);
        send_text(fd, "GET /api/v1/query?query=1%2B1&time=4 HTTP/1.1\r\nHost: x\r\n\r\n");
        struct answer a = hear(fd, &rest, false);
        assert_string_equal(header(&a, "Connection"), "close"); /* T3 */
        expect_in(a, "shifted", 200, "[4,\"2\"]");
        close(fd);
    }
    buf_done(&rest);
}

int main(void)
{
#define WITH_SERVER(t) cmocka_unit_test_setup_teardown(t, serve, unserve)
    const struct CMUnitTest tests[] = {
        WITH_SERVER(heads_of_a_mebibyte_are_taken_and_larger_ones_refused),
        WITH_SERVER(what_no_buffer_holds_is_refused_and_harms_nobody),
        WITH_SERVER(forms_of_ten_mebibytes_are_taken_and_larger_ones_ignored),
        WITH_SERVER(a_connection_serves_many_requests),
        WITH_SERVER(old_clients_get_their_connection_closed),
        WITH_SERVER(pipelined_requests_are_answered_in_order),
        WITH_SERVER(a_client_that_sends_byte_by_byte_is_served),
        WITH_SERVER(thirty_clients_at_once_are_served),
        WITH_SERVER(quick_answers_do_not_wait_for_slow_ones),
        WITH_SERVER(a_client_that_hangs_up_ends_its_query),
        WITH_SERVER(large_results_are_streamed_and_whole),
        WITH_SERVER(a_piece_of_a_stream_may_end_anywhere),
        WITH_SERVER(an_old_client_gets_a_stream_until_the_connection_ends),
        WITH_SERVER(a_client_may_leave_in_the_middle_of_a_stream),
        WITH_SERVER(a_slow_reader_gets_all_of_a_stream),
        WITH_SERVER(a_flood_of_quick_requests_does_not_starve_a_query),
        WITH_SERVER(uploads_without_end_starve_no_query_and_no_stop),
        WITH_SERVER(closing_cancels_what_runs_and_answers_it),
        WITH_SERVER(closing_ends_a_stream_that_nobody_reads),
        cmocka_unit_test(closing_under_load_is_clean),
        WITH_SERVER(a_taken_address_is_an_error_that_names_it),
        WITH_SERVER(idle_connections_give_their_memory_back),
        WITH_SERVER(memory_of_a_large_query_is_given_back),
        WITH_SERVER(blank_lines_before_a_request_do_not_mislead_the_trimming),
    };
    return cmocka_run_group_tests(tests, served_setup, served_teardown);
}
