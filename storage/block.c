/* block.c - a block being read: meta.json, the index, and samples out of pages of chunks.
 *
 * SHAPE   A chunk is found by its number: the series entry has the first and how many, the page file's
 *         directory has the page, the page its slots. Timestamps are decoded once per vector and kept
 *         in the cache for all series of the group. Values are decoded straight to where they go.
 * RULES   B1  Damage in a page of chunks costs the chunks of that page: reading goes on with the next
 *             one and reports at the end what was lost. All else fails with what the index says.
 *         B2  The pages of a block that is gone leave the cache with it.
 *         B3  What is deleted is left out by block_select(), block_read() and the lists of labels, and by
 *             nothing else here. A reader that began before a deletion may see it or not.
 * THREADS Nothing changes after opening but the count of references and, under the lock, the tombstones. */
#include "storage/block.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/thread.h"
#include "storage/block_index.h"

struct block {
    atomic_uint refs;
    struct fs *fs;
    char *dir;
    struct block_meta meta;
    struct block_index *index;
    struct page_file *chunks;
    struct nx_mutex lock; /* STATS: protects what follows; a leaf */
    struct tombs *tombs;
    uint64_t tombs_bytes;
    atomic_bool tombs_damaged; /* one of the two copies of it on disk */
};

/* A page of chunks as the cache has it: count, slots, bytes. */
struct slot {
    uint32_t off, len; /* in the page */
    uint32_t vector, first_row, tail;
};
#define SLOTS_AT 8u

/* ---- unpacking ------------------------------------------------------------------------------ */

static bool get_column(struct reader *r, struct slot *slots, size_t n, size_t member)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = reader_uvarint(r);
        uint32_t narrow = (uint32_t)v;

        if (r->bad || v > UINT32_MAX)
            return false;
        memcpy((char *)&slots[i] + member, &narrow, sizeof narrow);
    }
    return true;
}

static bool get_vectors(struct reader *r, struct slot *slots, size_t n)
{
    int64_t v = 0;

    for (size_t i = 0; i < n; i++) {
        int64_t step = reader_varint(r);
        if (r->bad || __builtin_add_overflow(v, step, &v) || v < 0 || v > UINT32_MAX)
            return false;
        slots[i].vector = (uint32_t)v;
    }
    return true;
}

static bool get_slots(struct reader *r, struct slot *slots, size_t n)
{
    size_t at = SLOTS_AT + n * sizeof *slots;

    if (!get_column(r, slots, n, offsetof(struct slot, len)) || !get_vectors(r, slots, n) ||
        !get_column(r, slots, n, offsetof(struct slot, first_row)) ||
        !get_column(r, slots, n, offsetof(struct slot, tail)))
        return false;
    for (size_t i = 0; i < n; i++) {
        slots[i].off = (uint32_t)at;
        at += slots[i].len;
    }
    return at - SLOTS_AT - n * sizeof *slots == reader_left(r);
}

static nx_status unpack(unsigned tree, uint8_t **ptr, size_t *len, struct nx_err *err)
{
    struct reader r = reader_of(*ptr, *len);
    const uint64_t n = tree == CH_CHUNKS ? reader_uvarint(&r) : 0;
    uint8_t *page;
    size_t bytes;

    if (tree != CH_CHUNKS) /* timestamps: see load_times() */
        return NX_OK;
    if (r.bad || n == 0 || n > reader_left(&r) / 4) /* four columns of a byte each at least */
        return nx_fail(err, NX_CORRUPT, "a page of chunks does not decode");
    bytes = SLOTS_AT + (size_t)n * sizeof(struct slot) + reader_left(&r);
    page = malloc(bytes);
    if (!page)
        return nx_fail(err, NX_NOMEM, "out of memory for a page of chunks");
    if (!get_slots(&r, (struct slot *)(void *)(page + SLOTS_AT), (size_t)n)) {
        free(page);
        return nx_fail(err, NX_CORRUPT, "a page of chunks does not decode");
    }
    memset(page, 0, SLOTS_AT);
    memcpy(page, &(uint32_t){(uint32_t)n}, 4);
    memcpy(page + SLOTS_AT + n * sizeof(struct slot), r.ptr, reader_left(&r));
    *len = SLOTS_AT + (size_t)n * sizeof(struct slot) + reader_left(&r);
    free(*ptr);
    *ptr = page;
    return NX_OK;
}

