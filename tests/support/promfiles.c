#include "tests/support/promfiles.h"

#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "src/base/hash.h"
#include "src/base/num.h"

#define STALE 0x7ff0000000000002ull
#define PAGE  32768u

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void big_endian(struct buf *b, uint64_t v, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--)
        buf_u8(b, (uint8_t)(v >> (8 * i)));
}

void prom_u16(struct buf *b, uint16_t v)
{
    big_endian(b, v, 2);
}

void prom_u32(struct buf *b, uint32_t v)
{
    big_endian(b, v, 4);
}

void prom_u64(struct buf *b, uint64_t v)
{
    big_endian(b, v, 8);
}

void prom_crc(struct buf *b, size_t from)
{
    prom_u32(b, crc32c(0, b->ptr + from, b->len - from));
}

void prom_bits(struct prom_bits *p, uint64_t v, unsigned n)
{
    while (n-- > 0) {
        if (p->free == 0) {
            buf_u8(p->b, 0);
            p->free = 8;
        }
        p->free--;
        p->b->ptr[p->b->len - 1] |= (char)((v >> n & 1) << p->free);
    }
}

void prom_bit_text(struct prom_bits *p, const char *text)
{
    for (; *text; text++)
        if (*text == '0' || *text == '1')
            prom_bits(p, *text == '1', 1);
}

static void bits_uvarint(struct prom_bits *p, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        prom_bits(p, (v & 127) | 128, 8);
    prom_bits(p, v, 8);
}

