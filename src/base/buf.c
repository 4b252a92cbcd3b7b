/* buf.c - growing bytes, little-endian integers, varints, and the checked reader.
 *
 * RULES   B1  An append goes in whole or not at all; the first that does not marks the buffer and
 *             from then on nothing is added, so what is there is a prefix of what was wanted.
 *         B2  len never passes limit_bytes. The memory may be one byte more, for buf_cstr's NUL.
 *         B3  The reader never looks past `end`, whatever the bytes say; a varint of more than 64
 *             bits is bad, not cut. */
#include "src/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 64u

void buf_init(struct buf *b, size_t limit_bytes)
{
    *b = (struct buf){.limit_bytes = limit_bytes};
}

void buf_done(struct buf *b)
{
    if (!b)
        return;
    free(b->ptr);
    *b = (struct buf){.limit_bytes = b->limit_bytes};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = NX_OK;
}

void buf_trim_end(struct buf *b)
{
    while (b->len && strchr(" \t\r\n", b->ptr[b->len - 1])) /* which finds a NUL, too */
        b->len--;
}

/* Makes cap at least `need`. */
static bool grow_to(struct buf *b, size_t need)
{
    size_t cap = b->cap ? b->cap : FIRST_CAP;
    char *ptr;

    if (need <= b->cap)
        return true;
    while (cap < need) {
        if (cap > SIZE_MAX / 2) {
            cap = need;
            break;
        }
        cap *= 2;
    }
    if (b->limit_bytes && cap > b->limit_bytes && b->limit_bytes < SIZE_MAX)
        cap = b->limit_bytes + 1; /* need is not more: B2 */
    ptr = realloc(b->ptr, cap);
    if (!ptr) {
        b->failed = NX_NOMEM;
        return false;
    }
    b->ptr = ptr;
    b->cap = cap;
    return true;
}

char *buf_reserve(struct buf *b, size_t extra)
{
    size_t need;

    if (b->failed)
        return NULL;
    if (__builtin_add_overflow(b->len, extra, &need) || need > PTRDIFF_MAX) {
        b->failed = b->limit_bytes ? NX_LIMIT : NX_NOMEM;
        return NULL;
    }
    if (b->limit_bytes && need > b->limit_bytes) {
        b->failed = NX_LIMIT;
        return NULL;
    }
    if (!grow_to(b, need ? need : 1))
        return NULL;
    return b->ptr + b->len;
}

void buf_append(struct buf *b, const void *ptr, size_t len)
{
    char *to;

    if (len == 0)
        return;
    to = buf_reserve(b, len);
    if (to) {
        memcpy(to, ptr, len);
        b->len += len;
    }
}

void buf_slice(struct buf *b, struct nx_slice s)
{
    buf_append(b, s.ptr, s.len);
}

void buf_str(struct buf *b, const char *terminated)
{
    buf_append(b, terminated, strlen(terminated));
}