/* ---- opening -------------------------------------------------------------------------------- */

static char *path_of(const char *dir, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static nx_status nomem(struct nx_err *err, const char *dir)
{
    return nx_fail(err, NX_NOMEM, "block %s: out of memory", dir);
}

static nx_status open_meta(struct block *b, struct nx_err *err)
{
    char *path = path_of(b->dir, BLOCK_META_FILE);
    struct buf text;
    nx_status st;

    buf_init(&text, 16u << 20);
    st = path ? fs_read_file(b->fs, path, &text, err) : nomem(err, b->dir);
    if (!st) {
        st = block_meta_parse(buf_view(&text), &b->meta, err);
        if (st && err)
            st = nx_context(err, "%s", path);
    }
    b->meta.bytes = text.len;
    buf_done(&text);
    free(path);
    return st;
}

static nx_status open_index(struct block *b, struct cache *cache, struct nx_err *err)
{
    char *path = path_of(b->dir, BLOCK_INDEX_FILE);
    nx_status st = path ? block_index_open(&b->index, b->fs, cache, path, err) : nomem(err, b->dir);

    free(path);
    return st;
}

static nx_status open_chunks(struct block *b, struct cache *cache, struct nx_err *err)
{
    const struct page_opts opts = {b->fs, cache, BLOCK_CHUNKS_MAGIC, unpack};
    char *path = path_of(b->dir, BLOCK_CHUNKS_FILE);
    nx_status st = path ? page_file_open(&b->chunks, path, &opts, err) : nomem(err, b->dir);

    free(path);
    return st;
}

/* The three files must be of one block. */
static nx_status check_unity(struct block *b, struct nx_err *err)
{
    const struct nx_slice ulid = nx_slice_of(b->meta.ulid, BLOCK_ULID_LEN);

    if (!nx_slice_eq(page_file_extra(block_index_file(b->index)), ulid) ||
        !nx_slice_eq(page_file_extra(b->chunks), ulid))
        return nx_fail(err, NX_CORRUPT, "block %s: its files belong to different blocks", b->dir);
    if (block_index_n_series(b->index) != b->meta.n_series ||
        page_file_items(b->chunks, CH_CHUNKS) != b->meta.n_chunks)
        return nx_fail(err, NX_CORRUPT, "block %s: meta.json, index and chunks count differently",
                       b->dir);
    return NX_OK;
}

nx_status block_open(struct block **out, struct fs *fs, struct cache *cache, const char *dir,
                     struct nx_err *err)
{
    struct block *b = calloc(1, sizeof *b);
    bool damaged;
    nx_status st;

    if (!b)
        return nomem(err, dir);
    atomic_init(&b->refs, 1);
    nx_mutex_init(&b->lock, NX_RANK_STATS);
    b->fs = fs;
    b->dir = strdup(dir);
    if (!b->dir) {
        st = nomem(err, dir);
        goto done;
    }
    st = open_meta(b, err);
    if (st)
        goto done;
    st = open_index(b, cache, err);
    if (st)
        goto done;
    st = open_chunks(b, cache, err);
    if (st)
        goto done;
    st = check_unity(b, err);
    if (st)
        goto done;
    st = block_tombs_read(fs, dir, b->meta.ulid, b->meta.n_series, &b->tombs, &b->tombs_bytes,
                          &damaged, err);
    if (st)
        goto done;
    atomic_init(&b->tombs_damaged, damaged);
    b->meta.bytes += page_file_bytes(block_index_file(b->index)) + page_file_bytes(b->chunks);
    *out = b;
    b = NULL;

done:
    block_unref(b);
    return st;
}

struct block *block_ref(struct block *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void block_unref(struct block *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    block_index_close(b->index);
    page_file_close(b->chunks);
    block_meta_done(&b->meta);
    tombs_unref(b->tombs);
    nx_mutex_done(&b->lock);
    free(b->dir);
    free(b);
}

nx_status block_keep_open(struct block *b, struct nx_err *err)
{
    nx_status st;

    if (atomic_load_explicit(&b->refs, memory_order_acquire) == 1)
        return NX_OK;
    st = page_file_keep(block_index_file(b->index), err);
    return st ? st : page_file_keep(b->chunks, err);
}

struct block_index *block_index_of(struct block *b)
{
    return b->index;
}

struct fs *block_fs(struct block *b)
{
    return b->fs;
}

struct tombs *block_tombs(struct block *b)
{
    struct tombs *t;

    nx_lock(&b->lock);
    t = tombs_ref(b->tombs);
    nx_unlock(&b->lock);
    return t;
}

void block_set_tombs(struct block *b, struct tombs *t, uint64_t bytes)
{
    struct tombs *was;

    nx_lock(&b->lock);
    was = b->tombs;
    b->tombs = t;
    b->tombs_bytes = bytes;
    atomic_store(&b->tombs_damaged, false);
    nx_unlock(&b->lock);
    tombs_unref(was);
}

uint64_t block_bytes(struct block *b)
{
    uint64_t bytes;

    nx_lock(&b->lock);
    bytes = b->meta.bytes + b->tombs_bytes;
    nx_unlock(&b->lock);
    return bytes;
}

const struct block_meta *block_meta(const struct block *b)
{
    return &b->meta;
}

const char *block_dir(const struct block *b)
{
    return b->dir;
}

bool block_tombs_damaged(const struct block *b)
{
    return atomic_load(&b->tombs_damaged);
}

uint64_t block_pages_damaged(const struct block *b)
{
    return page_file_damaged(block_index_file(b->index)) + page_file_damaged(b->chunks) +
           block_tombs_damaged(b);
}

/* ---- selecting ------------------------------------------------------------------------------ */

static bool overlaps(const struct block *b, int64_t mint, int64_t maxt)
{
    return mint <= maxt && mint < b->meta.max_ms && maxt >= b->meta.min_ms;
}

/* Names the block in the text; callers without an `err` still get the code. */
static nx_status in_block(const struct block *b, nx_status st, struct nx_err *err)
{
    if (st == NX_CORRUPT && err)
        return nx_context(err, "block %s", b->meta.ulid);
    return st;
}

nx_status block_select_some(struct block *b, const struct matcher *m, size_t n, int64_t mint,
                            int64_t maxt, size_t most, struct arena *a, struct series_list *out,
                            struct nx_err *err)
{
    const bool whole = mint <= b->meta.min_ms && maxt >= b->meta.max_ms - 1;
    struct ids ids = {NULL, 0};
    struct tombs *t;
    nx_status st;

    *out = (struct series_list){NULL, 0};
    if (!overlaps(b, mint, maxt))
        return NX_OK;
    t = block_tombs(b);
    st = block_index_match(b->index, m, n, a, &ids, err);
    if (b->meta.resolution_ms && !whole) /* series end with their last column */
        mint += mint > b->meta.min_ms ? block_column_shift(&b->meta, COLUMN_COUNT) : 0;
    if (!st && ids.n)
        st = block_index_labels(b->index, ids, whole ? INT64_MIN : mint, whole ? INT64_MAX : maxt,
                                t ? SIZE_MAX : most, a, out, err);
    if (!st)
        st = block_drop_dead(b, t, mint, maxt, out, err);
    tombs_unref(t);
    return in_block(b, st, err);
}

nx_status block_select(struct block *b, const struct matcher *m, size_t n, int64_t mint,
                       int64_t maxt, struct arena *a, struct series_list *out, struct nx_err *err)
{
    return block_select_some(b, m, n, mint, maxt, SIZE_MAX, a, out, err);
}

/* What matches and is not deleted; *all: nothing was asked for, and nothing is deleted. */
static nx_status alive(struct block *b, const struct matcher *m, size_t n, int64_t mint,
                       int64_t maxt, struct arena *a, struct ids *ids, bool *all,
                       struct nx_err *err)
{
    struct tombs *t = block_tombs(b);
    nx_status st = NX_OK;

    *all = n == 0 && !t;
    if (n)
        st = block_index_match(b->index, m, n, a, ids, err);
    if (!st && t)
        st = block_alive_ids(b, t, mint, maxt, n ? ids : NULL, a, ids, err);
    tombs_unref(t);
    return st;
}

nx_status block_label_names(struct block *b, const struct matcher *m, size_t n, int64_t mint,
                            int64_t maxt, size_t limit, struct arena *a, struct nx_slice **out,
                            size_t *n_out, struct nx_err *err)
{
    struct ids ids = {NULL, 0};
    bool all = false;
    nx_status st;

    *out = NULL;
    *n_out = 0;
    if (!overlaps(b, mint, maxt))
        return NX_OK;
    st = alive(b, m, n, mint, maxt, a, &ids, &all, err);
    if (!st)
        st = block_index_names(b->index, all ? NULL : &ids, limit, a, out, n_out, err);
    return in_block(b, st, err);
}

nx_status block_label_values(struct block *b, struct nx_slice name, const struct matcher *m,
                             size_t n, int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                             struct nx_slice **out, size_t *n_out, struct nx_err *err)
{
    struct ids ids = {NULL, 0};
    bool all = false;
    nx_status st;

    *out = NULL;
    *n_out = 0;
    if (!overlaps(b, mint, maxt))
        return NX_OK;
    st = alive(b, m, n, mint, maxt, a, &ids, &all, err);
    if (!st)
        st = block_index_values(b->index, name, all ? NULL : &ids, limit, a, out, n_out, err);
    return in_block(b, st, err);
}

nx_status block_series(struct block *b, uint64_t ref, struct arena *a, struct labels *out,
                       struct nx_err *err)
{
    const uint32_t id = (uint32_t)ref;
    struct series_list list;
    nx_status st;

    if (ref >= b->meta.n_series)
        return nx_fail(err, NX_NOTFOUND, "block %s: series %llu of %llu", b->meta.ulid,
                       (unsigned long long)ref, (unsigned long long)b->meta.n_series);
    st = block_index_labels(b->index, (struct ids){&id, 1}, INT64_MIN, INT64_MAX, SIZE_MAX, a,
                            &list, err);
    if (st)
        return in_block(b, st, err);
    *out = list.v[0].labels;
    return NX_OK;
}

nx_status block_series_run(struct block *b, uint64_t first, size_t n, struct arena *a,
                           struct series_list *out, struct nx_err *err)
{
    uint32_t *ids;
    nx_status st;

    if (first > b->meta.n_series || n > b->meta.n_series - first)
        return nx_fail(err, NX_NOTFOUND, "block %s: series %llu of %llu", b->meta.ulid,
                       (unsigned long long)(first + n), (unsigned long long)b->meta.n_series);
    ids = arena_array(a, n, sizeof *ids);
    if (!ids)
        return arena_failed(a, err);
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)(first + i);
    st = block_index_labels(b->index, (struct ids){ids, n}, INT64_MIN, INT64_MAX, SIZE_MAX, a, out,
                            err);
    return in_block(b, st, err);
}

/* What the index says of a series. */
static nx_status series_entry(struct block *b, uint64_t ref, struct block_index_place *at,
                              struct block_index_series *e, struct nx_err *err)
{
    if (ref >= b->meta.n_series)
        return nx_fail(err, NX_NOTFOUND, "block %s: series %llu of %llu", b->meta.ulid,
                       (unsigned long long)ref, (unsigned long long)b->meta.n_series);
    return in_block(b, block_index_get_next(b->index, (uint32_t)ref, at, e, err), err);
}

nx_status block_series_span(struct block *b, uint64_t ref, int64_t *min_ms, int64_t *max_ms,
                            struct nx_err *err)
{
    struct block_index_place at = {0};
    struct block_index_series e = {0};
    nx_status st = series_entry(b, ref, &at, &e, err);

    block_index_leave(b->index, &at);
    if (st)
        return st;
    *min_ms = e.mint;
    *max_ms = e.maxt - (b->meta.resolution_ms ? block_column_shift(&b->meta, COLUMN_COUNT) : 0);
    return NX_OK;
}

/* ---- timestamps ----------------------------------------------------------------------------- */

/* Finds vector number i of the page, counted from 0. */
static bool find_vector(const struct page *p, uint64_t i, uint32_t *rows, struct nx_slice *bytes)
{
    struct reader r = reader_of(p->ptr, p->len);

    for (;;) {
        uint64_t n = reader_uvarint(&r), len = reader_uvarint(&r);
        if (r.bad || n == 0 || n > CHUNK_MAX_ROWS || len > reader_left(&r))
            return false;
        *bytes = reader_bytes(&r, (size_t)len);
        *rows = (uint32_t)n;
        if (i-- == 0)
            return true;
    }
}

static nx_status load_times(void *ctx, uint64_t key, uint8_t **ptr, size_t *len, struct nx_err *err)
{
    struct block *b = ctx;
    const uint64_t vector = key & UINT32_MAX;
    struct page page = {0};
    struct nx_slice bytes;
    uint32_t rows = 0;
    int64_t *t = NULL;
    nx_status st = page_get(b->chunks, CH_TIMES, vector, &page, err);

    if (st)
        return st;
    if (!find_vector(&page, vector - page.first, &rows, &bytes)) {
        st = nx_fail(err, NX_CORRUPT, "timestamps %llu do not decode", (unsigned long long)vector);
    } else {
        t = malloc(rows * sizeof *t);
        st = t ? times_decode(bytes.ptr, bytes.len, t, rows, NULL, err) : nomem(err, b->dir);
    }
    for (uint32_t i = 1; i < rows && !st; i++)
        if (t[i] <= t[i - 1])
            st = nx_fail(err, NX_CORRUPT, "timestamps %llu do not ascend",
                         (unsigned long long)vector);
    page_put(b->chunks, &page);
    if (st) {
        free(t);
        return st;
    }
    *ptr = (uint8_t *)t;
    *len = rows * sizeof *t;
    return NX_OK;
}

/* ---- chunks --------------------------------------------------------------------------------- */

/* One chunk at hand: its page and its timestamps are pinned. */
struct open_chunk {
    struct page page;
    struct cache_page times;
    const uint8_t *ptr;
    size_t len;
    const int64_t *t; /* of its first row */
    size_t n;
    uint32_t vector, first_row;
};

static void chunk_close(struct block *b, struct open_chunk *c)
{
    page_derived_put(b->chunks, &c->times);
    page_put(b->chunks, &c->page);
}

/* Opens chunk `number`; keeps the page and the timestamps that `c` already holds if they are the same. */
static nx_status chunk_open(struct block *b, uint32_t number, struct open_chunk *c,
                            struct nx_err *err)
{
    const struct slot *slots;
    const struct slot *s;
    uint32_t count;
    size_t rows;
    nx_status st;

    if (!c->page.ptr || number < c->page.first || number >= c->page.end) {
        page_put(b->chunks, &c->page);
        st = page_get(b->chunks, CH_CHUNKS, number, &c->page, err);
        if (st)
            return st;
    }
    memcpy(&count, c->page.ptr, sizeof count);
    if (count != c->page.end - c->page.first)
        return nx_fail(err, NX_CORRUPT, "a page of chunks has not as many as its place says");
    slots = (const struct slot *)(const void *)(c->page.ptr + SLOTS_AT);
    s = &slots[number - c->page.first];
    if (s->vector >= page_file_items(b->chunks, CH_TIMES))
        return nx_fail(err, NX_CORRUPT, "chunk %u has no timestamps", number);
    if (!c->times.ptr || c->vector != s->vector) {
        page_derived_put(b->chunks, &c->times);
        st = page_derived(b->chunks, s->vector, load_times, b, &c->times, err);
        if (st)
            return st;
        c->vector = s->vector;
    }
    rows = c->times.len / sizeof(int64_t);
    if (s->first_row >= rows || s->tail >= rows - s->first_row)
        return nx_fail(err, NX_CORRUPT, "chunk %u does not fit its timestamps", number);
    c->ptr = c->page.ptr + s->off;
    c->len = s->len;
    c->t = (const int64_t *)(const void *)c->times.ptr + s->first_row;
    c->n = rows - s->first_row - s->tail;
    c->first_row = s->first_row;
    return NX_OK;
}

/* Rows of the chunk that are not after maxt; the first one is not. */
static size_t rows_until(const struct open_chunk *c, int64_t maxt)
{
    size_t lo = 1, hi = c->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->t[mid] <= maxt)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Decodes behind the samples that are there and keeps those within [mint, maxt]. */
static nx_status chunk_append(const struct open_chunk *c, int64_t mint, int64_t maxt, bool marks,
                              struct samples *to, struct chunk_scratch *s, struct nx_err *err)
{
    const size_t n = rows_until(c, maxt);
    double *v;
    nx_status st = samples_reserve(to, c->n, err);

    if (st)
        return st;
    v = to->v + to->n;
    st = chunk_decode_first(c->ptr, c->len, v, c->n, n, marks, s, err);
    if (st)
        return st;
    return samples_add_rows(to, c->t, v, n, mint, maxt, err); /* reads ahead of where it writes */
}

/* What was lost on the way, for the report at the end (B1). */
struct loss {
    bool any, open; /* open: no good chunk has come after it */
    int64_t from, to;
    struct nx_err first;
};

static void loss_add(struct loss *l, int64_t from, int64_t to, const struct nx_err *why)
{
    if (!l->any) {
        l->from = from;
        l->first = *why;
    }
    l->to = to;
    l->any = l->open = true;
}

static nx_status loss_report(struct block *b, uint32_t id, const struct loss *l, struct nx_err *err)
{
    struct arena *a = arena_new(0);
    struct labels ls = {NULL, 0};
    struct buf text;
    nx_status st;

    if (!l->any) {
        arena_free(a);
        return NX_OK;
    }
    buf_init(&text, NX_ERR_TEXT_BYTES / 2);
    if (a && block_series(b, id, a, &ls, NULL) == NX_OK)
        labels_print(&text, &ls);
    st =
        nx_fail(err, NX_CORRUPT, "block %s: series %s: samples from %lld to %lld are damaged: %s",
                b->meta.ulid, buf_cstr(&text), (long long)l->from, (long long)l->to, l->first.text);
    buf_done(&text);
    arena_free(a);
    return st;
}

/* What a pass over the chunks of a series does with each. */
struct pass {
    int64_t mint, maxt;
    struct samples *to;    /* append here; */
    bool marks;            /* without the numbers; or */
    block_chunk_fn *visit; /* show the values */
    void *ctx;
    struct samples rows;
};

static nx_status pass_chunk(struct pass *p, const struct open_chunk *c, struct chunk_scratch *s,
                            struct nx_err *err)
{
    struct block_chunk shown = {c->vector, c->first_row, c->t, NULL, c->n, c->len};
    nx_status st;

    if (p->to)
        return chunk_append(c, p->mint, p->maxt, p->marks, p->to, s, err);
    p->rows.n = 0;
    st = samples_reserve(&p->rows, c->n, err);
    if (!st)
        st = chunk_decode(c->ptr, c->len, p->rows.v, c->n, s, err);
    shown.v = p->rows.v;
    return st ? st : p->visit(p->ctx, &shown, err);
}

/* The first chunk of the series that may reach to mint: by halves, since they are in time order. Where
 * damage is in the way, all are looked at. */
static uint32_t first_chunk_for(struct block *b, const struct block_index_series *e, int64_t mint,
                                struct open_chunk *c)
{
    uint32_t lo = 0, hi = e->n_chunks;

    while (hi - lo > 4) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (chunk_open(b, e->first_chunk + mid, c, NULL))
            return 0;
        if (c->t[0] <= mint)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static nx_status each_chunk(struct block *b, uint32_t id, const struct block_index_series *e,
                            struct open_chunk *c, struct pass *p, struct chunk_scratch *s,
                            struct nx_err *err)
{
    struct loss lost = {.any = false};
    struct nx_err why;
    int64_t seen = e->mint;
    nx_status st = NX_OK;

    for (uint32_t i = first_chunk_for(b, e, p->mint, c); i < e->n_chunks && !st; i++) {
        st = chunk_open(b, e->first_chunk + i, c, &why);
        if (!st) {
            if (lost.open)
                lost.to = c->t[0];
            lost.open = false;
            if (c->t[0] > p->maxt)
                break;
            seen = c->t[c->n - 1];
            if (seen < p->mint)
                continue;
            st = pass_chunk(p, c, s, &why);
        }
        if (st == NX_CORRUPT) { /* B1 */
            loss_add(&lost, seen, e->maxt, &why);
            st = NX_OK;
        }
    }
    if (st)
        return nx_fail(err, st, "%s", why.text);
    return loss_report(b, id, &lost, err);
}

static nx_status run_pass(struct block *b, uint64_t ref, struct block_index_place *at,
                          struct open_chunk *c, struct pass *p, struct chunk_scratch *s,
                          struct nx_err *err)
{
    struct block_index_series e = {0};
    nx_status st = series_entry(b, ref, at, &e, err);

    if (st)
        return st;
    if (e.maxt < p->mint || e.mint > p->maxt)
        return NX_OK;
    if (e.first_chunk > b->meta.n_chunks || e.n_chunks > b->meta.n_chunks - e.first_chunk)
        return nx_fail(err, NX_CORRUPT, "block %s: a series has chunks that are not there",
                       b->meta.ulid);
    return each_chunk(b, (uint32_t)ref, &e, c, p, s, err);
}

static nx_status run_pass_alone(struct block *b, uint64_t ref, struct pass *p,
                                struct chunk_scratch *s, struct nx_err *err)
{
    struct block_index_place at = {0};
    struct open_chunk c = {0};
    nx_status st = run_pass(b, ref, &at, &c, p, s, err);

    chunk_close(b, &c);
    block_index_leave(b->index, &at);
    return st;
}

nx_status block_read_sealed(struct block *b, uint64_t ref, int64_t mint, int64_t maxt,
                            struct samples *to, struct chunk_scratch *s, struct nx_err *err)
{
    struct pass p = {.mint = mint, .maxt = maxt, .to = to};

    return run_pass_alone(b, ref, &p, s, err);
}

size_t block_drop_deleted(struct block *b, uint64_t ref, struct samples *x, size_t from)
{
    struct tombs *t = block_tombs(b);
    const size_t n = tspans_filter(tombs_of(t, (uint32_t)ref), x, from);

    tombs_unref(t);
    return n;
}

/* B3 */
nx_status block_read(struct block *b, uint64_t ref, int64_t mint, int64_t maxt, struct samples *to,
                     struct chunk_scratch *s, struct nx_err *err)
{
    const size_t from = to->n;
    nx_status st = block_read_sealed(b, ref, mint, maxt, to, s, err);

    block_drop_deleted(b, ref, to, from);
    return st;
}

/* ---- many series, one after the other ---- */

struct block_reader {
    struct block *b; /* NULL: nothing is pinned */
    struct block_index_place index;
    struct open_chunk c;
};

static void reader_close(struct block_reader *r)
{
    if (!r->b)
        return;
    chunk_close(r->b, &r->c);
    block_index_leave(r->b->index, &r->index);
    *r = (struct block_reader){0};
}

struct block_reader *block_reader_new(void)
{
    return calloc(1, sizeof(struct block_reader));
}

void block_reader_free(struct block_reader *r)
{
    if (r)
        reader_close(r);
    free(r);
}

nx_status block_reader_read(struct block_reader *r, struct block *b, uint64_t ref, int64_t mint,
                            int64_t maxt, bool marks, struct samples *to, struct chunk_scratch *s,
                            struct nx_err *err)
{
    struct pass p = {.mint = mint, .maxt = maxt, .to = to, .marks = marks};
    const size_t from = to->n;
    nx_status st;

    if (r->b != b)
        reader_close(r);
    r->b = b;
    st = run_pass(b, ref, &r->index, &r->c, &p, s, err);
    if (page_cache_crowded(b->chunks))
        reader_close(r);
    block_drop_deleted(b, ref, to, from);
    return st;
}

nx_status block_chunks(struct block *b, uint64_t ref, block_chunk_fn *visit, void *ctx,
                       struct chunk_scratch *s, struct nx_err *err)
{
    struct pass p = {.mint = INT64_MIN, .maxt = INT64_MAX, .visit = visit, .ctx = ctx};
    nx_status st = run_pass_alone(b, ref, &p, s, err);

    samples_done(&p.rows);
    return st;
}

/* ---- verifying ------------------------------------------------------------------------------ */

struct verify {
    struct block *b;
    int64_t first, last;
    uint64_t samples, chunks;
};

static nx_status verify_chunk(void *ctx, const struct block_chunk *c, struct nx_err *err)
{
    struct verify *v = ctx;

    if (c->t[0] <= v->last && v->chunks)
        return nx_fail(err, NX_CORRUPT, "chunks overlap at %lld", (long long)c->t[0]);
    if (c->t[0] < v->b->meta.min_ms || c->t[c->n - 1] >= block_times_end(&v->b->meta))
        return nx_fail(err, NX_CORRUPT, "samples lie outside the block");
    if (chunk_is_absent(c->v[0]) || chunk_is_absent(c->v[c->n - 1]))
        return nx_fail(err, NX_CORRUPT, "a chunk begins or ends without a sample");
    for (size_t i = 0; i < c->n; i++)
        v->samples += !chunk_is_absent(c->v[i]);
    v->first = v->chunks++ ? v->first : c->t[0];
    v->last = c->t[c->n - 1];
    return NX_OK;
}

nx_status block_verify(struct block *b, struct nx_err *err)
{
    struct chunk_scratch *s = chunk_scratch_new();
    struct verify v = {.b = b};
    uint64_t chunks = 0;
    nx_status st = s ? block_index_verify(b->index, err) : nomem(err, b->dir);

    st = in_block(b, st, err);
    for (uint64_t i = 0; i < b->meta.n_series && !st; i++) {
        struct block_index_series e = {0};

        v.chunks = 0;
        st = block_index_get(b->index, (uint32_t)i, &e, err);
        if (!st)
            st = block_chunks(b, i, verify_chunk, &v, s, err);
        if (!st && (v.first != e.mint || v.last != e.maxt))
            st = nx_fail(err, NX_CORRUPT,
                         "block %s: series %llu spans other times than the index says",
                         b->meta.ulid, (unsigned long long)i);
        chunks += v.chunks;
    }
    if (!st && (chunks != b->meta.n_chunks || v.samples != b->meta.n_samples))
        st = nx_fail(err, NX_CORRUPT, "block %s: meta.json counts %llu samples, there are %llu",
                     b->meta.ulid, (unsigned long long)b->meta.n_samples,
                     (unsigned long long)v.samples);
    chunk_scratch_free(s);
    return st;
}
