/* headfile.c - chunk files.
 *
 * WHY     A log that must hold hours is long to replay, and seals in memory for hours are what a small
 *         machine lacks. Here sealed rows are on disk minutes after they came, and a start reads where
 *         they are, not what they hold.
 * SHAPE   A header, then records (FORMAT.md): columns, seals, marks. A seal's record has a head (numbers,
 *         times, a directory of pages) and a body (pages), each page with a checksum of its own.
 * RULES   X1  Before a seal in memory gives way to a stored one, the record was synced.
 *         X2  A mark says that what is before it was synced. What comes after the last mark of a file may be
 *             half there: its pages are read and checked at a start, and the first bad one ends the
 *             file. The log still has those rows. Then a mark is set: what is bad later is damage (X4). A
 *             file that is closed ends with one, too.
 *         X3  A write or sync that fails ends the file at its last sync; records after it are written
 *             again, to another one. Should they be there all the same, of two records with the same
 *             rows the later one counts.
 *         X4  A bad record before the last mark is damage: the next good one is looked for, so it costs its
 *             own rows; the file is kept under NAME.damaged when its time has come.
 *         X5  A file goes when no seal leads to it: its rows are in blocks.
 *         X6  Version 2 brought records of loose samples (headfile_loose.c); files of version 1 are read.
 * THREADS The worker writes. Readers use pread through the cache, which locks itself. */
#include "storage/headfile.h"

#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/limits.h"
#include "src/base/log.h"
#include "storage/headfile_impl.h"
#include "storage/numbered.h"

#define FILE_MAGIC    0x4348584eu /* "NXHC" */
#define RECORD_MAGIC  0x5248584eu /* "NXHR" */
#define VERSION       2u
#define HEADER_BYTES  16u
#define RECORD_BYTES  HEADFILE_RECORD_BYTES
#define PAGE_ENTRY    HEADFILE_PAGE_ENTRY
#define FILE_BYTES    (64u << 20) /* a file is closed at this size */
#define BUFFER_BYTES  (256u << 10)
#define WINDOW_BYTES  (64u << 10)
#define PAGE_PACKED   HEADFILE_PAGE_PACKED
#define MAX_PAGE      HEADFILE_MAX_PAGE
#define MAX_HEAD      (64u << 20)
#define MAX_COLS      HEADFILE_MAX_ENTRIES
#define LZ4_MIN_BYTES 64u
#define MAX_TOLD      100u /* times that damage of one file is logged */

enum { SEAL_ASCENDING = 1, SEAL_REBOUND = 2, SEAL_MAP = 4 };

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "a chunk file");
}

static uint32_t record_crc(uint64_t at, const void *record, size_t head_bytes)
{
    uint8_t place[8];
    const char *p = record;

    put_u64le(place, at);
    return crc32c(crc32c(crc32c(0, place, 8), p, RECORD_BYTES - 4), p + RECORD_BYTES, head_bytes);
}

static uint32_t page_crc(uint64_t at, const void *page, size_t bytes)
{
    uint8_t place[8];

    put_u64le(place, at);
    return crc32c(crc32c(0, place, 8), page, bytes);
}

bool headfile_pages_good(const uint8_t *pages, uint32_t n, uint64_t n_items, uint64_t body_bytes)
{
    uint64_t last = 0;

    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *e = pages + (size_t)i * PAGE_ENTRY;
        uint64_t item = get_u32le(e), at = get_u32le(e + 4),
                 bytes = get_u32le(e + 8) & ~PAGE_PACKED;
        if ((i ? item <= last : item != 0) || item >= n_items || bytes > MAX_PAGE ||
            at + bytes > body_bytes)
            return false;
        last = item;
    }
    return n > 0;
}

/* ---- the head of a seal's record -------------------------------------------------------------- */

struct seal_head {
    uint32_t group, first, end, n_rows, n_cols, n_pages, flags;
    int64_t min_ms, max_ms;
    const uint8_t *pages; /* n_pages entries: first column, place in the body, length, CRC */
    struct nx_slice times;
    const uint8_t *map;
};

/* False: it makes no sense. */
static bool read_seal_head(const void *ptr, size_t len, uint64_t body_bytes, struct seal_head *h)
{
    struct reader r = reader_of(ptr, len);
    uint64_t group = reader_uvarint(&r), first = reader_uvarint(&r), n = reader_uvarint(&r);
    uint64_t n_rows = reader_uvarint(&r), flags = reader_uvarint(&r), n_cols, n_pages;

    h->min_ms = reader_varint(&r);
    h->max_ms = (int64_t)((uint64_t)h->min_ms + reader_uvarint(&r));
    n_cols = reader_uvarint(&r);
    n_pages = reader_uvarint(&r);
    if (r.bad || group == 0 || group >= UINT32_MAX || first >= UINT32_MAX || n == 0 ||
        n >= UINT32_MAX - first || n_rows == 0 || n_rows > n || n_rows > CHUNK_MAX_ROWS ||
        flags > 7 || h->max_ms < h->min_ms || n_cols == 0 || n_cols > MAX_COLS || n_pages > n_cols)
        return false;
    *h = (struct seal_head){.group = (uint32_t)group,
                            .first = (uint32_t)first,
                            .end = (uint32_t)(first + n),
                            .n_rows = (uint32_t)n_rows,
                            .n_cols = (uint32_t)n_cols,
                            .n_pages = (uint32_t)n_pages,
                            .flags = (uint32_t)flags,
                            .min_ms = h->min_ms,
                            .max_ms = h->max_ms};
    h->pages = (const uint8_t *)reader_bytes(&r, n_pages * PAGE_ENTRY).ptr;
    h->times = reader_bytes(&r, reader_uvarint(&r));
    if (h->flags & SEAL_MAP)
        h->map = (const uint8_t *)reader_bytes(&r, (n_cols + 7) / 8).ptr;
    if (r.bad || reader_left(&r))
        return false;
    return headfile_pages_good(h->pages, h->n_pages, n_cols, body_bytes);
}

/* ---- reading ----------------------------------------------------------------------------------- */

