/* wire.c - the next GET over a connection that is kept.
 *
 * WHY     A target is asked the same thing over the same connection again and again. For a body of 100
 *         kilobytes libcurl needs a dozen system calls and builds its request and its state anew, which
 *         together costs more than all that is done with the body. A send and one or two reads do.
 * SHAPE   libcurl makes every connection: names, addresses, proxies, TLS, redirects, credentials and all
 *         words for failures are its business. After a plain 200 over HTTP/1.1 without any of these,
 *         fetch.c keeps the socket instead of letting it be closed. Here the next request goes out on it
 *         and the answer is read, in the worker that will go over it.
 * RULES   W1  Only what is plainly right is taken: a 200 with a length or in chunks. Whatever else comes,
 *             or does not come, is asked again by libcurl on a connection of its own, so that there is
 *             one place that knows what failures look like. A GET may be sent twice (RFC 9110, 9.2.2).
 *         W2  Nothing may have come before the request is sent: a server that closed the connection
 *             meanwhile is noticed here.
 *         W3  The head stays in front of the body in the buffer; chunks are put together when the last
 *             one is there. */
#include "src/scrape/wire.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "src/base/limits.h"
#include "src/base/memory.h"

#define HEAD_BYTES    65536u /* of a response; more is odd */
#define FIRST_BYTES   16384u /* room for the head and what comes with it */
#define MOST_PER_READ (4u << 20)
#define CHUNK_DIGITS  8 /* hexadecimal */

/* ---- asking ------------------------------------------------------------------------------------ */

bool wire_takes(const char *url)
{
    const char *host = url + 7, *path;

    if (strncmp(url, "http://", 7) != 0)
        return false;
    path = host + strcspn(host, "/?");
    if (path == host || memchr(host, '@', (size_t)(path - host)) || strstr(path, "/."))
        return false; /* libcurl takes user names out, and dots */
    for (const char *p = host; *p; p++)
        if (*p <= ' ' || *p >= 0x7f || *p == '#')
            return false;
    return true;
}

static void put_request(struct buf *b, const struct fetch_request *r)
{
    const char *host = r->url + 7, *path = host + strcspn(host, "/?");
    char seconds[64];

    buf_str(b, *path == '/' ? "GET " : "GET /");
    buf_str(b, path);
    buf_str(b, " HTTP/1.1\r\nHost: ");
    buf_append(b, host, (size_t)(path - host));
    buf_str(b, "\r\nUser-Agent: ");
    buf_str(b, r->user_agent);
    buf_str(b, "\r\nAccept: ");
    buf_str(b, r->accept);
    buf_str(b, r->compression ? "\r\nAccept-Encoding: gzip" : "\r\nAccept-Encoding: identity");
    buf_str(b, "\r\nX-Prometheus-Scrape-Timeout-Seconds: ");
    buf_append(b, seconds, fetch_seconds(seconds, r->timeout_ms));
    buf_str(b, "\r\n\r\n");
}

bool wire_ask(int fd, struct fetch *f, const struct fetch_request *r)
{
    char byte;
    bool sent;

    if (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 ||
        (errno != EAGAIN && errno != EWOULDBLOCK))
        return false; /* W2 */
    f->limit_bytes = r->limit_bytes;
    f->memory = r->memory;
    buf_clear(&f->body);
    put_request(&f->body, r); /* the answer's place is free yet */
    sent = f->body.failed == NX_OK &&
           send(fd, f->body.ptr, f->body.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)f->body.len;
    buf_clear(&f->body);
    return sent;
}

/* ---- the head ---------------------------------------------------------------------------------- */

static bool parse_length(struct nx_slice s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.len == 0 || s.len > 12)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    *out = v;
    return true;
}

/* One line with its end. False: nothing to be read here (W1). */
static bool take_header(struct fetch *f, struct nx_slice line)
{
    struct fetch_wire *w = &f->wire;
    struct nx_slice value;

    if (line.len < 3 || line.ptr[line.len - 2] != '\r' || line.ptr[0] == ' ' || line.ptr[0] == '\t')
        return false;
    if (fetch_header_is(line, "Content-Length", &value)) {
        if (w->has_length || w->chunked || !parse_length(value, &w->length))
            return false;
        w->has_length = true;
    } else if (fetch_header_is(line, "Transfer-Encoding", &value)) {
        if (w->has_length || w->chunked || value.len != 7 ||
            strncasecmp(value.ptr, "chunked", 7) != 0)
            return false;
        w->chunked = true;
    } else if (fetch_header_is(line, "Connection", &value)) {
        w->last = value.len == 5 && strncasecmp(value.ptr, "close", 5) == 0;
        if (!w->last && (value.len != 10 || strncasecmp(value.ptr, "keep-alive", 10) != 0))
            return false;
    }
    fetch_header(f, line);
    return true;
}

