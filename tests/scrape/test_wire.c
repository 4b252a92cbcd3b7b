/* Answers over a kept connection: what is taken, what is left to libcurl, and in whatever pieces they
 * come. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../support/test.h"

#include "src/scrape/wire.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"

/* The answer in pieces of `step` bytes, from a buffer that ends where the bytes do. */
static enum wire_got feed(struct fetch *f, const char *bytes, size_t len, size_t step)
{
    enum wire_got got = WIRE_MORE;

    buf_done(&f->body);
    fetch_clear(f);
    for (size_t at = 0; at < len && got == WIRE_MORE; at += step) {
        buf_append(&f->body, bytes + at, len - at < step ? len - at : step);
        got = wire_look(f);
    }
    return got;
}

static enum wire_got feed_all(struct fetch *f, const char *answer)
{
    size_t len = strlen(answer);
    enum wire_got got = feed(f, answer, len, len);

    for (size_t step = 1; step < len; step++)
        assert_int_equal(feed(f, answer, len, step), got);
    return got;
}

static void assert_body(const struct fetch *f, const char *body)
{
    assert_int_equal(f->body.len - f->body_at, strlen(body));
    assert_memory_equal(f->body.ptr + f->body_at, body, strlen(body));
}

static void whole_answers_are_taken(void **state)
{
    struct fetch *f = fetch_new();

    (void)state;
    assert_int_equal(feed_all(f, OK_HEAD "Content-Length: 5\r\n\r\na 1\nb"), WIRE_DONE);
    assert_body(f, "a 1\nb");
    assert_string_equal(f->content_type, "text/plain; version=0.0.4");
    assert_false(f->gzip);
    assert_false(f->wire.last);
    assert_int_equal(feed_all(f, OK_HEAD "content-encoding: gzip\r\nConnection: close\r\n"
                                         "Content-Length:0\r\n\r\n"),
                     WIRE_DONE);
    assert_body(f, "");
    assert_true(f->gzip);
    assert_true(f->wire.last);
    assert_int_equal(feed_all(f,
                              OK_HEAD "Transfer-Encoding: Chunked\r\nConnection: keep-alive\r\n\r\n"
                                      "3\r\na 1\r\n00A;x=y\r\n\nb 2\nccc 3\r\n0\r\n\r\n"),
                     WIRE_DONE);
    assert_body(f, "a 1\nb 2\nccc 3");
    fetch_free(f);
}

static void parts_wait_for_more(void **state)
{
    struct fetch *f = fetch_new();

    (void)state;
    assert_int_equal(feed_all(f, "HTTP/1.1 200 OK\r\nContent-Len"), WIRE_MORE);
    assert_int_equal(feed_all(f, OK_HEAD "Content-Length: 5\r\n\r\na 1\n"), WIRE_MORE);
    assert_int_equal(feed_all(f, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\na 1\r\n"),
                     WIRE_MORE);
    assert_int_equal(feed_all(f, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\na 1\r\n0\r\n"),
                     WIRE_MORE);
    fetch_free(f);
}

static void what_is_odd_is_left_to_libcurl(void **state)
{
    static const char *const odd[] = {
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 2000 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        OK_HEAD "\r\nx", /* until the connection closes */
        OK_HEAD "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        OK_HEAD "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK_HEAD "Content-Length: -1\r\n\r\nx",
        OK_HEAD "Content-Length: 1x\r\n\r\nx",
        OK_HEAD "Content-Length: \r\n\r\nx",
        OK_HEAD "Content-Length: 999999999999\r\n\r\nx",
        OK_HEAD "Connection: upgrade\r\nContent-Length: 1\r\n\r\nx",
        OK_HEAD " folded: 1\r\nContent-Length: 1\r\n\r\nx",
        OK_HEAD "Content-Length: 1\n\r\n\r\nx",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\nx\r\n",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\n123456789\r\nx",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\nffffffff\r\nx",
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: 1\r\n\r\n",
        "\r\n\r\n",
    };
    struct fetch *f = fetch_new();

    (void)state;
    for (size_t i = 0; i < NX_COUNT(odd); i++)
        assert_int_equal(feed_all(f, odd[i]), WIRE_ODD);
    /* More than was announced, seen when it comes in one piece. */
    assert_int_equal(feed(f, OK_HEAD "Content-Length: 1\r\n\r\nxy", strlen(OK_HEAD) + 23, 4096),
                     WIRE_ODD);
    fetch_free(f);
}

static void a_body_up_to_the_limit_is_left_to_libcurl(void **state)
{
    struct fetch *f = fetch_new();
    const char *answer = OK_HEAD "Content-Length: 5\r\n\r\na 1\nb";

    (void)state;
    buf_done(&f->body);
    fetch_clear(f);
    f->limit_bytes = 5; /* a body of exactly the limit is too large */
    buf_str(&f->body, answer);
    assert_int_equal(wire_look(f), WIRE_ODD);
    fetch_clear(f);
    f->limit_bytes = 6;
    buf_str(&f->body, answer);
    assert_int_equal(wire_look(f), WIRE_DONE);
    fetch_free(f);
}

static void urls(void **state)
{
    (void)state;
    assert_true(wire_takes("http://localhost:9100/metrics"));
    assert_true(wire_takes("http://[::1]:9100/metrics?module=a%20b&x=."));
    assert_true(wire_takes("http://host"));
    assert_false(wire_takes("https://host/metrics"));
    assert_false(wire_takes("http://user:pass@host/metrics"));
    assert_false(wire_takes("http:///metrics"));
    assert_false(wire_takes("http://host/a/../metrics"));
    assert_false(wire_takes("http://host/metrics#x"));
    assert_false(wire_takes("http://host/me trics"));
}

static void a_request_and_its_answer(void **state)
{
    struct fetch_request r = {.url = "http://host:1/m?a=b",
                              .user_agent = "Narthex/1",
                              .accept = "text/plain",
                              .timeout_ms = 2500,
                              .compression = true};
    struct fetch *f = fetch_new();
    char got[1024] = "";
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_true(wire_ask(fds[0], f, &r));
    assert_true(read(fds[1], got, sizeof got - 1) > 0);
    assert_string_equal(got, "GET /m?a=b HTTP/1.1\r\nHost: host:1\r\nUser-Agent: Narthex/1\r\n"
                             "Accept: text/plain\r\nAccept-Encoding: gzip\r\n"
                             "X-Prometheus-Scrape-Timeout-Seconds: 2.5\r\n\r\n");
    assert_int_equal(wire_read(fds[0], f), WIRE_MORE);
    assert_true(write(fds[1], OK_HEAD "Content-Length: 3\r\n\r\na 1", strlen(OK_HEAD) + 24) > 0);
    assert_int_equal(wire_read(fds[0], f), WIRE_DONE);
    assert_body(f, "a 1");
    assert_true(write(fds[1], "x", 1) == 1); /* what nobody asked for */
    assert_false(wire_ask(fds[0], f, &r));
    close(fds[1]);
    assert_int_equal(wire_read(fds[0], f), WIRE_ODD);
    assert_false(wire_ask(fds[0], f, &r));
    close(fds[0]);
    fetch_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_answers_are_taken),
        cmocka_unit_test(parts_wait_for_more),
        cmocka_unit_test(what_is_odd_is_left_to_libcurl),
        cmocka_unit_test(a_body_up_to_the_limit_is_left_to_libcurl),
        cmocka_unit_test(urls),
        cmocka_unit_test(a_request_and_its_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