static void bits_varint(struct prom_bits *p, int64_t v)
{
    bits_uvarint(p, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

/* ---- chunks ---------------------------------------------------------------------------------- */

struct window {
    unsigned leading, trailing;
    bool set;
};

/* The bits that differ, behind `same` or `fresh`, whichever window it is. */
static void put_xor(struct prom_bits *p, uint64_t x, struct window *w, const char *same,
                    const char *fresh)
{
    unsigned leading = (unsigned)__builtin_clzll(x), trailing = (unsigned)__builtin_ctzll(x), bits;

    leading = leading > 31 ? 31 : leading;
    if (w->set && leading >= w->leading && trailing >= w->trailing) {
        prom_bit_text(p, same);
        prom_bits(p, x >> w->trailing, 64 - w->leading - w->trailing);
        return;
    }
    bits = 64 - leading - trailing;
    *w = (struct window){leading, trailing, true};
    prom_bit_text(p, fresh);
    prom_bits(p, leading, 5);
    prom_bits(p, bits & 63, 6);
    prom_bits(p, x >> trailing, bits);
}

static bool fits(int64_t v, unsigned bits)
{
    return v >= -((int64_t)1 << (bits - 1)) + 1 && v <= (int64_t)1 << (bits - 1);
}

static void put_dod(struct prom_bits *p, int64_t dod)
{
    if (dod == 0) {
        prom_bit_text(p, "0");
    } else if (fits(dod, 14)) {
        prom_bit_text(p, "10");
        prom_bits(p, (uint64_t)dod, 14);
    } else if (fits(dod, 17)) {
        prom_bit_text(p, "110");
        prom_bits(p, (uint64_t)dod, 17);
    } else if (fits(dod, 20)) {
        prom_bit_text(p, "1110");
        prom_bits(p, (uint64_t)dod, 20);
    } else {
        prom_bit_text(p, "1111");
        prom_bits(p, (uint64_t)dod, 64);
    }
}

void prom_xor(struct buf *b, const int64_t *t, const double *v, size_t n)
{
    struct prom_bits p = {b, 0};
    struct window w = {0};
    uint64_t delta = 0;

    prom_u16(b, (uint16_t)n);
    for (size_t i = 0; i < n; i++) {
        const uint64_t bits = num_bits(v[i]);
        if (i == 0) {
            bits_varint(&p, t[0]);
            prom_bits(&p, bits, 64);
            continue;
        }
        if (i == 1)
            bits_uvarint(&p, (uint64_t)t[1] - (uint64_t)t[0]);
        else
            put_dod(&p, (int64_t)((uint64_t)t[i] - (uint64_t)t[i - 1] - delta));
        delta = (uint64_t)t[i] - (uint64_t)t[i - 1];
        if (bits == num_bits(v[i - 1]))
            prom_bit_text(&p, "0");
        else
            put_xor(&p, bits ^ num_bits(v[i - 1]), &w, "10", "11");
    }
}

static void put_varbit(struct prom_bits *p, int64_t v)
{
    static const uint8_t widths[] = {3, 6, 9, 12, 18, 25, 56};
    unsigned i = 0;

    if (v == 0) {
        prom_bits(p, 0, 1);
        return;
    }
    while (i < 7 && !fits(v, widths[i]))
        i++;
    for (unsigned k = 0; k <= i; k++)
        prom_bits(p, 1, 1);
    if (i < 7)
        prom_bits(p, 0, 1);
    prom_bits(p, (uint64_t)v, i < 7 ? widths[i] : 64);
}

static void put_value2(struct prom_bits *p, uint64_t bits, uint64_t base, struct window *w)
{
    if (bits == STALE)
        prom_bit_text(p, "111");
    else if (bits == base)
        prom_bit_text(p, "0");
    else
        put_xor(p, bits ^ base, w, "10", "110");
}

static void put_joint2(struct prom_bits *p, int64_t dod, uint64_t bits, uint64_t base,
                       struct window *w)
{
    if (dod == 0 && bits == STALE) {
        prom_bit_text(p, "11111");
    } else if (dod == 0 && bits == base) {
        prom_bit_text(p, "0");
    } else if (dod == 0) {
        put_xor(p, bits ^ base, w, "10 0", "10 1");
    } else {
        if (dod >= -(1 << 12) && dod < 1 << 12) {
            prom_bit_text(p, "110");
            prom_bits(p, (uint64_t)dod, 13);
        } else if (dod >= -(1 << 19) && dod < 1 << 19) {
            prom_bit_text(p, "1110");
            prom_bits(p, (uint64_t)dod, 20);
        } else {
            prom_bit_text(p, "11110");
            prom_bits(p, (uint64_t)dod, 64);
        }
        put_value2(p, bits, base, w);
    }
}

void prom_xor2(struct buf *b, const int64_t *t, const double *v, size_t n, int starts)
{
    struct prom_bits p = {b, 0};
    struct window w = {0};
    uint64_t base = 0, delta = 0;

    prom_u16(b, (uint16_t)n);
    buf_u8(b, starts == 1 ? 0x80 : starts == 2 ? 0x82 : 0);
    for (size_t i = 0; i < n; i++) {
        const uint64_t bits = num_bits(v[i]);
        if (i == 0) {
            bits_varint(&p, t[0]);
            prom_bits(&p, bits, 64);
            if (starts)
                bits_varint(&p, 60000);
        } else if (i == 1) {
            bits_uvarint(&p, (uint64_t)t[1] - (uint64_t)t[0]);
            put_value2(&p, bits, base, &w);
        } else {
            put_joint2(&p, (int64_t)((uint64_t)t[i] - (uint64_t)t[i - 1] - delta), bits, base, &w);
        }
        if (starts == 2 && i >= 2) /* any number: it is read over */
            put_varbit(&p, (int64_t)i * (int64_t)i * (i % 2 ? 977 : -41) * (i % 5 ? 1 : 1 << 20));
        delta = i ? (uint64_t)t[i] - (uint64_t)t[i - 1] : 0;
        base = bits == STALE ? base : bits;
    }
}

uint32_t prom_chunk(struct buf *file, uint8_t encoding, const struct buf *bytes)
{
    uint32_t at;
    size_t from;

    if (file->len == 0) {
        prom_u32(file, 0x85bd40dd);
        buf_append(file, "\1\0\0\0", 4);
    }
    at = (uint32_t)file->len;
    buf_uvarint(file, bytes->len);
    from = file->len;
    buf_u8(file, encoding);
    buf_append(file, bytes->ptr, bytes->len);
    prom_crc(file, from);
    return at;
}

void prom_head_chunk(struct buf *file, uint64_t ref, int64_t min, int64_t max, uint8_t encoding,
                     const struct buf *bytes)
{
    size_t from;

    if (file->len == 0) {
        prom_u32(file, 0x0130bc91);
        buf_append(file, "\1\0\0\0", 4);
    }
    from = file->len;
    prom_u64(file, ref);
    prom_u64(file, (uint64_t)min);
    prom_u64(file, (uint64_t)max);
    buf_u8(file, encoding);
    buf_uvarint(file, bytes->len);
    buf_append(file, bytes->ptr, bytes->len);
    prom_crc(file, from);
}

/* ---- the index ------------------------------------------------------------------------------- */

struct symbols {
    struct nx_slice v[512];
    uint32_t ref[512];
    size_t n;
};

static int by_bytes(const void *a, const void *b)
{
    return nx_slice_cmp(*(const struct nx_slice *)a, *(const struct nx_slice *)b);
}

static void gather(struct symbols *s, struct nx_slice x)
{
    for (size_t i = 0; i < s->n; i++)
        if (nx_slice_eq(s->v[i], x))
            return;
    must(s->n < NX_COUNT(s->v));
    s->v[s->n++] = x;
}

static uint32_t ref_of(const struct symbols *s, struct nx_slice x)
{
    size_t i = 0;

    while (!nx_slice_eq(s->v[i], x))
        i++;
    return s->ref[i];
}

static void put_symbols(struct buf *b, uint8_t version, struct symbols *s)
{
    struct buf body;
    const size_t at = b->len + 4; /* behind the length */

    buf_init(&body, 0);
    prom_u32(&body, (uint32_t)s->n);
    for (size_t i = 0; i < s->n; i++) {
        s->ref[i] = version == 1 ? (uint32_t)(at + body.len) : (uint32_t)i;
        buf_uvarint(&body, s->v[i].len);
        buf_slice(&body, s->v[i]);
    }
    prom_u32(b, (uint32_t)body.len);
    buf_append(b, body.ptr, body.len);
    prom_crc(b, at);
    buf_done(&body);
}

static void put_one_series(struct buf *b, const struct symbols *s, const struct prom_series *x)
{
    struct buf body;
    size_t from;

    buf_init(&body, 0);
    buf_uvarint(&body, x->labels.n);
    for (uint32_t i = 0; i < x->labels.n; i++) {
        buf_uvarint(&body, ref_of(s, x->labels.v[i].name));
        buf_uvarint(&body, ref_of(s, x->labels.v[i].value));
    }
    buf_uvarint(&body, x->n);
    for (size_t i = 0; i < x->n; i++) {
        const struct prom_chunk_meta *c = &x->chunks[i];
        if (i == 0)
            buf_varint(&body, c->min);
        else
            buf_uvarint(&body, (uint64_t)(c->min - c[-1].max));
        buf_uvarint(&body, (uint64_t)(c->max - c->min));
        if (i == 0)
            buf_uvarint(&body, c->ref);
        else
            buf_varint(&body, (int64_t)(c->ref - c[-1].ref));
    }
    buf_uvarint(b, body.len);
    from = b->len;
    buf_append(b, body.ptr, body.len);
    prom_crc(b, from);
    buf_done(&body);
}

void prom_index(struct buf *b, uint8_t version, struct prom_series *series, size_t n)
{
    struct symbols s = {.n = 0};
    uint64_t toc[6] = {5};
    size_t from;

    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < series[i].labels.n; k++) {
            gather(&s, series[i].labels.v[k].name);
            gather(&s, series[i].labels.v[k].value);
        }
    qsort(s.v, s.n, sizeof *s.v, by_bytes);
    prom_u32(b, 0xbaaad700);
    buf_u8(b, version);
    put_symbols(b, version, &s);
    toc[1] = b->len;
    for (size_t i = 0; i < n; i++) {
        while (version > 1 && b->len % 16)
            buf_u8(b, 0);
        series[i].id = version == 1 ? b->len : b->len / 16;
        put_one_series(b, &s, &series[i]);
    }
    toc[4] = b->len; /* one list, which nobody reads */
    prom_u32(b, 4);
    from = b->len;
    prom_u32(b, 0);
    prom_crc(b, from);
    from = b->len;
    for (unsigned i = 0; i < 6; i++)
        prom_u64(b, toc[i]);
    prom_crc(b, from);
}

void prom_meta(struct buf *b, const char *ulid, int64_t min, int64_t max, const char *hint)
{
    buf_printf(b,
               "{\"ulid\":\"%s\",\"minTime\":%lld,\"maxTime\":%lld,\"stats\":{},\"compaction\":{"
               "\"level\":1,\"sources\":[\"%s\"]%s%s%s},\"version\":1}",
               ulid, (long long)min, (long long)max, ulid, hint ? ",\"hints\":[\"" : "",
               hint ? hint : "", hint ? "\"]" : "");
}

void prom_tombstones(struct buf *b, const uint64_t *refs, const int64_t (*spans)[2], size_t n)
{
    size_t from;

    prom_u32(b, 0x0130ba30);
    buf_u8(b, 1);
    from = b->len;
    for (size_t i = 0; i < n; i++) {
        buf_uvarint(b, refs[i]);
        buf_varint(b, spans[i][0]);
        buf_varint(b, spans[i][1]);
    }
    prom_crc(b, from);
}

/* ---- the log --------------------------------------------------------------------------------- */

static void pack(struct buf *to, const struct buf *rec, char packed)
{
    size_t n =
        packed == 's' ? snappy_max_compressed_length(rec->len) : ZSTD_compressBound(rec->len);
    char *at = buf_reserve(to, n);

    must(at != NULL);
    if (packed == 's')
        must(snappy_compress(rec->ptr, rec->len, at, &n) == SNAPPY_OK);
    else
        n = ZSTD_compress(at, n, rec->ptr, rec->len, 1);
    to->len += n;
}

void prom_record(struct buf *segment, const struct buf *rec, char packed)
{
    struct buf own;
    size_t done = 0;
    bool first = true;

    buf_init(&own, 0);
    if (packed)
        pack(&own, rec, packed);
    else
        buf_append(&own, rec->ptr, rec->len);
    do {
        size_t room = PAGE - segment->len % PAGE, n;
        bool last;
        if (room < 8) {
            prom_pad_page(segment);
            room = PAGE;
        }
        n = own.len - done < room - 7 ? own.len - done : room - 7;
        last = done + n == own.len;
        buf_u8(segment, (uint8_t)((first && last ? 1
                                   : first       ? 2
                                   : last        ? 4
                                                 : 3) |
                                  (packed == 's'   ? 8
                                   : packed == 'z' ? 16
                                                   : 0)));
        prom_u16(segment, (uint16_t)n);
        prom_u32(segment, crc32c(0, own.ptr + done, n));
        buf_append(segment, own.ptr + done, n);
        done += n;
        first = false;
    } while (done < own.len);
    buf_done(&own);
}

void prom_pad_page(struct buf *segment)
{
    while (segment->len % PAGE)
        buf_u8(segment, 0);
}

void prom_series_record(struct buf *rec, uint64_t ref, const struct labels *ls)
{
    if (rec->len == 0)
        buf_u8(rec, 1);
    prom_u64(rec, ref);
    buf_uvarint(rec, ls->n);
    for (uint32_t i = 0; i < ls->n; i++) {
        buf_uvarint(rec, ls->v[i].name.len);
        buf_slice(rec, ls->v[i].name);
        buf_uvarint(rec, ls->v[i].value.len);
        buf_slice(rec, ls->v[i].value);
    }
}

void prom_samples_record(struct buf *rec, const uint64_t *refs, const int64_t *t, const double *v,
                         size_t n)
{
    buf_u8(rec, 2);
    prom_u64(rec, refs[0]);
    prom_u64(rec, (uint64_t)t[0]);
    for (size_t i = 0; i < n; i++) {
        buf_varint(rec, (int64_t)(refs[i] - refs[0]));
        buf_varint(rec, t[i] - t[0]);
        prom_u64(rec, num_bits(v[i]));
    }
}

void prom_stone_record(struct buf *rec, uint64_t ref, int64_t min, int64_t max)
{
    if (rec->len == 0)
        buf_u8(rec, 3);
    prom_u64(rec, ref);
    buf_varint(rec, min);
    buf_varint(rec, max);
}

/* ---- files ----------------------------------------------------------------------------------- */

void prom_put(struct fs *fs, const char *path, const struct buf *b)
{
    char dir[512];
    const char *slash = strrchr(path, '/');
    struct nx_err err;

    must(slash && slash - path < (int)sizeof dir);
    snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
    must(fs_mkdirs(fs, dir, &err) == NX_OK);
    must(fs_publish(fs, path, b->ptr ? b->ptr : "", b->len, &err) == NX_OK);
    for (char *p = dir + strlen(dir); p > dir; p--)
        if (*p == '/' || !*p) {
            *p = 0;
            must(fs->sync_dir(fs, dir, &err) == NX_OK);
        }
    must(fs->sync_dir(fs, ".", &err) == NX_OK);
}
