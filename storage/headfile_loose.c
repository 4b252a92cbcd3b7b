/* headfile_loose.c - loose samples in chunk files: how a record of them is made, found and read, and the note
 * of those whose time is over.
 *
 * SHAPE   A record holds samples of many series, all of one block's span: its head says of which series, from
 *         when to when, and where the pages are; a page has the samples of neighbouring entries, each with a
 *         vector of times of its own. What is in memory of it is the head: sixteen bytes an entry.
 * RULES   Y1  An entry keeps its place in the record (`at`), by which its page is found, whatever order memory has
 *             the entries in.
 *         Y2  Rows are in blocks if they are before the floor. Late samples are not in order, so a file that
 *             has rows yet can hold samples that a block has: head/gone names those records. It is
 *             published when the block is there; a start that finds an older note has samples twice, which readers
 *             bear.
 *         Y3  A number that the note names is never given to a new file.
 * THREADS as headfile.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/log.h"
#include "storage/head.h"
#include "storage/headfile_impl.h"

#define RECORD_BYTES HEADFILE_RECORD_BYTES
#define PAGE_ENTRY   HEADFILE_PAGE_ENTRY
#define GONE_MAGIC   0x4748584eu /* "NXHG" */
#define GONE_VERSION 1u
#define GONE_HEADER  8u
#define GONE_MAX     (64u << 20)

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "a chunk file");
}

/* ---- batches ----------------------------------------------------------------------------------- */

static struct loose_batch *batch_new(uint32_t n, uint32_t n_pages)
{
    size_t entries = n * sizeof(struct loose_entry);
    struct loose_batch *b = malloc(sizeof *b + entries + (size_t)n_pages * PAGE_ENTRY);

    if (!b)
        return NULL;
    *b = (struct loose_batch){.n = n, .n_pages = n_pages};
    atomic_init(&b->refs, 1);
    b->pages = (uint8_t *)(b->v + n);
    return b;
}

struct loose_batch *loose_batch_ref(struct loose_batch *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void loose_batch_unref(struct loose_batch *b)
{
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        headfile_unref(b->file);
        free(b);
    }
}

size_t loose_batch_bytes(const struct loose_batch *b)
{
    return sizeof *b + b->n * sizeof b->v[0] + (size_t)b->n_pages * PAGE_ENTRY;
}