static enum wire_got look_head(struct fetch *f)
{
    struct buf *b = &f->body;
    const char *end = memmem(b->ptr, b->len < HEAD_BYTES ? b->len : HEAD_BYTES, "\r\n\r\n", 4);
    const char *p = b->ptr, *next;

    if (!end)
        return b->len < HEAD_BYTES ? WIRE_MORE : WIRE_ODD;
    if (memcmp(p, "HTTP/1.1 200", 12) != 0 || (p[12] != ' ' && p[12] != '\r'))
        return WIRE_ODD;
    for (; p < end + 2; p = next) {
        next = (const char *)memchr(p, '\n', (size_t)(end + 2 - p)) + 1;
        if (!take_header(f, nx_slice_of(p, (size_t)(next - p))))
            return WIRE_ODD;
    }
    if (f->code != 200 || (!f->wire.has_length && !f->wire.chunked))
        return WIRE_ODD;
    f->body_at = f->wire.at = f->wire.to = (size_t)(end + 4 - b->ptr);
    return WIRE_DONE;
}

/* ---- the body ---------------------------------------------------------------------------------- */

static bool over_limit(const struct fetch *f, uint64_t bytes)
{
    uint64_t more = bytes > f->body.cap ? bytes - f->body.cap : 0;

    return bytes >= NX_LIMIT_SCRAPE_BODY_BYTES ||
           (f->limit_bytes && !f->gzip && bytes >= f->limit_bytes) ||
           (more && memory_room_now(f->memory) < more);
}

static enum wire_got look_length(struct fetch *f)
{
    uint64_t have = f->body.len - f->body_at;

    if (over_limit(f, f->wire.length) || have > f->wire.length)
        return WIRE_ODD;
    return have == f->wire.length ? WIRE_DONE : WIRE_MORE;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* `SIZE[;extension]\r\n` at p. Its length, 0 if not all of it is there, or -1. */
static int chunk_head(const char *p, size_t len, uint64_t *size)
{
    const char *end = memchr(p, '\n', len < 256 ? len : 256);
    int n = 0;

    if (!end)
        return len < 256 ? 0 : -1;
    for (*size = 0; n < CHUNK_DIGITS && hex(p[n]) >= 0; n++)
        *size = *size << 4 | (uint64_t)hex(p[n]);
    if (n == 0 || (p[n] != ';' && p[n] != '\r') || end == p || end[-1] != '\r')
        return -1;
    return (int)(end - p) + 1;
}

/* Puts whole chunks behind one another (W3): from wire.at on they are as received, up to wire.to in
 * order. Trailers are odd. */
static enum wire_got look_chunks(struct fetch *f)
{
    struct fetch_wire *w = &f->wire;
    struct buf *b = &f->body;

    for (;;) {
        uint64_t size;
        size_t left = b->len - w->at;
        int head = chunk_head(b->ptr + w->at, left, &size);
        const char *data;

        if (head <= 0)
            return head ? WIRE_ODD : WIRE_MORE;
        if (over_limit(f, w->to - f->body_at + size))
            return WIRE_ODD;
        if (left - (size_t)head < size + 2)
            return WIRE_MORE;
        data = b->ptr + w->at + head;
        if (data[size] != '\r' || data[size + 1] != '\n')
            return WIRE_ODD;
        w->at += (size_t)head + (size_t)size + 2;
        if (size == 0)
            break;
        memmove(b->ptr + w->to, data, (size_t)size);
        w->to += (size_t)size;
    }
    if (w->at != b->len)
        return WIRE_ODD; /* more than was asked for */
    b->len = w->to;
    return WIRE_DONE;
}

enum wire_got wire_look(struct fetch *f)
{
    if (!f->body_at) {
        enum wire_got got = look_head(f);
        if (got != WIRE_DONE)
            return got;
    }
    return f->wire.chunked ? look_chunks(f) : look_length(f);
}

/* Room for what is known to come, the fence behind it (expo.h) included. */
static size_t room_for_more(struct fetch *f)
{
    struct buf *b = &f->body;
    size_t left = b->cap - b->len, want = FIRST_BYTES;

    if (f->body_at && !f->wire.chunked)
        want = f->body_at + (size_t)f->wire.length + 1 - b->len;
    else if (left >= FIRST_BYTES / 4)
        want = left;
    else if (want < b->cap)
        want = b->cap;
    return want < MOST_PER_READ ? want : MOST_PER_READ;
}

enum wire_got wire_read(int fd, struct fetch *f)
{
    for (;;) {
        size_t want = room_for_more(f);
        char *room = buf_reserve(&f->body, want);
        enum wire_got got;
        ssize_t n;

        if (!room)
            return WIRE_ODD;
        n = recv(fd, room, want, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return WIRE_MORE;
        if (n <= 0)
            return WIRE_ODD;
        f->body.len += (size_t)n;
        got = wire_look(f);
        if (got != WIRE_MORE)
            return got;
    }
}