void buf_char(struct buf *b, char c)
{
    if (b->len < b->cap && !b->failed && (!b->limit_bytes || b->len < b->limit_bytes))
        b->ptr[b->len++] = c;
    else
        buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    size_t room = b->cap - b->len;
    int n;

    if (b->failed)
        return;
    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(b->ptr ? b->ptr + b->len : NULL, room, fmt, args);
    if (n >= 0) {
        bool fits = (size_t)n < room && (!b->limit_bytes || b->len + (size_t)n <= b->limit_bytes);
        /* vsnprintf wants room for its NUL, which the limit does not count (B2). */
        if (!fits && buf_reserve(b, (size_t)n))
            fits = grow_to(b, b->len + (size_t)n + 1);
        if (fits && (size_t)n >= room)
            vsnprintf(b->ptr + b->len, (size_t)n + 1, fmt, again);
        if (fits)
            b->len += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void buf_u8(struct buf *b, uint8_t v)
{
    buf_char(b, (char)v);
}

void buf_u16le(struct buf *b, uint16_t v)
{
    uint8_t bytes[2];

    put_u16le(bytes, v);
    buf_append(b, bytes, sizeof bytes);
}

void buf_u32le(struct buf *b, uint32_t v)
{
    uint8_t bytes[4];

    put_u32le(bytes, v);
    buf_append(b, bytes, sizeof bytes);
}

void buf_u64le(struct buf *b, uint64_t v)
{
    uint8_t bytes[8];

    put_u64le(bytes, v);
    buf_append(b, bytes, sizeof bytes);
}

void buf_uvarint(struct buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;

    while (v >= 0x80) {
        bytes[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (uint8_t)v;
    buf_append(b, bytes, n);
}

void buf_varint(struct buf *b, int64_t v)
{
    buf_uvarint(b, ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0));
}

nx_status buf_status(const struct buf *b, struct nx_err *err)
{
    if (!b->failed)
        return NX_OK;
    if (b->failed == NX_LIMIT)
        return nx_fail(err, NX_LIMIT, "limit of %zu bytes exceeded", b->limit_bytes);
    return nx_fail(err, b->failed, "%s", nx_status_text(b->failed));
}

const char *buf_cstr(struct buf *b)
{
    if (b->failed || !grow_to(b, b->len + 1))
        return "";
    b->ptr[b->len] = '\0';
    return b->ptr;
}

struct nx_slice buf_view(const struct buf *b)
{
    return nx_slice_of(b->ptr ? b->ptr : "", b->len);
}

uint16_t get_u16le(const void *p)
{
    const uint8_t *b = p;

    return (uint16_t)(b[0] | b[1] << 8);
}

uint32_t get_u32le(const void *p)
{
    const uint8_t *b = p;

    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t get_u64le(const void *p)
{
    return (uint64_t)get_u32le(p) | (uint64_t)get_u32le((const uint8_t *)p + 4) << 32;
}

void put_u16le(void *p, uint16_t v)
{
    uint8_t *b = p;

    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

void put_u32le(void *p, uint32_t v)
{
    uint8_t *b = p;

    put_u16le(b, (uint16_t)v);
    put_u16le(b + 2, (uint16_t)(v >> 16));
}

void put_u64le(void *p, uint64_t v)
{
    uint8_t *b = p;

    put_u32le(b, (uint32_t)v);
    put_u32le(b + 4, (uint32_t)(v >> 32));
}

struct reader reader_of(const void *ptr, size_t len)
{
    const uint8_t *p = ptr ? ptr : (const uint8_t *)"";

    return (struct reader){.ptr = p, .end = p + (ptr ? len : 0)};
}

/* The next `len` bytes, or NULL and a marked reader (B3). */
static const uint8_t *take(struct reader *r, size_t len)
{
    const uint8_t *p = r->ptr;

    if (r->bad || (size_t)(r->end - p) < len) {
        r->bad = true;
        return NULL;
    }
    r->ptr = p + len;
    return p;
}

uint8_t reader_u8(struct reader *r)
{
    const uint8_t *p = take(r, 1);

    return p ? *p : 0;
}

uint16_t reader_u16le(struct reader *r)
{
    const uint8_t *p = take(r, 2);

    return p ? get_u16le(p) : 0;
}

uint32_t reader_u32le(struct reader *r)
{
    const uint8_t *p = take(r, 4);

    return p ? get_u32le(p) : 0;
}

uint64_t reader_u64le(struct reader *r)
{
    const uint8_t *p = take(r, 8);

    return p ? get_u64le(p) : 0;
}

uint64_t reader_uvarint(struct reader *r)
{
    uint64_t v = 0;

    if (!r->bad && r->ptr < r->end && *r->ptr < 0x80) /* mostly */
        return *r->ptr++;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t *p = take(r, 1);

        if (!p)
            return 0;
        if (shift == 63 && *p > 1) /* the tenth byte holds one bit */
            break;
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (!(*p & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}

int64_t reader_varint(struct reader *r)
{
    uint64_t u = reader_uvarint(r);

    return (int64_t)(u >> 1 ^ (~(u & 1) + 1));
}

struct nx_slice reader_bytes(struct reader *r, size_t len)
{
    const uint8_t *p = take(r, len);

    return p ? nx_slice_of((const char *)p, len) : nx_slice_of("", 0);
}

size_t reader_left(const struct reader *r)
{
    return r->bad ? 0 : (size_t)(r->end - r->ptr);
}
