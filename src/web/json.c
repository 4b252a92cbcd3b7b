#include "src/web/http.h"

/* json.c - JSON as Prometheus's API writes it (Go's encoding/json for strings, jsoniter for samples). */

#include <string.h>

#include "src/base/clock.h"
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

char *json_time_put(struct json_times *c, char *to, int64_t ms)
{
    uint64_t s = (uint64_t)ms / 1000, block = s / 10000;
    unsigned rest = (unsigned)(s % 10000);

    if (ms < 0 || ms % 1000 || !block)
        return to + json_time_text(to, ms);
    if (c->block != block) {
        c->block = block;
        c->len = json_time_text(c->text, (int64_t)block * 1000);
    }
    memcpy(to, c->text, 16); /* no time has more */
    to += c->len;
    const unsigned high = rest / 100, low = rest % 100; /* neither waits for the other */
    to[0] = (char)('0' + high / 10);
    to[1] = (char)('0' + high % 10);
    to[2] = (char)('0' + low / 10);
    to[3] = (char)('0' + low % 10);
    return to + 4;
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
