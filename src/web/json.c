#include "src/web/http.h"

/* json.c - JSON as Prometheus's API writes it (Go's encoding/json for strings, jsoniter for samples). */

#include <string.h>

#include "src/base/clock.h"
#include "src/base/digits.h"
#include "src/base/text.h"

static const char *escape_of(unsigned char c)
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    case '<':
        return "\\u003c";
    case '>':
        return "\\u003e";
    case '&':
        return "\\u0026";
    default:
        return NULL;
    }
}

/* One character that is not plain; gives the bytes it took. */
static size_t put_special(struct buf *b, struct nx_slice s)
{
    unsigned char c = (unsigned char)s.ptr[0];
    const char *esc = escape_of(c);
    uint32_t code;

    if (esc) {
        buf_str(b, esc);
        return 1;
    }
    if (c < 0x20) {
        buf_printf(b, "\\u%04x", c);
        return 1;
    }
    size_t n = text_utf8_take(s, &code);
    if (!n) {
        buf_str(b, "\\ufffd");
        return 1;
    }
    if (code == 0x2028 || code == 0x2029)
        buf_printf(b, "\\u%04x", (unsigned)code);
    else
        buf_append(b, s.ptr, n);
    return n;
}

static bool plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

static void put_escaped(struct buf *b, struct nx_slice s)
{
    size_t from = 0, i = 0;

    while (i < s.len) {
        if (plain((unsigned char)s.ptr[i])) {
            i++;
            continue;
        }
        buf_append(b, s.ptr + from, i - from);
        i += put_special(b, nx_slice_of(s.ptr + i, s.len - i));
        from = i;
    }
    buf_append(b, s.ptr + from, i - from);
}

void json_text(struct buf *b, struct nx_slice s)
{
    buf_char(b, '"');
    put_escaped(b, s);
    buf_char(b, '"');
}

void json_readable(struct buf *b, struct nx_slice s)
{
    size_t from = 0;

    buf_char(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '<' && s.ptr[i] != '>' && s.ptr[i] != '&')
            continue;
        put_escaped(b, nx_slice_of(s.ptr + from, i - from));
        buf_char(b, s.ptr[i]);
        from = i + 1;
    }
    put_escaped(b, nx_slice_of(s.ptr + from, s.len - from));
    buf_char(b, '"');
}

void json_cstr(struct buf *b, const char *s)
{
    json_text(b, nx_slice_str(s));
}

/* Digits of a non-negative integer, written backwards from `end`; two at a time, since each division
 * waits for the last. */
static char *put_digits(char *end, uint64_t v)
{
    for (; v >= 100; v /= 100) {
        unsigned pair = (unsigned)(v % 100);
        *--end = (char)('0' + pair % 10);
        *--end = (char)('0' + pair / 10);
    }
    if (v >= 10)
        *--end = (char)('0' + v % 10);
    *--end = (char)('0' + (v >= 10 ? v / 10 : v));
    return end;
}

#define TIMES_MS 10000000 /* of times that begin alike */

size_t json_time_text(char to[JSON_TIME_BYTES], int64_t ms)
{
    char text[JSON_TIME_BYTES], *end = text + sizeof text, *p = end;
    uint64_t abs = ms < 0 ? (uint64_t)0 - (uint64_t)ms : (uint64_t)ms;
    unsigned frac = (unsigned)(abs % 1000);

    if (frac) {
        *--p = (char)('0' + frac % 10);
        *--p = (char)('0' + frac / 10 % 10);
        *--p = (char)('0' + frac / 100);
        *--p = '.';
    }
    p = put_digits(p, abs / 1000);
    if (ms < 0)
        *--p = '-';
    memcpy(to, p, (size_t)(end - p));
    return (size_t)(end - p);
}

/* Times that begin with other digits than the last one, or have no digits to share. */
static char *put_other_time(struct json_times *c, char *to, int64_t ms)
{
    char text[JSON_TIME_BYTES];
    size_t n = json_time_text(text, ms);

    memcpy(to, ",[", 2);
    memcpy(to + 2, text, n);
    memcpy(to + 2 + n, ",\"", 2);
    if (ms >= TIMES_MS && ms % 1000 == 0) { /* n is 16 at most */
        c->from_ms = ms - ms % TIMES_MS;
        c->at = 2 + n - 4;
        c->len = n + 4;
        memcpy(c->text, to, c->len);
    }
    return to + n + 4;
}

char *json_times_put(struct json_times *c, char *to, int64_t ms)
{
    if (!c->len || ms < c->from_ms || ms - c->from_ms >= TIMES_MS)
        return put_other_time(c, to, ms);
    const uint32_t since_ms = (uint32_t)(ms - c->from_ms), since = since_ms / 1000;
    if (since * 1000 != since_ms)
        return put_other_time(c, to, ms);
    memcpy(to, c->text, sizeof c->text);
    digits_put_4(to + c->at, digits_4(since));
    return to + c->len;
}

void json_time_ms(struct buf *b, int64_t ms)
{
    char text[JSON_TIME_BYTES];

    buf_append(b, text, json_time_text(text, ms));
}

void json_labels(struct buf *b, const struct labels *ls)
{
    labels_print_json(b, ls);
}

void json_rfc3339_ms(struct buf *b, int64_t wall_ms)
{
    char text[40];

    if (!wall_ms) {
        buf_str(b, "\"0001-01-01T00:00:00Z\"");
        return;
    }
    size_t n = clock_format_rfc3339(text, wall_ms * 1000000);
    buf_char(b, '"');
    buf_append(b, text, n);
    buf_char(b, '"');
}

void json_messages(struct buf *b, const char *key, char *const *v, size_t n)
{
    if (!n)
        return;
    buf_printf(b, ",\"%s\":[", key);
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_char(b, ',');
        json_cstr(b, v[i]);
    }
    buf_char(b, ']');
}
