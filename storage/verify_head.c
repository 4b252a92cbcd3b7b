/* verify_head.c - chunk files are read record by record and page by page, and what is wrong is told.
 *
 * This is a reader of its own, after FORMAT.md ("Chunk files"), and shares nothing with headfile.c: that one
 * reads what a start needs and leaves pages to those who ask for them. Here every checksum is looked
 * at, whether a row is still needed or in a block already.
 *
 * RULES   VH1  After a bad record the next good one is looked for. Without one the file ends there: a power
 *              cut leaves that, and so it is told in those words.
 *         VH2  A file that is deleted meanwhile is no problem. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "storage/storage.h"

#define FILE_MAGIC   0x4348584eu /* "NXHC" */
#define RECORD_MAGIC "NXHR"
#define HEADER_BYTES 16u
#define RECORD_BYTES 20u
#define MAX_HEAD     (64u << 20)
#define MAX_PAGE     (16u << 20)
#define WINDOW_BYTES (256u << 10)
#define NAME_DIGITS  8u
#define PAGE_ENTRY   16u
#define PAGE_PACKED  0x80000000u
#define TEXT_BYTES   400u

enum { COLUMNS = 1, SEAL = 2, MARK = 3, SERIES = 4, SAMPLES = 5 };

struct verify {
    struct fs *fs;
    struct fs_file *file;
    const char *path;
    uint64_t bytes; /* of the file */
    struct buf head, body;
    storage_problem_fn *problem;
    void *ctx;
    struct storage_verified *out;
};

static void tell(struct verify *v, uint64_t at, const char *what)
{
    struct storage_problem p = {v->path, (int64_t)at, what};

    v->out->problems++;
    v->problem(v->ctx, &p);
}

/* *all: there are that many bytes. */
static nx_status read_at(struct verify *v, struct buf *to, uint64_t at, size_t n, bool *all,
                         struct nx_err *err)
{
    char *room;
    size_t got = 0;
    nx_status st;

    buf_clear(to);
    *all = at <= v->bytes && n <= v->bytes - at;
    if (!*all)
        return NX_OK;
    room = buf_reserve(to, n + 1);
    if (!room)
        return buf_status(to, err);
    st = v->fs->pread(v->fs, v->file, room, n, at, &got, err);
    to->len = got;
    *all = got == n;
    return st;
}

static uint32_t placed_crc(uint64_t at, const char *a, size_t n, const char *b, size_t m)
{
    uint8_t place[8];

    put_u64le(place, at);
    return crc32c(crc32c(crc32c(0, place, sizeof place), a, n), b, m);
}

struct record {
    uint64_t at;
    uint8_t type;
    uint32_t head_bytes, body_bytes;
};

static uint64_t record_end(const struct record *r)
{
    return r->at + RECORD_BYTES + r->head_bytes + r->body_bytes;
}

/* The record at `at`, its head in v->head behind the record's own bytes; *good: it is whole. */
static nx_status get_record(struct verify *v, uint64_t at, struct record *r, bool *good,
                            struct nx_err *err)
{
    const char *p;
    bool all = false;
    nx_status st = read_at(v, &v->head, at, RECORD_BYTES, &all, err);

    *good = false;
    if (st || !all || memcmp(v->head.ptr, RECORD_MAGIC, 4) != 0)
        return st;
    p = v->head.ptr;
    *r = (struct record){at, (uint8_t)p[4], get_u32le(p + 8), get_u32le(p + 12)};
    if (r->type < COLUMNS || r->type > SAMPLES || r->head_bytes > MAX_HEAD)
        return NX_OK;
    st = read_at(v, &v->head, at, RECORD_BYTES + (size_t)r->head_bytes, &all, err);
    if (st || !all)
        return st;
    p = v->head.ptr;
    *good = get_u32le(p + 16) == placed_crc(at, p, 16, p + RECORD_BYTES, r->head_bytes) &&
            record_end(r) <= v->bytes;
    return NX_OK;
}

/* VH1: the next good record after `at`. */
static nx_status find_record(struct verify *v, uint64_t at, struct record *r, bool *good,
                             struct nx_err *err)
{
    nx_status st = NX_OK;

    *good = false;
    while (at < v->bytes && !st && !*good) {
        size_t n = v->bytes - at < WINDOW_BYTES ? (size_t)(v->bytes - at) : WINDOW_BYTES;
        bool all = false;
        st = read_at(v, &v->body, at, n, &all, err);
        for (size_t i = 0; !st && !*good && i + 4 <= v->body.len; i++) {
            if (memcmp(v->body.ptr + i, RECORD_MAGIC, 4) == 0)
                st = get_record(v, at + i, r, good, err);
        }
        at += n > 3 && n == WINDOW_BYTES ? n - 3 : n; /* a magic may lie across two windows */
    }
    return st;
}

/* ---- seals and samples ----------------------------------------------------------------------- */

