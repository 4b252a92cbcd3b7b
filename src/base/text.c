/* text.c - characters, quotes and escapes.
 *
 * SHAPE   Both quoters look for the next character that needs an escape and append what lies before
 *         it in one piece: nearly all strings have none.
 * RULES   Cases are asked of the C library's own Unicode tables, whatever the locale of the process. */
#include "src/base/text.h"

#include <locale.h>
#include <pthread.h>
#include <string.h>
#include <wctype.h>

size_t text_utf8_take(struct nx_slice s, uint32_t *code_point)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    uint32_t c, least;
    size_t n;

    if (s.len == 0)
        return 0;
    c = p[0];
    if (c < 0x80) {
        *code_point = c;
        return 1;
    }
    if (c >= 0xc2 && c < 0xe0) {
        n = 2, c &= 0x1f, least = 0x80;
    } else if (c >= 0xe0 && c < 0xf0) {
        n = 3, c &= 0x0f, least = 0x800;
    } else if (c >= 0xf0 && c < 0xf5) {
        n = 4, c &= 0x07, least = 0x10000;
    } else {
        return 0;
    }
    if (s.len < n)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *code_point = c;
    return n;
}

size_t text_utf8_put(char to[4], uint32_t code_point)
{
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;

    for (size_t i = n; --i > 0; code_point >>= 6)
        to[i] = (char)(0x80 | (code_point & 0x3f));
    to[0] = (char)(lead[n == 1 ? 0 : n] | code_point);
    return n;
}

void text_utf8(struct buf *b, uint32_t code_point)
{
    char text[4];

    buf_append(b, text, text_utf8_put(text, code_point));
}

static locale_t unicode; /* (locale_t)0: none to be had, only ASCII has cases */
static pthread_once_t unicode_once = PTHREAD_ONCE_INIT;

static void open_unicode(void)
{
    unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

uint32_t text_upper(uint32_t c)
{
    if (c < 0x80)
        return c >= 'a' && c <= 'z' ? c - 32 : c;
    pthread_once(&unicode_once, open_unicode);
    return unicode ? (uint32_t)towupper_l((wint_t)c, unicode) : c;
}

uint32_t text_lower(uint32_t c)
{
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    pthread_once(&unicode_once, open_unicode);
    return unicode ? (uint32_t)towlower_l((wint_t)c, unicode) : c;
}

/* Controls, formats, spaces other than U+0020, private use and non-characters, by first and last. */
static const struct {
    uint32_t first, last;
} unprintable[] = {
    // clang-format off
    { 0x0000,  0x001f },  { 0x007f,  0x00a0 },  { 0x00ad,  0x00ad },  { 0x0600,  0x0605 },
    { 0x061c,  0x061c },  { 0x06dd,  0x06dd },  { 0x070f,  0x070f },  { 0x0890,  0x0891 },
    { 0x08e2,  0x08e2 },  { 0x1680,  0x1680 },  { 0x180e,  0x180e },  { 0x2000,  0x200f },
    { 0x2028,  0x202f },  { 0x205f,  0x206f },  { 0x3000,  0x3000 },  { 0xd800,  0xf8ff },
    { 0xfdd0,  0xfdef },  { 0xfeff,  0xfeff },  { 0xfff0,  0xfffb },  { 0xfffe,  0xffff },
    { 0x110bd, 0x110bd }, { 0x110cd, 0x110cd }, { 0x13430, 0x1343f }, { 0x1bca0, 0x1bca3 },
    { 0x1d173, 0x1d17a }, { 0xe0000, 0xe00ff }, { 0xf0000, 0x10ffff },
    // clang-format on
};

bool text_printable(uint32_t code_point)
{
    for (size_t i = 0; i < NX_COUNT(unprintable); i++) {
        if (code_point <= unprintable[i].last)
            return code_point < unprintable[i].first;
    }
    return true;
}

bool text_space(uint32_t code_point)
{
    switch (code_point) {
    case '\t':
    case '\n':
    case '\v':
    case '\f':
    case '\r':
    case ' ':
    case 0x85:
    case 0xa0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202f:
    case 0x205f:
    case 0x3000:
        return true;
    default:
        return code_point >= 0x2000 && code_point <= 0x200a;
    }
}

/* The letter of a two-character escape, or 0. */
static char short_escape(uint32_t c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\a':
        return 'a';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '\v':
        return 'v';
    default:
        return 0;
    }
}