nx_status headfile_damage(const struct headfile_lost *lost, uint64_t at, const char *what,
                          struct nx_err *err)
{
    struct headfile *f = lost->file;
    struct headfiles *hs = f->set;
    struct nx_err own;
    nx_status st = nx_fail(err ? err : &own, NX_CORRUPT,
                           "%s/%0*u: %s at %llu; times %lld to %lld of %u series", hs->dir,
                           NUMBERED_DIGITS, f->number, what, (unsigned long long)at,
                           (long long)lost->min_ms, (long long)lost->max_ms, lost->n_series);

    if (atomic_fetch_add(&f->told, 1) < MAX_TOLD) {
        atomic_fetch_add(&hs->damaged, 1);
        log_error("Samples in a chunk file are lost", "err", err ? err->text : own.text);
    }
    return st;
}

static struct headfile_lost lost_of(const struct seal *s)
{
    return (struct headfile_lost){s->file, s->min_ms, s->max_ms, s->n_cols};
}

static nx_status damage(const struct seal *s, uint64_t at, const char *what, struct nx_err *err)
{
    struct headfile_lost lost = lost_of(s);

    return headfile_damage(&lost, at, what, err);
}

static nx_status read_exactly(const struct headfile *f, void *to, size_t len, uint64_t at,
                              bool *all, struct nx_err *err)
{
    struct fs *fs = f->set->fs;
    size_t got = 0;
    nx_status st = fs->pread(fs, f->file, to, len, at, &got, err);

    *all = got == len;
    return st;
}

/* The head of the record, as it lies in the file. */
static nx_status load_head(void *ctx, uint64_t at, uint8_t **ptr, size_t *len, struct nx_err *err)
{
    const struct seal *s = ctx;
    size_t n = RECORD_BYTES + (size_t)s->head_bytes;
    uint8_t *p = malloc(n);
    struct seal_head h;
    bool all = false;
    nx_status st = p ? read_exactly(s->file, p, n, at, &all, err) : no_memory(err);

    if (!st && (!all || get_u32le(p) != RECORD_MAGIC || get_u32le(p + 8) != s->head_bytes ||
                get_u32le(p + 16) != record_crc(at, p, s->head_bytes) ||
                !read_seal_head(p + RECORD_BYTES, s->head_bytes, get_u32le(p + 12), &h) ||
                h.n_rows != s->n_rows || h.n_cols != s->n_cols))
        st = damage(s, at, "a damaged record", err);
    if (st) {
        free(p);
        return st;
    }
    *ptr = p;
    *len = n;
    return NX_OK;
}

struct page_load {
    const struct headfile_lost *lost;
    const uint8_t *entry;
};

/* 0: it does not unpack. */
static size_t unpacked_bytes(const uint8_t *p, size_t n, size_t *head)
{
    struct reader r = reader_of(p, n);
    uint64_t raw = reader_uvarint(&r);

    *head = n - reader_left(&r);
    return r.bad || raw > MAX_PAGE ? 0 : (size_t)raw;
}

static nx_status unpack_page(const struct page_load *l, uint64_t at, uint8_t **p, size_t *n,
                             struct nx_err *err)
{
    size_t head = 0, raw = unpacked_bytes(*p, *n, &head);
    uint8_t *room = raw ? malloc(raw) : NULL;

    if (raw && !room)
        return no_memory(err);
    if (!raw || LZ4_decompress_safe((const char *)*p + head, (char *)room, (int)(*n - head),
                                    (int)raw) != (int)raw) {
        free(room);
        return headfile_damage(l->lost, at, "a page that does not unpack", err);
    }
    free(*p);
    *p = room;
    *n = raw;
    return NX_OK;
}

static nx_status load_page(void *ctx, uint64_t at, uint8_t **ptr, size_t *len, struct nx_err *err)
{
    const struct page_load *l = ctx;
    uint32_t stored = get_u32le(l->entry + 8);
    size_t n = stored & ~PAGE_PACKED;
    uint8_t *p = malloc(n + 1);
    bool all = false;
    nx_status st = p ? read_exactly(l->lost->file, p, n, at, &all, err) : no_memory(err);

    if (!st && (!all || get_u32le(l->entry + 12) != page_crc(at, p, n)))
        st = headfile_damage(l->lost, at, "a damaged page", err);
    if (!st && (stored & PAGE_PACKED))
        st = unpack_page(l, at, &p, &n, err);
    if (st) {
        free(p);
        return st;
    }
    *ptr = p;
    *len = n;
    return NX_OK;
}

nx_status headfile_page(const struct headfile_lost *lost, uint64_t body, const uint8_t *entry,
                        struct cache_page *page, struct nx_err *err)
{
    struct headfile *f = lost->file;

    return cache_get(f->set->cache, f->id, body + get_u32le(entry + 4), load_page,
                     &(struct page_load){lost, entry}, page, err);
}

static nx_status get_head(const struct seal *s, struct cache_page *page, struct seal_head *h,
                          struct nx_err *err)
{
    nx_status st = cache_get(s->file->set->cache, s->file->id, s->at, load_head,
                             (void *)(uintptr_t)s, page, err);

    if (!st)
        (void)read_seal_head(page->ptr + RECORD_BYTES, s->head_bytes, get_u32le(page->ptr + 12), h);
    return st;
}

nx_status headfile_times(const struct seal *s, int64_t *t, struct chunk_scratch *scratch,
                         struct nx_err *err)
{
    struct cache *cache = s->file->set->cache;
    struct cache_page page = {0};
    struct seal_head h;
    nx_status st = get_head(s, &page, &h, err);
    bool good = true;

    if (!st)
        st = times_decode(h.times.ptr, h.times.len, t, s->n_rows, scratch, err);
    for (uint32_t i = 0; i < s->n_rows && !st; i++)
        good = good && t[i] >= s->min_ms && t[i] <= s->max_ms &&
               (!s->ascending || i == 0 || t[i] > t[i - 1]);
    if (st == NX_CORRUPT || !good)
        st = damage(s, s->at, "timestamps that are none", err);
    cache_put(cache, &page);
    return st;
}