static int entry_cmp(const void *x, const void *y)
{
    const struct loose_entry *a = x, *b = y;

    if (a->series != b->series)
        return a->series < b->series ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

void loose_batch_sort(struct loose_batch *b)
{
    qsort(b->v, b->n, sizeof b->v[0], entry_cmp);
}

uint32_t loose_batch_find(const struct loose_batch *b, uint32_t series)
{
    uint32_t lo = 0, hi = b->n;

    if (series < b->v[0].series || series > b->v[b->n - 1].series)
        return b->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (b->v[mid].series < series)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < b->n && b->v[lo].series == series ? lo : b->n;
}

/* ---- a record in the making ----------------------------------------------------------------------- */

struct made {
    uint32_t series;
    int64_t first_ms, last_ms;
};

struct making {
    struct made *v;
    uint32_t n, cap;
    uint32_t page_from, n_pages; /* the page in the making begins with that entry */
    uint64_t n_samples;
    struct buf pages, lengths, data; /* directory; of the page in the making */
};

void headfiles_samples_begin(struct headfiles *hs)
{
    struct making *m = hs->making;

    buf_clear(&hs->body);
    if (!m)
        return;
    m->n = m->page_from = m->n_pages = 0;
    m->n_samples = 0;
    buf_clear(&m->pages);
    buf_clear(&m->lengths);
    buf_clear(&m->data);
}

static struct making *making_of(struct headfiles *hs)
{
    if (!hs->making) {
        hs->making = calloc(1, sizeof *hs->making);
        if (!hs->making)
            return NULL;
        buf_init(&hs->making->pages, 0);
        buf_init(&hs->making->lengths, 0);
        buf_init(&hs->making->data, 0);
    }
    return hs->making;
}

size_t headfiles_samples_bytes(const struct headfiles *hs)
{
    return hs->body.len + (hs->making ? hs->making->data.len : 0);
}

static nx_status close_page(struct headfiles *hs, struct making *m, struct nx_err *err)
{
    nx_status st = buf_status(&m->lengths, err);

    if (!st)
        st = buf_status(&m->data, err);
    if (st || m->page_from == m->n)
        return st;
    buf_clear(&hs->page);
    buf_uvarint(&hs->page, m->lengths.len);
    buf_slice(&hs->page, buf_view(&m->lengths));
    buf_slice(&hs->page, buf_view(&m->data));
    headfiles_end_page(hs, &m->pages, m->page_from);
    m->n_pages++;
    m->page_from = m->n;
    buf_clear(&m->lengths);
    buf_clear(&m->data);
    st = buf_status(&m->pages, err);
    return st ? st : buf_status(&hs->body, err);
}

nx_status headfiles_samples_add(struct headfiles *hs, uint32_t series, const int64_t *t,
                                const double *v, uint32_t n, struct chunk_scratch *scratch,
                                struct nx_err *err)
{
    struct making *m = making_of(hs);
    size_t start, times;
    nx_status st;

    if (!m)
        return no_memory(err);
    if (m->n == m->cap) {
        uint32_t cap = m->cap * 2 + 256;
        struct made *more = realloc(m->v, cap * sizeof *more);
        if (!more)
            return no_memory(err);
        m->v = more;
        m->cap = cap;
    }
    start = m->data.len;
    st = times_encode(&m->data, t, n, scratch, err);
    times = m->data.len - start;
    if (!st)
        st = chunk_encode_fast(&m->data, v, n, scratch, err);
    if (st)
        return st;
    buf_uvarint(&m->lengths, n);
    buf_uvarint(&m->lengths, times);
    buf_uvarint(&m->lengths, m->data.len - start - times);
    m->v[m->n++] = (struct made){series, t[0], t[n - 1]};
    m->n_samples += n;
    return m->data.len < HEADFILE_PAGE_BYTES ? NX_OK : close_page(hs, m, err);
}

static struct loose_batch *batch_of(const struct making *m)
{
    struct loose_batch *b = batch_new(m->n, m->n_pages);

    if (!b)
        return NULL;
    b->n_samples = m->n_samples;
    b->min_ms = INT64_MAX;
    b->max_ms = INT64_MIN;
    for (uint32_t i = 0; i < m->n; i++) {
        b->min_ms = m->v[i].first_ms < b->min_ms ? m->v[i].first_ms : b->min_ms;
        b->max_ms = m->v[i].last_ms > b->max_ms ? m->v[i].last_ms : b->max_ms;
    }
    for (uint32_t i = 0; i < m->n; i++)
        b->v[i] = (struct loose_entry){m->v[i].series, i, (uint32_t)(m->v[i].first_ms - b->min_ms),
                                       (uint32_t)(m->v[i].last_ms - b->min_ms)};
    return b;
}

/* *pages_at: where the pages' entries begin. */
static nx_status put_head(struct headfiles *hs, const struct loose_batch *b, struct nx_slice pages,
                          size_t *pages_at, struct nx_err *err)
{
    struct buf *h = &hs->head;
    uint32_t before = 0;

    buf_clear(h);
    buf_uvarint(h, b->n);
    buf_uvarint(h, b->n_samples);
    buf_varint(h, b->min_ms);
    buf_uvarint(h, (uint64_t)b->max_ms - (uint64_t)b->min_ms);
    buf_uvarint(h, b->n_pages);
    *pages_at = h->len;
    buf_slice(h, pages);
    for (uint32_t i = 0; i < b->n; i++) {
        buf_uvarint(h, b->v[i].series - before);
        buf_uvarint(h, b->v[i].first);
        buf_uvarint(h, b->v[i].last - b->v[i].first);
        before = b->v[i].series;
    }
    return buf_status(h, err);
}

nx_status headfiles_samples_end(struct headfiles *hs, struct loose_batch **out, struct nx_err *err)
{
    struct making *m = hs->making;
    struct loose_batch *b = NULL;
    size_t pages_at = 0;
    uint64_t at;
    nx_status st = close_page(hs, m, err);

    if (!st)
        b = batch_of(m);
    if (!st && !b)
        st = no_memory(err);
    if (!st)
        st = put_head(hs, b, buf_view(&m->pages), &pages_at, err);
    if (!st)
        st = headfiles_begin_record(hs, err);
    if (st)
        goto done;
    at = hs->written + hs->buf.len;
    b->at = at;
    b->head_bytes = (uint32_t)hs->head.len;
    headfiles_sum_pages(hs, hs->head.ptr + pages_at, b->n_pages, at + RECORD_BYTES + hs->head.len);
    memcpy(b->pages, hs->head.ptr + pages_at, (size_t)b->n_pages * PAGE_ENTRY);
    headfiles_put_record(hs, RECORD_SAMPLES, buf_view(&hs->head), buf_view(&hs->body));
    st = buf_status(&hs->buf, err);
    if (st) {
        headfiles_give_up(hs);
        goto done;
    }
    b->file = headfile_ref(hs->out);
    *out = b;
    b = NULL;

done:
    loose_batch_unref(b);
    return st;
}

nx_status headfiles_series(struct headfiles *hs, struct nx_slice payload, struct nx_err *err)
{
    return headfiles_put_payload(hs, RECORD_SERIES, payload, err);
}

/* ---- at a start ------------------------------------------------------------------------------------ */

static bool read_entries(struct reader *r, struct loose_batch *b)
{
    const uint64_t span = (uint64_t)b->max_ms - (uint64_t)b->min_ms;
    uint64_t series = 0;

    for (uint32_t i = 0; i < b->n; i++) {
        uint64_t more = reader_uvarint(r), first = reader_uvarint(r), last = reader_uvarint(r);
        if (r->bad || more >= UINT32_MAX || first > span || last > span - first)
            return false;
        series += more;
        if (series == 0 || series >= UINT32_MAX)
            return false;
        b->v[i] =
            (struct loose_entry){(uint32_t)series, i, (uint32_t)first, (uint32_t)(first + last)};
    }
    return reader_left(r) == 0;
}

nx_status headfile_found_samples(struct headfile *f, uint64_t at, struct nx_slice head,
                                 uint64_t body_bytes, struct loose_batch **out, struct nx_err *err)
{
    struct reader r = reader_of(head.ptr, head.len);
    uint64_t n = reader_uvarint(&r), n_samples = reader_uvarint(&r);
    int64_t min_ms = reader_varint(&r);
    uint64_t span = reader_uvarint(&r), n_pages = reader_uvarint(&r);
    struct loose_batch *b;
    struct nx_slice pages;

    pages = reader_bytes(
        &r, n_pages <= n && n <= HEADFILE_MAX_ENTRIES ? (size_t)n_pages * PAGE_ENTRY : SIZE_MAX);
    if (r.bad || n == 0 || n > reader_left(&r) / 3 || span > UINT32_MAX ||
        min_ms > INT64_MAX - (int64_t)span ||
        !headfile_pages_good((const uint8_t *)pages.ptr, (uint32_t)n_pages, n, body_bytes))
        return nx_fail(err, NX_CORRUPT, "loose samples that make no sense");
    b = batch_new((uint32_t)n, (uint32_t)n_pages);
    if (!b)
        return no_memory(err);
    memcpy(b->pages, pages.ptr, pages.len);
    b->n_samples = n_samples;
    b->min_ms = min_ms;
    b->max_ms = min_ms + (int64_t)span;
    b->at = at;
    b->head_bytes = (uint32_t)head.len;
    if (!read_entries(&r, b)) {
        loose_batch_unref(b);
        return nx_fail(err, NX_CORRUPT, "loose samples of series that make no sense");
    }
    b->file = headfile_ref(f);
    *out = b;
    return NX_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

struct in_page {
    uint64_t n;
    struct nx_slice times, values;
};

static bool find_in_page(const struct cache_page *page, uint32_t nth, struct in_page *out)
{
    struct reader all = reader_of(page->ptr, page->len), lengths;
    struct nx_slice head = reader_bytes(&all, reader_uvarint(&all));
    uint64_t before = 0, times = 0, values = 0;

    lengths = reader_of(head.ptr, head.len);
    for (uint32_t i = 0; i <= nth; i++) {
        before += times + values;
        out->n = reader_uvarint(&lengths);
        times = reader_uvarint(&lengths);
        values = reader_uvarint(&lengths);
        if (lengths.bad || times > HEADFILE_MAX_PAGE || values > HEADFILE_MAX_PAGE)
            return false;
    }
    (void)reader_bytes(&all, before);
    out->times = reader_bytes(&all, times);
    out->values = reader_bytes(&all, values);
    return !all.bad && out->n > 0 && out->n <= CHUNK_MAX_ROWS;
}

static bool times_good(const struct loose_batch *b, const struct loose_entry *e, const int64_t *t,
                       uint64_t n)
{
    for (uint64_t i = 1; i < n; i++) {
        if (t[i] <= t[i - 1])
            return false;
    }
    return t[0] == b->min_ms + (int64_t)e->first && t[n - 1] == b->min_ms + (int64_t)e->last;
}

nx_status headfile_samples(const struct loose_batch *b, uint32_t i, struct work *w, uint32_t *n,
                           struct nx_err *err)
{
    const struct loose_entry *e = &b->v[i];
    const struct headfile_lost lost = {b->file, b->min_ms, b->max_ms, b->n};
    const uint8_t *entry = headfile_page_of(b->pages, b->n_pages, e->at); /* Y1 */
    const uint64_t body = b->at + RECORD_BYTES + b->head_bytes;
    struct cache_page page = {0};
    struct in_page x = {0};
    nx_status st = headfile_page(&lost, body, entry, &page, err);

    if (st)
        return st;
    if (!find_in_page(&page, e->at - get_u32le(entry), &x)) {
        st = headfile_damage(&lost, b->at, "a page that makes no sense", err);
        goto done;
    }
    st = work_room(w, (size_t)x.n, 0, err);
    if (!st)
        st = times_decode(x.times.ptr, x.times.len, w->t, (size_t)x.n, w->scratch, err);
    if (!st)
        st = chunk_decode(x.values.ptr, x.values.len, w->v, (size_t)x.n, w->scratch, err);
    if (st == NX_CORRUPT || (!st && !times_good(b, e, w->t, x.n)))
        st = headfile_damage(&lost, b->at, "samples that make no sense", err);
    *n = (uint32_t)x.n;

done:
    cache_put(b->file->set->cache, &page);
    return st;
}

/* ---- what is gone (Y2) ----------------------------------------------------------------------------------- */

static char *gone_path(const struct headfiles *hs)
{
    char *path;

    return asprintf(&path, "%s/gone", hs->dir) < 0 ? NULL : path;
}

static int gone_cmp(const void *x, const void *y)
{
    const struct headfile_gone *a = x, *b = y;

    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static bool gone_room(struct headfiles *hs, size_t more)
{
    size_t cap = hs->n_gone + more;
    struct headfile_gone *v;

    if (cap <= hs->cap_gone)
        return true;
    v = realloc(hs->gone, cap * sizeof *v);
    if (!v)
        return false;
    hs->gone = v;
    hs->cap_gone = cap;
    return true;
}

static nx_status read_gone(struct headfiles *hs, struct nx_slice file, struct nx_err *err)
{
    struct reader r = reader_of(file.ptr, file.len);
    struct nx_slice head = reader_bytes(&r, GONE_HEADER);
    uint64_t n = reader_uvarint(&r), number = 0, at = 0;

    if (r.bad || get_u32le(head.ptr) != GONE_MAGIC || get_u16le(head.ptr + 4) != GONE_VERSION ||
        file.len < 4 || get_u32le(file.ptr + file.len - 4) != crc32c(0, file.ptr, file.len - 4) ||
        n > reader_left(&r) / 2)
        return NX_CORRUPT;
    if (!gone_room(hs, (size_t)n))
        return no_memory(err);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t more = reader_uvarint(&r), place = reader_uvarint(&r);
        number += more;
        at = more ? place : at + place;
        if (r.bad || more >= UINT32_MAX || number == 0 || number >= UINT32_MAX)
            return NX_CORRUPT;
        hs->gone[hs->n_gone++] = (struct headfile_gone){at, (uint32_t)number};
        if (number >= hs->next_number) /* Y3 */
            hs->next_number = (uint32_t)number + 1;
    }
    return reader_left(&r) == 4 ? NX_OK : NX_CORRUPT;
}

nx_status headfiles_gone_load(struct headfiles *hs, struct nx_err *err)
{
    char *path = gone_path(hs);
    struct buf b;
    nx_status st;

    if (!path)
        return no_memory(err);
    buf_init(&b, GONE_MAX);
    st = fs_read_file(hs->fs, path, &b, err);
    if (!st)
        st = read_gone(hs, buf_view(&b), err);
    if (st == NX_CORRUPT || st == NX_LIMIT) {
        log_warn("A note on chunk files is damaged and was left aside", "file", path);
        hs->n_gone = 0;
        st = NX_OK;
    }
    buf_done(&b);
    free(path);
    return st == NX_NOTFOUND ? NX_OK : st;
}

bool headfiles_is_gone(const struct headfiles *hs, uint32_t number, uint64_t at)
{
    const struct headfile_gone key = {at, number};

    return hs->n_gone && bsearch(&key, hs->gone, hs->n_gone, sizeof key, gone_cmp);
}

/* Of files that are there. */
static void prune_gone(struct headfiles *hs)
{
    size_t kept = 0;

    qsort(hs->gone, hs->n_gone, sizeof *hs->gone, gone_cmp);
    for (size_t i = 0; i < hs->n_gone; i++) {
        bool there = false;
        for (size_t k = 0; k < hs->n && !there; k++)
            there = hs->v[k]->number == hs->gone[i].number;
        if (there && (!kept || gone_cmp(&hs->gone[kept - 1], &hs->gone[i]) != 0))
            hs->gone[kept++] = hs->gone[i];
    }
    hs->n_gone = kept;
}

static nx_status publish_gone(struct headfiles *hs, struct nx_err *err)
{
    char *path = gone_path(hs);
    struct headfile_gone before = {0};
    struct buf b;
    nx_status st;

    if (!path)
        return no_memory(err);
    buf_init(&b, GONE_MAX);
    buf_u32le(&b, GONE_MAGIC);
    buf_u32le(&b, GONE_VERSION);
    buf_uvarint(&b, hs->n_gone);
    for (size_t i = 0; i < hs->n_gone; i++) {
        const struct headfile_gone *g = &hs->gone[i];
        buf_uvarint(&b, g->number - before.number);
        buf_uvarint(&b, g->number == before.number ? g->at - before.at : g->at);
        before = *g;
    }
    if (buf_status(&b, NULL) == NX_OK)
        buf_u32le(&b, crc32c(0, b.ptr, b.len));
    st = buf_status(&b, err);
    if (!st)
        st = fs_publish(hs->fs, path, b.ptr, b.len, err);
    buf_done(&b);
    free(path);
    return st;
}

nx_status headfiles_samples_gone(struct headfiles *hs, struct loose_batch *const *v, size_t n,
                                 struct nx_err *err)
{
    if (!gone_room(hs, n))
        return no_memory(err);
    for (size_t i = 0; i < n; i++)
        hs->gone[hs->n_gone++] = (struct headfile_gone){v[i]->at, v[i]->file->number};
    prune_gone(hs);
    return publish_gone(hs, err);
}

void headfiles_loose_done(struct headfiles *hs)
{
    struct making *m = hs->making;

    free(hs->gone);
    if (!m)
        return;
    buf_done(&m->pages);
    buf_done(&m->lengths);
    buf_done(&m->data);
    free(m->v);
    free(m);
}