struct seal {
    uint64_t group, n_rows, n_cols, n_pages;
    int64_t min_ms, max_ms;
    const char *pages;
};

static bool parse_seal(const char *head, size_t len, struct seal *s)
{
    struct reader r = reader_of(head, len);
    uint64_t flags;

    s->group = reader_uvarint(&r);
    (void)reader_uvarint(&r); /* the first row */
    (void)reader_uvarint(&r); /* how many numbers it covers */
    s->n_rows = reader_uvarint(&r);
    flags = reader_uvarint(&r);
    s->min_ms = reader_varint(&r);
    s->max_ms = (int64_t)((uint64_t)s->min_ms + reader_uvarint(&r));
    s->n_cols = reader_uvarint(&r);
    s->n_pages = reader_uvarint(&r);
    if (r.bad || s->n_pages > reader_left(&r) / PAGE_ENTRY || s->max_ms < s->min_ms)
        return false;
    s->pages = reader_bytes(&r, (size_t)s->n_pages * PAGE_ENTRY).ptr;
    uint64_t times = reader_uvarint(&r);
    if (r.bad || times > reader_left(&r))
        return false;
    (void)reader_bytes(&r, (size_t)times);
    if (flags & 4)
        (void)reader_bytes(&r, (size_t)((s->n_cols + 7) / 8));
    return !r.bad && reader_left(&r) == 0;
}

/* Samples of series that are not in rows: the items are entries. */
static bool parse_samples(const char *head, size_t len, struct seal *s)
{
    struct reader r = reader_of(head, len);
    uint64_t span, number = 0;

    s->n_cols = reader_uvarint(&r);
    s->n_rows = reader_uvarint(&r);
    s->min_ms = reader_varint(&r);
    span = reader_uvarint(&r);
    s->n_pages = reader_uvarint(&r);
    if (r.bad || s->n_cols == 0 || s->n_pages > reader_left(&r) / PAGE_ENTRY || span > UINT32_MAX ||
        s->min_ms > INT64_MAX - (int64_t)span)
        return false;
    s->max_ms = s->min_ms + (int64_t)span;
    s->pages = reader_bytes(&r, (size_t)s->n_pages * PAGE_ENTRY).ptr;
    for (uint64_t i = 0; i < s->n_cols && !r.bad; i++) {
        number += reader_uvarint(&r);
        uint64_t first = reader_uvarint(&r), last = reader_uvarint(&r);
        if (number == 0 || number >= UINT32_MAX || first > span || last > span - first)
            return false;
    }
    return !r.bad && reader_left(&r) == 0;
}

static void describe(const struct seal *s, bool samples, uint64_t first, uint64_t end, char *text)
{
    if (samples)
        snprintf(text, TEXT_BYTES,
                 "the checksum of a page does not match: samples of %llu series, of %lld to %lld",
                 (unsigned long long)(end - first), (long long)s->min_ms, (long long)s->max_ms);
    else
        snprintf(text, TEXT_BYTES,
                 "the checksum of a page does not match: columns %llu to %llu of group %llu, %llu "
                 "rows of %lld to %lld",
                 (unsigned long long)first, (unsigned long long)end - 1,
                 (unsigned long long)s->group, (unsigned long long)s->n_rows, (long long)s->min_ms,
                 (long long)s->max_ms);
}

static nx_status check_pages(struct verify *v, const struct record *r, struct nx_err *err)
{
    const uint64_t body = r->at + RECORD_BYTES + r->head_bytes;
    const bool samples = r->type == SAMPLES;
    const char *head = v->head.ptr + RECORD_BYTES;
    struct seal s = {0};
    char text[TEXT_BYTES];
    nx_status st = NX_OK;

    if (samples ? !parse_samples(head, r->head_bytes, &s) : !parse_seal(head, r->head_bytes, &s)) {
        tell(v, r->at, samples ? "samples that do not decode" : "a seal that does not decode");
        return NX_OK;
    }
    for (uint64_t i = 0; i < s.n_pages && !st; i++) {
        const char *e = s.pages + i * PAGE_ENTRY;
        uint64_t first = get_u32le(e), off = get_u32le(e + 4);
        uint64_t end = i + 1 < s.n_pages ? get_u32le(e + PAGE_ENTRY) : s.n_cols;
        uint32_t n = get_u32le(e + 8) & ~PAGE_PACKED;
        bool all = n <= MAX_PAGE && off + n <= r->body_bytes && first < end;
        if (all)
            st = read_at(v, &v->body, body + off, n, &all, err);
        v->out->pages++;
        if (st || (all && placed_crc(body + off, v->body.ptr, n, "", 0) == get_u32le(e + 12)))
            continue;
        describe(&s, samples, first, end, text);
        tell(v, body + off, text);
    }
    return st;
}

/* ---- the note of what is gone ------------------------------------------------------------------ */