/* Eight lengths of one byte each, which is what nearly always comes next, are added up at once. */
static bool add_eight(struct reader *lengths, uint64_t *sum)
{
    const uint64_t odd = 0x00ff00ff00ff00ffull;
    uint64_t x;

    if (lengths->end - lengths->ptr < 8)
        return false;
    memcpy(&x, lengths->ptr, sizeof x);
    if (x & 0x8080808080808080ull)
        return false;
    *sum += (((x & odd) + (x >> 8 & odd)) * 0x0001000100010001ull) >> 48;
    lengths->ptr += 8;
    return true;
}

static bool take_length(struct reader *lengths, uint64_t *n)
{
    if (lengths->ptr < lengths->end && *lengths->ptr < 0x80)
        *n = *lengths->ptr++;
    else
        *n = reader_uvarint(lengths);
    return !lengths->bad && *n <= MAX_PAGE;
}

/* A page: how many bytes the lengths of its columns take, the lengths, the columns. */
static bool find_column(const struct cache_page *page, uint32_t nth, struct nx_slice *out)
{
    struct reader all = reader_of(page->ptr, page->len), lengths;
    struct nx_slice head = reader_bytes(&all, reader_uvarint(&all));
    uint64_t before = 0, n = 0;

    lengths = reader_of(head.ptr, head.len);
    for (uint32_t i = 0; i < nth;) {
        if (nth - i >= 8 && add_eight(&lengths, &before)) {
            i += 8;
            continue;
        }
        if (!take_length(&lengths, &n))
            return false;
        before += n;
        i++;
    }
    if (!take_length(&lengths, &n))
        return false;
    (void)reader_bytes(&all, before);
    *out = reader_bytes(&all, n);
    return !all.bad;
}

nx_status headfile_column(const struct seal *s, uint32_t col, double *v,
                          struct chunk_scratch *scratch, struct nx_err *err)
{
    struct cache *cache = s->file->set->cache;
    struct cache_page head = {0}, page = {0};
    struct seal_head h;
    struct headfile_lost lost = lost_of(s);
    struct nx_slice bytes = {0};
    const uint8_t *entry;
    uint64_t at;
    nx_status st = get_head(s, &head, &h, err);

    if (st)
        return st;
    entry = headfile_page_of(h.pages, h.n_pages, col);
    at = s->at + RECORD_BYTES + s->head_bytes;
    st = headfile_page(&lost, at, entry, &page, err);
    at += get_u32le(entry + 4);
    if (!st && !find_column(&page, col - get_u32le(entry), &bytes))
        st = damage(s, at, "a page that makes no sense", err);
    if (!st && bytes.len == 0) {
        for (uint32_t i = 0; i < s->n_rows; i++)
            v[i] = chunk_absent();
    } else if (!st) {
        st = chunk_decode(bytes.ptr, bytes.len, v, s->n_rows, scratch, err);
        if (st == NX_CORRUPT)
            st = damage(s, at, "a chunk that makes no sense", err);
    }
    cache_put(cache, &page);
    cache_put(cache, &head);
    return st;
}

/* ---- files --------------------------------------------------------------------------------------- */

struct headfile *headfile_ref(struct headfile *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

/* The set holds a reference: files are closed by headfiles_sweep() alone. */
void headfile_unref(struct headfile *f)
{
    if (f)
        atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel);
}

static void file_close(struct headfiles *hs, struct headfile *f)
{
    if (!f)
        return;
    cache_forget_file(hs->cache, f->id);
    hs->fs->close(hs->fs, f->file);
    free(f);
}

/* In the set, with its reference. */
static nx_status file_new(struct headfiles *hs, uint32_t number, int flags, struct headfile **out,
                          struct nx_err *err)
{
    struct headfile *f = NULL;
    char *path = numbered_path(hs->dir, number, "");
    nx_status st;

    if (hs->n == hs->cap) {
        size_t cap = hs->cap * 2 + 8;
        struct headfile **v = realloc(hs->v, cap * sizeof(struct headfile *));
        if (!v) {
            free(path);
            return no_memory(err);
        }
        hs->v = v;
        hs->cap = cap;
    }
    f = calloc(1, sizeof *f);
    if (!f || !path) {
        st = no_memory(err);
        goto done;
    }
    atomic_init(&f->refs, 1);
    f->set = hs;
    f->number = number;
    f->id = cache_file_id(hs->cache);
    st = hs->fs->open(hs->fs, path, flags, &f->file, err);
    if (st)
        goto done;
    hs->v[hs->n++] = f;
    atomic_store(&hs->n_files, hs->n);
    *out = f;
    f = NULL;

done:
    free(f);
    free(path);
    return st;
}

/* Takes the file off the list and deletes it, or sets it aside. */
static void file_delete(struct headfiles *hs, size_t i)
{
    struct headfile *f = hs->v[i];
    char *path = numbered_path(hs->dir, f->number, ""),
         *aside = numbered_path(hs->dir, f->number, ".damaged");
    struct nx_err err;
    nx_status st = NX_OK;

    if (path && aside)
        st = f->damaged ? hs->fs->rename(hs->fs, path, aside, &err)
                        : hs->fs->unlink(hs->fs, path, &err);
    if (st && st != NX_NOTFOUND)
        log_warn("A chunk file could not be deleted", "err", err.text);
    free(path);
    free(aside);
    atomic_fetch_sub(&hs->n_bytes, f->bytes);
    file_close(hs, f);
    hs->n--;
    memmove(&hs->v[i], &hs->v[i + 1], (hs->n - i) * sizeof hs->v[0]);
    atomic_store(&hs->n_files, hs->n);
}

void headfiles_sweep(struct headfiles *hs)
{
    for (size_t i = hs->n; i-- > 0;) { /* X5 */
        if (hs->v[i] != hs->out && atomic_load(&hs->v[i]->refs) == 1)
            file_delete(hs, i);
    }
}

/* ---- writing ------------------------------------------------------------------------------------- */

/* X3 */
void headfiles_give_up(struct headfiles *hs)
{
    struct headfile *f = hs->out;

    hs->out = NULL;
    buf_clear(&hs->buf);
    if (!f)
        return;
    (void)hs->fs->truncate(hs->fs, f->file, hs->synced, NULL);
    atomic_fetch_sub(&hs->n_bytes, f->bytes - hs->synced);
    f->bytes = hs->synced;
}