static void quote_escape(struct buf *b, size_t n, unsigned char byte, uint32_t c)
{
    if (n == 0)
        buf_printf(b, "\\x%02x", byte);
    else if (short_escape(c))
        buf_printf(b, "\\%c", short_escape(c));
    else if (c < ' ' || c == 0x7f)
        buf_printf(b, "\\x%02x", c);
    else
        buf_printf(b, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
}

void text_quote(struct buf *b, struct nx_slice s)
{
    size_t done = 0, i = 0;

    buf_char(b, '"');
    while (i < s.len) {
        uint32_t c = 0;
        size_t n = text_utf8_take(nx_slice_of(s.ptr + i, s.len - i), &c);

        if (n && c != '"' && c != '\\' && text_printable(c)) {
            i += n;
            continue;
        }
        buf_append(b, s.ptr + done, i - done);
        quote_escape(b, n, (unsigned char)s.ptr[i], c);
        i += n ? n : 1;
        done = i;
    }
    if (s.len)
        buf_append(b, s.ptr + done, s.len - done);
    buf_char(b, '"');
}

static void json_escape(struct buf *b, size_t n, uint32_t c)
{
    if (n == 0)
        buf_str(b, "\xef\xbf\xbd");
    else if (c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t')
        buf_printf(b, "\\%c", short_escape(c));
    else
        buf_printf(b, "\\u%04x", c);
}

const char *text_quoted(char to[TEXT_QUOTED_BYTES], struct nx_slice s)
{
    struct nx_slice quoted;
    struct buf b;

    if (s.len > TEXT_QUOTED_BYTES)
        s.len = TEXT_QUOTED_BYTES; /* nothing gets shorter by quoting */
    buf_init(&b, 0);
    text_quote(&b, s);
    quoted = buf_view(&b);
    if (quoted.len >= TEXT_QUOTED_BYTES) {
        quoted.len = TEXT_QUOTED_BYTES - 1;
        while (((unsigned char)quoted.ptr[quoted.len] & 0xc0) == 0x80)
            quoted.len--;
    }
    memcpy(to, quoted.ptr, quoted.len);
    to[quoted.len] = '\0';
    buf_done(&b);
    return to;
}

void text_json(struct buf *b, struct nx_slice s)
{
    size_t done = 0, i = 0;

    buf_char(b, '"');
    while (i < s.len) {
        unsigned char byte = (unsigned char)s.ptr[i];
        uint32_t c = byte;
        size_t n = 1;

        if (byte >= 0x80)
            n = text_utf8_take(nx_slice_of(s.ptr + i, s.len - i), &c);
        if (n && c >= ' ' && c != '"' && c != '\\') {
            i += n;
            continue;
        }
        buf_append(b, s.ptr + done, i - done);
        json_escape(b, n, c);
        i += n ? n : 1;
        done = i;
    }
    if (s.len)
        buf_append(b, s.ptr + done, s.len - done);
    buf_char(b, '"');
}

void text_url_escape(struct buf *b, struct nx_slice s, const char *also_plain, bool plus)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c && strchr("-_.~", c)) || (c && strchr(also_plain, c));
        if (plain)
            buf_char(b, (char)c);
        else if (plus && c == ' ')
            buf_char(b, '+');
        else
            buf_printf(b, "%%%02X", c);
    }
}

void text_url_query(struct buf *b, struct nx_slice s)
{
    text_url_escape(b, s, "", true);
}

void text_url_path(struct buf *b, struct nx_slice s)
{
    text_url_escape(b, s, "$&+,/:;=@", false);
}

void text_join_path(struct buf *b, struct nx_slice path)
{
    for (size_t i = 0; i < path.len;) {
        const char *at = path.ptr + i, *end = memchr(at, '/', path.len - i);
        struct nx_slice part = nx_slice_of(at, end ? (size_t)(end - at) : path.len - i);

        i += part.len + 1;
        if (nx_slice_is(part, "..")) {
            while (b->len && b->ptr[b->len - 1] != '/')
                b->len--;
            b->len -= b->len > 0;
        } else if (part.len && !nx_slice_is(part, ".")) {
            buf_char(b, '/');
            buf_slice(b, part);
        }
    }
}