static bool gone_good(const char *p, size_t n)
{
    struct reader r = reader_of(p, n);
    uint64_t entries, number = 0;

    if (n < 13 || memcmp(p, "NXHG", 4) != 0 || get_u16le(p + 4) != 1 ||
        get_u32le(p + n - 4) != crc32c(0, p, n - 4))
        return false;
    (void)reader_bytes(&r, 8);
    entries = reader_uvarint(&r);
    for (uint64_t i = 0; i < entries && !r.bad; i++) {
        number += reader_uvarint(&r);
        (void)reader_uvarint(&r);
        if (number == 0 || number >= UINT32_MAX)
            return false;
    }
    return !r.bad && reader_left(&r) == 4;
}

static nx_status check_gone(struct verify *v, const char *head, struct nx_err *err)
{
    char *path = NULL;
    nx_status st;

    if (asprintf(&path, "%s/gone", head) < 0)
        return nx_fail(err, NX_NOMEM, "verifying: out of memory");
    v->path = path;
    buf_clear(&v->head);
    st = fs_read_file(v->fs, path, &v->head, err);
    if (st == NX_NOTFOUND)
        st = NX_OK;
    else if (st == NX_LIMIT || (!st && !gone_good(v->head.ptr, v->head.len))) {
        tell(v, 0, "it is damaged: late samples may be found twice, with the same values");
        st = NX_OK;
    }
    free(path);
    return st;
}

/* ---- files ----------------------------------------------------------------------------------- */

static nx_status check_records(struct verify *v, struct nx_err *err)
{
    uint64_t at = HEADER_BYTES;
    nx_status st = NX_OK;

    while (at < v->bytes && !st) {
        struct record r;
        char text[TEXT_BYTES];
        bool good = false;
        uint64_t bad = at;
        st = get_record(v, at, &r, &good, err);
        if (!st && !good) {
            st = find_record(v, at + 1, &r, &good, err);
            if (!st && !good) {
                tell(v, bad, "it ends within a record; the next start cuts that off");
                break;
            }
            snprintf(text, sizeof text, "no record for %llu bytes: the rows in them are lost",
                     (unsigned long long)(r.at - bad));
            if (!st)
                tell(v, bad, text);
        }
        if (!st && (r.type == SEAL || r.type == SAMPLES))
            st = check_pages(v, &r, err);
        at = st ? at : record_end(&r);
    }
    return st;
}

static nx_status check_file(struct verify *v, uint32_t number, struct nx_err *err)
{
    struct nx_err why = {0};
    bool all = false;
    const char *h;
    nx_status st = v->fs->open(v->fs, v->path, FS_READ, &v->file, &why);

    if (st == NX_NOTFOUND) /* VH2 */
        return NX_OK;
    if (st)
        return nx_fail(err, st, "%s", why.text);
    st = v->fs->size(v->fs, v->file, &v->bytes, err);
    if (!st)
        st = read_at(v, &v->head, 0, HEADER_BYTES, &all, err);
    h = v->head.ptr;
    if (!st && all &&
        (get_u32le(h) != FILE_MAGIC || get_u32le(h + 12) != crc32c(0, h, 12) ||
         get_u32le(h + 8) != number || get_u16le(h + 4) == 0 || get_u16le(h + 4) > 2))
        tell(v, 0, "its header is damaged: nothing in it can be used");
    else if (!st && all)
        st = check_records(v, err);
    v->fs->close(v->fs, v->file);
    v->file = NULL;
    return st;
}

nx_status storage_verify_head_files(struct fs *fs, const char *dir, storage_problem_fn *problem,
                                    void *ctx, struct storage_verified *out, struct nx_err *err)
{
    struct storage_verified counts = {0};
    struct verify v = {.fs = fs, .problem = problem, .ctx = ctx, .out = &counts};
    struct fs_names names = {0};
    char *head = NULL;
    nx_status st;

    if (asprintf(&head, "%s/head", dir) < 0)
        return nx_fail(err, NX_NOMEM, "verifying: out of memory");
    buf_init(&v.head, MAX_HEAD + WINDOW_BYTES);
    buf_init(&v.body, MAX_PAGE + WINDOW_BYTES);
    st = fs->list(fs, head, &names, err);
    if (st == NX_NOTFOUND)
        st = NX_OK;
    for (size_t i = 0; i < names.n && !st; i++) {
        char *path = NULL;
        if (strlen(names.v[i]) != NAME_DIGITS || strspn(names.v[i], "0123456789") != NAME_DIGITS)
            continue;
        if (asprintf(&path, "%s/%s", head, names.v[i]) < 0) {
            st = nx_fail(err, NX_NOMEM, "verifying: out of memory");
            break;
        }
        v.path = path;
        st = check_file(&v, (uint32_t)strtoul(names.v[i], NULL, 10), err);
        free(path);
    }
    if (!st)
        st = check_gone(&v, head, err);
    fs_names_done(&names);
    buf_done(&v.head);
    buf_done(&v.body);
    free(head);
    *out = counts;
    return st;
}