static nx_status write_buffer(struct headfiles *hs, struct nx_err *err)
{
    size_t wrote;
    nx_status st = buf_status(&hs->buf, err);

    if (!st && hs->buf.len)
        st = hs->fs->pwrite(hs->fs, hs->out->file, hs->buf.ptr, hs->buf.len, hs->written, &wrote,
                            err);
    if (st) {
        headfiles_give_up(hs);
        return st;
    }
    hs->written += hs->buf.len;
    hs->out->bytes += hs->buf.len;
    atomic_fetch_add(&hs->n_bytes, hs->buf.len);
    atomic_fetch_add(&hs->written_bytes, hs->buf.len);
    buf_clear(&hs->buf);
    return NX_OK;
}

static nx_status begin_file(struct headfiles *hs, struct nx_err *err)
{
    uint8_t h[HEADER_BYTES] = {0};
    uint32_t number = hs->next_number;
    nx_status st;

    if (hs->out)
        return NX_OK;
    st = file_new(hs, number, FS_READ | FS_WRITE | FS_CREATE | FS_TRUNCATE, &hs->out, err);
    if (st)
        return st;
    hs->next_number++;
    put_u32le(h, FILE_MAGIC);
    put_u16le(h + 4, VERSION);
    put_u32le(h + 8, number);
    put_u32le(h + 12, crc32c(0, h, 12));
    hs->written = hs->synced = 0;
    buf_clear(&hs->buf);
    buf_append(&hs->buf, h, sizeof h);
    return NX_OK;
}

void headfiles_put_record(struct headfiles *hs, uint8_t type, struct nx_slice head,
                          struct nx_slice body)
{
    struct buf *b = &hs->buf;
    uint64_t at = hs->written + b->len;
    size_t start = b->len;
    char *room = buf_reserve(b, RECORD_BYTES);

    if (!room)
        return;
    memset(room, 0, RECORD_BYTES);
    put_u32le(room, RECORD_MAGIC);
    room[4] = (char)type;
    put_u32le(room + 8, (uint32_t)head.len);
    put_u32le(room + 12, (uint32_t)body.len);
    b->len += RECORD_BYTES;
    buf_slice(b, head);
    if (b->failed == NX_OK)
        put_u32le(b->ptr + start + 16, record_crc(at, b->ptr + start, head.len));
    buf_slice(b, body);
}

/* Makes the file if need be, and a mark if what is before was synced. */
nx_status headfiles_begin_record(struct headfiles *hs, struct nx_err *err)
{
    nx_status st = begin_file(hs, err);

    if (!st && hs->buf.len >= BUFFER_BYTES)
        st = write_buffer(hs, err);
    if (!st && hs->synced && hs->written + hs->buf.len == hs->synced) /* X2 */
        headfiles_put_record(hs, RECORD_MARK, (struct nx_slice){0}, (struct nx_slice){0});
    return st;
}

/* Raw length and LZ4 block if that saves an eighth; else false. */
static bool pack(struct buf *to, const struct buf *raw)
{
    size_t start = to->len, bound = raw->len - raw->len / 8;
    int n;
    char *room;

    if (raw->len < LZ4_MIN_BYTES || raw->len > (size_t)LZ4_MAX_INPUT_SIZE)
        return false;
    buf_uvarint(to, raw->len);
    room = buf_reserve(to, bound);
    n = room ? LZ4_compress_fast(raw->ptr, room, (int)raw->len, (int)bound, 1) : 0;
    if (n <= 0) {
        to->len = start;
        return false;
    }
    to->len += (size_t)n;
    return true;
}

nx_status headfiles_put_payload(struct headfiles *hs, uint8_t type, struct nx_slice payload,
                                struct nx_err *err)
{
    nx_status st = headfiles_begin_record(hs, err);

    if (st)
        return st;
    buf_clear(&hs->page);
    buf_clear(&hs->head);
    buf_slice(&hs->page, payload);
    if (!pack(&hs->head, &hs->page)) {
        buf_clear(&hs->head);
        buf_uvarint(&hs->head, 0); /* as it is */
        buf_slice(&hs->head, payload);
    }
    headfiles_put_record(hs, type, buf_view(&hs->head), (struct nx_slice){0});
    st = buf_status(&hs->head, err);
    if (!st)
        st = buf_status(&hs->buf, err);
    if (st)
        headfiles_give_up(hs);
    return st;
}

nx_status headfiles_columns(struct headfiles *hs, struct nx_slice payload, struct nx_err *err)
{
    return headfiles_put_payload(hs, RECORD_COLUMNS, payload, err);
}

void headfiles_end_page(struct headfiles *hs, struct buf *head, uint32_t from)
{
    struct buf *p = &hs->page, *body = &hs->body;
    size_t start = body->len, n;
    uint32_t flag = pack(body, p) ? PAGE_PACKED : 0;

    if (!flag)
        buf_slice(body, buf_view(p));
    if (p->failed != NX_OK)
        body->failed = p->failed;
    n = body->len - start;
    buf_u32le(head, from);
    buf_u32le(head, (uint32_t)start);
    buf_u32le(head, (uint32_t)n | flag);
    buf_u32le(head, 0); /* its CRC, once its place is known */
}

void headfiles_sum_pages(struct headfiles *hs, char *pages, uint32_t n, uint64_t body_at)
{
    for (uint32_t i = 0; i < n; i++) {
        char *e = pages + (size_t)i * PAGE_ENTRY;
        uint32_t off = get_u32le(e + 4), len = get_u32le(e + 8) & ~PAGE_PACKED;
        put_u32le(e + 12, page_crc(body_at + off, hs->body.ptr + off, len));
    }
}

static uint32_t uvarint_bytes(uint32_t v)
{
    return 1u + (v >= 1u << 7) + (v >= 1u << 14) + (v >= 1u << 21) + (v >= 1u << 28);
}

/* Puts columns [from, to) into the body as a page and its entry into the head. */
static void put_page(struct headfiles *hs, const struct seal *s, uint32_t from, uint32_t to)
{
    struct buf *p = &hs->page;
    uint32_t bytes = 0;

    buf_clear(p);
    for (uint32_t c = from; c < to; c++)
        bytes += uvarint_bytes(s->off[c + 1] - s->off[c]);
    buf_uvarint(p, bytes);
    for (uint32_t c = from; c < to; c++)
        buf_uvarint(p, s->off[c + 1] - s->off[c]);
    buf_append(p, seal_data(s) + s->off[from], s->off[to] - s->off[from]);
    headfiles_end_page(hs, &hs->head, from);
}

static uint32_t put_pages(struct headfiles *hs, const struct seal *s)
{
    uint32_t from = 0, n = 0;

    for (uint32_t c = 1; c <= s->n_cols; c++) {
        if (c < s->n_cols && s->off[c] - s->off[from] + (c - from) < HEADFILE_PAGE_BYTES)
            continue;
        put_page(hs, s, from, c);
        from = c;
        n++;
    }
    return n;
}

static void put_map(struct buf *b, const struct seal *s)
{
    for (uint32_t c = 0; c < s->n_cols; c += 8) {
        unsigned byte = 0;
        for (uint32_t i = c; i < c + 8 && i < s->n_cols; i++)
            byte |= (unsigned)seal_has(s, i) << (i - c);
        buf_u8(b, (uint8_t)byte);
    }
}

/* The head, with the pages' entries from *pages_at on, and the body. */
static nx_status make_seal(struct headfiles *hs, uint32_t group, const struct seal *s,
                           size_t *pages_at, uint32_t *n_pages, struct nx_err *err)
{
    struct buf *h = &hs->head, entries = {0};
    bool map = false;
    nx_status st;

    buf_clear(h);
    buf_clear(&hs->body);
    buf_init(&entries, MAX_HEAD);
    *n_pages = put_pages(hs, s);
    buf_slice(&entries, buf_view(h));
    if (h->failed != NX_OK)
        entries.failed = h->failed;
    buf_clear(h);
    for (uint32_t c = 0; c < s->n_cols && !map; c++)
        map = !seal_has(s, c);
    buf_uvarint(h, group);
    buf_uvarint(h, s->first);
    buf_uvarint(h, s->end - s->first);
    buf_uvarint(h, s->n_rows);
    buf_uvarint(h, (s->ascending ? SEAL_ASCENDING : 0u) | (s->rebound ? SEAL_REBOUND : 0u) |
                       (map ? SEAL_MAP : 0u));
    buf_varint(h, s->min_ms);
    buf_uvarint(h, (uint64_t)s->max_ms - (uint64_t)s->min_ms);
    buf_uvarint(h, s->n_cols);
    buf_uvarint(h, *n_pages);
    *pages_at = h->len;
    buf_slice(h, buf_view(&entries));
    buf_uvarint(h, s->off[s->n_cols + 1] - s->off[s->n_cols]);
    buf_append(h, seal_data(s) + s->off[s->n_cols], s->off[s->n_cols + 1] - s->off[s->n_cols]);
    if (map)
        put_map(h, s);
    st = buf_status(&entries, err);
    if (!st)
        st = buf_status(h, err);
    if (!st)
        st = buf_status(&hs->body, err);
    buf_done(&entries);
    return st;
}

nx_status headfiles_seal(struct headfiles *hs, uint32_t group, const struct seal *s,
                         struct seal **stored, struct nx_err *err)
{
    nx_status st;
    size_t pages_at;
    uint32_t n_pages;
    uint64_t at;

    st = make_seal(hs, group, s, &pages_at, &n_pages, err);
    if (!st)
        st = headfiles_begin_record(hs, err);
    if (st)
        return st;
    at = hs->written + hs->buf.len;
    headfiles_sum_pages(hs, hs->head.ptr + pages_at, n_pages, at + RECORD_BYTES + hs->head.len);
    headfiles_put_record(hs, RECORD_SEAL, buf_view(&hs->head), buf_view(&hs->body));
    st = buf_status(&hs->buf, err);
    *stored = st ? NULL : seal_stored_at(s, hs->out, at, (uint32_t)hs->head.len);
    if (!st && !*stored)
        st = no_memory(err);
    if (st)
        headfiles_give_up(hs);
    return st;
}

uint32_t headfiles_number(const struct headfiles *hs)
{
    return hs->out ? hs->out->number : 0;
}

size_t headfiles_unsynced(const struct headfiles *hs)
{
    return hs->out ? (size_t)(hs->written - hs->synced) + hs->buf.len : 0;
}

nx_status headfiles_sync(struct headfiles *hs, struct nx_err *err)
{
    bool fresh = hs->synced == 0;
    nx_status st;

    if (headfiles_unsynced(hs) == 0)
        return NX_OK;
    st = write_buffer(hs, err);
    if (st)
        return st;
    st = hs->fs->sync(hs->fs, hs->out->file, err);
    if (!st && fresh)
        st = hs->fs->sync_dir(hs->fs, hs->dir, err);
    if (st) {
        headfiles_give_up(hs);
        return st;
    }
    hs->synced = hs->written;
    buf_done(&hs->buf); /* grown by the largest batch; the next may be small, or long to come */
    buf_done(&hs->page);
    if (hs->written >= FILE_BYTES)
        headfiles_rotate(hs);
    return NX_OK;
}

/* X2. Without space for it the next start checks the file again. */
static void put_last_mark(struct headfiles *hs, struct headfile *f)
{
    uint8_t r[RECORD_BYTES] = {0};
    size_t wrote;

    put_u32le(r, RECORD_MAGIC);
    r[4] = RECORD_MARK;
    put_u32le(r + 16, record_crc(f->bytes, r, 0));
    if (hs->fs->pwrite(hs->fs, f->file, r, sizeof r, f->bytes, &wrote, NULL)) {
        (void)hs->fs->truncate(hs->fs, f->file, f->bytes, NULL);
        return;
    }
    f->bytes += sizeof r;
    atomic_fetch_add(&hs->n_bytes, sizeof r);
}

void headfiles_rotate(struct headfiles *hs)
{
    NX_ASSERT(headfiles_unsynced(hs) == 0);
    if (hs->out && hs->synced)
        put_last_mark(hs, hs->out);
    hs->out = NULL;
}

/* ---- at a start ----------------------------------------------------------------------------------- */

/* A view of a stretch of the file. */
struct window {
    struct headfile *f;
    struct buf buf;
    uint64_t base;
};

/* *p: `n` bytes at `at`; NULL: the file ends before. */
static nx_status window_at(struct window *w, uint64_t at, size_t n, const char **p,
                           struct nx_err *err)
{
    struct fs *fs = w->f->set->fs;
    size_t ask = n > WINDOW_BYTES ? n : WINDOW_BYTES, got = 0;
    char *room;
    nx_status st;

    *p = NULL;
    if (at + n > w->f->bytes)
        return NX_OK;
    if (at < w->base || at + n > w->base + w->buf.len) {
        buf_clear(&w->buf);
        room = buf_reserve(&w->buf, ask);
        if (!room)
            return buf_status(&w->buf, err);
        st = fs->pread(fs, w->f->file, room, ask, at, &got, err);
        if (st)
            return st;
        w->base = at;
        w->buf.len = got;
        if (got < n)
            return NX_OK;
    }
    *p = w->buf.ptr + (at - w->base);
    return NX_OK;
}

struct record {
    uint64_t at;
    uint8_t type;
    uint32_t head_bytes, body_bytes;
    const char *head; /* valid until the window moves */
};

/* The record at `at`; *good tells whether there is one, whole. */
static nx_status record_at(struct window *w, uint64_t at, struct record *r, bool *good,
                           struct nx_err *err)
{
    const char *p;
    nx_status st = window_at(w, at, RECORD_BYTES, &p, err);

    *good = false;
    if (st || !p || get_u32le(p) != RECORD_MAGIC)
        return st;
    *r = (struct record){.at = at,
                         .type = (uint8_t)p[4],
                         .head_bytes = get_u32le(p + 8),
                         .body_bytes = get_u32le(p + 12)};
    if (r->head_bytes > MAX_HEAD || r->type < RECORD_COLUMNS || r->type > RECORD_SAMPLES)
        return NX_OK;
    st = window_at(w, at, RECORD_BYTES + r->head_bytes, &p, err);
    if (st || !p)
        return st;
    r->head = p + RECORD_BYTES;
    *good = get_u32le(p + 16) == record_crc(at, p, r->head_bytes) &&
            at + RECORD_BYTES + r->head_bytes + r->body_bytes <= w->f->bytes;
    return NX_OK;
}

/* The next good record from `at` on; *good is false if there is none. */
static nx_status find_record(struct window *w, uint64_t at, struct record *r, bool *good,
                             struct nx_err *err)
{
    nx_status st = NX_OK;
    const char *p = "";

    *good = false;
    for (; !*good && !st && p; at++) {
        st = window_at(w, at, 4, &p, err);
        if (!st && p && get_u32le(p) == RECORD_MAGIC)
            st = record_at(w, at, r, good, err);
    }
    return st;
}

/* A seal, or samples, that are described and not yet known to be whole. */
struct found {
    uint64_t at;
    uint32_t group;
    struct seal *seal; /* one of both */
    struct loose_batch *batch;
};

struct scan {
    struct headfiles *hs;
    const struct headfile_visitor *v;
    struct window w;
    struct buf raw;
    struct found *found; /* since the last mark */
    size_t n_found, cap_found;
    uint64_t end; /* of the last good record */
    uint64_t gap; /* where no record was found, since the last mark; 0: nowhere */
    uint64_t gap_bytes;
    bool marked; /* the last record is a mark */
};

static bool found_room(struct scan *sc)
{
    size_t cap = sc->cap_found * 2 + 16;
    struct found *more;

    if (sc->n_found < sc->cap_found)
        return true;
    more = realloc(sc->found, cap * sizeof *more);
    if (!more)
        return false;
    sc->found = more;
    sc->cap_found = cap;
    return true;
}

/* Which series the samples are of is asked now: the file may give their numbers to others later. */
static nx_status found_samples(struct scan *sc, const struct record *r, struct nx_err *err)
{
    struct loose_batch *b = NULL;
    nx_status st;

    if (headfiles_is_gone(sc->hs, sc->w.f->number, r->at))
        return NX_OK;
    if (!found_room(sc))
        return no_memory(err);
    st = headfile_found_samples(sc->w.f, r->at, (struct nx_slice){r->head, r->head_bytes},
                                r->body_bytes, &b, err);
    if (!st)
        st = sc->v->number(sc->v->ctx, sc->w.f->number, b, err);
    if (st) {
        loose_batch_unref(b);
        return st;
    }
    sc->found[sc->n_found++] = (struct found){.at = r->at, .batch = b};
    return NX_OK;
}

static nx_status found_seal(struct scan *sc, const struct record *r, struct nx_err *err)
{
    struct seal_head h;
    struct seal *s;

    if (!read_seal_head(r->head, r->head_bytes, r->body_bytes, &h))
        return nx_fail(err, NX_CORRUPT, "a seal that makes no sense");
    if (!found_room(sc))
        return no_memory(err);
    s = calloc(1, sizeof *s + (h.map ? (h.n_cols + 31) / 32 : 0) * sizeof s->off[0]);
    if (!s)
        return no_memory(err);
    atomic_init(&s->refs, 1);
    s->first = h.first;
    s->end = h.end;
    s->n_rows = h.n_rows;
    s->n_cols = h.n_cols;
    s->min_ms = h.min_ms;
    s->max_ms = h.max_ms;
    s->ascending = h.flags & SEAL_ASCENDING;
    s->rebound = h.flags & SEAL_REBOUND;
    s->has_map = h.map != NULL;
    for (uint32_t c = 0; h.map && c < h.n_cols; c++)
        s->off[c / 32] |= (uint32_t)(h.map[c / 8] >> c % 8 & 1) << c % 32;
    s->file = headfile_ref(sc->w.f);
    s->at = r->at;
    s->head_bytes = r->head_bytes;
    sc->found[sc->n_found++] = (struct found){.at = r->at, .group = h.group, .seal = s};
    return NX_OK;
}

/* Columns of a group or series, as the type says. */
static nx_status tell_columns(struct scan *sc, uint8_t type, struct nx_slice payload,
                              struct nx_err *err)
{
    if (type == RECORD_SERIES)
        return sc->v->series(sc->v->ctx, sc->w.f->number, payload, err);
    return sc->v->columns(sc->v->ctx, payload, err);
}

static nx_status found_columns(struct scan *sc, const struct record *r, struct nx_err *err)
{
    struct reader in = reader_of(r->head, r->head_bytes);
    uint64_t raw = reader_uvarint(&in);
    size_t left = reader_left(&in);
    char *room;

    if (in.bad || raw > NX_LIMIT_WAL_RECORD_BYTES || raw > 256 * (uint64_t)left)
        return nx_fail(err, NX_CORRUPT, "columns of a wrong length");
    if (raw == 0)
        return tell_columns(sc, r->type, nx_slice_of((const char *)in.ptr, left), err);
    buf_clear(&sc->raw);
    room = buf_reserve(&sc->raw, raw);
    if (!room)
        return buf_status(&sc->raw, err);
    if (LZ4_decompress_safe((const char *)in.ptr, room, (int)left, (int)raw) != (int)raw)
        return nx_fail(err, NX_CORRUPT, "columns that do not unpack");
    return tell_columns(sc, r->type, nx_slice_of(room, raw), err);
}

/* What was found is whole: hands it on. */
static nx_status accept_found(struct scan *sc, size_t n, struct nx_err *err)
{
    nx_status st = NX_OK;
    size_t i = 0;

    for (; i < n && !st; i++) {
        const struct found *f = &sc->found[i];
        st = f->batch ? sc->v->samples(sc->v->ctx, f->batch, err)
                      : sc->v->seal(sc->v->ctx, f->group, f->seal, err);
    }
    for (; i < sc->n_found; i++) {
        seal_unref(sc->found[i].seal);
        loose_batch_unref(sc->found[i].batch);
    }
    sc->n_found = 0;
    return st;
}

/* Copies the directory of the pages of what was found; *body: where they begin. Leaves none if it is gone. */
static nx_status found_pages(struct scan *sc, const struct found *f, struct buf *entries,
                             uint64_t *body, struct nx_err *err)
{
    const struct loose_batch *b = f->batch;
    struct record r;
    struct seal_head h;
    bool good = false;
    nx_status st;

    if (b) {
        *body = b->at + RECORD_BYTES + b->head_bytes;
        buf_append(entries, b->pages, (size_t)b->n_pages * PAGE_ENTRY);
        return buf_status(entries, err);
    }
    st = record_at(&sc->w, f->at, &r, &good, err);
    if (st || !good || !read_seal_head(r.head, r.head_bytes, r.body_bytes, &h))
        return st;
    *body = f->at + RECORD_BYTES + r.head_bytes;
    buf_append(entries, h.pages, (size_t)h.n_pages * PAGE_ENTRY);
    return buf_status(entries, err);
}

/* X2: the pages are as their checksums say. */
static nx_status pages_whole(struct scan *sc, const struct found *f, bool *whole,
                             struct nx_err *err)
{
    struct buf entries = {0};
    uint64_t body = 0;
    nx_status st;

    buf_init(&entries, 0);
    st = found_pages(sc, f, &entries, &body, err);
    *whole = !st && entries.len;
    for (size_t i = 0; i < entries.len && *whole && !st; i += PAGE_ENTRY) {
        const char *e = entries.ptr + i, *p;
        uint64_t at = body + get_u32le(e + 4);
        size_t n = get_u32le(e + 8) & ~PAGE_PACKED;
        st = window_at(&sc->w, at, n, &p, err);
        *whole = !st && p && page_crc(at, p, n) == get_u32le(e + 12);
    }
    buf_done(&entries);
    return st;
}

/* What follows the last mark; the first torn one ends the file. */
static nx_status check_found(struct scan *sc, struct nx_err *err)
{
    nx_status st = NX_OK;
    size_t n = 0;
    bool whole = true;

    while (n < sc->n_found && whole && !st) {
        if (sc->gap && sc->found[n].at > sc->gap)
            break;
        st = pages_whole(sc, &sc->found[n], &whole, err);
        if (whole && !st)
            n++;
    }
    if (!st && !whole)
        sc->end = sc->found[n].at;
    else if (!st && sc->gap)
        sc->end = sc->gap;
    nx_status handed = accept_found(sc, st ? 0 : n, st ? NULL : err);
    return st ? st : handed;
}

static void count_damage(struct headfile *f, uint64_t at, uint64_t bytes, const char *what)
{
    struct headfiles *hs = f->set;

    f->damaged = true;
    atomic_fetch_add(&hs->damaged, 1);
    atomic_fetch_add(&hs->lost_bytes, bytes);
    log_error("Damage in a chunk file: the rows in it are lost", "dir", hs->dir, "file",
              log_fmt("%0*u", NUMBERED_DIGITS, f->number), "offset",
              log_fmt("%llu", (unsigned long long)at), "bytes",
              log_fmt("%llu", (unsigned long long)bytes), "what", what);
}

static nx_status scan_records(struct scan *sc, struct nx_err *err)
{
    struct headfile *f = sc->w.f;
    struct nx_err why = {0};
    uint64_t at = HEADER_BYTES;
    nx_status st = NX_OK;

    sc->end = at;
    while (at < f->bytes && !st) {
        struct record r;
        bool good = false;
        st = record_at(&sc->w, at, &r, &good, err);
        if (!st && !good) {
            st = find_record(&sc->w, at + 1, &r, &good, err); /* X4 */
            if (st || !good)
                break; /* a torn end */
            if (!sc->gap)
                sc->gap = at;
            sc->gap_bytes += r.at - at;
        }
        if (st)
            break;
        if (r.type == RECORD_MARK && sc->gap) {
            count_damage(f, sc->gap, sc->gap_bytes, "no record");
            sc->gap = sc->gap_bytes = 0;
        }
        if (r.type == RECORD_MARK)
            st = accept_found(sc, sc->n_found, err);
        else if (r.type == RECORD_SEAL)
            st = found_seal(sc, &r, &why);
        else
            st = r.type == RECORD_SAMPLES ? found_samples(sc, &r, &why)
                                          : found_columns(sc, &r, &why);
        if (st == NX_CORRUPT) {
            count_damage(f, r.at, RECORD_BYTES + r.head_bytes, why.text);
            st = NX_OK;
        } else if (st && r.type != RECORD_MARK) {
            st = nx_fail(err, st, "%s", why.text);
        }
        sc->marked = r.type == RECORD_MARK;
        at = sc->end = r.at + RECORD_BYTES + r.head_bytes + r.body_bytes;
    }
    return st;
}

/* X2: what is after the end was never synced, or is damage after which nothing good comes. */
static void cut_end(struct scan *sc)
{
    struct headfiles *hs = sc->hs;
    struct headfile *f = sc->w.f;
    struct nx_err err = {0};
    nx_status st;

    if (sc->end >= f->bytes) {
        if (!sc->marked && f->bytes > HEADER_BYTES)
            put_last_mark(hs, f);
        return;
    }
    st = hs->fs->truncate(hs->fs, f->file, sc->end, &err);
    if (!st)
        st = hs->fs->sync(hs->fs, f->file, &err);
    atomic_fetch_add(&hs->lost_bytes, f->bytes - sc->end);
    atomic_fetch_sub(&hs->n_bytes, f->bytes - sc->end);
    log_warn("Cut the torn end of a chunk file", "dir", hs->dir, "file",
             log_fmt("%0*u", NUMBERED_DIGITS, f->number), "offset",
             log_fmt("%llu", (unsigned long long)sc->end), "bytes",
             log_fmt("%llu", (unsigned long long)(f->bytes - sc->end)), "err",
             st ? err.text : NULL);
    f->bytes = sc->end;
    if (!st && f->bytes > HEADER_BYTES)
        put_last_mark(hs, f);
}

static nx_status check_header(struct window *w, bool *good, struct nx_err *err)
{
    const struct headfile *f = w->f;
    const char *h;
    nx_status st = window_at(w, 0, HEADER_BYTES, &h, err);

    *good = false;
    if (st || !h || get_u32le(h) != FILE_MAGIC || get_u32le(h + 12) != crc32c(0, h, 12) ||
        get_u32le(h + 8) != f->number)
        return st;
    if (get_u16le(h + 4) == 0 || get_u16le(h + 4) > VERSION)
        return nx_fail(
            err, NX_UNAVAILABLE,
            "%s/%0*u is in version %u of the format of chunk files, this program reads up to %u",
            f->set->dir, NUMBERED_DIGITS, f->number, get_u16le(h + 4), VERSION);
    *good = true;
    return NX_OK;
}

static nx_status scan_file(struct headfiles *hs, uint32_t number, const struct headfile_visitor *v,
                           struct nx_err *err)
{
    struct scan sc = {.hs = hs, .v = v};
    bool good = false;
    nx_status st = file_new(hs, number, FS_READ | FS_WRITE, &sc.w.f, err);

    if (st)
        return st;
    buf_init(&sc.w.buf, 0);
    buf_init(&sc.raw, 0);
    st = hs->fs->size(hs->fs, sc.w.f->file, &sc.w.f->bytes, err);
    atomic_fetch_add(&hs->n_bytes, sc.w.f->bytes);
    if (!st)
        st = check_header(&sc.w, &good, err);
    if (!st && good) {
        st = scan_records(&sc, err);
        if (!st)
            st = check_found(&sc, err);
        if (!st)
            cut_end(&sc);
    } else if (!st && sc.w.f->bytes > HEADER_BYTES) { /* shorter it never held anything */
        count_damage(sc.w.f, 0, sc.w.f->bytes, "no header");
    }
    (void)accept_found(&sc, 0, NULL);
    buf_done(&sc.w.buf);
    buf_done(&sc.raw);
    free(sc.found);
    return st;
}

static nx_status scan_all(struct headfiles *hs, const struct headfile_visitor *v,
                          struct nx_err *err)
{
    struct fs_names names = {0};
    nx_status st = hs->fs->list(hs->fs, hs->dir, &names, err);

    for (size_t i = 0; i < names.n && !st; i++) {
        uint32_t number = numbered_of(names.v[i]);
        if (!number)
            continue;
        if (number >= hs->next_number)
            hs->next_number = number + 1; /* also after those set aside */
        if (strlen(names.v[i]) == NUMBERED_DIGITS)
            st = scan_file(hs, number, v, err);
    }
    fs_names_done(&names);
    return st;
}

nx_status headfiles_open(struct headfiles **out, struct fs *fs, const char *dir,
                         struct cache *cache, const struct headfile_visitor *v, struct nx_err *err)
{
    struct headfiles *hs = calloc(1, sizeof *hs);
    nx_status st;

    if (!hs)
        return no_memory(err);
    hs->fs = fs;
    hs->cache = cache;
    hs->next_number = 1;
    buf_init(&hs->buf, 0);
    buf_init(&hs->page, 0);
    buf_init(&hs->head, MAX_HEAD);
    buf_init(&hs->body, UINT32_MAX);
    hs->dir = strdup(dir);
    st = hs->dir ? fs_mkdirs(fs, dir, err) : no_memory(err);
    if (!st)
        st = headfiles_gone_load(hs, err);
    if (!st)
        st = scan_all(hs, v, err);
    /* The seals that were handed on lead here: the caller closes it after them, in any case. */
    *out = hs;
    return st;
}

void headfiles_close(struct headfiles *hs)
{
    if (!hs)
        return;
    if (headfiles_unsynced(hs) == 0)
        headfiles_rotate(hs);
    for (size_t i = 0; i < hs->n; i++) {
        NX_ASSERT(atomic_load(&hs->v[i]->refs) == 1);
        file_close(hs, hs->v[i]);
    }
    buf_done(&hs->buf);
    buf_done(&hs->page);
    buf_done(&hs->head);
    buf_done(&hs->body);
    headfiles_loose_done(hs);
    free(hs->v);
    free(hs->dir);
    free(hs);
}

void headfiles_get_stats(struct headfiles *hs, struct headfile_stats *out)
{
    *out = (struct headfile_stats){.files = atomic_load(&hs->n_files),
                                   .bytes = atomic_load(&hs->n_bytes),
                                   .written_bytes = atomic_load(&hs->written_bytes),
                                   .damaged = atomic_load(&hs->damaged),
                                   .lost_bytes = atomic_load(&hs->lost_bytes)};
}
